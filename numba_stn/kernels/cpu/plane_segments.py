"""Parts of a row of samples of the plane: columns without taps, interior segments, single pixels.

The visitor of :mod:`.sample_2d` calls these functions; ``task`` is a :class:`.sample_2d.Task`.
"""

import functools

import numpy as np
from numba import carray

from ..math.dtypes import make_store
from ..math.jit import inlined, scalar
from ..math.sampler_kind import AFFINE, NEAREST, PROJECTIVE
from .simd.interpolation import make_sample_block
from .simd.vectors import LANES
from .simd.workspace import WORKSPACE
from .taps import (
    make_block_sum,
    make_lengths,
    make_locate,
    make_put,
    make_weighted_sum,
    make_weights,
)
from .tiles import block_span

# The number of four-byte numbers in a workspace.
FLOATS = WORKSPACE // 4


@functools.cache
def make_fill_columns(channels_last, dtype):
    """Function: fill columns of a row; ``where`` is (n, i, first, last + 1), ``size`` (H, W)."""
    store, u = make_store(dtype), np.uint64

    def fill_columns(elements, fill, where, size):
        (n, i, first, stop), (rows, columns), channels = where, size, len(fill)
        if channels_last:
            start = (n * rows + i) * columns
            for j in range(first, stop):
                for c in range(channels):
                    elements[u((start + j) * channels + c)] = store(fill[c])
            return
        for c in range(channels):
            start, value = ((n * channels + c) * rows + i) * columns, store(fill[c])
            for j in range(start + first, start + stop):
                elements[u(j)] = value

    return scalar(fill_columns)


@functools.cache
def make_sample_pixel(kind, dtype):
    """Function: write all channels of the sample ``at`` (n, k, i, j); ``pixel`` is its position."""
    _, mode, padding, dims, channels_last, _ = kind
    locate = make_locate(mode, padding, dims)
    sum_inside, sum_checked = make_weighted_sum(kind, dtype)
    weights_of, lengths = make_weights(mode, dims), make_lengths(channels_last)
    put, store = make_put(channels_last), make_store(dtype)

    def sample_pixel(arrays, fill, m, at, pixel, sides, off):
        (images, samples), (n, k, i, j), real = arrays, at, fill.dtype.type
        _, channels, _ = lengths(samples)
        first, t, _, some, inside = locate(pixel, sides, off)
        weights = weights_of(t, real)
        if inside and some:
            for c in range(channels):
                value = sum_inside(images, fill, m, c, first, weights, sides, off)
                put(samples, n, c, k, i, j, store(value))
        elif some:
            for c in range(channels):
                value = sum_checked(images, fill, m, c, first, weights, sides, off)
                put(samples, n, c, k, i, j, store(value))
        else:
            for c in range(channels):
                put(samples, n, c, k, i, j, store(fill[c]))

    return inlined(sample_pixel)


# --- Interior blocks ------------------------------------------------------------------------------


@functools.cache
def make_interior(kind, dtype, channels_together):
    """Function: sample a :class:`.traversal.Segment`, by vector code if there is such code.

    ``channels_together``: the number of channels if they are last and at most 4; else 0.
    """
    if (dtype == np.float16 and kind.mode != NEAREST) or (
        kind.channels_last and not channels_together
    ):
        return make_interior_by_pixels(kind, dtype)
    sample_block = make_sample_block(kind.mode, max(channels_together, 1))
    ahead_of = make_ahead(kind.source)

    def interior(task, row, segment, slots):
        (image, samples), (channels, h, w, rows, columns) = task.elements, task.shape
        (i, k, count, slot), m, n = segment, task.tile.m, task.tile.n
        ahead, zero = ahead_of(row, task.drift, k, h, w), task.fill.dtype.type(0)
        if channels_together:  # one plane, whose pixels have several elements
            planes, steps = 1, (0, 0, w * channels, ahead * channels)
        else:
            planes, steps = channels, (h * w, rows * columns, w, ahead)
        start, to = m * channels * h * w, n * channels * rows * columns
        for block in range(count):
            j, _ = block_span(k + block, columns)
            here = to + (i * columns + j) * max(channels_together, 1)
            where = (planes, start, here, slot + block)
            sample_block(image, samples, where, steps, slots, zero)

    return inlined(interior)


@functools.cache
def make_ahead(source):
    """Function: row, drift, block k, h, w -> the distance, in pixels, to what a later row reads.

    It is 0 if it is not known. ``drift`` has the changes, from this row to the later one, of the
    numerators of x and y and of their divisor.
    """
    if source == AFFINE:

        def ahead(row, drift, k, h, w):
            x, y, _ = drift
            return int(y) * w + int(x) if abs(x) < w and abs(y) < h else 0

    elif source == PROJECTIVE:

        def ahead(row, drift, k, h, w):
            x0, xs, y0, ys, w0, ws = row
            j = k * LANES
            x, y, now = x0 + xs * j, y0 + ys * j, w0 + ws * j
            inverse = 1.0 / (now * (now + drift[2]))
            x = (drift[0] * now - drift[2] * x) * inverse
            y = (drift[1] * now - drift[2] * y) * inverse
            return int(y) * w + int(x) if abs(x) < w and abs(y) < h else 0

    else:

        def ahead(row, drift, k, h, w):
            return 0

    return inlined(ahead)


@functools.cache
def make_interior_by_pixels(kind, dtype):
    """Function: sample a segment pixel by pixel: float16, or more than 4 channels that are last."""
    block_sum, weights_of = make_block_sum(kind.mode, dtype), make_weights(kind.mode, 2)
    store, channels_last = make_store(dtype), kind.channels_last

    def block(task, i, j, slot, slots):
        (image, samples), (channels, h, w, rows, columns) = task.elements, task.shape
        real = task.fill.dtype.type
        t, offsets = carray(slots, (FLOATS // 2,), real), carray(slots, (FLOATS,), np.int32)
        x = slot * (2 * LANES + LANES * 4 // t.itemsize)
        y, offset = x + LANES, (x + 2 * LANES) * t.itemsize // 4
        along, apart = (channels, 1) if channels_last else (1, h * w)
        between = 1 if channels_last else rows * columns
        for lane in range(LANES):
            weights = weights_of((real(0), t[y + lane], t[x + lane]), real)
            first = task.tile.m * channels * h * w + offsets[offset + lane] * along
            end = (i * columns + j + lane) * along + task.tile.n * channels * rows * columns
            for c in range(channels):
                value = block_sum(image, first + c * apart, (along, w * along), weights, real)
                samples[np.uint64(end + c * between)] = store(value)

    block = inlined(block)

    def interior(task, row, segment, slots):
        i, k, count, slot = segment
        for number in range(count):
            j, _ = block_span(k + number, task.tile.columns)
            block(task, i, j, slot + number, slots)

    return inlined(interior)
