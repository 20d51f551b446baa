"""Start candidates, for images whose initial alignment leads to no match.

On fine texture, steps converge only over a few grains of it. So at the coarsest level the moving
image is rotated and scaled by a small set of angles and factors. The details of each copy are
correlated with those of the fixed image at all shifts at once, by Fourier transforms. Planes only.
"""

from dataclasses import replace
from itertools import product

import numpy as np
from scipy import fft
from scipy.ndimage import maximum_filter

from ..ops.warps import warp_affine
from .details import details_of
from .models import MatrixMap, theta_from_matrix
from .pyramid import Frame, Level

# The rotations (degrees) and zoom factors of the candidates.
ANGLES = (0, 5, -5, 10, -10, 15, -15, 20, -20)
ZOOMS = (1.0, 0.9, 1.1)

# The share of the fixed image that a candidate must cover.
LEAST_OVERLAP = 0.5


def start_candidates(
    model: MatrixMap, level: Level, moving: Frame, group: str, count: int
) -> list[MatrixMap]:
    """Give the maps, starting from ``model``, under which the details correlate most."""
    angles = ANGLES if group != "translation" else (0,)
    zooms = ZOOMS if group not in ("translation", "rigid") else (1.0,)
    models = [replace(model, matrix=rotation(np.deg2rad(angle), zoom) @ model.matrix)
              for angle, zoom in product(angles, zooms)]  # fmt: skip
    scores = shift_correlations(models, level, moving)
    return [
        shift_to_peak(models[k], (y, x), scores.shape[1:], level)
        for k, y, x in largest_peaks(scores, count)
    ]


def largest_peaks(scores: np.ndarray, count: int) -> list[tuple[int, int, int]]:
    """Give the indices (map, y, x) of the largest scores that are local maxima over the shifts."""
    neighbours = maximum_filter(scores, (1, 3, 3), mode="wrap")
    peaks = np.where(scores >= neighbours, scores, -1.0)
    order = np.argpartition(-peaks.ravel(), count)[:count]
    order = order[np.argsort(-peaks.ravel()[order])]
    return list(zip(*np.unravel_index(order, scores.shape), strict=True))


def rotation(angle: float, zoom: float) -> np.ndarray:
    """Matrix of a rotation and a zoom about the centre."""
    cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
    return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])


def shift_to_peak(model: MatrixMap, peak, shape: tuple[int, ...], level: Level) -> MatrixMap:
    """Compose a map with the shift of a peak of the correlation, ``peak`` pixels (y, x)."""
    shift = [p - side if p > side // 2 else p for p, side in zip(peak, shape, strict=True)]
    matrix = np.eye(3)
    matrix[:2, 2] = -np.array(shift[::-1]) * level.axes.fixed[0]
    return replace(model, matrix=model.matrix @ matrix)


def shift_correlations(models: list[MatrixMap], level: Level, moving: Frame) -> np.ndarray:
    """Correlate the details of each map's samples with those of the fixed image, at every shift.

    The result is (N, 3/2 H, 3/2 W), indexed by the shift (y, x); negative shifts are at the end. It
    is multiplied by the root of the share that overlaps, because few pixels correlate by chance
    more easily.
    """
    sides = level.fixed.shape[1:]
    thetas = np.stack([
        theta_from_matrix(each.pixel_matrix(level, moving), sides, level.moving.shape[1:])[:2]
        for each in models
    ])  # fmt: skip
    image = details_of(level.moving)[None]
    samples, coverage = warp_affine(image, thetas, sides, coverage=True)
    samples, covered = _numbers(np.where(coverage[:, None] >= 1, samples, np.nan)[:, 0])
    target, mask = _numbers(details_of(level.fixed))
    # Half as long again: shifts by more than half a side wrap around, but overlap too little.
    shape = [fft.next_fast_len(side + side // 2, real=True) for side in sides]

    def spectrum(image):
        return fft.rfft2(image, shape)

    def cross_correlate(one, two):
        return fft.irfft2(np.conj(spectrum(one)) * spectrum(two), shape)

    overlap = cross_correlate(covered, mask)
    energy = cross_correlate(samples * samples, mask) * cross_correlate(covered, target * target)
    correlation = cross_correlate(samples, target) / np.sqrt(np.maximum(energy, 1e-6))
    scores = correlation * np.sqrt(np.maximum(overlap / mask.sum(), 0))
    return np.where(overlap >= LEAST_OVERLAP * mask.sum(), scores, -1.0)


def _numbers(image):
    """Replace NaN by 0; also give 1 where there was a number, and 0 elsewhere."""
    numbers = np.isfinite(image)
    return np.where(numbers, image, np.float32(0)), np.float32(numbers)
