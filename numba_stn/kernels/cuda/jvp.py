"""CUDA kernels of forward derivatives: directional ones, and theta's normal equations.

The counterpart of the CPU's :mod:`numba_stn.kernels.cpu.jvp`. Arrays, ``kind`` and ``geometry`` are
those of :mod:`.general`.
"""

import functools
from typing import NamedTuple

import numpy as np

from ..cpu_launch import source_hash
from ..math.coordinates import base_coordinate, unnormalize_slope
from ..math.matrix_rows import second_moments
from ..math.padding import padded_tangent, slope_times
from .convert import clear, plain
from .coordinate_sources import input_pixel, input_pixel_dot, row_of, theta_rows, theta_rows_dot
from .device import (
    BLOCK,
    THREADS,
    cuda,
    device_function,
    empty,
    inlined,
    jit,
    launch,
    launch_pixels,
)
from .general import slice_of, theta_gradient_row
from .kernel_arguments import geometry_of, outside
from .layout import Geometry, channel_steps, element, image_start, sample_start
from .loops import block_part, each_pixel, sum_pixels
from .sums import add_block, add_threads, moments, no_moments, parts_of, plus
from .taps import Images, fill_of, form_of, locate, sample_slopes, taps_at, weight_slopes_at

# --- jvp ------------------------------------------------------------------------------------------


class TangentSlice(NamedTuple):
    """What the pixels of one slice have in common."""

    theta: tuple  # its rows
    theta_dot: tuple  # those of its tangent
    start: int  # first element of the image


@inlined
def tangent_slice(call, g, n, k):
    """The :class:`TangentSlice` of map n."""
    kind, coords, coords_dot = call[0], call[1], call[2]
    theta = theta_rows(kind.source, kind.dims, coords, n, g.off)
    theta_dot = theta_rows_dot(kind.source, kind.dims, coords_dot, n, g.off)
    return TangentSlice(theta, theta_dot, image_start(kind, g, n))


@inlined
def tangent_pixel(call, g, common, where):
    """Add to one output pixel's tangent what the tangent of the coordinates gives."""
    kind, coords, coords_dot, images, samples_dot = call
    _, k, i, _ = where
    rows = row_of(common.theta, k, i, g), row_of(common.theta_dot, k, i, g)
    pixel = input_pixel(kind, coords, rows[0], where, g)
    pixel_dot = input_pixel_dot(kind, coords_dot, rows, where, pixel, g)
    to = sample_start(kind, g, where)
    add_tangent(kind, images, common.start, pixel, pixel_dot, g, samples_dot, to)


@inlined
def add_tangent(kind, images, start, pixel, pixel_dot, g, samples_dot, to):
    """Add the change of each channel as the input pixel moves by ``pixel_dot``."""
    real, index = samples_dot.dtype.type, type(to)
    step, step_out = channel_steps(kind, g)
    position = locate(kind, pixel, g)
    taps, weight_slopes = taps_at(kind, position, real), weight_slopes_at(kind, position, real)
    sz, sy, sx = position.slopes
    x, y = real(padded_tangent(sx, pixel_dot[0])), real(padded_tangent(sy, pixel_dot[1]))
    z, c = real(padded_tangent(sz, pixel_dot[2])), index(0) if position.inside else g.counts[2]
    while c < g.counts[2]:
        fill = fill_of(images.fill, c)
        gx, gy, gz = sample_slopes(kind, images, start, taps, weight_slopes, fill)
        samples_dot[np.uint64(to)] += slope_times(gx, x) + slope_times(gy, y) + slope_times(gz, z)
        start, to, c = index(start + step), index(to + step_out), index(c + 1)


@functools.cache
def make_sample_jvp_coords(kind, form):
    """Kernel: images, coords, coords_dot -> what the coordinates' tangent adds to samples_dot."""
    sources = source_hash()

    def jvp(images, coords, coords_dot, fill, geometry, samples_dot):
        _ = sources
        call = kind, coords, coords_dot, Images(images, form, fill), samples_dot
        each_pixel(tangent_slice, tangent_pixel, kind.dims, call, Geometry(*geometry))

    return jit(jvp)


def sample_jvp_coords(kind, images, coords, coords_dot, off, fill, samples_dot):
    """Add to ``samples_dot`` what moving the coordinates by ``coords_dot`` changes."""
    geometry = geometry_of(kind, images, samples_dot, coords, off)
    launch_pixels(
        make_sample_jvp_coords(kind, form_of(images.dtype)), geometry,
        plain(images), coords, coords_dot, outside(kind, fill, images), geometry, samples_dot,
    )  # fmt: skip


# --- Normal equations -----------------------------------------------------------------------------


@inlined
def normal_pixel(call, g, common, row, sums, where):
    """Add one output pixel to the four sets of moments: of xx, xy, yy, and of the residuals."""
    kind, coords, images, residuals = call
    (row, y, _), (xx, xy, yy, right) = row, sums
    pixel, at = input_pixel(kind, coords, row, where, g), sample_start(kind, g, where)
    (a, b, c), (rx, ry) = slope_products(kind, images, common.start, pixel, g, residuals, at)
    x = base_coordinate(where[3], g.sizes[2], g.off)
    return (
        plus(xx, second_moments(a, x, y)),
        plus(xy, second_moments(b, x, y)),
        plus(yy, second_moments(c, x, y)),
        plus(right, moments(rx, ry, x, y)),
    )


@inlined
def slope_products(kind, images, start, pixel, g, residuals, at):
    """Sums over one output pixel's channels: products xx, xy, yy of slopes, and with residuals.

    Slopes are those with respect to normalised coordinates; the residuals begin at element ``at``.
    """
    real, index, coord = type(images.fill[0]), type(at), type(g.off)
    step, step_out = channel_steps(kind, g)
    _, h, w = g.sides
    position = locate(kind, pixel, g)
    taps, weight_slopes = taps_at(kind, position, real), weight_slopes_at(kind, position, real)
    _, sy, sx = position.slopes
    x, y = real(sx * unnormalize_slope(w, g.off)), real(sy * unnormalize_slope(h, g.off))
    xx, xy, yy, rx, ry = real(0), real(0), real(0), real(0), real(0)
    c = index(0) if position.inside else g.counts[2]
    while c < g.counts[2]:
        fill, r = fill_of(images.fill, c), element(residuals, at)
        gx, gy, _ = sample_slopes(kind, images, start, taps, weight_slopes, fill)
        gx, gy = slope_times(gx, x), slope_times(gy, y)
        xx, xy, yy = xx + gx * gx, xy + gx * gy, yy + gy * gy
        rx, ry = rx + r * gx, ry + r * gy
        start, at, c = index(start + step), index(at + step_out), index(c + 1)
    return (coord(xx), coord(xy), coord(yy)), (coord(rx), coord(ry))


@functools.cache
def make_normal(kind, form, real):
    """Kernel: residuals, images, theta -> each block's sums, (N, 4, 6, parts).

    The products xx, xy and yy of slopes, times the products of (x, y, 1) of the output; and theta's
    gradient.
    """
    sources, threads = source_hash(), THREADS

    def normal(residuals, images, coords, fill, geometry, parts, partials):
        _ = sources
        shared = cuda.shared.array((6, threads), real)
        g, none = Geometry(*geometry), no_moments(real(0))
        part = block_part(parts, g)
        call, sums = (kind, coords, Images(images, form, fill), residuals), (none, none, none, none)
        sums = sum_pixels(slice_of, theta_gradient_row, normal_pixel, 2, call, g, sums, part)
        # The four sets of sums use one shared array, one after another.
        add_set(shared, sums[0], 0, part, partials)
        cuda.syncthreads()
        add_set(shared, sums[1], 1, part, partials)
        cuda.syncthreads()
        add_set(shared, sums[2], 2, part, partials)
        cuda.syncthreads()
        add_set(shared, sums[3], 3, part, partials)

    return jit(normal)


@inlined
def add_set(shared, sums, number, part, partials):
    """Write one of the four sets of sums of a map."""
    n, k, parts = part
    add_block(shared, sums, (type(n)(4 * n + number), k, parts), partials)


@device_function
def put_product(jtj, at, r, k, value):
    """Write one sum to its four entries of a symmetric matrix, which begins at element ``at``.

    The sum is that of the slopes' product ``r`` (xx, xy, yy) and of the product ``k`` of (x, y, 1)
    (xx to 1).
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
    """Kernel: the blocks' sums -> J^T J, (N, 6, 6), and J^T r, (N, 6); one block for each number.

    The only kernel that adds in float64 whatever the arrays are. It has few terms, and the
    condition number of J^T J is the square of that of J.
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

    Each block sums in theta's type; the sums of the blocks are added in float64.
    """
    if not residuals.size:
        clear(jtj)
        clear(jtr)
        return
    geometry = geometry_of(kind, images, residuals, coords, off)
    batch, parts = len(coords), parts_of(int(geometry[3][1]))
    partials = empty((batch, 4, 6, parts), coords.dtype, coords)
    launch(
        make_normal(kind, form_of(images.dtype), coords.dtype.type), (batch * parts,), BLOCK,
        residuals, plain(images), coords, outside(kind, fill, images), geometry, parts, partials,
    )  # fmt: skip
    launch(make_normal_sum(), (batch * 24,), THREADS, partials, parts, jtj, jtr)
