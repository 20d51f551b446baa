"""Images that shrink without aliasing.

:func:`warp_means` is for any map: as :mod:`numba_stn.ops.antialias`, it divides output pixels into
parts and averages their samples. :func:`resize_filtered` is for boxes: it has separable filters.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..kernels import backend
from ..kernels.cpu import filters as kernels_of_filters
from ..kernels.cpu.filters import Taps
from ..kernels.math.antialias import MOST, parts_of_step
from ..kernels.math.dtypes import computed
from ..kernels.math.sampler_kind import BILINEAR
from ..ops.antialias import MAX_NUMBERS
from ..ops.any_dtype import AnyDtype, check_labels, stored
from ..ops.validate import MODES, look_up
from .filters import AREA, FILTERS, column_taps, row_taps

__all__ = [
    "check_numbers",
    "check_on_cpu",
    "filter_of",
    "finer_matrix",
    "finer_rows",
    "longest_steps",
    "parts_of_pixels",
    "real_parts",
    "reduce_image",
    "reduction",
    "resize_filtered",
    "shrinks",
    "warp_means",
    "write_filtered",
    "write_means",
    "write_resized",
]

# The filters of the interpolations.
_OF_MODES = {"bilinear": "triangle", "bicubic": "cubic", "nearest": AREA}

# The dtypes of images whose samples are not rounded before their mean.
_FLOATS = frozenset(map(np.dtype, ("float32", "float64")))

# The numbers of points along each side of the output at which a projective map is looked at, and
# the smallest divisor that counts there, relative to the largest.
_POINTS, _HORIZON = 9, 1e-3

# A map with longer steps has its image reduced first, so that the steps are not shorter than half
# of this.
_LONGEST = MOST


def check_numbers(dtype: np.dtype) -> None:
    """Raise for integers of which no mean is computed."""
    check_labels("image", dtype, BILINEAR, 'mode="nearest" and antialias=False')


def check_on_cpu(kernels: Any, stream: Any) -> None:
    """Raise unless an image is in the computer's memory."""
    if stream is not None or hasattr(kernels, "areas"):
        raise TypeError("antialias: expected False for images on a GPU; warp_affine has it there")


# --- Any map --------------------------------------------------------------------------------------


def longest_steps(matrix: np.ndarray, shape: tuple[int, int]) -> tuple[float, float]:
    """Return how far apart neighbours of the output sample the image, along x and y, at most.

    ``matrix`` is (3, 3) from output to input pixels, and ``shape`` that of the output.
    """
    x, y = np.meshgrid(*(np.linspace(-0.5, side - 0.5, _POINTS) for side in shape[::-1]))
    u, v, w = np.tensordot(matrix, np.stack([x, y, np.ones_like(x)]), 1)
    seen = np.abs(w) > _HORIZON * np.abs(w).max()
    u, v, w = (each[seen] for each in (u, v, w))
    across, down = (
        np.hypot(matrix[0, k] - u / w * matrix[2, k], matrix[1, k] - v / w * matrix[2, k]) / abs(w)
        for k in (0, 1)
    )
    return float(across.max()), float(down.max())


def shrinks(matrix: Any, shape: tuple[int, int], factor: float) -> bool:
    """Return whether a map shrinks an image by more than a factor, somewhere in the output."""
    square = np.vstack([matrix, [0, 0, 1]])[:3]
    return max(longest_steps(square, shape)) > factor


def warp_means(warp, kernels, image, matrix, options, shape, out=None):
    """Warp an image; each output pixel is the mean over its area.

    ``warp(kernels, image, matrix, options, shape)`` samples the image.
    """
    result = kernels.output((*shape, *image.shape[2:]), image, image, out)
    with np.errstate(over="ignore", invalid="ignore"):
        for part, numbers, fill in real_parts(image, result, options[2]):
            _write_means(warp, part, numbers, matrix, (*options[:2], fill))
    return kernels.returned(result, out)


def real_parts(
    image: np.ndarray, result: np.ndarray, fill: Any, dtypes: Any = _FLOATS
) -> Iterator[tuple[np.ndarray, np.ndarray, Any]]:
    """Yield arrays to write to, images of one of these dtypes to warp into them, and fills."""
    check_numbers(image.dtype)
    if image.dtype.kind == "c":
        fills = np.asarray(fill)
        for name in ("real", "imag"):
            part = np.ascontiguousarray(getattr(image, name))
            yield getattr(result, name), part, getattr(fills, name)
    elif image.dtype in dtypes:
        yield result, image, fill
    else:
        yield result, image.astype(computed(image.dtype)), fill


def _write_means(warp, result, image, matrix, options):
    """Write the means of an image of floats."""
    kernels, shape = backend(False), result.shape[:2]
    factor, matrix = reduction(matrix, shape)
    image = reduce_image(image, factor)
    across, down = parts_of_pixels(matrix, shape)
    numbers = finer_rows(shape, across * down * math.prod(image.shape[2:]))
    for top in range(0, shape[0], numbers):
        rows = min(numbers, shape[0] - top)
        sides = rows * down, shape[1] * across
        samples = warp(kernels, image, matrix @ finer_matrix(top, across, down), options, sides)
        write_means(samples, (down, across), result[top : top + rows])


def parts_of_pixels(matrix: np.ndarray, shape: tuple[int, int]) -> tuple[int, int]:
    """Return into how many parts a pixel of the output is divided, along x and along y."""
    across, down = (parts_of_step.py_func(step, 1) for step in longest_steps(matrix, shape))
    return across, down


def finer_rows(shape: tuple[int, int], parts: int) -> int:
    """Return how many rows of the output are computed together, with these samples a pixel."""
    return max(1, MAX_NUMBERS // max(1, parts * shape[1]))


def finer_matrix(top: int, across: int, down: int) -> np.ndarray:
    """Return the matrix from parts of pixels, from the row ``top`` on, to pixels."""
    return np.array([[1 / across, 0, (1 / across - 1) / 2],
                     [0, 1 / down, (1 / down - 1) / 2 + top], [0, 0, 1]])  # fmt: skip


def write_means(samples: np.ndarray, parts: tuple[int, int], result: np.ndarray) -> None:
    """Write the means of the samples of each pixel's parts, along y and along x."""
    (rows, columns), (down, across) = result.shape[:2], parts
    samples = samples.reshape(rows, down, columns, across, *samples.shape[2:])
    result[...] = stored(samples.mean((1, 3), dtype=computed(samples.dtype)), result.dtype)


def reduction(matrix: np.ndarray, shape: tuple[int, int]) -> tuple[int, np.ndarray]:
    """Return by how much an image is reduced first, and the map of the reduced image.

    It is reduced if the map has longer steps than parts can cover.
    """
    longest = max(longest_steps(matrix, shape))
    if longest <= _LONGEST or matrix[2, :2].any():
        return 1, matrix
    shortest = float(np.linalg.svd(matrix[:2, :2], compute_uv=False)[-1])
    factor = int(min(shortest, 2 * longest / _LONGEST))
    if factor < 2:
        return 1, matrix
    shift = (1 / factor - 1) / 2
    return factor, np.array([[1 / factor, 0, shift], [0, 1 / factor, shift], [0, 0, 1]]) @ matrix


def reduce_image(image: np.ndarray, factor: int) -> np.ndarray:
    """Return the means of squares of this many pixels along each side."""
    if factor == 1:
        return image
    sides = tuple(-(-side // factor) for side in image.shape[:2])
    box = 0.0, 0.0, float(sides[1] * factor), float(sides[0] * factor)
    small = np.empty((*sides, *image.shape[2:]), image.dtype)
    write_filtered(small, image, box, AREA)
    return small


# --- Boxes ----------------------------------------------------------------------------------------


def filter_of(antialias: Any, mode: str, padding_mode: str) -> str | None:
    """Return the name of the filter of these arguments, or None."""
    if isinstance(antialias, (bool, np.bool_)) and not antialias:
        return None
    look_up("mode", mode, MODES)
    if padding_mode != "border":
        raise ValueError(f'padding_mode: expected "border" with antialias, where filters end with '
                         f"the image, got {padding_mode!r}; warp_image(antialias=True) takes "
                         f"others")  # fmt: skip
    if isinstance(antialias, str) and antialias in FILTERS:
        return antialias
    if not isinstance(antialias, (bool, np.bool_)):
        raise ValueError(f"antialias: expected True, False or one of {FILTERS}, got "
                         f"{antialias!r}")  # fmt: skip
    if mode not in _OF_MODES:
        raise ValueError(f"antialias: expected one of {FILTERS} with mode={mode!r}, got True")
    return _OF_MODES[mode]


def resize_filtered(kernels, image, boxes, shape, name, out=None):
    """Resize boxes (x0, y0, x1, y1) of an image, (4,) or (K, 4), by a filter."""
    several = boxes.ndim == 2
    result = kernels.output((*boxes.shape[:-1], *shape, *image.shape[2:]), image, image, out)
    if result.size:
        for target, numbers, _ in real_parts(image, result, 0, AnyDtype.NATIVE):
            for box, each in zip(np.atleast_2d(boxes).tolist(), target if several else [target],
                                 strict=True):  # fmt: skip
                write_filtered(each, numbers, box, name)
    return kernels.returned(result, out)


def write_filtered(target, image, box, name):
    """Resize a box of an image of one of the kernels' dtypes."""
    (height, width), (rows, columns), (x0, y0, x1, y1) = image.shape[:2], target.shape[:2], box
    channels, real = math.prod(image.shape[2:]), str(computed(image.dtype))
    across = column_taps(name, (x0, x1 - x0), width, columns, real, channels)
    write_resized(target, image, row_taps(name, (y0, y1 - y0), height, rows, real), across)


def write_resized(target: np.ndarray, image: np.ndarray, down: Taps, across: Any) -> None:
    """Resize an image of one of the kernels' dtypes by taps of rows, and of columns with bounds."""
    height, rows, channels = len(image), len(target), math.prod(image.shape[2:])
    direct = target.dtype == image.dtype and target.flags.c_contiguous
    numbers = target if direct else np.empty(target.shape, image.dtype)
    kernels_of_filters.resize(
        image.reshape(height, -1), channels, down, across, numbers.reshape(rows, -1)
    )
    if not direct:
        target[...] = stored(numbers, target.dtype)
