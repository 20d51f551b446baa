"""Two images, each half as large as the one before: from coarse to fine."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..kernels.registration.pyramid import blurred, halved

# Sides below which an image is not halved: fewer pixels say too little.
LEAST_SIDE = {2: 24, 3: 12}


@dataclass(frozen=True)
class Level:
    """One resolution of both images.

    Parameters
    ----------
    moving, fixed : (D, H, W) arrays of float32
        Smoothed, of mean 0 and deviation 1 at the finest level; a plane is one slice.
    mask : array of fixed's shape, of bool, or None
        Which pixels of the fixed image count.
    halvings : int
        How often the images were halved.
    fixed_at, moving_at : tuples of float
        Units and middles, as :func:`.kernels.align.moments` takes them.
    columns : (W,) array of float32
        The fixed image's columns, in coordinates.
    """

    moving: np.ndarray
    fixed: np.ndarray
    mask: np.ndarray | None
    halvings: int
    fixed_at: tuple[float, ...]
    moving_at: tuple[float, ...]
    columns: np.ndarray

    @property
    def pixels(self) -> int:
        """Pixels of the fixed image that count."""
        return self.fixed.size if self.mask is None else int(np.count_nonzero(self.mask))


@dataclass(frozen=True)
class Frame:
    """Coordinates in which all sides are alike: from the middle of an image, in units of pixels.

    Parameters
    ----------
    sides : tuple of int
        (H, W) or (D, H, W) of an image.
    unit : float
        Pixels that 1 stands for: half of the fixed image's longest side.
    """

    sides: tuple[int, ...]
    unit: float

    def to_pixels(self, halvings: int = 0) -> np.ndarray:
        """Matrix (d + 1, d + 1) from coordinates (x, y[, z], 1) to pixels, once halved."""
        size = len(self.sides)
        matrix = np.diag([*[self.unit / 2.0**halvings] * size, 1.0])
        matrix[:size, size] = self.at(halvings)[::-1][:size]
        return matrix

    @cached_property
    def corners(self) -> np.ndarray:
        """The centres of the corner pixels, (d + 1, 2^d)."""
        ends = [np.array([-0.5, 0.5]) * (side - 1) / self.unit for side in self.sides[::-1]]
        mesh = np.meshgrid(*ends, [1.0], indexing="ij")
        return np.stack([axis.ravel() for axis in mesh])

    def at(self, halvings: int) -> tuple[float, ...]:
        """The middle's pixel (z, y, x) once halved; 0 along an axis that a plane has not."""
        step = 2.0**halvings
        middles = [((side - 1) / 2 + 0.5) / step - 0.5 for side in self.sides]
        return (*[0.0] * (3 - len(self.sides)), *middles)


def frames(moving: Any, fixed: Any) -> tuple[Frame, Frame]:
    """Both images' coordinates, of one unit."""
    unit = max(fixed.shape) / 2
    return Frame(moving.shape, unit), Frame(fixed.shape, unit)


def pyramid(
    moving: np.ndarray, fixed: np.ndarray, mask: np.ndarray | None, levels: int | None
) -> tuple[list[Level], tuple[float, float], tuple[float, float]]:
    """Levels from fine to coarse, and each image's mean and deviation.

    A halved pixel is the mean of 2 x 2 (x 2); at the finest level images are smoothed by
    (1, 4, 6, 4, 1) / 16, so that what bilinear interpolation adds does not count.
    """
    frame, other = frames(moving, fixed)
    (a, of_a), (b, of_b) = _standard(moving, None), _standard(fixed, mask)
    held = None if mask is None else np.ascontiguousarray(mask).reshape(b.shape)
    found: list[Level] = []
    while True:
        n = len(found)
        unit = other.unit / 2.0**n
        at = other.at(n)
        columns = ((np.arange(b.shape[2]) - at[2]) / unit).astype(np.float32)
        found.append(Level(a, b, held, n, (1 / unit, *at), (unit, *frame.at(n)), columns))
        sides = [side for side in (*a.shape, *b.shape) if side > 1]
        if levels is not None and len(found) == levels:
            break
        if min(sides) // 2 < LEAST_SIDE[moving.ndim]:
            break
        a, b = halved(a), halved(b)
        held = None if held is None else _all_halved(held, b.shape)
        if held is not None and np.count_nonzero(held) < 100:
            break
    return found, of_a, of_b


def _standard(image, mask):
    """An image, smoothed, of mean 0 and deviation 1 where the mask is; and what they were."""
    smooth = blurred(image)
    seen = smooth if mask is None else smooth[mask]
    mean = float(seen.mean(dtype=np.float64))
    smooth -= np.float32(mean)
    seen = (smooth if mask is None else smooth[mask]).ravel()
    deviation = (float(np.einsum("i,i", seen, seen)) / seen.size) ** 0.5 or 1.0
    smooth *= np.float32(1 / deviation)
    return smooth.reshape((1,) * (3 - image.ndim) + image.shape), (mean, deviation)


def _all_halved(mask, shape):
    """Where all of the pixels that are halved to one count."""
    for axis, side in enumerate(shape):
        if mask.shape[axis] > 1:
            pairs = np.take(mask, range(0, 2 * side, 2), axis) & np.take(
                mask, range(1, 2 * side, 2), axis
            )
            mask = pairs
    return np.ascontiguousarray(mask)
