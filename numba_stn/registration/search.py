"""Where to start, if steps from where the images lie lead nowhere.

Fine texture has no slope that leads over more than a few of its grains. So at the coarsest level
the moving image is turned and scaled on a small lattice, and each copy's details are held against
the fixed image's at all shifts at once, by Fourier transforms. Of planes only.
"""

from dataclasses import replace
from itertools import product

import numpy as np
from scipy import fft
from scipy.ndimage import maximum_filter

from ..ops.warps import warp_affine
from .models import Matrix, theta_of
from .pyramid import Frame, Level
from .verdict import fine

# Degrees and factors that are tried.
ANGLES = (0, 5, -5, 10, -10, 15, -15, 20, -20)
ZOOMS = (1.0, 0.9, 1.1)

# The share of the fixed image that has to be covered.
COVERED = 0.5


def starts(model: Matrix, level: Level, moving: Frame, group: str, count: int) -> list[Matrix]:
    """The maps, from ``model`` on, under which the images' details correlate most."""
    angles = ANGLES if group != "translation" else (0,)
    zooms = ZOOMS if group not in ("translation", "rigid") else (1.0,)
    tried = [replace(model, matrix=turned(np.deg2rad(angle), zoom) @ model.matrix)
             for angle, zoom in product(angles, zooms)]  # fmt: skip
    scores = correlations(tried, level, moving)
    return [shifted(tried[k], (y, x), scores.shape[1:], level) for k, y, x in peaks(scores, count)]


def peaks(scores: np.ndarray, count: int) -> list[tuple[int, int, int]]:
    """The largest scores, none of which has a larger one beside it: map, y and x."""
    beside = maximum_filter(scores, (1, 3, 3), mode="wrap")
    tops = np.where(scores >= beside, scores, -1.0)
    order = np.argpartition(-tops.ravel(), count)[:count]
    order = order[np.argsort(-tops.ravel()[order])]
    return list(zip(*np.unravel_index(order, scores.shape), strict=True))


def turned(angle: float, zoom: float) -> np.ndarray:
    """Matrix of a turn and a zoom about the middle."""
    cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
    return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])


def shifted(model: Matrix, peak, shape: tuple[int, ...], level: Level) -> Matrix:
    """The map that reads where the fixed image's copy lies: ``peak`` pixels (y, x) away."""
    ways = [p - side if p > side // 2 else p for p, side in zip(peak, shape, strict=True)]
    matrix = np.eye(3)
    matrix[:2, 2] = -np.array(ways[::-1]) * level.fixed_at[0]
    return replace(model, matrix=model.matrix @ matrix)


def correlations(tried: list[Matrix], level: Level, moving: Frame) -> np.ndarray:
    """Correlation of the details at every shift (y, x) of what each map reads.

    (N, 3/2 H, 3/2 W), shifts to the left and up at the end;
    times the root of the share that overlaps, for of fewer pixels chance makes more.
    """
    sides = level.fixed.shape[1:]
    thetas = np.stack([
        theta_of(each.pixels(level, moving), sides, level.moving.shape[1:])[:2] for each in tried
    ])  # fmt: skip
    image = fine(level.moving)[None]
    read, covered = warp_affine(image, thetas, sides, coverage=True)
    whole = np.float32(covered >= 1)
    read = read[:, 0] * whole
    target = fine(level.fixed)
    mask = np.ones_like(target) if level.mask is None else np.float32(level.mask)
    target = target * mask
    # Half as long again: shifts by more than half a side, which go round, cover too little.
    shape = [fft.next_fast_len(side + side // 2, real=True) for side in sides]

    def spectrum(image):
        return fft.rfft2(image, shape)

    def against(one, two):
        return fft.irfft2(np.conj(spectrum(one)) * spectrum(two), shape)

    seen = against(whole, mask)
    energy = against(read * read, mask) * against(whole, target * target)
    enough = seen >= COVERED * mask.sum()
    found = against(read, target) / np.sqrt(np.maximum(energy, 1e-6))
    return np.where(enough, found * np.sqrt(np.maximum(seen / mask.sum(), 0)), -1.0)
