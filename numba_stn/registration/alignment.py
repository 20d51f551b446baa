"""``register``: its arguments, its plan, and what it gives back."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from ..images.warp_image import warp_image
from ..ops.tps_grid import control_points
from ..ops.warp_tps import warp_tps
from ..transforms.matrices import to_theta
from . import verdict
from .checked import Job, checked
from .models import Matrix, Spline, theta_of, warped
from .pyramid import Frame, Level, frames, pyramid
from .search import starts
from .steps import Climbed, Metric, climb

__all__ = ["Registration", "Report", "register"]

# The share of the fixed image that must be read from inside the moving one, and that a map may
# shrink or enlarge an area or a volume by.
LEAST_OVERLAP, LARGEST_ZOOM = 0.25, 9.0

# What images that match have at least: of their whole, of their details,
# and of the details of three in four of their parts.
LEAST_CORRELATION, LEAST_DETAILS, LEAST_PARTS = 0.4, 0.5, 0.2

# A correlation at the coarsest level that needs no search, how many places it takes,
# and how many steps are taken from each.
SURE, PLACES, BRIEF = 0.95, 12, 5

# Steps at a level need not bring the map nearer than this share of its pixels, but at the finest.
COARSE = 0.1

# The coarsest level, in halvings, that a spline is bent at.
BENT = 2


@dataclass(frozen=True)
class Report:
    """How a registration went.

    Parameters
    ----------
    converged : bool
        Whether steps came to rest at a map under which the images match. Only then use the map.
    reason : str
        Why it ended.
    iterations : tuple of int
        Steps tried at each level, from coarse to fine.
    correlation : float
        Pearson's correlation of both images, smoothed, where they overlap.
    details : float
        That of their details: what is left without a still smoother copy.
    parts : float
        What the correlation of the details is at least, in three of four parts of the image.
    residual : float
        Root of the mean of ``(gain moving + bias - fixed)^2``, smoothed, in the fixed image's
        units.
    gain, bias : float
        What makes the moving image like the fixed one; 1 and 0 for "intensity".
    overlap : float
        Share of the fixed image (of its mask) that is read inside the moving one.
    """

    converged: bool
    reason: str
    iterations: tuple[int, ...]
    correlation: float
    details: float
    parts: float
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
    theta : array of float64
        For :func:`numba_stn.warp_affine` (d, d + 1), :func:`numba_stn.warp_perspective` (3, 3) or,
        of a spline, :func:`numba_stn.warp_tps` (K, 2): one of their N.
    matrix : (2, 3), (3, 3) or (3, 4) array of float64, or None for a spline
        From the fixed image's pixels (x, y[, z]) to the moving one's, as
        :func:`numba_stn.warp_image` takes it.
    aligned : array of the moving image's dtype, with the fixed one's sides
        The moving image as the fixed one's pixels read it; 0 outside.
    report : Report
        How it went: look at ``report.converged``.
    """

    transform: str
    theta: np.ndarray
    matrix: np.ndarray | None
    aligned: np.ndarray
    report: Report


def register(
    moving: Any,
    fixed: Any,
    transform: str = "affine",
    *,
    metric: str = "correlation",
    mask: Any = None,
    start: Any = None,
    levels: int | None = None,
    iterations: int = 50,
    tolerance: float = 0.02,
    control: int = 4,
    stiffness: float = 1e-3,
) -> Registration:
    """The map that lays a moving image on a fixed one.

    It is looked for from coarse to fine, by Gauss-Newton steps with Levenberg and Marquardt's
    damping: ``(J^T J + damping D) step = -J^T r``, where r are the differences of the fixed image
    and the moving one under the map, J is their derivative with respect to the map's parameters,
    and D is the diagonal of J^T J (Lucas and Kanade 1981; Baker and Matthews 2004 compare this and
    its relatives). A step is a small map of the same group that follows the one so far. J is never
    in memory; the sums come from one pass over the pixels. For "correlation" the gain and the bias
    that fit best are part of every step: see Evangelidis and Psarakis 2008.

    Parameters
    ----------
    moving, fixed : (H, W), (H, W, C) or, with a 3-D transform, (D, H, W) arrays
        Of uint8, uint16, float32 or float64; sides may differ, and are at least 16 (8 in 3-D).
        The mean of the channels is compared.
    transform : str
        "translation", "rigid", "similarity", "affine", "projective" or "tps"; of volumes
        "translation 3-D", "rigid 3-D", "similarity 3-D" or "affine 3-D". Turns and scales are
        those of pixels, which are as wide as high.
    metric : {"correlation", "intensity"}
        Whether a gain and a bias between the images count for nothing, or are a difference.
    mask : array of the fixed image's sides, of bool, optional
        Which of its pixels count.
    start : (2, 3), (3, 3) or (3, 4) array, optional
        A first guess at ``matrix``. If not given, the images lie middle on middle.
    levels : int, optional
        Halvings of the images, and one; as many as leave sides of 24 pixels (12 in 3-D), if not
        given.
    iterations : int
        The most steps at each level.
    tolerance : float
        A step that moves no corner of the fixed image by more than so many pixels is the last.
    control, stiffness : int, float
        Of "tps": control points a side, and what bending costs beside the differences; more is
        stiffer, 0 is free.

    Returns
    -------
    Registration
        The map as ``theta`` and as ``matrix``, the image ``aligned``, and the ``report``.
        ``report.converged`` is false where the images do not match, with the reason: too little
        overlap, too little correlation of the whole or of the details, a map that shrinks all to
        nothing, or steps that did not come to rest.

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape, type or value, or an image is constant or not finite;
        the message names it.

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> noise = np.random.default_rng(0).random((12, 12))
    >>> scene = stn.resize(noise, (96, 96), mode="bicubic")
    >>> turned = 0.5 * stn.rotate(scene, 5) + 0.2
    >>> found = stn.register(scene, turned, "rigid")
    >>> found.report.converged
    True
    >>> round(float(np.rad2deg(np.arctan2(found.matrix[0, 1], found.matrix[0, 0]))), 1)
    -5.0
    """
    job = checked(
        moving, fixed, transform, metric, mask=mask, start=start, levels=levels,
        iterations=iterations, tolerance=tolerance, control=control, stiffness=stiffness,
    )  # fmt: skip
    levels_, of_moving, of_fixed = pyramid(job.moving, job.fixed, job.mask, levels)
    frame, target = frames(job.moving, job.fixed)
    scale = of_moving[1] / of_fixed[1]
    known = Metric(scale, (of_moving[0] - of_fixed[0]) / of_fixed[1])
    plan = Plan(job, levels_, frame, target, Metric() if metric == "correlation" else known)
    found, counts = plan.followed()
    report = _report(plan, found, counts, of_moving, of_fixed)
    return _result(job, found.model, frame, moving, report)


# --- The plan -------------------------------------------------------------------------------------


class Plan(NamedTuple):
    """What is to be done, on which levels, from fine to coarse."""

    job: Job
    levels: list[Level]
    moving: Frame
    fixed: Frame
    metric: Metric

    def followed(self) -> tuple[Climbed, tuple[int, ...]]:
        """Where it leads, and how many steps each level took."""
        found, counts = self.first()
        own = self.job.transform
        steps = [counts]
        for level in self.levels[-2::-1]:
            found = self.climb(found.model, level, "affine" if own == "tps" else own)
            steps.append(found.iterations)
        if own != "tps" or found.measured is None:
            return found, tuple(steps)
        return self.bent(found, steps)

    def climb(
        self, model: Any, level: Level, group: str | None = None, most: int | None = None
    ) -> Climbed:
        """Steps at one level."""
        if group:
            model = replace(model, group=group)
        finest = level.halvings == 0
        tolerance = self.job.tolerance if finest else COARSE * 2.0**level.halvings
        steps = min(most or self.job.iterations, self.job.iterations)
        return climb(model, level, self.metric, steps, tolerance, LEAST_OVERLAP)

    def first(self) -> tuple[Climbed, int]:
        """The coarsest level: few parameters before many, and from several places if need be."""
        level, own = self.levels[-1], self.job.transform
        middle = "rigid" if own == "rigid" else "similarity"
        own = "affine" if own == "tps" else own
        chain = list(dict.fromkeys(["translation", middle, own]))
        groups = chain[: chain.index(own) + 1]
        begin = Matrix(own, self.job.start_in(self.moving, self.fixed), self.fixed)
        found, count = self.through(begin, level, groups)
        if _sure(found) or self.job.moving.ndim == 3:
            return found, count
        best, group = None, groups[-2:][0]
        for place in starts(begin, level, self.moving, own, PLACES):
            other = self.climb(place, level, group, BRIEF)
            count += other.iterations
            best = max(best or other, other, key=_worth)
            if _sure(best):
                break
        if best and _worth(best) > _worth(found):
            found, more = self.through(best.model, level, groups[-2:])
            count += more
        return found, count

    def through(self, model: Matrix, level: Level, groups: list[str]) -> tuple[Climbed, int]:
        """One group after another."""
        count = 0
        for group in groups:
            found = self.climb(model, level, group)
            model, count = found.model, count + found.iterations
        return found, count

    def bent(self, found: Climbed, steps: list[int]) -> tuple[Climbed, tuple[int, ...]]:
        """A spline, from an affine map on."""
        sides, target = self.job.moving.shape, self.job.fixed.shape
        theta = theta_of(found.model.pixels(None, self.moving), target, sides)
        lattice = np.c_[control_points(self.job.control), np.ones(self.job.control**2)]
        model: Any = Spline(lattice @ theta[:2].T, sides, target, self.job.stiffness)
        first = min(BENT, len(self.levels) - 1)
        for level in self.levels[first::-1]:
            found = self.climb(model, level)
            model = found.model
            steps[len(self.levels) - 1 - level.halvings] += found.iterations
        return found, tuple(steps)


def _worth(found):
    """The correlation, times the root of the share that overlaps: chance likes few pixels."""
    here = found.measured
    return here.correlation * min(here.overlap, 1.0) ** 0.5 if here else -1.0


def _sure(found):
    """Whether this is so good that there is nothing to look for."""
    return found.measured is not None and found.measured.correlation >= SURE


# --- What came out --------------------------------------------------------------------------------


def _report(plan, found, counts, of_moving, of_fixed):
    """What is said of the last level's steps."""
    reason, details = _judged(plan, found)
    here = found.measured
    if here is None:
        return Report(False, reason, counts, 0.0, 0.0, 0.0, float("nan"), 1.0, 0.0, 0.0)
    gain = here.gain * of_fixed[1] / of_moving[1]
    bias = here.bias * of_fixed[1] + of_fixed[0] - gain * of_moving[0]
    if plan.metric.gain is not None:
        gain, bias = 1.0, 0.0
    return Report(
        reason == SETTLED, reason, counts, here.correlation, details.whole, details.parts,
        here.residual * of_fixed[1], gain, bias, here.overlap,
    )  # fmt: skip


SETTLED = "converged: the last step was shorter than the tolerance"


def _judged(plan, found):
    """Why it ended, in words, and the correlation of the details."""
    here = found.measured
    nothing = verdict.Details(0.0, 0.0)
    if here is None or found.reason == "overlap":
        return f"overlap lost: less than {LEAST_OVERLAP:.0%} of the fixed image is covered", nothing
    zoom = found.model.zoom()
    if not 1 / LARGEST_ZOOM < zoom < LARGEST_ZOOM:
        return f"no match: the map multiplies areas by {zoom:.3g}", nothing
    details = verdict.details(found.model, plan.levels, plan.moving)
    for least, value, what in (
        (LEAST_CORRELATION, here.correlation, "images correlate"),
        (LEAST_DETAILS, details.whole, "images' details correlate"),
        (LEAST_PARTS, details.parts, "details of a quarter of their parts correlate"),
    ):
        if value < least:
            return f"no match: the {what} by {value:.2f} only", details
    if found.reason == "iterations":
        return f"not at rest after {plan.job.iterations} steps", details
    if found.reason == "texture":
        return "no texture: the images say nothing about some parameters", details
    return SETTLED, details


def _result(job, model, frame, moving, report):
    """The map in the library's terms, and the moving image under it."""
    sides = job.fixed.shape
    if job.transform == "tps":
        planes = moving if moving.ndim == 3 else moving[..., None]
        aligned = warp_tps(planes[None], model.control[None], sides, layout="NHWC")[0]
        return Registration("tps", model.control, None, aligned.reshape(*sides, *moving.shape[2:]),
                            report)  # fmt: skip
    matrix = model.pixels(None, frame)
    rows = len(sides) + (job.transform == "projective")
    matrix = matrix[:rows]
    if len(sides) == 3:
        theta = theta_of(model.pixels(None, frame), sides, job.moving.shape)[:3]
        aligned = warped(moving, model.pixels(None, frame), sides, 0)
    else:
        theta = to_theta(matrix, sides, job.moving.shape)
        aligned = warp_image(moving, matrix, sides)
    return Registration(job.name, theta, matrix, aligned, report)
