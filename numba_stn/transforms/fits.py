"""Maps that fit pairs of points, of one kind each; :mod:`.estimation` chooses among them.

A fit takes source and target points (..., N, D) and weights (N,) that are positive, and returns the
matrix (..., D + 1, D + 1) from source to target. Sets that do not determine a map raise
:class:`DegenerateError`.
"""

import numpy as np

# Of the largest singular value of points about 1 from their centre: what is smaller is rounding.
_TOLERANCE = 1e-10


class DegenerateError(ValueError):
    """The points do not determine a map of this kind; the message says which they should be."""


def fit_translation(source, target, weights):
    """Fit by the mean of the differences."""
    dims = source.shape[-1]
    matrix = np.eye(dims + 1)
    matrix[:dims, dims] = np.average(target - source, axis=0, weights=weights)
    return matrix


def fit_rigid(source, target, weights):
    """Fit a rotation and a translation: see :func:`_fit_umeyama`."""
    return _fit_umeyama(source, target, weights, False)


def fit_similarity(source, target, weights):
    """Fit a rotation, a factor and a translation: see :func:`_fit_umeyama`."""
    return _fit_umeyama(source, target, weights, True)


def _fit_umeyama(source, target, weights, with_scale):
    """Minimise the squared distances in the target (Umeyama 1991, equations 38 to 43).

    With ``C = sum w (target - mean) (source - mean)^T = U S V^T`` the rotation is ``U diag(1, ...,
    det U det V) V^T``, and the factor the trace of ``S diag(...)`` by the variance of the source.
    """
    dims = source.shape[1]
    shares = weights / weights.sum()
    mean_of_source, mean_of_target = shares @ source, shares @ target
    centred, moved = source - mean_of_source, target - mean_of_target
    variances = shares @ centred**2, shares @ moved**2
    u, singular, v = np.linalg.svd((moved * shares[:, None]).T @ centred)
    if singular[dims - 2] <= _TOLERANCE * np.sqrt(variances[0].sum() * variances[1].sum()):
        apart = "at two places at least" if dims == 2 else "that are not on a line"
        raise DegenerateError(f"expected points {apart}, and targets that follow them")
    signs = np.ones(dims)
    signs[-1] = np.sign(np.linalg.det(u) * np.linalg.det(v))
    scale = (singular @ signs) / variances[0].sum() if with_scale else 1.0
    matrix = np.eye(dims + 1)
    matrix[:dims, :dims] = scale * (u * signs) @ v
    matrix[:dims, dims] = mean_of_target - matrix[:dims, :dims] @ mean_of_source
    return matrix


def fit_affine(source, target, weights):
    """Fit an affine map: see :func:`_fit_linear`."""
    matrix = _fit_linear(source, target, weights, True)
    return matrix / matrix[-1, -1]


def fit_projective(source, target, weights):
    """Fit a projective map: see :func:`_fit_linear`."""
    return scale_projective(_fit_linear(source, target, weights, False), source)


def _fit_linear(source, target, weights, affine):
    """Minimise the error of linear equations (Hartley and Zisserman 2004, section 4.1).

    For each coordinate t of a target, ``row p - t (last row p) = 0`` with ``p = (source, 1)``. The
    entries of the matrix are the right singular vector of the smallest singular value: no entry is
    fixed at 1, because each may be 0. The points are centred and scaled before; of more points than
    are needed, this weighs the errors as scikit-image does.
    """
    dims, count = source.shape[-1], source.shape[-2]
    to_source, p = _normalise(source)
    to_target, q = _normalise(target)
    ones = np.ones((*p.shape[:-1], 1))
    p = np.concatenate([p, ones], -1)
    rows = np.zeros((*p.shape[:-2], dims, count, (dims + 1) ** 2))
    for k in range(dims):
        rows[..., k, :, k * (dims + 1) : (k + 1) * (dims + 1)] = p
        rows[..., k, :, -dims - 1 :] = -q[..., k, None] * p
    if affine:
        kept = [*range(dims * (dims + 1)), -1]
        rows = rows[..., kept]
    rows *= np.sqrt(weights / weights.max())[:, None]
    entries = np.zeros((*p.shape[:-2], (dims + 1) ** 2))
    entries[..., kept if affine else slice(None)] = _null_vector(
        rows.reshape(*p.shape[:-2], dims * count, rows.shape[-1])
    )
    matrix = entries.reshape(*p.shape[:-2], dims + 1, dims + 1)
    singular = np.linalg.svd(matrix, compute_uv=False)
    if not (singular[..., -1] > _TOLERANCE * singular[..., 0]).all():
        raise DegenerateError(_expected(dims, affine))
    return np.linalg.inv(to_target) @ matrix @ to_source


def _null_vector(rows):
    """Return the unit vector for which the rows are smallest."""
    length = rows.shape[-1]
    if rows.shape[-2] > length:
        rows = np.linalg.qr(rows, mode="r")  # of the same singular vectors, and small
    _, singular, vectors = np.linalg.svd(rows)
    if not (singular[..., length - 2] > _TOLERANCE * singular[..., 0]).all():
        raise DegenerateError("expected more points in general position")
    return vectors[..., -1, :]


def _expected(dims, affine):
    """What points determine an affine or projective map."""
    flat = "a line" if dims == 2 else "a plane"
    count = dims + 1 if affine else dims + 2
    return f"expected {count} points of which no {dims + 1} are on {flat}, in source and target"


def _normalise(points):
    """Return the matrix that centres and scales points to a mean square of D, and its result."""
    dims = points.shape[-1]
    centre = points.mean(-2)
    spread = np.sqrt(((points - centre[..., None, :]) ** 2).sum(-1).mean(-1))
    if not (spread > 0).all():
        raise DegenerateError("expected points that are not all the same")
    factor = np.sqrt(dims) / spread
    matrix = np.zeros((*centre.shape[:-1], dims + 1, dims + 1))
    matrix[..., range(dims), range(dims)] = factor[..., None]
    matrix[..., :dims, dims], matrix[..., dims, dims] = -factor[..., None] * centre, 1.0
    return matrix, factor[..., None, None] * (points - centre[..., None, :])


def scale_projective(matrix, points):
    """Scale matrices so that the last entry is 1; if it is 0, so that the largest entry is.

    Where it is 0, the origin is at infinity, and the first of the points gets a positive divisor.
    """
    last = matrix[..., -1, :]
    reach = (abs(last[..., :-1]) * abs(points).max(-2)).sum(-1)
    is_zero = abs(last[..., -1]) <= 1e-12 * reach
    divisor = (last[..., :-1] * points[..., 0, :]).sum(-1)
    largest = np.copysign(abs(matrix).max((-2, -1)), divisor)
    with np.errstate(divide="ignore", invalid="ignore"):
        ordinary = matrix / matrix[..., -1:, -1:]
    special = matrix / largest[..., None, None]
    special[..., -1, -1] = 0.0
    return np.where(is_zero[..., None, None], special, ordinary)


FITS = {"translation": fit_translation, "rigid": fit_rigid, "similarity": fit_similarity,
        "affine": fit_affine, "projective": fit_projective}  # fmt: skip


def fewest(kind: str, dims: int) -> int:
    """The number of pairs that determine a map of this kind."""
    return {"translation": 1, "rigid": dims, "similarity": dims, "affine": dims + 1,
            "projective": dims + 2, "tps": dims + 1}[kind]  # fmt: skip
