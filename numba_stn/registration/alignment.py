"""``register``: estimate a map from coarse to fine, and report how well the images match."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..images.warp_image import warp_image
from ..ops.warp_tps import warp_tps
from ..transforms.matrices import to_theta
from .arguments import Options, Problem, check_arguments, native
from .coarse_to_fine import CoarseToFine
from .gauss_newton import Metric
from .models import theta_from_matrix, warp_by_matrix
from .pyramid import LEAST_SIDE, frames, pyramid
from .verdict import CONVERGED, judge

__all__ = ["Registration", "Report", "register"]


@dataclass(frozen=True)
class Report:
    """The result of a registration in numbers.

    Parameters
    ----------
    converged : bool
        True if the steps converged to a map under which the images match. Use the map only then.
    reason : str
        Why the registration ended.
    iterations : tuple of int
        The number of steps tried at each level, from coarse to fine.
    correlation : float
        Pearson's correlation of both images, smoothed, where they overlap.
    details : float
        Pearson's correlation of their details: what remains after a smoother copy is subtracted.
    parts : float
        The correlation of the details that three quarters of the image's parts reach; a part
        without details does not count.
    displacement : float
        The displacement, in pixels of the fixed image, that remains between the details of half of
        the parts.
    residual : float
        Root mean square of ``gain moving + bias - fixed``, smoothed, in the fixed image's units.
    gain, bias : float
        The gain and bias that fit the moving image to the fixed one; 1 and 0 for "intensity".
    overlap : float
        The share of the fixed image (of its mask) that is sampled inside the moving one.
    """

    converged: bool
    reason: str
    iterations: tuple[int, ...]
    correlation: float
    details: float
    parts: float
    displacement: float
    residual: float
    gain: float
    bias: float
    overlap: float


@dataclass(frozen=True)
class Registration:
    """A map from a fixed image to a moving one, and the moving image aligned with the fixed one.

    Parameters
    ----------
    transform : str
        As given to :func:`register`.
    theta : array of float64
        The map of one image, for :func:`numba_stn.warp_affine` (d, d + 1),
        :func:`numba_stn.warp_perspective` (3, 3) or, for a spline, :func:`numba_stn.warp_tps`
        (K, 2).
    matrix : (2, 3), (3, 3) or (3, 4) array of float64, or None for a spline
        From the fixed image's pixels (x, y[, z]) to the moving one's, as
        :func:`numba_stn.warp_image` takes it.
    aligned : array of the moving image's dtype, with the fixed one's sides
        The moving image warped to the fixed one's pixels; 0 outside.
    report : Report
        Check ``report.converged`` before you use the map.
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
    moving_mask: Any = None,
    start: Any = None,
    levels: int | None = None,
    iterations: int = 50,
    tolerance: float = 0.02,
    control: int = 4,
    stiffness: float = 1e-3,
) -> Registration:
    """Estimate the map that aligns a moving image with a fixed one.

    ::

        moving (H, W), fixed (H', W')  ->  matrix (2, 3) or theta, aligned (H', W'), report

    The map is estimated from coarse to fine by Gauss-Newton steps with Levenberg-Marquardt damping:
    ``(J^T J + damping D) step = -J^T r``. The residuals r are the differences of the moving image
    under the map and the fixed image, J is their Jacobian with respect to the map's parameters, and
    D is the diagonal of J^T J (Lucas and Kanade 1981; Baker and Matthews 2004 compare this method
    and its variants). A step composes the map with a small map of the same group. J is never
    stored; one pass over the pixels gives all sums. For "correlation", every step also fits a gain
    and a bias: see Evangelidis and Psarakis 2008.

    Parameters
    ----------
    moving, fixed : (H, W), (H, W, C) or, with a 3-D transform, (D, H, W) arrays
        Images of uint8, uint16, float32 or float64, or of bool, other integers of up to 32 bits or
        float16, which are converted to floats. Their sides may differ and are at least 16
        (8 in 3-D). The mean of the channels is compared.
    transform : str
        "translation", "rigid", "similarity", "affine", "projective" or "tps"; for volumes
        "translation 3-D", "rigid 3-D", "similarity 3-D" or "affine 3-D". Rotations and scales are
        in pixels, which are square.
    metric : {"correlation", "intensity"}
        "correlation" ignores a gain and a bias between the images; "intensity" does not.
    mask, moving_mask : arrays of the fixed and the moving image's sides, of bool, optional
        The pixels of each image that are compared; the others may be NaN. Rims of one value that a
        warp left are never compared.
    start : (2, 3), (3, 3) or (3, 4) array, optional
        An initial estimate of ``matrix``. By default, the centres of the images are aligned; if
        that leads to no match and all sides of one image are larger, they are aligned with a zoom.
    levels : int, optional
        The number of levels of the pyramid. By default, images are halved until another halving
        would leave a side shorter than 24 pixels (12 in 3-D).
    iterations : int
        The largest number of steps at each level.
    tolerance : float
        A step that moves no corner of the fixed image by more than this number of pixels is the
        last.
    control, stiffness : int, float
        For "tps": the number of control points along a side, and the weight of the bending energy
        in the cost. A larger weight makes the spline stiffer; 0 adds no penalty.

    Returns
    -------
    Registration
        The map as ``theta`` and as ``matrix``, the image ``aligned``, and the ``report``.
        ``report.converged`` is false if the images do not match, and ``report.reason`` says why:
        too little overlap, too little correlation of the images or of their details, parts that
        are displaced, a map that shrinks areas to nothing, or steps that did not converge.

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape, type or value, or an image is constant or not finite;
        the message names it.

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> noise = np.random.default_rng(0).random((12, 12))
    >>> moving = stn.resize(noise, (96, 96), mode="bicubic")
    >>> fixed = 0.5 * stn.rotate(moving, 5) + 0.2
    >>> result = stn.register(moving, fixed, "rigid")
    >>> result.report.converged
    True
    >>> round(float(np.rad2deg(np.arctan2(result.matrix[0, 1], result.matrix[0, 0]))), 1)
    -5.0
    """
    options = Options(mask, moving_mask, start, levels, iterations, tolerance, control, stiffness)
    moving, fixed = native("moving", moving), native("fixed", fixed)
    problem = check_arguments(moving, fixed, transform, metric, options)
    results = []
    for start in problem.starts:
        results.append(align(problem, start, metric, levels))
        if results[-1][1].converged:
            break
    converged = [result for result in results if result[1].converged]
    model, report = (converged or results)[0]
    return _result(problem, model, moving, report)


def align(
    problem: Problem, start: np.ndarray, metric: str, most_levels: int | None
) -> tuple[Any, Report]:
    """Estimate the map from one initial matrix, and report on it."""
    moving_frame, fixed_frame = frames(problem.images.moving, problem.images.fixed)
    halvings = _halvings_to_one_resolution(problem.images, start)
    levels, moving_stats, fixed_stats = pyramid(problem.images, most_levels, halvings)
    if metric == "correlation":
        estimated = Metric()
    else:
        gain = moving_stats.deviation / fixed_stats.deviation
        bias = (moving_stats.mean - fixed_stats.mean) / fixed_stats.deviation
        estimated = Metric(gain, bias)
    search = CoarseToFine(problem, start, levels, moving_frame, fixed_frame, estimated)
    found, counts = search.run()
    return found.model, _report(search, found, counts, moving_stats, fixed_stats)


def _halvings_to_one_resolution(images, start):
    """How often to halve the moving and the fixed image, so that they have about one resolution."""
    dims = images.fixed.ndim
    center = np.array([*((side - 1) / 2 for side in images.fixed.shape[::-1]), 1.0])
    area = abs(np.linalg.det(start) / (start[-1] @ center) ** (dims + 1))
    count = round(float(np.log2(area)) / dims)

    def allowed(image, wanted):
        return max(0, min(wanted, int(np.log2(min(image.shape) / LEAST_SIDE[dims]))))

    return allowed(images.moving, count), allowed(images.fixed, -count)


# --- Results --------------------------------------------------------------------------------------


def _report(search, found, counts, moving_stats, fixed_stats):
    """Report the last level's result, in the units of the images."""
    (reason, details), here = judge(search, found), found.evaluation
    if here is None:
        return Report(False, reason, counts, 0.0, 0.0, 0.0, 0.0, float("nan"), 1.0, 0.0, 0.0)
    gain = here.gain * fixed_stats.deviation / moving_stats.deviation
    bias = here.bias * fixed_stats.deviation + fixed_stats.mean - gain * moving_stats.mean
    if search.metric.gain is not None:
        gain, bias = 1.0, 0.0
    return Report(
        reason == CONVERGED, reason, counts, here.correlation, details.whole, details.parts,
        details.displacement, here.residual * fixed_stats.deviation, gain, bias, here.overlap,
    )  # fmt: skip


def _result(problem, model, moving, report):
    """Give the map as theta and as a matrix, and the aligned image."""
    source, sides = problem.images.moving.shape, problem.images.fixed.shape
    if problem.group == "tps":
        planes = moving if moving.ndim == 3 else moving[..., None]
        aligned = warp_tps(planes[None], model.control[None], sides, layout="NHWC")[0]
        aligned = aligned.reshape(*sides, *moving.shape[2:])
        return Registration("tps", model.control, None, aligned, report)
    square = model.pixel_matrix(None, frames(problem.images.moving, problem.images.fixed)[0])
    matrix = square[: len(sides) + (problem.group == "projective")]
    if len(sides) == 3:
        theta = theta_from_matrix(square, sides, source)[:3]
        aligned = warp_by_matrix(moving, square, sides, 0)
    else:
        theta = to_theta(matrix, sides, source)
        aligned = warp_image(moving, matrix, sides)
    return Registration(problem.name, theta, matrix, aligned, report)
