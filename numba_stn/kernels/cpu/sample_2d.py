"""CPU kernel of samples of the plane, of any mode, padding, dtype and layout.

Interior blocks are sampled by vector code if there is such code, columns without taps are filled,
and all other pixels are sampled one by one (:mod:`.plane_segments`). :mod:`.traversal` visits the
blocks.
"""

import functools
from typing import Any, NamedTuple

import numpy as np
from numba import prange

from .. import cpu_launch
from ..math.jit import inlined, scalar
from ..math.sampler_kind import GRID, PROJECTIVE
from .bilinear_coordinates import ROWS_AHEAD
from .block_positions import make_flat, make_strides, make_write_positions
from .coordinate_sources import make_input_pixel, make_row
from .limits import divided_row_limits
from .plane_segments import make_fill_columns, make_interior, make_sample_pixel
from .simd.border_samples import make_sample_border
from .simd.checked_taps import POSITIONS
from .simd.memory import borrowed, stack_memory
from .simd.row_segments import prefetch_taps
from .simd.vectors import LANES
from .taps import make_lengths
from .tiles import Tile, block_count, block_span, can_block
from .traversal import Visitor, make_traverse


class Task(NamedTuple):
    """A tile of samples, and what the visitor needs there."""

    arrays: Any  # images and samples, from :func:`.general.as_volume`
    elements: Any  # the same, as one-dimensional arrays
    coords: Any
    tile: Tile
    shape: Any  # (channels, H, W, H_out, W_out)
    sizes: Any  # (sides, sizes), each (D, H, W)
    drift: Any  # how numerators and divisor change within ROWS_AHEAD rows
    fill: Any
    off: float


@functools.cache
def make_sample_plane(kind, dtype, channels_together, parallel):
    """Kernel: images, coords -> samples of this dtype; arrays are :func:`.general.as_volume`."""
    stamp = cpu_launch.stamp(parallel)
    source, mode, padding, _, channels_last, between = kind
    row_of, lengths = make_row(source, 2, between), make_lengths(channels_last)
    visitor = _make_visitor(kind, dtype, channels_together)
    traverse = make_traverse(source, padding, mode, visitor)
    sample_narrow, narrow = make_sample_narrow(kind), dtype != np.float16

    def sample(images, coords, off, fill, height, samples):
        count, _, sides = lengths(images)
        batch, channels, sizes = lengths(samples)
        (_, h, w), (_, rows, columns) = sides, sizes
        line, samples_line = images.reshape(images.size), samples.reshape(samples.size)
        tiles = (rows + height - 1) // height
        for number in prange(batch * tiles):
            n, start = number // tiles, number % tiles * height
            m, end = n if count > 1 else 0, min(rows, start + height)
            tile = Tile(m, n, start, end, columns, can_block(h, w, columns))
            arrays, elements, where, outside = borrowed(
                ((images, samples), (line, samples_line), coords, fill)
            )
            now = row_of(where, n, 0, start, sides, sizes, off)
            later = row_of(where, n, 0, start + ROWS_AHEAD, sides, sizes, off)
            shape = (channels, h, w, rows, columns)
            task = Task(
                arrays, elements, where, tile, shape, (sides, sizes), drift_of(now, later),
                outside, off,
            )  # fmt: skip
            if narrow and columns < LANES:
                sample_narrow(task)
            else:
                traverse(task, where, tile, fill.dtype.type(0))
        return stamp

    return cpu_launch.jit(sample, parallel)


@functools.cache
def _make_visitor(kind, dtype, channels_together):
    """The visitor that samples the rows and blocks of a tile."""
    source, mode, padding, _, channels_last, between = kind
    row_of, fill_columns = make_row(source, 2, between), make_fill_columns(channels_last, dtype)
    flat, axes_of = make_flat(source), _make_axes(source)

    def rows(task, i):
        _, h, w, height, width = task.shape
        sides, sizes = task.sizes
        axes = row_of(task.coords, task.tile.n, 0, i, sides, sizes, task.off)
        line = (*axes[0], *axes[1], *axes[3])
        return flat(axes), divided_row_limits(source, padding, mode, line, w, (h, w, height, width))

    def outside(task, i, first, stop):
        _, _, _, height, width = task.shape
        fill_columns(task.elements[1], task.fill, (task.tile.n, i, first, stop), (height, width))

    def prefetch(task, inside, slots):
        if source == GRID:
            channels, h, w, _, _ = task.shape
            planes, together = (1, channels) if channels_last else (channels, 1)
            where = (task.tile.m * channels * h * w, planes, h * w, together, inside)
            prefetch_taps(task.elements[0], task.fill.dtype.type(0), where, slots)

    if dtype == np.float16:
        border = _make_border_by_pixels(kind, dtype, axes_of)
    else:
        border = _make_border(kind, axes_of)

    return Visitor(
        inlined(rows), inlined(outside), inlined(prefetch),
        make_interior(kind, dtype, channels_together), border,
    )  # fmt: skip


def _make_border_by_pixels(kind, dtype, axes_of):
    """The visitor's ``border`` for float16, which has no vector code."""
    input_pixel = make_input_pixel(kind.source, 2, kind.mode)
    sample_pixel = make_sample_pixel(kind, dtype)

    def border(task, row, i, k):
        axes, tile, real = axes_of(row), task.tile, task.fill.dtype.type
        for j in range(k * LANES, min((k + 1) * LANES, tile.columns)):
            pixel = input_pixel(task.coords, axes, tile.n, 0, i, j, tile.columns, real)
            at = (tile.n, 0, i, j)
            sample_pixel(task.arrays, task.fill, tile.m, at, pixel, task.sizes[0], task.off)

    return inlined(border)


def _make_border(kind, axes_of):
    """The visitor's ``border``: LANES pixels at once, at any positions."""
    sample_pixels = make_sample_pixels(kind)

    def border(task, row, i, k):
        first, stop = block_span(k, task.tile.columns)
        start = i * task.tile.columns
        sample_pixels(task, axes_of(row), start + first, start + stop, task.tile.blocked)

    return inlined(border)


@functools.cache
def make_sample_pixels(kind):
    """Function: sample the pixels ``first`` to ``stop`` - 1 of an output plane, LANES at most.

    Pixels are counted over all rows. If they are ``blocked``, they are in the row ``axes``.
    """
    write_positions, strides_of = make_write_positions(kind), make_strides(kind.channels_last)
    sample_border = make_sample_border(kind.mode, kind.padding)

    def sample_pixels(task, axes, first, stop, blocked):
        tile, real, frame = task.tile, task.fill.dtype.type, (*task.sizes, task.off)
        channels, h, w, rows, columns = task.shape
        x, y = stack_memory(POSITIONS), stack_memory(POSITIONS)
        at = (tile.n, first, stop)
        write_positions(task.coords, axes, at, frame, blocked, real, x, y)
        strides = strides_of((channels, h, w), (rows, columns))
        target = tile.n * channels * rows * columns + first * strides[4]
        where = (tile.m * channels * h * w, target, stop - first, channels)
        arrays = (*task.elements, task.fill)
        sample_border(arrays, (x, y), where, (h, w), strides, task.off, real(0))

    return inlined(sample_pixels)


@functools.cache
def make_sample_narrow(kind):
    """Function: sample a tile whose rows are shorter than a block.

    Pixels of neighbouring rows are neighbours in memory, so a block has pixels of several rows.
    """
    sample_pixels, row_of = make_sample_pixels(kind), make_row(kind.source, 2, kind.between_pixels)

    def sample_narrow(task):
        tile, (sides, sizes) = task.tile, task.sizes
        axes = row_of(task.coords, tile.n, 0, tile.start, sides, sizes, task.off)
        start, count = tile.start * tile.columns, (tile.end - tile.start) * tile.columns
        for k in range(block_count(count)):
            first, stop = block_span(k, count)
            sample_pixels(task, axes, start + first, start + stop, False)

    return inlined(sample_narrow)


@functools.cache
def _make_axes(source):
    """Function: the numbers of :func:`.block_positions.make_flat`, as a row again."""
    if source == PROJECTIVE:
        return inlined(lambda row: (row[:2], row[2:4], (0.0, 0.0), row[4:]))
    return inlined(lambda row: (row[:2], row[2:], (0.0, 0.0), (0.0, 0.0)))


@scalar
def drift_of(row, later):
    """The differences of the numerators of x and y and of their divisor between two rows."""
    (x, _), (y, _), _, (w, _) = row
    (x_later, _), (y_later, _), _, (w_later, _) = later
    return x_later - x, y_later - y, w_later - w
