"""Parts of a row: single pixels, and blocks that are placed, written one channel after another.

What :mod:`.general` does with a pixel whose taps may be anywhere, and with a block of
:mod:`.addresses`, all of whose taps are inside the image.
"""

import functools

import numpy as np
from numba import carray

from ..math.coordinates import AFFINE, NEAREST, PROJECTIVE, inlined, scalar
from ..math.storage import make_store
from .coordinate_sources import make_point
from .rows import block_span
from .simd.addresses import WORKSPACE
from .simd.any_mode import make_wide
from .simd.vectors import LANES
from .weighted_sum import (
    make_contract,
    make_lengths,
    make_locate,
    make_put,
    make_run_contract,
    make_weights,
)

# Numbers of four bytes in a workspace of blocks.
FLOATS = WORKSPACE // 4


@functools.cache
def make_spread(channels_last, dtype):
    """Function: write the fill to the samples, in line, from one column on up to another."""
    store, u = make_store(dtype), np.uint64

    def spread(samples, fill, n, i, first, last, rows, columns):
        channels = len(fill)
        if channels_last:
            start = (n * rows + i) * columns
            for j in range(first, last):
                for c in range(channels):
                    samples[u((start + j) * channels + c)] = store(fill[c])
            return
        for c in range(channels):
            start, value = ((n * channels + c) * rows + i) * columns, store(fill[c])
            for j in range(start + first, start + last):
                samples[u(j)] = value

    return scalar(spread)


@functools.cache
def make_pixel(kind, dtype):
    """Function: write all channels of one sample."""
    source, mode, padding, dims, channels_last, _ = kind
    point, locate = make_point(source, dims, mode), make_locate(mode, padding, dims)
    within, anywhere = make_contract(kind, dtype)
    weights_of, lengths = make_weights(mode, dims), make_lengths(channels_last)
    put, store = make_put(channels_last), make_store(dtype)

    def pixel(images, coords, row, fill, m, n, k, i, j, sides, off, samples):
        real = fill.dtype.type
        _, channels, (_, _, columns) = lengths(samples)
        place = point(coords, row, n, k, i, j, columns, real)
        spot, t, _, some, inside = locate(place, sides, off)
        weights = weights_of(t, real)
        if inside and some:
            for c in range(channels):
                value = within(images, fill, m, c, spot, weights, sides, off)
                put(samples, n, c, k, i, j, store(value))
        elif some:
            for c in range(channels):
                value = anywhere(images, fill, m, c, spot, weights, sides, off)
                put(samples, n, c, k, i, j, store(value))
        else:
            for c in range(channels):
                put(samples, n, c, k, i, j, store(fill[c]))

    return inlined(pixel)


@functools.cache
def make_ahead(source):
    """Function: row, drift, block k, h, w -> how many elements from there a later row reads.

    0, if that is unknown. ``drift`` is what is added to the numerators of x and y and to their
    divisor until then.
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
def make_run(kind, dtype, colours):
    """Function: write all channels of the samples of a run of placed blocks: see :mod:`.traversal`.

    ``colours``: the channels, if they stand last and are at most 4; else 0.
    """
    if (dtype == np.float16 and kind.mode != NEAREST) or (kind.channels_last and not colours):
        return make_slow_run(kind, dtype)
    wide, ahead_of = make_wide(kind.mode, max(colours, 1)), make_ahead(kind.source)

    def run(task, row, where, slots):
        (image, samples), (m, n, channels, h, w, rows, columns, drift), fill = task[:3]
        i, k, count, slot = where
        ahead = ahead_of(row, drift, k, h, w)
        zero = fill.dtype.type(0)
        if colours:  # one plane, whose pixels have so many elements
            planes, steps = 1, (0, 0, w * channels, ahead * channels)
        else:
            planes, steps = channels, (h * w, rows * columns, w, ahead)
        start, to = m * channels * h * w, n * channels * rows * columns
        for block in range(count):
            j, _ = block_span(k + block, columns)
            here = to + (i * columns + j) * max(colours, 1)
            wide(image, samples, planes, (start, here), steps, slots, slot + block, zero)

    return inlined(run)


@functools.cache
def make_slow_run(kind, dtype):
    """Function: the same, pixel by pixel, for float16 and for many channels that stand last."""
    contract, weights_of = make_run_contract(kind.mode, dtype), make_weights(kind.mode, 2)
    store, channels_last = make_store(dtype), kind.channels_last

    def block(task, i, j, slot, slots):
        (image, samples), (m, n, channels, h, w, rows, columns, _), fill = task[:3]
        real = fill.dtype.type
        t, offsets = carray(slots, (FLOATS // 2,), real), carray(slots, (FLOATS,), np.int32)
        x = slot * (2 * LANES + LANES * 4 // t.itemsize)
        y, place = x + LANES, (x + 2 * LANES) * t.itemsize // 4
        along, apart = (channels, 1) if channels_last else (1, h * w)
        between = 1 if channels_last else rows * columns
        for lane in range(LANES):
            weights = weights_of((real(0), t[y + lane], t[x + lane]), real)
            first = m * channels * h * w + offsets[place + lane] * along
            end = (i * columns + j + lane) * along + n * channels * rows * columns
            for c in range(channels):
                value = contract(image, first + c * apart, (along, w * along), weights, real)
                samples[np.uint64(end + c * between)] = store(value)

    block = inlined(block)

    def run(task, row, where, slots):
        i, k, count, slot = where
        for number in range(count):
            block(task, i, block_span(k + number, task[1][6])[0], slot + number, slots)

    return inlined(run)
