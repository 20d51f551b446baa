"""Whether two aligned images show the same thing.

Any two photographs can be warped until their coarse shapes correlate: both have bright and dark
parts. Their details, what is left once a smoothed copy is taken away, correlate only where they are
of one thing and in one place; and not only along one strong edge, but in most parts of the image.
So all three are asked for, and none depends on gain and bias.
"""

from typing import Any, NamedTuple

import numpy as np

from ..kernels.pyramid import blurred
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
    read, fixed = model.read(level, moving), level.fixed
    if level.mask is not None:
        fixed = np.where(level.mask, fixed, np.float32(np.nan))
    both = np.stack([fine(read), fine(fixed.reshape(read.shape))])
    # What was not read is NaN, and so is what was smoothed with it.
    both[:, ~np.isfinite(both).all(axis=0)] = np.nan
    pieces = [both]
    for axis in range(1, both.ndim):
        count = min(max(both.shape[axis] // PART, 1), MOST_PARTS)
        pieces = [part for piece in pieces for part in np.array_split(piece, count, axis)]
    parts = [found for piece in pieces if (found := _correlation(piece, FEW)) is not None]
    whole = _correlation(both, LEAST_PIXELS)
    if whole is None or not parts:
        return Details(0.0, 0.0)
    return Details(whole, float(np.quantile(parts, 0.25)))


def fine(image: np.ndarray) -> np.ndarray:
    """An image without what a smooth copy of it has."""
    return image - blurred(blurred(image))


def _correlation(both, least):
    """Pearson's, of two images' finite numbers; None of fewer than so many."""
    one, two = both[:, np.isfinite(both[0])]
    if len(one) < least:
        return None
    one, two = one - one.mean(), two - two.mean()
    # Not BLAS, whose threads would wait for cores.
    product, of_one, of_two = (float(np.einsum("i,i", a, b)) for a, b in
                               ((one, two), (one, one), (two, two)))  # fmt: skip
    return product / (of_one * of_two) ** 0.5 if of_one * of_two > 0 else 0.0
