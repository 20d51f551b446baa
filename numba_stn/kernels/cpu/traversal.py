"""The order in which kernels process their output: tiles of rows, chunks of blocks, pixels.

A kernel of the plane says what is done with a block, in a few functions (:class:`Visitor`), and
:func:`make_traverse` calls them for the blocks of a tile. While the blocks of one row are visited,
the addresses that the next row reads are computed (:mod:`.simd.addresses`) and prefetched. If both
were done in one step, the processor would wait: the chain of operations from a block's coordinates
to its samples is longer than what it can look ahead.

Kernels of volumes, and others without blocks, go over the pixels of a row: :func:`make_fold_row`.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numba import carray

from ..math.jit import inlined, scalar
from ..math.sampler_kind import GRID, PROJECTIVE
from .coordinate_sources import make_input_pixel, make_row
from .limits import Limits
from .simd.addresses import compute_addresses
from .simd.memory import stack_memory
from .simd.vectors import LANES
from .simd.workspace import SLOTS, WORKSPACE, interior_length
from .tiles import TILE_ROWS, block_count

# Bytes for the coordinates and the limits of a tile's rows: up to six numbers of eight bytes each.
ROWS = TILE_ROWS * 6 * 8


class Visitor(NamedTuple):
    """What a kernel does with the rows and blocks of a tile; each function gets the ``task``.

    All are :func:`inlined <numba_stn.kernels.math.jit.inlined>`. ``row`` is what ``rows``
    returned for row i: start and step of x, of y, and for a projective map of the divisor.
    """

    rows: Callable  # (task, i) -> row, Limits
    outside: Callable  # (task, i, first, stop): columns first to stop - 1 of row i have no taps
    prefetch: Callable  # (task, inside, slots): the slots whose bits are set are read next
    interior: Callable  # (task, row, segment, slots): blocks all of whose taps are inside
    border: Callable  # (task, row, i, k): block k of row i, which may have taps outside


class Segment(NamedTuple):
    """A row segment: ``length`` neighbouring interior blocks of row i, from block k on.

    ``slot`` is the number of block k's :class:`.workspace.Slot`; the others follow.
    """

    i: int
    k: int
    length: int
    slot: int


@inlined
def nothing_outside(task, i, first, stop):
    """What a gradient does with columns without taps."""


@functools.cache
def make_traverse(source, padding, mode, visitor):
    """Function: visit the blocks of a :class:`.tiles.Tile`.

    It is called as ``traverse(task, coords, tile, zero)``: ``coords`` is the array from which the
    coordinates of the rows come, and ``zero`` has the type that computes.
    """
    rows_of, outside, prefetch, interior, border = visitor
    numbers = 6 if source == PROJECTIVE else 4
    load_row, touched_blocks = make_load_row(numbers), make_touched_blocks(source)

    def traverse(task, coords, tile, zero):
        n, start, end, columns = tile.n, tile.start, tile.end, tile.columns
        blocks = block_count(columns)
        slots = stack_memory(WORKSPACE)
        maps = carray(stack_memory(ROWS), (TILE_ROWS, numbers), np.float64)
        limits = carray(stack_memory(ROWS), (TILE_ROWS, 6), np.int64)
        for i in range(start, end):
            row, limit = rows_of(task, i)
            store_row(i - start, row, limit, maps, limits)
            left, right = min(limit.low * LANES, columns), limit.high * LANES
            if left > 0:
                outside(task, i, 0, left)
            if right < columns:
                outside(task, i, right, columns)
        for chunk in range(0, blocks, SLOTS):
            stop = min(chunk + SLOTS, blocks)
            inside, following = np.int64(0), np.int64(0)
            for i in range(start - 1, end):
                inside, following = following, np.int64(0)
                if tile.blocked and i + 1 < end:
                    row, limit = load_row(maps, limits, i + 1 - start)
                    low, high = touched_blocks(limit, chunk, stop)
                    where = (n, i + 1, low, high, first_slot(chunk, i + 1), columns)
                    following = compute_addresses(
                        source, padding, mode, zero, coords, (row, limit, where), slots
                    )
                    prefetch(task, following, slots)
                if i < start:
                    continue
                row, limit = load_row(maps, limits, i - start)
                base = first_slot(chunk, i)
                k, high = touched_blocks(limit, chunk, stop)
                while k < high:
                    count = interior_length(inside >> (k - base))
                    if count:
                        interior(task, row, Segment(i, k, count, k - base), slots)
                        k += count
                        continue
                    border(task, row, i, k)
                    k += 1

    return inlined(traverse)


@functools.cache
def make_touched_blocks(source):
    """Function: those of the blocks ``chunk`` to ``stop`` - 1 that have taps; for a grid, all."""
    if source == GRID:
        return inlined(lambda limit, chunk, stop: (chunk, stop))
    return inlined(lambda limit, chunk, stop: (max(chunk, limit.low), min(stop, limit.high)))


@scalar
def first_slot(chunk, i):
    """The block that has the workspace's first slot; rows use its two halves alternately."""
    return chunk - SLOTS * (i & 1)


@scalar
def store_row(r, row, limit, maps, limits):
    """Store the map and the limits of the r-th row of a tile."""
    for k in range(len(row)):
        maps[r, k] = row[k]
    for k in range(6):
        limits[r, k] = limit[k]


@functools.cache
def make_load_row(numbers):
    """Function: the map, of 4 or 6 numbers, and the limits of the r-th row of a tile."""
    if numbers == 6:

        def load_row(maps, limits, r):
            row = (maps[r, 0], maps[r, 1], maps[r, 2], maps[r, 3], maps[r, 4], maps[r, 5])
            return row, load_limits(limits, r)

    else:

        def load_row(maps, limits, r):
            row = (maps[r, 0], maps[r, 1], maps[r, 2], maps[r, 3])
            return row, load_limits(limits, r)

    return inlined(load_row)


@inlined
def load_limits(limits, r):
    """The :class:`.limits.Limits` of the r-th row of a tile."""
    return Limits(
        limits[r, 0], limits[r, 1], limits[r, 2], limits[r, 3], limits[r, 4], limits[r, 5]
    )


# --- Rows of pixels -------------------------------------------------------------------------------


@functools.cache
def make_fold_row(kind, visit):
    """Function: call ``state = visit(task, state, row, at, pixel)`` for each pixel of a row.

    It returns the last state. The output row has the number ``line`` in the batch, which gives
    (n, k, i) = (sample, slice, row). ``at`` is (n, k, i, j), and ``pixel`` is the sampling position
    (x, y, z). ``sides`` of the images and ``sizes`` of the samples are (D, H, W); ``real`` is the
    images' type.
    """
    row_of = make_row(kind.source, kind.dims, kind.between_pixels)
    input_pixel = make_input_pixel(kind.source, kind.dims, kind.mode)

    def fold_row(task, state, line, coords, sides, sizes, off, real):
        depth, rows, columns = sizes
        n, k, i = line // rows // depth, line // rows % depth, line % rows
        row = row_of(coords, n, k, i, sides, sizes, off)
        for j in range(columns):
            pixel = input_pixel(coords, row, n, k, i, j, columns, real)
            state = visit(task, state, row, (n, k, i, j), pixel)
        return state

    return inlined(fold_row)
