"""CPU kernels of forward derivatives: directional ones, and the Gauss-Newton matrix of theta.

Arrays and ``kind`` are those of :mod:`.general`. Nothing depends on the number of threads.
"""

import functools

import numpy as np
from numba import prange

from .. import launch
from ..math.coordinates import base_coordinate, inlined, scalar
from ..math.interpolation import padded_way, product
from ..math.matrix_rows import second_moments
from .coordinate_sources import make_push, make_row, scales
from .general import BAND, unwatched, volume
from .simd.memory import borrowed
from .traversal import make_fold_row
from .weighted_sum import make_at, make_channel_slopes, make_lengths, make_locate, make_put

# --- jvp ------------------------------------------------------------------------------------------


@functools.cache
def make_sample_jvp_coords(kind, dtype, parallel):
    """Kernel: images, coords, coords_dot -> what moving the coordinates adds to samples_dot."""
    stamp = launch.stamp(parallel)
    lengths = make_lengths(kind.channels_last)
    row_dot_of = make_row(kind.source, kind.dims, kind.between_pixels, True)
    fold_row = make_fold_row(kind, _make_add_change(kind, dtype))

    def sample_jvp_coords(images, coords, coords_dot, off, fill, samples_dot):
        _, _, sides = lengths(images)
        batch, _, sizes = lengths(samples_dot)
        depth, rows, _ = sizes
        for line in prange(batch * depth * rows):
            n, k, i = line // rows // depth, line // rows % depth, line % rows
            arrays, where, where_dot, outside = borrowed(
                ((images, samples_dot), coords, coords_dot, fill)
            )
            row_dot = row_dot_of(where_dot, n, k, i, sides, sizes, off)
            task = (arrays, where_dot, row_dot, outside, sides, off)
            fold_row(task, 0, line, where, sides, sizes, off, fill.dtype.type)
        return stamp

    return launch.jit(sample_jvp_coords, parallel)


def _make_add_change(kind, dtype):
    """Function: add to one sample's tangent, in all channels, what its moving pixel changes."""
    locate = make_locate(kind.mode, kind.padding, kind.dims)
    slopes, push = make_channel_slopes(kind, dtype), make_push(kind.source, kind.dims)
    channels_last = kind.channels_last
    at_of, put, lengths = (
        make_at(channels_last),
        make_put(channels_last),
        make_lengths(channels_last),
    )

    def visit(task, state, row, at, pixel):
        (images, samples_dot), coords_dot, row_dot, fill, sides, off = task
        (n, k, i, j), (count, channels, _), real = at, lengths(images), fill.dtype.type
        first, t, (sz, sy, sx), some, inside = locate(pixel, sides, off)
        if not some:
            return state
        m = n if count > 1 else 0
        x, y, z = push(coords_dot, row, row_dot, at, pixel)
        x, y, z = padded_way(sx, x), padded_way(sy, y), padded_way(sz, z)
        for c in range(channels):
            gx, gy, gz = slopes(images, fill, (m, c, first), t, inside, sides, off)
            change = product(gx, x) + product(gy, y) + product(gz, z)
            put(samples_dot, n, c, k, i, j, at_of(samples_dot, n, c, k, i, j) + real(change))
        return state

    return inlined(visit)


def sample_jvp_coords(kind, images, coords, coords_dot, off, fill, samples_dot):
    """Add to ``samples_dot`` what moving the coordinates by ``coords_dot`` changes."""
    launch.run(
        make_sample_jvp_coords, (kind, images.dtype), samples_dot.size * 8,
        volume(kind, images), coords, coords_dot, np.float64(off), fill,
        volume(kind, samples_dot),
    )  # fmt: skip


# --- Gauss-Newton ---------------------------------------------------------------------------------


@functools.cache
def make_normal(kind, dtype, parallel):
    """Kernel: images, theta -> each band's sums of products of slopes and coordinates.

    (N, bands, 3, 6): of the slopes' products xx, xy and yy, times those of (x, y, 1) of the output.
    """
    stamp = launch.stamp(parallel)
    lengths, fold_row = (
        make_lengths(kind.channels_last),
        make_fold_row(kind, _make_add_normal(kind, dtype)),
    )

    def normal(images, coords, off, fill, sizes, sums):
        _, _, sides = lengths(images)
        batch, parts = sums.shape[:2]
        rows = sizes[1]
        for number in prange(batch * parts):
            n, part = number // parts, number % parts
            own = np.zeros((3, 6))
            image, where, outside, totals = borrowed((images, coords, fill, own))
            task = (image, outside, totals, sides, sizes, off)
            for i in range(part * BAND, min(rows, (part + 1) * BAND)):
                fold_row(task, 0, n * rows + i, where, sides, sizes, off, fill.dtype.type)
            sums[n, part] = own
        return stamp

    return launch.jit(normal, parallel)


def _make_add_normal(kind, dtype):
    """Function: add one pixel's products of slopes, in all channels, to a band's sums."""
    locate = make_locate(kind.mode, kind.padding, kind.dims)
    slopes, lengths = make_channel_slopes(kind, dtype), make_lengths(kind.channels_last)

    def visit(task, state, row, at, pixel):
        images, fill, sums, sides, sizes, off = task
        (n, _, i, j), (count, channels, _) = at, lengths(images)
        first, t, (_, sy, sx), some, inside = locate(pixel, sides, off)
        if not some:
            return state
        m, (xx, xy, yy) = n if count > 1 else 0, (0.0, 0.0, 0.0)
        for c in range(channels):
            gx, gy, _ = slopes(images, fill, (m, c, first), t, inside, sides, off)
            gx, gy = product(gx, sx), product(gy, sy)
            xx, xy, yy = xx + gx * gx, xy + gx * gy, yy + gy * gy
        x, y = base_coordinate(j, sizes[2], off), base_coordinate(i, sizes[1], off)
        add_products(sums, 0, xx, x, y)
        add_products(sums, 1, xy, x, y)
        add_products(sums, 2, yy, x, y)
        return state

    return inlined(visit)


@scalar
def add_products(sums, r, value, x, y):
    """Add ``value`` times the products of (x, y, 1) with itself."""
    found = second_moments(value, x, y)
    for k in range(6):
        sums[r, k] += found[k]


# Where the products of (x, y, 1) stand in their matrix.
_PRODUCTS = np.array([[0, 1, 2], [1, 3, 4], [2, 4, 5]])


def normal_matrix(kind, images, coords, sizes, off, fill, normal):
    """Fill ``normal``, (N, 6, 6): J^T J of the samples with respect to theta, row by row."""
    rows, columns = sizes
    sums = np.empty((len(coords), -(-rows // BAND), 3, 6))
    launch.run(
        make_normal, (kind, images.dtype), len(coords) * rows * columns * 8,
        volume(kind, images), coords, np.float64(off), fill, (1, rows, columns), sums,
    )  # fmt: skip
    x, y, _ = scales(kind.source, (1, *kind.spatial(images)), off)
    with unwatched():
        xx, xy, yy = np.moveaxis(sums.sum(axis=1)[..., _PRODUCTS], 1, 0)
        normal[:, :3, :3], normal[:, 3:, 3:] = xx * x * x, yy * y * y
        normal[:, :3, 3:] = normal[:, 3:, :3] = xy * x * y
