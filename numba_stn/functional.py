"""The sampler's public functions: check the arguments, choose the kernels, allocate, call.

Names, modes and meanings are those of PyTorch's ``affine_grid`` and ``grid_sample`` and of
ONNX's AffineGrid and GridSample. ``f_vjp`` takes the gradient of a loss with respect to f's
result and gives the gradient with respect to f's inputs.

Images are (N, C, H, W), theta is (N, 2, 3), grids are (N, H_out, W_out, 2) with x before y.
Arrays on the CPU are NumPy's; arrays with ``__cuda_array_interface__`` run on their device.
"""

from collections.abc import Collection
from typing import Any

from .checks import (
    arrays,
    checked,
    checked_pair,
    fill_number,
    nonzero,
    off_corners,
    output_size,
    sampler_options,
    wanted_of,
)
from .kernels.pixel import AFFINE, GRID

__all__ = [
    "affine_grid",
    "affine_grid_vjp",
    "grid_sample",
    "grid_sample_vjp",
    "warp_affine",
    "warp_affine_vjp",
]

Array = Any  # numpy.ndarray, or an array on a CUDA device

# --- affine_grid ----------------------------------------------------------------------------------


def affine_grid(
    theta: Array, size: tuple[int, int], *, align_corners: bool = False, stream: Any = None
) -> Array:
    """Sampling grid of an affine map.

    ``grid[n, i, j] = theta[n] @ (x_j, y_i, 1)`` with the normalised pixel centres
    ``x_j = (2 j - (W - 1)) / W``, or ``/ (W - 1)`` where corners are aligned, and y_i alike; on a
    side of one pixel the centre is 0. (Jaderberg et al. 2015, equation 1.)

    Parameters
    ----------
    theta : (N, 2, 3) array of float32 or float64
        Maps normalised output coordinates (x, y) to normalised input coordinates.
    size : (H_out, W_out) or (N, C, H_out, W_out)
        The output's spatial shape; PyTorch's full shape is understood too.
    align_corners : bool
        Whether -1 and 1 are the centres of the corner pixels (True) or their outer edges.
    stream : stream of Numba, CuPy or PyTorch, or its address, optional
        Where kernels for arrays on a GPU run, without being waited for; if not given, the current
        stream of the arrays' library.

    Returns
    -------
    grid : (N, H_out, W_out, 2) array of theta's dtype
        Normalised input coordinates, x before y.

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape or type; the message names it.

    See Also
    --------
    warp_affine : Does this and :func:`grid_sample` at once, without a grid in memory.

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> theta = np.array([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    >>> stn.affine_grid(theta, (2, 2))[0, :, :, 0]
    array([[-0.5,  0.5],
           [-0.5,  0.5]])
    """
    kernels, theta = arrays(stream, theta=theta)
    theta = checked("theta", theta, (None, 2, 3))
    rows, columns = output_size(size, len(theta))
    grid = kernels.empty((len(theta), rows, columns, 2), theta.dtype, theta)
    kernels.affine_grid(theta, off_corners(align_corners), grid)
    return kernels.returned(grid)


def affine_grid_vjp(dgrid: Array, *, align_corners: bool = False, stream: Any = None) -> Array:
    """Gradient of :func:`affine_grid` with respect to theta.

    ``dtheta[n] = sum_ij dgrid[n, i, j] (x_j, y_i, 1)^T``, summed in float64 on the CPU.

    Parameters
    ----------
    dgrid : (N, H_out, W_out, 2) array of float32 or float64
        Gradient of the loss with respect to the grid.
    align_corners, stream
        As given to :func:`affine_grid`.

    Returns
    -------
    dtheta : (N, 2, 3) array of dgrid's dtype

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape or type; the message names it.

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> stn.affine_grid_vjp(np.ones((1, 2, 2, 2)))
    array([[[0., 0., 4.],
            [0., 0., 4.]]])
    """
    kernels, dgrid = arrays(stream, dgrid=dgrid)
    dgrid = checked("dgrid", dgrid, (None, None, None, 2))
    nonzero("dgrid", dgrid.shape[1:3])
    dtheta = kernels.empty((len(dgrid), 2, 3), dgrid.dtype, dgrid)
    kernels.affine_grid_vjp(dgrid, off_corners(align_corners), dtheta)
    return kernels.returned(dtheta)


# --- grid_sample ----------------------------------------------------------------------------------


def grid_sample(
    images: Array,
    grid: Array,
    *,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool = False,
    fill: float = 0.0,
    out: Array | None = None,
    stream: Any = None,
) -> Array:
    """Read images at the coordinates of a grid.

    Bilinear: ``sum_hw images[n, c, h, w] max(0, 1 - |x - w|) max(0, 1 - |y - h|)`` at the pixel
    coordinate (x, y) of the grid's entry (Jaderberg et al. 2015, equation 5), which is
    ``((g + 1) S - 1) / 2``, or ``(g + 1) / 2 (S - 1)`` where corners are aligned.

    Parameters
    ----------
    images : (N, C, H, W) array of float32 or float64
        With N = 1, one image is read by every grid.
    grid : (N, H_out, W_out, 2) array of float32 or float64
        Normalised coordinates, x before y. Its precision may differ from the images'.
    mode : {"bilinear"}
        How values between pixels are formed.
    padding_mode : {"zeros", "border", "reflection"}
        What lies outside the image: ``fill``, the nearest border pixel, or the image mirrored.
        NaN, infinite and huge coordinates count as outside under zeros, and go to an edge under
        the others.
    align_corners : bool
        Whether -1 and 1 are the centres of the corner pixels (True) or their outer edges.
    fill : float
        Value of the pixels outside the image, under ``padding_mode="zeros"``. One that is NaN or
        infinite also makes NaN of samples on the image's last row or column, whose lower or right
        neighbours are outside with weight 0.
    out : (N, C, H_out, W_out) array of the images' dtype, optional
        Where to write the samples; it must not overlap the inputs.
    stream : stream of Numba, CuPy or PyTorch, or its address, optional
        Where kernels for arrays on a GPU run, without being waited for; if not given, the current
        stream of the arrays' library.

    Returns
    -------
    samples : (N, C, H_out, W_out) array of the images' dtype
        ``out``, if it was given.

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape, type or value; the message names it.

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> image = np.arange(4.0).reshape(1, 1, 2, 2)
    >>> centre = np.zeros((1, 1, 1, 2))
    >>> stn.grid_sample(image, centre)
    array([[[[1.5]]]])
    """
    options = sampler_options(mode, padding_mode, align_corners, fill)
    kernels, images, grid = arrays(stream, images=images, grid=grid)
    images, grid = checked_pair(images, "grid", grid, (None, None, None, 2))
    nonzero("grid", grid.shape[1:3])
    return _sample(kernels, GRID, images, grid, grid.shape[1:3], options, out, stream)


def grid_sample_vjp(
    dsamples: Array,
    images: Array,
    grid: Array,
    *,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool = False,
    fill: float = 0.0,
    wrt: Collection[str] = ("images", "grid"),
    stream: Any = None,
) -> tuple[Array | None, Array | None]:
    """Gradients of :func:`grid_sample` with respect to the images and the grid.

    Every sample's gradient is added to the four pixels it was read from, with the weights it was
    read with; and ``dgrid`` is the sum over channels of ``dsamples`` times the slope of the
    interpolated value (Jaderberg et al. 2015, equations 6 and 7), which at a pixel's centre is
    the forward difference. The same inputs give the same bits every time.

    Parameters
    ----------
    dsamples : (N, C, H_out, W_out) array of the images' dtype
        Gradient of the loss with respect to the samples.
    images, grid, mode, padding_mode, align_corners, fill, stream
        As given to :func:`grid_sample`.
    wrt : collection of {"images", "grid"}
        The gradients wanted. One that is not asked for is None and costs nothing.

    Returns
    -------
    dimages : array of the images' shape and dtype, or None
        With one image and many grids, the sum over the grids.
    dgrid : array of the grid's shape and dtype, or None

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape, type or value; the message names it.

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> image = np.arange(4.0).reshape(1, 1, 2, 2)
    >>> dsamples, centre = np.ones((1, 1, 1, 1)), np.zeros((1, 1, 1, 2))
    >>> dimages, dgrid = stn.grid_sample_vjp(dsamples, image, centre)
    >>> dimages
    array([[[[0.25, 0.25],
             [0.25, 0.25]]]])
    >>> dgrid
    array([[[[1., 2.]]]])
    """
    options = sampler_options(mode, padding_mode, align_corners, fill)
    wanted = wanted_of(wrt, ("images", "grid"))
    kernels, dsamples, images, grid = arrays(stream, dsamples=dsamples, images=images, grid=grid)
    images, grid = checked_pair(images, "grid", grid, (None, None, None, 2))
    nonzero("grid", grid.shape[1:3])
    dsamples = checked("dsamples", dsamples, (len(grid), images.shape[1], *grid.shape[1:3]))
    return _sample_vjp(kernels, GRID, dsamples, images, grid, options, wanted)


# --- warp_affine ----------------------------------------------------------------------------------


def warp_affine(
    images: Array,
    theta: Array,
    size: tuple[int, int] | None = None,
    *,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool = False,
    fill: float = 0.0,
    out: Array | None = None,
    stream: Any = None,
) -> Array:
    """Warp images by affine maps: :func:`affine_grid` and :func:`grid_sample` in one pass.

    The grid is never in memory. The coordinates are formed in float64 on the CPU, so an identity
    theta returns its (finite) images bit for bit.

    Parameters
    ----------
    images : (N, C, H, W) array of float32 or float64
        With N = 1, one image is read by every theta.
    theta : (N, 2, 3) array of float32 or float64
        Maps normalised output coordinates (x, y) to normalised input coordinates.
    size : (H_out, W_out), optional
        The output's spatial shape; the images' own, if not given.
    mode, padding_mode, align_corners, fill, out, stream
        As in :func:`grid_sample`.

    Returns
    -------
    samples : (N, C, H_out, W_out) array of the images' dtype
        ``out``, if it was given.

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape, type or value; the message names it.

    Examples
    --------
    Mirror an image left to right:

    >>> import numpy as np, numba_stn as stn
    >>> image = np.arange(6.0).reshape(1, 1, 2, 3)
    >>> stn.warp_affine(image, np.array([[[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]]))
    array([[[[2., 1., 0.],
             [5., 4., 3.]]]])
    """
    options = sampler_options(mode, padding_mode, align_corners, fill)
    kernels, images, theta = arrays(stream, images=images, theta=theta)
    images, theta = checked_pair(images, "theta", theta, (None, 2, 3))
    size = images.shape[2:] if size is None else output_size(size, len(theta))
    return _sample(kernels, AFFINE, images, theta, size, options, out, stream)


def warp_affine_vjp(
    dsamples: Array,
    images: Array,
    theta: Array,
    *,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool = False,
    fill: float = 0.0,
    wrt: Collection[str] = ("images", "theta"),
    stream: Any = None,
) -> tuple[Array | None, Array | None]:
    """Gradients of :func:`warp_affine` with respect to the images and theta.

    :func:`grid_sample_vjp` and :func:`affine_grid_vjp` in one pass, without a grid or its
    gradient in memory. The same inputs give the same bits every time.

    Parameters
    ----------
    dsamples : (N, C, H_out, W_out) array of the images' dtype
        Gradient of the loss with respect to the samples.
    images, theta, mode, padding_mode, align_corners, fill, stream
        As given to :func:`warp_affine`.
    wrt : collection of {"images", "theta"}
        The gradients wanted. One that is not asked for is None and costs nothing.

    Returns
    -------
    dimages : array of the images' shape and dtype, or None
        With one image and many thetas, the sum over the thetas.
    dtheta : (N, 2, 3) array of theta's dtype, or None

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape, type or value; the message names it.

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> image = np.arange(4.0).reshape(1, 1, 2, 2)
    >>> theta = np.array([[[0.5, 0.0, 0.0], [0.0, 0.5, 0.0]]])
    >>> dimages, dtheta = stn.warp_affine_vjp(np.ones((1, 1, 2, 2)), image, theta)
    >>> dimages
    array([[[[1., 1.],
             [1., 1.]]]])
    >>> stn.warp_affine_vjp(np.ones((1, 1, 2, 2)), image, theta, wrt=("theta",))[0] is None
    True
    """
    options = sampler_options(mode, padding_mode, align_corners, fill)
    wanted = wanted_of(wrt, ("images", "theta"))
    kernels, dsamples, images, theta = arrays(stream, dsamples=dsamples, images=images, theta=theta)
    images, theta = checked_pair(images, "theta", theta, (None, 2, 3))
    dsamples = checked("dsamples", dsamples, (len(theta), images.shape[1], None, None))
    nonzero("dsamples", dsamples.shape[2:])
    return _sample_vjp(kernels, AFFINE, dsamples, images, theta, options, wanted)


# --- The two passes, whatever the coordinates come from -------------------------------------------


def _sample(kernels, source, images, coords, size, options, out, stream):
    shape = (len(coords), images.shape[1], *size)
    samples = kernels.output(shape, images, coords, out, stream)
    if samples.size:
        padding, off, fill = options
        kernels.sample(
            source, padding, images, coords, off, fill_number(fill, images.dtype), samples
        )
    return kernels.returned(samples, out)


def _sample_vjp(kernels, source, dsamples, images, coords, options, wanted):
    padding, off, fill = options
    fill = fill_number(fill, images.dtype)
    if dsamples.dtype != images.dtype:
        raise TypeError(
            f"dsamples: expected the images' dtype, {images.dtype}, got {dsamples.dtype}"
        )
    dimages = dcoords = None
    if wanted[0]:
        dimages = kernels.empty(images.shape, images.dtype, images)
        kernels.sample_vjp_images(source, padding, dsamples, coords, off, dimages)
        dimages = kernels.returned(dimages)
    if wanted[1]:
        dcoords = kernels.empty(coords.shape, coords.dtype, coords)
        kernels.sample_vjp_coords(source, padding, dsamples, images, coords, off, fill, dcoords)
        dcoords = kernels.returned(dcoords)
    return dimages, dcoords
