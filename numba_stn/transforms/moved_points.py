"""Points and boxes that go along with an image."""

from typing import Any

import numpy as np

from .matrix_checks import check_number, check_numbers

__all__ = ["transform_boxes", "transform_points", "transform_points_vjp"]

Array = Any


def transform_points(matrix: Any, points: Array) -> np.ndarray:
    """Map points by a matrix, or by what :func:`numba_stn.estimate` returns.

    ``matrix (..., D + 1, D + 1), points (..., P, D) -> moved (..., P, D)``

    The matrix maps where a point is to where it goes: for points in an image that are to be found
    in its warp, from input to output pixels. That is the matrix that ``rotate``, ``resize`` and
    ``crop_and_resize`` return with ``return_matrix=True``, and the inverse of that of
    ``warp_image``: ``stn.matrices.to_opencv(matrix)``.

    Parameters
    ----------
    matrix : (..., D, D + 1) or (..., D + 1, D + 1) array, or Estimate
        D is 2 or 3.
    points : (..., P, D) array
        (x, y) or (x, y, z) of each, with pixel centres at integers.

    Returns
    -------
    moved : (..., P, D) array of float64
        Infinite or NaN where a projective map takes a point to infinity.

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape or is not finite.

    Examples
    --------
    >>> import numba_stn as stn
    >>> stn.transform_points([[2, 0, 10], [0, 2, 0]], [[1, 1], [0, 3]])
    array([[12.,  2.],
           [10.,  6.]])
    """
    if hasattr(matrix, "transform_points"):
        return matrix.transform_points(points)
    matrix, points = _check(matrix, points)
    moved, divisor = _homogeneous(matrix, points)
    with np.errstate(divide="ignore", invalid="ignore"):
        return moved / divisor


def transform_points_vjp(dmoved: Array, matrix: Array, points: Array
                         ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Compute the gradients of :func:`transform_points`.

    ``dmoved (..., P, D) -> dmatrix (..., D + 1, D + 1), dpoints (..., P, D)``

    With ``moved = n / w``, ``dn = dmoved / w`` and ``dw = -(dmoved . moved) / w``; n and w are
    linear in the matrix and in the points.

    Parameters
    ----------
    dmoved : (..., P, D) array
        Gradient of the loss with respect to the moved points.
    matrix, points
        As given to :func:`transform_points`.

    Returns
    -------
    dmatrix : array of the matrix's shape
    dpoints : (..., P, D) array

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape or is not finite.

    Examples
    --------
    >>> import numba_stn as stn
    >>> stn.transform_points_vjp([[1.0, 0.0]], [[2, 0, 10], [0, 2, 0]], [[3, 4]])
    (array([[3., 4., 1.],
           [0., 0., 0.]]), array([[2., 0.]]))
    """
    whole, points = _check(matrix, points)
    dmoved = check_numbers("dmoved", dmoved)
    n, w = _homogeneous(whole, points)
    if dmoved.shape != n.shape:
        raise ValueError(f"dmoved: expected shape {n.shape}, got {dmoved.shape}")
    dn = dmoved / w
    d_homogeneous = np.concatenate([dn, -(dn * n).sum(-1, keepdims=True) / w], -1)
    p = np.concatenate([points, np.ones((*points.shape[:-1], 1))], -1)
    dmatrix = np.swapaxes(d_homogeneous, -1, -2) @ p
    dpoints = (d_homogeneous @ whole)[..., :-1]
    return dmatrix[..., : np.shape(matrix)[-2], :], dpoints


def _check(matrix, points):
    """Return matrices (..., D + 1, D + 1) and points (..., P, D)."""
    matrix, points = check_numbers("matrix", matrix), check_numbers("points", points)
    dims = points.shape[-1] if points.ndim > 1 else 0
    if dims not in (2, 3):
        raise ValueError(f"points: expected shape (..., P, 2) or (..., P, 3), got {points.shape}")
    if matrix.shape[-2:] not in ((dims, dims + 1), (dims + 1, dims + 1)):
        n = dims + 1
        raise ValueError(f"matrix: expected shape (..., {dims}, {n}) or (..., {n}, {n}) for points "
                         f"of {dims} numbers, got {matrix.shape}")  # fmt: skip
    try:
        np.broadcast_shapes(matrix.shape[:-2], points.shape[:-2])
    except ValueError:
        raise ValueError(f"points: expected shape (P, {dims}), or one set for each matrix "
                         f"{matrix.shape}, got {points.shape}") from None  # fmt: skip
    if matrix.shape[-2] == dims:
        last = np.zeros((*matrix.shape[:-2], 1, dims + 1))
        last[..., -1] = 1.0
        matrix = np.concatenate([matrix, last], -2)
    return matrix, points


def _homogeneous(matrix, points):
    """Return numerators and divisors of the moved points."""
    moved = points @ np.swapaxes(matrix[..., :-1], -1, -2) + matrix[..., None, :, -1]
    return moved[..., :-1], moved[..., -1:]


def transform_boxes(
    matrix: Any,
    boxes: Array,
    size: tuple[int, int] | None = None,
    *,
    min_visible: float = 0.0,
    pixels: str = "edges",
) -> tuple[np.ndarray, np.ndarray]:
    """Map boxes: each becomes the smallest box that holds its four moved corners.

    ``matrix (3, 3), boxes (K, 4) -> boxes (K, 4), kept (K,)``

    Parameters
    ----------
    matrix : (2, 3) or (3, 3) array, or Estimate
        From input to output pixels, as for :func:`transform_points`; pixel centres are integers.
    boxes : (K, 4) array
        (x0, y0, x1, y1) with x0 <= x1 and y0 <= y1.
    size : (H, W), optional
        Sides of the output. The boxes are clipped to it.
    min_visible : number
        From 0 to 1: the share of a box's area that must remain after clipping. A box of which
        nothing remains is never kept.
    pixels : str
        What the numbers of a box count. "edges": pixel edges, as those of
        :func:`numba_stn.crop_and_resize` and of slices, so that the whole image is (0, 0, W, H).
        "centers": pixel centres, so that the whole image is (0, 0, W - 1, H - 1).

    Returns
    -------
    boxes : (K, 4) array of float64
        All boxes, in the order in which they came.
    kept : (K,) array of bool
        Whether enough of a box is visible. Labels are selected by it too.

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape, is not finite or out of range, or a box reaches to
        infinity in a projective map.

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> image = np.zeros((60, 80))
    >>> rotated, matrix = stn.rotate(image, 90, expand=True, return_matrix=True)
    >>> stn.transform_boxes(matrix, [[70, 0, 80, 20]], rotated.shape)
    (array([[ 0.,  0., 20., 10.]]), array([ True]))
    """
    if pixels not in ("edges", "centers"):
        raise ValueError(f"pixels: expected 'edges' or 'centers', got {pixels!r}")
    least = check_number("min_visible", min_visible, least=0, most=1)
    boxes = _check_boxes(boxes)
    shift = 0.5 if pixels == "edges" else 0.0
    corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2) - shift
    if not hasattr(matrix, "transform_points"):
        whole, _ = _check(matrix, corners[:1].reshape(-1, 2))
        divisors = _homogeneous(whole, corners)[1]
        if not ((divisors > 0).all(1) | (divisors < 0).all(1)).all():
            raise ValueError("boxes: expected boxes that stay finite, got one with a corner at "
                             "infinity or beyond it")  # fmt: skip
    moved = transform_points(matrix, corners.reshape(-1, 2)).reshape(-1, 4, 2) + shift
    found = np.concatenate([moved.min(1), moved.max(1)], 1)
    if size is None:
        return found, np.ones(len(found), bool)
    return _clip(found, _check_size(size), least, shift)


def _check_size(size):
    """Return (H, W)."""
    found = check_numbers("size", size)
    if found.shape != (2,) or (found < 0).any():
        raise ValueError(f"size: expected two sides (H, W), got {size!r}")
    return found


def _check_boxes(boxes):
    """Return boxes (K, 4) whose sides are not negative."""
    found = check_numbers("boxes", boxes)
    if found.size == 0:
        found = found.reshape(0, 4)
    if found.ndim != 2 or found.shape[1] != 4:
        raise ValueError(f"boxes: expected shape (K, 4), got {found.shape}")
    if not (found[:, :2] <= found[:, 2:]).all():
        raise ValueError(f"boxes: expected x0 <= x1 and y0 <= y1, got {found.tolist()}")
    return found


def _clip(boxes, size, min_visible, shift):
    """Clip boxes to an output, and find those of which enough remains."""
    height, width = size
    low = shift - 0.5  # where the first pixel begins
    least = np.array([low, low, low, low])
    most = np.array([width, height, width, height]) + low
    clipped = np.clip(boxes, least, most)
    before, after = (np.prod(found[:, 2:] - found[:, :2], axis=1) for found in (boxes, clipped))
    visible = np.divide(after, before, out=np.zeros(len(boxes)), where=before > 0)
    return clipped, (visible > 0) & (visible >= min_visible)
