"""Affine and projective warps: grid and sampler in one pass, forward and backward.

The grid is never in memory. As in :mod:`numba_stn.ops.grid_sample`, theta maps normalised output
coordinates to normalised input coordinates, and ``f_vjp`` takes the gradient with respect to the
result of f to those with respect to its inputs.
"""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from .antialias import sample_means, sample_means_vjp
from .dask_arrays import accept_dask_arrays
from .docstrings import documented
from .sampler import check_affine, check_projective, find_plan
from .validate import check_flag, check_options, check_wrt, choose_backend

__all__ = ["warp_affine", "warp_affine_vjp", "warp_perspective", "warp_perspective_vjp"]

Array = Any  # numpy.ndarray, or an array on a CUDA device

# --- warp_affine ----------------------------------------------------------------------------------


@documented
@accept_dask_arrays("images", "theta")
def warp_affine(
    images: Array,
    theta: Array,
    size: tuple[int, ...] | None = None,
    *,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool = False,
    fill: float | Sequence[float] = 0.0,
    layout: str = "NCHW",
    coverage: bool = False,
    antialias: bool = False,
    out: Array | None = None,
    stream: Any = None,
) -> Array:
    """Warp images by affine maps: ``affine_grid`` and ``grid_sample`` in one pass.

    ``images (N, C, H, W), theta (N, 2, 3) -> samples (N, C, H_out, W_out)``

    The grid is never in memory. The coordinates are computed in float64 on the CPU, so an identity
    theta returns (finite) images bit for bit. There one theta (1, 2, 3) is taken for all images,
    and its gradient is the sum over them.

    Parameters
    ----------
    {images, theta, size}
    {mode, padding_mode, align_corners, fill, layout, coverage, antialias, out, stream}

    Returns
    -------
    samples : (N, C, H_out, W_out) or (N, C, D_out, H_out, W_out) array of the images' dtype
        ``out``, if given.
    covered : (N, H_out, W_out) or (N, D_out, H_out, W_out) array of theta's dtype
        Only with ``coverage=True``.

    Raises
    ------
    {errors}

    Examples
    --------
    Mirror an image left to right:

    >>> import numpy as np, numba_stn as stn
    >>> image = np.arange(6.0).reshape(1, 1, 2, 3)
    >>> stn.warp_affine(image, np.array([[[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]]))
    array([[[[2., 1., 0.],
             [5., 4., 3.]]]])
    """
    options = check_options(mode, padding_mode, align_corners, fill, layout)
    flags = coverage, antialias
    return _warp(check_affine, images, theta, options, size, flags, out, stream)


@documented
@accept_dask_arrays("dsamples", "images", "theta")
def warp_affine_vjp(
    dsamples: Array,
    images: Array,
    theta: Array,
    *,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool = False,
    fill: float | Sequence[float] = 0.0,
    layout: str = "NCHW",
    antialias: bool = False,
    wrt: Collection[str] = ("images", "theta"),
    stream: Any = None,
) -> tuple[Array | None, Array | None]:
    """Compute the gradients of :func:`warp_affine` with respect to the images and theta.

    ``dsamples (N, C, H_out, W_out) -> dimages (N, C, H, W), dtheta (N, 2, 3)``

    This is ``grid_sample_vjp`` and ``affine_grid_vjp`` in one pass; neither the grid nor its
    gradient is in memory. The same inputs give the same bits every time.

    Parameters
    ----------
    {dsamples}
    images, theta
        The inputs of :func:`warp_affine`.
    mode, padding_mode, align_corners, fill, layout, antialias, stream
        The options given to :func:`warp_affine`.
    {wrt}

    Returns
    -------
    dimages : array of the images' shape and of dsamples' dtype, or None
        With one image and several thetas, the sum over the thetas.
    dtheta : array of theta's shape and dtype, or None

    Raises
    ------
    {errors}

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
    options = check_options(mode, padding_mode, align_corners, fill, layout)
    return _warp_vjp(check_affine, dsamples, images, theta, options, antialias, wrt, stream)


# --- warp_perspective -----------------------------------------------------------------------------


@documented
@accept_dask_arrays("images", "theta")
def warp_perspective(
    images: Array,
    theta: Array,
    size: tuple[int, ...] | None = None,
    *,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool = False,
    fill: float | Sequence[float] = 0.0,
    layout: str = "NCHW",
    coverage: bool = False,
    antialias: bool = False,
    out: Array | None = None,
    stream: Any = None,
) -> Array:
    """Warp images by projective maps (homographies).

    ``images (N, C, H, W), theta (N, 3, 3) -> samples (N, C, H_out, W_out)``

    Output pixel (x, y) samples the input at ``(u / w, v / w)`` with
    ``(u, v, w) = theta @ (x, y, 1)`` (Jaderberg et al. 2015, section 4.1). Where w is 0, the
    coordinate is infinite: it is outside under zeros and fill, and has no slope. Volumes
    (N, C, D, H, W) are sampled at ``(u / w, v / w, t / w)`` with ``(u, v, t, w) = theta @ (x, y, z,
    1)``, for theta (N, 4, 4). One theta is taken for all images, as in :func:`warp_affine`.

    Parameters
    ----------
    {images, projective_theta, size}
    {mode, padding_mode, align_corners, fill, layout, coverage, antialias, out, stream}

    Returns
    -------
    samples : (N, C, H_out, W_out) or (N, C, D_out, H_out, W_out) array of the images' dtype
        ``out``, if given.
    covered : (N, H_out, W_out) or (N, D_out, H_out, W_out) array of theta's dtype
        Only with ``coverage=True``.

    Raises
    ------
    {errors}

    Examples
    --------
    A camera that looks up: the upper half is seen from further away.

    >>> import numpy as np, numba_stn as stn
    >>> image = np.ones((1, 1, 3, 4))
    >>> theta = np.array([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.5, 1.0]]])
    >>> stn.warp_perspective(image, theta).round(3)
    array([[[[0.125, 0.5  , 0.5  , 0.125],
             [1.   , 1.   , 1.   , 1.   ],
             [1.   , 1.   , 1.   , 1.   ]]]])
    """
    options = check_options(mode, padding_mode, align_corners, fill, layout)
    flags = coverage, antialias
    return _warp(check_projective, images, theta, options, size, flags, out, stream)


@documented
@accept_dask_arrays("dsamples", "images", "theta")
def warp_perspective_vjp(
    dsamples: Array,
    images: Array,
    theta: Array,
    *,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool = False,
    fill: float | Sequence[float] = 0.0,
    layout: str = "NCHW",
    antialias: bool = False,
    wrt: Collection[str] = ("images", "theta"),
    stream: Any = None,
) -> tuple[Array | None, Array | None]:
    """Compute the gradients of :func:`warp_perspective` with respect to the images and theta.

    ``dsamples (N, C, H_out, W_out) -> dimages (N, C, H, W), dtheta (N, 3, 3)``

    With (gx, gy) the gradient with respect to the coordinate (x, y) that output pixel p samples,
    ``dtheta = sum_p (gx / w, gy / w, -(gx x + gy y) / w) (p_x, p_y, 1)^T``, and likewise with z for
    volumes. The same inputs give the same bits every time.

    Parameters
    ----------
    {dsamples}
    images, theta
        The inputs of :func:`warp_perspective`.
    mode, padding_mode, align_corners, fill, layout, antialias, stream
        The options given to :func:`warp_perspective`.
    {wrt}

    Returns
    -------
    dimages : array of the images' shape and of dsamples' dtype, or None
        With one image and several thetas, the sum over the thetas.
    dtheta : array of theta's shape and dtype, or None

    Raises
    ------
    {errors}

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> image, theta = np.arange(4.0).reshape(1, 1, 2, 2), 0.5 * np.eye(3)[None]
    >>> theta[:, 2, 2] = 1
    >>> dimages, dtheta = stn.warp_perspective_vjp(np.ones((1, 1, 2, 2)), image, theta)
    >>> dimages
    array([[[[1., 1.],
             [1., 1.]]]])
    >>> dtheta.shape
    (1, 3, 3)
    """
    options = check_options(mode, padding_mode, align_corners, fill, layout)
    return _warp_vjp(check_projective, dsamples, images, theta, options, antialias, wrt, stream)


# --- Shared by both maps --------------------------------------------------------------------------


def _warp(check, images, theta, options, size, flags, out, stream):
    """Check the arguments, and sample."""
    kernels, images, theta = choose_backend(stream, images=images, theta=theta)
    theta = repeat_for_images(theta, images)
    plan = find_plan(kernels, check, images, theta, options, size)
    coverage, antialias = flags
    check_flag("coverage", coverage)
    if check_flag("antialias", antialias) and hasattr(kernels, "areas"):
        plan = plan.with_kernels(kernels.areas)
    elif antialias:
        return _sample_means(plan, images, theta, coverage, out)
    return plan.sample(images, theta, out, coverage, stream)


def _sample_means(plan, images, theta, coverage, out):
    """Return what :meth:`.sampler.Plan.sample` does, antialiased, for arrays on the CPU."""
    samples = plan.kernels.output(plan.shape, images, theta, out)
    found = sample_means(plan, images, theta, coverage)
    samples[...] = found[0] if coverage else found
    samples = plan.kernels.returned(samples, out)
    return (samples, found[1]) if coverage else samples


def _warp_vjp(check, dsamples, images, theta, options, antialias, wrt, stream):
    """Check the arguments, and return the wanted gradients."""
    wanted = check_wrt(wrt, ("images", "theta"))
    kernels, dsamples, images, theta = choose_backend(
        stream, dsamples=dsamples, images=images, theta=theta
    )
    each = repeat_for_images(theta, images)
    plan = find_plan(kernels, check, images, each, options, dsamples=dsamples)
    if check_flag("antialias", antialias) and hasattr(kernels, "areas"):
        plan = plan.with_kernels(kernels.areas)
    elif antialias:
        dimages, dtheta = sample_means_vjp(plan, dsamples, images, each, wanted)
        return dimages, sum_repeated(dtheta, each is not theta)
    dimages, dtheta = plan.vjp(dsamples, images, each, wanted)
    return dimages, sum_repeated(dtheta, each is not theta)


def repeat_for_images(theta, images):
    """Repeat a single theta, in the computer's memory, for all images."""
    if len(theta.shape) != 3 or theta.shape[0] != 1 or type(theta) is not np.ndarray:
        return theta
    return theta if images.shape[0] < 2 else np.repeat(theta, images.shape[0], axis=0)


def sum_repeated(dtheta, repeated):
    """Sum the gradients of a theta that was repeated."""
    return dtheta.sum(axis=0, keepdims=True) if repeated and dtheta is not None else dtheta
