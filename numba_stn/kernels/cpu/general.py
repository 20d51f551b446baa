"""CPU kernels of every sampler: any mode, padding, dtype and layout, in two and three dimensions.

A coordinate source (:mod:`.coordinate_sources`), the rule of an axis (:mod:`.interpolation`), how
numbers are stored (:mod:`.storage`), and the loops that stand here: each is written once, and a
factory puts them together. Samples of the plane are those of :mod:`.planes`, and :mod:`.backend`
has vector code for the common case.

Images are (N, C, D, H, W), or (N, D, H, W, C) where channels stand last; a plane has D = 1. Samples
are laid out alike. ``kind`` is a :class:`.kind.Kind`; ``fill`` has a number for each
channel. Coordinates and theta's gradient are float64, values of the type that ``fill`` has.
Nothing depends on the number of threads.
"""

import functools
import math

import numpy as np
from numba import prange

from .. import launch
from ..math.coordinates import (
    GRID,
    base_coordinate,
    from_middle,
    inlined,
    scalar,
    unnormalize_slope,
)
from ..math.interpolation import MISSING, TAPS, all_covered, tap
from ..math.storage import bits
from .coordinate_sources import make_point, make_pull, make_row, scales
from .planes import make_sample_plane
from .row_segments import make_sample_pixel
from .simd.memory import borrowed
from .tiles import rows_per_tile
from .traversal import make_fold_row
from .weighted_sum import (
    make_at,
    make_channel_slopes,
    make_lengths,
    make_locate,
    make_put,
    make_weights,
)

# Rows whose shares of theta's gradient are added up before others.
BAND = 16

# Up to this many channels that are last are sampled together.
MOST = 4


# --- sample ---------------------------------------------------------------------------------------


@functools.cache
def make_sample(kind, dtype, parallel):
    """Kernel: images, coords -> samples of this dtype, pixel by pixel."""
    stamp = launch.stamp(parallel)
    lengths, sample_pixel = make_lengths(kind.channels_last), make_sample_pixel(kind, dtype)

    def visit(task, state, row, at, pixel):
        arrays, fill, sides, off = task
        m = at[0] if len(arrays[0]) > 1 else 0
        sample_pixel(arrays, fill, m, at, pixel, sides, off)
        return state

    fold_row = make_fold_row(kind, inlined(visit))

    def sample(images, coords, off, fill, samples):
        _, _, sides = lengths(images)
        batch, _, sizes = lengths(samples)
        for line in prange(batch * sizes[0] * sizes[1]):
            arrays, where, outside = borrowed(((images, samples), coords, fill))
            task = (arrays, outside, sides, off)
            fold_row(task, 0, line, where, sides, sizes, off, fill.dtype.type)
        return stamp

    return launch.jit(sample, parallel)


@functools.cache
def make_covered(kind, parallel):
    """Kernel: coords -> how much of each sample comes from inside; with FILL, all or nothing."""
    stamp = launch.stamp(parallel)
    _, mode, padding, dims, _, _ = kind

    def visit(task, state, row, at, pixel):
        covered, sides, off = task
        covered[at] = all_covered(pixel, sides, mode, padding, dims, off)
        return state

    fold_row = make_fold_row(kind, inlined(visit))

    def coverage(coords, sides, off, covered):
        sizes = covered.shape[1:]
        for line in prange(covered.shape[0] * sizes[0] * sizes[1]):
            own, where = borrowed((covered, coords))
            fold_row((own, sides, off), 0, line, where, sides, sizes, off, np.float64)
        return stamp

    return launch.jit(coverage, parallel)


# --- dimages --------------------------------------------------------------------------------------


@functools.cache
def make_sample_vjp_images(kind, parallel):
    """Kernel: dsamples, coords -> dimages.

    A task owns some rows of one image and goes through all samples, always in the same order. The
    loop over pixels is written out here: with :func:`.traversal.make_fold_row` LLVM divides the
    work differently, and bicubic planes took 1.16 times as long, volumes 1.08 times.
    """
    stamp = launch.stamp(parallel)
    source, mode, padding, dims, channels_last, between = kind
    row_of, point = make_row(source, dims, between), make_point(source, dims, mode)
    locate, weights_of = make_locate(mode, padding, dims), make_weights(mode, dims)
    at, put, lengths = make_at(channels_last), make_put(channels_last), make_lengths(channels_last)
    taps, deep = TAPS[mode], TAPS[mode] if dims == 3 else 1

    def sample_vjp_images(dsamples, coords, off, bands, dimages):
        real = dimages.dtype.type
        count, _, sides = lengths(dimages)
        batch, channels, sizes = lengths(dsamples)
        d, h, w = sides
        depth, rows, columns = sizes
        for task in prange(count * bands):
            m, band = task // bands, task % bands
            gradients, where, sums = borrowed((dsamples, coords, dimages))
            top, bottom = band * d * h // bands, (band + 1) * d * h // bands
            for r in range(top, bottom):
                for x in range(w):
                    for c in range(channels):
                        put(sums, m, c, r // h, r % h, x, real(0))
            first, last = (m, m + 1) if count > 1 else (0, batch)
            for line in range(first * depth * rows, last * depth * rows):
                n, k, i = line // rows // depth, line // rows % depth, line % rows
                row = row_of(where, n, k, i, sides, sizes, off)
                for j in range(columns):
                    pixel = point(where, row, n, k, i, j, columns, real)
                    (iz, iy, ix), t, _, some, _ = locate(pixel, sides, off)
                    if not some:
                        continue
                    wz, wy, wx = weights_of(t, real)
                    for z in range(deep):
                        jz = tap(iz + z, d, mode, padding, off)
                        for y in range(taps):
                            jy = tap(iy + y, h, mode, padding, off)
                            r = jz * h + jy
                            if jz == MISSING or jy == MISSING or r < top or r >= bottom:
                                continue
                            for x in range(taps):
                                jx = tap(ix + x, w, mode, padding, off)
                                if jx == MISSING:
                                    continue
                                weight = wz[z] * wy[y] * wx[x]
                                for c in range(channels):
                                    share = at(gradients, n, c, k, i, j) * weight
                                    total = at(sums, m, c, jz, jy, jx) + share
                                    put(sums, m, c, jz, jy, jx, total)
        return stamp

    return launch.jit(sample_vjp_images, parallel)


# --- dcoords --------------------------------------------------------------------------------------


@functools.cache
def make_slopes(kind, dtype):
    """Function: pixel -> slopes in x, y and z of the samples, weighted by ``dsamples`` and summed.

    All channels of one pixel; float64. ``arrays`` are (images, dsamples).
    """
    _, mode, padding, dims, channels_last, _ = kind
    at_of, locate = make_at(channels_last), make_locate(mode, padding, dims)
    channel_slopes, lengths = make_channel_slopes(kind, dtype), make_lengths(channels_last)

    def slopes(arrays, fill, at, pixel, sides, off):
        (images, dsamples), (n, k, i, j) = arrays, at
        real, zero = fill.dtype.type, type(off)(0)
        count, channels, _ = lengths(images)
        m = n if count > 1 else 0
        first, t, (sz, sy, sx), some, inside = locate(pixel, sides, off)
        if not some:
            return zero, zero, zero
        gx, gy, gz = real(0), real(0), real(0)
        for c in range(channels):
            g = at_of(dsamples, n, c, k, i, j)
            x, y, z = channel_slopes(images, fill, (m, c, first), t, inside, sides, off)
            gx, gy, gz = gx + g * x, gy + g * y, gz + g * z
        # A slope of 0 must win over an infinite difference, as a missing tap does.
        return (
            type(off)(gx) * sx if sx != zero else zero,
            type(off)(gy) * sy if sy != zero else zero,
            type(off)(gz) * sz if sz != zero else zero,
        )

    return scalar(slopes)


@functools.cache
def make_sample_vjp_coords(kind, dtype, parallel):
    """Kernel: dsamples, images, coords -> dgrid, or sums of each BAND of rows for theta."""
    stamp = launch.stamp(parallel)
    source, lengths = kind.source, make_lengths(kind.channels_last)
    fold_row = make_fold_row(kind, _make_differentiate(kind, dtype))

    def sample_vjp_coords(dsamples, images, coords, off, fill, dcoords):
        _, _, sides = lengths(images)
        batch, _, sizes = lengths(dsamples)
        depth, rows, _ = sizes
        parts = (depth * rows + BAND - 1) // BAND
        for number in prange(batch * parts):
            n, part = number // parts, number % parts
            arrays, where, outside, dgrid = borrowed(((images, dsamples), coords, fill, dcoords))
            task = (arrays, outside, dgrid, sides, sizes, off)
            sums, zeros = np.zeros((3, 4)), (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
            for r in range(part * BAND, min(depth * rows, (part + 1) * BAND)):
                line = n * depth * rows + r
                found = fold_row(task, zeros, line, where, sides, sizes, off, fill.dtype.type)
                z, y = from_middle(r // rows, depth), from_middle(r % rows, rows)
                for axis in range(3):
                    add_row(sums, axis, found[axis], found[3 + axis], y, z)
            if source != GRID:
                dcoords[n, part] = sums
        return stamp

    return launch.jit(sample_vjp_coords, parallel)


def _make_differentiate(kind, dtype):
    """Function: write a grid's gradient at one pixel, or add a matrix's to a row's sums.

    The sums are those of the gradients in x, y and z, and of those times the column.
    """
    slopes, pull = make_slopes(kind, dtype), make_pull(kind.source)
    source, put_slopes = kind.source, make_put_slopes(kind.dims)

    def visit(task, state, row, at, pixel):
        arrays, fill, dgrid, sides, sizes, off = task
        g = slopes(arrays, fill, at, pixel, sides, off)
        if source == GRID:
            put_slopes(dgrid, at, g, sides, off)
            return state
        gx, gy, gz = pull(row, at[3], pixel, g, sides, off)
        column = from_middle(at[3], sizes[2])
        x0, y0, z0, x1, y1, z1 = state
        return x0 + gx, y0 + gy, z0 + gz, x1 + gx * column, y1 + gy * column, z1 + gz * column

    return inlined(visit)


@functools.cache
def make_put_slopes(dims):
    """Function: write a gradient with respect to a pixel coordinate as one to a grid's."""
    if dims == 3:

        def put_slopes(dgrid, at, g, sides, off):
            n, k, i, j = at
            for axis in range(3):
                dgrid[n, k, i, j, axis] = g[axis] * unnormalize_slope(sides[2 - axis], off)

    else:

        def put_slopes(dgrid, at, g, sides, off):
            n, _, i, j = at
            for axis in range(2):
                dgrid[n, i, j, axis] = g[axis] * unnormalize_slope(sides[2 - axis], off)

    return scalar(put_slopes)


@scalar
def add_row(sums, r, total, by_column, i, k):
    """Add a row's sum, and its sum times the column, to what is summed for row r of theta."""
    sums[r, 0] += by_column
    sums[r, 1] += total * i
    sums[r, 2] += total * k
    sums[r, 3] += total


# --- affine_grid of volumes -----------------------------------------------------------------------


@functools.cache
def make_affine_volume(parallel):
    """Kernel: theta (N, 3, 4) -> grid."""
    stamp = launch.stamp(parallel)

    def affine_grid(theta, off, grid):
        batch, depth, rows, columns, _ = grid.shape
        for task in prange(batch * depth * rows):
            n, k, i = task // rows // depth, task // rows % depth, task % rows
            z, y = base_coordinate(k, depth, off), base_coordinate(i, rows, off)
            for j in range(columns):
                x = base_coordinate(j, columns, off)
                for r in range(3):
                    t = theta[n, r]
                    grid[n, k, i, j, r] = t[0] * x + t[1] * y + t[2] * z + t[3]
        return stamp

    return launch.jit(affine_grid, parallel)


@functools.cache
def make_volume_moments(parallel):
    """Kernel: dgrid -> each slice's sums for theta, (N, D_out, 3, 4)."""
    stamp = launch.stamp(parallel)

    def moments(dgrid, sums):
        batch, depth, rows, columns, _ = dgrid.shape
        for task in prange(batch * depth):
            n, k = task // depth, task % depth
            sums[n, k] = 0
            for i in range(rows):
                for r in range(3):
                    total, by_column = 0.0, 0.0
                    for j in range(columns):
                        d = np.float64(dgrid[n, k, i, j, r])
                        total += d
                        by_column += d * from_middle(j, columns)
                    y, z = from_middle(i, rows), from_middle(k, depth)
                    add_row(sums[n, k], r, total, by_column, y, z)
        return stamp

    return launch.jit(moments, parallel)


# --- What :mod:`.backend` calls -------------------------------------------------------------------


def affine_grid(theta, off, grid):
    """Fill ``grid``, (N, D_out, H_out, W_out, 3)."""
    launch.run(make_affine_volume, (), grid.size, theta, np.float64(off), grid)


def affine_grid_vjp(dgrid, off, dtheta):
    """Fill ``dtheta``, (N, 3, 4)."""
    sums = np.empty((*dgrid.shape[:2], 3, 4))
    launch.run(make_volume_moments, (), dgrid.size, dgrid, sums)
    with unwatched():
        dtheta[...] = sums.sum(axis=1) * _across(dgrid.shape[1:4], off)


def sample(kind, images, coords, off, fill, samples):
    """Fill ``samples``."""
    channels = kind.channels(images)
    together = channels if kind.channels_last and kind.dims == 2 and channels <= MOST else 0
    work = samples.size * TAPS[kind.mode] ** kind.dims
    dtype, rows = images.dtype, kind.spatial(samples)[0]
    images, samples = volume(kind, images), volume(kind, samples)
    if kind.dims == 3:
        launch.run(make_sample, (kind, dtype), work, images, coords, np.float64(off), fill, samples)
        return
    height = rows_per_tile(len(samples), rows, launch.workers(work))
    launch.run(
        make_sample_plane, (kind, dtype, together), work,
        images, coords, np.float64(off), fill, height, samples,
    )  # fmt: skip


def coverage(kind, coords, sides, off, covered):
    """Fill ``covered``, the samples' shape but for the channels, for images with such sides."""
    shape = covered if kind.dims == 3 else covered[:, None]
    sides = (1, *sides)[-3:]
    launch.run(make_covered, (kind,), covered.size * 4, coords, sides, np.float64(off), shape)


def sample_vjp_images(kind, dsamples, coords, off, dimages):
    """Fill ``dimages``."""
    work = dsamples.size * TAPS[kind.mode] ** kind.dims
    lines = math.prod(kind.spatial(dimages)[:-1])
    bands = max(1, min(-(-launch.workers(work) // max(len(dimages), 1)), lines))
    launch.run(
        make_sample_vjp_images, (kind,), work,
        volume(kind, dsamples), coords, np.float64(off), bands, volume(kind, dimages),
    )  # fmt: skip


def sample_vjp_coords(kind, dsamples, images, coords, off, fill, dcoords):
    """Fill ``dcoords``: dgrid, or dtheta."""
    work = dsamples.size * TAPS[kind.mode] ** kind.dims
    sizes, sides = ((1, *kind.spatial(array))[-3:] for array in (dsamples, images))
    parts = -(-sizes[0] * sizes[1] // BAND)
    sums = dcoords if kind.source == GRID else np.empty((len(coords), parts, 3, 4))
    launch.run(
        make_sample_vjp_coords, (kind, images.dtype), work,
        volume(kind, dsamples), volume(kind, images), coords, np.float64(off), fill, sums,
    )  # fmt: skip
    if kind.source != GRID:
        theta_from(kind, sums, sides, sizes, off, dcoords)


def volume(kind, array):
    """A batch as kernels take it: of volumes, planes have a depth of 1; float16 as bits."""
    array = bits(array)
    if kind.dims == 3:
        return array
    return array[:, None] if kind.channels_last else array[:, :, None]


def theta_from(kind, sums, sides, sizes, off, dtheta):
    """Theta's gradient from parts' sums: in pixels, of columns from the middle, times two."""
    columns = [0, 1, 2, 3] if kind.dims == 3 else [0, 1, 3]
    with unwatched():
        found = sums.sum(axis=1) * _across(sizes, off)
        found *= np.array(scales(kind.source, sides, off))[:, None]
        dtheta[...] = found[:, : dtheta.shape[1], columns]


def unwatched():
    """No warnings from NumPy, where gradients need not be finite, as kernels do not warn either."""
    return np.errstate(invalid="ignore", over="ignore")


def _across(sizes, off):
    """What takes twice the columns, rows and slices from the middle to normalised coordinates."""
    lengths = [side - 1 + off for side in sizes[::-1]]
    return np.array([1 / length if length else 0.0 for length in lengths] + [1.0])
