"""Maps of meshes of triangles, for :mod:`.maps`."""

from typing import Any

import numpy as np

from ..ops.validate import check_image_shape
from .map_checks import check_gradients
from .matrix_checks import check_numbers

__all__ = ["piecewise_affine", "piecewise_affine_vjp"]

Array = Any
Sides = tuple[int, int]
Maps = tuple[np.ndarray, np.ndarray]


def piecewise_affine(
    size: Sides, points: Array, targets: Array, triangles: Array = None
) -> Maps:  # fmt: skip
    """Compute the map of a mesh: affine in each triangle, and continuous across its edges.

    ``points (N, 2), targets (N, 2) -> map_x (H, W), map_y (H, W)``

    Parameters
    ----------
    size : (H, W)
    points : (N, 2) array
        (x, y) of the mesh's corners in the output.
    targets : (N, 2) array
        (x, y) of where each of them samples the input.
    triangles : (K, 3) array of integers, optional
        Three corners each. By default, the Delaunay triangles of the points. The inverse map has
        points and targets exchanged, and the same triangles.

    Returns
    -------
    map_x, map_y : (H, W) arrays
        NaN outside the mesh.

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape or is not finite, or the points are on a line.

    Notes
    -----
    ``skimage.transform.PiecewiseAffineTransform.from_estimate(points, targets)`` is the same map.

    Examples
    --------
    >>> import numba_stn as stn
    >>> corners = [[0, 0], [4, 0], [0, 4], [4, 4]]
    >>> x, y = stn.maps.piecewise_affine((1, 5), corners, [[0, 0], [8, 0], [0, 4], [8, 4]])
    >>> x
    array([[0., 2., 4., 6., 8.]])
    """
    points, targets = _check_points(points, targets)
    triangles = _check_triangles(points, triangles)
    owner, shares = _locate(check_image_shape(size), points, triangles)
    positions = (shares[..., None] * targets[triangles[owner]]).sum(-2)
    positions[owner < 0] = np.nan
    return positions[..., 0], positions[..., 1]


def piecewise_affine_vjp(
    dmap_x: Array, dmap_y: Array, points: Array, targets: Array, triangles: Array = None
) -> np.ndarray:  # fmt: skip
    """Compute the gradient of :func:`piecewise_affine` with respect to the targets.

    ``dmap_x (H, W), dmap_y (H, W) -> dtargets (N, 2)``

    Parameters
    ----------
    dmap_x, dmap_y : (H, W) arrays
        Gradients of the loss with respect to the maps; those outside the mesh have no effect.
    points, targets, triangles
        As given to :func:`piecewise_affine`.

    Returns
    -------
    dtargets : (N, 2) array

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape or is not finite, or the points are on a line.

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> corners = [[0, 0], [4, 0], [0, 4], [4, 4]]
    >>> one = np.ones((1, 5))
    >>> stn.maps.piecewise_affine_vjp(one, 0 * one, corners, corners)[:2]
    array([[2.5, 0. ],
           [2.5, 0. ]])
    """
    size = np.shape(dmap_x)
    dx, dy = check_gradients(dmap_x, dmap_y, size)
    points, targets = _check_points(points, targets)
    triangles = _check_triangles(points, triangles)
    owner, shares = _locate(size, points, triangles)
    inside, dtargets = owner >= 0, np.zeros_like(targets)
    corners, gradients = triangles[owner[inside]], np.stack([dx, dy], -1)[inside]
    for k in range(3):
        np.add.at(dtargets, corners[:, k], shares[inside][:, k, None] * gradients)
    return dtargets


def _check_points(points, targets):
    """Return points and targets (N, 2)."""
    points, targets = check_numbers("points", points), check_numbers("targets", targets)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3:
        raise ValueError(f"points: expected at least three (N, 2), got shape {points.shape}")
    if targets.shape != points.shape:
        raise ValueError(f"targets: expected shape {points.shape}, got {targets.shape}")
    return points, targets


def _check_triangles(points, triangles):
    """Return triangles (K, 3), by default Delaunay's."""
    if triangles is None:
        from scipy.spatial import Delaunay, QhullError

        try:
            return Delaunay(points).simplices
        except QhullError:
            raise ValueError("points: expected points that are not on a line") from None
    found = np.asarray(triangles)
    if found.dtype.kind not in "iu" or found.ndim != 2 or found.shape[1] != 3:
        raise ValueError(f"triangles: expected (K, 3) integers, got {found.shape} of {found.dtype}")
    if found.size and not 0 <= found.min() <= found.max() < len(points):
        raise ValueError(f"triangles: expected indices of {len(points)} points, got "
                         f"{found.min()} to {found.max()}")  # fmt: skip
    return found


def _locate(size, points, triangles):
    """Return each pixel's triangle, -1 outside the mesh, and its shares of the three corners."""
    owner, shares = np.full(size, -1), np.zeros((*size, 3))
    for number, corners in enumerate(triangles):
        _locate_in(owner, shares, number, points[corners])
    return owner, shares


def _locate_in(owner, shares, number, corners):
    """Find the pixels in one triangle, by their barycentric coordinates."""
    height, width = owner.shape
    (x0, y0), (x1, y1) = np.ceil(corners.min(0) - 1e-9), np.floor(corners.max(0) + 1e-9)
    left, top = max(0, int(x0)), max(0, int(y0))
    right, bottom = min(width - 1, int(x1)) + 1, min(height - 1, int(y1)) + 1
    edges = (corners[1:] - corners[0]).T
    if left >= right or top >= bottom or abs(np.linalg.det(edges)) < 1e-12:
        return
    y, x = np.meshgrid(np.arange(top, bottom), np.arange(left, right), indexing="ij")
    offsets = np.stack([x - corners[0, 0], y - corners[0, 1]])
    b, c = np.tensordot(np.linalg.inv(edges), offsets, 1)
    inside = (b >= -1e-9) & (c >= -1e-9) & (b + c <= 1 + 1e-9)
    owner[top:bottom, left:right][inside] = number
    shares[top:bottom, left:right][inside] = np.stack([1 - b - c, b, c], -1)[inside]
