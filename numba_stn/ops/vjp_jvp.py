"""Tangents of the warps' gradients: Hessian-vector products; see :mod:`.second_derivatives`."""

from collections.abc import Collection, Sequence
from typing import Any

from .docstrings import documented
from .sampler import check_affine, check_grid, check_projective
from .second_derivatives import gradient_tangents
from .validate import check_options
from .warp_tps import check_spline

__all__ = [
    "grid_sample_vjp_jvp",
    "warp_affine_vjp_jvp",
    "warp_perspective_vjp_jvp",
    "warp_tps_vjp_jvp",
]

Array = Any


@documented
def grid_sample_vjp_jvp(
    dsamples: Array,
    images: Array,
    grid: Array,
    dsamples_dot: Array | None = None,
    images_dot: Array | None = None,
    grid_dot: Array | None = None,
    *,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool = False,
    fill: float | Sequence[float] = 0.0,
    layout: str = "NCHW",
    wrt: Collection[str] = ("images", "grid"),
    stream: Any = None,
) -> tuple[Array | None, Array | None]:
    """Compute how the gradients of :func:`numba_stn.grid_sample_vjp` change.

    ``images_dot (N, C, H, W), grid_dot (N, H_out, W_out, 2) -> dimages_dot, dgrid_dot``

    ``samples`` depend on the images and the grid. If dsamples is the gradient of a loss, then
    (dimages, dgrid) is the loss's, and its tangent for a step (images_dot, grid_dot) is the product
    of the loss's Hessian and this step. dsamples itself changes on the way: dsamples_dot is the
    product of the loss's second derivatives by the samples and
    ``grid_sample_jvp(images, grid, images_dot, grid_dot)``. For ``sum(samples**2) / 2`` it is that
    change of the samples. Without dsamples_dot the result is the part that the Gauss-Newton method
    neglects.

    The same inputs give the same bits every time.

    Parameters
    ----------
    dsamples, images, grid
        The inputs of :func:`numba_stn.grid_sample_vjp`.
    {dsamples_dot, images_dot}
    grid_dot : array of the grid's shape and dtype, optional
        Tangent of the grid. By default, zero.
    mode, padding_mode, align_corners, fill, layout, stream
        The options given to :func:`numba_stn.grid_sample_vjp`.
    {wrt}

    Returns
    -------
    dimages_dot : array of the images' shape and of dsamples' dtype, or None
        With one image and several grids, the sum over the grids.
    dgrid_dot : array of the grid's shape and dtype, or None

    Raises
    ------
    {errors}

    Examples
    --------
    The slope in y grows with x, because the image is x y in pixels:

    >>> import numpy as np, numba_stn as stn
    >>> image = np.outer(np.arange(4.0), np.arange(4.0))[None, None]
    >>> dsamples, grid = np.ones((1, 1, 1, 1)), np.zeros((1, 1, 1, 2))
    >>> right = np.array([[[[0.5, 0.0]]]])  # one pixel
    >>> stn.grid_sample_vjp_jvp(dsamples, image, grid, grid_dot=right)[1]
    array([[[[0., 2.]]]])
    """
    options = check_options(mode, padding_mode, align_corners, fill, layout)
    first, dots = (dsamples, images, grid), (dsamples_dot, images_dot, grid_dot)
    return gradient_tangents(check_grid, "grid", first, dots, options, wrt, stream)


@documented
def warp_affine_vjp_jvp(
    dsamples: Array,
    images: Array,
    theta: Array,
    dsamples_dot: Array | None = None,
    images_dot: Array | None = None,
    theta_dot: Array | None = None,
    *,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool = False,
    fill: float | Sequence[float] = 0.0,
    layout: str = "NCHW",
    wrt: Collection[str] = ("images", "theta"),
    stream: Any = None,
) -> tuple[Array | None, Array | None]:
    """Compute how the gradients of :func:`numba_stn.warp_affine_vjp` change.

    ``images_dot (N, C, H, W), theta_dot (N, 2, 3) -> dimages_dot, dtheta_dot``

    As :func:`numba_stn.grid_sample_vjp_jvp`, without a grid in memory. Positions are linear in
    theta, so theta itself has no second derivatives. The same inputs give the same bits every time.

    Parameters
    ----------
    dsamples, images, theta
        The inputs of :func:`numba_stn.warp_affine_vjp`.
    {dsamples_dot, images_dot}
    theta_dot : array of theta's shape and dtype, optional
        Tangent of theta. By default, zero.
    mode, padding_mode, align_corners, fill, layout, stream
        The options given to :func:`numba_stn.warp_affine_vjp`.
    {wrt}

    Returns
    -------
    dimages_dot : array of the images' shape and of dsamples' dtype, or None
        With one image and several thetas, the sum over the thetas.
    dtheta_dot : array of theta's shape and dtype, or None

    Raises
    ------
    {errors}

    Examples
    --------
    The Hessian of half the sum of squares of the samples, times a step of theta:

    >>> import numpy as np, numba_stn as stn
    >>> y, x = np.mgrid[-1:1:8j, -1:1:8j]
    >>> image, theta = np.exp(-(x**2) - y**2)[None, None], 0.7 * np.eye(2, 3)[None]
    >>> theta_dot = np.array([[[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]])
    >>> samples = stn.warp_affine(image, theta, mode="spline3")
    >>> change = stn.warp_affine_jvp(image, theta, theta_dot=theta_dot, mode="spline3")
    >>> _, product = stn.warp_affine_vjp_jvp(
    ...     samples, image, theta, change, theta_dot=theta_dot, mode="spline3"
    ... )
    >>> product.shape
    (1, 2, 3)
    """
    options = check_options(mode, padding_mode, align_corners, fill, layout)
    first, dots = (dsamples, images, theta), (dsamples_dot, images_dot, theta_dot)
    return gradient_tangents(check_affine, "theta", first, dots, options, wrt, stream)


@documented
def warp_perspective_vjp_jvp(
    dsamples: Array,
    images: Array,
    theta: Array,
    dsamples_dot: Array | None = None,
    images_dot: Array | None = None,
    theta_dot: Array | None = None,
    *,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool = False,
    fill: float | Sequence[float] = 0.0,
    layout: str = "NCHW",
    wrt: Collection[str] = ("images", "theta"),
    stream: Any = None,
) -> tuple[Array | None, Array | None]:
    """Compute how the gradients of :func:`numba_stn.warp_perspective_vjp` change.

    ``images_dot (N, C, H, W), theta_dot (N, 3, 3) -> dimages_dot, dtheta_dot``

    As :func:`numba_stn.grid_sample_vjp_jvp`, without a grid in memory. The positions (u / w, v / w)
    have second derivatives by theta, which are in dtheta_dot. The same inputs give the same bits
    every time.

    Parameters
    ----------
    dsamples, images, theta
        The inputs of :func:`numba_stn.warp_perspective_vjp`.
    {dsamples_dot, images_dot}
    theta_dot : array of theta's shape and dtype, optional
        Tangent of theta. By default, zero.
    mode, padding_mode, align_corners, fill, layout, stream
        The options given to :func:`numba_stn.warp_perspective_vjp`.
    {wrt}

    Returns
    -------
    dimages_dot : array of the images' shape and of dsamples' dtype, or None
        With one image and several thetas, the sum over the thetas.
    dtheta_dot : array of theta's shape and dtype, or None

    Raises
    ------
    {errors}

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> image, dsamples = np.arange(4.0).reshape(1, 1, 2, 2), np.ones((1, 1, 2, 2))
    >>> theta, theta_dot = np.diag([0.5, 0.5, 1.0])[None], np.zeros((1, 3, 3))
    >>> theta_dot[0, 2, 2] = 1.0
    >>> _, dtheta_dot = stn.warp_perspective_vjp_jvp(dsamples, image, theta, theta_dot=theta_dot)
    >>> dtheta_dot.shape
    (1, 3, 3)
    """
    options = check_options(mode, padding_mode, align_corners, fill, layout)
    first, dots = (dsamples, images, theta), (dsamples_dot, images_dot, theta_dot)
    return gradient_tangents(check_projective, "theta", first, dots, options, wrt, stream)


@documented
def warp_tps_vjp_jvp(
    dsamples: Array,
    images: Array,
    control: Array,
    dsamples_dot: Array | None = None,
    images_dot: Array | None = None,
    control_dot: Array | None = None,
    *,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool = False,
    fill: float | Sequence[float] = 0.0,
    layout: str = "NCHW",
    wrt: Collection[str] = ("images", "control"),
    regularisation: float = 0.0,
    stream: Any = None,
) -> tuple[Array | None, Array | None]:
    """Compute how the gradients of :func:`numba_stn.warp_tps_vjp` change.

    ``images_dot (N, C, H, W), control_dot (N, K, 2) -> dimages_dot, dcontrol_dot``

    As :func:`numba_stn.grid_sample_vjp_jvp`, by the chain rule: a spline is linear in its control
    points. The grids of a few images at a time are in memory. The same inputs give the same bits
    every time.

    Parameters
    ----------
    dsamples, images, control
        The inputs of :func:`numba_stn.warp_tps_vjp`.
    {dsamples_dot, images_dot}
    control_dot : array of control's shape and dtype, optional
        Tangent of the control points. By default, zero.
    mode, padding_mode, align_corners, fill, layout, regularisation, stream
        The options given to :func:`numba_stn.warp_tps_vjp`.
    {wrt}

    Returns
    -------
    dimages_dot : array of the images' shape and of dsamples' dtype, or None
        With one image and several splines, the sum over the splines.
    dcontrol_dot : array of control's shape and dtype, or None

    Raises
    ------
    {errors}

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> image, control = np.arange(16.0).reshape(1, 1, 4, 4), 0.5 * stn.control_points(2)[None]
    >>> control_dot = np.tile([0.1, 0.0], (1, 4, 1))
    >>> _, dcontrol_dot = stn.warp_tps_vjp_jvp(
    ...     np.ones((1, 1, 4, 4)), image, control, control_dot=control_dot
    ... )
    >>> bool(np.abs(dcontrol_dot).max() < 1e-12)  # the image is linear
    True
    """
    options = check_options(mode, padding_mode, align_corners, fill, layout)
    first, dots = (dsamples, images, control), (dsamples_dot, images_dot, control_dot)
    return gradient_tangents(
        check_spline, "control", first, dots, options, wrt, stream, regularisation
    )
