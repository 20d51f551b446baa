"""CPU kernels: `prange` loops over rows, forward and backward side by side.

Coordinates are formed in float64 whatever the images are; values are summed in the images' own
precision, and theta's gradient in float64. Nothing depends on the number of threads: a sample
and a row's share of theta's gradient are each computed by one thread, rows are added up in
order, and every pixel of an image's gradient is summed in one fixed order of the samples.

``coords`` is the grid, (N, H_out, W_out, 2), or for ``source == AFFINE`` theta as (N, 1, 2, 3),
so that one loop reads either. ``off`` is ``1 - align_corners`` as a float64. ``sides`` are
(H, W, H_out, W_out).
"""

import functools

import numpy as np
from numba import prange

from .. import launch
from ..math.coordinates import (
    AFFINE,
    BILINEAR,
    BORDER,
    REFLECTION,
    ZEROS,
    base_coordinate,
    scalar,
    span,
)
from ..math.storage import computed
from . import general, interleaved
from .arrays import add, clear, converted, empty, output, returned, some_of, taken
from .bilinear import GROUP, QUADS, make_sample, make_sample_vjp_coords, make_sample_vjp_images
from .jvp import normal_matrix, sample_jvp_coords
from .tiles import BAND, bands_per_tile, rows_per_tile
from .tps import spline_grid, spline_groups, spline_points, spline_room, spline_weights

__all__ = [
    "add",
    "affine_grid",
    "affine_grid_vjp",
    "clear",
    "converted",
    "coverage",
    "empty",
    "normal_equations",
    "output",
    "returned",
    "sample",
    "sample_jvp_coords",
    "sample_vjp_coords",
    "sample_vjp_images",
    "some_of",
    "spline_grid",
    "spline_groups",
    "spline_points",
    "spline_room",
    "spline_weights",
    "taken",
    "warp_image",
]

# --- affine_grid ----------------------------------------------------------------------------------


@functools.cache
def make_affine_grid(parallel):
    """Kernel: theta -> grid."""
    stamp = launch.stamp(parallel)

    def affine_grid(theta, off, grid):
        batch, rows, columns, _ = grid.shape
        for row in prange(batch * rows):
            n, i = row // rows, row % rows
            y = base_coordinate(i, rows, off)
            for j in range(columns):
                x = base_coordinate(j, columns, off)
                for k in range(2):
                    grid[n, i, j, k] = theta[n, k, 0] * x + theta[n, k, 1] * y + theta[n, k, 2]
        return stamp

    return launch.jit(affine_grid, parallel)


@functools.cache
def make_grid_moments(parallel):
    """Kernel: dgrid -> each row's sums of d times column, d times row, and d, (N, H_out, 2, 3)."""
    stamp = launch.stamp(parallel)

    def grid_moments(dgrid, moments):
        batch, rows, columns, _ = dgrid.shape
        for row in prange(batch * rows):
            n, i = row // rows, row % rows
            for k in range(2):
                by_column, total = 0.0, 0.0
                for j in range(columns):
                    d = np.float64(dgrid[n, i, j, k])
                    by_column += d * j
                    total += d
                moments[n, i, k, 0] = by_column
                moments[n, i, k, 1] = total * i
                moments[n, i, k, 2] = total
        return stamp

    return launch.jit(grid_moments, parallel)


@scalar
def centred(moment, total, size, off):
    """Sum of d times the normalised coordinate, from those of d times the pixel's, and of d."""
    length = span(size, off)
    if length == 0.0:
        return 0.0
    return (2 * moment - (size - 1) * total) / length


@functools.cache
def make_theta_from_moments(parallel):
    """Kernel: moments of rows or of bands of them, added up in order -> dtheta.

    ``scales`` are what the gradients with respect to x and y still have to be multiplied by.
    """
    stamp = launch.stamp(parallel)

    def theta_from_moments(moments, rows, columns, scales, off, dtheta):
        batch, parts = moments.shape[:2]
        for n in prange(batch):
            for k in range(2):
                by_column, by_row, total = 0.0, 0.0, 0.0
                for part in range(parts):
                    by_column += moments[n, part, k, 0]
                    by_row += moments[n, part, k, 1]
                    total += moments[n, part, k, 2]
                dtheta[n, k, 0] = centred(by_column, total, columns, off) * scales[k]
                dtheta[n, k, 1] = centred(by_row, total, rows, off) * scales[k]
                dtheta[n, k, 2] = total * scales[k]
        return stamp

    return launch.jit(theta_from_moments, parallel)


# --- What the functional layer calls; cuda.py has the same names ----------------------------------


def affine_grid(theta, off, grid):
    """Fill ``grid``, (N, H_out, W_out, 2) or (N, D_out, H_out, W_out, 3), from ``theta``."""
    if grid.ndim == 5:
        general.affine_grid(theta, off, grid)
        return
    launch.run(make_affine_grid, (), grid.size, theta, np.float64(off), grid)


def affine_grid_vjp(dgrid, off, dtheta):
    """Fill ``dtheta``, (N, 2, 3) or (N, 3, 4), from ``dgrid``."""
    if dgrid.ndim == 5:
        general.affine_grid_vjp(dgrid, off, dtheta)
        return
    _, rows, columns, _ = dgrid.shape
    moments = np.empty((*dgrid.shape[:2], 2, 3))
    launch.run(make_grid_moments, (), dgrid.size, dgrid, moments)
    _theta_from(moments, rows, columns, (1.0, 1.0), off, dtheta)


def sample(kind, images, coords, off, fill, samples):
    """Fill ``samples``, which read ``fill`` outside, a number for each channel."""
    if not _common(kind, images) or not _alike(fill):
        general.sample(kind, images, coords, off, fill, samples)
        return
    work = samples.size * 4
    height = rows_per_tile(samples.shape[0], samples.shape[2], launch.workers(work))
    launch.run(
        make_sample, (kind.source, kind.padding), work,
        images, _four_sided(kind.source, coords), np.float64(off), fill[0], height, samples,
    )  # fmt: skip


def coverage(kind, coords, sides, off, covered):
    """Fill ``covered``: how much of each sample of images with such sides comes from inside."""
    general.coverage(kind, coords, sides, off, covered)


def sample_vjp_images(kind, dsamples, coords, off, dimages):
    """Fill ``dimages``, of the images' shape."""
    if not _common(kind, dimages):
        general.sample_vjp_images(kind, dsamples, coords, off, dimages)
        return
    count, _, height, width = dimages.shape
    work = dsamples.size * 4
    bands = max(1, min(-(-launch.workers(work) // max(count, 1)), height))
    # Whether there is room for quads, of how many channels. It must not depend on the threads, and
    # one image that many samples share is better divided into bands.
    room = QUADS // ((height + 1) * (width + 1) * 4 * dimages.itemsize)
    small = room > 0 and count == len(dsamples)
    launch.run(
        make_sample_vjp_images, (kind.source, kind.padding), work,
        dsamples, _four_sided(kind.source, coords), np.float64(off),
        1 if small else bands, min(room, GROUP) if small else GROUP, small, dimages,
    )  # fmt: skip


def sample_vjp_coords(kind, dsamples, images, coords, off, fill, dcoords):
    """Fill ``dcoords``: dgrid, or dtheta where the source is a matrix."""
    if not _common(kind, images) or not _alike(fill):
        general.sample_vjp_coords(kind, dsamples, images, coords, off, fill, dcoords)
        return
    off = np.float64(off)
    rows, columns = dsamples.shape[2:]
    h, w = images.shape[2:]
    affine = kind.source == AFFINE
    out = np.empty((len(dsamples), -(-rows // BAND), 2, 3)) if affine else dcoords
    work = dsamples.size * 4
    tall = bands_per_tile(dsamples.shape[0], rows, launch.workers(work))
    launch.run(
        make_sample_vjp_coords, (kind.source, kind.padding), work,
        dsamples, images, _four_sided(kind.source, coords), off,
        fill[0] if len(fill) else images.dtype.type(0), tall, out,
    )  # fmt: skip
    if affine:
        _theta_from(out, rows, columns, ((w - 1 + off) / 2, (h - 1 + off) / 2), off, dcoords)


def normal_equations(kind, images, coords, residuals, off, fill, jtj, jtr):
    """Fill ``jtj``, (N, 6, 6), and ``jtr``, (N, 6), of samples with respect to theta."""
    normal_matrix(kind, images, coords, kind.spatial(residuals), off, fill, jtj)
    wide = coords.astype(np.float64)
    sample_vjp_coords(kind, residuals, images, wide, off, fill, jtr.reshape(-1, 2, 3))


def _alike(fill):
    """Whether all channels have the same fill; NaN is alike too."""
    return bool((fill == fill[:1]).all() or np.isnan(fill).all())


def warp_image(kind, image, matrix, fill, out):
    """Fill ``out``, (H_out, W_out[, C]), from ``image``, (H, W[, C]), by a matrix of pixels."""
    channels = len(fill)
    image, out = (array.reshape(1, *array.shape[:2], channels) for array in (image, out))
    if kind.mode == BILINEAR and kind.padding in (ZEROS, BORDER, REFLECTION):
        interleaved.warp_image(kind.source, kind.padding, image[0], matrix, fill, out[0])
    else:
        fill = fill.astype(computed(image.dtype))
        general.sample(kind, image, matrix[None], interleaved.OFF, fill, out)


def _common(kind, images):
    """Whether these images have the kernels of :mod:`.bilinear`; :mod:`.general` has all others."""
    return kind.is_common() and images.dtype.kind == "f" and images.itemsize > 2


def _theta_from(moments, rows, columns, scales, off, dtheta):
    launch.run(
        make_theta_from_moments, (), moments.size,
        moments, rows, columns, scales, np.float64(off), dtheta,
    )  # fmt: skip


def _four_sided(source, coords):
    """Theta with the sides of a grid: (N, 2, 3) -> (N, 1, 2, 3)."""
    return coords[:, None] if source == AFFINE else coords
