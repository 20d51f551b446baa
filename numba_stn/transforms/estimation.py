"""Maps from pairs of points: :func:`estimate`."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .fits import FITS, DegenerateError, fewest
from .matrix_checks import check_number, check_numbers
from .moved_points import transform_points

__all__ = ["Estimate", "estimate"]

Array = Any

KINDS = (*FITS, "tps")

# Samples of a robust estimate: with this probability one of them has no outlier.
_CONFIDENCE, _MOST_TRIALS = 1 - 1e-9, 5000


@dataclass(frozen=True, eq=False)
class Estimate:
    """A map that :func:`estimate` has found.

    Attributes
    ----------
    kind : str
    matrix : (D + 1, D + 1) array, or None
        From source to target; None of a thin-plate spline.
    residuals : (N,) array
        Distance of each moved source point from its target, in units of the target.
    inliers : (N,) array of bool
        The pairs that the map was fitted to: all of them, unless ``robust`` is given.
    spline : callable or None
        Maps points (P, D); of a thin-plate spline.
    """

    kind: str
    matrix: np.ndarray | None
    residuals: np.ndarray
    inliers: np.ndarray
    spline: Callable[[np.ndarray], np.ndarray] | None = None

    @property
    def rms(self) -> float:
        """The root of the inliers' mean squared residual."""
        return float(np.sqrt(np.mean(self.residuals[self.inliers] ** 2)))

    def transform_points(self, points: Array) -> np.ndarray:
        """Map points (P, D), as :func:`numba_stn.transform_points` does."""
        if self.matrix is not None:
            return transform_points(self.matrix, points)
        assert self.spline is not None
        points = check_numbers("points", points)
        return self.spline(points.reshape(-1, points.shape[-1])).reshape(points.shape)

    def maps(self, size: tuple[int, ...]) -> tuple[np.ndarray, ...]:
        """Where each pixel of an output goes: the maps of :func:`numba_stn.remap`.

        Parameters
        ----------
        size : (H, W) or (D, H, W)

        Returns
        -------
        map_x, map_y : (H, W) arrays of float64
            And ``map_z`` of a volume.
        """
        lines = np.meshgrid(*(np.arange(side, dtype=float) for side in size), indexing="ij")
        points = np.stack([line.ravel() for line in reversed(lines)], 1)
        return tuple(self.transform_points(points).T.reshape(len(size), *size))


def estimate(
    kind: str,
    source: Array,
    target: Array,
    weights: Array | None = None,
    robust: float | None = None,
    *,
    smoothing: float = 0.0,
    rng: int = 0,
) -> Estimate:
    """Estimate the map that takes points to others.

    ``source (N, D), target (N, D) -> matrix (D + 1, D + 1)``

    Parameters
    ----------
    kind : str
        "translation", "rigid" (rotation and translation), "similarity" (and a factor), "affine",
        "projective", or "tps", a thin-plate spline through the landmarks.
    source, target : (N, 2) or (N, 3) arrays
        (x, y) or (x, y, z) of points, and of where they go: in pixels, with pixel centres at
        integers, or any other units.
    weights : (N,) array, optional
        Weight of each pair's squared error, at least 0. Not for splines.
    robust : number, optional
        Distance from the target at which a pair is an outlier. The map is then that of the largest
        set of pairs without outliers that random samples find (RANSAC), fitted to all of this set.
    smoothing : number
        Of a spline: 0 goes through the targets; larger values bend less.
    rng : int
        Seed of the samples.

    Returns
    -------
    found : Estimate
        Its ``matrix`` maps source to target: it is OpenCV's ``M`` for images, and
        ``stn.matrices.from_opencv(found.matrix)`` is the matrix of :func:`numba_stn.warp_image`.
        ``found.residuals`` are the errors, ``found.inliers`` the pairs that it was fitted to. A
        spline has no matrix: estimate it from output to input points and pass ``found.maps(size)``
        to :func:`numba_stn.remap`.

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape or is not finite; if there are too few points, or they do
        not determine the map, such as points on a line; or if no sample is without outliers.

    Notes
    -----
    Translations, rigid maps and similarities minimise the squared distances in the target (Umeyama
    1991). Affine and projective maps are the singular vector of the linear equations of the centred
    and scaled points (Hartley and Zisserman 2004), as in scikit-image; with exact pairs, or as many
    as needed, this is the only solution. All of them equal ``skimage.transform.estimate_transform``
    to rounding. A projective matrix has a last entry of 1, unless the origin goes to infinity.
    Splines have the kernel r^2 log r in the plane and r in space, and an affine part.

    Examples
    --------
    Three marks in a photograph, and where they are in a plan:

    >>> import numba_stn as stn
    >>> found = stn.estimate("affine", [[0, 0], [10, 0], [0, 10]], [[5, 5], [25, 5], [5, 35]])
    >>> found.matrix.round(9) + 0.0
    array([[2., 0., 5.],
           [0., 3., 5.],
           [0., 0., 1.]])

    One of five pairs is wrong:

    >>> marks = [[0, 0], [10, 0], [0, 10], [10, 10], [5, 5]]
    >>> seen = [[1, 2], [11, 2], [1, 12], [11, 12], [50, 0]]
    >>> found = stn.estimate("similarity", marks, seen, robust=1.0)
    >>> found.inliers
    array([ True,  True,  True,  True, False])
    """
    source, target, weights = _check(kind, source, target, weights)
    smoothing = check_number("smoothing", smoothing, least=0)
    if kind == "tps":
        if robust is not None:
            raise ValueError("robust: expected None for a spline, which goes through all pairs; "
                             "leave outliers out by the inliers of another kind")  # fmt: skip
        spline = _fit_spline(source, target, smoothing)
        residuals = np.linalg.norm(spline(source) - target, axis=1)
        return Estimate(kind, None, residuals, np.ones(len(source), bool), spline)
    if smoothing:
        raise ValueError(f"smoothing: expected 0 for {kind!r}, got {smoothing!r}")
    inliers = weights > 0
    if robust is not None:
        threshold = check_number("robust", robust, positive=True)
        inliers = _consensus(kind, source, target, weights, threshold, _generator(rng))
    try:
        matrix = FITS[kind](source[inliers], target[inliers], weights[inliers])
    except DegenerateError as error:
        raise ValueError(f"source, target: {error} for {kind!r}") from None
    return Estimate(kind, matrix, _residuals(matrix, source, target), inliers)


def _check(kind, source, target, weights):
    """Return points (N, D) and weights (N,)."""
    if kind not in KINDS:
        raise ValueError(f"kind: expected one of {', '.join(KINDS)}, got {kind!r}")
    source, target = check_numbers("source", source), check_numbers("target", target)
    if source.ndim != 2 or source.shape[1] not in (2, 3):
        raise ValueError(f"source: expected points (N, 2) or (N, 3), got shape {source.shape}")
    if target.shape != source.shape:
        raise ValueError(f"target: expected a point for each of source, {source.shape}, got shape "
                         f"{target.shape}")  # fmt: skip
    if weights is not None and kind == "tps":
        raise ValueError("weights: expected None for a spline; smoothing=... bends it less")
    found = np.ones(len(source)) if weights is None else check_numbers("weights", weights)
    if found.shape != source.shape[:1] or (found < 0).any():
        raise ValueError(f"weights: expected {len(source)} numbers of at least 0, got "
                         f"{found.tolist()}")  # fmt: skip
    least, count = fewest(kind, source.shape[1]), int((found > 0).sum())
    if count < least:
        raise ValueError(f"source: expected at least {least} points for {kind!r}, got {count}")
    return source, target, found


def _generator(rng):
    """Return the generator of a seed."""
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError) as error:
        raise type(error)(f"rng: expected a seed, got {rng!r}") from None


def _residuals(matrix, source, target):
    """Return the distance of each moved point from its target; infinite at infinity."""
    found = np.linalg.norm(transform_points(matrix, source) - target, axis=1)
    return np.where(np.isfinite(found), found, np.inf)


def _fit_spline(source, target, smoothing):
    """Return the thin-plate spline, a function of points."""
    from scipy.interpolate import RBFInterpolator

    if len(np.unique(source, axis=0)) < len(source) and not smoothing:
        raise ValueError("source: expected different points for 'tps', got one twice")
    dims = source.shape[1]
    centred = source - source.mean(0)
    singular = np.linalg.svd(centred, compute_uv=False)
    if singular[-1] <= 1e-10 * singular[0]:
        flat = "a line" if dims == 2 else "a plane"
        raise ValueError(f"source: expected points that are not on {flat} for 'tps'")
    kernel = "thin_plate_spline" if dims == 2 else "linear"
    return RBFInterpolator(source, target, kernel=kernel, degree=1, smoothing=smoothing)


# --- Outliers -------------------------------------------------------------------------------------


def _consensus(kind, source, target, weights, threshold, rng):
    """Return the largest set of pairs that a sample's map takes to their targets (RANSAC).

    Fischler and Bolles 1981. The set of the best sample is fitted and gathered again until it stays
    the same.
    """
    size = fewest(kind, source.shape[1])
    candidates = np.flatnonzero(weights > 0)
    best, best_error, trials, k = None, np.inf, _MOST_TRIALS, 0
    while k < trials:
        k += 1
        sample = rng.choice(candidates, size, replace=False)
        found = _agreeing(kind, source, target, weights, sample, threshold)
        if found is None:
            continue
        inliers, error = found
        if best is None or (-inliers.sum(), error) < (-best.sum(), best_error):
            best, best_error = inliers, error
            trials = min(trials, _trials_needed(best.sum() / len(candidates), size))
    if best is None or best.sum() < min(size + 1, len(candidates)):
        raise ValueError(f"robust: expected more than {size} pairs that a map of kind {kind!r} "
                         f"takes to within {threshold} of their targets, got none")  # fmt: skip
    for _ in range(20):
        found = _agreeing(kind, source, target, weights, np.flatnonzero(best), threshold)
        if found is None or found[0].sum() < best.sum() or (found[0] == best).all():
            break
        best = found[0]
    return best


def _agreeing(kind, source, target, weights, chosen, threshold):
    """Return which pairs agree with the map of some of them, and the sum of squared errors."""
    try:
        matrix = FITS[kind](source[chosen], target[chosen], weights[chosen])
    except DegenerateError:
        return None
    residuals = _residuals(matrix, source, target)
    inliers = (residuals <= threshold) & (weights > 0)
    return inliers, float((residuals[inliers] ** 2).sum())


def _trials_needed(share, size):
    """Return the number of samples of which one is without outliers, at this share of inliers."""
    good = min(share**size, 1 - 1e-15)
    if good < 1e-12:
        return _MOST_TRIALS
    return math.ceil(math.log(1 - _CONFIDENCE) / math.log1p(-good))
