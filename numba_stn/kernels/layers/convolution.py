"""Convolution of batch blocks, and its gradients, by the tiles of :mod:`.convolution_loops`.

An output is ``y[f, p] = bias[f] + sum_t weight[f, t] x[p + t]``, where p is the address of a
window's first pixel in its block, and t is one of C k k offsets (taps) from it. The three functions
traverse the same addresses: :func:`convolve` sums over taps, :func:`convolve_vjp_x` over features,
:func:`convolve_vjp_weight` over positions and images. No windows are copied (no im2col).

One thread computes each output element in a fixed order, whatever the number of threads.
"""

import functools
from typing import NamedTuple

import numpy as np
from numba import prange

from .. import cpu_launch
from ..cpu.simd.vectors import LANES
from ..math.jit import scalar
from .convolution_loops import correlate, correlate_vjp_weight, correlate_vjp_x

# Number of multiplications that take about a nanosecond: see launch.PARALLEL_WORK.
PER_NANOSECOND = 40

# Number of taps per task of the weights' gradient.
TAPS_PER_TASK = 32

# The least number of vectors that a task sums in registers before it adds the sums to the gradient
# in memory.
MIN_VECTORS = 256


class _Sizes(NamedTuple):
    """Sizes of a convolution's arrays; kernels take it as one argument."""

    blocks: int
    channels: int
    height: int
    width: int
    features: int
    rows: int
    columns: int
    kernel: int
    stride: int


@scalar
def tile_side(remaining):
    """Side of the next tile, where ``remaining`` rows or columns are not done yet."""
    return 4 if remaining >= 4 else 2 if remaining >= 2 else 1


@scalar
def x_offset(sizes, b, c, i, j):
    """Offset of a pixel of the images, in elements."""
    return (((b * sizes.channels + c) * sizes.height + i) * sizes.width + j) * LANES


@scalar
def y_offset(sizes, b, f, i, j):
    """Offset of a pixel of the output, in elements."""
    return (((b * sizes.features + f) * sizes.rows + i) * sizes.columns + j) * LANES


# --- Forward --------------------------------------------------------------------------------------


@functools.cache
def make_convolve(parallel):
    """Kernel: x, taps, weight in tiles of features, bias -> y."""
    stamp = cpu_launch.stamp(parallel)

    def convolve(x, taps, weight, bias, sizes, y):
        groups = (sizes.features + 3) // 4
        y_feature = y_offset(sizes, 0, 1, 0, 0)
        for task in prange(sizes.blocks * groups):
            b, f, end = (
                task // groups,
                task % groups * 4,
                min(sizes.features, task % groups * 4 + 4),
            )
            while f < end:
                features = tile_side(end - f)
                for i in range(sizes.rows):
                    j = 0
                    while j < sizes.columns:
                        positions = tile_side(sizes.columns - j)
                        correlate(
                            features, positions, (x, taps, weight, bias, y),
                            (len(taps), x_offset(sizes, b, 0, i * sizes.stride, j * sizes.stride),
                             sizes.stride * LANES, f * len(taps), f, y_offset(sizes, b, f, i, j),
                             y_feature),
                        )  # fmt: skip
                        j += positions
                f += features
        return stamp

    return cpu_launch.jit(convolve, parallel)


def convolve(x, weight, bias, stride):
    """Cross-correlation: batch blocks (B, C, H, W, LANES), weight (F, C, k, k) -> (B, F, ...)."""
    sizes = _sizes(x.shape, weight.shape, stride)
    y = np.empty((sizes.blocks, sizes.features, sizes.rows, sizes.columns, LANES), x.dtype)
    flat = weight.reshape(sizes.features, -1).astype(x.dtype, copy=False)
    bias = np.ascontiguousarray(bias, x.dtype)
    cpu_launch.run(
        make_convolve, (), _work(sizes), x.reshape(-1), _tap_offsets(sizes), _pack_tiles(flat),
        bias, sizes, y.reshape(-1),
    )  # fmt: skip
    return y


# --- Gradient with respect to the images ----------------------------------------------------------


@functools.cache
def make_convolve_vjp_x(parallel):
    """Kernel: dy, taps, weight in tiles of taps -> dx."""
    stamp = cpu_launch.stamp(parallel)

    def convolve_vjp_x(dy, taps, weight, sizes, dx):
        y_feature = y_offset(sizes, 0, 1, 0, 0)
        for b in prange(sizes.blocks):
            dx[x_offset(sizes, b, 0, 0, 0) : x_offset(sizes, b + 1, 0, 0, 0)] = 0
            t = 0
            while t < len(taps):
                count = tile_side(len(taps) - t)
                for i in range(sizes.rows):
                    j = 0
                    while j < sizes.columns:
                        positions = tile_side(sizes.columns - j)
                        correlate_vjp_x(
                            count, positions, (dx, taps, weight, dy),
                            (sizes.features,
                             x_offset(sizes, b, 0, i * sizes.stride, j * sizes.stride),
                             sizes.stride * LANES, t * sizes.features, t,
                             y_offset(sizes, b, 0, i, j), y_feature),
                        )  # fmt: skip
                        j += positions
                t += count
        return stamp

    return cpu_launch.jit(convolve_vjp_x, parallel)


def convolve_vjp_x(dy, weight, shape, stride):
    """Gradient with respect to batch blocks of ``shape``."""
    sizes = _sizes(shape, weight.shape, stride)
    dx = np.empty(shape, dy.dtype)
    flat = weight.reshape(sizes.features, -1).astype(dy.dtype, copy=False)
    cpu_launch.run(
        make_convolve_vjp_x, (), _work(sizes), dy.reshape(-1), _tap_offsets(sizes),
        _pack_tiles(flat.T), sizes, dx.reshape(-1),
    )  # fmt: skip
    return dx


# --- Gradient with respect to weight and bias -----------------------------------------------------


@functools.cache
def make_convolve_vjp_weight(parallel):
    """Kernel: dy, x, taps -> dweight (F, taps), flat."""
    stamp = cpu_launch.stamp(parallel)

    def convolve_vjp_weight(dy, x, taps, sizes, dweight):
        groups = (sizes.features + 3) // 4
        tap_groups = (len(taps) + TAPS_PER_TASK - 1) // TAPS_PER_TASK
        chunk = max(1, MIN_VECTORS // (sizes.rows * sizes.columns))
        strides = (
            x_offset(sizes, 1, 0, 0, 0), x_offset(sizes, 0, 0, sizes.stride, 0),
            sizes.stride * LANES, y_offset(sizes, 1, 0, 0, 0), y_offset(sizes, 0, 1, 0, 0),
        )  # fmt: skip
        for task in prange(groups * tap_groups):
            first_tap = task // groups * TAPS_PER_TASK
            for first in range(0, sizes.blocks, chunk):
                last = min(first + chunk, sizes.blocks)
                f = task % groups * 4
                end = min(sizes.features, f + 4)
                while f < end:
                    features = tile_side(end - f)
                    t, stop = first_tap, min(len(taps), first_tap + TAPS_PER_TASK)
                    while t < stop:
                        count = tile_side(stop - t)
                        correlate_vjp_weight(
                            features, count, (dweight, taps, x, dy),
                            (first, last, sizes.rows, sizes.columns, *strides,
                             y_offset(sizes, 0, f, 0, 0), t, f * len(taps) + t, len(taps)),
                        )  # fmt: skip
                        t += count
                    f += features
        return stamp

    return cpu_launch.jit(convolve_vjp_weight, parallel)


@functools.cache
def make_convolve_vjp_bias(parallel):
    """Kernel: dy -> dbias (F,)."""
    stamp = cpu_launch.stamp(parallel)

    def convolve_vjp_bias(dy, dbias):
        blocks, features, rows, columns, _ = dy.shape
        for f in prange(features):
            total = np.zeros(LANES, dy.dtype)
            for b in range(blocks):
                for i in range(rows):
                    for j in range(columns):
                        for lane in range(LANES):
                            total[lane] += dy[b, f, i, j, lane]
            dbias[f] = total.sum()
        return stamp

    return cpu_launch.jit(convolve_vjp_bias, parallel)


def convolve_vjp_weight(dy, x, shape, stride):
    """Gradients with respect to the weight, of ``shape``, and the bias."""
    sizes = _sizes(x.shape, shape, stride)
    dweight, dbias = np.zeros(shape, dy.dtype), np.zeros(shape[0], dy.dtype)
    cpu_launch.run(
        make_convolve_vjp_weight, (), _work(sizes), dy.reshape(-1), x.reshape(-1),
        _tap_offsets(sizes), sizes, dweight.reshape(-1),
    )  # fmt: skip
    cpu_launch.run(make_convolve_vjp_bias, (), dy.size // 4, dy, dbias)
    return dweight, dbias


# --- Helpers --------------------------------------------------------------------------------------


def output_side(side, kernel, stride):
    """Number of windows that fit along a side."""
    return (side - kernel) // stride + 1


def _sizes(x, weight, stride):
    """The sizes, from the shapes of x and weight."""
    blocks, channels, height, width, _ = x
    features, _, kernel, _ = weight
    rows, columns = (output_side(side, kernel, stride) for side in (height, width))
    return _Sizes(blocks, channels, height, width, features, rows, columns, kernel, stride)


def _work(sizes):
    """Time that a convolution takes, roughly, in nanoseconds."""
    outputs = sizes.blocks * sizes.features * sizes.rows * sizes.columns * LANES
    return outputs * sizes.channels * sizes.kernel**2 // PER_NANOSECOND


def _tap_offsets(sizes):
    """Offset of each tap of a window from the window's first pixel, in elements."""
    c, i, j = np.ogrid[: sizes.channels, : sizes.kernel, : sizes.kernel]
    return (((c * sizes.height + i) * sizes.width + j) * LANES).reshape(-1)


def _pack_tiles(weight):
    """(A, B) -> flat: tiles of 4, 2 or 1 rows one after another, each as (B, rows)."""
    done = len(weight) // 4 * 4
    tiles = [weight[:done].reshape(done // 4, 4, weight.shape[1]).transpose(0, 2, 1)]
    while done < len(weight):
        side = 2 if len(weight) - done >= 2 else 1
        tiles.append(weight[done : done + side].T)
        done += side
    return np.concatenate([tile.reshape(-1) for tile in tiles])
