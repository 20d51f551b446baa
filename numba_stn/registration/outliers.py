"""Pixels that do not follow the map: rims, dead pixels, and objects that move by themselves.

A warp leaves a rim of one value, most often black, where it had no image: :func:`without_rim`
masks it from the start. Other pixels are found by their residuals: least squares give a few wrong
pixels much weight, so pixels whose residuals are far larger than most are left out, and the steps
are repeated; what is left out is then found anew. The verdict does not leave those out.
"""

from typing import Any

import numpy as np
from scipy.ndimage import binary_dilation, generate_binary_structure, label, maximum_filter

from ..kernels.registration.pyramid import halve
from .gauss_newton import Metric
from .pyramid import Frame, Level

# A residual is large if it exceeds this share of the fixed image's standard deviation, and this
# multiple of the median residual (of normally distributed ones, 1 in 15,000 does).
LEAST_RESIDUAL, LEAST_MULTIPLE = 0.5, 6.0

# Outliers are left out if they are at least this share of the compared pixels: fewer do not matter.
LEAST_SHARE = 0.005

# They are left out if in one of the images they have at most this share of the variance: otherwise
# it is not known which pixels are the outliers.
LARGEST_SHARE = 0.5


# Of the pixels on an image's border, the least share that has the value of one of its corners if
# there is a rim; and the least and the largest share of the image that a rim has. What is larger is
# the background.
LEAST_RIM, RIM_SHARES = 0.1, (0.002, 0.4)


def without_rim(image: np.ndarray, mask: np.ndarray | None) -> np.ndarray | None:
    """Take a rim out of an image's mask.

    A rim is what has exactly the value of a corner and is connected with the border; the pixels
    next to it may be a mixture, and are taken out with it.
    """
    border = np.ones(image.shape, bool)
    border[(slice(1, -1),) * image.ndim] = False
    edge = image[border]
    rim = np.zeros(image.shape, bool)
    for value in set(image[np.ix_(*([0, side - 1] for side in image.shape))].ravel().tolist()):
        if np.count_nonzero(edge == value) >= LEAST_RIM * edge.size:
            same = image == value if mask is None else (image == value) & mask
            parts, count = label(same)
            of_rim = np.zeros(count + 1, bool)
            of_rim[parts[border]] = True
            of_rim[0] = False
            rim |= of_rim[parts]
    if not RIM_SHARES[0] < np.count_nonzero(rim) / rim.size < RIM_SHARES[1]:
        return mask
    inside = ~binary_dilation(rim, generate_binary_structure(image.ndim, image.ndim))
    return inside if mask is None else inside & mask


def find_outliers(
    model: Any, level: Level, moving: Frame, metric: Metric, known: np.ndarray | None
) -> np.ndarray | None:
    """Find the outliers at a level, and the pixels next to them; None if there are none.

    ``known`` are the outliers that were left out before. The gain and the bias between the images
    are those that give both the same mean and standard deviation without them.
    """
    samples = model.sample(level, moving).reshape(level.fixed.shape)
    compared = np.isfinite(samples) & np.isfinite(level.fixed)
    inside = compared if known is None else compared & ~known
    if not inside.any():
        return None
    s, f = samples[inside], level.fixed[inside]
    gain, bias = metric.gain, metric.bias
    if gain is None:
        gain = f.std(dtype=np.float64) / max(s.std(dtype=np.float64), 1e-9)
        bias = f.mean(dtype=np.float64) - gain * s.mean(dtype=np.float64)
    residuals = np.abs(np.float32(gain) * samples + np.float32(bias) - level.fixed)
    least = LEAST_RESIDUAL * f.std(dtype=np.float64)
    large = compared & (residuals > least)
    if np.count_nonzero(large) < LEAST_SHARE * np.count_nonzero(compared):
        return None
    large &= residuals > LEAST_MULTIPLE * np.median(residuals[inside])
    if np.count_nonzero(large) < LEAST_SHARE * np.count_nonzero(compared):
        return None
    outliers = maximum_filter(large, [min(side, 3) for side in large.shape])
    shares = [_variance_share(image, outliers & compared, compared) for image in
              (samples, level.fixed)]  # fmt: skip
    return outliers if min(shares) < LARGEST_SHARE else None


def _variance_share(image, some, all_):
    """The share of the sum of squares, about the mean of all pixels, that some of them have."""
    squares = np.square(image - image[all_].mean(dtype=np.float64))
    return squares[some].sum(dtype=np.float64) / max(squares[all_].sum(dtype=np.float64), 1e-9)


def at_other_levels(outliers: np.ndarray, number: int, levels: list[Level]) -> list[np.ndarray]:
    """Give the outliers that were found at level ``number`` at each level."""
    found = [outliers]
    for level in levels[number + 1 :]:
        halved = halve(np.float32(found[-1])) >= 0.5
        found.append(halved.reshape(level.fixed.shape))
    for level in levels[number - 1 :: -1] if number else []:
        finer = found[0]
        for axis, side in enumerate(level.fixed.shape):
            if side > 1:
                finer = np.repeat(finer, 2, axis)
                finer = np.take(finer, np.minimum(np.arange(side), finer.shape[axis] - 1), axis)
        found.insert(0, finer)
    return found


def changed(one: np.ndarray, two: np.ndarray) -> bool:
    """Whether more pixels changed than matter."""
    return bool(np.count_nonzero(one != two) > LEAST_SHARE * one.size)
