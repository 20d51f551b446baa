"""How well the details of two aligned images agree.

Any two photographs can be warped until their coarse shapes correlate, because both have bright and
dark parts. Their details, which remain after a smoothed copy is subtracted, correlate only if both
images show the same thing in the same position. One strong edge is not enough, so the details of
each part of the image are correlated by themselves, too. None of these correlations depends on gain
and bias.

A map can be wrong by a few pixels although details correlate, for instance a compromise between a
scene and a large object that moves by itself. So each part is also aligned by itself, by one
Gauss-Newton step: if the map is right, most parts stay where they are.
"""

from typing import Any, NamedTuple

import numpy as np

from ..kernels.registration.part_sums import COUNT, MIXED, SLOPES, VALUES, part_sums
from ..kernels.registration.pyramid import smooth
from .pyramid import Frame, Level

# The largest number of parts along each axis, and the least number of pixels of a part along each
# axis. A part counts if it has this number of pixels that are compared, and if the variance of its
# details, in one of the images, is at least this share of that of the whole image's details.
MOST_PARTS, LEAST_PART_SIDE = 4, 12
LEAST_PART_PIXELS, LEAST_VARIANCE = 40, 0.05

# Along a direction in which the mean square of the slopes of standardised details is much less than
# this, no displacement is found.
LEAST_SLOPE = 0.02


class Details(NamedTuple):
    """How well the details of two images agree."""

    whole: float = 0.0  # the correlation over the whole image
    parts: float = 0.0  # the lower quartile of the correlations of the parts
    displacement: float = 0.0  # the median displacement of the parts, in pixels of the fixed image
    number: int = 0  # the number of parts


def compare_details(model: Any, level: Level, moving: Frame) -> Details:
    """Compare the details of the fixed image with those of the moving one under a map."""
    samples = model.sample(level, moving).reshape(level.fixed.shape)
    compared = np.isfinite(samples) & np.isfinite(level.fixed)
    if not compared.any():
        return Details()
    one, two = (_standardise(details_of(image, compared)) for image in (samples, level.fixed))
    counts = tuple(min(max(side // LEAST_PART_SIDE, 1), MOST_PARTS) for side in one.shape)
    sums = part_sums(one, two, counts)
    whole = _correlations(sums.sum(axis=0, keepdims=True))[0]
    sums = sums[sums[:, COUNT] >= LEAST_PART_PIXELS]
    variances = np.maximum(*_moments(sums)[:2])
    sums = sums[variances >= LEAST_VARIANCE]
    if not len(sums):
        return Details(float(whole))
    pixels = 2.0**level.halvings
    return Details(
        float(whole),
        float(np.quantile(_correlations(sums), 0.25)),
        float(np.median(_displacements(sums))) * pixels,
        len(sums),
    )


def details_of(image: np.ndarray, compared: np.ndarray | None = None) -> np.ndarray:
    """Subtract a smoothed copy from an image; NaN, and left out of that copy, where not compared.

    The images to be correlated are given the same pixels ``compared``, so that what is left out
    changes both in the same way.
    """
    compared = np.isfinite(image) if compared is None else compared
    if compared.all():
        return image - smooth(smooth(image))
    filled = np.where(compared, image, np.float32(0))
    weights = smooth(smooth(np.float32(compared)))
    smoothed = smooth(smooth(filled)) / np.where(compared, weights, np.float32(1))
    return np.where(compared, image - smoothed, np.float32(np.nan))


def _standardise(details):
    """Divide by the standard deviation."""
    return details / (np.nanstd(details, dtype=np.float64).astype(np.float32) or np.float32(1))


def _moments(sums):
    """The variances of both images and their covariance, of each part."""
    a, b, aa, bb, ab = sums[:, VALUES].T / np.maximum(sums[:, COUNT], 1)
    return aa - a * a, bb - b * b, ab - a * b


def _correlations(sums):
    """Pearson's correlation of each part; 0 if an image does not vary."""
    var_a, var_b, covariance = _moments(sums)
    varies = (var_a > 1e-9) & (var_b > 1e-9)
    return np.where(varies, covariance / np.sqrt(np.where(varies, var_a * var_b, 1.0)), 0.0)


def _displacements(sums):
    """The length of the Gauss-Newton step that aligns each part by itself, in pixels.

    It is up to a third too long where details are fine, because the difference of two pixels is
    then less than the slope.
    """
    i, j = np.triu_indices(3)
    normal = np.zeros((len(sums), 3, 3))
    normal[:, i, j] = normal[:, j, i] = sums[:, SLOPES]
    normal += LEAST_SLOPE * sums[:, COUNT, None, None] * np.eye(3)
    steps = np.linalg.solve(normal, sums[:, MIXED, None])[:, :, 0]
    return np.sqrt((steps * steps).sum(axis=1))
