"""Image pyramids: both images at several resolutions, each half the size of the one before."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..kernels.registration.alignment_sums import Axes
from ..kernels.registration.pyramid import halve, smooth

# An image is not halved if a side would be shorter than this: fewer pixels determine too little.
LEAST_SIDE = {2: 24, 3: 12}

# A pyramid ends where the mask has fewer pixels.
LEAST_MASK = 100


@dataclass(frozen=True)
class Level:
    """One resolution of both images.

    Parameters
    ----------
    moving, fixed : (D, H, W) arrays of float32
        Smoothed, with mean 0 and standard deviation 1 at the finest level; a plane is one slice.
    mask : array of fixed's shape, of bool, or None
        The pixels of the fixed image that are compared.
    halvings : int
        How often the images were halved.
    axes : Axes
        The coordinates of both images' pixels.
    """

    moving: np.ndarray
    fixed: np.ndarray
    mask: np.ndarray | None
    halvings: int
    axes: Axes

    @property
    def pixels(self) -> int:
        """The number of pixels of the fixed image that are compared."""
        return self.fixed.size if self.mask is None else int(np.count_nonzero(self.mask))


@dataclass(frozen=True)
class Frame:
    """Coordinates of an image: the origin is its centre, and the unit is a number of pixels.

    All axes have the same unit, and so have both images.

    Parameters
    ----------
    sides : tuple of int
        (H, W) or (D, H, W) of the image.
    unit : float
        The unit in pixels: half of the fixed image's longest side.
    """

    sides: tuple[int, ...]
    unit: float

    def to_pixels(self, halvings: int = 0) -> np.ndarray:
        """Matrix (d + 1, d + 1) from coordinates (x, y[, z], 1) to pixels of the halved image."""
        size = len(self.sides)
        matrix = np.diag([*[self.unit / 2.0**halvings] * size, 1.0])
        matrix[:size, size] = self.center(halvings)[::-1][:size]
        return matrix

    @cached_property
    def corners(self) -> np.ndarray:
        """The centres of the corner pixels, (d + 1, 2^d)."""
        ends = [np.array([-0.5, 0.5]) * (side - 1) / self.unit for side in self.sides[::-1]]
        mesh = np.meshgrid(*ends, [1.0], indexing="ij")
        return np.stack([axis.ravel() for axis in mesh])

    def center(self, halvings: int) -> tuple[float, ...]:
        """The image's centre (z, y, x) in pixels of the halved image; z is 0 in a plane."""
        step = 2.0**halvings
        centers = [((side - 1) / 2 + 0.5) / step - 0.5 for side in self.sides]
        return (*[0.0] * (3 - len(self.sides)), *centers)


def frames(moving: Any, fixed: Any) -> tuple[Frame, Frame]:
    """Give the coordinates of both images, in one unit."""
    unit = max(fixed.shape) / 2
    return Frame(moving.shape, unit), Frame(fixed.shape, unit)


def pyramid(
    moving: np.ndarray, fixed: np.ndarray, mask: np.ndarray | None, levels: int | None
) -> tuple[list[Level], tuple[float, float], tuple[float, float]]:
    """Build the levels, from fine to coarse; also give each image's mean and standard deviation.

    A pixel of the next level is the mean of 2 x 2 (x 2) pixels. The finest level is smoothed by
    (1, 4, 6, 4, 1) / 16, so that the blur of bilinear interpolation matters little.
    """
    moving_frame, fixed_frame = frames(moving, fixed)
    moving, moving_stats = _standardise(moving, None)
    fixed, fixed_stats = _standardise(fixed, mask)
    dims = len(fixed_frame.sides)
    mask = None if mask is None else np.ascontiguousarray(mask).reshape(fixed.shape)
    found: list[Level] = []
    while True:
        n = len(found)
        axes = _axes(moving_frame, fixed_frame, n, fixed.shape[2])
        found.append(Level(moving, fixed, mask, n, axes))
        sides = [side for side in (*moving.shape, *fixed.shape) if side > 1]
        if levels is not None and len(found) == levels:
            break
        if min(sides) // 2 < LEAST_SIDE[dims]:
            break
        moving, fixed = halve(moving), halve(fixed)
        mask = None if mask is None else _halve_mask(mask, fixed.shape)
        if mask is not None and np.count_nonzero(mask) < LEAST_MASK:
            break
    return found, moving_stats, fixed_stats


def _axes(moving_frame, fixed_frame, halvings, width):
    """Give the coordinates of the pixels of a level."""
    unit, center = fixed_frame.unit / 2.0**halvings, fixed_frame.center(halvings)
    columns = ((np.arange(width) - center[2]) / unit).astype(np.float32)
    return Axes((1 / unit, *center), (unit, *moving_frame.center(halvings)), columns)


def _standardise(image, mask):
    """Smooth an image and give it mean 0 and standard deviation 1 inside the mask.

    Also give the mean and the standard deviation that it had.
    """
    smoothed = smooth(image)
    inside = smoothed if mask is None else smoothed[mask]
    mean = float(inside.mean(dtype=np.float64))
    smoothed -= np.float32(mean)
    inside = (smoothed if mask is None else smoothed[mask]).ravel()
    deviation = (float(np.einsum("i,i", inside, inside)) / inside.size) ** 0.5 or 1.0
    smoothed *= np.float32(1 / deviation)
    return smoothed.reshape((1,) * (3 - image.ndim) + image.shape), (mean, deviation)


def _halve_mask(mask, shape):
    """Halve a mask: a pixel is inside if all pixels that it averages are."""
    for axis, side in enumerate(shape):
        if mask.shape[axis] > 1:
            even, odd = (np.take(mask, range(k, 2 * side, 2), axis) for k in (0, 1))
            mask = even & odd
    return np.ascontiguousarray(mask)
