"""The batch-blocked layout of images, and the layers' kernels on it, except convolution.

The kernels of a network's layers process LANES images at a time: (N, C, H, W) becomes
(ceil(N / LANES), C, H, W, LANES), so that one SIMD vector holds the same pixel of LANES images, and
no loop depends on the length of a row. If N does not fill the last block, its other lanes are 0.

One thread computes each output element, in a fixed order.
"""

import functools
import math

import numpy as np
from numba import prange

from .. import cpu_launch
from ..cpu.simd.vectors import LANES
from .channel_loops import add_to_chosen_element, window_extreme

# Length of a cache line in bytes.
LINE = 64


def empty(shape, dtype):
    """An array whose vectors do not cross cache lines; ``np.empty`` aligns to 16 bytes only.

    A vector of 16 float32 is a whole line. Loading it from two lines takes twice as long, and with
    it a convolution takes 1.3 times as long.
    """
    dtype = np.dtype(dtype)
    length = math.prod(shape) * dtype.itemsize
    space = np.empty(length + LINE, np.uint8)
    first = -space.__array_interface__["data"][0] % LINE
    return space[first : first + length].view(dtype).reshape(shape)


# --- To batch blocks and back ---------------------------------------------------------------------


@functools.cache
def make_to_batch_blocks(parallel):
    """Kernel: images -> batch blocks with ``margin`` zeros around each channel."""
    stamp = cpu_launch.stamp(parallel)

    def to_batch_blocks(images, margin, blocks):
        batch, channels, height, width = images.shape
        for task in prange(blocks.shape[0] * channels):
            b, c = task // channels, task % channels
            if margin > 0 or (b + 1) * LANES > batch:
                blocks[b, c] = 0
            for lane in range(min(LANES, batch - b * LANES)):
                for i in range(height):
                    row = images[b * LANES + lane, c, i]
                    for j in range(width):
                        blocks[b, c, i + margin, j + margin, lane] = row[j]
        return stamp

    return cpu_launch.jit(to_batch_blocks, parallel)


@functools.cache
def make_from_batch_blocks(parallel):
    """Kernel: batch blocks -> images."""
    stamp = cpu_launch.stamp(parallel)

    def from_batch_blocks(blocks, images):
        batch, channels, height, width = images.shape
        for task in prange(batch * channels):
            n, c = task // channels, task % channels
            b, lane = n // LANES, n % LANES
            for i in range(height):
                row = images[n, c, i]
                for j in range(width):
                    row[j] = blocks[b, c, i, j, lane]
        return stamp

    return cpu_launch.jit(from_batch_blocks, parallel)


def to_batch_blocks(images, margin=0):
    """Images (N, C, H, W) -> batch blocks, with ``margin`` zeros around each channel."""
    batch, channels, height, width = images.shape
    sides = (height + 2 * margin, width + 2 * margin)
    blocks = empty((-(-batch // LANES), channels, *sides, LANES), images.dtype)
    cpu_launch.run(
        make_to_batch_blocks, (), blocks.size, np.ascontiguousarray(images), margin, blocks
    )
    return blocks


def from_batch_blocks(blocks, batch):
    """The first ``batch`` images of the batch blocks, (N, C, H, W)."""
    images = np.empty((batch, *blocks.shape[1:4]), blocks.dtype)
    cpu_launch.run(make_from_batch_blocks, (), images.size, blocks, images)
    return images


def padded(blocks, margins):
    """Batch blocks with zeros around each channel; margins are (top, bottom, left, right)."""
    if not any(margins):
        return blocks
    *_, height, width, _ = blocks.shape
    sides = (height + sum(margins[:2]), width + sum(margins[2:]))
    result = empty((*blocks.shape[:2], *sides, LANES), blocks.dtype)
    result[...] = 0
    cropped(result, margins)[...] = blocks
    return result


def cropped(blocks, margins):
    """Batch blocks without the margins of each channel."""
    (top, bottom, left, right), (height, width) = margins, blocks.shape[2:4]
    return blocks[:, :, top : height - bottom, left : width - right]


# --- ReLU -----------------------------------------------------------------------------------------


@functools.cache
def make_relu(parallel):
    """Kernel: x -> max(x, 0); NaN stays NaN."""
    stamp = cpu_launch.stamp(parallel)

    def relu(x, y):
        zero = x.dtype.type(0)
        for row in prange(x.shape[0]):
            for k in range(x.shape[1]):
                y[row, k] = zero if x[row, k] < zero else x[row, k]
        return stamp

    return cpu_launch.jit(relu, parallel)


@functools.cache
def make_relu_vjp(parallel):
    """Kernel: dy, y -> dx; the slope at 0 is 0."""
    stamp = cpu_launch.stamp(parallel)

    def relu_vjp(dy, y, dx):
        zero = y.dtype.type(0)
        for row in prange(y.shape[0]):
            for k in range(y.shape[1]):
                dx[row, k] = dy[row, k] if y[row, k] > zero else zero
        return stamp

    return cpu_launch.jit(relu_vjp, parallel)


def relu(x):
    """max(x, 0)."""
    y = empty(x.shape, x.dtype)
    cpu_launch.run(make_relu, (), x.size // 4, _channel_rows(x), _channel_rows(y))
    return y


def relu_vjp(dy, y):
    """Gradient of :func:`relu`'s input, where ``y`` is its output."""
    dx = empty(y.shape, y.dtype)
    rows = map(_channel_rows, (dy, y, dx))
    cpu_launch.run(make_relu_vjp, (), y.size // 4, *rows)
    return dx


def _channel_rows(array):
    """A view of shape (blocks C, H W LANES)."""
    return array.reshape(array.shape[0] * array.shape[1], math.prod(array.shape[2:]))


# --- Max pooling ----------------------------------------------------------------------------------


@functools.cache
def make_max_pool(parallel):
    """Kernel: batch blocks -> the largest value of each window, and the first index it has there.

    In channels where ``take_min`` is true it is the smallest value.
    """
    stamp = cpu_launch.stamp(parallel)

    def max_pool(x, kernel, take_min, chosen, index):
        blocks, channels, rows, columns, _ = chosen.shape
        height, width = x.shape[2:4]
        arrays = (x.reshape(-1), chosen.reshape(-1), index.reshape(-1))
        for task in prange(blocks * channels):
            smallest = take_min[task % channels]
            for i in range(rows):
                for j in range(columns):
                    x_at = ((task * height + i * kernel) * width + j * kernel) * LANES
                    at = ((task * rows + i) * columns + j) * LANES
                    window_extreme(arrays, (kernel, width * LANES, x_at, at, smallest))
        return stamp

    return cpu_launch.jit(max_pool, parallel)


@functools.cache
def make_max_pool_vjp(parallel):
    """Kernel: dchosen, index -> dx; each gradient goes to the element that was chosen."""
    stamp = cpu_launch.stamp(parallel)

    def max_pool_vjp(dchosen, index, kernel, dx):
        blocks, channels, rows, columns, _ = dchosen.shape
        height, width = dx.shape[2:4]
        arrays, one = (dx.reshape(-1), dchosen.reshape(-1), index.reshape(-1)), dx.dtype.type(1)
        for task in prange(blocks * channels):
            dx[task // channels, task % channels] = 0
            for i in range(rows):
                for j in range(columns):
                    x_at = ((task * height + i * kernel) * width + j * kernel) * LANES
                    at = ((task * rows + i) * columns + j) * LANES
                    add_to_chosen_element(arrays, (kernel, width * LANES, x_at, at, one))
        return stamp

    return cpu_launch.jit(max_pool_vjp, parallel)


def max_pool(x, kernel, take_min=None):
    """Largest value of each window, and its index in the window.

    In channels where ``take_min`` (C,) is true it is the smallest value.
    """
    sides = (x.shape[2] // kernel, x.shape[3] // kernel)
    chosen = empty((*x.shape[:2], *sides, LANES), x.dtype)
    index = empty(chosen.shape, np.uint8 if kernel <= 16 else np.int64)
    take_min = np.zeros(x.shape[1], bool) if take_min is None else take_min
    cpu_launch.run(make_max_pool, (), x.size // 4, x, kernel, take_min, chosen, index)
    return chosen, index


def max_pool_vjp(dchosen, index, shape, kernel):
    """Gradient of the input of :func:`max_pool`, of ``shape``, given the indices that it gave."""
    dx = empty(shape, dchosen.dtype)
    cpu_launch.run(make_max_pool_vjp, (), dx.size // 4, dchosen, index, kernel, dx)
    return dx
