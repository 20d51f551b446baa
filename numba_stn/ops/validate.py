"""Argument checks of the public functions: one clear error before any kernel runs.

``check_...`` functions return the argument, converted if necessary, or raise an error that names
the argument, what came and what was expected.
"""

import warnings
from copy import copy
from numbers import Complex, Real
from operator import index
from typing import Any, NamedTuple

import numpy as np

from ..kernels import backend, on_gpu
from ..kernels.math.dtypes import computed
from ..kernels.math.sampler_kind import (
    BICUBIC,
    BILINEAR,
    BORDER,
    CATMULL_ROM,
    FILL,
    FILTERED,
    LANCZOS4,
    MIRROR,
    NEAREST,
    REFLECTION,
    SPLINE2,
    SPLINE3,
    SPLINE4,
    SPLINE5,
    WRAP,
    ZEROS,
    Kind,
)
from .any_dtype import any_dtype_kernels, check_dtype, number_range

MODES = {
    "bilinear": BILINEAR, "nearest": NEAREST, "bicubic": BICUBIC, "catmull-rom": CATMULL_ROM,
    "lanczos4": LANCZOS4, "spline2": FILTERED + SPLINE2, "spline3": FILTERED + SPLINE3,
    "spline4": FILTERED + SPLINE4, "spline5": FILTERED + SPLINE5,
}  # fmt: skip
PADDINGS = {
    "zeros": ZEROS, "border": BORDER, "reflection": REFLECTION, "mirror": MIRROR, "wrap": WRAP,
    "fill": FILL,
}  # fmt: skip
LAYOUTS = {"NCHW": False, "NHWC": True, "NCDHW": False, "NDHWC": True}  # channels last?

MAX_SIDE = 2**31 - 1
_SIZE = "size: expected two positive integers (H_out, W_out)"
_SIZE_3D = "size: expected three positive integers (D_out, H_out, W_out)"
_FLOAT_DTYPES = (np.dtype("float32"), np.dtype("float64"))
BATCH_DTYPES = tuple(
    np.dtype(name) for name in ("float32", "float64", "float16", "uint8", "uint16")
)
_IMAGE_DTYPES = dict.fromkeys((np.dtype("uint8"), np.dtype("uint16"), *_FLOAT_DTYPES))


class Fill:
    """A fill that is remembered: there is one for each key of :func:`fill_key`."""

    def __init__(self, given):
        self.given = given


class Options(NamedTuple):
    """The sampler options that every coordinate source has; ``off`` is ``1 - align_corners``.

    ``fill`` is a :class:`Fill` if they are remembered; otherwise it is what the caller gave.
    """

    mode: int
    padding: int
    off: float
    fill: Any
    channels_last: bool

    def kind(self, source, images):
        """The kind of sampler for these images."""
        dims = len(images.shape) - 2
        return Kind(source, self.mode, self.padding, dims, self.channels_last)


# --- Kernels and their arrays ---------------------------------------------------------------------


def choose_backend(stream, **named):
    """Return the kernels for these arrays, and the arrays in the form that the kernels take."""
    if stream is None and _are_ready(named.values()):
        return backend(False), *named.values()
    gpu = [on_gpu(array) for array in named.values()]
    if any(gpu) and not all(gpu):
        where = ", ".join(
            f"{name} is on the {'GPU' if g else 'CPU'}" for name, g in zip(named, gpu, strict=True)
        )
        raise TypeError(f"expected all arrays on one device, but {where}")
    if stream is not None and not any(gpu):
        raise TypeError(f"stream: expected None for arrays on the CPU, got {stream!r}")
    kernels = backend(gpu[0])
    return kernels, *(kernels.kernel_array(name, array, stream) for name, array in named.items())


def _are_ready(arrays):
    """Return whether the CPU's kernels take the arrays as they are."""
    for array in arrays:
        if type(array) is not np.ndarray:
            return False
        flags = array.flags
        if not (flags.c_contiguous and flags.aligned and array.dtype.isnative):
            return False
    return True


def choose_backend_for_jvp(stream, **named):
    """Do as :func:`choose_backend`, but let tangents be None.

    They are named ``..._dot``; gradients with respect to gradients, ``dd...``, may be None too.
    """
    given = {
        name: array
        for name, array in named.items()
        if array is not None or not (name.endswith("_dot") or name.startswith("dd"))
    }
    kernels, *found = choose_backend(stream, **given)
    return kernels, *({**named, **dict(zip(given, found, strict=True))}).values()


def _is_usual_image(image):
    """Return whether the CPU's kernels take an image as it is."""
    usual = image.dtype in _IMAGE_DTYPES and image.ndim in (2, 3)
    return usual and image.size and image.flags.carray


def choose_backend_for_image(image, stream):
    """Return the kernels for one image (H, W) or (H, W, C), and the image as they take it."""
    if stream is None and type(image) is np.ndarray and _is_usual_image(image):
        return backend(False), image
    kernels, image = choose_backend(stream, image=image)
    if not check_dtype("image", image, _IMAGE_DTYPES, NEAREST):  # the mode is checked later
        kernels = any_dtype_kernels()
    if len(image.shape) not in (2, 3):
        raise ValueError(f"image: expected shape (H, W) or (H, W, C), got {image.shape}")
    check_not_empty("image", image.shape[:2])
    return kernels, image


# --- Arrays and shapes ----------------------------------------------------------------------------


def check_image_shape(shape):
    """Return the output's sides (H_out, W_out)."""
    try:
        height, width = map(index, shape)
    except (TypeError, ValueError):
        height = width = 0
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
        raise ValueError(f"shape: expected two positive integers (H_out, W_out), got {shape!r}")
    return height, width


def check_finite(name, array, expected, fits):
    """Return finite float64 numbers whose shape ``fits``; ``expected`` describes them in errors."""
    try:
        found = np.asarray(array, np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"{name}: expected {expected}, got {array!r}") from None
    if not fits(found.shape):
        raise ValueError(f"{name}: expected {expected}, got shape {found.shape}")
    if not np.isfinite(found).all():
        raise ValueError(f"{name}: expected {expected}, got {found.tolist()}")
    return found


def check_array(name, array, shape, dtypes=_FLOAT_DTYPES):
    """Return an array of one of these dtypes and of this shape (None: any length)."""
    if array.shape == shape and array.dtype in dtypes:
        return array
    if array.dtype not in dtypes:
        numbers = array.dtype.kind in "biuf"
        hint = f"; np.asarray({name}, np.{dtypes[0]}) converts it" if numbers else ""
        raise TypeError(f"{name}: expected {' or '.join(map(str, dtypes))}, got "
                        f"{array.dtype}{hint}")  # fmt: skip
    got = tuple(array.shape)
    if not _is_like(got, shape):
        expected = ", ".join("any" if side is None else str(side) for side in shape)
        single = shape[0] is None and _is_like(got, shape[1:])
        hint = f"; {name}[None] is a batch of one" if single else ""
        raise ValueError(f"{name}: expected shape ({expected}), got {got}{hint}")
    return array


def _is_like(got, shape):
    """Whether a shape is another, in which None is any length."""
    return len(got) == len(shape) and all(
        want is None or have == want for have, want in zip(got, shape, strict=True)
    )


def check_images(images, options):
    """Return a batch of planes or volumes in a known layout and dtype."""
    check_dtype("images", images, BATCH_DTYPES, options.mode)
    rank = len(images.shape)
    if rank not in (4, 5):
        planes, volumes = ("(N, H, W, C)", "(N, D, H, W, C)") if options.channels_last else (
            "(N, C, H, W)", "(N, C, D, H, W)"
        )  # fmt: skip
        hint = "; warp_image takes one image (H, W) or (H, W, C)" if rank in (2, 3) else ""
        raise ValueError(f"images: expected shape {planes} or {volumes}, got "
                         f"{tuple(images.shape)}{hint}")  # fmt: skip
    _warn_of_layout(images, options)
    check_not_empty("images", options.kind(0, images).spatial(images))
    return images


def _warn_of_layout(images, options):
    """Warn if a batch of channels first looks like one of channels last."""
    if len(images.shape) == 4 and not options.channels_last:
        _, channels, height, width = images.shape
        if min(channels, height) >= 16 and 1 <= width <= 4:
            warnings.warn(
                f"images: {tuple(images.shape)} are {channels} channels of {height} x {width} "
                f'pixels; for images (N, H, W, C) pass layout="NHWC"', UserWarning, stacklevel=2,
            )  # fmt: skip


def kernels_for_batch(kernels, dtype):
    """Return the kernels for images of a checked dtype."""
    return kernels if dtype in BATCH_DTYPES else any_dtype_kernels()


def check_batch_sizes(images, name, coords):
    """Raise an error unless there is one image for all coordinates or one for each."""
    count, batch = images.shape[0], coords.shape[0]
    if count not in (1, batch):
        raise ValueError(
            f"images: expected a batch of 1 or {batch}, the batch size of {name}, got {count}"
        )


def check_not_empty(name, sides):
    """Raise an error if a side has no pixels."""
    if 0 in sides:
        raise ValueError(f"{name}: expected sides of at least one pixel, got {tuple(sides)}")


def check_output_size(size, batch, dims=2):
    """Return the output's sides, given as such or as PyTorch's full shape (N, C, ...)."""
    expected = _SIZE if dims == 2 else _SIZE_3D
    try:
        sides = tuple(side.__index__() for side in size)
    except (TypeError, AttributeError):
        raise TypeError(f"{expected}, got {size!r}") from None
    if len(sides) == dims + 2:
        if sides[0] != batch:
            raise ValueError(f"{expected} or the full shape with N = {batch}, got {size!r}")
        sides = sides[2:]
    if len(sides) != dims or not 0 < min(sides) <= max(sides) <= MAX_SIDE:
        raise ValueError(f"{expected}, got {size!r}")
    return sides


# --- What was checked before ----------------------------------------------------------------------

# A call's options, shapes and dtypes are checked once; what follows from them is remembered by a
# key. Keys that are equal must mean the same and show the same in an error: 1 is not True, 4.0 is
# no side, and -0.0 is another fill than 0.0. TypeError means that there is no key.

REMEMBERED = 512

_NUMBERS = {bool, int, float, complex, np.float32, np.float64, np.uint8, np.uint16}


def remember(table, key, value):
    """Keep a value in a table for later calls."""
    if len(table) >= REMEMBERED:
        table.clear()
    table[key] = value


def options_key(options):
    """Return options whose fill is remembered."""
    if type(options.fill) is not Fill:
        raise TypeError
    return options


def size_key(size):
    """Return a key for an output size: its integers."""
    if size is None:
        return None
    if not isinstance(size, (tuple, list, np.ndarray)):
        raise TypeError
    return tuple(map(index, size))


def fill_key(fill):
    """Return a key for a fill: its type and its bits, or a text that has all digits."""
    kind = type(fill)
    if kind in _NUMBERS or (kind in (tuple, list) and _NUMBERS.issuperset(map(type, fill))):
        return kind, repr(fill)
    if kind is np.ndarray and fill.dtype.kind in "fiu":
        return fill.tobytes(), fill.dtype, fill.shape
    raise TypeError


# --- Options --------------------------------------------------------------------------------------


def look_up(name, value, table):
    """Return the entry of a table; the error lists the keys."""
    if not isinstance(value, str) or value not in table:
        raise ValueError(f"{name}: expected one of {list(table)}, got {value!r}")
    return table[value]


_options: dict[Any, Options] = {}


def check_options(mode, padding_mode, align_corners, fill, layout="NCHW"):
    """Return the sampler options as the kernels take them."""
    try:
        flag = type(align_corners), align_corners  # 1 equals True, but is refused
        key = mode, padding_mode, flag, layout, fill_key(fill)
        found = _options.get(key)
    except TypeError:
        return _make_options(mode, padding_mode, align_corners, fill, layout)
    if found is None:
        found = _make_options(mode, padding_mode, align_corners, Fill(copy(fill)), layout)
        remember(_options, key, found)
    return found


def _make_options(mode, padding_mode, align_corners, fill, layout):
    return Options(
        look_up("mode", mode, MODES),
        look_up("padding_mode", padding_mode, PADDINGS),
        corner_offset(align_corners),
        fill,
        look_up("layout", layout, LAYOUTS),
    )


def expand_fill(fill, channels, dtype):
    """Return one fill value per channel in the dtype of computation; see :mod:`.any_dtype`."""
    if type(fill) is Fill:
        fill = fill.given
    if getattr(fill, "shape", None) == ():
        fill = fill[()]  # the number in an array without axes
    number = Complex if dtype.kind == "c" else Real
    if isinstance(fill, (number, np.bool_)):
        fill = [fill] * channels
    try:
        values = list(fill)
    except TypeError:
        values = [None]
    if not all(isinstance(value, (number, np.bool_)) for value in values):
        raise TypeError(f"fill: expected a number or one for each channel, got {fill!r}")
    if len(values) != channels:
        raise ValueError(f"fill: expected 1 or {channels} numbers, one per channel, got {fill!r}")
    own = computed(dtype) if dtype in BATCH_DTYPES else dtype
    return np.array([_check_representable(value, dtype) for value in values], own)


def _check_representable(fill, dtype):
    """Return a number that this dtype can hold."""
    number = fill
    if dtype.kind in "biu":
        low, high = number_range(dtype)
        fits = low <= fill <= high and fill == int(fill)
        number = int(fill) if fits else fill
    else:
        most = float(np.finfo(dtype).max)
        fits = all(_fits(part, most) for part in (fill.real, fill.imag))
    if not fits:
        raise ValueError(f"fill: expected a number that {dtype} can hold, got {fill!r}")
    return number


def _fits(number, most):
    """Whether a real number is not finite, or at most this large."""
    try:
        return abs(float(number)) <= most or abs(number) == np.inf or number != number
    except OverflowError:
        return False


def check_float_dtype(dtype):
    """Return the dtype float32 or float64."""
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = None
    if found not in _FLOAT_DTYPES or dtype is None:  # NumPy takes None for float64
        raise TypeError(f"dtype: expected float32 or float64, got {dtype!r}")
    return found


def check_integer(name, value, minimum):
    """Return an integer that is not below ``minimum``."""
    try:
        number = value.__index__()
    except (AttributeError, TypeError):  # an array raises TypeError
        raise TypeError(f"{name}: expected an integer, got {value!r}") from None
    if number < minimum:
        raise ValueError(f"{name}: expected at least {minimum}, got {value!r}")
    return number


def corner_offset(align_corners):
    """Return ``1 - align_corners``: by how many pixels [-1, 1] is longer than S - 1 pixels."""
    return 0.0 if check_flag("align_corners", align_corners) else 1.0


def check_flag(name, value):
    """Return a value that is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected True or False, got {value!r}")
    return value


def check_wrt(wrt, names):
    """Return, for each of these names, whether its gradient is wanted."""
    try:
        wanted = None if isinstance(wrt, str) else tuple(wrt)
    except TypeError:
        wanted = None
    if wanted is None or not all(isinstance(name, str) and name in names for name in wanted):
        raise ValueError(f"wrt: expected a collection of {list(names)}, got {wrt!r}")
    return tuple(name in wanted for name in names)
