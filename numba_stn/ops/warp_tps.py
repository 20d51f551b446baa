"""Images bent by thin-plate splines: see :mod:`numba_stn.ops.tps_grid`.

The grid of a few images at a time stands in memory, and is read by the kernels of
:func:`numba_stn.grid_sample`: on the CPU in float64, up to 8 MiB of it or one image's, on a GPU in
the type of ``control``, up to 64 MiB of float32 or one image's. That of a larger batch never does,
nor do the functions U of a whole image. Backward, the gradient of a group's grid is summed at once.
"""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from ..kernels.math.coordinates import GRID, NEAREST
from ..kernels.math.storage import computed
from .dask_arrays import accept_dask_arrays
from .jvp import check_tangents, write_jvp
from .sampler import Sampler
from .tps_grid import check_control, check_regularisation, generate_grids, solve_spline_for
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
    choose_kernels_for_jvp,
)

__all__ = ["warp_tps", "warp_tps_jvp", "warp_tps_vjp"]

Array = Any


# --- warp_tps -------------------------------------------------------------------------------------


@accept_dask_arrays("images", "control")
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

    Grids are those of a few images at a time; on the CPU they are float64, whatever the arrays are.

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
    regularisation, stream
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
    options = check_options(mode, padding_mode, align_corners, fill, layout)
    kernels, images, control = choose_kernels(stream, images=images, control=control)
    kind, regularisation = (
        check_spline(images, control, options),
        check_regularisation(regularisation),
    )
    size = kind.spatial(images) if size is None else check_output_size(size, len(control))
    shape = kind.shape(len(control), kind.channels(images), size)
    coverage = check_flag("coverage", coverage)
    samples = kernels.output(shape, images, control, out, stream)
    covered = kernels.empty((len(control), *size), control.dtype, control) if coverage else None
    for group, grid in generate_grids(kernels, control, size, options.off, regularisation):
        one = Sampler(kernels, GRID, select_images(kernels, images, group), grid, options)
        inside = kernels.some_of(covered, group) if coverage else None
        one.write(kernels.some_of(samples, group), inside)
    samples = kernels.returned(samples, out)
    return (samples, kernels.returned(covered)) if coverage else samples


@accept_dask_arrays("dsamples", "images", "control")
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

    Examples
    --------
    >>> import numpy as np, numba_stn as stn
    >>> image, control = np.arange(16.0).reshape(1, 1, 4, 4), 0.5 * stn.control_points(2)[None]
    >>> dimages, dcontrol = stn.warp_tps_vjp(np.ones((1, 1, 4, 4)), image, control)
    >>> float(dimages.sum().round(9)), dcontrol.shape
    (16.0, (1, 4, 2))
    """
    options = check_options(mode, padding_mode, align_corners, fill, layout)
    wanted = check_wrt(wrt, ("images", "control"))
    kernels, dsamples, images, control = choose_kernels(
        stream, dsamples=dsamples, images=images, control=control
    )
    kind, regularisation = (
        check_spline(images, control, options),
        check_regularisation(regularisation),
    )
    expected = np.dtype(np.float32) if images.dtype.kind == "u" else images.dtype
    shape = kind.shape(len(control), kind.channels(images), (None, None))
    size = kind.spatial(check_array("dsamples", dsamples, shape, (expected,)))
    check_not_empty("dsamples", size)
    dsamples = kernels.converted(dsamples, computed(expected))
    dimages = kernels.empty(images.shape, dsamples.dtype, images) if wanted[0] else None
    dcontrol = kernels.empty(control.shape, control.dtype, control) if wanted[1] else None
    if dimages is not None and not len(control):
        kernels.clear(dimages)
    if dcontrol is not None and kind.mode == NEAREST:  # the nearest pixel stays the same
        kernels.clear(dcontrol)
    for group, grid in generate_grids(kernels, control, size, options.off, regularisation):
        one = Sampler(kernels, GRID, select_images(kernels, images, group), grid, options)
        back = kernels.some_of(dsamples, group)
        if dimages is not None:
            more = len(images) == 1 and group.start > 0
            _write_dimages(one, back, select_images(kernels, dimages, group), more)
        if dcontrol is not None and kind.mode != NEAREST:
            _write_dcontrol(one, back, regularisation, kernels.some_of(dcontrol, group))
    if dimages is not None:
        dimages = kernels.returned(kernels.converted(dimages, expected))
    return dimages, None if dcontrol is None else kernels.returned(dcontrol)


def _write_dimages(one, dsamples, dimages, more):
    """Write what the samples of a group give to their images, or add it, if that is ``more``."""
    kernels, off = one.kernels, one.options.off
    found = kernels.empty(dimages.shape, dimages.dtype, dimages) if more else dimages
    kernels.sample_vjp_images(one.kind, dsamples, one.coords, off, found)
    if more:
        kernels.add(dimages, found)


def _write_dcontrol(one, dsamples, regularisation, dcontrol):
    """Write the gradient of a group's points."""
    kernels, kind, images, grid = one.kernels, one.kind, one.images, one.coords
    dgrid = kernels.empty(grid.shape, grid.dtype, grid)
    kernels.sample_vjp_coords(kind, dsamples, images, grid, one.options.off, one.fill, dgrid)
    points, matrix = solve_spline_for(dcontrol, regularisation)
    kernels.spline_points(dgrid, points, matrix, one.options.off, dcontrol)


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
    stream: Any = None,
) -> Array:
    """How the samples of :func:`warp_tps` change.

    Parameters
    ----------
    images, control, size, mode, padding_mode, align_corners, fill, layout, regularisation, stream
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
    options = check_options(mode, padding_mode, align_corners, fill, layout)
    kernels, images, control, images_dot, control_dot = choose_kernels_for_jvp(
        stream, images=images, control=control, images_dot=images_dot, control_dot=control_dot
    )
    kind, regularisation = (
        check_spline(images, control, options),
        check_regularisation(regularisation),
    )
    check_tangents(images, images_dot, "control_dot", control, control_dot)
    size = kind.spatial(images) if size is None else check_output_size(size, len(control))
    shape = kind.shape(len(control), kind.channels(images), size)
    samples_dot = kernels.empty(shape, computed(images.dtype), images)
    off, changes = options.off, None
    if control_dot is not None:
        changes = generate_grids(kernels, control_dot, size, off, regularisation, 0.0)
    for group, grid in generate_grids(kernels, control, size, off, regularisation):
        one = Sampler(kernels, GRID, select_images(kernels, images, group), grid, options)
        ways = None if changes is None else next(changes)[1]
        moves = None if images_dot is None else select_images(kernels, images_dot, group)
        write_jvp(one, moves, ways, kernels.some_of(samples_dot, group))
    return kernels.returned(samples_dot)


# --- Checks ---------------------------------------------------------------------------------------


def check_spline(images, control, options):
    """The kind of sampler, for images and points that read them."""
    images, control = check_images(images, options), check_control(control)
    if len(images.shape) != 4:
        raise ValueError(f"images: expected planes, (N, C, H, W), got {tuple(images.shape)}")
    check_batch_sizes(images, "control", control)
    return options.kind(GRID, images)


def select_images(kernels, images, group):
    """A group's images: of one image, it."""
    return images if len(images) == 1 else kernels.some_of(images, group)
