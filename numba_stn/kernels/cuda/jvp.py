"""CUDA kernels of forward derivatives: directional ones, and theta's normal equations.

Those of :mod:`.jvp` on a GPU. Arrays and ``kind`` are those of :mod:`.general`.
"""

import functools

import numpy as np

from ..launch import source_hash
from ..math.coordinates import base_coordinate, unnormalize_slope
from ..math.interpolation import padded_way, product
from ..math.matrix_rows import second_moments
from .calls import off_of, outside, shapes_of, tiles_of
from .convert import clear, plain
from .coordinate_sources import matrix, place_of, point, push, row_of, tangent
from .device import BLOCK, THREADS, cuda, device_function, empty, inlined, jit, launch
from .single_pixels import element, first_place, next_row
from .sums import add_block, add_threads, moments, parts_of, plus
from .taps import channel_slopes, form_of, locate, number_for, slopes_at, strides, weights_at

# --- jvp ------------------------------------------------------------------------------------------


@inlined
def add_change(
    images, start, steps, pixel, way, sides, rule, off, fill, channels, form, samples_dot, to
):
    """Add to one output pixel's channels what moving its input pixel by ``way`` changes."""
    real, whole = samples_dot.dtype.type, type(channels)
    step, step_out, along = steps
    offsets, t, (sz, sy, sx), some = locate(pixel, sides, along, rule, off)
    weights, tilts = weights_at(t, rule, real), slopes_at(t, rule, real)
    x, y = real(padded_way(sx, way[0])), real(padded_way(sy, way[1]))
    z, c = real(padded_way(sz, way[2])), whole(0) if some else channels
    while c < channels:
        other = number_for(fill, c)
        gx, gy, gz = channel_slopes(images, start, offsets, weights, tilts, rule, form, other)
        samples_dot[np.uint64(to)] += product(gx, x) + product(gy, y) + product(gz, z)
        start, to, c = whole(start + step), whole(to + step_out), whole(c + 1)


@functools.cache
def make_sample_jvp_coords(kind, form):
    """Kernel: images, coords, coords_dot -> what moving the coordinates adds to samples_dot."""
    sources, (source, mode, padding, dims, last, _) = source_hash(), kind
    rule = mode, padding, dims

    def jvp(images, coords, coords_dot, off, fill, counts, sides, sizes, samples_dot):
        _ = sources
        count, batch, channels = counts
        depth, rows, columns = sizes
        index = type(columns)
        image, step, along = strides(channels, sides, last)
        whole, step_out, along_out = strides(channels, sizes, last)
        part, first, j = first_place(index)
        while j < columns and part < batch * depth:
            n, k, i = index(part // depth), index(part % depth), first
            start = index(n * image) if count > 1 else index(0)
            theta, steps = matrix(source, dims, coords, n, off), (step, step_out, along)
            theta_dot = tangent(source, dims, coords_dot, n, off)
            while i < rows:
                row, where = row_of(theta, k, i, sides, sizes, off), (n, k, i, j)
                row_dot = row_of(theta_dot, k, i, sides, sizes, off)
                pixel = point(source, dims, coords, row, where, sides, sizes, off)
                way = push(source, dims, coords_dot, row, row_dot, where, pixel, sides, sizes, off)
                to = index(n * whole + place_of(index(0), k, i, j, sizes) * along_out)
                add_change(
                    images, start, steps, pixel, way, sides, rule, off, fill, channels, form,
                    samples_dot, to,
                )  # fmt: skip
                i = index(next_row(i))
            part = index(part + cuda.gridDim.z)

    return jit(jvp)


def sample_jvp_coords(kind, images, coords, coords_dot, off, fill, samples_dot):
    """Add to ``samples_dot`` what moving the coordinates by ``coords_dot`` changes."""
    shapes = shapes_of(kind, images, samples_dot, coords)
    launch(
        make_sample_jvp_coords(kind, form_of(images.dtype)), tiles_of(len(samples_dot), shapes[2]),
        BLOCK, plain(images), coords, coords_dot, off_of(off, coords),
        outside(kind, fill, images), *shapes, samples_dot,
    )  # fmt: skip


# --- Normal equations -----------------------------------------------------------------------------


@inlined
def slope_products(
    residuals, at, images, start, steps, pixel, sides, rule, off, fill, channels, form
):
    """Sums over one output pixel's channels: of slopes' products xx, xy, yy, and of residuals'.

    Slopes are those with respect to normalised coordinates; the residuals begin at element ``at``.
    """
    real, whole, kind = type(fill[0]), type(channels), type(off)
    step, step_out, along = steps
    _, h, w = sides
    offsets, t, (_, sy, sx), some = locate(pixel, sides, along, rule, off)
    weights, tilts = weights_at(t, rule, real), slopes_at(t, rule, real)
    x, y = real(sx * unnormalize_slope(w, off)), real(sy * unnormalize_slope(h, off))
    xx, xy, yy, rx, ry = real(0), real(0), real(0), real(0), real(0)
    c = whole(0) if some else channels
    while c < channels:
        other, r = number_for(fill, c), element(residuals, at)
        gx, gy, _ = channel_slopes(images, start, offsets, weights, tilts, rule, form, other)
        gx, gy = product(gx, x), product(gy, y)
        xx, xy, yy = xx + gx * gx, xy + gx * gy, yy + gy * gy
        rx, ry = rx + r * gx, ry + r * gy
        start, at, c = whole(start + step), whole(at + step_out), whole(c + 1)
    return (kind(xx), kind(xy), kind(yy)), (kind(rx), kind(ry))


@functools.cache
def make_normal(kind, form, real):
    """Kernel: residuals, images, theta -> each block's sums, (N, 4, 6, parts).

    Of the slopes' products xx, xy and yy, times those of (x, y, 1) of the output; and theta's
    gradient.
    """
    sources, (source, mode, padding, dims, last, _) = source_hash(), kind
    (x_block, y_block), threads, rule = BLOCK, THREADS, (mode, padding, dims)

    def normal(residuals, images, coords, off, fill, counts, sides, sizes, parts, partials):
        _ = sources
        shared = cuda.shared.array((6, threads), real)
        count, _, channels = counts
        _, rows, columns = sizes
        index, zero = type(columns), real(0)
        n, part = index(cuda.blockIdx.x // parts), index(cuda.blockIdx.x % parts)
        theta = matrix(source, dims, coords, n, off)
        image, step, along = strides(channels, sides, last)
        whole, step_out, along_out = strides(channels, sizes, last)
        start, steps = index(n * image) if count > 1 else index(0), (step, step_out, along)
        none = zero, zero, zero, zero, zero, zero
        across, mixed, down, right = none, none, none, none
        i = index(part * y_block + cuda.threadIdx.y)
        while i < rows:
            row = row_of(theta, index(0), i, sides, sizes, off)
            v, j = base_coordinate(i, rows, off), index(cuda.threadIdx.x)
            while j < columns:
                where, u = (n, index(0), i, j), base_coordinate(j, columns, off)
                pixel = point(source, dims, coords, row, where, sides, sizes, off)
                at = index(n * whole + (i * columns + j) * along_out)
                (xx, xy, yy), (rx, ry) = slope_products(
                    residuals, at, images, start, steps, pixel, sides, rule, off, fill, channels,
                    form,
                )  # fmt: skip
                across = plus(across, second_moments(xx, u, v))
                mixed = plus(mixed, second_moments(xy, u, v))
                down = plus(down, second_moments(yy, u, v))
                right = plus(right, moments(rx, ry, u, v))
                j = index(j + x_block)
            i = index(i + parts * y_block)
        # One array is shared by the four, one after another.
        add_block(shared, across, index(4 * n), part, parts, partials)
        cuda.syncthreads()
        add_block(shared, mixed, index(4 * n + 1), part, parts, partials)
        cuda.syncthreads()
        add_block(shared, down, index(4 * n + 2), part, parts, partials)
        cuda.syncthreads()
        add_block(shared, right, index(4 * n + 3), part, parts, partials)

    return jit(normal)


@device_function
def put_product(jtj, at, r, k, value):
    """Write a sum to its places in one symmetric matrix, which begins at element ``at``.

    Of the slopes' product ``r`` (xx, xy, yy) and the product ``k`` of (x, y, 1) (xx to 1).
    """
    a, b = r >> 1, (r + 1) >> 1
    p = int(k > 2) + int(k > 4)
    q = k - p - int(p > 0)
    jtj[at + 6 * (3 * a + p) + 3 * b + q] = value
    jtj[at + 6 * (3 * a + q) + 3 * b + p] = value
    jtj[at + 6 * (3 * b + p) + 3 * a + q] = value
    jtj[at + 6 * (3 * b + q) + 3 * a + p] = value


@functools.cache
def make_normal_sum():
    """Kernel: the blocks' sums -> J^T J, (N, 6, 6), and J^T r, (N, 6); one block a number.

    The one kernel that adds in float64 whatever the arrays are: a few sums, for a matrix whose
    condition is the square of J's.
    """
    sources, threads = source_hash(), THREADS

    def normal_sum(partials, parts, jtj, jtr):
        _ = sources
        shared = cuda.shared.array((1, threads), np.float64)
        t, number = cuda.threadIdx.x, cuda.blockIdx.x
        total, part = np.float64(0), t
        while part < parts:
            total += np.float64(partials[number * parts + part])
            part += threads
        shared[0, t] = total
        add_threads(shared)
        if t == 0:
            n, r, k = number // 24, number // 6 % 4, number % 6
            if r < 3:
                put_product(jtj, 36 * n, r, k, shared[0, 0])
            else:
                jtr[6 * n + k] = shared[0, 0]

    return jit(normal_sum)


def normal_equations(kind, images, coords, residuals, off, fill, jtj, jtr):
    """Fill ``jtj``, (N, 6, 6), and ``jtr``, (N, 6), of samples with respect to theta.

    A block's sums are of theta's type, and are added up in float64.
    """
    if not residuals.size:
        clear(jtj)
        clear(jtr)
        return
    shapes = shapes_of(kind, images, residuals, coords)
    batch, parts = len(coords), parts_of(int(shapes[2][1]))
    partials = empty((batch, 4, 6, parts), coords.dtype, coords)
    launch(
        make_normal(kind, form_of(images.dtype), coords.dtype.type), (batch * parts,), BLOCK,
        residuals, plain(images), coords, off_of(off, coords), outside(kind, fill, images),
        *shapes, parts, partials,
    )  # fmt: skip
    launch(make_normal_sum(), (batch * 24,), THREADS, partials, parts, jtj, jtr)
