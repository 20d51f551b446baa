"""Forward derivatives of the warps: where samples go as images and coordinates move.

``f_jvp`` takes small changes of f's inputs, named with a ``_dot`` behind, to the change of its
result, to first order: the product of f's Jacobian J with a vector, where ``f_vjp`` is that of
its transpose. :func:`warp_affine_gauss_newton` gives J^T J and J^T r with respect to theta, for
aligning images. J itself is never formed.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..kernels.math.coordinates import AFFINE, GRID, NEAREST, PROJECTIVE
from ..kernels.math.storage import computed
from .grid_sample import check_grid
from .sampler import Sampler
from .validate import (
    check_array,
    check_not_empty,
    check_options,
    check_output_size,
    choose_kernels,
    choose_kernels_for_jvp,
    expand_fill,
)
from .warps import check_theta

__all__ = [
    "grid_sample_jvp",
    "warp_affine_gauss_newton",
    "warp_affine_jvp",
    "warp_perspective_jvp",
]

Array = Any


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
    """How the samples of :func:`numba_stn.grid_sample` change.

    ``samples_dot = S(images_dot) + (d samples / d grid) grid_dot``, where S samples with a fill
    of 0.

    Parameters
    ----------
    images, grid, mode, padding_mode, align_corners, fill, layout, stream
        As given to :func:`numba_stn.grid_sample`.
    images_dot : array of the images' shape, optional
        How the images change; float32 where they are integers or float16. If not given, not at all.
    grid_dot : array of the grid's shape and dtype, optional
        How the grid changes.

    Returns
    -------
    samples_dot : array of the samples' shape and of images_dot's dtype

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape, type or value; the message names it.

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> image, centre = np.arange(4.0).reshape(1, 1, 2, 2), np.zeros((1, 1, 1, 2))
    >>> stn.grid_sample_jvp(image, centre, grid_dot=np.array([[[[0.1, 0.0]]]]))
    array([[[[0.1]]]])
    """
    options = check_options(mode, padding_mode, align_corners, fill, layout)
    kernels, images, grid, images_dot, grid_dot = choose_kernels_for_jvp(
        stream, images=images, grid=grid, images_dot=images_dot, grid_dot=grid_dot
    )
    images, grid = check_grid(images, grid, options)
    check_tangents(images, images_dot, "grid_dot", grid, grid_dot)
    one = Sampler(kernels, GRID, images, grid, options)
    return compute_jvp(one, grid.shape[1:-1], images_dot, grid_dot)


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
    """How the samples of :func:`numba_stn.warp_affine` change.

    Parameters
    ----------
    images, theta, size, mode, padding_mode, align_corners, fill, layout, stream
        As given to :func:`numba_stn.warp_affine`.
    images_dot : array of the images' shape, optional
        How the images change; float32 where they are integers or float16. If not given, not at all.
    theta_dot : array of theta's shape and dtype, optional
        How theta changes.

    Returns
    -------
    samples_dot : array of the samples' shape and of images_dot's dtype

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape, type or value; the message names it.

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
    return _warp_jvp(AFFINE, images, theta, images_dot, theta_dot, size, options, stream)


def warp_perspective_jvp(
    images: Array,
    theta: Array,
    images_dot: Array | None = None,
    theta_dot: Array | None = None,
    size: tuple[int, int] | None = None,
    *,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool = False,
    fill: float | Sequence[float] = 0.0,
    layout: str = "NCHW",
    stream: Any = None,
) -> Array:
    """How the samples of :func:`numba_stn.warp_perspective` change.

    Parameters
    ----------
    images, theta, size, mode, padding_mode, align_corners, fill, layout, stream
        As given to :func:`numba_stn.warp_perspective`.
    images_dot : array of the images' shape, optional
        How the images change; float32 where they are integers or float16. If not given, not at all.
    theta_dot : array of theta's shape and dtype, optional
        How theta changes.

    Returns
    -------
    samples_dot : array of the samples' shape and of images_dot's dtype

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape, type or value; the message names it.

    Examples
    --------
    Larger by a tenth, since the divisor is:

    >>> import numpy as np, numba_stn as stn
    >>> image = np.tile(np.arange(5.0), (1, 1, 1, 1))
    >>> theta_dot = np.zeros((1, 3, 3))
    >>> theta_dot[0, 2, 2] = 0.1
    >>> stn.warp_perspective_jvp(image, np.eye(3)[None], theta_dot=theta_dot).round(2)[0, 0, 0]
    array([ 0.2,  0.1,  0. , -0.1,  0.8])
    """
    options = check_options(mode, padding_mode, align_corners, fill, layout)
    return _warp_jvp(PROJECTIVE, images, theta, images_dot, theta_dot, size, options, stream)


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
    """J^T J and J^T r of :func:`numba_stn.warp_affine` with respect to theta.

    J is the Jacobian of the samples with respect to theta's six numbers, row after row, and r are
    the residuals. Where r is ``warp_affine(images, theta) - target``, a Gauss-Newton step is
    ``theta - solve(jtj, jtr)`` (Lucas and Kanade 1981). The sums are added up in the loop over
    pixels, in float64 on the CPU; on a GPU those of a block are of theta's type, and blocks are
    added up in float64. J, with its row for every pixel, is never in memory.

    Parameters
    ----------
    images : (N, C, H, W) array of float32, float64, float16, uint8 or uint16
        With N = 1, one image is read by every theta.
    theta : (N, 2, 3) array of float32 or float64
        Maps normalised output coordinates (x, y) to normalised input coordinates.
    residuals : array of the samples' shape
        Of the images' dtype, or float32 where the images are integers.
    mode : {"bilinear", "bicubic"}
        As given to :func:`numba_stn.warp_affine`.
    padding_mode, align_corners, fill, layout, stream
        As given to :func:`numba_stn.warp_affine`.

    Returns
    -------
    jtj : (N, 6, 6) array of float64
        Symmetric and positive semi-definite.
    jtr : (N, 6) array of float64

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape, type or value; the message names it.

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
        raise ValueError("mode: expected 'bilinear' or 'bicubic', got 'nearest', without slopes")
    kernels, images, theta, residuals = choose_kernels(
        stream, images=images, theta=theta, residuals=residuals
    )
    images, theta = check_theta(AFFINE, images, theta, options)
    kind = options.kind(AFFINE, images)
    if kind.dims == 3:
        raise ValueError(f"images: expected planes, got volumes, {tuple(images.shape)}")
    samples = kind.shape(len(theta), kind.channels(images), (None, None))
    expected = np.dtype(np.float32) if images.dtype.kind == "u" else images.dtype
    check_array("residuals", residuals, samples, (expected,))
    check_not_empty("residuals", kind.spatial(residuals))
    fill = Sampler(kernels, AFFINE, images, theta, options).fill
    residuals = kernels.converted(residuals, computed(expected))
    jtj, jtr = (kernels.empty((len(theta), *sides), np.float64, theta) for sides in ((6, 6), (6,)))
    kernels.normal_equations(kind, images, theta, residuals, options.off, fill, jtj, jtr)
    return kernels.returned(jtj), kernels.returned(jtr)


# --- Both passes ----------------------------------------------------------------------------------


def _warp_jvp(source, images, theta, images_dot, theta_dot, size, options, stream):
    kernels, images, theta, images_dot, theta_dot = choose_kernels_for_jvp(
        stream, images=images, theta=theta, images_dot=images_dot, theta_dot=theta_dot
    )
    images, theta = check_theta(source, images, theta, options)
    check_tangents(images, images_dot, "theta_dot", theta, theta_dot)
    kind = options.kind(source, images)
    size = kind.spatial(images) if size is None else check_output_size(size, len(theta), kind.dims)
    return compute_jvp(
        Sampler(kernels, source, images, theta, options), size, images_dot, theta_dot
    )


def check_tangents(images, images_dot, name, coords, coords_dot):
    """Refuse changes that do not fit what they change."""
    if images_dot is not None:
        check_array("images_dot", images_dot, images.shape, (computed(images.dtype),))
    if coords_dot is not None:
        check_array(name, coords_dot, coords.shape, (coords.dtype,))


def compute_jvp(one, size, images_dot, coords_dot):
    """What both tangents do to the samples; one that is None does nothing."""
    kernels, kind, images = one.kernels, one.kind, one.images
    shape = kind.shape(len(one.coords), kind.channels(images), size)
    samples_dot = kernels.empty(shape, computed(images.dtype), images)
    write_jvp(one, images_dot, coords_dot, samples_dot)
    return kernels.returned(samples_dot)


def write_jvp(one, images_dot, coords_dot, samples_dot):
    """Fill ``samples_dot`` with it."""
    kernels, kind, images, coords = one.kernels, one.kind, one.images, one.coords
    fill, off = one.fill, one.options.off
    if not samples_dot.size:
        return
    if images_dot is None:
        kernels.clear(samples_dot)
    else:
        nothing = expand_fill(0.0, kind.channels(images), samples_dot.dtype)
        kernels.sample(kind, images_dot, coords, off, nothing, samples_dot)
    if coords_dot is not None and kind.mode != NEAREST:
        kernels.sample_jvp_coords(kind, images, coords, coords_dot, off, fill, samples_dot)
