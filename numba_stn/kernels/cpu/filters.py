"""CPU kernel of separable filters: an image resized with many taps along each axis.

Rows are summed first, and neighbours in these sums then. A task computes LANES rows of the output,
and some of its columns, so that the sums of rows that it needs fit into the second cache. See
:mod:`.simd.filters`.
"""

import functools
from typing import Any, NamedTuple

import numpy as np
from numba import prange

from .. import cpu_launch
from .simd.filters import store_row, sum_neighbours, sum_rows, transpose, transpose_to
from .simd.memory import borrowed, keep_alive, stack_memory
from .simd.vectors import LANES

# The most elements of a row, each with LANES numbers, that a task sums, except for a single column.
ELEMENTS = 1024

# The numbers that are multiplied and added in about a nanosecond.
PRODUCTS = 8

# The number of tiles that are summed together.
TILES = 4

_MEMORY = TILES * LANES * LANES * 8  # bytes


class Taps(NamedTuple):
    """What each row (or column) of an output is the weighted sum of."""

    starts: Any  # the first of the image's rows, int64
    counts: Any  # the number of rows, int64
    weights: Any  # (rows of the output, most rows of the image), of the type that computes


@functools.cache
def make_resize(parallel):
    """Kernel: image (H, W * C), taps -> out (H_out, W_out * C).

    Rows have at least LANES elements. ``bounds`` are the columns at which parts of rows begin, and
    the number of columns.
    """
    stamp = cpu_launch.stamp(parallel)

    def resize(image, channels, rows, columns, bounds, out):
        height, length, parts = out.shape[0], image.shape[1], len(bounds) - 1
        blocks = (height + LANES - 1) // LANES
        for task in prange(blocks * parts):
            source, target, down, across = borrowed((image, out, rows, columns))
            real = down[2].dtype.type(0)
            tile = stack_memory(_MEMORY)
            first, part = task // parts * LANES, task % parts
            count = min(LANES, height - first)
            begin, end = bounds[part], bounds[part + 1]
            low, high = np.int64(length), np.int64(0)
            for x in range(begin, end):
                low = min(low, across[0][x] * channels)
                high = max(high, (across[0][x] + across[1][x]) * channels)
            groups = (high - low + LANES - 1) // LANES
            low = max(0, min(low, length - groups * LANES))
            new = np.empty(groups * LANES * LANES, down[2].dtype)
            (lines,) = borrowed((new,))
            group = 0
            while group < groups:
                element = min(low + group * LANES, length - LANES)
                wide = element + TILES * LANES <= length and group + TILES <= groups
                for r in range(LANES):
                    i = first + min(r, count - 1)
                    where = (i, down[0][i], down[1][i], element, r)
                    if wide:
                        sum_rows(source, down[2], where, TILES, tile)
                    else:
                        sum_rows(source, down[2], where, 1, tile)
                for n in range(TILES if wide else 1):
                    transpose_to(tile, n, lines, element - low + n * LANES)
                group += TILES if wide else 1
            for start in range(begin * channels, end * channels, LANES):
                width = min(LANES, end * channels - start)
                for e in range(width):
                    x, c = (start + e) // channels, (start + e) % channels
                    vector = across[0][x] * channels + c - low
                    sum_neighbours(lines, across[2], (x, vector, across[1][x], channels, e), tile)
                transpose(tile, real)
                for r in range(count):
                    store_row(tile, target, (r, first + r, start, width), real)
            keep_alive(new)
        return stamp

    return cpu_launch.jit(resize, parallel)


def resize(
    image: np.ndarray, channels: int, rows: Taps, columns: tuple[Taps, np.ndarray], out: np.ndarray
) -> None:
    """Fill ``out``, (H_out, W_out * C), from ``image``, (H, W * C), both contiguous.

    ``columns`` are the taps of columns, and what :func:`divide` returns for them.
    """
    if image.shape[1] < LANES:
        image = np.pad(image, ((0, 0), (0, LANES - image.shape[1])))
    taps, bounds = columns
    products = len(out) * image.shape[1] * rows.weights.shape[1]
    products += out.size * taps.weights.shape[1]
    cpu_launch.run(
        make_resize, (), products // PRODUCTS,
        image, channels, tuple(rows), tuple(taps), bounds, out,
    )  # fmt: skip


def divide(columns: Taps, channels: int) -> np.ndarray:
    """Divide columns into parts that read at most ELEMENTS of a row of the image, if they can."""
    bounds, low, high, most = [0], int(columns.starts[0]), 0, ELEMENTS // max(channels, 1)
    taps = zip(columns.starts.tolist(), columns.counts.tolist(), strict=True)
    for x, (start, count) in enumerate(taps):
        low, high = min(low, start), max(high, start + count)
        if high - low > most and x > bounds[-1]:
            bounds.append(x)
            low, high = start, start + count
    return np.array([*bounds, len(columns.starts)])
