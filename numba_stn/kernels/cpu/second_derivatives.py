"""CPU kernels of second derivatives: how the gradients of samples change as coordinates move.

The gradients are those of :mod:`.general`, which also describes the arrays and ``kind``. They are
linear in the images and in ``dsamples``; what moves with these is computed by the kernels of the
gradients themselves. Nothing depends on the number of threads.
"""

import functools
import math

import numpy as np
from numba import prange

from .. import cpu_launch
from ..math.coordinates import from_middle
from ..math.jit import inlined, scalar
from ..math.matrix_rows import quotient_vjp_jvp
from ..math.padding import MISSING, padded_tangent, slope_times, tap_index
from ..math.sampler_kind import GRID, PROJECTIVE, TAPS
from .coordinate_sources import make_input_pixel_dot, make_row
from .general import as_volume, make_write_grid_gradient
from .simd.memory import borrowed
from .taps import (
    make_channel_curvatures,
    make_channel_slopes,
    make_get,
    make_lengths,
    make_locate,
    make_put,
    make_weights,
)
from .theta_sums import ROWS_PER_PART, add_row, write_dtheta
from .traversal import make_fold_row

# --- The images' gradient -------------------------------------------------------------------------


@functools.cache
def make_sample_vjp_jvp_images(kind, parallel):
    """Kernel: dsamples, coords, coords_dot -> the tangent of dimages.

    A task owns some rows of one image and goes through all samples, always in the same order.
    """
    stamp = cpu_launch.stamp(parallel)
    put, lengths = make_put(kind.channels_last), make_lengths(kind.channels_last)
    row_dot_of = make_row(kind.source, kind.dims, kind.between_pixels, True)
    fold_row = make_fold_row(kind, _make_scatter(kind))

    def sample_vjp_jvp_images(dsamples, coords, coords_dot, off, bands, dimages):
        real = dimages.dtype.type
        count, channels, sides = lengths(dimages)
        batch, _, sizes = lengths(dsamples)
        (d, h, w), (depth, rows, _) = sides, sizes
        for task in prange(count * bands):
            m, band = task // bands, task % bands
            gradients, where, where_dot, sums = borrowed((dsamples, coords, coords_dot, dimages))
            top, bottom = band * d * h // bands, (band + 1) * d * h // bands
            for r in range(top, bottom):
                for x in range(w):
                    for c in range(channels):
                        put(sums, m, c, r // h, r % h, x, real(0))
            first, last = (m, m + 1) if count > 1 else (0, batch)
            for line in range(first * depth * rows, last * depth * rows):
                n, k, i = line // rows // depth, line // rows % depth, line % rows
                row_dot = row_dot_of(where_dot, n, k, i, sides, sizes, off)
                own = (gradients, sums, where_dot, row_dot, (m, top, bottom), sides, off)
                fold_row(own, 0, line, where, sides, sizes, off, real)
        return stamp

    return cpu_launch.jit(sample_vjp_jvp_images, parallel)


def _make_scatter(kind):
    """Function: add what one sample gives to the pixels of a band of rows.

    The weights w of a sample change by ``sum over axes of (slope of w along the axis) pixel_dot``.
    """
    locate = make_locate(kind.mode, kind.padding, kind.dims)
    weights_of = make_weights(kind.mode, kind.dims)
    slopes_of = make_weights(kind.mode, kind.dims, (1, 1, 1))
    input_pixel_dot = make_input_pixel_dot(kind.source, kind.dims)
    get, put = make_get(kind.channels_last), make_put(kind.channels_last)
    lengths, taps = make_lengths(kind.channels_last), TAPS[kind.mode]
    mode, padding, deep = kind.mode, kind.padding, taps if kind.dims == 3 else 1

    def visit(task, state, row, at, pixel):
        gradients, sums, coords_dot, row_dot, (m, top, bottom), sides, off = task
        (n, k, i, j), (d, h, w), real = at, sides, sums.dtype.type
        _, channels, _ = lengths(gradients)
        (iz, iy, ix), t, (sz, sy, sx), some, _ = locate(pixel, sides, off)
        if not some:
            return state
        x, y, z = input_pixel_dot(coords_dot, row, row_dot, at, pixel)
        x, y, z = real(padded_tangent(sx, x)), real(padded_tangent(sy, y)), padded_tangent(sz, z)
        (wz, wy, wx), (vz, vy, vx) = weights_of(t, real), slopes_of(t, real)
        for a in range(deep):
            jz, by_z = tap_index(iz + a, d, mode, padding, off), slope_times(vz[a], real(z))
            for b in range(taps):
                jy, by_y = tap_index(iy + b, h, mode, padding, off), slope_times(vy[b], y)
                r = jz * h + jy
                if jz == MISSING or jy == MISSING or r < top or r >= bottom:
                    continue
                here, moving = wz[a] * wy[b], wz[a] * by_y + by_z * wy[b]
                for e in range(taps):
                    jx = tap_index(ix + e, w, mode, padding, off)
                    if jx == MISSING:
                        continue
                    change = here * slope_times(vx[e], x) + moving * wx[e]
                    for c in range(channels):
                        total = get(sums, m, c, jz, jy, jx) + get(gradients, n, c, k, i, j) * change
                        put(sums, m, c, jz, jy, jx, total)
        return state

    return inlined(visit)


def sample_vjp_jvp_images(kind, dsamples, coords, coords_dot, off, dimages):
    """Fill ``dimages``."""
    work = dsamples.size * (2 * TAPS[kind.mode] ** kind.dims + 1)
    lines = math.prod(kind.spatial(dimages)[:-1])
    bands = max(1, min(-(-cpu_launch.workers(work) // max(len(dimages), 1)), lines))
    cpu_launch.run(
        make_sample_vjp_jvp_images, (kind,), work,
        as_volume(kind, dsamples), coords, coords_dot, off, bands, as_volume(kind, dimages),
    )  # fmt: skip


# --- The coordinates' gradient --------------------------------------------------------------------


@functools.cache
def make_sample_vjp_jvp_coords(kind, dtype, parallel):
    """Kernel: dsamples, images, coords, coords_dot -> the tangent of dgrid, or sums for theta."""
    stamp = cpu_launch.stamp(parallel)
    source, lengths = kind.source, make_lengths(kind.channels_last)
    row_dot_of = make_row(source, kind.dims, kind.between_pixels, True)
    numbers = 4 if source == PROJECTIVE else 3
    fold_row = make_fold_row(kind, _make_differentiate(kind, dtype))

    def sample_vjp_jvp_coords(dsamples, images, coords, coords_dot, off, fill, dcoords):
        _, _, sides = lengths(images)
        batch, _, sizes = lengths(dsamples)
        depth, rows, _ = sizes
        parts = (depth * rows + ROWS_PER_PART - 1) // ROWS_PER_PART
        for number in prange(batch * parts):
            n, part = number // parts, number % parts
            arrays, where, where_dot, outside, dgrid = borrowed(
                ((images, dsamples), coords, coords_dot, fill, dcoords)
            )
            sums, zeros = np.zeros((4, 4)), (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
            for r in range(part * ROWS_PER_PART, min(depth * rows, (part + 1) * ROWS_PER_PART)):
                row_dot = row_dot_of(where_dot, n, r // rows, r % rows, sides, sizes, off)
                task = (arrays, (where_dot, row_dot), outside, dgrid, sides, sizes, off)
                line = n * depth * rows + r
                found = fold_row(task, zeros, line, where, sides, sizes, off, fill.dtype.type)
                z, y = from_middle(r // rows, depth), from_middle(r % rows, rows)
                for axis in range(numbers):
                    add_row(sums, axis, found[axis], found[4 + axis], y, z)
            if source != GRID:
                for axis in range(4):
                    for column in range(4):
                        dcoords[n, part, axis, column] = sums[axis, column]
        return stamp

    return cpu_launch.jit(sample_vjp_jvp_coords, parallel)


def _make_differentiate(kind, dtype):
    """Function: write a tangent of a grid's gradient, or add that of a matrix to a row's sums.

    The sums are those of the tangents in x, y, z and the divisor, then of those times the column.
    """
    gradient_dot_of = _make_pixel_gradient_dot(kind, dtype)
    source, write_grid_gradient = kind.source, make_write_grid_gradient(kind.dims)
    input_pixel_dot = make_input_pixel_dot(source, kind.dims)

    def visit(task, state, row, at, pixel):
        arrays, (coords_dot, row_dot), fill, dgrid, sides, sizes, off = task
        pixel_dot = input_pixel_dot(coords_dot, row, row_dot, at, pixel)
        g, g_dot = gradient_dot_of(arrays, fill, at, pixel, pixel_dot, sides, off)
        if source == GRID:
            write_grid_gradient(dgrid, at, g_dot, sides, off)
            return state
        (gx, gy, gz), gw = g_dot, 0.0
        if source == PROJECTIVE:
            moved, slopes = (pixel, pixel_dot), (g, g_dot)
            gx, gy, gz, gw = quotient_vjp_jvp(row, row_dot, at[3], moved, slopes, sides)
        column = from_middle(at[3], sizes[2])
        x0, y0, z0, w0, x1, y1, z1, w1 = state
        x1, y1, z1, w1 = x1 + gx * column, y1 + gy * column, z1 + gz * column, w1 + gw * column
        return x0 + gx, y0 + gy, z0 + gz, w0 + gw, x1, y1, z1, w1

    return inlined(visit)


def _make_pixel_gradient_dot(kind, dtype):
    """Function: the gradient with respect to one sample's position, and its tangent, in float64.

    It sums over the channels the slopes of the sample, and what second derivatives times the
    tangent of the position add to them, times ``dsamples``. The gradient itself is needed, and
    computed, for projective maps only. ``arrays`` are (images, dsamples).
    """
    get, lengths = make_get(kind.channels_last), make_lengths(kind.channels_last)
    locate = make_locate(kind.mode, kind.padding, kind.dims)
    slopes, curvatures = make_channel_slopes(kind, dtype), make_channel_curvatures(kind, dtype)
    projective = kind.source == PROJECTIVE

    def pixel_gradient_dot(arrays, fill, at, pixel, pixel_dot, sides, off):
        (images, dsamples), (n, k, i, j) = arrays, at
        real, zero = fill.dtype.type, type(off)(0)
        count, channels, _ = lengths(images)
        m = n if count > 1 else 0
        first, t, (sz, sy, sx), some, inside = locate(pixel, sides, off)
        if not some:
            return (zero, zero, zero), (zero, zero, zero)
        gx, gy, gz = real(0), real(0), real(0)
        xx, yy, zz, xy, xz, yz = real(0), real(0), real(0), real(0), real(0), real(0)
        for c in range(channels):
            d, where = get(dsamples, n, c, k, i, j), (m, c, first)
            if projective:
                x, y, z = slopes(images, fill, where, t, inside, sides, off)
                gx, gy, gz = gx + d * x, gy + d * y, gz + d * z
            a, b, e, p, q, r = curvatures(images, fill, where, t, inside, sides, off)
            xx, yy, zz = xx + d * a, yy + d * b, zz + d * e
            xy, xz, yz = xy + d * p, xz + d * q, yz + d * r
        x, y = padded_tangent(sx, pixel_dot[0]), padded_tangent(sy, pixel_dot[1])
        z = padded_tangent(sz, pixel_dot[2])
        gradient = (
            padded_tangent(sx, type(off)(gx)), padded_tangent(sy, type(off)(gy)),
            padded_tangent(sz, type(off)(gz)),
        )  # fmt: skip
        return gradient, (
            padded_tangent(sx, slope_times(xx, x) + slope_times(xy, y) + slope_times(xz, z)),
            padded_tangent(sy, slope_times(xy, x) + slope_times(yy, y) + slope_times(yz, z)),
            padded_tangent(sz, slope_times(xz, x) + slope_times(yz, y) + slope_times(zz, z)),
        )

    return scalar(pixel_gradient_dot)


def sample_vjp_jvp_coords(kind, dsamples, images, coords, coords_dot, off, fill, dcoords):
    """Fill ``dcoords``: the tangent of dgrid, or of dtheta."""
    sizes, sides = ((1, *kind.spatial(array))[-3:] for array in (dsamples, images))
    parts = -(-sizes[0] * sizes[1] // ROWS_PER_PART)
    sums = dcoords if kind.source == GRID else np.empty((len(coords), parts, 4, 4))
    cpu_launch.run(
        make_sample_vjp_jvp_coords, (kind, images.dtype),
        dsamples.size * (2 * TAPS[kind.mode] ** kind.dims + 1),
        as_volume(kind, dsamples), as_volume(kind, images), coords, coords_dot, off, fill, sums,
    )  # fmt: skip
    if kind.source != GRID:
        write_dtheta(kind, sums, sides, sizes, off, dcoords)
