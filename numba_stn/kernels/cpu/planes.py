"""Samples of the plane, of any mode, padding, dtype and layout: blocks where they can be placed.

Rows are worked through in tiles (:mod:`.traversal`). What :mod:`.addresses` finds inside the image
is sampled in blocks, what no tap reaches is filled, and the rest done pixel by pixel
(:mod:`.row_segments`).
"""

import functools

import numpy as np
from numba import carray, prange

from .. import launch
from ..math.coordinates import GRID, PROJECTIVE, inlined, scalar
from .coordinate_sources import make_row
from .row_segments import make_pixel, make_run, make_spread
from .rows import BAND, ROWS_AHEAD, TALL, block_count, can_block, keep, line_limits, touching
from .simd.addresses import WORKSPACE, memory
from .simd.lanes import fetch
from .simd.vectors import LANES
from .traversal import make_walk
from .weighted_sum import make_lengths

# Bytes that a task needs for a tile's rows.
MAPS = LIMITS = TALL * BAND * 6 * 8


@functools.cache
def make_sample_plane(kind, dtype, colours, parallel):
    """Kernel: images, coords -> samples of this dtype, of :func:`.general.volume` arrays."""
    stamp = launch.stamp(parallel)
    source, mode, padding, _, channels_last, between = kind
    row_of, lengths = make_row(source, 2, between), make_lengths(channels_last)
    spread, pixel = make_spread(channels_last, dtype), make_pixel(kind, dtype)
    numbers = 6 if source == PROJECTIVE else 4
    if numbers == 6:
        along_line = scalar(lambda line: (line[:2], line[2:4], (0.0, 0.0), line[4:]))
    else:
        along_line = scalar(lambda line: (line[:2], line[2:], (0.0, 0.0), (0.0, 0.0)))

    def rest(task, row, limit, i, k):
        _, (m, n, _, h, w, _, columns, _), fill, (images, samples), coords, off = task
        line = along_line(row)
        for j in range(k * LANES, min((k + 1) * LANES, columns)):
            pixel(images, coords, line, fill, m, n, 0, i, j, (1, h, w), off, samples)

    def soon(task, placed, slots):
        if source == GRID:
            (line, _), (m, _, channels, h, w, _, _, _), fill = task[:3]
            many, each = (1, channels) if channels_last else (channels, 1)
            where = (m * channels * h * w, many, h * w, each, placed)
            fetch(line, fill.dtype.type(0), where, slots)

    walk = make_walk(
        source, padding, mode, make_run(kind, dtype, colours), inlined(rest), inlined(soon)
    )

    def sample(images, coords, off, fill, height, samples):
        count, _, sides = lengths(images)
        batch, channels, sizes = lengths(samples)
        (_, h, w), (_, rows, columns) = sides, sizes
        fast, blocks = can_block(h, w, columns), block_count(columns)
        lines = images.reshape(images.size), samples.reshape(samples.size)
        tiles = (rows + height - 1) // height
        for task in prange(batch * tiles):
            n, start = task // tiles, task % tiles * height
            m, end = n if count > 1 else 0, min(rows, start + height)
            slots = memory(WORKSPACE)
            maps = carray(memory(MAPS), (TALL * BAND, numbers), np.float64)
            limits = carray(memory(LIMITS), (TALL * BAND, 6), np.int64)
            for i in range(start, end):
                (x0, xs), (y0, ys), _, (w0, ws) = row_of(coords, n, 0, i, sides, sizes, off)
                line = (x0, xs, y0, ys, w0, ws)
                found = line_limits(source, padding, mode, line, w, (h, w, rows, columns))
                keep(i - start, line[:numbers], found, maps, limits)
                left, right = touching(found, 0, blocks)
                spread(lines[1], fill, n, i, 0, min(left * LANES, columns), rows, columns)
                spread(lines[1], fill, n, i, right * LANES, columns, rows, columns)
            later = row_of(coords, n, 0, start + ROWS_AHEAD, sides, sizes, off)
            drift = drifted(row_of(coords, n, 0, start, sides, sizes, off), later)
            where = (m, n, channels, h, w, rows, columns, drift)
            walk(
                (lines, where, fill, (images, samples), coords, off), coords,
                (n, start, end, fast, columns), maps, limits, fill.dtype.type(0), slots,
            )  # fmt: skip
        return stamp

    return launch.jit(sample, parallel)


@scalar
def drifted(row, later):
    """How the numerators of x and y and their divisor differ between two rows."""
    (x, _), (y, _), _, (w, _) = row
    (x_later, _), (y_later, _), _, (w_later, _) = later
    return x_later - x, y_later - y, w_later - w
