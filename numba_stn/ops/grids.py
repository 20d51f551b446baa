"""Grids from displacement fields and from pixel coordinates.

:func:`numba_stn.grid_sample` takes normalised coordinates. Here they are made of pixels, whose
centres are whole numbers, (0, 0) the first; x stands before y before z. ``image_size`` is the
spatial shape of the images that the grid will read: (H, W) or (D, H, W).

All of these maps are linear but for a shift, so a ``_vjp`` needs only the gradient with respect to
the result. They take NumPy's arrays and those on a GPU, and give the same kind: NumPy's and CuPy's
by their own functions, others by kernels.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..kernels import backend, on_gpu
from ..kernels.cpu import arrays
from ..utils.namespace import is_cupy, namespace
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


def grid_from_displacement(
    displacement: Array, image_size: Sides | None = None, *, align_corners: bool = False
) -> Array:
    """Grid that reads each pixel of the output so many pixels from its own place.

    Its own place is that of the identity map: of an image as large as the output, the same pixel;
    of another, the place as far across and down.

    Parameters
    ----------
    displacement : (N, H_out, W_out, 2) or (N, D_out, H_out, W_out, 3) array
        In pixels of the images, x before y before z; float32 or float64.
    image_size : (H, W) or (D, H, W), optional
        The images' sides; the displacement's own, if not given.
    align_corners : bool
        As ``grid_sample`` will be given it.

    Returns
    -------
    grid : array of the displacement's shape and dtype
        Along a side of one pixel whose corners are aligned, all coordinates mean that pixel; it
        gets 0.

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape, type or value; the message names it.

    Examples
    --------
    Each pixel reads its right neighbour, the last one reads outside:

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
    factors, _ = compute_normalisation(
        check_image_size(size if image_size is None else image_size, dims), off
    )
    if kernels:
        return kernels.returned(kernels.coords.displaced(displacement, factors, off))
    grid = displacement * as_dtype_of(factors, displacement)
    for axis, side in enumerate(reversed(size)):
        length = side - 1 + off
        line = (2.0 * np.arange(side) - (side - 1)) / length if length else np.zeros(side)
        grid[..., axis] += as_dtype_of(line, grid).reshape((side, *[1] * axis))
    return grid


def grid_from_displacement_vjp(
    dgrid: Array, image_size: Sides | None = None, *, align_corners: bool = False
) -> Array:
    """Gradient of :func:`grid_from_displacement` with respect to the displacement.

    Parameters
    ----------
    dgrid : (N, H_out, W_out, 2) or (N, D_out, H_out, W_out, 3) array of float32 or float64
        Gradient of the loss with respect to the grid.
    image_size, align_corners
        As given to :func:`grid_from_displacement`.

    Returns
    -------
    ddisplacement : array of dgrid's shape and dtype

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape, type or value; the message names it.

    Examples
    --------
    A pixel is half of four pixels' interval from -1 to 1:

    >>> import numpy as np, numba_stn as stn
    >>> stn.grid_from_displacement_vjp(np.ones((1, 1, 4, 2)))[0, 0, 0]
    array([0.5, 2. ])
    """
    kernels, dgrid, dims = check_coordinates("dgrid", dgrid, whole=True)
    size = tuple(dgrid.shape[1:-1])
    check_not_empty("dgrid", size)
    sides = check_image_size(size if image_size is None else image_size, dims)
    return _scale(kernels, dgrid, compute_normalisation(sides, corner_offset(align_corners))[0])


# --- Pixel coordinates ----------------------------------------------------------------------------


def grid_from_pixels(pixels: Array, image_size: Sides, *, align_corners: bool = False) -> Array:
    """Normalised coordinates of pixel coordinates: ``(2 x - (W - 1)) / W``.

    Or ``/ (W - 1)`` where corners are aligned; y and z alike.

    Parameters
    ----------
    pixels : (..., 2) or (..., 3) array of float32 or float64
        x before y before z; pixel centres are whole numbers.
    image_size : (H, W) or (D, H, W)
        The images' sides.
    align_corners : bool
        As ``grid_sample`` will be given it.

    Returns
    -------
    grid : array of the pixels' shape and dtype
        Along a side of one pixel whose corners are aligned, all coordinates mean that pixel; it
        gets 0.

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape, type or value; the message names it.

    See Also
    --------
    numba_stn.transforms.matrices.to_theta : The same for a map between pixels that is a matrix.

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
    factors, middles = compute_normalisation(
        check_image_size(image_size, dims), corner_offset(align_corners)
    )
    if kernels:
        return kernels.returned(kernels.coords.scaled(pixels, middles, factors, [0.0] * dims))
    return (pixels - as_dtype_of(middles, pixels)) * as_dtype_of(factors, pixels)


def grid_from_pixels_vjp(dgrid: Array, image_size: Sides, *, align_corners: bool = False) -> Array:
    """Gradient of :func:`grid_from_pixels` with respect to the pixel coordinates.

    Parameters
    ----------
    dgrid : (..., 2) or (..., 3) array of float32 or float64
        Gradient of the loss with respect to the grid.
    image_size, align_corners
        As given to :func:`grid_from_pixels`.

    Returns
    -------
    dpixels : array of dgrid's shape and dtype

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape, type or value; the message names it.

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> stn.grid_from_pixels_vjp(np.ones((1, 2)), (2, 4))
    array([[0.5, 1. ]])
    """
    kernels, dgrid, dims = check_coordinates("dgrid", dgrid)
    factors, _ = compute_normalisation(
        check_image_size(image_size, dims), corner_offset(align_corners)
    )
    return _scale(kernels, dgrid, factors)


def pixels_from_grid(grid: Array, image_size: Sides, *, align_corners: bool = False) -> Array:
    """Pixel coordinates of normalised ones: ``((g + 1) W - 1) / 2``.

    Or ``(g + 1) / 2 (W - 1)`` where corners are aligned; y and z alike.

    Parameters
    ----------
    grid : (..., 2) or (..., 3) array of float32 or float64
        Normalised coordinates, x before y before z.
    image_size : (H, W) or (D, H, W)
        The images' sides.
    align_corners : bool
        As ``grid_sample`` is given it.

    Returns
    -------
    pixels : array of the grid's shape and dtype

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape, type or value; the message names it.

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> stn.pixels_from_grid(np.array([[-1.0, 1.0], [0.0, 0.0]]), (2, 4))
    array([[-0.5,  1.5],
           [ 1.5,  0.5]])
    """
    kernels, grid, dims = check_coordinates("grid", grid)
    sides, off = check_image_size(image_size, dims), corner_offset(align_corners)
    halves, (_, middles) = _pixels_per_unit(sides, off), compute_normalisation(sides, off)
    if kernels:
        return kernels.returned(kernels.coords.scaled(grid, [0.0] * dims, halves, middles))
    return grid * as_dtype_of(halves, grid) + as_dtype_of(middles, grid)


def pixels_from_grid_vjp(
    dpixels: Array, image_size: Sides, *, align_corners: bool = False
) -> Array:
    """Gradient of :func:`pixels_from_grid` with respect to the grid.

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
    ValueError, TypeError
        If an argument has the wrong shape, type or value; the message names it.

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> stn.pixels_from_grid_vjp(np.ones((1, 2)), (2, 4))
    array([[2., 1.]])
    """
    kernels, dpixels, dims = check_coordinates("dpixels", dpixels)
    halves = _pixels_per_unit(check_image_size(image_size, dims), corner_offset(align_corners))
    return _scale(kernels, dpixels, halves)


# --- Sides and arrays -----------------------------------------------------------------------------


def check_image_size(image_size, dims):
    """The images' sides, if they are some."""
    """An image's sides, if they are as many as a coordinate has axes."""
    try:
        sides = tuple(side.__index__() for side in image_size)
    except (TypeError, AttributeError):
        sides = ()
    if len(sides) != dims or min(sides) < 1:
        named = "(H, W)" if dims == 2 else "(D, H, W)"
        raise ValueError(f"image_size: expected positive integers {named}, got {image_size!r}")
    return sides


def _pixels_per_unit(sides, off):
    """Pixels that 1 is worth along x, y and z."""
    return np.array([(side - 1 + off) / 2 for side in reversed(sides)])


def compute_normalisation(sides, off):
    """What a pixel is worth along x, y and z (0 where it is worth nothing), and the middles."""
    halves = _pixels_per_unit(sides, off)
    factors = np.divide(1.0, halves, out=np.zeros(len(sides)), where=halves > 0)
    return factors, np.array([(side - 1) / 2 for side in reversed(sides)])


def as_dtype_of(numbers, array):
    """Numbers of an array's dtype, where it is."""
    return namespace(array).asarray(numbers.astype(array.dtype))


def _scale(kernels, array, factors):
    """Coordinates times a number for each axis."""
    if not kernels:
        return array * as_dtype_of(factors, array)
    nothing = [0.0] * len(factors)
    return kernels.returned(kernels.coords.scaled(array, nothing, factors, nothing))


def check_coordinates(name, array, whole=False, dims=None):
    """The kernels for an array of coordinates, the array, and how many axes it has.

    No kernels: NumPy's or CuPy's functions do. ``whole``: there is a coordinate for each pixel.
    """
    kernels = backend(gpu=True) if on_gpu(array) and not is_cupy(array) else None
    if not is_cupy(array):
        array = (kernels or arrays).taken(name, array)
    if array.dtype.name not in ("float32", "float64"):
        raise TypeError(f"{name}: expected float32 or float64, got {array.dtype}")
    shape = tuple(array.shape)
    last = shape[-1] if shape else 0
    if last not in ((2, 3) if dims is None else (dims,)) or (whole and len(shape) != last + 2):
        wanted = ("(N, H, W, 2)", "(N, D, H, W, 3)") if whole else ("(..., 2)", "(..., 3)")
        named = " or ".join(wanted[:1] if dims == 2 else wanted)
        raise ValueError(f"{name}: expected shape {named}, got {shape}")
    return kernels, array, last
