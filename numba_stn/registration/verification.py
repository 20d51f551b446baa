"""Decide whether two aligned images show the same scene.

Any two photographs can be warped until their coarse shapes correlate, because both have bright and
dark parts. Their details, which remain after a smoothed copy is subtracted, correlate only if both
images show the same thing in the same position. One strong edge is not enough, so the details of
most parts of the image must correlate too. None of these correlations depends on gain and bias.
"""

from typing import Any, NamedTuple

import numpy as np

from ..kernels.registration.pyramid import smooth
from .pyramid import Frame, Level

# Fewer pixels may correlate by chance.
LEAST_PIXELS = 200

# The largest number of parts along each axis, the least number of pixels of a part along each axis,
# and the least number of compared pixels of a part that counts.
MOST_PARTS, LEAST_PART_SIDE, LEAST_PART_PIXELS = 4, 12, 40


class Details(NamedTuple):
    """Pearson's correlation of the details: of the whole image, and the lower quartile of parts."""

    whole: float
    parts: float


def correlate_details(model: Any, levels: list[Level], moving: Frame) -> Details:
    """Correlate the details at two levels, and return those of the level whose parts agree more.

    The finest level is left out if there are others, because noise is strongest there.
    """
    found = [_at_level(model, level, moving) for level in levels[1:3] or levels]
    return max(found, key=lambda each: each.parts)


def _at_level(model, level, moving):
    samples = model.sample(level, moving)
    fixed = level.fixed.reshape(samples.shape)
    if level.mask is not None:
        fixed = np.where(level.mask.reshape(samples.shape), fixed, np.float32(np.nan))
    sums = part_sums(details_of(samples), details_of(fixed))
    parts = _correlations(sums[:, sums[0] >= LEAST_PART_PIXELS])
    whole = _correlations(sums.sum(axis=1, keepdims=True))
    if sums[0].sum() < LEAST_PIXELS or not len(parts):
        return Details(0.0, 0.0)
    return Details(float(whole[0]), float(np.quantile(parts, 0.25)))


def details_of(image: np.ndarray) -> np.ndarray:
    """Subtract a smoothed copy from an image."""
    return image - smooth(smooth(image))


def part_sums(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Sum 1, a, b, a^2, b^2 and a b over each part of two images: (6, parts) of float64.

    A pixel counts if both images have it: samples outside are NaN, and so is what was smoothed with
    one.
    """
    both = np.isfinite(one) & np.isfinite(two)
    a, b = np.where(both, one, 0), np.where(both, two, 0)
    sums = np.stack([both.astype(a.dtype), a, b, a * a, b * b, a * b])
    for axis in range(1, sums.ndim):
        side = sums.shape[-axis]
        count = min(max(side // LEAST_PART_SIDE, 1), MOST_PARTS)
        starts = [part[0] for part in np.array_split(np.arange(side), count)]
        sums = np.add.reduceat(sums, starts, axis=-axis, dtype=np.float64)
    return sums.reshape(6, -1)


def _correlations(sums):
    """Pearson's correlation from :func:`part_sums`; 0 if an image does not vary."""
    count, a, b, aa, bb, ab = sums
    covariance, var_a, var_b = ab - a * b / count, aa - a * a / count, bb - b * b / count
    varies = (var_a > 0) & (var_b > 0)
    return np.where(varies, covariance / np.sqrt(np.where(varies, var_a * var_b, 1.0)), 0.0)
