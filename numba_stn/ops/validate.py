"""Checks of the public functions' arguments: one clear error before any kernel runs."""

from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from ..kernels import backend, on_gpu
from ..kernels.math.coordinates import (
    BICUBIC,
    BILINEAR,
    BORDER,
    FILL,
    NEAREST,
    REFLECTION,
    WRAP,
    ZEROS,
)
from ..kernels.math.kind import Kind
from ..kernels.math.storage import computed

MODES = {"bilinear": BILINEAR, "nearest": NEAREST, "bicubic": BICUBIC}
PADDINGS = {
    "zeros": ZEROS, "border": BORDER, "reflection": REFLECTION, "wrap": WRAP, "fill": FILL
}  # fmt: skip
LAYOUTS = {"NCHW": False, "NHWC": True, "NCDHW": False, "NDHWC": True}


MAX_SIDE = 2**31 - 1
_SIZE = "size: expected two positive integers (H_out, W_out)"
_SIZE_3D = "size: expected three positive integers (D_out, H_out, W_out)"
_FLOAT_DTYPES = (np.dtype("float32"), np.dtype("float64"))
_BATCH_DTYPES = tuple(
    np.dtype(name) for name in ("float32", "float64", "float16", "uint8", "uint16")
)
_IMAGE_DTYPES = (np.dtype("uint8"), np.dtype("uint16"), *_FLOAT_DTYPES)


class Options(NamedTuple):
    """What a sampler does besides reading: the same for every coordinate source."""

    mode: int
    padding: int
    off: float
    fill: Any
    channels_last: bool

    def kind(self, source, images):
        """The kind of sampler that reads these images."""
        dims = len(images.shape) - 2
        return Kind(source, self.mode, self.padding, dims, self.channels_last)


def choose_kernels(stream, **named):
    """The kernels for these arrays, and the arrays as those kernels take them."""
    gpu = [on_gpu(array) for array in named.values()]
    if any(gpu) and not all(gpu):
        where = ", ".join(
            f"{name} is on the {'GPU' if g else 'CPU'}" for name, g in zip(named, gpu, strict=True)
        )
        raise TypeError(f"expected all arrays on one device, but {where}")
    if stream is not None and not any(gpu):
        raise TypeError(f"stream: expected None for arrays on the CPU, got {stream!r}")
    kernels = backend(gpu[0])
    return kernels, *(kernels.taken(name, array, stream) for name, array in named.items())


def choose_kernels_for_jvp(stream, **named):
    """:func:`arrays`, of which changes (named ``_dot``) may be None, and stay so."""
    held = {
        name: array
        for name, array in named.items()
        if array is not None or not name.endswith("_dot")
    }
    kernels, *found = choose_kernels(stream, **held)
    return kernels, *({**named, **dict(zip(held, found, strict=True))}).values()


def choose_kernels_for_image(image, stream):
    """The kernels for one image (H, W) or (H, W, C), and the image as those kernels take it."""
    kernels, image = choose_kernels(stream, image=image)
    if image.dtype not in _IMAGE_DTYPES:
        names = ", ".join(map(str, _IMAGE_DTYPES))
        raise TypeError(f"image: expected one of {names}, got {image.dtype}")
    if len(image.shape) not in (2, 3):
        raise ValueError(f"image: expected shape (H, W) or (H, W, C), got {image.shape}")
    check_not_empty("image", image.shape[:2])
    return kernels, image


def check_image_shape(shape):
    """An image's sides (H_out, W_out)."""
    try:
        sides = tuple(side.__index__() for side in shape)
    except (TypeError, AttributeError):
        sides = ()
    if len(sides) != 2 or not 0 < min(sides) <= max(sides) <= MAX_SIDE:
        raise ValueError(f"shape: expected two positive integers (H_out, W_out), got {shape!r}")
    return sides


def check_finite(name, array, wanted, fits):
    """float64 numbers whose shape ``fits``; ``wanted`` says in an error what they should be."""
    try:
        found = np.asarray(array, np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"{name}: expected {wanted}, got {array!r}") from None
    if not fits(found.shape):
        raise ValueError(f"{name}: expected {wanted}, got shape {found.shape}")
    if not np.isfinite(found).all():
        raise ValueError(f"{name}: expected {wanted}, got {found.tolist()}")
    return found


def check_array(name, array, shape, dtypes=_FLOAT_DTYPES):
    """``array``, if it is of one of these dtypes and has this shape (None: any length)."""
    if array.dtype not in dtypes:
        raise TypeError(f"{name}: expected {' or '.join(map(str, dtypes))}, got {array.dtype}")
    got = array.shape
    if len(got) != len(shape) or any(
        want is not None and have != want for have, want in zip(got, shape, strict=True)
    ):
        wanted = ", ".join("any" if side is None else str(side) for side in shape)
        raise ValueError(f"{name}: expected shape ({wanted}), got {tuple(got)}")
    return array


def check_images(images, options):
    """Images, if they are a batch of planes or volumes in a layout and dtype that is known."""
    if images.dtype not in _BATCH_DTYPES:
        names = ", ".join(map(str, _BATCH_DTYPES))
        raise TypeError(f"images: expected one of {names}, got {images.dtype}")
    rank = len(images.shape)
    if rank not in (4, 5):
        planes, volumes = ("(N, H, W, C)", "(N, D, H, W, C)") if options.channels_last else (
            "(N, C, H, W)", "(N, C, D, H, W)"
        )  # fmt: skip
        raise ValueError(f"images: expected shape {planes} or {volumes}, got {tuple(images.shape)}")
    check_not_empty("images", options.kind(0, images).spatial(images))
    if rank == 5 and options.mode == BICUBIC:
        raise ValueError('mode: expected "bilinear" or "nearest" for volumes, got "bicubic"')
    return images


def check_batch_sizes(images, name, coords):
    """Refuse images that are neither one for all coordinates nor one for each."""
    if len(images) not in (1, len(coords)):
        raise ValueError(
            f"images: expected 1 or {len(coords)} of them, as many as {name} has maps, "
            f"got {len(images)}"
        )


def check_not_empty(name, sides):
    """Refuse sides without pixels."""
    if 0 in sides:
        raise ValueError(f"{name}: expected sides of at least one pixel, got {tuple(sides)}")


def check_output_size(size, batch, dims=2):
    """The output's sides from themselves or from PyTorch's full shape (N, C, ...)."""
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


def look_up(name, value, table):
    """What a name stands for; a list of the names if it is none of them."""
    if not isinstance(value, str) or value not in table:
        raise ValueError(f"{name}: expected one of {list(table)}, got {value!r}")
    return table[value]


def check_options(mode, padding_mode, align_corners, fill, layout="NCHW"):
    """What a sampler is asked for besides reading."""
    return Options(
        look_up("mode", mode, MODES),
        look_up("padding_mode", padding_mode, PADDINGS),
        corner_offset(align_corners),
        fill,
        look_up("layout", layout, LAYOUTS),
    )


def expand_fill(fill, channels, dtype):
    """A number for each channel, in the type that computes, which the images' dtype can hold."""
    computes = computed(dtype)
    if getattr(fill, "shape", None) == ():
        fill = fill[()]  # of an array without axes, its number
    if isinstance(fill, Real):
        fill = [fill] * channels
    try:
        values = list(fill)
    except TypeError:
        values = [None]
    if not all(isinstance(value, Real) for value in values):
        raise TypeError(f"fill: expected a number or one for each channel, got {fill!r}")
    if len(values) != channels:
        raise ValueError(f"fill: expected 1 or {channels} numbers, one a channel, got {fill!r}")
    return np.array([_check_representable(value, dtype) for value in values], computes)


def _check_representable(fill, dtype):
    """``fill`` as a number that this dtype holds."""
    try:
        number = float(fill)
    except OverflowError:
        number = np.inf
    if dtype.kind == "u":
        held = 0 <= number <= np.iinfo(dtype).max and number == int(number)
    else:
        held = abs(number) <= float(np.finfo(dtype).max) or abs(fill) == np.inf or fill != fill
    if not held:
        raise ValueError(f"fill: expected a number that {dtype} holds, got {fill!r}")
    return number


def check_float_dtype(dtype):
    """The data type float32 or float64."""
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = None
    if found not in _FLOAT_DTYPES or dtype is None:  # which NumPy takes for float64
        raise TypeError(f"dtype: expected float32 or float64, got {dtype!r}")
    return found


def check_integer(name, value, least):
    """A whole number, large enough."""
    try:
        number = value.__index__()
    except (AttributeError, TypeError):  # TypeError: of an array
        raise TypeError(f"{name}: expected a whole number, got {value!r}") from None
    if number < least:
        raise ValueError(f"{name}: expected {least} at least, got {value!r}")
    return number


def corner_offset(align_corners):
    """``1 - align_corners``, as the kernels take it."""
    return 0.0 if check_flag("align_corners", align_corners) else 1.0


def check_flag(name, value):
    """``value``, if it is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected True or False, got {value!r}")
    return value


def check_wrt(wrt, names):
    """Whether each of the gradients with these names is asked for."""
    try:
        asked = None if isinstance(wrt, str) else tuple(wrt)
    except TypeError:
        asked = None
    if asked is None or not all(isinstance(name, str) and name in names for name in asked):
        raise ValueError(f"wrt: expected a collection of {list(names)}, got {wrt!r}")
    return tuple(name in asked for name in names)
