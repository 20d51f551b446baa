"""Checks of the public functions' arguments: one clear error before any kernel runs."""

from numbers import Real
from typing import NamedTuple

import numpy as np

from .kernels import backend, on_gpu
from .kernels.pixel import BORDER, REFLECTION, ZEROS

_PADDINGS = {"zeros": ZEROS, "border": BORDER, "reflection": REFLECTION}
_MODES = ("bilinear",)
MOST_SIDE = 2**31 - 1
_SIZE = "size: expected two positive integers (H_out, W_out)"
_FLOATS = (np.dtype("float32"), np.dtype("float64"))
_PIXELS = (np.dtype("uint8"), np.dtype("uint16"), *_FLOATS)


class Options(NamedTuple):
    """What a sampler does besides reading: the same for every coordinate source."""

    padding: int
    off: float
    fill: Real


def arrays(stream, **named):
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


def image_array(image, stream):
    """The kernels for one image (H, W) or (H, W, C), and the image as those kernels take it."""
    if not on_gpu(image) and (
        not isinstance(image, np.ndarray) or isinstance(image, np.ma.MaskedArray)
    ):
        raise TypeError(f"image: expected a NumPy array, got {type(image).__name__}")
    kernels, image = arrays(stream, image=image)
    if image.dtype not in _PIXELS:
        names = ", ".join(map(str, _PIXELS))
        raise TypeError(f"image: expected one of {names}, got {image.dtype}")
    if len(image.shape) not in (2, 3):
        raise ValueError(f"image: expected shape (H, W) or (H, W, C), got {image.shape}")
    nonzero("image", image.shape[:2])
    return kernels, image


def image_shape(shape):
    """An image's sides (H_out, W_out)."""
    try:
        sides = tuple(side.__index__() for side in shape)
    except (TypeError, AttributeError):
        sides = ()
    if len(sides) != 2 or not 0 < min(sides) <= max(sides) <= MOST_SIDE:
        raise ValueError(f"shape: expected two positive integers (H_out, W_out), got {shape!r}")
    return sides


def finite_numbers(name, array, wanted, fits):
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


def checked(name, array, shape):
    """``array``, if it is floating and has this shape (None: any length)."""
    if array.dtype not in _FLOATS:
        raise TypeError(f"{name}: expected float32 or float64, got {array.dtype}")
    got = array.shape
    if len(got) != len(shape) or any(
        want is not None and have != want for have, want in zip(got, shape, strict=True)
    ):
        wanted = ", ".join("any" if side is None else str(side) for side in shape)
        raise ValueError(f"{name}: expected shape ({wanted}), got {tuple(got)}")
    return array


def checked_pair(images, name, coords, shape):
    """Images and the coordinates that read them; one image may serve many."""
    checked("images", images, (None, None, None, None))
    checked(name, coords, shape)
    nonzero("images", images.shape[2:])
    if len(images) not in (1, len(coords)):
        raise ValueError(
            f"images: expected 1 or {len(coords)} of them, as many as {name} has maps, "
            f"got {len(images)}"
        )
    return images, coords


def nonzero(name, sides):
    """Refuse sides without pixels."""
    if 0 in sides:
        raise ValueError(f"{name}: expected sides of at least one pixel, got {tuple(sides)}")


def output_size(size, batch):
    """(H_out, W_out) from itself or from PyTorch's (N, C, H_out, W_out)."""
    try:
        sides = tuple(side.__index__() for side in size)
    except (TypeError, AttributeError):
        raise TypeError(f"{_SIZE}, got {size!r}") from None
    if len(sides) == 4:
        if sides[0] != batch:
            raise ValueError(f"{_SIZE} or (N, C, H_out, W_out) with N = {batch}, got {size!r}")
        sides = sides[2:]
    if len(sides) != 2 or not 0 < min(sides) <= max(sides) <= MOST_SIDE:
        raise ValueError(f"{_SIZE}, got {size!r}")
    return sides


def padding_of(mode, padding_mode):
    """The kernels' number for a padding; there is one mode."""
    if mode not in _MODES:  # a tuple, so that unhashable values are compared too
        raise ValueError(f"mode: expected one of {list(_MODES)}, got {mode!r}")
    if padding_mode not in tuple(_PADDINGS):
        raise ValueError(f"padding_mode: expected one of {list(_PADDINGS)}, got {padding_mode!r}")
    return _PADDINGS[padding_mode]


def sampler_options(mode, padding_mode, align_corners, fill):
    """What a sampler is asked for besides reading."""
    padding = padding_of(mode, padding_mode)
    if not isinstance(fill, Real):
        raise TypeError(f"fill: expected a number, got {fill!r}")
    return Options(padding, off_corners(align_corners), fill)


def fill_number(fill, dtype):
    """``fill`` as a number that the images' dtype holds."""
    try:
        number = float(fill)
    except OverflowError:
        number = np.inf
    most = float(np.finfo(dtype).max)
    if abs(number) > most and abs(fill) != np.inf:
        raise ValueError(f"fill: expected a number that {dtype} holds, got {fill!r}")
    return number


def off_corners(align_corners):
    """``1 - align_corners``, as the kernels take it."""
    return 0.0 if flag("align_corners", align_corners) else 1.0


def flag(name, value):
    """``value``, if it is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected True or False, got {value!r}")
    return value


def wanted_of(wrt, names):
    """Whether each of the gradients with these names is asked for."""
    try:
        asked = None if isinstance(wrt, str) else tuple(wrt)
    except TypeError:
        asked = None
    if asked is None or any(name not in names for name in asked):
        raise ValueError(f"wrt: expected a collection of {list(names)}, got {wrt!r}")
    return tuple(name in asked for name in names)
