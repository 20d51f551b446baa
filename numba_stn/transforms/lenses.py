"""Maps of a lens's radial distortion, for :mod:`.maps`."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .map_checks import check_gradients, offsets
from .matrix_checks import check_numbers

__all__ = ["distort", "undistort", "undistort_vjp"]

Array = Any
Sides = tuple[int, int]
Maps = tuple[np.ndarray, np.ndarray]


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
    (x0, y0), x, y = offsets(size, center)
    squares = (x / fx) ** 2 + (y / fy) ** 2
    factor = 1 + squares * (k[0] + squares * (k[1] + squares * k[2]))
    return x0 + x * factor, y0 + y * factor


def undistort_vjp(
    dmap_x: Array, dmap_y: Array, size: Sides, coefficients: Sequence[float], focal: Any,
    center: Array = None,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Compute the gradients of :func:`undistort` with respect to its parameters.

    ``dmap_x (H, W), dmap_y (H, W) -> {"coefficients", "focal", "center"}``

    Parameters
    ----------
    dmap_x, dmap_y : (H, W) arrays
        Gradients of the loss with respect to the maps.
    size, coefficients, focal, center
        As given to :func:`undistort`.

    Returns
    -------
    gradients : dict
        Arrays of the shapes of the coefficients, of focal, and (2,) for the centre.

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape or range.

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> dx, dy = np.ones((1, 3)), np.zeros((1, 3))
    >>> found = stn.maps.undistort_vjp(dx, dy, (1, 3), [0.1], 1.0, (0, 0))
    >>> found["coefficients"]
    array([9.])
    """
    dx, dy = check_gradients(dmap_x, dmap_y, size)
    k, (fx, fy) = _check_lens(coefficients, focal)
    _, x, y = offsets(size, center)
    s = (x / fx) ** 2 + (y / fy) ** 2
    factor = 1 + s * (k[0] + s * (k[1] + s * k[2]))
    dfactor = dx * x + dy * y
    ds = dfactor * (k[0] + s * (2 * k[1] + s * 3 * k[2]))
    dfocal = np.array([(-2 * ds * x**2).sum() / fx**3, (-2 * ds * y**2).sum() / fy**3])
    return {
        "coefficients": np.array([(dfactor * s**n).sum() for n in (1, 2, 3)])[: len(coefficients)],
        "focal": dfocal if np.ndim(focal) else dfocal.sum(),
        "center": np.array([
            (dx * (1 - factor) - 2 * ds * x / fx**2).sum(),
            (dy * (1 - factor) - 2 * ds * y / fy**2).sum(),
        ]),
    }  # fmt: skip


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
    (x0, y0), x, y = offsets(size, center)
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
