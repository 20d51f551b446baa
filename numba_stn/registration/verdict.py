"""Whether two aligned images show the same thing.

Any two photographs can be warped until their coarse shapes correlate: both have bright and dark
parts. Their details, what is left once a smoothed copy is taken away, correlate only where they are
of one thing and in one place. So both are asked for, and neither depends on gain and bias.
"""

from typing import Any

import numpy as np

from ..kernels.align import blurred
from .pyramid import Frame, Level

# Levels whose details are compared, from the finest on.
LEVELS = 3

# Fewer pixels may correlate by chance.
LEAST_PIXELS = 200


def details(model: Any, levels: list[Level], moving: Frame) -> list[float]:
    """Pearson's correlation of the details, at each of the finest levels."""
    found = []
    for level in levels[:LEVELS]:
        fixed, read = level.fixed, model.read(level, moving)
        if level.mask is not None:
            fixed = np.where(level.mask, fixed, np.float32(np.nan))
        fixed = fixed.reshape(read.shape)
        one, two = (image - blurred(blurred(image)) for image in (read, fixed))
        # What was not read is NaN, and so is what was smoothed with it.
        seen = np.isfinite(one) & np.isfinite(two)
        found.append(_correlation(one[seen], two[seen]))
    return found


def _correlation(one, two):
    """Pearson's; 0 where nothing can be said."""
    if len(one) < LEAST_PIXELS:
        return 0.0
    one, two = one - one.mean(dtype=np.float64), two - two.mean(dtype=np.float64)
    length = float((one @ one) * (two @ two)) ** 0.5
    return float(one @ two) / length if length > 0 else 0.0
