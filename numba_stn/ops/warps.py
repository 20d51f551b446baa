"""Warps: grid and sampler in one pass, without the grid in memory, forward or backward.

As in :mod:`numba_stn.ops.grid_sample`, theta maps normalised output coordinates to normalised input
coordinates, and ``f_vjp`` takes the gradient with respect to f's result to those with respect to
its inputs.
"""

from collections.abc import Collection, Sequence
from typing import Any

from ..kernels.math.coordinates import AFFINE, PROJECTIVE
from .antialias import sample_means, sample_means_vjp
from .dask_arrays import accept_dask_arrays
from .sampler import Sampler
from .validate import (
    check_array,
    check_batch_sizes,
    check_flag,
    check_images,
    check_options,
    check_output_size,
    check_wrt,
    choose_kernels,
)

__all__ = ["warp_affine", "warp_affine_vjp", "warp_perspective", "warp_perspective_vjp"]

Array = Any  # numpy.ndarray, or an array on a CUDA device

# --- warp_affine ----------------------------------------------------------------------------------


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

    The grid is never in memory. The coordinates are formed in float64 on the CPU, so an identity
    theta returns its (finite) images bit for bit.

    Parameters
    ----------
    images : (N, C, H, W) or (N, C, D, H, W) array of float32, float64, float16, uint8 or uint16
        With N = 1, one image is read by every theta.
    theta : (N, 2, 3) or (N, 3, 4) array of float32 or float64
        Maps normalised output coordinates (x, y) or (x, y, z) to normalised input coordinates.
    size : (H_out, W_out) or (D_out, H_out, W_out), optional
        The output's spatial shape; the images' own, if not given.
    mode, padding_mode, align_corners, fill, layout, coverage, out, stream
        As in :func:`numba_stn.grid_sample`.
    antialias : bool
        Whether an output pixel is the mean over its area where the map shrinks the image: of as
        many samples as it skips pixels, at most 16 by 16. Otherwise it is one sample.

    Returns
    -------
    samples : (N, C, H_out, W_out) or (N, C, D_out, H_out, W_out) array of the images' dtype
        ``out``, if it was given.
    covered : (N, H_out, W_out) or (N, D_out, H_out, W_out) array of theta's dtype
        Only with ``coverage=True``.

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
    options = check_options(mode, padding_mode, align_corners, fill, layout)
    return _warp(AFFINE, images, theta, size, options, coverage, antialias, out, stream)


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
    """Gradients of :func:`warp_affine` with respect to the images and theta.

    ``grid_sample_vjp`` and ``affine_grid_vjp`` in one pass, without a grid or its gradient in
    memory. The same inputs give the same bits every time.

    Parameters
    ----------
    dsamples : array of the samples' shape
        Gradient of the loss with respect to the samples; of the images' dtype, or float32 where
        the images are integers.
    images, theta, mode, padding_mode, align_corners, fill, layout, antialias, stream
        As given to :func:`warp_affine`.
    wrt : collection of {"images", "theta"}
        The gradients wanted. One that is not asked for is None and costs nothing.

    Returns
    -------
    dimages : array of the images' shape and of dsamples' dtype, or None
        With one image and many thetas, the sum over the thetas.
    dtheta : array of theta's shape and dtype, or None

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
    options = check_options(mode, padding_mode, align_corners, fill, layout)
    return _warp_vjp(AFFINE, dsamples, images, theta, options, antialias, wrt, stream)


# --- warp_perspective -----------------------------------------------------------------------------


@accept_dask_arrays("images", "theta")
def warp_perspective(
    images: Array,
    theta: Array,
    size: tuple[int, int] | None = None,
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

    Output pixel (x, y) reads the input at ``(u / w, v / w)`` with ``(u, v, w) = theta @ (x, y, 1)``
    (Jaderberg et al. 2015, section 4.1). Where w is 0 it reads as from infinity, which is outside
    under zeros and fill, and has no slope.

    Parameters
    ----------
    images : (N, C, H, W) array of float32, float64, float16, uint8 or uint16
        With N = 1, one image is read by every theta.
    theta : (N, 3, 3) array of float32 or float64
        Maps normalised output coordinates (x, y, 1) to normalised input coordinates times w.
    size : (H_out, W_out), optional
        The output's spatial shape; the images' own, if not given.
    mode, padding_mode, align_corners, fill, layout, coverage, out, stream
        As in :func:`numba_stn.grid_sample`.
    antialias : bool
        Whether an output pixel is the mean over its area where the map shrinks the image: of as
        many samples as it skips pixels, at most 16 by 16. Otherwise it is one sample.

    Returns
    -------
    samples : (N, C, H_out, W_out) array of the images' dtype
        ``out``, if it was given.
    covered : (N, H_out, W_out) array of theta's dtype
        Only with ``coverage=True``.

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape, type or value; the message names it.

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
    return _warp(PROJECTIVE, images, theta, size, options, coverage, antialias, out, stream)


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
    """Gradients of :func:`warp_perspective` with respect to the images and theta.

    With (gx, gy) the gradient with respect to the coordinate (x, y) that a pixel p reads,
    ``dtheta = sum_p (gx / w, gy / w, -(gx x + gy y) / w) (p_x, p_y, 1)^T``. The same inputs give
    the same bits every time.

    Parameters
    ----------
    dsamples : array of the samples' shape
        Gradient of the loss with respect to the samples; of the images' dtype, or float32 where
        the images are integers.
    images, theta, mode, padding_mode, align_corners, fill, layout, antialias, stream
        As given to :func:`warp_perspective`.
    wrt : collection of {"images", "theta"}
        The gradients wanted. One that is not asked for is None and costs nothing.

    Returns
    -------
    dimages : array of the images' shape and of dsamples' dtype, or None
        With one image and many thetas, the sum over the thetas.
    dtheta : (N, 3, 3) array of theta's dtype, or None

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape, type or value; the message names it.

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
    return _warp_vjp(PROJECTIVE, dsamples, images, theta, options, antialias, wrt, stream)


# --- Both -----------------------------------------------------------------------------------------


def _warp(source, images, theta, size, options, coverage, antialias, out, stream):
    kernels, images, theta = choose_kernels(stream, images=images, theta=theta)
    images, theta = check_theta(source, images, theta, options)
    kind = options.kind(source, images)
    size = kind.spatial(images) if size is None else check_output_size(size, len(theta), kind.dims)
    one, coverage = (
        Sampler(kernels, source, images, theta, options),
        check_flag("coverage", coverage),
    )
    if check_flag("antialias", antialias) and hasattr(kernels, "areas"):
        one = one._replace(kernels=kernels.areas)
    elif antialias:
        return _sample_means(one, size, coverage, out)
    return one.sample(size, out, coverage, stream)


def _sample_means(one, size, coverage, out):
    """What :meth:`.sampler.Pass.sample` gives, of arrays on the CPU that are sampled finer."""
    kernels, kind, images, theta = one.kernels, one.kind, one.images, one.coords
    shape = kind.shape(len(theta), kind.channels(images), size)
    held = kernels.output(shape, images, theta, out)
    found = sample_means(one, size, coverage)
    held[...] = found[0] if coverage else found
    held = kernels.returned(held, out)
    return (held, found[1]) if coverage else held


def _warp_vjp(source, dsamples, images, theta, options, antialias, wrt, stream):
    wanted = check_wrt(wrt, ("images", "theta"))
    kernels, dsamples, images, theta = choose_kernels(
        stream, dsamples=dsamples, images=images, theta=theta
    )
    images, theta = check_theta(source, images, theta, options)
    one = Sampler(kernels, source, images, theta, options)
    if check_flag("antialias", antialias) and hasattr(kernels, "areas"):
        one = one._replace(kernels=kernels.areas)
    elif antialias:
        return sample_means_vjp(one, dsamples, wanted)
    return one.vjp(dsamples, wanted)


def check_theta(source, images, theta, options):
    """Images and maps that read them."""
    images = check_images(images, options)
    dims = len(images.shape) - 2
    if source == PROJECTIVE and dims == 3:
        raise ValueError(f"images: expected planes, (N, C, H, W), got {tuple(images.shape)}")
    check_array("theta", theta, (None, dims + (source == PROJECTIVE), dims + 1))
    check_batch_sizes(images, "theta", theta)
    return images, theta
