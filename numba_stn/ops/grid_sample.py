"""Grids and the sampler: check the arguments, choose the kernels, allocate, call.

Names, modes and meanings are those of PyTorch's ``affine_grid`` and ``grid_sample`` and of
ONNX's AffineGrid and GridSample. ``f_vjp`` takes the gradient of a loss with respect to f's
result and gives the gradient with respect to f's inputs.

Images are (N, C, H, W), theta is (N, 2, 3), grids are (N, H_out, W_out, 2) with x before y. Volumes
are (N, C, D, H, W), their theta is (N, 3, 4), their grids (N, D_out, H_out, W_out, 3) with x before
y before z. :mod:`numba_stn.ops.warps` has the two steps in one. Arrays on the CPU are NumPy's;
arrays with ``__cuda_array_interface__`` run on their device.
"""

from collections.abc import Collection, Sequence
from typing import Any

from ..kernels.math.coordinates import GRID
from .dask_arrays import accept_dask_arrays
from .sampler import Sampler
from .validate import (
    check_array,
    check_batch_sizes,
    check_flag,
    check_images,
    check_not_empty,
    check_options,
    check_output_size,
    check_wrt,
    choose_kernels,
    corner_offset,
)

__all__ = ["affine_grid", "affine_grid_vjp", "grid_sample", "grid_sample_vjp"]

Array = Any  # numpy.ndarray, or an array on a CUDA device

# --- affine_grid ----------------------------------------------------------------------------------


def affine_grid(
    theta: Array, size: tuple[int, ...], *, align_corners: bool = False, stream: Any = None
) -> Array:
    """Sampling grid of an affine map.

    ``grid[n, i, j] = theta[n] @ (x_j, y_i, 1)`` with the normalised pixel centres
    ``x_j = (2 j - (W - 1)) / W``, or ``/ (W - 1)`` where corners are aligned, and y_i alike; on a
    side of one pixel the centre is 0. (Jaderberg et al. 2015, equation 1.)

    Parameters
    ----------
    theta : (N, 2, 3) or (N, 3, 4) array of float32 or float64
        Maps normalised output coordinates (x, y) or (x, y, z) to normalised input coordinates.
    size : (H_out, W_out) or (D_out, H_out, W_out)
        The output's spatial shape; PyTorch's full shape (N, C, ...) is understood too.
    align_corners : bool
        Whether -1 and 1 are the centres of the corner pixels (True) or their outer edges.
    stream : stream of Numba, CuPy or PyTorch, or its address, optional
        Where kernels for arrays on a GPU run, without being waited for; if not given, the current
        stream of the arrays' library.

    Returns
    -------
    grid : (N, H_out, W_out, 2) or (N, D_out, H_out, W_out, 3) array of theta's dtype
        Normalised input coordinates, x before y before z.

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
    kernels, theta = choose_kernels(stream, theta=theta)
    dims = 3 if tuple(theta.shape[1:]) == (3, 4) else 2
    theta = check_array("theta", theta, (None, dims, dims + 1))
    grid_shape = (len(theta), *check_output_size(size, len(theta), dims), dims)
    grid = kernels.empty(grid_shape, theta.dtype, theta)
    kernels.affine_grid(theta, corner_offset(align_corners), grid)
    return kernels.returned(grid)


def affine_grid_vjp(dgrid: Array, *, align_corners: bool = False, stream: Any = None) -> Array:
    """Gradient of :func:`affine_grid` with respect to theta.

    ``dtheta[n] = sum_ij dgrid[n, i, j] (x_j, y_i, 1)^T``, summed in float64 on the CPU.

    Parameters
    ----------
    dgrid : (N, H_out, W_out, 2) or (N, D_out, H_out, W_out, 3) array of float32 or float64
        Gradient of the loss with respect to the grid.
    align_corners, stream
        As given to :func:`affine_grid`.

    Returns
    -------
    dtheta : (N, 2, 3) or (N, 3, 4) array of dgrid's dtype

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
    kernels, dgrid = choose_kernels(stream, dgrid=dgrid)
    dims = 3 if len(dgrid.shape) == 5 else 2
    dgrid = check_array("dgrid", dgrid, (*[None] * (dims + 1), dims))
    check_not_empty("dgrid", dgrid.shape[1:-1])
    dtheta = kernels.empty((len(dgrid), dims, dims + 1), dgrid.dtype, dgrid)
    kernels.affine_grid_vjp(dgrid, corner_offset(align_corners), dtheta)
    return kernels.returned(dtheta)


# --- grid_sample ----------------------------------------------------------------------------------


@accept_dask_arrays("images", "grid")
def grid_sample(
    images: Array,
    grid: Array,
    *,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool = False,
    fill: float | Sequence[float] = 0.0,
    layout: str = "NCHW",
    coverage: bool = False,
    out: Array | None = None,
    stream: Any = None,
) -> Array:
    """Read images at the coordinates of a grid.

    Bilinear: ``sum_hw images[n, c, h, w] max(0, 1 - |x - w|) max(0, 1 - |y - h|)`` at the pixel
    coordinate (x, y) of the grid's entry (Jaderberg et al. 2015, equation 5), which is
    ``((g + 1) S - 1) / 2``, or ``(g + 1) / 2 (S - 1)`` where corners are aligned.

    Parameters
    ----------
    images : (N, C, H, W) or (N, C, D, H, W) array of float32, float64, float16, uint8 or uint16
        With N = 1, one image is read by every grid. Integers and float16 are read one by one and
        computed in float32; there is no float copy of the images.
    grid : (N, H_out, W_out, 2) or (N, D_out, H_out, W_out, 3) array of float32 or float64
        Normalised coordinates, x before y before z. Its precision may differ from the images'.
    mode : {"bilinear", "nearest", "bicubic"}
        How values between pixels are formed: from 2 neighbours along each axis, from the nearest
        pixel (of two as near, the even one), or from 4 by Keys's convolution with a = -0.75, which
        is for planes only.
    padding_mode : {"zeros", "border", "reflection", "wrap", "fill"}
        What lies outside the image. zeros: ``fill``, into which the image fades over a pixel.
        border: the nearest pixel of the border. reflection: the image mirrored, at -1 and 1.
        wrap: the image again, the pixel after the last being the first, whatever the corners.
        fill: ``fill`` outside of -1 to 1, and border inside, so that nothing fades.
        NaN, infinite and huge coordinates count as outside under zeros and fill, and go to an edge
        under the others.
    align_corners : bool
        Whether -1 and 1 are the centres of the corner pixels (True) or their outer edges.
    fill : float, or one for each channel
        Value of the pixels outside the image, under zeros and fill. With the bilinear mode and
        zeros, one that is NaN or infinite may also make NaN of samples on the image's last row or
        column, whose lower or right neighbours are outside with weight 0.
    layout : {"NCHW", "NHWC"}
        Whether the channels of images and samples stand before their sides or last. NCDHW and
        NDHWC mean the same.
    coverage : bool
        Whether to return, too, how much of each sample comes from inside the image: the sum of the
        weights of its taps there (under ``padding_mode="fill"``, 1 or 0).
    out : (N, C, H_out, W_out) or (N, C, D_out, H_out, W_out) array of the images' dtype, optional
        Where to write the samples; it must not overlap the inputs.
    stream : stream of Numba, CuPy or PyTorch, or its address, optional
        Where kernels for arrays on a GPU run, without being waited for; if not given, the current
        stream of the arrays' library.

    Returns
    -------
    samples : (N, C, H_out, W_out) or (N, C, D_out, H_out, W_out) array of the images' dtype
        ``out``, if it was given. Integers are rounded, a half to the even one, and saturated.
    covered : (N, H_out, W_out) or (N, D_out, H_out, W_out) array of the grid's dtype
        Only with ``coverage=True``.

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
    options = check_options(mode, padding_mode, align_corners, fill, layout)
    kernels, images, grid = choose_kernels(stream, images=images, grid=grid)
    images, grid = check_grid(images, grid, options)
    one = Sampler(kernels, GRID, images, grid, options)
    return one.sample(grid.shape[1:-1], out, check_flag("coverage", coverage), stream)


@accept_dask_arrays("dsamples", "images", "grid")
def grid_sample_vjp(
    dsamples: Array,
    images: Array,
    grid: Array,
    *,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool = False,
    fill: float | Sequence[float] = 0.0,
    layout: str = "NCHW",
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
    dsamples : array of the samples' shape
        Gradient of the loss with respect to the samples; of the images' dtype, or float32 where
        the images are integers.
    images, grid, mode, padding_mode, align_corners, fill, layout, stream
        As given to :func:`grid_sample`.
    wrt : collection of {"images", "grid"}
        The gradients wanted. One that is not asked for is None and costs nothing.

    Returns
    -------
    dimages : array of the images' shape and of dsamples' dtype, or None
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
    options = check_options(mode, padding_mode, align_corners, fill, layout)
    wanted = check_wrt(wrt, ("images", "grid"))
    kernels, dsamples, images, grid = choose_kernels(
        stream, dsamples=dsamples, images=images, grid=grid
    )
    images, grid = check_grid(images, grid, options)
    return Sampler(kernels, GRID, images, grid, options).vjp(dsamples, wanted, grid.shape[1:-1])


def check_grid(images, grid, options):
    """Images and a grid that reads them."""
    images = check_images(images, options)
    dims = len(images.shape) - 2
    check_array("grid", grid, (*[None] * (dims + 1), dims))
    check_not_empty("grid", grid.shape[1:-1])
    check_batch_sizes(images, "grid", grid)
    return images, grid
