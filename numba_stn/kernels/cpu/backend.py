"""CPU kernels under the names that the public operations call, forward beside backward.

:mod:`numba_stn.kernels.cuda.backend` has the same names for arrays on a GPU. Some choose
between the fast kernels of the common case, :mod:`.bilinear`, and those of :mod:`.general`.

Coordinates are computed in float64 for images of any type; values are summed in the images' own
precision, and theta's gradient in float64. Nothing depends on the number of threads. One thread
computes a sample, or a row's part of theta's gradient; rows are summed in order; and every pixel of
an image's gradient is summed in one fixed order of the samples.

``off`` is ``1 - align_corners`` as a float. ``coords`` is the grid, (N, H_out, W_out, 2), or
theta; kernels of the common case take theta as (N, 1, 2, 3), so that one loop reads either.
"""

import functools
import math
import sys

import numpy as np

from .. import cpu_launch
from ..math.dtypes import computed
from ..math.sampler_kind import (
    AFFINE,
    ALIGNED,
    BILINEAR,
    BORDER,
    GENERAL,
    GRID,
    IDENTITY,
    MIRROR,
    NEAREST,
    REFLECTION,
    ZEROS,
)
from ..math.spline_samplers import SplineSamplers
from . import (
    axis_aligned,
    framed,
    general,
    interleaved,
    jvp,
    patches,
    second_derivatives,
    spline_lines,
)
from .arrays import add, batch_slice, clear, converted, empty, kernel_array, output, returned
from .bilinear import GROUP, QUADS, make_sample, make_sample_vjp_coords, make_sample_vjp_images
from .frames import framed_planes
from .grids import affine_volume, affine_volume_vjp, make_affine_grid, make_grid_moments
from .moments import write_dtheta
from .tiles import BAND, bands_per_tile, has_blocks, rows_per_tile
from .tps import spline_grid, spline_groups, spline_memory, spline_points, spline_weights

__all__ = [
    "add",
    "affine_grid",
    "affine_grid_vjp",
    "batch_slice",
    "clear",
    "converted",
    "coverage",
    "empty",
    "kernel_array",
    "normal_equations",
    "output",
    "prepare_sample",
    "prepare_warp",
    "returned",
    "sample",
    "sample_jvp_coords",
    "sample_vjp_coords",
    "sample_vjp_images",
    "sample_vjp_jvp_coords",
    "sample_vjp_jvp_images",
    "spline_grid",
    "spline_groups",
    "spline_memory",
    "spline_points",
    "spline_weights",
    "warp_crops",
    "warp_patch",
]

# --- Functions that :mod:`numba_stn.ops` calls ----------------------------------------------------


def affine_grid(theta, off, grid):
    """Fill ``grid``, (N, H_out, W_out, 2) or (N, D_out, H_out, W_out, 3), from ``theta``."""
    if grid.ndim == 5:
        affine_volume(theta, off, grid)
        return
    cpu_launch.run(make_affine_grid, (), grid.size, theta, off, grid)


def affine_grid_vjp(dgrid, off, dtheta):
    """Fill ``dtheta``, (N, 2, 3) or (N, 3, 4), from ``dgrid``."""
    if dgrid.ndim == 5:
        affine_volume_vjp(dgrid, off, dtheta)
        return
    _, rows, columns, _ = dgrid.shape
    moments = np.empty((*dgrid.shape[:2], 2, 3))
    cpu_launch.run(make_grid_moments, (), dgrid.size, dgrid, moments)
    write_dtheta(moments, None, (rows, columns), off, dtheta)


def sample(kind, images, coords, off, fill, samples):
    """Fill ``samples``; ``fill``, a number for each channel, is read outside the images."""
    write = prepare_sample(kind, images.shape, images.dtype, off, fill, samples.shape)
    write(images, coords, samples)


def prepare_sample(kind, images_shape, dtype, off, fill, shape):
    """A function ``write(images, coords, samples)`` for images and samples of these shapes."""
    if kind.needs_filter():
        return lambda images, coords, samples: _splines.sample(
            kind, images, coords, off, fill, samples
        )
    common = _is_common_kind(kind, dtype) and has_blocks(*images_shape[2:], shape[3])
    if not common or not _is_uniform(fill):
        return general.prepare_sample(kind, images_shape, dtype, off, fill, shape)
    work, (batch, _, rows, columns) = math.prod(shape) * 4, shape
    number, affine = fill[0], kind.source == AFFINE
    planes = framed_planes(kind, fill, images_shape[2:], dtype.itemsize, (rows, columns))
    if planes:
        framed_flags = (kind.padding,)

        def write_framed(images, coords, samples):
            height = rows_per_tile(batch, rows, cpu_launch.workers(work))
            where = coords[:, None]
            cpu_launch.run(
                framed.make_sample, framed_flags, work, images, where, off, height, planes, samples
            )

        return write_framed
    flags = (kind.source, kind.padding)

    def write(images, coords, samples):
        height = rows_per_tile(batch, rows, cpu_launch.workers(work))
        where = coords[:, None] if affine else coords
        cpu_launch.run(make_sample, flags, work, images, where, off, number, height, samples)

    return write


def coverage(kind, coords, sides, off, covered):
    """Fill ``covered``: the share of each sample from inside, for images of these ``sides``."""
    general.coverage(kind.of_coefficients(), coords, sides, off, covered)


def sample_vjp_images(kind, dsamples, coords, off, dimages):
    """Fill ``dimages``, of the images' shape."""
    if kind.needs_filter():
        _splines.sample_vjp_images(kind, dsamples, coords, off, dimages)
        return
    planes = framed.planes_of_gradient(kind, dsamples, dimages)
    if planes:
        framed.sample_vjp_images(kind, dsamples, coords, off, planes, dimages)
        return
    if not _is_common(kind, dimages, dsamples):
        general.sample_vjp_images(kind, dsamples, coords, off, dimages)
        return
    count, _, height, width = dimages.shape
    work = dsamples.size * 4
    bands = max(1, min(-(-cpu_launch.workers(work) // max(count, 1)), height))
    # The number of channels whose quads fit. Whether quads are used must not depend on the threads;
    # an image that several samples share is divided into bands instead, for the threads.
    room = QUADS // ((height + 1) * (width + 1) * 4 * dimages.itemsize)
    small = room > 0 and count == len(dsamples)
    cpu_launch.run(
        make_sample_vjp_images, (kind.source, kind.padding), work,
        dsamples, _with_grid_axes(kind.source, coords), off,
        1 if small else bands, min(room, GROUP) if small else GROUP, small, dimages,
    )  # fmt: skip


def sample_vjp_coords(kind, dsamples, images, coords, off, fill, dcoords):
    """Fill ``dcoords``: dgrid, or dtheta if the source is a matrix.

    It is 0 in nearest mode, whose samples are constant between the jumps.
    """
    if kind.mode == NEAREST:
        dcoords[...] = 0
        return
    if kind.needs_filter():
        _splines.sample_vjp_coords(kind, dsamples, images, coords, off, fill, dcoords)
        return
    planes = framed.planes_of_samples(kind, fill, dsamples, images)
    if planes:
        framed.sample_vjp_theta(kind, dsamples, images, coords, off, planes, dcoords)
        return
    if not _is_common(kind, images, dsamples) or not _is_uniform(fill):
        general.sample_vjp_coords(kind, dsamples, images, coords, off, fill, dcoords)
        return
    rows, columns = dsamples.shape[2:]
    affine = kind.source == AFFINE
    out = np.empty((len(dsamples), -(-rows // BAND), 2, 3)) if affine else dcoords
    work = dsamples.size * 4
    tall = bands_per_tile(dsamples.shape[0], rows, cpu_launch.workers(work))
    cpu_launch.run(
        make_sample_vjp_coords, (kind.source, kind.padding), work,
        dsamples, images, _with_grid_axes(kind.source, coords), off,
        fill[0] if len(fill) else images.dtype.type(0), tall, out,
    )  # fmt: skip
    if affine:
        write_dtheta(out, images.shape[2:], (rows, columns), off, dcoords)


def sample_jvp_coords(kind, images, coords, coords_dot, off, fill, samples_dot):
    """Add to ``samples_dot`` the samples' tangent for the coordinates' tangent ``coords_dot``."""
    target = _splines if kind.needs_filter() else jvp
    target.sample_jvp_coords(kind, images, coords, coords_dot, off, fill, samples_dot)


def sample_vjp_jvp_images(kind, dsamples, coords, coords_dot, off, dimages):
    """Fill ``dimages``: the tangent of the images' gradient for the coordinates' ``coords_dot``."""
    target = _splines if kind.needs_filter() else second_derivatives
    target.sample_vjp_jvp_images(kind, dsamples, coords, coords_dot, off, dimages)


def sample_vjp_jvp_coords(kind, dsamples, images, coords, coords_dot, off, fill, dcoords):
    """Fill ``dcoords``: the tangent of dgrid or dtheta for the coordinates' ``coords_dot``."""
    target = _splines if kind.needs_filter() else second_derivatives
    target.sample_vjp_jvp_coords(
        kind, dsamples, images, coords, coords_dot, off, fill, dcoords
    )  # fmt: skip


def normal_equations(kind, images, coords, residuals, off, fill, jtj, jtr):
    """Fill ``jtj``, (N, 6, 6), and ``jtr``, (N, 6): J^T J and J^T r by theta, r the residuals."""
    if kind.needs_filter():
        _splines.normal_equations(kind, images, coords, residuals, off, fill, jtj, jtr)
        return
    jvp.normal_matrix(kind, images, coords, kind.spatial(residuals), off, fill, jtj)
    wide = coords.astype(np.float64)
    sample_vjp_coords(kind, residuals, images, wide, off, fill, jtr.reshape(-1, 2, 3))


def _is_uniform(fill):
    """Whether all channels have the same fill, bit for bit: it may be NaN."""
    return len(fill) == 1 or fill.tobytes() == fill[:1].tobytes() * len(fill)


def prepare_warp(kind, form, fill, image_shape, dtype, shape):
    """A function ``warp(image, matrix, out)`` for images and outputs of these shapes.

    It fills ``out``, (H_out, W_out[, C]), from ``image``, (H, W[, C]), by a matrix of pixels of
    this form.
    """
    if form == IDENTITY and shape == image_shape:
        return copy
    if kind.needs_filter():
        return _prepare_spline_warp(kind, fill, image_shape, dtype, shape)
    if form != GENERAL and axis_aligned.can_warp(kind, dtype):
        return axis_aligned.prepare_warp(kind, fill, image_shape, dtype, shape)
    interleaves = kind.mode == BILINEAR and kind.padding in (ZEROS, BORDER, REFLECTION, MIRROR)
    if interleaves and not general.has_frame(kind, dtype, fill, image_shape, shape):
        return interleaved.prepare_warp(kind, fill, image_shape, dtype, shape)
    return general.prepare_warp(kind, fill, image_shape, dtype, shape)


def _prepare_spline_warp(kind, fill, image_shape, dtype, shape):
    """A function ``warp(image, matrix, out)`` for splines; there may be several matrices."""
    numbers = fill.astype(computed(dtype))
    sides = 1, *image_shape[:2], math.prod(image_shape[2:])
    sizes = -1, *shape[:2], sides[3]

    def warp(image, matrix, out):
        matrices = matrix.reshape(-1, 3, 3)
        _splines.sample(kind, image.reshape(sides), matrices, 1.0, numbers, out.reshape(sizes))

    return warp


def copy(image, matrix, out):
    """Copy the image, as a map that moves no pixel does in every mode."""
    np.copyto(out, image)


def warp_crops(kind, image, matrices, fill, crops):
    """Fill ``crops``, (K, H_out, W_out[, C]), from one image, by K matrices that do not rotate."""
    if axis_aligned.can_warp(kind, image.dtype):
        axis_aligned.warp_crops(kind, image, matrices, fill, crops)
        return
    warp = prepare_warp(kind, ALIGNED, fill, image.shape, image.dtype, crops.shape[1:])
    if kind.needs_filter() and warp is not copy:  # once for all crops
        warp(image, np.asarray(matrices, np.float64), crops)
        return
    for matrix, crop in zip(matrices, crops, strict=True):
        warp(image, matrix, crop)


def warp_patch(kind, form, fill, image, matrix, frame, out):
    """Fill ``out``, a patch of a larger output, from ``image``, a crop of a larger image.

    ``matrix`` and ``form`` are those of the whole; the bits are, too, except for splines. The
    ``frame`` says which patch and which crop, see :mod:`.patches`.
    """
    if form != GENERAL and axis_aligned.can_warp(kind, image.dtype):
        warp = axis_aligned.prepare_warp(kind, fill, image.shape, image.dtype, out.shape, frame)
        warp(image, matrix, out)
        return
    numbers = fill.astype(computed(image.dtype))
    grid = patches.positions(kind, matrix, frame, out.shape[:2], numbers.dtype.type(0))
    batch = (each.reshape(1, *each.shape[:2], -1) for each in (image, out))
    images, samples = batch
    sample(kind._replace(source=GRID), images, grid, 1.0, numbers, samples)


def _is_common(kind, images, samples):
    """Whether the kernels of :mod:`.bilinear` take these images; otherwise, :mod:`.general`."""
    if not _is_common_kind(kind, images.dtype):
        return False
    return has_blocks(*images.shape[2:], samples.shape[3])


@functools.cache
def _is_common_kind(kind, dtype):
    return kind.is_common() and dtype.kind == "f" and dtype.itemsize > 2


def _with_grid_axes(source, coords):
    """Give theta as many axes as a grid: (N, 2, 3) -> (N, 1, 2, 3)."""
    return coords[:, None] if source == AFFINE else coords


# These call the functions above for coefficients.
_splines = SplineSamplers(sys.modules[__name__], spline_lines)
