"""Double backward: the gradients of the warps' gradients; see :mod:`.second_derivatives`."""

from collections.abc import Collection, Sequence
from typing import Any

from .docstrings import documented
from .sampler import check_affine, check_grid, check_projective
from .second_derivatives import double_backward
from .validate import check_options
from .warp_tps import check_spline

__all__ = [
    "grid_sample_vjp_vjp",
    "warp_affine_vjp_vjp",
    "warp_perspective_vjp_vjp",
    "warp_tps_vjp_vjp",
]

Array = Any


@documented
def grid_sample_vjp_vjp(
    ddimages: Array | None,
    ddgrid: Array | None,
    dsamples: Array,
    images: Array,
    grid: Array,
    *,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool = False,
    fill: float | Sequence[float] = 0.0,
    layout: str = "NCHW",
    wrt: Collection[str] = ("dsamples", "images", "grid"),
    stream: Any = None,
) -> tuple[Array | None, Array | None, Array | None]:
    """Compute the gradients of :func:`numba_stn.grid_sample_vjp` (double backward).

    ``ddimages (N, C, H, W), ddgrid (N, H_out, W_out, 2) -> ddsamples, dimages, dgrid``

    The second loss depends on the gradients that :func:`numba_stn.grid_sample_vjp` returns, as a
    penalty on gradients does. With the slopes w' and the second derivatives w'' of the weights w in
    the sampling position, and v = ddgrid in pixels:

    - ddsamples is ``sum_k w_k ddimages_k + sum_k (w'_k . v) images_k``: what
      :func:`numba_stn.grid_sample_jvp` returns for these tangents;
    - ``dimages_k = sum over samples of dsamples (w'_k . v)``;
    - dgrid, in pixels, is ``dsamples sum_k (w'_k ddimages_k + w''_k v images_k)``.

    The same inputs give the same bits every time.

    Parameters
    ----------
    {ddimages}
    ddgrid : array of the grid's shape and dtype, or None
        Gradient of the second loss with respect to the first gradient of the grid; None: zero.
    dsamples, images, grid
        The inputs of :func:`numba_stn.grid_sample_vjp`.
    mode, padding_mode, align_corners, fill, layout, stream
        The options given to :func:`numba_stn.grid_sample_vjp`.
    {wrt}

    Returns
    -------
    ddsamples : array of dsamples' shape and dtype, or None
        Gradient of the second loss with respect to dsamples.
    dimages : array of the images' shape and of dsamples' dtype, or None
    dgrid : array of the grid's shape and dtype, or None

    Raises
    ------
    {errors}

    Examples
    --------
    The penalty ``sum(dimages^2) / 2`` has the gradient ddimages = dimages. It is quadratic in
    dsamples, so its gradient, ddsamples, is 2 times the penalty divided by dsamples = 1:

    >>> import numpy as np, numba_stn as stn
    >>> image, dsamples = np.arange(4.0).reshape(1, 1, 2, 2), np.ones((1, 1, 1, 1))
    >>> grid = np.array([[[[0.25, 0.0]]]])
    >>> dimages, _ = stn.grid_sample_vjp(dsamples, image, grid)
    >>> ddsamples, _, dgrid = stn.grid_sample_vjp_vjp(dimages, None, dsamples, image, grid)
    >>> (dimages**2).sum(), ddsamples
    (np.float64(0.3125), array([[[[0.3125]]]]))
    >>> dgrid
    array([[[[0.25, 0.  ]]]])
    """
    options = check_options(mode, padding_mode, align_corners, fill, layout)
    second, first = (ddimages, ddgrid), (dsamples, images, grid)
    return double_backward(check_grid, "grid", second, first, options, wrt, stream)


@documented
def warp_affine_vjp_vjp(
    ddimages: Array | None,
    ddtheta: Array | None,
    dsamples: Array,
    images: Array,
    theta: Array,
    *,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool = False,
    fill: float | Sequence[float] = 0.0,
    layout: str = "NCHW",
    wrt: Collection[str] = ("dsamples", "images", "theta"),
    stream: Any = None,
) -> tuple[Array | None, Array | None, Array | None]:
    """Compute the gradients of :func:`numba_stn.warp_affine_vjp` (double backward).

    ``ddimages (N, C, H, W), ddtheta (N, 2, 3) -> ddsamples, dimages, dtheta``

    As :func:`numba_stn.grid_sample_vjp_vjp`, by the chain rule: positions are linear in theta, so v
    is the product of ddtheta and (x, y, 1), and the gradient of a position times (x, y, 1) is that
    of theta. No grid is in memory. The same inputs give the same bits every time.

    Parameters
    ----------
    {ddimages}
    ddtheta : array of theta's shape and dtype, or None
        Gradient of the second loss with respect to the first gradient of theta; None: zero.
    dsamples, images, theta
        The inputs of :func:`numba_stn.warp_affine_vjp`.
    mode, padding_mode, align_corners, fill, layout, stream
        The options given to :func:`numba_stn.warp_affine_vjp`.
    {wrt}

    Returns
    -------
    ddsamples : array of dsamples' shape and dtype, or None
        Gradient of the second loss with respect to dsamples.
    dimages : array of the images' shape and of dsamples' dtype, or None
    dtheta : array of theta's shape and dtype, or None

    Raises
    ------
    {errors}

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> image, dsamples = np.arange(4.0).reshape(1, 1, 2, 2), np.ones((1, 1, 2, 2))
    >>> theta = np.array([[[0.5, 0.0, 0.0], [0.0, 0.5, 0.0]]])
    >>> _, dtheta = stn.warp_affine_vjp(dsamples, image, theta)
    >>> ddsamples, dimages, dtheta = stn.warp_affine_vjp_vjp(None, dtheta, dsamples, image, theta)
    >>> ddsamples.shape, dimages.shape, dtheta.shape
    ((1, 1, 2, 2), (1, 1, 2, 2), (1, 2, 3))
    """
    options = check_options(mode, padding_mode, align_corners, fill, layout)
    second, first = (ddimages, ddtheta), (dsamples, images, theta)
    return double_backward(check_affine, "theta", second, first, options, wrt, stream)


@documented
def warp_perspective_vjp_vjp(
    ddimages: Array | None,
    ddtheta: Array | None,
    dsamples: Array,
    images: Array,
    theta: Array,
    *,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool = False,
    fill: float | Sequence[float] = 0.0,
    layout: str = "NCHW",
    wrt: Collection[str] = ("dsamples", "images", "theta"),
    stream: Any = None,
) -> tuple[Array | None, Array | None, Array | None]:
    """Compute the gradients of :func:`numba_stn.warp_perspective_vjp` (double backward).

    ``ddimages (N, C, H, W), ddtheta (N, 3, 3) -> ddsamples, dimages, dtheta``

    As :func:`numba_stn.grid_sample_vjp_vjp`, by the chain rule. The position (u / w, v / w) is not
    linear in theta, so its own second derivatives, those of a quotient, are in dtheta, too. No grid
    is in memory. The same inputs give the same bits every time.

    Parameters
    ----------
    {ddimages}
    ddtheta : array of theta's shape and dtype, or None
        Gradient of the second loss with respect to the first gradient of theta; None: zero.
    dsamples, images, theta
        The inputs of :func:`numba_stn.warp_perspective_vjp`.
    mode, padding_mode, align_corners, fill, layout, stream
        The options given to :func:`numba_stn.warp_perspective_vjp`.
    {wrt}

    Returns
    -------
    ddsamples : array of dsamples' shape and dtype, or None
        Gradient of the second loss with respect to dsamples.
    dimages : array of the images' shape and of dsamples' dtype, or None
    dtheta : array of theta's shape and dtype, or None

    Raises
    ------
    {errors}

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> image, dsamples = np.arange(4.0).reshape(1, 1, 2, 2), np.ones((1, 1, 2, 2))
    >>> theta = np.diag([0.5, 0.5, 1.0])[None]
    >>> _, ddtheta = stn.warp_perspective_vjp(dsamples, image, theta)
    >>> wanted = ("theta",)
    >>> found = stn.warp_perspective_vjp_vjp(None, ddtheta, dsamples, image, theta, wrt=wanted)
    >>> found[0] is None, found[2].shape
    (True, (1, 3, 3))
    """
    options = check_options(mode, padding_mode, align_corners, fill, layout)
    second, first = (ddimages, ddtheta), (dsamples, images, theta)
    return double_backward(check_projective, "theta", second, first, options, wrt, stream)


@documented
def warp_tps_vjp_vjp(
    ddimages: Array | None,
    ddcontrol: Array | None,
    dsamples: Array,
    images: Array,
    control: Array,
    *,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool = False,
    fill: float | Sequence[float] = 0.0,
    layout: str = "NCHW",
    wrt: Collection[str] = ("dsamples", "images", "control"),
    regularisation: float = 0.0,
    stream: Any = None,
) -> tuple[Array | None, Array | None, Array | None]:
    """Compute the gradients of :func:`numba_stn.warp_tps_vjp` (double backward).

    ``ddimages (N, C, H, W), ddcontrol (N, K, 2) -> ddsamples, dimages, dcontrol``

    As :func:`numba_stn.grid_sample_vjp_vjp`, by the chain rule: a spline is linear in its control
    points. The grids of a few images at a time are in memory. The same inputs give the same bits
    every time.

    Parameters
    ----------
    {ddimages}
    ddcontrol : array of control's shape and dtype, or None
        Gradient of the second loss with respect to the first gradient of control; None: zero.
    dsamples, images, control
        The inputs of :func:`numba_stn.warp_tps_vjp`.
    mode, padding_mode, align_corners, fill, layout, regularisation, stream
        The options given to :func:`numba_stn.warp_tps_vjp`.
    {wrt}

    Returns
    -------
    ddsamples : array of dsamples' shape and dtype, or None
        Gradient of the second loss with respect to dsamples.
    dimages : array of the images' shape and of dsamples' dtype, or None
    dcontrol : array of control's shape and dtype, or None

    Raises
    ------
    {errors}

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> image, control = np.arange(16.0).reshape(1, 1, 4, 4), 0.5 * stn.control_points(2)[None]
    >>> dsamples = np.ones((1, 1, 4, 4))
    >>> dimages, dcontrol = stn.warp_tps_vjp(dsamples, image, control)
    >>> found = stn.warp_tps_vjp_vjp(dimages, dcontrol, dsamples, image, control)
    >>> [each.shape for each in found]
    [(1, 1, 4, 4), (1, 1, 4, 4), (1, 4, 2)]
    """
    options = check_options(mode, padding_mode, align_corners, fill, layout)
    second, first = (ddimages, ddcontrol), (dsamples, images, control)
    return double_backward(
        check_spline, "control", second, first, options, wrt, stream, regularisation
    )
