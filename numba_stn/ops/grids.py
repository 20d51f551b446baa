"""Grids from displacement fields and from pixel coordinates.

:func:`numba_stn.grid_sample` takes normalised coordinates. The functions here compute them from
pixel coordinates: pixel centres are integers, (0, 0) is the first pixel, x comes before y before z.
``image_size`` is the spatial shape of the images that the grid will sample: (H, W) or (D, H, W).

All of these maps are linear up to a shift, so each ``_vjp`` needs only the gradient with respect to
the result. Arrays of CuPy are processed by its own functions, others by kernels; the result is of
the same kind.
"""

from collections.abc import Sequence
from functools import lru_cache
from operator import index
from typing import Any

import numpy as np

from ..kernels import backend, on_gpu
from ..kernels.cpu import arrays, coordinate_arrays
from ..utils.namespace import is_cupy, namespace
from .docstrings import documented
from .validate import check_not_empty, corner_offset

__all__ = [
    "grid_from_displacement",
    "grid_from_displacement_vjp",
    "grid_from_pixels",
    "grid_from_pixels_vjp",
    "pixels_from_grid",
    "pixels_from_grid_vjp",
]

Array = Any
Sides = Sequence[int]


# --- Displacement fields --------------------------------------------------------------------------


@documented
def grid_from_displacement(
    displacement: Array, image_size: Sides | None = None, *, align_corners: bool = False
) -> Array:
    """Compute the grid that samples each pixel at its own position plus a displacement.

    ``displacement (N, H_out, W_out, 2) -> grid (N, H_out, W_out, 2)``

    A pixel's own position is that of the identity map: the same pixel if the images are as large
    as the output, otherwise the position at the same fraction of each side.

    Parameters
    ----------
    displacement : (N, H_out, W_out, 2) or (N, D_out, H_out, W_out, 3) array
        In pixels of the images, x before y before z; float32 or float64.
    image_size : (H, W) or (D, H, W), optional
        The images' sides; by default, the sides of the displacement.
    {align_corners}

    Returns
    -------
    grid : array of the displacement's shape and dtype
        Along a side of one pixel with aligned corners every coordinate means that pixel, and the
        grid is 0.

    Raises
    ------
    {errors}

    Examples
    --------
    Each pixel samples its right neighbour; the last one samples outside:

    >>> import numpy as np, numba_stn as stn
    >>> displacement = np.tile([1.0, 0.0], (1, 2, 4, 1))
    >>> image = np.arange(8.0).reshape(1, 1, 2, 4)
    >>> stn.grid_sample(image, stn.grid_from_displacement(displacement))
    array([[[[1., 2., 3., 0.],
             [5., 6., 7., 0.]]]])
    """
    kernels, displacement, dims = check_coordinates("displacement", displacement, whole=True)
    size = tuple(displacement.shape[1:-1])
    check_not_empty("displacement", size)
    off = corner_offset(align_corners)
    sides = check_image_size(size if image_size is None else image_size, dims)
    factors, _ = compute_normalisation(sides, off)
    if kernels:
        return kernels.returned(kernels.coords.displaced(displacement, factors, off))
    grid = _scaled(displacement, None, factors)
    for axis, side in enumerate(reversed(size)):
        length = side - 1 + off
        line = (2.0 * np.arange(side) - (side - 1)) / length if length else np.zeros(side)
        grid[..., axis] += to_dtype_of(grid, line).reshape((side, *[1] * axis))
    return grid


@documented
def grid_from_displacement_vjp(
    dgrid: Array, image_size: Sides | None = None, *, align_corners: bool = False
) -> Array:
    """Compute the gradient of :func:`grid_from_displacement` with respect to the displacement.

    ``dgrid (N, H_out, W_out, 2) -> ddisplacement (N, H_out, W_out, 2)``

    Parameters
    ----------
    {dgrid}
    image_size, align_corners
        As given to :func:`grid_from_displacement`.

    Returns
    -------
    ddisplacement : array of dgrid's shape and dtype

    Raises
    ------
    {errors}

    Examples
    --------
    With four pixels from -1 to 1, one pixel is 0.5; with one pixel, it is 2:

    >>> import numpy as np, numba_stn as stn
    >>> stn.grid_from_displacement_vjp(np.ones((1, 1, 4, 2)))[0, 0, 0]
    array([0.5, 2. ])
    """
    kernels, dgrid, dims = check_coordinates("dgrid", dgrid, whole=True)
    size = tuple(dgrid.shape[1:-1])
    check_not_empty("dgrid", size)
    sides = check_image_size(size if image_size is None else image_size, dims)
    factors, _ = compute_normalisation(sides, corner_offset(align_corners))
    return _scale(kernels, dgrid, factors)


# --- Pixel coordinates ----------------------------------------------------------------------------


@documented
def grid_from_pixels(pixels: Array, image_size: Sides, *, align_corners: bool = False) -> Array:
    """Convert pixel coordinates to normalised coordinates.

    ``pixels (..., 2) -> grid (..., 2)``

    The normalised coordinate of x is ``(2 x - (W - 1)) / W``, or ``/ (W - 1)`` if corners are
    aligned; y and z likewise.

    Parameters
    ----------
    pixels : (..., 2) or (..., 3) array of float32 or float64
        x before y before z; pixel centres are integers.
    image_size : (H, W) or (D, H, W)
        The images' sides.
    {align_corners}

    Returns
    -------
    grid : array of the pixels' shape and dtype
        Along a side of one pixel with aligned corners every coordinate means that pixel, and the
        grid is 0.

    Raises
    ------
    {errors}

    See Also
    --------
    numba_stn.transforms.matrices.to_theta : The same conversion for a matrix between pixels.

    Examples
    --------
    The first pixel's centre, the last one's, and the last one's lower right corner:

    >>> import numpy as np, numba_stn as stn
    >>> stn.grid_from_pixels(np.array([[0.0, 0.0], [3.0, 1.0], [3.5, 1.5]]), (2, 4))
    array([[-0.75, -0.5 ],
           [ 0.75,  0.5 ],
           [ 1.  ,  1.  ]])
    """
    kernels, pixels, dims = check_coordinates("pixels", pixels)
    sides, off = check_image_size(image_size, dims), corner_offset(align_corners)
    factors, centres = compute_normalisation(sides, off)
    if kernels:
        return kernels.returned(kernels.coords.scaled(pixels, centres, factors, [0.0] * dims))
    return _scaled(pixels, centres, factors)


@documented
def grid_from_pixels_vjp(dgrid: Array, image_size: Sides, *, align_corners: bool = False) -> Array:
    """Compute the gradient of :func:`grid_from_pixels` with respect to the pixel coordinates.

    ``dgrid (..., 2) -> dpixels (..., 2)``

    Parameters
    ----------
    {dgrid}
    image_size, align_corners
        As given to :func:`grid_from_pixels`.

    Returns
    -------
    dpixels : array of dgrid's shape and dtype

    Raises
    ------
    {errors}

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> stn.grid_from_pixels_vjp(np.ones((1, 2)), (2, 4))
    array([[0.5, 1. ]])
    """
    kernels, dgrid, dims = check_coordinates("dgrid", dgrid)
    sides, off = check_image_size(image_size, dims), corner_offset(align_corners)
    factors, _ = compute_normalisation(sides, off)
    return _scale(kernels, dgrid, factors)


@documented
def pixels_from_grid(grid: Array, image_size: Sides, *, align_corners: bool = False) -> Array:
    """Convert normalised coordinates to pixel coordinates.

    ``grid (..., 2) -> pixels (..., 2)``

    The pixel coordinate of g is ``((g + 1) W - 1) / 2``, or ``(g + 1) / 2 (W - 1)`` if corners are
    aligned; y and z likewise.

    Parameters
    ----------
    grid : (..., 2) or (..., 3) array of float32 or float64
        Normalised coordinates, x before y before z.
    image_size : (H, W) or (D, H, W)
        The images' sides.
    {align_corners}

    Returns
    -------
    pixels : array of the grid's shape and dtype

    Raises
    ------
    {errors}

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> stn.pixels_from_grid(np.array([[-1.0, 1.0], [0.0, 0.0]]), (2, 4))
    array([[-0.5,  1.5],
           [ 1.5,  0.5]])
    """
    kernels, grid, dims = check_coordinates("grid", grid)
    sides, off = check_image_size(image_size, dims), corner_offset(align_corners)
    halves, (_, centres) = half_sides(sides, off), compute_normalisation(sides, off)
    if kernels:
        return kernels.returned(kernels.coords.scaled(grid, [0.0] * dims, halves, centres))
    return _scaled(grid, None, halves, centres)


@documented
def pixels_from_grid_vjp(
    dpixels: Array, image_size: Sides, *, align_corners: bool = False
) -> Array:
    """Compute the gradient of :func:`pixels_from_grid` with respect to the grid.

    ``dpixels (..., 2) -> dgrid (..., 2)``

    Parameters
    ----------
    dpixels : (..., 2) or (..., 3) array of float32 or float64
        Gradient of the loss with respect to the pixel coordinates.
    image_size, align_corners
        As given to :func:`pixels_from_grid`.

    Returns
    -------
    dgrid : array of dpixels' shape and dtype

    Raises
    ------
    {errors}

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> stn.pixels_from_grid_vjp(np.ones((1, 2)), (2, 4))
    array([[2., 1.]])
    """
    kernels, dpixels, dims = check_coordinates("dpixels", dpixels)
    halves = half_sides(check_image_size(image_size, dims), corner_offset(align_corners))
    return _scale(kernels, dpixels, halves)


# --- Sides and arrays -----------------------------------------------------------------------------


def check_image_size(image_size, dims):
    """Return an image's sides, one per axis of its coordinates."""
    try:
        sides = tuple(map(index, image_size))
    except TypeError:
        sides = ()
    if len(sides) != dims or min(sides) < 1:
        named = "(H, W)" if dims == 2 else "(D, H, W)"
        raise ValueError(f"image_size: expected positive integers {named}, got {image_size!r}")
    return sides


@lru_cache(256)
def half_sides(sides, off):
    """Return the pixels in half of [-1, 1] along x, y and z."""
    return np.array([(side - 1 + off) / 2 for side in reversed(sides)])


@lru_cache(256)
def compute_normalisation(sides, off):
    """Return the factors and centres of ``(x - centre) * factor`` along x, y and z.

    The factor is 0 where [-1, 1] has no length.
    """
    halves = half_sides(sides, off)
    factors = np.divide(1.0, halves, out=np.zeros(len(sides)), where=halves > 0)
    return factors, np.array([(side - 1) / 2 for side in reversed(sides)])


def to_dtype_of(array, numbers):
    """Return NumPy's numbers in an array's dtype and library."""
    numbers = numbers if numbers.dtype == array.dtype else numbers.astype(array.dtype)
    return namespace(array).asarray(numbers)


def _scale(kernels, array, factors):
    """Multiply coordinates by one factor per axis."""
    if not kernels:
        return _scaled(array, None, factors)
    zeros = [0.0] * len(factors)
    return kernels.returned(kernels.coords.scaled(array, zeros, factors, zeros))


def _scaled(array, before, factors, after=None):
    """Compute ``(array - before) * factors + after`` of an array of NumPy or CuPy."""
    before, factors, after = (
        to_dtype_of(array, np.zeros(len(factors)) if each is None else each)
        for each in (before, factors, after)
    )
    if is_cupy(array):
        return (array - before) * factors + after
    return coordinate_arrays.scaled(array, before, factors, after)


def check_coordinates(name, array, whole=False, dims=None):
    """Return the kernels for an array of coordinates, the array, and its number of axes.

    The kernels are None for arrays of NumPy and CuPy. ``whole``: the array has a
    coordinate for every output pixel.
    """
    kernels = backend(gpu=True) if on_gpu(array) and not is_cupy(array) else None
    if not is_cupy(array):
        array = (kernels or arrays).kernel_array(name, array)
    if array.dtype.char not in "fd":
        raise TypeError(f"{name}: expected float32 or float64, got {array.dtype}")
    shape = tuple(array.shape)
    last = shape[-1] if shape else 0
    if last not in ((2, 3) if dims is None else (dims,)) or (whole and len(shape) != last + 2):
        shapes = ("(N, H, W, 2)", "(N, D, H, W, 3)") if whole else ("(..., 2)", "(..., 3)")
        expected = " or ".join(shapes[:1] if dims == 2 else shapes)
        raise ValueError(f"{name}: expected shape {expected}, got {shape}")
    return kernels, array, last
