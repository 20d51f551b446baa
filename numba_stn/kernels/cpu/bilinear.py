"""CPU kernels of the common case: bilinear samples of float planes with their channels first.

:mod:`.backend` calls these kernels. Each defines what is done with a block of a tile;
:mod:`.traversal` visits the blocks, and vector code computes them (:mod:`.simd.bilinear`). If rows
are not divided into blocks, :mod:`.general` has the kernels.
"""

import functools
from typing import Any, NamedTuple

import numpy as np
from numba import carray, prange

from .. import cpu_launch
from ..math.jit import inlined, scalar
from ..math.sampler_kind import AFFINE, BILINEAR, GRID
from .bilinear_coordinates import ImageMap, image_map, row_map
from .limits import Window, row_limits
from .simd.bilinear import (
    coords_gradient_border,
    coords_gradient_interior,
    sample_border,
    sample_interior,
)
from .simd.images_gradient import (
    accumulate_border,
    accumulate_interior,
    accumulate_quads_border,
    accumulate_quads_interior,
    gather_quads,
)
from .simd.memory import borrowed, stack_memory
from .simd.row_segments import prefetch_taps
from .simd.vectors import LANES
from .tiles import (
    BAND,
    TILE_BANDS,
    TILE_ROWS,
    Tile,
    block_count,
    block_span,
    can_block,
)
from .traversal import Visitor, make_traverse, nothing_outside

# The number of channels of the images' gradient that a task computes, so that they stay in cache.
GROUP = 4

# Bytes for the quads of a small image's planes: see :mod:`.simd.images_gradient`.
QUADS = 2**16

# Bytes for six sums of each lane, for each band of a tile.
SUMS = TILE_BANDS * 6 * LANES * 8


class Task(NamedTuple):
    """A tile of a kernel, and what its visitor needs there.

    ``arrays`` are the images (or their gradient), the coordinates, the samples (or their gradient),
    and for a gradient one more array. ``elements`` is the first array as a one-dimensional one.
    """

    arrays: Any
    elements: Any
    tile: Tile
    map: ImageMap
    window: Window
    sides: Any  # (H, W, H_out, W_out)
    channels: Any  # first, and last + 1
    fill: Any
    off: float
    small: bool = False  # whether the images' gradient is summed in quads


@functools.cache
def make_rows(source, padding):
    """Function ``rows`` of a :class:`.traversal.Visitor`: a row's map and limits."""

    def rows(task, i):
        row = row_map(source, task.map.axes, i, task.sides)
        inverse, window = task.map.inverse, task.window
        return row, row_limits(source, padding, BILINEAR, row, inverse, window, task.sides)

    return inlined(rows)


@functools.cache
def make_prefetch(source):
    """Function: for a grid, prefetch what the next row's interior blocks read."""

    def prefetch(task, inside, slots):
        if source == GRID and not task.small:
            (h, w), (first, last) = task.sides[:2], task.channels
            start = (task.tile.m * task.arrays[0].shape[1] + first) * h * w
            zero = task.arrays[0].dtype.type(0)
            prefetch_taps(task.elements, zero, (start, last - first, h * w, 1, inside), slots)

    return inlined(prefetch)


# --- Samples --------------------------------------------------------------------------------------


@functools.cache
def make_sample(source, padding, parallel):
    """Kernel: images, coords -> samples."""
    stamp = cpu_launch.stamp(parallel)

    def outside(task, i, first, stop):
        samples, n = task.arrays[2], task.tile.n
        for c in range(samples.shape[1]):
            for j in range(first, stop):
                samples[n, c, i, np.uint64(j)] = task.fill  # unsigned for LLVM to vectorise

    def interior(task, row, segment, slots):
        (i, k, count, slot), tile = segment, task.tile
        where = (tile.m, tile.n, i, k, count, slot, tile.columns, task.map.ahead)
        sample_interior(source, task.arrays, row, where, slots)

    def border(task, row, i, k):
        tile, (first, _) = task.tile, block_span(k, task.tile.columns)
        outside, where = (task.fill, task.off), (tile.m, tile.n, i, first)
        sample_border(source, padding, task.arrays, row, outside, where)

    visitor = Visitor(
        make_rows(source, padding), inlined(outside), make_prefetch(source), inlined(interior),
        inlined(border),
    )  # fmt: skip
    traverse = make_traverse(source, padding, BILINEAR, visitor)

    def sample(images, coords, off, fill, height, samples):
        batch, planes, rows, columns = samples.shape
        h, w = images.shape[2:]
        sides, line = (h, w, rows, columns), images.reshape(images.size)
        tiles = (rows + height - 1) // height
        for number in prange(batch * tiles):
            n, start = number // tiles, number % tiles * height
            m, end = n if images.shape[0] > 1 else 0, min(rows, start + height)
            tile = Tile(m, n, start, end, columns, can_block(h, w, columns))
            arrays, elements = borrowed(((images, coords, samples), line))
            lines = image_map(source, arrays[1], n, sides, off)
            window, channels = Window(0, h, w, w), (0, planes)
            task = Task(arrays, elements, tile, lines, window, sides, channels, fill, off, False)
            traverse(task, arrays[1], tile, fill)
        return stamp

    return cpu_launch.jit(sample, parallel)


# --- Gradient of the images -----------------------------------------------------------------------


@functools.cache
def make_sample_vjp_images(source, padding, parallel):
    """Kernel: dsamples, coords -> dimages.

    Each task owns a band of one image's rows, in a few channels. It goes through all samples in a
    fixed order, and adds what belongs to its band. So a pixel's sum has the same terms in the same
    order, whatever the number of bands. A ``small`` image is one band, and is summed in quads: see
    :mod:`.simd.images_gradient`.
    """
    stamp = cpu_launch.stamp(parallel)
    traverse = make_traverse(source, padding, BILINEAR, _make_accumulate(source, padding))

    def sample_vjp_images(dsamples, coords, off, bands, group, small, dimages):
        real = dimages.dtype.type
        batch, channels, rows, columns = dsamples.shape
        count, _, h, w = dimages.shape
        sides, line = (h, w, rows, columns), dimages.reshape(dimages.size)
        blocked = can_block(h, w, columns)
        tiles = (rows + TILE_ROWS - 1) // TILE_ROWS
        groups = (channels + group - 1) // group
        for number in prange(count * bands * groups):
            m, band = number // groups // bands, number // groups % bands
            top, bottom = band * h // bands, (band + 1) * h // bands
            c, end_c = number % groups * group, min(channels, number % groups * group + group)
            if not small:
                dimages[m, c:end_c, top:bottom] = real(0)
            quads = carray(stack_memory(QUADS), (end_c - c if small else 0, h + 1, w + 1, 4), real)
            if small:
                quads[:] = real(0)
            arrays, elements = borrowed(((dimages, coords, dsamples, quads), line))
            window = Window(top, bottom, w, w + 1 if small else w)
            first_n, last_n = (m, m + 1) if count > 1 else (0, batch)
            for part in range((last_n - first_n) * tiles):
                n, start = first_n + part // tiles, part % tiles * TILE_ROWS
                tile = Tile(m, n, start, min(rows, start + TILE_ROWS), columns, blocked)
                lines = image_map(source, arrays[1], n, sides, off)
                task = Task(
                    arrays, elements, tile, lines, window, sides, (c, end_c), real(0), off, small
                )  # fmt: skip
                traverse(task, arrays[1], tile, real(0))
            if small:
                pixels_of_quads(arrays[3], arrays[0], m, c)
        return stamp

    return cpu_launch.jit(sample_vjp_images, parallel)


def _make_accumulate(source, padding):
    """The visitor that adds the gradients of a tile's samples to the pixels they were read from."""

    def interior(task, row, segment, slots):
        (i, k, count, slot), tile, (first, last) = segment, task.tile, task.channels
        where = (tile.m, tile.n, i, k, count, slot, tile.columns, first, last, task.map.ahead)
        if task.small:
            accumulate_quads_interior(source, task.arrays, row, where, slots)
        else:
            accumulate_interior(source, task.arrays, row, where, slots)

    def border(task, row, i, k):
        tile, window = task.tile, task.window
        (c, end_c), (first, _) = task.channels, block_span(k, tile.columns)
        skip = k * LANES - first  # the last block's pixels that the block before it has, too
        where = (tile.m, tile.n, i, first, skip, c, end_c, window.top, window.bottom)
        outside = (task.fill, task.off)
        if task.small:
            accumulate_quads_border(source, padding, task.arrays, row, outside, where)
        else:
            accumulate_border(source, padding, task.arrays, row, outside, where)

    return Visitor(
        make_rows(source, padding), nothing_outside, make_prefetch(source), inlined(interior),
        inlined(border),
    )  # fmt: skip


@scalar
def pixel_of_quads(quads, k, y, x):
    """The gradient of pixel (y, x): the sum of one number from each of four quads.

    These are the first number of the pixel's own quad, the second of the one to the left, the third
    of the one above, and the fourth of the one above and to the left.
    """
    upper = quads[k, y + 1, x + 1, 0] + quads[k, y + 1, x, 1]
    return upper + quads[k, y, x + 1, 2] + quads[k, y, x, 3]


@scalar
def pixels_of_quads(quads, dimages, m, c):
    """Write the sums of quads to the pixels of image m, from channel c on."""
    h, w = dimages.shape[2:]
    for k in range(quads.shape[0]):
        for y in range(h):
            for block in range(block_count(w)):
                first, last = block_span(block, w)
                if last - first == LANES:
                    gather_quads(quads, dimages, (k, y, first, m, c + k, y, first))
                    continue
                for x in range(first, last):
                    dimages[m, c + k, y, x] = pixel_of_quads(quads, k, y, x)


# --- Gradient of the coordinates ------------------------------------------------------------------


@functools.cache
def make_sample_vjp_coords(source, padding, parallel):
    """Kernel: dsamples, images, coords -> dgrid, or the moments of each band of BAND rows."""
    stamp = cpu_launch.stamp(parallel)
    traverse = make_traverse(source, padding, BILINEAR, _make_differentiate(source, padding))

    def sample_vjp_coords(dsamples, images, coords, off, fill, bands, dcoords):
        planes, rows, columns = dsamples.shape[1:]
        h, w = images.shape[2:]
        sides, line = (h, w, rows, columns), images.reshape(images.size)
        height = bands * BAND
        tiles = (rows + height - 1) // height
        for number in prange(coords.shape[0] * tiles):
            n, start = number // tiles, number % tiles * height
            m, end = n if images.shape[0] > 1 else 0, min(rows, start + height)
            tile = Tile(m, n, start, end, columns, can_block(h, w, columns))
            sums = carray(stack_memory(SUMS), (TILE_BANDS, 6, LANES), np.float64)
            sums[:] = 0
            out = sums if source == AFFINE else dcoords
            arrays, elements = borrowed(((images, coords, dsamples, out), line))
            lines = image_map(source, arrays[1], n, sides, off)
            window, channels = Window(0, h, w, w), (0, planes)
            task = Task(arrays, elements, tile, lines, window, sides, channels, fill, off, False)
            traverse(task, arrays[1], tile, fill)
            if source == AFFINE:
                for band in range((end - start + BAND - 1) // BAND):
                    for k in range(6):
                        dcoords[n, start // BAND + band, k // 3, k % 3] = sums[band, k].sum()
        return stamp

    return cpu_launch.jit(sample_vjp_coords, parallel)


def _make_differentiate(source, padding):
    """The visitor that computes the gradient of the coordinates of a tile's samples."""

    def arrays_of(task, i):
        images, coords, dsamples, out = task.arrays
        if source == AFFINE:
            return images, coords, dsamples, out[(i - task.tile.start) // BAND]
        return images, coords, dsamples, out

    arrays_of = inlined(arrays_of)

    def interior(task, row, segment, slots):
        (i, k, count, slot), tile = segment, task.tile
        where = (tile.m, tile.n, i, k, count, slot, tile.columns, task.map.ahead)
        coords_gradient_interior(source, arrays_of(task, i), row, where, slots)

    def border(task, row, i, k):
        tile, (first, _) = task.tile, block_span(k, task.tile.columns)
        skip = k * LANES - first  # the last block's pixels that the block before it has, too
        arrays, where = arrays_of(task, i), (tile.m, tile.n, i, first, skip)
        coords_gradient_border(source, padding, arrays, row, (task.fill, task.off), where)

    return Visitor(
        make_rows(source, padding), nothing_outside, make_prefetch(source), inlined(interior),
        inlined(border),
    )  # fmt: skip
