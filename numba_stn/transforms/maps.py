"""Maps for :func:`numba_stn.remap`: where each output pixel samples the input.

Each function returns ``(map_x, map_y)``, two float64 arrays (H, W) of positions in pixels, with
pixel centres at integers; NaN is outside. ``size`` is (H, W) of the output, ``center`` (x, y).

The inverse of a map is another one: a swirl by the opposite strength and rotation, a mesh with
points and targets exchanged, :func:`distort` of :func:`undistort`, :func:`from_polar` of
:func:`polar`.

For batches with gradients, ``stn.grid_from_pixels(np.stack(maps, -1)[None], (H, W))`` is the grid;
:func:`numba_stn.grid_sample_vjp` and :func:`numba_stn.grid_from_pixels_vjp` lead back to the maps,
and the ``_vjp`` of a map to its parameters.
"""

import math
from typing import Any

import numpy as np

from ..ops.validate import check_image_shape
from .lenses import distort, undistort, undistort_vjp
from .map_checks import check_gradients, offsets
from .matrix_checks import check_number
from .meshes import piecewise_affine, piecewise_affine_vjp

__all__ = [
    "distort",
    "from_polar",
    "piecewise_affine",
    "piecewise_affine_vjp",
    "polar",
    "swirl",
    "swirl_vjp",
    "undistort",
    "undistort_vjp",
]

Array = Any
Sides = tuple[int, int]
Maps = tuple[np.ndarray, np.ndarray]


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
    (x0, y0), x, y = offsets(size, center)
    decay = check_number("radius", radius, positive=True) / 5 * math.log(2)
    distance = np.hypot(x, y)
    turn = check_number("rotation", rotation) + check_number("strength", strength) * np.exp(
        -distance / decay
    )
    cos, sin = np.cos(turn), np.sin(turn)
    return x0 + x * cos - y * sin, y0 + x * sin + y * cos


def swirl_vjp(
    dmap_x: Array,
    dmap_y: Array,
    size: Sides,
    center: Array = None,
    strength: float = 1.0,
    radius: float = 100.0,
    rotation: float = 0.0,
) -> dict[str, np.ndarray]:
    """Compute the gradients of :func:`swirl` with respect to its parameters.

    ``dmap_x (H, W), dmap_y (H, W) -> {"strength", "radius", "rotation", "center"}``

    Parameters
    ----------
    dmap_x, dmap_y : (H, W) arrays
        Gradients of the loss with respect to the maps.
    size, center, strength, radius, rotation
        As given to :func:`swirl`.

    Returns
    -------
    gradients : dict
        Numbers, and (2,) for the centre.

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape or range.

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> found = stn.maps.swirl_vjp(np.zeros((3, 3)), np.eye(3), (3, 3), strength=0.0)
    >>> found["rotation"].round(9) + 0.0
    np.float64(0.0)
    """
    dx, dy = check_gradients(dmap_x, dmap_y, size)
    _, x, y = offsets(size, center)
    radius = check_number("radius", radius, positive=True)
    decay, strength = radius / 5 * math.log(2), check_number("strength", strength)
    distance = np.hypot(x, y)
    share = np.exp(-distance / decay)
    turn = check_number("rotation", rotation) + strength * share
    cos, sin = np.cos(turn), np.sin(turn)
    dturn = dy * (x * cos - y * sin) - dx * (x * sin + y * cos)
    ddistance = -dturn * strength * share / decay
    towards = np.divide(ddistance, distance, out=np.zeros_like(x), where=distance > 0)
    return {
        "strength": (dturn * share).sum(),
        "radius": -(ddistance * distance).sum() / radius,
        "rotation": dturn.sum(),
        "center": np.array([
            (dx * (1 - cos) - dy * sin - towards * x).sum(),
            (dx * sin + dy * (1 - cos) - towards * y).sum(),
        ]),
    }  # fmt: skip


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
    (x0, y0), _, _ = offsets((1, 1), center)
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
    _, x, y = offsets(size, center)
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
    found = check_number("radius", radius, positive=True)
    if log and found <= 1:
        raise ValueError(f"radius: expected a number above 1 with log=True, got {radius!r}")
    return found
