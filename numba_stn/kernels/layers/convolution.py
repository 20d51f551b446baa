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
from .batch_blocks import empty
from .channel_loops import add_lanes, add_pixels
from .convolution_loops import (
    correlate,
    correlate_vjp_weight,
    correlate_vjp_x,
    gather_positions,
)

# Number of multiplications that take about a nanosecond: see launch.PARALLEL_WORK.
PER_NANOSECOND = 40

# Number of taps per task of the weights' gradient, and length of a feature's sums: a vector each,
# and one for the bias.
TAPS_PER_TASK = 32
SUMS = (TAPS_PER_TASK + 1) * LANES

# Number of positions of a few rows that a task goes over at a time.
VECTORS_AT_ONCE = 64

# Number of channels per task of the images' gradient.
CHANNELS_PER_TASK = 8

# The least number of vectors that a task sums in registers before it adds the sums to the gradient
# in memory.
MIN_VECTORS = 2048


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
    y = empty((sizes.blocks, sizes.features, sizes.rows, sizes.columns, LANES), x.dtype)
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
    """Kernel: dy, taps, weight in tiles of taps -> dx.

    A task has some channels of a block, and so some taps. The gradients of a few positions are
    copied together first, because a position's features are far apart in memory: the lines of the
    cache that they share would be lost before the next tile of taps.
    """
    stamp = cpu_launch.stamp(parallel)

    def convolve_vjp_x(dy, taps, weight, sizes, near, dx):
        groups = (sizes.channels + CHANNELS_PER_TASK - 1) // CHANNELS_PER_TASK
        y_feature, square = y_offset(sizes, 0, 1, 0, 0), sizes.kernel * sizes.kernel
        near_size = len(near) // (sizes.blocks * groups)
        for task in prange(sizes.blocks * groups):
            b, near_at = task // groups, task * near_size
            c = task % groups * CHANNELS_PER_TASK
            end = min(c + CHANNELS_PER_TASK, sizes.channels)
            dx[x_offset(sizes, b, c, 0, 0) : x_offset(sizes, b, end, 0, 0)] = 0
            for i in range(sizes.rows):
                j = 0
                while j < sizes.columns:
                    positions = tile_side(sizes.columns - j)
                    at = y_offset(sizes, b, 0, i, j)
                    gather_positions(
                        positions, 1, (near, dy), (sizes.features, near_at, at, y_feature)
                    )
                    t = c * square
                    while t < end * square:
                        count = tile_side(end * square - t)
                        correlate_vjp_x(
                            count, positions, (dx, taps, weight, near),
                            (sizes.features,
                             x_offset(sizes, b, 0, i * sizes.stride, j * sizes.stride),
                             sizes.stride * LANES, t * sizes.features, t, near_at,
                             positions * LANES),
                        )  # fmt: skip
                        t += count
                    j += positions
        return stamp

    return cpu_launch.jit(convolve_vjp_x, parallel)


def convolve_vjp_x(dy, weight, shape, stride):
    """Gradient with respect to batch blocks of ``shape``."""
    sizes = _sizes(shape, weight.shape, stride)
    dx = empty(shape, dy.dtype)
    flat = weight.reshape(sizes.features, -1).astype(dy.dtype, copy=False)
    tasks = sizes.blocks * -(-sizes.channels // CHANNELS_PER_TASK)
    near = empty((tasks * sizes.features * 4 * LANES,), dy.dtype)
    cpu_launch.run(
        make_convolve_vjp_x, (), _work(sizes), dy.reshape(-1), _tap_offsets(sizes),
        _pack_tiles(flat.T), sizes, near, dx.reshape(-1),
    )  # fmt: skip
    return dx


# --- Gradient with respect to weight and bias -----------------------------------------------------


@functools.cache
def make_convolve_vjp_weight(parallel):
    """Kernel: dy, x, taps -> dweight (F, taps), flat, and dbias (F,).

    A task has four features and some taps. It goes over a few rows of images at a time, which stay
    in the cache for all tiles of taps. Its sums of each lane are in ``sums``; the last ones of a
    feature are the bias's.
    """
    stamp = cpu_launch.stamp(parallel)

    def convolve_vjp_weight(dy, x, taps, positions, sizes, sums, dweight, dbias):
        groups = (sizes.features + 3) // 4
        tap_groups = max(1, (len(taps) + TAPS_PER_TASK - 1) // TAPS_PER_TASK)  # the bias has one
        chunk = max(1, MIN_VECTORS // (sizes.rows * sizes.columns))
        rows_at_once = len(positions) // sizes.columns
        for task in prange(groups * tap_groups):
            first_tap, first_feature = task // groups * TAPS_PER_TASK, task % groups * 4
            last_tap = min(len(taps), first_tap + TAPS_PER_TASK)
            last_feature = min(sizes.features, first_feature + 4)
            at = task * 4 * SUMS
            for first in range(0, sizes.blocks, chunk):
                sums[at : at + 4 * SUMS] = 0
                for b in range(first, min(first + chunk, sizes.blocks)):
                    for i in range(0, sizes.rows, rows_at_once):
                        rows = min(rows_at_once, sizes.rows - i)
                        add_rows(
                            (sums, taps, positions, x, dy), sizes, (b, i, rows),
                            (first_feature, last_feature), (first_tap, last_tap), at,
                        )  # fmt: skip
                for f in range(first_feature, last_feature):
                    own = at + (f - first_feature) * SUMS
                    for t in range(first_tap, last_tap):
                        tap_at = own + (t - first_tap) * LANES
                        add_lanes((dweight, sums), (f * len(taps) + t, tap_at))
                    if first_tap == 0:
                        add_lanes((dbias, sums), (f, own + TAPS_PER_TASK * LANES))
        return stamp

    return cpu_launch.jit(convolve_vjp_weight, parallel)


@scalar
def add_rows(arrays, sizes, part, features, own_taps, at):
    """Add the products of some rows of a block to the sums of some features and taps."""
    b, i, rows = part
    sums, _, _, _, dy = arrays
    f, end = features
    first_tap, last_tap = own_taps
    y_feature = y_offset(sizes, 0, 1, 0, 0)
    x_at, count = x_offset(sizes, b, 0, i * sizes.stride, 0), rows * sizes.columns
    while f < end:
        tile = tile_side(end - f)
        own = at + (f - features[0]) * SUMS
        y_at = y_offset(sizes, b, f, i, 0)
        t = first_tap
        while t < last_tap:
            tap_tile = tile_side(last_tap - t)
            correlate_vjp_weight(
                tile, tap_tile, arrays,
                (count, x_at, y_at, y_feature, t, own + (t - first_tap) * LANES, SUMS),
            )  # fmt: skip
            t += tap_tile
        if first_tap == 0:
            for k in range(tile):
                bias_at = own + k * SUMS + TAPS_PER_TASK * LANES
                add_pixels((sums, dy), (count, y_at + k * y_feature, bias_at))
        f += tile


def convolve_vjp_weight(dy, x, shape, stride):
    """Gradients with respect to the weight, of ``shape``, and the bias."""
    sizes = _sizes(x.shape, shape, stride)
    dweight, dbias = np.zeros(shape, dy.dtype), np.zeros(shape[0], dy.dtype)
    if dy.size == 0:
        return dweight, dbias
    taps = _tap_offsets(sizes)
    tasks = -(-sizes.features // 4) * max(1, -(-len(taps) // TAPS_PER_TASK))
    cpu_launch.run(
        make_convolve_vjp_weight, (), _work(sizes), dy.reshape(-1), x.reshape(-1), taps,
        _positions(sizes), sizes, empty((tasks * 4 * SUMS,), dy.dtype), dweight.reshape(-1), dbias,
    )  # fmt: skip
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


@functools.lru_cache(64)
def _tap_offsets(sizes):
    """Offset of each tap of a window from the window's first pixel, in elements."""
    c, i, j = np.ogrid[: sizes.channels, : sizes.kernel, : sizes.kernel]
    return (((c * sizes.height + i) * sizes.width + j) * LANES).reshape(-1)


@functools.lru_cache(64)
def _positions(sizes):
    """Offset in x of each position of a few rows from the first position, in elements."""
    rows = max(1, VECTORS_AT_ONCE // max(1, sizes.columns))
    i, j = np.ogrid[:rows, : sizes.columns]
    return ((i * sizes.width + j) * (sizes.stride * LANES)).reshape(-1)


def _pack_tiles(weight):
    """(A, B) -> flat: tiles of 4, 2 or 1 rows one after another, each as (B, rows)."""
    done = len(weight) // 4 * 4
    tiles = [weight[:done].reshape(done // 4, 4, weight.shape[1]).transpose(0, 2, 1)]
    while done < len(weight):
        side = 2 if len(weight) - done >= 2 else 1
        tiles.append(weight[done : done + side].T)
        done += side
    return np.concatenate([tile.reshape(-1) for tile in tiles])
