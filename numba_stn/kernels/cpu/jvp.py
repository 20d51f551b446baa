"""CPU kernels of forward derivatives: tangents of samples, and the Gauss-Newton matrix of theta.

Arrays and ``kind`` are described in :mod:`.general`. Nothing depends on the number of threads.
"""

import functools

import numpy as np
from numba import prange

from .. import cpu_launch
from ..math.coordinates import base_coordinate
from ..math.jit import inlined, scalar
from ..math.matrix_rows import second_moments
from ..math.padding import padded_tangent, slope_times
from .arrays import ignore_float_errors
from .coordinate_sources import make_input_pixel_dot, make_row, theta_scales
from .general import as_volume
from .simd.memory import borrowed
from .taps import make_channel_slopes, make_get, make_lengths, make_locate, make_put
from .theta_sums import ROWS_PER_PART
from .traversal import make_fold_row

# --- Tangents -------------------------------------------------------------------------------------


@functools.cache
def make_sample_jvp_coords(kind, dtype, parallel):
    """Kernel: images, coords, coords_dot -> the tangent of the samples, added to samples_dot."""
    stamp = cpu_launch.stamp(parallel)
    lengths = make_lengths(kind.channels_last)
    row_dot_of = make_row(kind.source, kind.dims, kind.between_pixels, True)
    fold_row = make_fold_row(kind, _make_add_tangent(kind, dtype))

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

    return cpu_launch.jit(sample_jvp_coords, parallel)


def _make_add_tangent(kind, dtype):
    """Function: add to one sample's tangent, in all channels, what its position's tangent gives."""
    locate = make_locate(kind.mode, kind.padding, kind.dims)
    slopes, channels_last = make_channel_slopes(kind, dtype), kind.channels_last
    input_pixel_dot = make_input_pixel_dot(kind.source, kind.dims)
    get, put, lengths = (
        make_get(channels_last),
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
        x, y, z = input_pixel_dot(coords_dot, row, row_dot, at, pixel)
        x, y, z = padded_tangent(sx, x), padded_tangent(sy, y), padded_tangent(sz, z)
        for c in range(channels):
            gx, gy, gz = slopes(images, fill, (m, c, first), t, inside, sides, off)
            change = slope_times(gx, x) + slope_times(gy, y) + slope_times(gz, z)
            put(samples_dot, n, c, k, i, j, get(samples_dot, n, c, k, i, j) + real(change))
        return state

    return inlined(visit)


def sample_jvp_coords(kind, images, coords, coords_dot, off, fill, samples_dot):
    """Add to ``samples_dot`` the samples' tangent for the coordinates' tangent ``coords_dot``."""
    cpu_launch.run(
        make_sample_jvp_coords, (kind, images.dtype), samples_dot.size * 8,
        as_volume(kind, images), coords, coords_dot, off, fill,
        as_volume(kind, samples_dot),
    )  # fmt: skip


# --- Gauss-Newton matrix --------------------------------------------------------------------------


@functools.cache
def make_normal_sums(kind, dtype, parallel):
    """Kernel: images, theta -> each part's sums of products of slopes and coordinates.

    ``sums`` is (N, parts, 3, 6): the products xx, xy and yy of the slopes in x and y, each times
    the six products of the output coordinates (x, y, 1).
    """
    stamp = cpu_launch.stamp(parallel)
    lengths, fold_row = (
        make_lengths(kind.channels_last),
        make_fold_row(kind, _make_add_products(kind, dtype)),
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
            for i in range(part * ROWS_PER_PART, min(rows, (part + 1) * ROWS_PER_PART)):
                fold_row(task, 0, n * rows + i, where, sides, sizes, off, fill.dtype.type)
            sums[n, part] = own
        return stamp

    return cpu_launch.jit(normal, parallel)


def _make_add_products(kind, dtype):
    """Function: add one pixel's products of slopes, summed over its channels, to a part's sums."""
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
            gx, gy = slope_times(gx, sx), slope_times(gy, sy)
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


# For each entry of the 3 x 3 matrix of products of (x, y, 1), the index of the product.
_PRODUCTS = np.array([[0, 1, 2], [1, 3, 4], [2, 4, 5]])


def normal_matrix(kind, images, coords, sizes, off, fill, normal):
    """Fill ``normal``, (N, 6, 6), with J^T J; J is the samples' Jacobian by theta, row by row."""
    rows, columns = sizes
    sums = np.empty((len(coords), -(-rows // ROWS_PER_PART), 3, 6))
    cpu_launch.run(
        make_normal_sums, (kind, images.dtype), len(coords) * rows * columns * 8,
        as_volume(kind, images), coords, off, fill, (1, rows, columns), sums,
    )  # fmt: skip
    x, y = theta_scales((1, *kind.spatial(images)), off)[:2]
    with ignore_float_errors():
        xx, xy, yy = np.moveaxis(sums.sum(axis=1)[..., _PRODUCTS], 1, 0)
        normal[:, :3, :3], normal[:, 3:, 3:] = xx * x * x, yy * y * y
        normal[:, :3, 3:] = normal[:, 3:, :3] = xy * x * y
