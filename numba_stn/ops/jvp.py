"""Forward derivatives of the warps: how samples change when images and coordinates change.

``f_jvp`` takes small changes of the inputs of f (tangents, named ``..._dot``) to the change of its
result, to first order: it multiplies the Jacobian J of f by a vector, where ``f_vjp`` multiplies
the transpose of J. :func:`warp_affine_gauss_newton` returns J^T J and J^T r with respect to theta,
for aligning images. J itself is never in memory.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..kernels.math.dtypes import computed
from ..kernels.math.sampler_kind import NEAREST
from .any_dtype import gradient_dtype
from .docstrings import documented
from .sampler import check_affine, check_grid, check_projective, find_plan
from .validate import (
    check_array,
    check_not_empty,
    check_options,
    choose_backend,
    choose_backend_for_jvp,
)

__all__ = [
    "grid_sample_jvp",
    "warp_affine_gauss_newton",
    "warp_affine_jvp",
    "warp_perspective_jvp",
]

Array = Any


@documented
def grid_sample_jvp(
    images: Array,
    grid: Array,
    images_dot: Array | None = None,
    grid_dot: Array | None = None,
    *,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool = False,
    fill: float | Sequence[float] = 0.0,
    layout: str = "NCHW",
    stream: Any = None,
) -> Array:
    """Compute how the samples of :func:`numba_stn.grid_sample` change.

    ``images_dot (N, C, H, W), grid_dot (N, H_out, W_out, 2) -> samples_dot (N, C, H_out, W_out)``

    ``samples_dot = S(images_dot) + (d samples / d grid) grid_dot``, where S samples with a fill
    of 0.

    Parameters
    ----------
    images, grid
        The inputs of :func:`numba_stn.grid_sample`.
    {images_dot}
    grid_dot : array of the grid's shape and dtype, optional
        Tangent of the grid. By default, zero.
    mode, padding_mode, align_corners, fill, layout, stream
        The options given to :func:`numba_stn.grid_sample`.

    Returns
    -------
    samples_dot : array of the samples' shape and of images_dot's dtype

    Raises
    ------
    {errors}

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> image, centre = np.arange(4.0).reshape(1, 1, 2, 2), np.zeros((1, 1, 1, 2))
    >>> stn.grid_sample_jvp(image, centre, grid_dot=np.array([[[[0.1, 0.0]]]]))
    array([[[[0.1]]]])
    """
    options = check_options(mode, padding_mode, align_corners, fill, layout)
    kernels, images, grid, images_dot, grid_dot = choose_backend_for_jvp(
        stream, images=images, grid=grid, images_dot=images_dot, grid_dot=grid_dot
    )
    plan = find_plan(kernels, check_grid, images, grid, options, grid.shape[1:-1])
    check_tangents(images, images_dot, "grid_dot", grid, grid_dot)
    return compute_jvp(plan, images, grid, images_dot, grid_dot)


@documented
def warp_affine_jvp(
    images: Array,
    theta: Array,
    images_dot: Array | None = None,
    theta_dot: Array | None = None,
    size: tuple[int, ...] | None = None,
    *,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool = False,
    fill: float | Sequence[float] = 0.0,
    layout: str = "NCHW",
    stream: Any = None,
) -> Array:
    """Compute how the samples of :func:`numba_stn.warp_affine` change.

    ``images_dot (N, C, H, W), theta_dot (N, 2, 3) -> samples_dot (N, C, H_out, W_out)``

    Parameters
    ----------
    images, theta
        The inputs of :func:`numba_stn.warp_affine`.
    {images_dot}
    theta_dot : array of theta's shape and dtype, optional
        Tangent of theta. By default, zero.
    size, mode, padding_mode, align_corners, fill, layout, stream
        The options given to :func:`numba_stn.warp_affine`.

    Returns
    -------
    samples_dot : array of the samples' shape and of images_dot's dtype

    Raises
    ------
    {errors}

    Examples
    --------
    A ramp moved to the left by a tenth of its width:

    >>> import numpy as np, numba_stn as stn
    >>> image = np.tile(np.arange(8.0), (1, 1, 3, 1))
    >>> theta, theta_dot = np.eye(2, 3)[None], np.array([[[0, 0, 0.2], [0, 0, 0]]])
    >>> stn.warp_affine_jvp(image, theta, theta_dot=theta_dot, padding_mode="border")[0, 0, 0]
    array([0. , 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0. ])
    """
    options = check_options(mode, padding_mode, align_corners, fill, layout)
    return _warp_jvp(check_affine, images, theta, images_dot, theta_dot, size, options, stream)


@documented
def warp_perspective_jvp(
    images: Array,
    theta: Array,
    images_dot: Array | None = None,
    theta_dot: Array | None = None,
    size: tuple[int, ...] | None = None,
    *,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool = False,
    fill: float | Sequence[float] = 0.0,
    layout: str = "NCHW",
    stream: Any = None,
) -> Array:
    """Compute how the samples of :func:`numba_stn.warp_perspective` change.

    ``images_dot (N, C, H, W), theta_dot (N, 3, 3) -> samples_dot (N, C, H_out, W_out)``

    Parameters
    ----------
    images, theta
        The inputs of :func:`numba_stn.warp_perspective`.
    {images_dot}
    theta_dot : array of theta's shape and dtype, optional
        Tangent of theta. By default, zero.
    size, mode, padding_mode, align_corners, fill, layout, stream
        The options given to :func:`numba_stn.warp_perspective`.

    Returns
    -------
    samples_dot : array of the samples' shape and of images_dot's dtype

    Raises
    ------
    {errors}

    Examples
    --------
    The divisor grows by a tenth, so the image grows by a tenth too:

    >>> import numpy as np, numba_stn as stn
    >>> image = np.tile(np.arange(5.0), (1, 1, 1, 1))
    >>> theta_dot = np.zeros((1, 3, 3))
    >>> theta_dot[0, 2, 2] = 0.1
    >>> stn.warp_perspective_jvp(image, np.eye(3)[None], theta_dot=theta_dot).round(2)[0, 0, 0]
    array([ 0.2,  0.1,  0. , -0.1,  0.8])
    """
    options = check_options(mode, padding_mode, align_corners, fill, layout)
    return _warp_jvp(check_projective, images, theta, images_dot, theta_dot, size, options, stream)


@documented
def warp_affine_gauss_newton(
    images: Array,
    theta: Array,
    residuals: Array,
    *,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool = False,
    fill: float | Sequence[float] = 0.0,
    layout: str = "NCHW",
    stream: Any = None,
) -> tuple[Array, Array]:
    """Compute J^T J and J^T r of :func:`numba_stn.warp_affine` with respect to theta.

    ``theta (N, 2, 3), residuals (N, C, H_out, W_out) -> jtj (N, 6, 6), jtr (N, 6)``

    J is the Jacobian of the samples with respect to theta's six numbers, row by row, and r are the
    residuals. If r is ``warp_affine(images, theta) - target``, a Gauss-Newton step is
    ``theta - solve(jtj, jtr)`` (Lucas and Kanade 1981). The sums are accumulated in the loop over
    pixels, in float64 on the CPU; on a GPU each block sums in theta's dtype, and the sums of the
    blocks are added in float64. J, which has one row per pixel, is never in memory.

    Parameters
    ----------
    {plane_images}
    theta : (N, 2, 3) array of float32 or float64
        Maps normalised output coordinates (x, y) to normalised input coordinates.
    residuals : array of the samples' shape
        Of the images' dtype, or float32 if the images are integers.
    mode : str
        As given to :func:`numba_stn.warp_affine`; the nearest mode has no slopes.
    padding_mode, align_corners, fill, layout, stream
        The options given to :func:`numba_stn.warp_affine`.

    Returns
    -------
    jtj : (N, 6, 6) array of float64
        Symmetric and positive semi-definite.
    jtr : (N, 6) array of float64

    Raises
    ------
    {errors}

    Examples
    --------
    One step towards an image moved by a tenth of its width:

    >>> import numpy as np, numba_stn as stn
    >>> y, x = np.mgrid[-1:1:32j, -1:1:32j]
    >>> image = np.exp(-4 * (x**2 + 0.5 * y**2 + 0.3 * x * y))[None, None]
    >>> target = stn.warp_affine(image, np.array([[[1, 0, 0.2], [0, 1, 0.0]]]))
    >>> theta = np.eye(2, 3)[None]
    >>> residuals = stn.warp_affine(image, theta) - target
    >>> jtj, jtr = stn.warp_affine_gauss_newton(image, theta, residuals)
    >>> step = np.linalg.solve(jtj[0], jtr[0])
    >>> round(float((theta.ravel() - step)[2]), 1)
    0.2
    """
    options = check_options(mode, padding_mode, align_corners, fill, layout)
    if options.mode == NEAREST:
        raise ValueError("mode: expected a mode with slopes, such as 'bilinear', got 'nearest'")
    kernels, images, theta, residuals = choose_backend(
        stream, images=images, theta=theta, residuals=residuals
    )
    plan = find_plan(kernels, check_affine, images, theta, options)
    kind = plan.kind
    if kind.dims == 3:
        raise ValueError(f"images: expected planes (N, C, H, W), got {tuple(images.shape)}")
    shape = kind.shape(plan.batch, len(plan.fill), (None, None))
    check_array("residuals", residuals, shape, (gradient_dtype(images.dtype),))
    check_not_empty("residuals", kind.spatial(residuals))
    residuals = kernels.converted(residuals, plan.real)
    jtj, jtr = (kernels.empty((len(theta), *sides), np.float64, theta) for sides in ((6, 6), (6,)))
    plan.kernels.normal_equations(kind, images, theta, residuals, plan.off, plan.fill, jtj, jtr)
    return kernels.returned(jtj), kernels.returned(jtr)


# --- Shared by all functions ----------------------------------------------------------------------


def _warp_jvp(check, images, theta, images_dot, theta_dot, size, options, stream):
    """Check the arguments, and return the change of the samples."""
    kernels, images, theta, images_dot, theta_dot = choose_backend_for_jvp(
        stream, images=images, theta=theta, images_dot=images_dot, theta_dot=theta_dot
    )
    plan = find_plan(kernels, check, images, theta, options, size)
    check_tangents(images, images_dot, "theta_dot", theta, theta_dot)
    return compute_jvp(plan, images, theta, images_dot, theta_dot)


def check_tangents(images, images_dot, name, coords, coords_dot):
    """Raise an error if a tangent differs in shape or dtype from its input."""
    if images_dot is not None:
        check_array("images_dot", images_dot, images.shape, (computed(images.dtype),))
    if coords_dot is not None:
        check_array(name, coords_dot, coords.shape, (coords.dtype,))


def compute_jvp(plan, images, coords, images_dot, coords_dot):
    """Return the change of the samples for both tangents; None is a zero tangent."""
    samples_dot = plan.kernels.empty(plan.shape, plan.real, images)
    write_jvp(plan, images, coords, images_dot, coords_dot, samples_dot)
    return plan.kernels.returned(samples_dot)


def write_jvp(plan, images, coords, images_dot, coords_dot, samples_dot):
    """Write the change of the samples into ``samples_dot``."""
    kernels, kind, off, fill = plan.kernels, plan.kind, plan.off, plan.fill
    if not samples_dot.size:
        return
    if images_dot is None:
        kernels.clear(samples_dot)
    else:
        kernels.sample(kind, images_dot, coords, off, np.zeros_like(fill), samples_dot)
    if coords_dot is not None and kind.mode != NEAREST:
        kernels.sample_jvp_coords(kind, images, coords, coords_dot, off, fill, samples_dot)
