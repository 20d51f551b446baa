"""Bundles of images, and what layers do to them beside convolution.

A network's images are worked on LANES at a time: (N, C, H, W) becomes (ceil(N / LANES), C, H, W,
LANES), so that one vector holds the same pixel of LANES images, and no loop depends on how long a
row is. A last bundle that N does not fill is filled with zeros.

Every output element is computed by one thread in a fixed order.
"""

import functools
import math

import numpy as np
from numba import prange

from .. import launch
from ..cpu.simd.vectors import LANES
from .convolution_loops import add_over_window, extreme_of_window

# --- To bundles and back --------------------------------------------------------------------------


@functools.cache
def make_bundle(parallel):
    """Kernel: images -> bundles whose every channel has ``margin`` zeros around it."""
    stamp = launch.stamp(parallel)

    def bundle(images, margin, bundles):
        batch, channels, height, width = images.shape
        for task in prange(bundles.shape[0] * channels):
            b, c = task // channels, task % channels
            if margin > 0 or (b + 1) * LANES > batch:
                bundles[b, c] = 0
            for lane in range(min(LANES, batch - b * LANES)):
                for i in range(height):
                    row = images[b * LANES + lane, c, i]
                    for j in range(width):
                        bundles[b, c, i + margin, j + margin, lane] = row[j]
        return stamp

    return launch.jit(bundle, parallel)


@functools.cache
def make_unbundle(parallel):
    """Kernel: bundles -> images."""
    stamp = launch.stamp(parallel)

    def unbundle(bundles, images):
        batch, channels, height, width = images.shape
        for task in prange(batch * channels):
            n, c = task // channels, task % channels
            b, lane = n // LANES, n % LANES
            for i in range(height):
                row = images[n, c, i]
                for j in range(width):
                    row[j] = bundles[b, c, i, j, lane]
        return stamp

    return launch.jit(unbundle, parallel)


def bundle(images, margin=0):
    """Images (N, C, H, W) -> bundles, each channel with ``margin`` zeros around it."""
    batch, channels, height, width = images.shape
    sides = (height + 2 * margin, width + 2 * margin)
    bundles = np.empty((-(-batch // LANES), channels, *sides, LANES), images.dtype)
    launch.run(make_bundle, (), bundles.size, np.ascontiguousarray(images), margin, bundles)
    return bundles


def unbundle(bundles, batch):
    """The first ``batch`` images of the bundles, (N, C, H, W)."""
    images = np.empty((batch, *bundles.shape[1:4]), bundles.dtype)
    launch.run(make_unbundle, (), images.size, bundles, images)
    return images


def padded(bundles, margin):
    """Bundles with ``margin`` zeros around each channel."""
    if margin == 0:
        return bundles
    *_, height, width, _ = bundles.shape
    sides = (height + 2 * margin, width + 2 * margin)
    wider = np.zeros((*bundles.shape[:2], *sides, LANES), bundles.dtype)
    cropped(wider, margin)[...] = bundles
    return wider


def cropped(bundles, margin):
    """Bundles without ``margin`` pixels around each channel."""
    _, _, height, width, _ = bundles.shape
    return bundles[:, :, margin : height - margin, margin : width - margin]


# --- ReLU -----------------------------------------------------------------------------------------


@functools.cache
def make_rectify(parallel):
    """Kernel: x -> max(x, 0); NaN is passed on."""
    stamp = launch.stamp(parallel)

    def rectify(x, y):
        zero = x.dtype.type(0)
        for row in prange(x.shape[0]):
            for k in range(x.shape[1]):
                y[row, k] = zero if x[row, k] < zero else x[row, k]
        return stamp

    return launch.jit(rectify, parallel)


@functools.cache
def make_rectify_vjp(parallel):
    """Kernel: dy, y -> dx; slope 0 at 0."""
    stamp = launch.stamp(parallel)

    def rectify_vjp(dy, y, dx):
        zero = y.dtype.type(0)
        for row in prange(y.shape[0]):
            for k in range(y.shape[1]):
                dx[row, k] = dy[row, k] if y[row, k] > zero else zero
        return stamp

    return launch.jit(rectify_vjp, parallel)


def rectify(x):
    """max(x, 0)."""
    y = np.empty(x.shape, x.dtype)
    launch.run(make_rectify, (), x.size // 4, _rows(x), _rows(y))
    return y


def rectify_vjp(dy, y):
    """Adjoint of :func:`rectify` where it gave y."""
    dx = np.empty(y.shape, y.dtype)
    launch.run(make_rectify_vjp, (), y.size // 4, _rows(dy), _rows(y), _rows(dx))
    return dx


def _rows(array):
    """A view of (bundles C, H W LANES)."""
    return array.reshape(array.shape[0] * array.shape[1], math.prod(array.shape[2:]))


# --- Max pooling ----------------------------------------------------------------------------------


@functools.cache
def make_max_pool(parallel):
    """Kernel: bundles -> largest value of each window, and which element it was (the first).

    Of channels that are ``smallest``, the smallest value.
    """
    stamp = launch.stamp(parallel)

    def max_pool(x, kernel, smallest, chosen, which):
        bundles, channels, rows, columns, _ = chosen.shape
        height, width = x.shape[2:4]
        arrays = (x.reshape(-1), chosen.reshape(-1), which.reshape(-1))
        for task in prange(bundles * channels):
            least = smallest[task % channels]
            for i in range(rows):
                for j in range(columns):
                    x_at = ((task * height + i * kernel) * width + j * kernel) * LANES
                    at = ((task * rows + i) * columns + j) * LANES
                    extreme_of_window(arrays, (kernel, width * LANES, x_at, at, least))
        return stamp

    return launch.jit(max_pool, parallel)


@functools.cache
def make_max_pool_vjp(parallel):
    """Kernel: dchosen -> dx, each gradient given to the element that was chosen."""
    stamp = launch.stamp(parallel)

    def max_pool_vjp(dchosen, which, kernel, dx):
        bundles, channels, rows, columns, _ = dchosen.shape
        height, width = dx.shape[2:4]
        arrays, one = (dx.reshape(-1), dchosen.reshape(-1), which.reshape(-1)), dx.dtype.type(1)
        for task in prange(bundles * channels):
            dx[task // channels, task % channels] = 0
            for i in range(rows):
                for j in range(columns):
                    x_at = ((task * height + i * kernel) * width + j * kernel) * LANES
                    at = ((task * rows + i) * columns + j) * LANES
                    add_over_window(arrays, (kernel, width * LANES, x_at, at, one))
        return stamp

    return launch.jit(max_pool_vjp, parallel)


def max_pool(x, kernel, smallest=None):
    """Largest value of each window, and its element's number in it.

    ``smallest`` (C,) says of which channels it is the smallest instead.
    """
    sides = (x.shape[2] // kernel, x.shape[3] // kernel)
    chosen = np.empty((*x.shape[:2], *sides, LANES), x.dtype)
    which = np.empty(chosen.shape, np.uint8 if kernel <= 16 else np.int64)
    smallest = np.zeros(x.shape[1], bool) if smallest is None else smallest
    launch.run(make_max_pool, (), x.size // 4, x, kernel, smallest, chosen, which)
    return chosen, which


def max_pool_vjp(dchosen, which, shape, kernel):
    """Adjoint of :func:`max_pool` at bundles of ``shape`` whose elements ``which`` names."""
    dx = np.empty(shape, dchosen.dtype)
    launch.run(make_max_pool_vjp, (), dx.size // 4, dchosen, which, kernel, dx)
    return dx
