"""``register``: its arguments, its plan, and what it gives back."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..checks import chosen
from ..matrices import to_theta
from ..pixels import warp_image
from ..splines import control_points
from ..tps import warp_tps
from . import verdict
from .models import GROUPS, Matrix, Spline, theta_of, warped
from .pyramid import Frame, Level, frames, pyramid
from .steps import Climbed, Measured, Metric, climb, measure

METRICS = ("correlation", "intensity")

# The share of the fixed image that must be read from inside the moving one.
LEAST_OVERLAP = 0.25

# What images that match have at least: of their whole, and of their details at some level.
LEAST_CORRELATION, LEAST_DETAILS = 0.5, 0.3


@dataclass(frozen=True)
class Report:
    """How a registration went.

    Parameters
    ----------
    converged : bool
        Whether the images match, and the steps came to rest. Only then is the map to be used.
    reason : str
        Why it stopped.
    iterations : tuple of int
        Steps tried at each level, from coarse to fine.
    correlation : float
        Pearson's correlation of both images, smoothed, where they overlap.
    details : float
        That of their details: the largest at the finest levels.
    residual : float
        Root of the mean squared difference ``gain moving + bias - fixed``, in the fixed image's
        units.
    gain, bias : float
        Of the moving image, for it to be like the fixed one; 1 and 0 for "intensity".
    overlap : float
        Share of the fixed image (of its mask) that is read inside the moving one.
    """

    converged: bool
    reason: str
    iterations: tuple[int, ...]
    correlation: float
    details: float
    residual: float
    gain: float
    bias: float
    overlap: float


@dataclass(frozen=True)
class Registration:
    """A map from a fixed image to a moving one, and the moving image laid upon the fixed.

    Parameters
    ----------
    transform : str
        As given to :func:`register`.
    theta : array
        For :func:`numba_stn.warp_affine` (d, d + 1), :func:`numba_stn.warp_perspective` (3, 3) or,
        of a spline, :func:`numba_stn.warp_tps` (K, 2), without their axis N.
    matrix : (2, 3), (3, 3) or (3, 4) array, or None for a spline
        From the fixed image's pixels (x, y[, z]) to the moving one's; for
        :func:`numba_stn.warp_image` in the plane.
    aligned : array
        The moving image, as the fixed image's pixels read it; 0 outside.
    report : Report
        Whether it can be trusted.
    """

    transform: str
    theta: np.ndarray
    matrix: np.ndarray | None
    aligned: np.ndarray
    report: Report


def register(moving, fixed, transform="affine", *, metric="correlation", mask=None, start=None,
             levels=None, iterations=50, tolerance=0.02, control=4, stiffness=1e-3):
    grey, target = grey_of(moving), grey_of(fixed)
    images = pyramid(grey, target, mask, levels)
    levels_, of_moving, of_fixed = images
    frame, other = frames(grey, target)
    model = Matrix("translation", np.eye(grey.ndim + 1), other)
    kept = (Metric() if metric == "correlation" else
            Metric(of_moving[1] / of_fixed[1], (of_moving[0] - of_fixed[0]) / of_fixed[1]))
    from dataclasses import replace
    counts = []
    groups = ["translation", "similarity", transform]
    for level in levels_[::-1]:
        for g in groups:
            model = replace(model, group=g)
            tol = tolerance if level.halvings == 0 else 0.1 * 2.0**level.halvings
            c = climb(model, level, kept, iterations, tol, LEAST_OVERLAP)
            model = c.model
            counts.append((level.fixed.shape[2], g, c.iterations, c.reason, c.measured and round(c.measured.correlation,3)))
        groups = [transform]
    return model, c, counts, verdict.details(model, levels_, frame), model.pixels(None, frame)

def grey_of(im):
    if im.ndim==3: 
        return im.mean(-1, dtype=np.float32)
    return im
