"""Warps of image files with numbers that :func:`numba_stn.warp_image` does not take.

They are computed in the next float that holds them exactly, and then rounded, ties to even, and
saturated.
"""

from typing import Any

import numpy as np

from .warp_image import warp_image

_WIDER = {"bool": np.float32, "int8": np.float32, "int16": np.float32, "float16": np.float32,
          "int32": np.float64, "uint32": np.float64}  # fmt: skip


def warp_any_dtype(image: np.ndarray, matrix: Any, shape: Any = None, **options: Any) -> np.ndarray:
    """The same as :func:`numba_stn.warp_image`, also for other integers, bool and float16."""
    if image.dtype.name not in _WIDER:
        return warp_image(image, matrix, shape, **options)
    options.pop("alpha", None)
    _check_fill(options.get("fill", 0), image.dtype)
    return narrowed(warp_image(widened(image), matrix, shape, **options), image.dtype)


def widened(image: np.ndarray) -> np.ndarray:
    """The image in a dtype that kernels take."""
    return image.astype(_WIDER.get(image.dtype.name, image.dtype), copy=False)


def narrowed(numbers: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Numbers of :func:`widened` images in the original dtype."""
    if dtype.name not in _WIDER or dtype.kind == "f":
        return numbers.astype(dtype, copy=False)
    return np.clip(np.rint(numbers), *_range(dtype)).astype(dtype)


def _range(dtype):
    """Return the smallest and the largest number of an integer dtype."""
    return (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)


def _check_fill(fill, dtype):
    """Raise if a fill is not a number of this dtype."""
    numbers = np.asarray(fill, float)
    if dtype.kind == "f":
        return
    low, high = _range(dtype)
    if not ((numbers == np.rint(numbers)) & (numbers >= low) & (numbers <= high)).all():
        raise ValueError(f"fill: expected a number that {dtype} can hold, got {fill!r}")
