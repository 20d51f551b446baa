"""Convolution of bundles, and its two adjoints, by the tiles of :mod:`.convolution_loops`.

An output y[f, p] is the sum over the taps t of weight[f, t] x[p + t], where p is the place of the
window's first pixel in its bundle and t one of C k k offsets from it. The three functions walk
over the same places: :func:`convolve` sums over taps, :func:`convolve_vjp_x` over features,
:func:`convolve_vjp_weight` over places and images. Nothing is unfolded.

Every output element is computed by one thread in a fixed order, which the number of threads does
not change.
"""

import functools
from typing import NamedTuple

import numpy as np
from numba import prange

from .. import launch
from ..cpu.simd.vectors import LANES
from ..math.coordinates import scalar
from .convolution_loops import correlate, gather, spread

# Multiplications that take about a nanosecond: see launch.PARALLEL_WORK.
PER_NANOSECOND = 40

# Taps that a task of the weights' gradient has, and the least number of vectors that it adds up
# in registers before it adds them to the gradient in memory.
TAPS, RUN = 32, 256


class _Sides(NamedTuple):
    """Sides of a convolution; kernels take it whole."""

    bundles: int
    channels: int
    height: int
    width: int
    features: int
    rows: int
    columns: int
    kernel: int
    stride: int


@scalar
def piece(left):
    """Sides of the next tile, where so many are left."""
    return 4 if left >= 4 else 2 if left >= 2 else 1


@scalar
def x_place(sides, b, c, i, j):
    """Where a pixel of the images stands."""
    return (((b * sides.channels + c) * sides.height + i) * sides.width + j) * LANES


@scalar
def y_place(sides, b, f, i, j):
    """Where a pixel of the output stands."""
    return (((b * sides.features + f) * sides.rows + i) * sides.columns + j) * LANES


# --- Forward --------------------------------------------------------------------------------------


@functools.cache
def make_convolve(parallel):
    """Kernel: x, taps, weight in tiles of features, bias -> y."""
    stamp = launch.stamp(parallel)

    def convolve(x, taps, weight, bias, sides, y):
        groups = (sides.features + 3) // 4
        y_feature = y_place(sides, 0, 1, 0, 0)
        for task in prange(sides.bundles * groups):
            b, f, end = (
                task // groups,
                task % groups * 4,
                min(sides.features, task % groups * 4 + 4),
            )
            while f < end:
                features = piece(end - f)
                for i in range(sides.rows):
                    j = 0
                    while j < sides.columns:
                        positions = piece(sides.columns - j)
                        correlate(
                            features, positions, (x, taps, weight, bias, y),
                            (len(taps), x_place(sides, b, 0, i * sides.stride, j * sides.stride),
                             sides.stride * LANES, f * len(taps), f, y_place(sides, b, f, i, j),
                             y_feature),
                        )  # fmt: skip
                        j += positions
                f += features
        return stamp

    return launch.jit(convolve, parallel)


def convolve(x, weight, bias, stride):
    """Cross-correlation: bundles (B, C, H, W, LANES) and weight (F, C, k, k) -> (B, F, ...)."""
    sides = _sides(x.shape, weight.shape, stride)
    y = np.empty((sides.bundles, sides.features, sides.rows, sides.columns, LANES), x.dtype)
    flat = weight.reshape(sides.features, -1).astype(x.dtype, copy=False)
    bias = np.ascontiguousarray(bias, x.dtype)
    launch.run(
        make_convolve, (), _work(sides), x.reshape(-1), _taps(sides), _in_tiles(flat), bias,
        sides, y.reshape(-1),
    )  # fmt: skip
    return y


# --- Adjoint with respect to the images -----------------------------------------------------------


@functools.cache
def make_convolve_vjp_x(parallel):
    """Kernel: dy, taps, weight in tiles of taps -> dx."""
    stamp = launch.stamp(parallel)

    def convolve_vjp_x(dy, taps, weight, sides, dx):
        y_feature = y_place(sides, 0, 1, 0, 0)
        for b in prange(sides.bundles):
            dx[x_place(sides, b, 0, 0, 0) : x_place(sides, b + 1, 0, 0, 0)] = 0
            t = 0
            while t < len(taps):
                count = piece(len(taps) - t)
                for i in range(sides.rows):
                    j = 0
                    while j < sides.columns:
                        positions = piece(sides.columns - j)
                        spread(
                            count, positions, (dx, taps, weight, dy),
                            (sides.features,
                             x_place(sides, b, 0, i * sides.stride, j * sides.stride),
                             sides.stride * LANES, t * sides.features, t,
                             y_place(sides, b, 0, i, j), y_feature),
                        )  # fmt: skip
                        j += positions
                t += count
        return stamp

    return launch.jit(convolve_vjp_x, parallel)


def convolve_vjp_x(dy, weight, shape, stride):
    """Gradient with respect to bundles of ``shape``."""
    sides = _sides(shape, weight.shape, stride)
    dx = np.empty(shape, dy.dtype)
    flat = weight.reshape(sides.features, -1).astype(dy.dtype, copy=False)
    launch.run(
        make_convolve_vjp_x, (), _work(sides), dy.reshape(-1), _taps(sides), _in_tiles(flat.T),
        sides, dx.reshape(-1),
    )  # fmt: skip
    return dx


# --- Adjoint with respect to weight and bias ------------------------------------------------------


@functools.cache
def make_convolve_vjp_weight(parallel):
    """Kernel: dy, x, taps -> dweight (F, taps), flat."""
    stamp = launch.stamp(parallel)

    def convolve_vjp_weight(dy, x, taps, sides, dweight):
        groups, lots = (sides.features + 3) // 4, (len(taps) + TAPS - 1) // TAPS
        run = max(1, RUN // (sides.rows * sides.columns))
        strides = (
            x_place(sides, 1, 0, 0, 0), x_place(sides, 0, 0, sides.stride, 0),
            sides.stride * LANES, y_place(sides, 1, 0, 0, 0), y_place(sides, 0, 1, 0, 0),
        )  # fmt: skip
        for task in prange(groups * lots):
            lot = task // groups * TAPS
            for first in range(0, sides.bundles, run):
                last = min(first + run, sides.bundles)
                f = task % groups * 4
                end = min(sides.features, f + 4)
                while f < end:
                    features, t, stop = piece(end - f), lot, min(len(taps), lot + TAPS)
                    while t < stop:
                        count = piece(stop - t)
                        gather(
                            features, count, (dweight, taps, x, dy),
                            (first, last, sides.rows, sides.columns, *strides,
                             y_place(sides, 0, f, 0, 0), t, f * len(taps) + t, len(taps)),
                        )  # fmt: skip
                        t += count
                    f += features
        return stamp

    return launch.jit(convolve_vjp_weight, parallel)


@functools.cache
def make_convolve_vjp_bias(parallel):
    """Kernel: dy -> dbias (F,)."""
    stamp = launch.stamp(parallel)

    def convolve_vjp_bias(dy, dbias):
        bundles, features, rows, columns, _ = dy.shape
        for f in prange(features):
            total = np.zeros(LANES, dy.dtype)
            for b in range(bundles):
                for i in range(rows):
                    for j in range(columns):
                        for lane in range(LANES):
                            total[lane] += dy[b, f, i, j, lane]
            dbias[f] = total.sum()
        return stamp

    return launch.jit(convolve_vjp_bias, parallel)


def convolve_vjp_weight(dy, x, shape, stride):
    """Gradients with respect to the weight, of ``shape``, and the bias."""
    sides = _sides(x.shape, shape, stride)
    dweight, dbias = np.zeros(shape, dy.dtype), np.zeros(shape[0], dy.dtype)
    launch.run(
        make_convolve_vjp_weight, (), _work(sides), dy.reshape(-1), x.reshape(-1), _taps(sides),
        sides, dweight.reshape(-1),
    )  # fmt: skip
    launch.run(make_convolve_vjp_bias, (), dy.size // 4, dy, dbias)
    return dweight, dbias


# --- Helpers --------------------------------------------------------------------------------------


def output_side(side, kernel, stride):
    """Windows that fit on a side."""
    return (side - kernel) // stride + 1


def _sides(x, weight, stride):
    bundles, channels, height, width, _ = x
    features, _, kernel, _ = weight
    rows, columns = (output_side(side, kernel, stride) for side in (height, width))
    return _Sides(bundles, channels, height, width, features, rows, columns, kernel, stride)


def _work(sides):
    """How long a convolution takes, in nanoseconds or so."""
    outputs = sides.bundles * sides.features * sides.rows * sides.columns * LANES
    return outputs * sides.channels * sides.kernel**2 // PER_NANOSECOND


def _taps(sides):
    """How far each tap of a window is from its first."""
    c, i, j = np.ogrid[: sides.channels, : sides.kernel, : sides.kernel]
    return (((c * sides.height + i) * sides.width + j) * LANES).reshape(-1)


def _in_tiles(weight):
    """(A, B) -> flat, the rows' tiles one after another, each in columns: (tiles, B, side)."""
    whole = len(weight) // 4 * 4
    parts = [weight[:whole].reshape(-1, 4, weight.shape[1]).transpose(0, 2, 1)]
    while whole < len(weight):
        side = 2 if len(weight) - whole >= 2 else 1
        parts.append(weight[whole : whole + side].T)
        whole += side
    return np.concatenate([part.reshape(-1) for part in parts])
