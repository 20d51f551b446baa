"""Checks and coordinates that the maps of :mod:`.maps` share."""

from typing import Any

import numpy as np

from ..ops.validate import check_image_shape
from .matrix_checks import check_numbers


def offsets(size: Any, center: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the sides, the centre, and x and y of each pixel from it."""
    height, width = check_image_shape(size)
    default = ((width - 1) / 2, (height - 1) / 2)
    found = check_numbers("center", default if center is None else center)
    if found.shape != (2,):
        raise ValueError(f"center: expected (x, y), got shape {found.shape}")
    y, x = np.meshgrid(np.arange(height) - found[1], np.arange(width) - found[0], indexing="ij")
    return found, x, y


def check_gradients(dmap_x: Any, dmap_y: Any, size: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the gradients of two maps of this size; 0 where they are NaN."""
    found = []
    for name, array in (("dmap_x", dmap_x), ("dmap_y", dmap_y)):
        try:
            numbers = np.asarray(array, np.float64)
        except (TypeError, ValueError):
            raise TypeError(f"{name}: expected numbers, got {array!r}") from None
        if numbers.shape != check_image_shape(size):
            raise ValueError(f"{name}: expected shape {tuple(size)}, got {numbers.shape}")
        found.append(np.nan_to_num(numbers, nan=0.0))
    return found[0], found[1]
