"""Warps by thin-plate splines; see :mod:`numba_stn.ops.tps_grid` for the splines.

The grids of a few images at a time are in memory, and the kernels of :func:`numba_stn.grid_sample`
sample at them: on the CPU float64 grids of up to 2 MiB or one image's, on a GPU grids of the dtype
of ``control``, up to 64 MiB of float32 or one image's. The grid of a larger batch is never in
memory as a whole, nor are the functions U of a whole image. The backward pass reduces the gradient
of each group's grid at once.
"""

from collections.abc import Collection, Sequence
from typing import Any

from ..kernels.math.sampler_kind import GRID, NEAREST
from .dask_arrays import accept_dask_arrays
from .docstrings import documented
from .jvp import check_tangents, write_jvp
from .sampler import find_plan
from .tps_grid import check_control, check_regularisation, generate_grids, solve_spline_for
from .validate import (
    check_batch_sizes,
    check_flag,
    check_images,
    check_options,
    check_wrt,
    choose_backend,
    choose_backend_for_jvp,
)

__all__ = ["warp_tps", "warp_tps_jvp", "warp_tps_vjp"]

Array = Any


# --- warp_tps -------------------------------------------------------------------------------------


@documented
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
    """Warp images by thin-plate splines: :func:`tps_grid` and ``grid_sample`` in one pass.

    ``images (N, C, H, W), control (N, K, 2) -> samples (N, C, H_out, W_out)``

    Only the grids of a few images at a time are in memory; on the CPU they are float64, whatever
    the dtype of the arrays.

    Parameters
    ----------
    {plane_images, control, plane_size}
    {mode, padding_mode, align_corners, fill, layout, coverage, out, stream, regularisation}

    Returns
    -------
    samples : (N, C, H_out, W_out) array of the images' dtype
        ``out``, if given.
    covered : (N, H_out, W_out) array of control's dtype
        Only with ``coverage=True``.

    Raises
    ------
    {errors}

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
    kernels, images, control = choose_backend(stream, images=images, control=control)
    plan = find_plan(kernels, check_spline, images, control, options, size)
    regularisation = check_regularisation(regularisation)
    coverage = check_flag("coverage", coverage)
    samples = kernels.output(plan.shape, images, control, out, stream)
    covered = None
    if coverage:
        covered = kernels.empty((plan.batch, *plan.size), control.dtype, control)
    for group, grid in generate_grids(kernels, control, plan.size, plan.off, regularisation):
        inside = kernels.batch_slice(covered, group) if coverage else None
        own = select_images(kernels, images, group)
        plan.write(own, grid, kernels.batch_slice(samples, group), inside)
    samples = kernels.returned(samples, out)
    return (samples, kernels.returned(covered)) if coverage else samples


@documented
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
    """Compute the gradients of :func:`warp_tps` with respect to the images and the control points.

    ``dsamples (N, C, H_out, W_out) -> dimages (N, C, H, W), dcontrol (N, K, 2)``

    The grids are computed again, for a few images at a time, and the gradient of each grid is
    reduced at once. The same inputs give the same bits every time, on any number of threads.

    Parameters
    ----------
    {dsamples}
    images, control
        The inputs of :func:`warp_tps`.
    mode, padding_mode, align_corners, fill, layout, stream, regularisation
        The options given to :func:`warp_tps`.
    {wrt}

    Returns
    -------
    dimages : array of the images' shape and of dsamples' dtype, or None
        With one image and several splines, the sum over the splines.
    dcontrol : array of control's shape and dtype, or None

    Raises
    ------
    {errors}

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
    kernels, dsamples, images, control = choose_backend(
        stream, dsamples=dsamples, images=images, control=control
    )
    plan = find_plan(kernels, check_spline, images, control, options, dsamples=dsamples)
    regularisation = check_regularisation(regularisation)
    given, dsamples = dsamples.dtype, kernels.converted(dsamples, plan.real)
    dimages = kernels.empty(images.shape, dsamples.dtype, images) if wanted[0] else None
    dcontrol = kernels.empty(control.shape, control.dtype, control) if wanted[1] else None
    if dimages is not None and not plan.batch:
        kernels.clear(dimages)
    smooth = plan.kind.mode != NEAREST  # small steps do not change nearest pixels
    if dcontrol is not None and not smooth:
        kernels.clear(dcontrol)
    for group, grid in generate_grids(kernels, control, plan.size, plan.off, regularisation):
        dgroup, own = kernels.batch_slice(dsamples, group), select_images(kernels, images, group)
        if dimages is not None:
            accumulate = len(images) == 1 and group.start > 0
            _write_dimages(plan, dgroup, grid, select_images(kernels, dimages, group), accumulate)
        if dcontrol is not None and smooth:
            part = kernels.batch_slice(dcontrol, group)
            dgrid = kernels.empty(grid.shape, grid.dtype, grid)
            kernels.sample_vjp_coords(plan.kind, dgroup, own, grid, plan.off, plan.fill, dgrid)
            write_dcontrol(plan, dgrid, regularisation, part)
    if dimages is not None:
        dimages = kernels.returned(kernels.converted(dimages, given))
    return dimages, None if dcontrol is None else kernels.returned(dcontrol)


def _write_dimages(plan, dsamples, grid, dimages, accumulate):
    """Write the gradient of a group's images, or add it to what is there."""
    kernels = plan.kernels
    found = kernels.empty(dimages.shape, dimages.dtype, dimages) if accumulate else dimages
    kernels.sample_vjp_images(plan.kind, dsamples, grid, plan.off, found)
    if accumulate:
        kernels.add(dimages, found)


def write_dcontrol(plan, dgrid, regularisation, dcontrol):
    """Write the gradient of a group's control points, from that of their grids."""
    points, matrix = solve_spline_for(dcontrol, regularisation)
    plan.kernels.spline_points(dgrid, points, matrix, plan.off, dcontrol)


# --- Forward derivative ---------------------------------------------------------------------------


@documented
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
    """Compute how the samples of :func:`warp_tps` change.

    ``images_dot (N, C, H, W), control_dot (N, K, 2) -> samples_dot (N, C, H_out, W_out)``

    Parameters
    ----------
    images, control
        The inputs of :func:`warp_tps`.
    {images_dot}
    control_dot : array of control's shape and dtype, optional
        Tangent of the control points. By default, zero.
    size, mode, padding_mode, align_corners, fill, layout, regularisation, stream
        The options given to :func:`warp_tps`.

    Returns
    -------
    samples_dot : array of the samples' shape and of images_dot's dtype

    Raises
    ------
    {errors}

    Examples
    --------
    All points sample further to the right, so a ramp moves to the left by as much:

    >>> import numpy as np, numba_stn as stn
    >>> image = np.tile(np.arange(4.0), (1, 1, 4, 1))
    >>> control = stn.control_points(2)[None]
    >>> control_dot = np.tile([0.1, 0.0], (1, 4, 1))
    >>> stn.warp_tps_jvp(image, 0.5 * control, control_dot=control_dot).round(9)[0, 0, 0]
    array([0.2, 0.2, 0.2, 0.2])
    """
    options = check_options(mode, padding_mode, align_corners, fill, layout)
    kernels, images, control, images_dot, control_dot = choose_backend_for_jvp(
        stream, images=images, control=control, images_dot=images_dot, control_dot=control_dot
    )
    plan = find_plan(kernels, check_spline, images, control, options, size)
    regularisation = check_regularisation(regularisation)
    check_tangents(images, images_dot, "control_dot", control, control_dot)
    samples_dot = kernels.empty(plan.shape, plan.real, images)
    dots = images_dot, control_dot
    write_spline_jvp(plan, (images, control), dots, regularisation, samples_dot)
    return kernels.returned(samples_dot)


def write_spline_jvp(plan, arrays, dots, regularisation, samples_dot):
    """Write the change of the samples; ``dots`` are the tangents of images and control points."""
    (images, control), (images_dot, control_dot) = arrays, dots
    kernels, size, off, grids_dot = plan.kernels, plan.size, plan.off, None
    if control_dot is not None:
        grids_dot = generate_grids(kernels, control_dot, size, off, regularisation, 0.0)
    for group, grid in generate_grids(kernels, control, size, off, regularisation):
        own = select_images(kernels, images, group)
        grid_dot = None if grids_dot is None else next(grids_dot)[1]
        own_dot = None if images_dot is None else select_images(kernels, images_dot, group)
        part = kernels.batch_slice(samples_dot, group)
        write_jvp(plan, own, grid, own_dot, grid_dot, part)


# --- Checks ---------------------------------------------------------------------------------------


def check_spline(images, control, options):
    """Return the kind of sampler for images and control points that fit them."""
    images, control = check_images(images, options), check_control(control)
    if len(images.shape) != 4:
        raise ValueError(f"images: expected planes (N, C, H, W), got {tuple(images.shape)}")
    check_batch_sizes(images, "control", control)
    return options.kind(GRID, images)


def select_images(kernels, images, group):
    """Return a group's images: the only image, or one per map."""
    return images if len(images) == 1 else kernels.batch_slice(images, group)
