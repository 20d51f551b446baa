"""CPU kernel of crops of one image (H, W, C) by maps that only scale, mirror and shift.

Without rotation or shear, the taps and weights of a sample along x depend on its column alone, and
those along y on its row alone. So each is computed once, and a sample takes two sums of few terms
instead of one of many. The rows of the image are combined along y first, which is a sum of whole
rows of memory, and the result is interpolated along x; or the other way round, if that is less
work: when the image is enlarged, rows that are interpolated along x serve several output rows.

A *line* holds a row of pixels as numbers of the type that computes, after two pixels for the taps
that read no pixel: slot 0 is filled, and slot 1 is zero, for taps of weight 0 (0 * inf would be
NaN). Pixel x is in slot x + 2. Rows have the same numbers. Elements are the channels of pixels.
"""

import functools
import math
from typing import Any, NamedTuple

import numpy as np
from numba import prange

from .. import cpu_launch
from ..math.dtypes import computed
from ..math.jit import inlined, scalar
from ..math.sampler_kind import AFFINE, BICUBIC, BILINEAR, CATMULL_ROM, TAPS
from .patches import unpack_frame, whole_frame
from .simd.axis_tables import FILL_SLOT, SLOTS, make_store_taps
from .simd.halves import MOST_CHANNELS, halve_rows
from .simd.lines import (
    NO_WINDOW,
    WINDOW,
    combine_rows,
    copy_elements,
    make_interpolate_line,
    to_line,
)
from .simd.memory import borrowed, keep_alive
from .simd.vectors import LANES
from .tiles import block_count

# Borders are those of :mod:`.interleaved`.
OFF = 1.0

# The modes that are computed here.
MODES = (BILINEAR, BICUBIC, CATMULL_ROM)

# Rows are computed in chunks of at most this number of elements, whose tables and lines fit into
# the first cache.
CHUNK = 2048

# The numbers of elements that are sampled, or copied, in about a nanosecond.
SAMPLES, COPIES = 2, 16


class Rows(NamedTuple):
    """Rows of the image, and of the output; see :func:`make_resample`."""

    image: Any  # (H, W * C)
    others: Any  # a filled row, and one of zeros, if they are needed
    fill: Any  # a number for each channel, of the type that computes
    across: Any  # offsets, weights and windows: see :func:`.simd.lines.make_interpolate_line`
    span: Any  # the elements of a row of the image that are read: first, and last + 1
    slots: Any  # of the taps along y, (taps, rows)
    down: Any  # their weights
    height: int  # the number of output rows
    length: int  # the number of elements of an output row that are computed
    out: Any  # elements of the output
    start: int  # where the first row begins in it
    pitch: int  # the number of elements from row to row


# --- Tables ---------------------------------------------------------------------------------------


@scalar
def whole_blocks(count):
    """The length of a table of ``count`` numbers."""
    return block_count(count) * LANES


@scalar
def chunk_of(length):
    """The number of elements of a row's chunks; the last may be shorter."""
    parts = (length + CHUNK - 1) // CHUNK
    return whole_blocks((length + parts - 1) // parts)


@scalar
def tables_of_elements(columns, channels, chunk, tables):
    """Write the offsets and weights of the elements ``chunk`` of a row, in blocks.

    ``columns`` are the slots and weights of its columns.
    """
    (slots, weights), (offsets, across, _), (low, high) = columns, tables, chunk
    for block in range(block_count(high - low)):
        first, start = block * LANES, max(low, min(low + block * LANES, high - LANES))
        for k in range(len(slots)):
            j, c = start // channels, start % channels
            for e in range(first, first + min(LANES, high - low)):
                offsets[k, e] = slots[k, j] * channels + c
                across[k, e] = weights[k, j]
                c += 1
                if c == channels:
                    j, c = j + 1, 0


@scalar
def find_windows(tables, count, length):
    """Find the windows of ``count`` blocks in a line; offsets are then counted from there."""
    offsets, _, windows = tables
    for block in range(count):
        first = block * LANES
        low, high = offsets[0, first], offsets[0, first]
        for k in range(len(offsets)):
            for e in range(first, first + LANES):
                low, high = min(low, offsets[k, e]), max(high, offsets[k, e])
        start = min(np.int64(low), length - WINDOW)
        windows[block] = start if start >= 0 and high - start < WINDOW else NO_WINDOW
        if windows[block] != NO_WINDOW:
            for k in range(len(offsets)):
                for e in range(first, first + LANES):
                    offsets[k, e] -= start


@scalar
def span_of(slots, channels, chunk):
    """The elements of a row of the image that a chunk reads: first, and last + 1."""
    low, high = np.int64(2**31), np.int64(SLOTS - 1)
    for k in range(len(slots)):
        for j in range(chunk[0] // channels, (chunk[1] + channels - 1) // channels):
            slot = np.int64(slots[k, j])
            if slot >= SLOTS:
                low, high = min(low, slot), max(high, slot)
    low = min(low, high + 1)
    return (low - SLOTS) * channels, (high + 1 - SLOTS) * channels


@scalar
def distance_of(slots, weights, columns):
    """The distance d if column j of the output is column j + d of the image; -1 if it is not."""
    first, taps = sole(slots, weights, 0), len(slots)
    if first < 0:
        return -1
    for j in range(columns):
        for k in range(taps):
            if weights[k, j] != weights[0, 0] * 0 + (1 if k == first else 0):
                return -1
        if slots[first, j] != slots[first, 0] + j or slots[first, j] < SLOTS:
            return -1
    return slots[first, 0] - SLOTS


@scalar
def make_line(length, fill):
    """A line for rows of this number of elements."""
    line = np.empty(length + SLOTS * len(fill), fill.dtype)
    line[: len(fill)] = fill
    line[len(fill) : SLOTS * len(fill)] = 0
    return line


@scalar
def other_rows(fill, length, slots, rows):
    """A filled row and a row of zeros, both empty if no row of the output needs them."""
    needed = False
    for k in range(len(slots)):
        for i in range(rows):
            needed = needed or slots[k, i] < SLOTS
    filled = np.empty(length if needed else 0, fill.dtype)
    for e in range(len(filled)):
        filled[e] = fill[e % len(fill)]
    return filled, np.zeros_like(filled)


@scalar
def sole(slots, weights, i):
    """The tap of a row whose weight is 1, if it reads the image and all others are 0; else -1."""
    found = -1
    for k in range(len(slots)):
        if weights[k, i] == 1.0 and slots[k, i] >= SLOTS:
            found = k
        elif weights[k, i] != 0.0:
            return -1
    return found


# --- Rows -----------------------------------------------------------------------------------------


@functools.cache
def make_pick(taps):
    """Functions: the rows of an array that the slots of row i list, and their weights."""

    def row(lines, slot, others):
        if slot >= SLOTS:
            return lines[slot - SLOTS]
        return others[0] if slot == FILL_SLOT else others[1]

    row = inlined(row)

    def two(lines, slots, i, others):
        return row(lines, slots[0, i], others), row(lines, slots[1, i], others)

    def four(lines, slots, i, others):
        return (
            row(lines, slots[0, i], others), row(lines, slots[1, i], others),
            row(lines, slots[2, i], others), row(lines, slots[3, i], others),
        )  # fmt: skip

    if taps == 2:
        return inlined(two), inlined(lambda weights, i: (weights[0, i], weights[1, i]))
    return inlined(four), inlined(
        lambda weights, i: (weights[0, i], weights[1, i], weights[2, i], weights[3, i])
    )


@functools.cache
def make_along_y_first(mode):
    """Function: write rows of samples, each from a line that combines rows of the image."""
    (pick, weights_of), interpolate_line = make_pick(TAPS[mode]), make_interpolate_line(mode)

    def along_y_first(task):
        size, length, (low, high) = len(task.fill), task.length, task.span
        new_line = make_line(task.image.shape[1], task.fill)
        line = borrowed(new_line)
        span = (low, low + SLOTS * size, high - low)
        for i in range(task.height):
            rows = pick(task.image, task.slots, i, task.others)
            combine_rows(rows, weights_of(task.down, i), line, span)
            end = task.start + i * task.pitch
            interpolate_line(line, task.across, task.out, end, length)
        keep_alive(new_line)

    return inlined(along_y_first)


@functools.cache
def make_unscaled(mode):
    """Function: write rows of samples whose columns are the image's, ``distance`` further on."""
    pick, weights_of = make_pick(TAPS[mode])

    def unscaled(task, distance):
        size, length = len(task.fill), task.length
        for i in range(task.height):
            where = (distance * size, task.start + i * task.pitch, length)
            k = sole(task.slots, task.down, i)
            if k >= 0:
                copy_elements(task.image[task.slots[k, i] - SLOTS], task.out, where)
            else:
                rows = pick(task.image, task.slots, i, task.others)
                combine_rows(rows, weights_of(task.down, i), task.out, where)

    return inlined(unscaled)


@functools.cache
def make_along_x_first(mode):
    """Function: write rows of samples, each of which combines rows interpolated along x."""
    taps = TAPS[mode]
    (pick, weights_of), interpolate_line = make_pick(taps), make_interpolate_line(mode)

    def along_x_first(task):
        size, length, (low, high) = len(task.fill), task.length, task.span
        span = (low, low + SLOTS * size, high - low)
        own = (
            make_line(task.image.shape[1], task.fill), np.empty((taps, length), task.fill.dtype),
            np.full(taps, -1), np.empty((taps, 1), np.int64),
            other_rows(task.fill, length, task.slots, task.height),
        )  # fmt: skip
        line, lines, held, at, others = borrowed(own)
        for i in range(task.height):
            for k in range(taps):
                slot = np.int64(task.slots[k, i])
                at[k, 0] = slot
                if slot >= SLOTS:
                    n = line_of(held, task.slots, i, slot)
                    if held[n] != slot:
                        to_line(task.image[slot - SLOTS], line, span)
                        interpolate_line(line, task.across, lines[n], 0, length)
                        held[n] = slot
                    at[k, 0] = n + SLOTS
            rows = pick(lines, at, 0, others)
            end = task.start + i * task.pitch
            combine_rows(rows, weights_of(task.down, i), task.out, (0, end, length))
        keep_alive(own)

    return inlined(along_x_first)


@scalar
def is_halved(x, y, sides, shape, channels):
    """Whether a map, (start, step) along x and along y, halves an image, all of whose taps exist.

    ``sides`` are the image's columns and rows, and ``shape`` is (K, H_out, W_out * C).
    """
    half = x[0] == 0.5 and x[1] == 2.0 and y[0] == 0.5 and y[1] == 2.0
    fits = 2 * shape[2] <= sides[0] * channels and 2 * shape[1] <= sides[1]
    return half and fits and channels <= MOST_CHANNELS


@scalar
def halve(task, first):
    """Write rows of samples of an image that is halved, the ``first`` one and those after it."""
    for i in range(task.height):
        rows = (task.image[2 * (first + i)], task.image[2 * (first + i) + 1])
        end, real = task.start + i * task.pitch, task.fill.dtype.type(0)
        halve_rows(rows, len(task.fill), task.out, end, task.length, real)


@scalar
def line_of(held, slots, i, slot):
    """The line that holds the row in ``slot``, or one that holds no row that row i needs."""
    for n in range(len(held)):
        if held[n] == slot:
            return n
    for n in range(len(held)):
        free = True
        for k in range(len(slots)):
            free = free and held[n] != slots[k, i]
        if free:
            return n
    return 0


# --- The kernel -----------------------------------------------------------------------------------


@functools.cache
def make_resample(mode, padding, parallel):
    """Kernel: image (H, W * C), starts and steps -> out (K, H_out, W_out * C).

    ``maps`` are the crops' matrices, (K, 3, 3). ``fill`` has a number for each
    channel, of the image's type and of the one that computes; ``height`` is the number of rows of a
    task. ``frame`` has the numbers of a :class:`.patches.Frame`.
    """
    stamp = cpu_launch.stamp(parallel)
    taps, store_taps = TAPS[mode], make_store_taps(mode, padding)
    along_y_first, along_x_first = make_along_y_first(mode), make_along_x_first(mode)
    unscaled, can_halve = make_unscaled(mode), mode == BILINEAR

    def resample(image, fills, maps, off, frame, height, out):
        fill = fills[1]
        crops, rows, length = out.shape
        parts, size = (rows + height - 1) // height, len(fill)
        columns, width, line = length // size, image.shape[1] // size, out.reshape(out.size)
        (whole_h, whole_w), _, (row, column), crop_y, crop_x = unpack_frame(frame)
        chunk = chunk_of(length)
        for task in prange(crops * parts):
            n, first = task // parts, task % parts * height
            count = min(rows - first, height)
            source, numbers, target = borrowed((image, fill, line))
            along, down, elements = whole_blocks(columns), whole_blocks(count), chunk
            new = (
                np.empty((taps, along), np.int32), np.empty((taps, along), fill.dtype),
                np.empty((taps, down), np.int32), np.empty((taps, down), fill.dtype),
                (np.empty((taps, elements), np.int32), np.empty((taps, elements), fill.dtype),
                 np.empty(elements // LANES, np.int32)),
            )  # fmt: skip
            slots, weights, rows_read, by, across = borrowed(new)
            x, y = (maps[n, 0, 2], maps[n, 0, 0]), (maps[n, 1, 2], maps[n, 1, 1])
            store_taps((*x, whole_w, off), (column, columns, False), crop_x, slots, weights)
            store_taps((*y, whole_h, off), (row + first, count, True), crop_y, rows_read, by)
            x = (x[0] + x[1] * column - crop_x[0], x[1])  # from here on, as the crop sees them
            y = (y[0] + y[1] * row - crop_y[0], y[1])
            new_others = other_rows(fills[0], image.shape[1], rows_read, count)
            others, start = borrowed(new_others), (n * rows + first) * length
            whole = Rows(
                source, others, numbers, across, (0, 0), rows_read, by, count,
                length, target, start, length,
            )  # fmt: skip
            distance, rest = distance_of(slots, weights, columns), length
            if distance >= 0:
                unscaled(whole, distance)
                rest = 0
            elif can_halve and is_halved(x, y, (width, image.shape[0]), out.shape, size):
                halve(whole, first)
                rest = 0
            for low in range(0, rest, chunk):
                part = (low, min(low + chunk, length))
                tables_of_elements((slots, weights), size, part, across)
                if part[1] - low >= LANES:
                    find_windows(across, block_count(part[1] - low), (width + SLOTS) * size)
                own = Rows(
                    source, others, numbers, across, span_of(slots, size, part), rows_read, by,
                    count, part[1] - low, target, start + low, length,
                )  # fmt: skip
                if abs(y[1]) >= 1.0:  # not by what a task reads: bits must not depend on tasks
                    along_y_first(own)
                else:
                    along_x_first(own)
            keep_alive((new, new_others))
        return stamp

    return cpu_launch.jit(resample, parallel)


def can_warp(kind, dtype):
    """Whether this kernel serves images of this kind of sampler, and of this dtype."""
    return kind.source == AFFINE and kind.mode in MODES and dtype.char != "e"  # no float16


def _is_copy(matrix):
    """Whether a map only moves by whole pixels."""
    (a, _, x), (_, d, y), _ = matrix.tolist()
    return a == d == 1.0 and x.is_integer() and y.is_integer()


def prepare_warp(kind, fill, image_shape, dtype, shape, frame=None):
    """A function ``warp(image, matrix, out)`` for images and outputs of these shapes.

    With a ``frame``, the image is a crop and the output a patch (:mod:`.patches`).
    """
    return _Warp(kind, fill, image_shape, dtype, 1, shape, frame)


def warp_crops(kind, image, matrices, fill, crops):
    """Fill ``crops``, (K, H_out, W_out[, C]), from one image, by K matrices."""
    shape = crops.shape[1:]
    _Warp(kind, fill, image.shape, image.dtype, len(crops), shape).crop(image, matrices, crops)


class _Warp:
    """Calls of the kernel for arrays of known shapes."""

    def __init__(self, kind, fill, image_shape, dtype, crops, shape, frame=None):
        (height, width, *channels), (rows, columns) = image_shape, shape[:2]
        self.flags, self.rows, self.crops = (kind.mode, kind.padding), rows, crops
        size = math.prod(channels)
        self.image, self.out = (height, width * size), (crops, rows, columns * size)
        self.fills = fill, fill.astype(computed(dtype))
        self.frame = frame.numbers() if frame else whole_frame(image_shape[:2], shape[:2])
        self.work = math.prod(self.out) // SAMPLES, math.prod(self.out) // COPIES

    def __call__(self, image, matrix, out):
        self.crop(image, matrix.reshape(1, 3, 3), out)

    def crop(self, image, matrices, out):
        work, copies = self.work
        height = self.rows
        if cpu_launch.may_be_parallel(work):
            work = copies if _is_copy(matrices[0]) else work
            height = -(-height // max(1, -(-cpu_launch.workers(work) // self.crops)))
        cpu_launch.run(
            make_resample, self.flags, work,
            image.reshape(self.image), self.fills, matrices, OFF, self.frame, height,
            out.reshape(self.out),
        )  # fmt: skip
