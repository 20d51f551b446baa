"""CPU kernels of displacement fields: one field seen through another, and its gradients.

A displacement is in pixels, x before y before z, (N, H, W, 2) or (N, D, H, W, 3). Beyond its edges
a field continues with the values there. Every sum has its terms in the order of the output's
pixels, whatever the number of threads.
"""

import functools
import math

import numpy as np
from numba import prange

from .. import cpu_launch
from ..math.jit import inlined

# Rows of the gradient that one task owns; in 3-D, planes.
BAND_ROWS, BAND_PLANES = 32, 4


@inlined
def axis_taps(j, shift, side):
    """The two pixels around pixel j moved by ``shift``, the second one's weight, and its slope.

    The fraction is that of the shift, which float32 holds more precisely than that of a position.
    """
    real = type(shift)
    if not shift > -j:  # also NaN
        return 0, 0, real(0), real(0)
    if shift >= side - 1 - j:
        return side - 1, side - 1, real(0), real(0)
    whole = math.floor(shift)
    low = j + int(whole)
    return low, low + 1, shift - real(whole), real(1)


# --- Composition: out(x) = second(x) + first(x + second(x)); planes use the sampler's vectors -----


@functools.cache
def make_compose_3d(parallel):
    """Kernel: two fields (N, D, H, W, 3) -> their composition."""
    stamp = cpu_launch.stamp(parallel)

    def compose_3d(first, second, out):
        batch, planes, rows, columns, _ = out.shape
        for task in prange(batch * planes * rows):
            n, k, i = task // (planes * rows), task // rows % planes, task % rows
            for j in range(columns):
                x0, x1, fx, _ = axis_taps(j, second[n, k, i, j, 0], columns)
                y0, y1, fy, _ = axis_taps(i, second[n, k, i, j, 1], rows)
                z0, z1, fz, _ = axis_taps(k, second[n, k, i, j, 2], planes)
                for c in range(3):
                    a, b = first[n, z0, y0, x0, c], first[n, z0, y1, x0, c]
                    a = a + fx * (first[n, z0, y0, x1, c] - a)
                    b = b + fx * (first[n, z0, y1, x1, c] - b)
                    near = a + fy * (b - a)
                    a, b = first[n, z1, y0, x0, c], first[n, z1, y1, x0, c]
                    a = a + fx * (first[n, z1, y0, x1, c] - a)
                    b = b + fx * (first[n, z1, y1, x1, c] - b)
                    far = a + fy * (b - a)
                    out[n, k, i, j, c] = second[n, k, i, j, c] + (near + fz * (far - near))
        return stamp

    return cpu_launch.jit(compose_3d, parallel)


# --- Gradient with respect to the second field, and the rows of the first that each row reads -----


@functools.cache
def make_compose_vjp_second_2d(parallel):
    """Kernel: adds the gradient to ``dsecond``; ``reads`` (N, H, 2) are the first and last rows."""
    stamp = cpu_launch.stamp(parallel)

    def compose_vjp_second_2d(dout, first, second, dsecond, reads):
        batch, rows, columns, _ = dout.shape
        for task in prange(batch * rows):
            n, i = task // rows, task % rows
            low, high = rows, -1
            for j in range(columns):
                x0, x1, fx, slope_x = axis_taps(j, second[n, i, j, 0], columns)
                y0, y1, fy, slope_y = axis_taps(i, second[n, i, j, 1], rows)
                low, high = min(low, y0), max(high, y1)
                dx, dy = dsecond[n, i, j, 0], dsecond[n, i, j, 1]
                for c in range(2):
                    d = dout[n, i, j, c]
                    top = first[n, y0, x1, c] - first[n, y0, x0, c]
                    bottom = first[n, y1, x1, c] - first[n, y1, x0, c]
                    left = first[n, y1, x0, c] - first[n, y0, x0, c]
                    right = first[n, y1, x1, c] - first[n, y0, x1, c]
                    dx += slope_x * d * (top + fy * (bottom - top))
                    dy += slope_y * d * (left + fx * (right - left))
                dsecond[n, i, j, 0] = dx + dout[n, i, j, 0]
                dsecond[n, i, j, 1] = dy + dout[n, i, j, 1]
            reads[n, i, 0], reads[n, i, 1] = low, high
        return stamp

    return cpu_launch.jit(compose_vjp_second_2d, parallel)


@functools.cache
def make_compose_vjp_second_3d(parallel):
    """Kernel: adds the gradient to ``dsecond``; ``reads`` (N, D, 2) are the first, last planes."""
    stamp = cpu_launch.stamp(parallel)

    def compose_vjp_second_3d(dout, first, second, dsecond, reads):
        batch, planes, rows, columns, _ = dout.shape
        one = type(dout[0, 0, 0, 0, 0])(1)
        for task in prange(batch * planes):
            n, k = task // planes, task % planes
            lowest, highest = planes, -1
            for i in range(rows):
                for j in range(columns):
                    x0, x1, fx, slope_x = axis_taps(j, second[n, k, i, j, 0], columns)
                    y0, y1, fy, slope_y = axis_taps(i, second[n, k, i, j, 1], rows)
                    z0, z1, fz, slope_z = axis_taps(k, second[n, k, i, j, 2], planes)
                    lowest, highest = min(lowest, z0), max(highest, z1)
                    gx, gy, gz = one - fx, one - fy, one - fz
                    dx, dy, dz = (
                        dsecond[n, k, i, j, 0],
                        dsecond[n, k, i, j, 1],
                        dsecond[n, k, i, j, 2],
                    )
                    for c in range(3):
                        d = dout[n, k, i, j, c]
                        a, b = first[n, z0, y0, x0, c], first[n, z0, y0, x1, c]
                        e, f = first[n, z0, y1, x0, c], first[n, z0, y1, x1, c]
                        p, q = first[n, z1, y0, x0, c], first[n, z1, y0, x1, c]
                        r, s = first[n, z1, y1, x0, c], first[n, z1, y1, x1, c]
                        by_x = gz * (gy * (b - a) + fy * (f - e)) + fz * (
                            gy * (q - p) + fy * (s - r)
                        )
                        by_y = gz * (gx * (e - a) + fx * (f - b)) + fz * (
                            gx * (r - p) + fx * (s - q)
                        )
                        by_z = gy * (gx * (p - a) + fx * (q - b)) + fy * (
                            gx * (r - e) + fx * (s - f)
                        )
                        dx += slope_x * d * by_x
                        dy += slope_y * d * by_y
                        dz += slope_z * d * by_z
                    dsecond[n, k, i, j, 0] = dx + dout[n, k, i, j, 0]
                    dsecond[n, k, i, j, 1] = dy + dout[n, k, i, j, 1]
                    dsecond[n, k, i, j, 2] = dz + dout[n, k, i, j, 2]
            reads[n, k, 0], reads[n, k, 1] = lowest, highest
        return stamp

    return cpu_launch.jit(compose_vjp_second_3d, parallel)


# --- Gradient with respect to the first field: a scatter, of which each task owns some rows -------


@functools.cache
def make_compose_vjp_first_2d(parallel):
    """Kernel: adds the gradient to ``dfirst``."""
    stamp = cpu_launch.stamp(parallel)

    def compose_vjp_first_2d(dout, second, reads, dfirst):
        batch, rows, columns, _ = dout.shape
        bands = (rows + BAND_ROWS - 1) // BAND_ROWS
        one = type(dout[0, 0, 0, 0])(1)
        for task in prange(batch * bands):
            n, start = task // bands, task % bands * BAND_ROWS
            end = min(start + BAND_ROWS, rows)
            for i in range(rows):
                if reads[n, i, 0] >= end or reads[n, i, 1] < start:
                    continue
                for j in range(columns):
                    x0, x1, fx, _ = axis_taps(j, second[n, i, j, 0], columns)
                    y0, y1, fy, _ = axis_taps(i, second[n, i, j, 1], rows)
                    for c in range(2):
                        d = dout[n, i, j, c]
                        if start <= y0 < end:
                            upper = (one - fy) * d
                            dfirst[n, y0, x0, c] += (one - fx) * upper
                            dfirst[n, y0, x1, c] += fx * upper
                        if start <= y1 < end:
                            lower = fy * d
                            dfirst[n, y1, x0, c] += (one - fx) * lower
                            dfirst[n, y1, x1, c] += fx * lower
        return stamp

    return cpu_launch.jit(compose_vjp_first_2d, parallel)


@functools.cache
def make_compose_vjp_first_3d(parallel):
    """Kernel: adds the gradient to ``dfirst``."""
    stamp = cpu_launch.stamp(parallel)

    def compose_vjp_first_3d(dout, second, reads, dfirst):
        batch, planes, rows, columns, _ = dout.shape
        bands = (planes + BAND_PLANES - 1) // BAND_PLANES
        one = type(dout[0, 0, 0, 0, 0])(1)
        for task in prange(batch * bands):
            n, start = task // bands, task % bands * BAND_PLANES
            end = min(start + BAND_PLANES, planes)
            for k in range(planes):
                if reads[n, k, 0] >= end or reads[n, k, 1] < start:
                    continue
                for i in range(rows):
                    for j in range(columns):
                        x0, x1, fx, _ = axis_taps(j, second[n, k, i, j, 0], columns)
                        y0, y1, fy, _ = axis_taps(i, second[n, k, i, j, 1], rows)
                        z0, z1, fz, _ = axis_taps(k, second[n, k, i, j, 2], planes)
                        for c in range(3):
                            d = dout[n, k, i, j, c]
                            left, right = (one - fx) * d, fx * d
                            for z, weight in ((z0, one - fz), (z1, fz)):
                                if start <= z < end:
                                    upper, lower = (one - fy) * weight, fy * weight
                                    dfirst[n, z, y0, x0, c] += upper * left
                                    dfirst[n, z, y0, x1, c] += upper * right
                                    dfirst[n, z, y1, x0, c] += lower * left
                                    dfirst[n, z, y1, x1, c] += lower * right
        return stamp

    return cpu_launch.jit(compose_vjp_first_3d, parallel)


# --- Functions that :mod:`numba_stn.ops.deformations` calls ---------------------------------------

_VJP_KERNELS = {
    2: (make_compose_vjp_second_2d, make_compose_vjp_first_2d),
    3: (make_compose_vjp_second_3d, make_compose_vjp_first_3d),
}


def compose_3d(first, second):
    """The field ``second(x) + first(x + second(x))``."""
    out = np.empty(second.shape, second.dtype)
    cpu_launch.run(make_compose_3d, (), 4 * out.size, first, second, out)
    return out


def compose_vjp(dout, first, second, dfirst, dsecond):
    """Add the gradients of the composition to two arrays, which may be one."""
    make_second, make_first = _VJP_KERNELS[dout.shape[-1]]
    reads = np.empty((*dout.shape[:2], 2), np.int64)
    cpu_launch.run(make_second, (), 8 * dout.size, dout, first, second, dsecond, reads)
    cpu_launch.run(make_first, (), 8 * dout.size, dout, second, reads, dfirst)
