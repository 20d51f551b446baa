"""Whether two aligned images show the same thing.

Any two photographs can be warped until their coarse shapes correlate: both have bright and dark
parts. Their details, what is left once a smoothed copy is taken away, correlate only where they are
of one thing and in one place. So both are asked for, and neither depends on gain and bias.
"""

from typing import Any

import numpy as np

from ..kernels.align import blurred
from .pyramid import Frame, Level

# Fewer pixels may correlate by chance.
LEAST_PIXELS = 200


def details(model: Any, levels: list[Level], moving: Frame) -> float:
    """Pearson's correlation of the details: the larger of two levels.

    The finest level is left out where there are others: noise is strongest there.
    """
    return max(_of_level(model, level, moving) for level in levels[1:3] or levels)


def _of_level(model, level, moving):
    read, fixed = model.read(level, moving), level.fixed
    if level.mask is not None:
        fixed = np.where(level.mask, fixed, np.float32(np.nan))
    one, two = fine(read), fine(fixed.reshape(read.shape))
    # What was not read is NaN, and so is what was smoothed with it.
    seen = np.isfinite(one + two)
    return _correlation(one[seen], two[seen])


def fine(image: np.ndarray) -> np.ndarray:
    """An image without what a smooth copy of it has."""
    return image - blurred(blurred(image))


def _correlation(one, two):
    """Pearson's; 0 where nothing can be said."""
    if len(one) < LEAST_PIXELS:
        return 0.0
    one, two = one - one.mean(dtype=np.float64), two - two.mean(dtype=np.float64)
    # Not BLAS, whose threads would wait for cores.
    both, of_one, of_two = (float(np.einsum("i,i", a, b)) for a, b in
                            ((one, two), (one, one), (two, two)))  # fmt: skip
    return both / (of_one * of_two) ** 0.5 if of_one * of_two > 0 else 0.0
