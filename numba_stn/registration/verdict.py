"""Whether two aligned images show the same thing.

Any two photographs can be warped until their coarse shapes correlate: both have bright and dark
parts. Their details, what is left once a smoothed copy is taken away, correlate only where they are
of one thing and in one place; and not only along one strong edge, but in most parts of the image.
So all three are asked for, and none depends on gain and bias.
"""

from typing import Any, NamedTuple

import numpy as np

from ..kernels.registration.pyramid import blurred
from .pyramid import Frame, Level

# Fewer pixels may correlate by chance.
LEAST_PIXELS = 200

# An image is parted into up to so many along each axis, of at least so many pixels, of which a few
# have to be seen.
MOST_PARTS, PART, FEW = 4, 12, 40


class Details(NamedTuple):
    """Pearson's correlation of the details, and what three in four parts of the image have."""

    whole: float
    parts: float


def details(model: Any, levels: list[Level], moving: Frame) -> Details:
    """What the details of both images say: of two levels, that where the parts agree more.

    The finest level is left out where there are others: noise is strongest there.
    """
    found = [_of_level(model, level, moving) for level in levels[1:3] or levels]
    return max(found, key=lambda each: each.parts)


def _of_level(model, level, moving):
    read = model.read(level, moving)
    fixed = level.fixed.reshape(read.shape)
    if level.mask is not None:
        fixed = np.where(level.mask.reshape(read.shape), fixed, np.float32(np.nan))
    sums = part_sums(fine(read), fine(fixed))
    parts = _correlations(sums[:, sums[0] >= FEW])
    whole = _correlations(sums.sum(axis=1, keepdims=True))
    if sums[0].sum() < LEAST_PIXELS or not len(parts):
        return Details(0.0, 0.0)
    return Details(float(whole[0]), float(np.quantile(parts, 0.25)))


def fine(image: np.ndarray) -> np.ndarray:
    """An image without what a smooth copy of it has."""
    return image - blurred(blurred(image))


def part_sums(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Of each part of two images: how many pixels both have, and sums of a, b, a^2, b^2 and a b.

    (6, parts), in float64. What was not read is NaN, and so is what was smoothed with it.
    """
    seen = np.isfinite(one) & np.isfinite(two)
    a, b = np.where(seen, one, 0), np.where(seen, two, 0)
    sums = np.stack([seen.astype(a.dtype), a, b, a * a, b * b, a * b])
    for axis in range(1, sums.ndim):
        side = sums.shape[-axis]
        count = min(max(side // PART, 1), MOST_PARTS)
        first = [part[0] for part in np.array_split(np.arange(side), count)]
        sums = np.add.reduceat(sums, first, axis=-axis, dtype=np.float64)
    return sums.reshape(6, -1)


def _correlations(sums):
    """Pearson's, from the sums of :func:`part_sums`; 0 where an image does not vary."""
    count, a, b, aa, bb, ab = sums
    product, of_a, of_b = ab - a * b / count, aa - a * a / count, bb - b * b / count
    varies = (of_a > 0) & (of_b > 0)
    return np.where(varies, product / np.sqrt(np.where(varies, of_a * of_b, 1.0)), 0.0)
