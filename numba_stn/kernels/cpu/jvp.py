"""CPU kernels of forward derivatives: directional ones, and the Gauss-Newton matrix of theta.

Arrays and ``kind`` are those of :mod:`.general`. Nothing depends on the number of threads.
"""

import functools

import numpy as np
from numba import prange

from .. import launch
from ..math.coordinates import base_coordinate, scalar
from ..math.interpolation import padded_way, product
from ..math.matrix_rows import second_moments
from .coordinate_sources import make_point, make_push, make_row, scales
from .general import BAND, unwatched, volume
from .weighted_sum import make_at, make_channel_slopes, make_lengths, make_locate, make_put

# --- jvp ------------------------------------------------------------------------------------------


@functools.cache
def make_sample_jvp_coords(kind, dtype, parallel):
    """Kernel: images, coords, coords_dot -> what moving the coordinates adds to samples_dot."""
    stamp = launch.stamp(parallel)
    source, mode, padding, dims, channels_last, between = kind
    row_of, row_dot_of = (make_row(source, dims, between, tangent) for tangent in (False, True))
    point, push = make_point(source, dims, mode), make_push(source, dims)
    locate, slopes = make_locate(mode, padding, dims), make_channel_slopes(kind, dtype)
    at, put, lengths = make_at(channels_last), make_put(channels_last), make_lengths(channels_last)

    def sample_jvp_coords(images, coords, coords_dot, off, fill, samples_dot):
        real = fill.dtype.type
        count, _, sides = lengths(images)
        batch, channels, sizes = lengths(samples_dot)
        depth, rows, columns = sizes
        for task in prange(batch * depth * rows):
            n, k, i = task // rows // depth, task // rows % depth, task % rows
            m = n if count > 1 else 0
            row = row_of(coords, n, k, i, sides, sizes, off)
            row_dot = row_dot_of(coords_dot, n, k, i, sides, sizes, off)
            for j in range(columns):
                pixel = point(coords, row, n, k, i, j, columns, real)
                spot, t, (sz, sy, sx), some, inside = locate(pixel, sides, off)
                if not some:
                    continue
                x, y, z = push(coords_dot, row, row_dot, n, k, i, j, pixel)
                x, y, z = padded_way(sx, x), padded_way(sy, y), padded_way(sz, z)
                for c in range(channels):
                    gx, gy, gz = slopes(images, fill, m, c, spot, t, inside, sides, off)
                    change = product(gx, x) + product(gy, y) + product(gz, z)
                    put(samples_dot, n, c, k, i, j, at(samples_dot, n, c, k, i, j) + real(change))
        return stamp

    return launch.jit(sample_jvp_coords, parallel)


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
    source, mode, padding, dims, channels_last, between = kind
    row_of, point = make_row(source, dims, between), make_point(source, dims, mode)
    locate, slopes = make_locate(mode, padding, dims), make_channel_slopes(kind, dtype)
    lengths = make_lengths(channels_last)

    def normal(images, coords, off, fill, sizes, sums):
        real = fill.dtype.type
        count, channels, sides = lengths(images)
        batch, parts = sums.shape[:2]
        _, rows, columns = sizes
        for task in prange(batch * parts):
            n, part = task // parts, task % parts
            m, own = n if count > 1 else 0, np.zeros((3, 6))
            for i in range(part * BAND, min(rows, (part + 1) * BAND)):
                row = row_of(coords, n, 0, i, sides, sizes, off)
                y = base_coordinate(i, rows, off)
                for j in range(columns):
                    pixel = point(coords, row, n, 0, i, j, columns, real)
                    spot, t, (_, sy, sx), some, inside = locate(pixel, sides, off)
                    if not some:
                        continue
                    xx, xy, yy = 0.0, 0.0, 0.0
                    for c in range(channels):
                        gx, gy, _ = slopes(images, fill, m, c, spot, t, inside, sides, off)
                        gx, gy = product(gx, sx), product(gy, sy)
                        xx, xy, yy = xx + gx * gx, xy + gx * gy, yy + gy * gy
                    x = base_coordinate(j, columns, off)
                    add_products(own, 0, xx, x, y)
                    add_products(own, 1, xy, x, y)
                    add_products(own, 2, yy, x, y)
            sums[n, part] = own
        return stamp

    return launch.jit(normal, parallel)


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
