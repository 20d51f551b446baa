"""Parts of a row: single pixels, and blocks that are placed, written one channel after another.

What :mod:`.general` does with a pixel whose taps may be anywhere, and with a block of
:mod:`.places`, all of whose taps are inside the image.
"""

import functools

import numpy as np
from numba import carray

from .contract import (
    make_contract,
    make_lengths,
    make_locate,
    make_put,
    make_run_contract,
    make_weights,
)
from .pixel import NEAREST, inlined, scalar
from .places import WORKSPACE, place
from .rows import row_limits
from .sources import make_point
from .storage import make_store
from .vectors import LANES
from .wide import make_wide

# Numbers of four bytes in a workspace of blocks.
FLOATS = WORKSPACE // 4


@scalar
def limits_of(source, padding, mode, row, h, w, rows, columns):
    """The :func:`.rows.row_limits` of a row."""
    (x0, xs), (y0, ys), _, _ = row
    inverse, sides = (1.0 / xs, 1.0 / ys), (h, w, rows, columns)
    return row_limits(source, padding, mode, (x0, xs, y0, ys), inverse, 0, h, w, w, sides)


@scalar
def placed(source, padding, mode, fill, coords, row, limits, where, slots):
    """Place blocks of a row: :func:`.places.place`."""
    (x0, xs), (y0, ys), _, (w0, ws) = row
    line, zero = (x0, xs, y0, ys, w0, ws), fill.dtype.type(0)
    return place(source, padding, mode, zero, coords, line, limits, where, slots)


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
def make_run(kind, dtype, colours):
    """Function: write all channels of a placed block's samples, from column j on.

    ``colours``: the channels, if they stand last and are at most 4; else 0.
    """
    if (dtype == np.float16 and kind.mode != NEAREST) or (kind.channels_last and not colours):
        return make_slow_run(kind, dtype)
    wide = make_wide(kind.mode, max(colours, 1))

    def run(lines, slots, slot, fill, m, to, h, w, channels):
        image, samples = lines
        n, i, j, rows, columns = to
        zero = fill.dtype.type(0)
        if colours:
            end = ((n * rows + i) * columns + j) * channels
            first, pitch = m * h * w * channels, w * channels
            wide(image, first, pitch, samples, end, slots, slot, zero)
            return
        for c in range(channels):
            end = ((n * channels + c) * rows + i) * columns + j
            wide(image, (m * channels + c) * h * w, w, samples, end, slots, slot, zero)

    return inlined(run)


@functools.cache
def make_slow_run(kind, dtype):
    """Function: the same, pixel by pixel, for float16 and for many channels that stand last."""
    contract, weights_of = make_run_contract(kind.mode, dtype), make_weights(kind.mode, 2)
    store, channels_last = make_store(dtype), kind.channels_last

    def run(lines, slots, slot, fill, m, to, h, w, channels):
        real, (image, samples) = fill.dtype.type, lines
        n, i, j, rows, columns = to
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

    return inlined(run)
