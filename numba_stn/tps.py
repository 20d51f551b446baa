"""Images bent by thin-plate splines: see :mod:`numba_stn.splines`.

The grid of a few images at a time stands in memory, in float64, up to 8 MiB of it or one image's,
and is read by the kernels of :func:`numba_stn.grid_sample`. That of a whole batch never does, nor
do the functions U of a whole image: those of a row are computed once, for all images of a group.
Backward, the gradient of a group's grid is summed at once.
"""

from collections.abc import Collection, Sequence
from math import isqrt
from typing import Any

import numpy as np

from .checks import (
    as_many,
    checked,
    checked_images,
    nonzero,
    output_size,
    sampler_options,
    wanted_of,
)
from .chunks import chunked
from .kernels.pixel import GRID, NEAREST
from .kernels.storage import computed
from .sampling import Pass
from .splines import checked_points, grids, host_arrays, points_from, smoothing, solution
from .tangents import jvp_of

__all__ = ["warp_tps", "warp_tps_jvp", "warp_tps_vjp"]

Array = Any


# --- warp_tps -------------------------------------------------------------------------------------


@chunked("images", "control")
def warp_tps(
    images: Array,
    control: Array,
    size: tuple[int, int] | None = None,
    *,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool = False,
    fill: float | Sequence[float] = 0.0,
    layout: str = "NCHW",
    coverage: bool = False,
    out: Array | None = None,
    stream: Any = None,
    regularisation: float = 0.0,
) -> Array:
    """Bend images by thin-plate splines: :func:`tps_grid` and ``grid_sample`` in one pass.

    Grids are float64, whatever the arrays are, and of a few images at a time: up to 8 MiB, or one
    image's.

    Parameters
    ----------
    images : (N, C, H, W) array of float32, float64, float16, uint8 or uint16
        With N = 1, one image is read by every spline.
    control : (N, K, 2) array of float32 or float64
        Where each of the K = k * k points of :func:`numba_stn.control_points` reads the input, in
        normalised coordinates, x before y.
    size : (H_out, W_out), optional
        The output's sides; the images' own, if not given.
    mode, padding_mode, align_corners, fill, layout, coverage, out
        As in :func:`numba_stn.grid_sample`.
    stream : None
        There are no kernels for GPUs yet.
    regularisation : float
        As in :func:`numba_stn.tps_grid`.

    Returns
    -------
    samples : (N, C, H_out, W_out) array of the images' dtype
        ``out``, if it was given.
    covered : (N, H_out, W_out) array of control's dtype
        Only with ``coverage=True``.

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape, type or value; the message names it.
    NotImplementedError
        For arrays on a GPU.

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> image = np.arange(16.0).reshape(1, 1, 4, 4)
    >>> control = stn.control_points(2)[None] + [0.5, 0.0]
    >>> stn.warp_tps(image, control)[0, 0].round(9)
    array([[ 1.,  2.,  3.,  0.],
           [ 5.,  6.,  7.,  0.],
           [ 9., 10., 11.,  0.],
           [13., 14., 15.,  0.]])
    """
    options = sampler_options(mode, padding_mode, align_corners, fill, layout)
    kernels, images, control = host_arrays(stream, images=images, control=control)
    kind, regularisation = checked_spline(images, control, options), smoothing(regularisation)
    size = kind.spatial(images) if size is None else output_size(size, len(control))
    shape = kind.shape(len(control), kind.channels(images), size)
    samples = kernels.output(shape, images, control, out)
    covered = np.empty((len(control), *size), control.dtype)
    for group, grid in grids(control, size, options.off, regularisation):
        one = Pass(kernels, GRID, own(images, group), grid, options)
        found = one.sample(size, samples[group], coverage)
        if coverage:
            covered[group] = found[1]
    samples = kernels.returned(samples, out)
    return (samples, covered) if coverage else samples


@chunked("dsamples", "images", "control")
def warp_tps_vjp(
    dsamples: Array,
    images: Array,
    control: Array,
    *,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool = False,
    fill: float | Sequence[float] = 0.0,
    layout: str = "NCHW",
    wrt: Collection[str] = ("images", "control"),
    stream: Any = None,
    regularisation: float = 0.0,
) -> tuple[Array | None, Array | None]:
    """Gradients of :func:`warp_tps` with respect to the images and the control points.

    The splines are formed again, of a few images at a time, and the gradient of such a grid is
    summed at once. The same inputs give the same bits every time, on any number of threads.

    Parameters
    ----------
    dsamples : array of the samples' shape
        Gradient of the loss with respect to the samples; of the images' dtype, or float32 where
        the images are integers.
    images, control, mode, padding_mode, align_corners, fill, layout, stream, regularisation
        As given to :func:`warp_tps`.
    wrt : collection of {"images", "control"}
        The gradients wanted. One that is not asked for is None and costs nothing.

    Returns
    -------
    dimages : array of the images' shape and of dsamples' dtype, or None
        With one image and many splines, the sum over the splines.
    dcontrol : array of control's shape and dtype, or None

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape, type or value; the message names it.
    NotImplementedError
        For arrays on a GPU.

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> image, control = np.arange(16.0).reshape(1, 1, 4, 4), 0.5 * stn.control_points(2)[None]
    >>> dimages, dcontrol = stn.warp_tps_vjp(np.ones((1, 1, 4, 4)), image, control)
    >>> float(dimages.sum().round(9)), dcontrol.shape
    (16.0, (1, 4, 2))
    """
    options = sampler_options(mode, padding_mode, align_corners, fill, layout)
    wanted = wanted_of(wrt, ("images", "control"))
    kernels, dsamples, images, control = host_arrays(
        stream, dsamples=dsamples, images=images, control=control
    )
    kind, regularisation = checked_spline(images, control, options), smoothing(regularisation)
    expected = np.dtype(np.float32) if images.dtype.kind == "u" else images.dtype
    shape = kind.shape(len(control), kind.channels(images), (None, None))
    size = kind.spatial(checked("dsamples", dsamples, shape, (expected,)))
    nonzero("dsamples", size)
    dsamples = dsamples.astype(computed(expected), copy=False)
    dimages = np.zeros(images.shape, dsamples.dtype) if wanted[0] else None
    dcontrol = np.zeros_like(control) if wanted[1] else None
    points, matrix = solution(isqrt(control.shape[1]), regularisation)
    for group, grid in grids(control, size, options.off, regularisation):
        one = Pass(kernels, GRID, own(images, group), grid, options)
        if dimages is not None:
            _add_dimages(one, dsamples[group], own(dimages, group))
        if dcontrol is not None and kind.mode != NEAREST:  # the nearest pixel stays the same
            dgrid = _dgrid(one, dsamples[group])
            dcontrol[group] = points_from(dgrid, points, matrix, options.off)
    return None if dimages is None else dimages.astype(expected, copy=False), dcontrol


def _add_dimages(one, dsamples, dimages):
    """Add what the samples of a group give to their images."""
    found = np.empty_like(dimages)
    one.kernels.sample_vjp_images(one.kind, dsamples, one.coords, one.options.off, found)
    dimages += found


def _dgrid(one, dsamples):
    """Gradient of a group's grid."""
    dgrid = np.empty_like(one.coords)
    one.kernels.sample_vjp_coords(
        one.kind, dsamples, one.images, one.coords, one.options.off, one.fill, dgrid
    )
    return dgrid


# --- Forward derivative ---------------------------------------------------------------------------


def warp_tps_jvp(
    images: Array,
    control: Array,
    images_dot: Array | None = None,
    control_dot: Array | None = None,
    size: tuple[int, int] | None = None,
    *,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool = False,
    fill: float | Sequence[float] = 0.0,
    layout: str = "NCHW",
    regularisation: float = 0.0,
) -> Array:
    """How the samples of :func:`warp_tps` change.

    Parameters
    ----------
    images, control, size, mode, padding_mode, align_corners, fill, layout, regularisation
        As given to :func:`warp_tps`.
    images_dot : array of the images' shape, optional
        How the images change; float32 where they are integers or float16. If not given, not at all.
    control_dot : array of control's shape and dtype, optional
        How the control points change.

    Returns
    -------
    samples_dot : array of the samples' shape and of images_dot's dtype

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape, type or value; the message names it.
    NotImplementedError
        For arrays on a GPU.

    Examples
    --------
    A ramp moved to the left, by as much as all points read further to the right:

    >>> import numpy as np, numba_stn as stn
    >>> image = np.tile(np.arange(4.0), (1, 1, 4, 1))
    >>> control = stn.control_points(2)[None]
    >>> control_dot = np.tile([0.1, 0.0], (1, 4, 1))
    >>> stn.warp_tps_jvp(image, 0.5 * control, control_dot=control_dot).round(9)[0, 0, 0]
    array([0.2, 0.2, 0.2, 0.2])
    """
    options = sampler_options(mode, padding_mode, align_corners, fill, layout)
    given = {"images_dot": images_dot, "control_dot": control_dot}
    held = {name: array for name, array in given.items() if array is not None}
    kernels, images, control, *dots = host_arrays(None, images=images, control=control, **held)
    kind, regularisation = checked_spline(images, control, options), smoothing(regularisation)
    given |= dict(zip(held, dots, strict=True))
    moves, ways = given["images_dot"], given["control_dot"]
    dtype = computed(images.dtype)
    if moves is not None:
        checked("images_dot", moves, images.shape, (dtype,))
    if ways is not None:
        checked("control_dot", ways, control.shape, (control.dtype,))
    size = kind.spatial(images) if size is None else output_size(size, len(control))
    samples_dot = np.empty(kind.shape(len(control), kind.channels(images), size), dtype)
    still = np.zeros_like(control) if ways is None else ways
    for (group, grid), (_, grid_dot) in zip(
        grids(control, size, options.off, regularisation),
        grids(still, size, options.off, regularisation, 0.0),
        strict=True,
    ):
        one = Pass(kernels, GRID, own(images, group), grid, options)
        images_dot = None if moves is None else own(moves, group)
        samples_dot[group] = jvp_of(
            one, size, images_dot, "grid_dot", None if ways is None else grid_dot
        )
    return samples_dot


# --- Checks ---------------------------------------------------------------------------------------


def checked_spline(images, control, options):
    """The kind of sampler, for images and points that read them."""
    images, control = checked_images(images, options), checked_points(control)
    if len(images.shape) != 4:
        raise ValueError(f"images: expected planes, (N, C, H, W), got {tuple(images.shape)}")
    as_many(images, "control", control)
    return options.kind(GRID, images)


def own(images, group):
    """A group's images: of one image, it."""
    return images if len(images) == 1 else images[group]
