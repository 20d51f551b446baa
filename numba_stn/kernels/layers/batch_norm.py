"""CPU kernels of batch normalisation, on batch blocks (:mod:`.batch_blocks`).

``batch`` is the number of images in the blocks. The unused lanes of the last block do not take part
in the batch's mean and variance, and stay 0, in the gradient too. One thread computes each channel
of a block. The sums of these parts are added in float64, in a fixed order.

Where max pooling follows, :class:`Pooled` does both. Normalisation keeps or reverses the order of a
channel's values, so the pooling may come first, and the values that it drops need not be
normalised.
"""

import functools
import math
from typing import NamedTuple

import numpy as np
from numba import prange

from .. import cpu_launch
from ..cpu.simd.vectors import LANES
from ..math.jit import scalar
from .batch_blocks import empty, max_pool
from .channel_loops import add_pixels, add_products, add_squares, pooled_gradient


class InputGradient(NamedTuple):
    """Per-channel numbers (C,) of ``dx = dy_factor dy + x_factor (x - mean) + constant``."""

    mean: np.ndarray
    dy_factor: np.ndarray
    x_factor: np.ndarray
    constant: np.ndarray


# --- Moments --------------------------------------------------------------------------------------


@functools.cache
def make_moments(parallel):
    """Kernel: x -> mean of each channel of each block, and sum of squared differences from it.

    The second pass over a channel finds it in cache.
    """
    stamp = cpu_launch.stamp(parallel)

    def moments(x, batch, pixels, means, squares):
        channels = means.shape[1]
        for task in prange(means.size):
            b, c, at = task // channels, task % channels, task * pixels * LANES
            lanes, sums = min(LANES, batch - b * LANES), np.zeros(LANES, x.dtype)
            add_pixels((sums, x), (pixels, at, 0))
            mean = sum_of_lanes(sums, lanes) / (lanes * pixels)
            middle = x.dtype.type(mean)
            sums[:] = 0
            add_squares((sums, x), (pixels, at, 0, middle))
            # The differences are from the rounded mean; this corrects the sum to the exact one.
            means[b, c] = mean
            squares[b, c] = sum_of_lanes(sums, lanes) - lanes * pixels * (mean - middle) ** 2
        return stamp

    return cpu_launch.jit(moments, parallel)


@scalar
def sum_of_lanes(sums, lanes):
    """Sum over the lanes that hold images."""
    found = 0.0
    for lane in range(lanes):
        found += sums[lane]
    return found


def moments(x, batch):
    """Mean and variance of each channel, in float64."""
    means, squares = np.empty((2, *x.shape[:2]))
    cpu_launch.run(make_moments, (), x.size // 2, x.reshape(-1), batch, pixels(x), means, squares)
    counts = pixels(x) * np.minimum(LANES, batch - LANES * np.arange(len(x)))[:, None]
    mean = (counts * means).sum(0) / counts.sum()
    var = (squares + counts * (means - mean) ** 2).sum(0) / counts.sum()
    return mean, np.maximum(var, 0)


def pixels(x):
    """Number of pixels of an image."""
    return math.prod(x.shape[2:4])


# --- Normalise ------------------------------------------------------------------------------------


@functools.cache
def make_normalize(parallel):
    """Kernel: x -> (x - mean) * factor + shift."""
    stamp = cpu_launch.stamp(parallel)

    def normalize(x, batch, mean, factor, shift, y):
        channels = len(mean)
        for task in prange(len(x)):
            b, c = task // channels, task % channels
            row, out, middle, slope, first = x[task], y[task], mean[c], factor[c], shift[c]
            for k in range(x.shape[1]):
                out[k] = (row[k] - middle) * slope + first
            clear_unused_lanes(out, batch - b * LANES)
        return stamp

    return cpu_launch.jit(normalize, parallel)


@scalar
def clear_unused_lanes(channel, lanes):
    """Set the lanes of a channel (pixels LANES,) that hold no image to 0."""
    if lanes < LANES:
        for first in range(0, len(channel), LANES):
            channel[first + lanes : first + LANES] = 0


def normalize(x, batch, mean, factor, shift):
    """``(x - mean) * factor + shift``, with per-channel ``mean``, ``factor`` and ``shift`` (C,)."""
    y, numbers = empty(x.shape, x.dtype), _as_dtype(x, mean, factor, shift)
    args = _by_channel(x), batch, *numbers, _by_channel(y)
    cpu_launch.run(make_normalize, (), x.size // 4, *args)
    return y


@functools.cache
def make_normalize_sums(parallel):
    """Kernel: dy, x -> the sums of dy and of dy (x - mean) in each channel of each block."""
    stamp = cpu_launch.stamp(parallel)

    def normalize_sums(dy, x, batch, pixels, mean, dy_sums, product_sums):
        channels = len(mean)
        for task in prange(dy_sums.size):
            b, c = task // channels, task % channels
            lanes, sums = min(LANES, batch - b * LANES), np.zeros(2 * LANES, x.dtype)
            add_products((sums, dy, x), (pixels, task * pixels * LANES, 0, mean[c]))
            dy_sums[b, c] = sum_of_lanes(sums, lanes)
            product_sums[b, c] = sum_of_lanes(sums[LANES:], lanes)
        return stamp

    return cpu_launch.jit(normalize_sums, parallel)


def normalize_sums(dy, x, batch, mean):
    """The sums of dy and of dy (x - mean) in each channel, in float64."""
    dy_sums, product_sums = np.empty((2, *x.shape[:2]))
    (mean,) = _as_dtype(x, mean)
    dy = dy.astype(x.dtype, copy=False)
    args = dy.reshape(-1), x.reshape(-1), batch, pixels(x), mean, dy_sums, product_sums
    cpu_launch.run(make_normalize_sums, (), x.size // 2, *args)
    return dy_sums.sum(0), product_sums.sum(0)


@functools.cache
def make_normalize_vjp_x(parallel):
    """Kernel: dy, x -> dx; see :class:`InputGradient`."""
    stamp = cpu_launch.stamp(parallel)

    def normalize_vjp_x(dy, x, batch, numbers, dx):
        mean, dy_factor, x_factor, constant = numbers
        channels = len(mean)
        for task in prange(len(x)):
            b, c = task // channels, task % channels
            row, drow, out = x[task], dy[task], dx[task]
            middle, slope, first, factor = mean[c], x_factor[c], constant[c], dy_factor[c]
            for k in range(x.shape[1]):
                out[k] = factor * drow[k] + (slope * (row[k] - middle) + first)
            clear_unused_lanes(out, batch - b * LANES)
        return stamp

    return cpu_launch.jit(normalize_vjp_x, parallel)


def normalize_vjp_x(dy, x, batch, numbers):
    """Gradient with respect to x; ``numbers`` is an :class:`InputGradient`."""
    dx, numbers = empty(x.shape, x.dtype), InputGradient(*_as_dtype(x, *numbers))
    args = _by_channel(dy), _by_channel(x), batch, numbers, _by_channel(dx)
    cpu_launch.run(make_normalize_vjp_x, (), x.size // 3, *args)
    return dx


# --- Followed by max pooling ----------------------------------------------------------------------


class Pooled:
    """The functions of this module for one batch, where max pooling follows the normalisation.

    In a channel with a negative factor, the largest normalised value belongs to the smallest x.
    Only the chosen elements have gradients that are not zero, so the sums need no others.
    """

    moments = staticmethod(moments)
    pixels = staticmethod(pixels)

    def __init__(self, kernel):
        self.kernel = kernel
        self.chosen = self.index = None

    def normalize(self, x, batch, mean, factor, shift):
        """The largest value of each window of :func:`normalize`'s result."""
        self.chosen, self.index = max_pool(x, self.kernel, np.asarray(factor < 0))
        return normalize(self.chosen, batch, mean, factor, shift)

    def normalize_sums(self, dy, x, batch, mean):
        """:func:`normalize_sums` for the gradient of the pooled values."""
        return normalize_sums(dy, self.chosen, batch, mean)

    def normalize_vjp_x(self, dy, x, batch, numbers):
        """:func:`normalize_vjp_x` for the gradient of the pooled values."""
        dx, numbers = empty(x.shape, x.dtype), InputGradient(*_as_dtype(x, *numbers))
        pooled = dy.astype(x.dtype, copy=False), self.index, self.kernel
        cpu_launch.run(make_pooled_vjp_x, (), x.size // 3, *pooled, x, batch, numbers, dx)
        return dx


@functools.cache
def make_pooled_vjp_x(parallel):
    """Kernel: dy, x -> dx, where only the elements that were chosen have a ``dy_factor dy``."""
    stamp = cpu_launch.stamp(parallel)

    def pooled_vjp_x(dy, index, kernel, x, batch, numbers, dx):
        mean, dy_factor, x_factor, constant = numbers
        blocks, channels, rows, columns, _ = dy.shape
        height, width = x.shape[2:4]
        arrays = (dx.reshape(-1), dy.reshape(-1), index.reshape(-1), x.reshape(-1))
        for task in prange(blocks * channels):
            b, c = task // channels, task % channels
            of_channel = mean[c], dy_factor[c], x_factor[c], constant[c]
            for i in range(rows):
                for j in range(columns):
                    x_at = ((task * height + i * kernel) * width + j * kernel) * LANES
                    at = ((task * rows + i) * columns + j) * LANES
                    pooled_gradient(arrays, (kernel, width * LANES, x_at, at, *of_channel))
            for i in range(height):  # the pixels that are in no window
                for j in range(columns * kernel if i < rows * kernel else 0, width):
                    for lane in range(LANES):
                        away = x[b, c, i, j, lane] - mean[c]
                        dx[b, c, i, j, lane] = x_factor[c] * away + constant[c]
            if (b + 1) * LANES > batch:
                dx[b, c, :, :, batch - b * LANES :] = 0
        return stamp

    return cpu_launch.jit(pooled_vjp_x, parallel)


# --- Helpers --------------------------------------------------------------------------------------


def _by_channel(x):
    """A view of shape (blocks C, H W LANES)."""
    return x.reshape(x.shape[0] * x.shape[1], math.prod(x.shape[2:]))


def _as_dtype(x, *arrays):
    """The per-channel arrays in x's dtype."""
    return [np.ascontiguousarray(numbers, x.dtype) for numbers in arrays]
