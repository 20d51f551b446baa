"""Maps for :func:`numba_stn.remap`: where each output pixel samples the input.

Each function returns ``(map_x, map_y)``, two float64 arrays (H, W) of positions in pixels, with
pixel centres at integers; NaN is outside. ``size`` is (H, W) of the output, ``center`` (x, y).

The inverse of a map is another one: a swirl by the opposite strength and rotation, a mesh with
points and targets exchanged, :func:`distort` of :func:`undistort`, :func:`from_polar` of
:func:`polar`.

For batches with gradients, ``stn.grid_from_pixels(np.stack(maps, -1)[None], (H, W))`` is the grid.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..ops.validate import check_image_shape
from .matrix_checks import check_numbers

__all__ = ["distort", "from_polar", "piecewise_affine", "polar", "swirl", "undistort"]

Array = Any
Sides = tuple[int, int]
Maps = tuple[np.ndarray, np.ndarray]


def _offsets(size, center):
    """Return the sides, the centre, and x and y of each pixel from it."""
    height, width = check_image_shape(size)
    default = ((width - 1) / 2, (height - 1) / 2)
    found = check_numbers("center", default if center is None else center)
    if found.shape != (2,):
        raise ValueError(f"center: expected (x, y), got shape {found.shape}")
    y, x = np.meshgrid(np.arange(height) - found[1], np.arange(width) - found[0], indexing="ij")
    return found, x, y


def _number(name, value, positive=False):
    """Return a finite number, perhaps a positive one."""
    found = check_numbers(name, value)
    if found.shape != () or (positive and found <= 0):
        expected = "a positive number" if positive else "a number"
        raise ValueError(f"{name}: expected {expected}, got {value!r}")
    return float(found)


# --- Swirls ---------------------------------------------------------------------------------------


def swirl(
    size: Sides,
    center: Array = None,
    strength: float = 1.0,
    radius: float = 100.0,
    rotation: float = 0.0,
) -> Maps:
    """Compute the map of a swirl: rotated most in the centre, and not at all far from it.

    ``-> map_x (H, W), map_y (H, W)``

    A pixel at the distance r from the centre samples the same distance, at an angle that is larger
    by ``rotation + strength exp(-5 r / (radius ln 2))``. The inverse is the swirl with
    ``-strength`` and ``-rotation``.

    Parameters
    ----------
    size : (H, W)
    center : (x, y), optional
        By default, the middle.
    strength : number
        Angle in the centre, in radians.
    radius : number
        Where the angle has fallen to a thousandth, in pixels.
    rotation : number
        Angle that all pixels have, in radians.

    Returns
    -------
    map_x, map_y : (H, W) arrays

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape or range.

    Notes
    -----
    ``skimage.transform.swirl`` with the same numbers samples the same positions, except that its
    default centre is (W / 2, H / 2).

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> image = np.float32([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    >>> stn.remap(image, *stn.maps.swirl((3, 3), strength=0, rotation=np.pi / 2)).round(3)
    array([[3., 6., 9.],
           [2., 5., 8.],
           [1., 4., 7.]], dtype=float32)
    """
    (x0, y0), x, y = _offsets(size, center)
    decay = _number("radius", radius, positive=True) / 5 * math.log(2)
    distance = np.hypot(x, y)
    turn = _number("rotation", rotation) + _number("strength", strength) * np.exp(-distance / decay)
    cos, sin = np.cos(turn), np.sin(turn)
    return x0 + x * cos - y * sin, y0 + x * sin + y * cos


# --- Polar images ---------------------------------------------------------------------------------


def polar(size: Sides, center: Array, radius: float, *, log: bool = False) -> Maps:
    """Compute the map whose rows are angles and whose columns are distances.

    ``-> map_x (H, W), map_y (H, W)``; see :func:`numba_stn.warp_polar`.

    Parameters
    ----------
    size : (H, W)
        The numbers of angles and of distances.
    center : (x, y)
        In the image that is sampled.
    radius : number
        Distance of the column after the last.
    log : bool
        Whether the distance grows by a constant factor.

    Returns
    -------
    map_x, map_y : (H, W) arrays

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape or range.

    Examples
    --------
    >>> import numba_stn as stn
    >>> x, y = stn.maps.polar((4, 2), (5, 5), 2.0)
    >>> x[:, 1].round(9)
    array([6., 5., 4., 5.])
    """
    height, width = check_image_shape(size)
    (x0, y0), _, _ = _offsets((1, 1), center)
    angles = 2 * np.pi * np.arange(height)[:, None] / height
    shares = np.arange(width) / width
    radius = _check_radius(radius, log)
    distances = radius**shares if log else radius * shares
    return x0 + distances * np.cos(angles), y0 + distances * np.sin(angles)


def from_polar(
    size: Sides, polar_size: Sides, center: Array, radius: float, *, log: bool = False
) -> Maps:
    """Compute where in a polar image each pixel is: the inverse of :func:`polar`.

    ``-> map_x (H, W), map_y (H, W)``; :func:`numba_stn.unwarp_polar` also joins the first and the
    last angle.

    Parameters
    ----------
    size : (H, W)
        The output's sides.
    polar_size : (H_polar, W_polar)
        The sides of the polar image.
    center : (x, y)
        In the output.
    radius, log
        As given to :func:`polar`.

    Returns
    -------
    map_x, map_y : (H, W) arrays
        Distance and angle, in pixels of the polar image; NaN beyond the radius.

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape or range.

    Examples
    --------
    >>> import numba_stn as stn
    >>> x, y = stn.maps.from_polar((3, 3), (4, 6), (1, 1), 3.0)
    >>> y
    array([[2.5, 3. , 3.5],
           [2. , 0. , 0. ],
           [1.5, 1. , 0.5]])
    """
    angles, distances = check_image_shape(polar_size)
    _, x, y = _offsets(size, center)
    radius = _check_radius(radius, log)
    distance = np.hypot(x, y)
    with np.errstate(divide="ignore"):
        share = np.log(distance) / math.log(radius) if log else distance / radius
    column = np.where(distance <= radius, share * distances, np.nan)
    if log:
        column = np.where(distance < 1, 0.0, column)  # inside of the first ring, its value
    return column, np.arctan2(y, x) % (2 * np.pi) * (angles / (2 * np.pi))


def _check_radius(radius, log):
    """Return a positive radius, or one above 1."""
    found = _number("radius", radius, positive=True)
    if log and found <= 1:
        raise ValueError(f"radius: expected a number above 1 with log=True, got {radius!r}")
    return found


# --- Meshes ---------------------------------------------------------------------------------------


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
    height, width = check_image_shape(size)
    points, targets = check_numbers("points", points), check_numbers("targets", targets)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3:
        raise ValueError(f"points: expected at least three (N, 2), got shape {points.shape}")
    if targets.shape != points.shape:
        raise ValueError(f"targets: expected shape {points.shape}, got {targets.shape}")
    found = np.full((2, height, width), np.nan)
    for corners in _check_triangles(points, triangles):
        _fill_triangle(found, points[corners], targets[corners])
    return found[0], found[1]


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


def _fill_triangle(found, corners, targets):
    """Write the positions of the pixels in one triangle, by their barycentric coordinates."""
    _, height, width = found.shape
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
    for axis in range(2):
        first, second, third = targets[:, axis]
        values = first + b * (second - first) + c * (third - first)
        found[axis, top:bottom, left:right][inside] = values[inside]


# --- Lenses ---------------------------------------------------------------------------------------


def undistort(size: Sides, coefficients: Sequence[float], focal: Any, center: Array = None) -> Maps:
    """Compute the map that removes a lens's radial distortion.

    ``-> map_x (H, W), map_y (H, W)``

    The output is the image of an ideal lens. Its pixel at the distance r from the centre, in units
    of the focal length, samples the photograph at ``r (1 + k1 r^2 + k2 r^4 + k3 r^6)`` (Brown
    1966). A positive k1 is a pincushion in the photograph, a negative one a barrel.

    Parameters
    ----------
    size : (H, W)
    coefficients : up to three numbers
        k1, k2, k3.
    focal : number, or (fx, fy)
        Focal length in pixels.
    center : (x, y), optional
        The principal point; by default, the middle.

    Returns
    -------
    map_x, map_y : (H, W) arrays

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape or range.

    Notes
    -----
    With OpenCV's ``cameraMatrix`` of ``focal`` and ``center`` and ``distCoeffs = (k1, k2, 0, 0,
    k3)``, these are the maps of ``cv2.initUndistortRectifyMap``.

    Examples
    --------
    >>> import numba_stn as stn
    >>> x, y = stn.maps.undistort((1, 5), [0.1], focal=2.0)
    >>> x
    array([[-0.2 ,  0.975,  2.   ,  3.025,  4.2 ]])
    """
    k, (fx, fy) = _check_lens(coefficients, focal)
    (x0, y0), x, y = _offsets(size, center)
    squares = (x / fx) ** 2 + (y / fy) ** 2
    factor = 1 + squares * (k[0] + squares * (k[1] + squares * k[2]))
    return x0 + x * factor, y0 + y * factor


def distort(size: Sides, coefficients: Sequence[float], focal: Any, center: Array = None) -> Maps:
    """Compute the map that adds a lens's radial distortion: the inverse of :func:`undistort`.

    ``-> map_x (H, W), map_y (H, W)``

    The output is what the lens makes of an ideal image. The equation ``r (1 + k1 r^2 + ...) = s``
    is solved by Newton's method for each pixel.

    Parameters
    ----------
    size, coefficients, focal, center
        As for :func:`undistort`.

    Returns
    -------
    map_x, map_y : (H, W) arrays
        NaN where the lens shows nothing: beyond the largest distance that it makes.

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape or range.

    Examples
    --------
    >>> import numba_stn as stn
    >>> x, y = stn.maps.distort((1, 5), [0.0], focal=2.0)
    >>> x
    array([[0., 1., 2., 3., 4.]])
    """
    k, (fx, fy) = _check_lens(coefficients, focal)
    (x0, y0), x, y = _offsets(size, center)
    s = np.hypot(x / fx, y / fy)
    r, last = np.minimum(s, _turning_point(k)), _turning_point(k)
    for _ in range(60):
        square = r * r
        error = r * (1 + square * (k[0] + square * (k[1] + square * k[2]))) - s
        slope = 1 + square * (3 * k[0] + square * (5 * k[1] + square * 7 * k[2]))
        r = np.clip(r - error / np.where(slope > 1e-12, slope, np.inf), 0, last)
    square = r * r
    error = r * (1 + square * (k[0] + square * (k[1] + square * k[2]))) - s
    factor = np.where(s > 0, r / np.where(s > 0, s, 1), 1.0)
    factor = np.where(abs(error) < 1e-9 * (1 + s), factor, np.nan)
    return x0 + x * factor, y0 + y * factor


def _turning_point(k):
    """Return the distance up to which the distorted distance grows."""
    roots = np.roots([7 * k[2], 5 * k[1], 3 * k[0], 1.0])
    squares = roots.real[(abs(roots.imag) < 1e-12 * (1 + abs(roots.real))) & (roots.real > 0)]
    return math.sqrt(squares.min()) if len(squares) else np.inf


def _check_lens(coefficients, focal):
    """Return (k1, k2, k3) and (fx, fy)."""
    k = check_numbers("coefficients", coefficients)
    if k.ndim != 1 or not 1 <= len(k) <= 3:
        raise ValueError(f"coefficients: expected one to three numbers, got shape {k.shape}")
    lengths = check_numbers("focal", focal)
    if lengths.shape not in ((), (2,)) or not (lengths > 0).all():
        raise ValueError(f"focal: expected a positive number, or two, got {focal!r}")
    return [*k, 0.0, 0.0][:3], np.broadcast_to(lengths, 2)
