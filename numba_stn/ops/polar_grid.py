"""Polar grids: an image resampled around a point, by angle and distance."""

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np

from .docstrings import documented
from .grids import (
    check_coordinates,
    check_image_size,
    compute_normalisation,
    grid_from_pixels,
    grid_from_pixels_vjp,
    to_dtype_of,
)
from .validate import check_flag, check_output_size, corner_offset

__all__ = ["polar_grid", "polar_grid_vjp"]

Array = Any
Sides = Sequence[int]


@documented
def polar_grid(
    size: Sides,
    image_size: Sides,
    center: Array,
    radius: float,
    *,
    log: bool = False,
    align_corners: bool = False,
) -> Array:
    """Compute a grid whose rows are angles and whose columns are distances from a point.

    ``center (N, 2) -> grid (N, H_out, W_out, 2)``

    Row i has the angle ``2 pi i / H_out``, from x towards y. Column j has the distance
    ``j radius / W_out``, or with ``log`` the distance ``radius^(j / W_out)``, which begins at one
    pixel. ``skimage.transform.warp_polar`` does the same, as does ``cv2.warpPolar``, except that
    its logarithmic distance is one less. Rotating the image then shifts the result along the rows.

    Parameters
    ----------
    size : (H_out, W_out)
        The output's sides: the numbers of angles and of distances.
    image_size : (H, W)
        The images' sides.
    center : (x, y), or (N, 2) array of float32 or float64
        The point or points, in pixels.
    radius : float
        Distance of the column after the last, in pixels.
    log : bool
        Whether the distance grows by a constant factor per column. Scaling the image then shifts
        the result along the columns.
    {align_corners}

    Returns
    -------
    grid : (N, H_out, W_out, 2) array
        Of the centre's dtype if that is an array of float32, otherwise float64. N is 1 for a
        single point.

    Raises
    ------
    {errors}

    Examples
    --------
    Right of, below, left of and above the centre of 5 x 5 pixels, at a distance of 1 pixel:

    >>> import numpy as np, numba_stn as stn
    >>> grid = stn.polar_grid((4, 2), (5, 5), (2, 2), 2.0)
    >>> stn.pixels_from_grid(grid, (5, 5))[0, :, 1].round(9) + 0.0
    array([[3., 2.],
           [2., 3.],
           [1., 2.],
           [2., 1.]])
    """
    rows, columns = check_output_size(size, None)
    minimum = int(check_flag("log", log))
    if not isinstance(radius, (Real, np.number)) or not minimum < float(radius) < math.inf:
        raise ValueError(f"radius: expected a number of pixels above {minimum}, got {radius!r}")
    kernels, center = _check_center(center)
    if kernels:
        sides, off = check_image_size(image_size, 2), corner_offset(align_corners)
        factors, centres = compute_normalisation(sides, off)
        grid = kernels.coords.polar(center, (rows, columns), float(radius), log, centres, factors)
        return kernels.returned(grid)
    angle, part = 2 * np.pi * np.arange(rows)[:, None] / rows, np.arange(columns) / columns
    distance = float(radius) ** part if log else float(radius) * part
    offsets = np.stack([np.cos(angle) * distance, np.sin(angle) * distance], axis=-1)
    pixels = center[:, None, None] + to_dtype_of(center, offsets)
    return grid_from_pixels(pixels, image_size, align_corners=align_corners)


@documented
def polar_grid_vjp(dgrid: Array, image_size: Sides, *, align_corners: bool = False) -> Array:
    """Compute the gradient of :func:`polar_grid` with respect to the centres.

    ``dgrid (N, H_out, W_out, 2) -> dcenter (N, 2)``

    Parameters
    ----------
    {dgrid}
    image_size, align_corners
        As given to :func:`polar_grid`.

    Returns
    -------
    dcenter : (N, 2) array of dgrid's dtype
        Summed in float64, except for arrays on a GPU that are not CuPy's.

    Raises
    ------
    {errors}

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


def _check_center(center):
    """Return the kernels for the points, or None, and the points as (N, 2) floating numbers."""
    if isinstance(center, (tuple, list)):
        try:
            center = np.asarray(center, np.float64)
        except ValueError:
            raise TypeError(f"center: expected numbers (x, y), got {center!r}") from None
    kernels, center, dims = check_coordinates("center", center)
    if dims != 2 or len(center.shape) > 2:
        raise ValueError(f"center: expected shape (2,) or (N, 2), got {tuple(center.shape)}")
    return kernels, center if kernels else center.reshape(-1, 2)
