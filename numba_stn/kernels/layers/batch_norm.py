"""CPU kernels of batch normalisation, on bundles (:mod:`.batch_blocks`).

``batch`` says how many images the bundles hold: what fills a last bundle up takes no part in the
batch's mean and variance, and stays 0, in the gradient too. Each channel of a bundle is one
thread's; what such parts sum up to is added in float64, in order.

Where a max pooling follows, :class:`Pooled` does both: what is normalised keeps its order, or turns
it round, so the pooling may come first, and three quarters of the pixels need not be normalised.
"""

import functools
import math

import numpy as np
from numba import prange

from .. import launch
from ..cpu.simd.vectors import LANES
from ..math.coordinates import scalar
from .batch_blocks import max_pool
from .convolution_loops import add_over_window

# --- Moments --------------------------------------------------------------------------------------


@functools.cache
def make_moments(parallel):
    """Kernel: x -> each part's mean, and sum of squares about it; while the part is in cache."""
    stamp = launch.stamp(parallel)

    def moments(x, batch, means, squares):
        channels = means.shape[1]
        for task in prange(len(x)):
            b, c = task // channels, task % channels
            lanes, sums = min(LANES, batch - b * LANES), np.zeros(LANES, x.dtype)
            for k in range(x.shape[1]):
                row = x[task, k]
                for lane in range(LANES):
                    sums[lane] += row[lane]
            mean = total(sums, lanes) / (lanes * x.shape[1])
            middle = x.dtype.type(mean)
            sums[:] = 0
            for k in range(x.shape[1]):
                row = x[task, k]
                for lane in range(LANES):
                    sums[lane] += (row[lane] - middle) * (row[lane] - middle)
            # Of the squares about the rounded mean, those about the mean.
            means[b, c] = mean
            squares[b, c] = total(sums, lanes) - lanes * x.shape[1] * (mean - middle) ** 2
        return stamp

    return launch.jit(moments, parallel)


@scalar
def total(sums, lanes):
    """Sum over the images that there are."""
    found = 0.0
    for lane in range(lanes):
        found += sums[lane]
    return found


def moments(x, batch):
    """Mean and variance of each channel, in float64."""
    means, squares = np.empty((2, *x.shape[:2]))
    launch.run(make_moments, (), x.size // 2, _parts(x), batch, means, squares)
    counts = pixels(x) * np.minimum(LANES, batch - LANES * np.arange(len(x)))[:, None]
    mean = (counts * means).sum(0) / counts.sum()
    var = (squares + counts * (means - mean) ** 2).sum(0) / counts.sum()
    return mean, np.maximum(var, 0)


def pixels(x):
    """Pixels of an image."""
    return math.prod(x.shape[2:4])


# --- Normalise ------------------------------------------------------------------------------------


@functools.cache
def make_normalize(parallel):
    """Kernel: x -> (x - mean) * factor + shift."""
    stamp = launch.stamp(parallel)

    def normalize(x, batch, mean, factor, shift, y):
        channels = len(mean)
        for task in prange(len(x)):
            b, c = task // channels, task % channels
            for k in range(x.shape[1]):
                row, out = x[task, k], y[task, k]
                for lane in range(LANES):
                    out[lane] = (row[lane] - mean[c]) * factor[c] + shift[c]
            clear(y[task], batch - b * LANES)
        return stamp

    return launch.jit(normalize, parallel)


@scalar
def clear(part, lanes):
    """Zeros where there are no images."""
    if lanes < LANES:
        part[:, lanes:] = 0


def normalize(x, batch, mean, factor, shift):
    """``(x - mean) * factor + shift``, with a number of each for each channel."""
    y, each = np.empty_like(x), _of_type(x, mean, factor, shift)
    launch.run(make_normalize, (), x.size // 4, _parts(x), batch, *each, _parts(y))
    return y


@functools.cache
def make_normalize_sums(parallel):
    """Kernel: dy, x -> each part's sums of dy, and of dy (x - mean)."""
    stamp = launch.stamp(parallel)

    def normalize_sums(dy, x, batch, mean, plain, centred):
        channels = len(mean)
        for task in prange(len(x)):
            b, c = task // channels, task % channels
            lanes, sums = min(LANES, batch - b * LANES), np.zeros((2, LANES), x.dtype)
            first, second = sums[0], sums[1]
            for k in range(x.shape[1]):
                row, drow = x[task, k], dy[task, k]
                for lane in range(LANES):
                    first[lane] += drow[lane]
                    second[lane] += drow[lane] * (row[lane] - mean[c])
            plain[b, c], centred[b, c] = total(first, lanes), total(second, lanes)
        return stamp

    return launch.jit(normalize_sums, parallel)


def normalize_sums(dy, x, batch, mean):
    """For each channel the sums of dy and of dy (x - mean), in float64."""
    plain, centred = np.empty((2, *x.shape[:2]))
    (mean,) = _of_type(x, mean)
    args = _parts(dy), _parts(x), batch, mean, plain, centred
    launch.run(make_normalize_sums, (), x.size // 2, *args)
    return plain.sum(0), centred.sum(0)


@functools.cache
def make_combine(parallel):
    """Kernel: dy, x -> a dy + b (x - mean) + c."""
    stamp = launch.stamp(parallel)

    def combine(dy, x, batch, mean, of_dy, of_x, constant, dx):
        channels = len(mean)
        for task in prange(len(x)):
            b, c = task // channels, task % channels
            for k in range(x.shape[1]):
                row, drow, out = x[task, k], dy[task, k], dx[task, k]
                for lane in range(LANES):
                    moved = of_x[c] * (row[lane] - mean[c]) + constant[c]
                    out[lane] = of_dy[c] * drow[lane] + moved
            clear(dx[task], batch - b * LANES)
        return stamp

    return launch.jit(combine, parallel)


def combine(dy, x, batch, mean, of_dy, of_x, constant):
    """``of_dy * dy + of_x * (x - mean) + constant``, with a number of each for each channel."""
    dx, each = np.empty_like(x), _of_type(x, mean, of_dy, of_x, constant)
    launch.run(make_combine, (), x.size // 3, _parts(dy), _parts(x), batch, *each, _parts(dx))
    return dx


# --- Followed by a max pooling --------------------------------------------------------------------


class Pooled:
    """The functions of this module for one batch, the normalised values pooled.

    Where a channel's factor is negative, the largest of the normalised is the smallest of x. The
    chosen elements' gradients are the only ones that are not zero, and sums need no others.
    """

    moments = staticmethod(moments)
    pixels = staticmethod(pixels)

    def __init__(self, kernel):
        self.kernel = kernel
        self.chosen = self.which = None

    def normalize(self, x, batch, mean, factor, shift):
        """The largest of each window of what :func:`normalize` gives."""
        self.chosen, self.which = max_pool(x, self.kernel, np.asarray(factor < 0))
        return normalize(self.chosen, batch, mean, factor, shift)

    def normalize_sums(self, dy, x, batch, mean):
        """As :func:`normalize_sums`, of the pooling's gradient."""
        return normalize_sums(dy, self.chosen, batch, mean)

    def combine(self, dy, x, batch, mean, of_dy, of_x, constant):
        """As :func:`combine`, of the pooling's gradient."""
        dx, each = np.empty_like(x), _of_type(x, mean, of_dy, of_x, constant)
        pooled = dy.astype(x.dtype, copy=False), self.which, self.kernel
        launch.run(make_combine_pooled, (), x.size // 3, *pooled, x, batch, *each, dx)
        return dx


@functools.cache
def make_combine_pooled(parallel):
    """Kernel: dy, x -> b (x - mean) + c, and a dy more for the elements that were chosen."""
    stamp = launch.stamp(parallel)

    def combine_pooled(dy, which, kernel, x, batch, mean, of_dy, of_x, constant, dx):
        bundles, channels, rows, columns, _ = dy.shape
        height, width = x.shape[2:4]
        arrays = (dx.reshape(-1), dy.reshape(-1), which.reshape(-1))
        for task in prange(bundles * channels):
            b, c = task // channels, task % channels
            for i in range(height):
                for j in range(width):
                    pixel, out = x[b, c, i, j], dx[b, c, i, j]
                    for lane in range(LANES):
                        out[lane] = of_x[c] * (pixel[lane] - mean[c]) + constant[c]
                window = i // kernel
                if i % kernel < kernel - 1 or window == rows:
                    continue
                for j in range(columns):  # of the rows just written, which are in cache
                    x_at = ((task * height + window * kernel) * width + j * kernel) * LANES
                    at = ((task * rows + window) * columns + j) * LANES
                    add_over_window(arrays, (kernel, width * LANES, x_at, at, of_dy[c]))
            if (b + 1) * LANES > batch:
                dx[b, c, :, :, batch - b * LANES :] = 0
        return stamp

    return launch.jit(combine_pooled, parallel)


# --- Helpers --------------------------------------------------------------------------------------


def _parts(x):
    """A view of (bundles C, H W, LANES)."""
    return x.reshape(x.shape[0] * x.shape[1], math.prod(x.shape[2:4]), LANES)


def _of_type(x, *each):
    """The channels' numbers as x has them."""
    return [np.ascontiguousarray(numbers, x.dtype) for numbers in each]
