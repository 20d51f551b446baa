"""``affine_grid`` and ``grid_sample``, each with its gradients.

Names, modes and meanings are those of PyTorch's ``affine_grid`` and ``grid_sample`` and of ONNX's
AffineGrid and GridSample. ``f_vjp`` takes the gradient of a loss with respect to the result of f
and returns the gradients with respect to the inputs of f.

Images are (N, C, H, W), theta is (N, 2, 3), grids are (N, H_out, W_out, 2) with x before y. Volumes
are (N, C, D, H, W), their theta is (N, 3, 4), their grids (N, D_out, H_out, W_out, 3) with x before
y before z. :mod:`numba_stn.ops.warps` does both steps in one pass. Arrays on the CPU are NumPy's;
arrays with ``__cuda_array_interface__`` are processed on their device.

Every function checks its arguments, chooses the kernels, allocates the results and calls.
"""

from collections.abc import Collection, Sequence
from typing import Any

from .dask_arrays import accept_dask_arrays
from .docstrings import documented
from .sampler import check_grid, find_plan
from .validate import (
    check_array,
    check_flag,
    check_not_empty,
    check_options,
    check_output_size,
    check_wrt,
    choose_backend,
    corner_offset,
)

__all__ = ["affine_grid", "affine_grid_vjp", "grid_sample", "grid_sample_vjp"]

Array = Any  # numpy.ndarray, or an array on a CUDA device

# --- affine_grid ----------------------------------------------------------------------------------


@documented
def affine_grid(
    theta: Array, size: tuple[int, ...], *, align_corners: bool = False, stream: Any = None
) -> Array:
    """Compute the sampling grid of affine maps.

    ``theta (N, 2, 3) -> grid (N, H_out, W_out, 2)``

    ``grid[n, i, j] = theta[n] @ (x_j, y_i, 1)``, where x_j and y_i are the normalised centres of
    the output's pixels: ``x_j = (2 j - (W - 1)) / W``, or ``/ (W - 1)`` if corners are aligned,
    and y_i likewise. On a side of one pixel the centre is 0. (Jaderberg et al. 2015, equation 1.)

    Parameters
    ----------
    {theta}
    size : (H_out, W_out) or (D_out, H_out, W_out)
        The output's spatial shape. PyTorch's full shape (N, C, ...) is accepted too.
    {align_corners, stream}

    Returns
    -------
    grid : (N, H_out, W_out, 2) or (N, D_out, H_out, W_out, 3) array of theta's dtype
        Normalised input coordinates, x before y before z.

    Raises
    ------
    {errors}

    See Also
    --------
    warp_affine : Does this and :func:`grid_sample` in one pass, without a grid in memory.

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> theta = np.array([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    >>> stn.affine_grid(theta, (2, 2))[0, :, :, 0]
    array([[-0.5,  0.5],
           [-0.5,  0.5]])
    """
    kernels, theta = choose_backend(stream, theta=theta)
    dims = 3 if tuple(theta.shape[1:]) == (3, 4) else 2
    theta = check_array("theta", theta, (None, dims, dims + 1))
    grid_shape = (len(theta), *check_output_size(size, len(theta), dims), dims)
    grid = kernels.empty(grid_shape, theta.dtype, theta)
    kernels.affine_grid(theta, corner_offset(align_corners), grid)
    return kernels.returned(grid)


@documented
def affine_grid_vjp(dgrid: Array, *, align_corners: bool = False, stream: Any = None) -> Array:
    """Compute the gradient of :func:`affine_grid` with respect to theta.

    ``dgrid (N, H_out, W_out, 2) -> dtheta (N, 2, 3)``

    ``dtheta[n] = sum_ij dgrid[n, i, j] (x_j, y_i, 1)^T``, summed in float64 on the CPU.

    Parameters
    ----------
    dgrid : (N, H_out, W_out, 2) or (N, D_out, H_out, W_out, 3) array of float32 or float64
        Gradient of the loss with respect to the grid.
    align_corners, stream
        The options given to :func:`affine_grid`.

    Returns
    -------
    dtheta : (N, 2, 3) or (N, 3, 4) array of dgrid's dtype

    Raises
    ------
    {errors}

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> stn.affine_grid_vjp(np.ones((1, 2, 2, 2)))
    array([[[0., 0., 4.],
            [0., 0., 4.]]])
    """
    kernels, dgrid = choose_backend(stream, dgrid=dgrid)
    dims = 3 if len(dgrid.shape) == 5 else 2
    dgrid = check_array("dgrid", dgrid, (*[None] * (dims + 1), dims))
    check_not_empty("dgrid", dgrid.shape[1:-1])
    dtheta = kernels.empty((len(dgrid), dims, dims + 1), dgrid.dtype, dgrid)
    kernels.affine_grid_vjp(dgrid, corner_offset(align_corners), dtheta)
    return kernels.returned(dtheta)


# --- grid_sample ----------------------------------------------------------------------------------


@documented
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
    """Sample images at the coordinates of a grid.

    ``images (N, C, H, W), grid (N, H_out, W_out, 2) -> samples (N, C, H_out, W_out)``

    A bilinear sample is ``sum_hw images[n, c, h, w] max(0, 1 - |x - w|) max(0, 1 - |y - h|)``,
    where (x, y) are the pixel coordinates of the grid's entry (Jaderberg et al. 2015, equation 5).
    The pixel coordinate of g is ``((g + 1) S - 1) / 2`` on a side of S pixels, or
    ``(g + 1) / 2 (S - 1)`` if corners are aligned.

    Parameters
    ----------
    {images}
    grid : (N, H_out, W_out, 2) or (N, D_out, H_out, W_out, 3) array of float32 or float64
        Normalised coordinates, x before y before z. Their precision may differ from the images'.
    {mode, padding_mode, align_corners, fill, layout, coverage, out, stream}

    Returns
    -------
    samples : (N, C, H_out, W_out) or (N, C, D_out, H_out, W_out) array of the images' dtype
        ``out``, if given. Integers are rounded, a half to the even neighbour, and saturated.
    covered : (N, H_out, W_out) or (N, D_out, H_out, W_out) array of the grid's dtype
        Only with ``coverage=True``.

    Raises
    ------
    {errors}

    See Also
    --------
    warp_affine, warp_perspective : Sample at the coordinates of a map, without a grid in memory.

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> image = np.arange(4.0).reshape(1, 1, 2, 2)
    >>> centre = np.zeros((1, 1, 1, 2))
    >>> stn.grid_sample(image, centre)
    array([[[[1.5]]]])
    """
    options = check_options(mode, padding_mode, align_corners, fill, layout)
    kernels, images, grid = choose_backend(stream, images=images, grid=grid)
    plan = find_plan(kernels, check_grid, images, grid, options, grid.shape[1:-1])
    return plan.sample(images, grid, out, check_flag("coverage", coverage), stream)


@documented
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
    """Compute the gradients of :func:`grid_sample` with respect to the images and the grid.

    ``dsamples (N, C, H_out, W_out) -> dimages (N, C, H, W), dgrid (N, H_out, W_out, 2)``

    The gradient of a sample is added to the pixels that the sample was interpolated from, with
    the same weights. ``dgrid`` is the sum over channels of ``dsamples`` times the slope of the
    interpolated value (Jaderberg et al. 2015, equations 6 and 7); at a pixel's centre the bilinear
    slope is the forward difference. The same inputs give the same bits every time.

    Parameters
    ----------
    {dsamples}
    images, grid
        The inputs of :func:`grid_sample`.
    mode, padding_mode, align_corners, fill, layout, stream
        The options given to :func:`grid_sample`.
    {wrt}

    Returns
    -------
    dimages : array of the images' shape and of dsamples' dtype, or None
        With one image and several grids, the sum over the grids.
    dgrid : array of the grid's shape and dtype, or None

    Raises
    ------
    {errors}

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
    kernels, dsamples, images, grid = choose_backend(
        stream, dsamples=dsamples, images=images, grid=grid
    )
    plan = find_plan(kernels, check_grid, images, grid, options, grid.shape[1:-1], dsamples)
    return plan.vjp(dsamples, images, grid, wanted)
