"""CPU kernels of image pyramids: smooth and halve an image, one axis after the other."""

import functools
import math

import numpy as np
from numba import prange

from .. import cpu_launch
from ..math.jit import scalar


@functools.cache
def make_smooth_axis(dtype, parallel):
    """Kernel: image (outer, n, inner) -> the image smoothed along n by (1, 4, 6, 4, 1) / 16."""
    stamp = cpu_launch.stamp(parallel)

    def smooth_axis(image, out):
        outer, n, _ = image.shape
        for task in prange(outer * n):
            o, j = task // n, task % n
            a, b = image[o, max(j - 2, 0)], image[o, max(j - 1, 0)]
            c, d = image[o, j], image[o, min(j + 1, n - 1)]
            e, new = image[o, min(j + 2, n - 1)], out[o, j]
            for k in range(len(new)):
                new[k] = binomial(a[k], b[k], c[k], d[k], e[k])
        return stamp

    return cpu_launch.jit(smooth_axis, parallel)


@functools.cache
def make_smooth_rows(dtype, parallel):
    """Kernel: like :func:`make_smooth_axis` along the last axis of (outer, n), with n >= 4."""
    stamp = cpu_launch.stamp(parallel)

    def smooth_rows(image, out):
        outer, n = image.shape
        for o in prange(outer):
            row, new = image[o], out[o]
            for j in range(n - 4):
                new[j + 2] = binomial(row[j], row[j + 1], row[j + 2], row[j + 3], row[j + 4])
            for j in (0, 1, n - 2, n - 1):
                a, b = row[max(j - 2, 0)], row[max(j - 1, 0)]
                d, e = row[min(j + 1, n - 1)], row[min(j + 2, n - 1)]
                new[j] = binomial(a, b, row[j], d, e)
        return stamp

    return cpu_launch.jit(smooth_rows, parallel)


@scalar
def binomial(a, b, c, d, e):
    """Compute (a + 4 b + 6 c + 4 d + e) / 16 in float32."""
    real = np.float32
    ends, sides = real(a) + real(e), real(b) + real(d)
    return (ends + real(4) * sides + real(6) * real(c)) * real(0.0625)


@functools.cache
def make_halve_axis(dtype, parallel):
    """Kernel: image (outer, n, inner) -> means of pairs along n, (outer, n // 2, inner)."""
    stamp = cpu_launch.stamp(parallel)

    def halve_axis(image, out):
        outer, n, inner = out.shape
        for task in prange(outer * n):
            o, j = task // n, task % n
            one, two, new = image[o, 2 * j], image[o, 2 * j + 1], out[o, j]
            for k in range(inner):
                new[k] = np.float32(0.5) * (one[k] + two[k])
        return stamp

    return cpu_launch.jit(halve_axis, parallel)


def smooth(image):
    """Smooth an image by (1, 4, 6, 4, 1) / 16 along each axis; edge pixels are repeated.

    The result is a new array of float32.
    """
    axes = [axis for axis in range(image.ndim) if image.shape[axis] > 1]
    for axis in axes:
        out = np.empty(image.shape, np.float32)
        if axis == image.ndim - 1 and image.shape[-1] >= 4:
            rows = image.reshape(-1, image.shape[-1]), out.reshape(-1, image.shape[-1])
            cpu_launch.run(make_smooth_rows, (image.dtype,), image.size, *rows)
        else:
            views = _split_at(image, axis), _split_at(out, axis)
            cpu_launch.run(make_smooth_axis, (image.dtype,), image.size, *views)
        image = out
    return image


def halve(image):
    """Average pairs of pixels along each axis longer than 1; an odd last pixel is dropped."""
    for axis in range(image.ndim):
        if image.shape[axis] > 1:
            sides = list(image.shape)
            sides[axis] //= 2
            out = np.empty(sides, np.float32)
            views = _split_at(image, axis), _split_at(out, axis)
            cpu_launch.run(make_halve_axis, (image.dtype,), image.size, *views)
            image = out
    return image


def _split_at(image, axis):
    """View an image as (all axes before this one, this axis, all axes after it)."""
    outer = math.prod(image.shape[:axis])
    return image.reshape(outer, image.shape[axis], -1)
