"""Grids of polar coordinates: an image seen from a point, by angle and distance."""

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np

from .grids import (
    as_dtype_of,
    check_coordinates,
    check_image_size,
    compute_normalisation,
    grid_from_pixels,
    grid_from_pixels_vjp,
)
from .validate import check_flag, check_output_size, corner_offset

__all__ = ["polar_grid", "polar_grid_vjp"]

Array = Any
Sides = Sequence[int]


def polar_grid(
    size: Sides,
    image_size: Sides,
    center: Array,
    radius: float,
    *,
    log: bool = False,
    align_corners: bool = False,
) -> Array:
    """Grid whose rows are angles and whose columns are distances from a point.

    Row i reads at the angle ``2 pi i / H_out``, from x towards y, and column j at the distance
    ``j radius / W_out``, or with ``log`` ``radius^(j / W_out)``: from one pixel on. That is what
    ``skimage.transform.warp_polar`` does, and ``cv2.warpPolar``, whose logarithmic distance is
    less by one. An image that is turned is then shifted along the rows.

    Parameters
    ----------
    size : (H_out, W_out)
        The output's sides: how many angles and distances.
    image_size : (H, W)
        The images' sides.
    center : (x, y), or (N, 2) array of float32 or float64
        The point or points, in pixels.
    radius : float
        The distance that the column after the last would have, in pixels.
    log : bool
        Whether distances grow by a factor from column to column, so that a scale is a shift.
    align_corners : bool
        As ``grid_sample`` will be given it.

    Returns
    -------
    grid : (N, H_out, W_out, 2) array of the centre's dtype
        float64 where the centre is not an array of float32; N is 1 for a single point.

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape, type or value; the message names it.

    Examples
    --------
    To the right, down, left and up of the middle of 5 x 5 pixels, 0 and 1 pixel far:

    >>> import numpy as np, numba_stn as stn
    >>> grid = stn.polar_grid((4, 2), (5, 5), (2, 2), 2.0)
    >>> stn.pixels_from_grid(grid, (5, 5))[0, :, 1].round(9) + 0.0
    array([[3., 2.],
           [2., 3.],
           [1., 2.],
           [2., 1.]])
    """
    rows, columns = check_output_size(size, None)
    least = int(check_flag("log", log))
    if not isinstance(radius, (Real, np.number)) or not least < float(radius) < math.inf:
        raise ValueError(f"radius: expected a number of pixels above {least}, got {radius!r}")
    kernels, center = _check_center(center)
    if kernels:
        factors, middles = compute_normalisation(
            check_image_size(image_size, 2), corner_offset(align_corners)
        )
        grid = kernels.coords.polar(center, (rows, columns), float(radius), log, middles, factors)
        return kernels.returned(grid)
    angle, part = 2 * np.pi * np.arange(rows)[:, None] / rows, np.arange(columns) / columns
    distance = float(radius) ** part if log else float(radius) * part
    ways = np.stack([np.cos(angle) * distance, np.sin(angle) * distance], axis=-1)
    pixels = center[:, None, None] + as_dtype_of(ways, center)
    return grid_from_pixels(pixels, image_size, align_corners=align_corners)


def _check_center(center):
    """The kernels for points, if there are any, and the points, (N, 2) floating numbers."""
    if isinstance(center, (tuple, list)):
        try:
            center = np.asarray(center, np.float64)
        except ValueError:
            raise TypeError(f"center: expected numbers (x, y), got {center!r}") from None
    kernels, center, dims = check_coordinates("center", center)
    if dims != 2 or len(center.shape) > 2:
        raise ValueError(f"center: expected shape (2,) or (N, 2), got {tuple(center.shape)}")
    return kernels, center if kernels else center.reshape(-1, 2)


def polar_grid_vjp(dgrid: Array, image_size: Sides, *, align_corners: bool = False) -> Array:
    """Gradient of :func:`polar_grid` with respect to the centres.

    Parameters
    ----------
    dgrid : (N, H_out, W_out, 2) array of float32 or float64
        Gradient of the loss with respect to the grid.
    image_size, align_corners
        As given to :func:`polar_grid`.

    Returns
    -------
    dcenter : (N, 2) array of dgrid's dtype
        Summed in float64, but for arrays on a GPU that are not CuPy's.

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape, type or value; the message names it.

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> stn.polar_grid_vjp(np.ones((1, 4, 2, 2)), (5, 4))
    array([[4. , 3.2]])
    """
    kernels, dgrid, _ = check_coordinates("dgrid", dgrid, whole=True, dims=2)
    if kernels:
        off = corner_offset(align_corners)
        factors, _ = compute_normalisation(check_image_size(image_size, 2), off)
        dtheta = kernels.empty((len(dgrid), 2, 3), dgrid.dtype, dgrid)
        kernels.affine_grid_vjp(dgrid, off, dtheta)
        return kernels.returned(kernels.coords.shifts(dtheta, factors))
    total = dgrid.sum(axis=(1, 2), dtype=np.float64)
    dcenter = grid_from_pixels_vjp(total, image_size, align_corners=align_corners)
    return dcenter.astype(dgrid.dtype)
