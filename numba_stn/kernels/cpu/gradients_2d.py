"""CPU kernels of the gradients of samples of the plane, of any mode, padding and layout.

All blocks are computed as border blocks (:mod:`.simd.plane_gradients`). :mod:`.general` has the
kernels of volumes and of float16. Arrays are :func:`.general.as_volume`.
"""

import functools

import numpy as np
from numba import carray, prange

from .. import cpu_launch
from ..math.coordinates import from_middle, unnormalize_slope
from ..math.jit import inlined, scalar
from ..math.sampler_kind import GRID
from .block_positions import make_strides, make_write_positions
from .coordinate_sources import make_row, make_theta_row_gradients
from .simd.checked_taps import POSITIONS
from .simd.memory import borrowed, stack_memory
from .simd.plane_gradients import make_accumulate, make_position_gradients
from .simd.vectors import LANES
from .taps import make_lengths
from .theta_sums import ROWS_PER_PART, add_row
from .tiles import block_count, block_span, can_block

# --- By the images --------------------------------------------------------------------------------


@functools.cache
def make_vjp_images(kind, parallel):
    """Kernel: dsamples, coords -> dimages.

    A task owns some rows of one image and goes through all samples, always in the same order.
    """
    stamp = cpu_launch.stamp(parallel)
    source, mode, padding, _, channels_last, between = kind
    row_of, lengths = make_row(source, 2, between), make_lengths(channels_last)
    write_positions, strides_of = make_write_positions(kind), make_strides(channels_last)
    accumulate = make_accumulate(mode, padding)

    def vjp_images(dsamples, coords, off, bands, dimages):
        count, channels, sides = lengths(dimages)
        batch, _, sizes = lengths(dsamples)
        (_, h, w), (_, rows, columns), real = sides, sizes, dimages.dtype.type
        sums, given = dimages.reshape(dimages.size), dsamples.reshape(dsamples.size)
        strides, blocked = strides_of((channels, h, w), (rows, columns)), can_block(h, w, columns)
        together = rows_together(rows, columns)
        for task in prange(count * bands):
            m, band = task // bands, task % bands
            top, bottom = band * h // bands, (band + 1) * h // bands
            arrays, where = borrowed(((sums, given), coords))
            clear_rows(arrays[0], m * channels * h * w, channels, (top, bottom), strides, w)
            x, y = stack_memory(POSITIONS), stack_memory(POSITIONS)
            first_n, last_n = (m, m + 1) if count > 1 else (0, batch)
            for run in range(first_n * rows // together, last_n * rows // together):
                n, i = run * together // rows, run * together % rows
                axes = row_of(where, n, 0, i, sides, sizes, off)
                for k in range(block_count(columns * together)):
                    first, stop = block_span(k, columns * together)
                    at = (n, i * columns + first, i * columns + stop)
                    write_positions(where, axes, at, (sides, sizes, off), blocked, real, x, y)
                    start = n * channels * rows * columns + (i * columns + first) * strides[4]
                    span = (k * LANES - first, stop - first)
                    block = (m * channels * h * w, start, *span, channels)
                    accumulate(arrays, (x, y), block, (top, bottom), (h, w), strides, off)
        return stamp

    return cpu_launch.jit(vjp_images, parallel)


@scalar
def rows_together(rows, columns):
    """The number of rows whose pixels are divided into blocks together: all, if they are short."""
    return max(rows, 1) if columns < LANES else 1


@scalar
def clear_rows(sums, start, channels, window, strides, w):
    """Set rows of all channels of an image to 0."""
    zero = sums.dtype.type(0)
    for c in range(channels):
        for r in range(window[0], window[1]):
            for x in range(w):
                at = start + c * strides[0] + r * strides[1] + x * strides[2]
                sums[np.uint64(at)] = zero


# --- By the coordinates ---------------------------------------------------------------------------


@functools.cache
def make_vjp_coords(kind, parallel):
    """Kernel: dsamples, images, coords -> dgrid, or sums for theta of each part."""
    stamp = cpu_launch.stamp(parallel)
    source, mode, padding, _, channels_last, between = kind
    row_of, lengths = make_row(source, 2, between), make_lengths(channels_last)
    write_positions, strides_of = make_write_positions(kind), make_strides(channels_last)
    position_gradients = make_position_gradients(mode, padding)
    take_gradient = _make_take_gradient(kind)

    def vjp_coords(dsamples, images, coords, off, fill, dcoords):
        count, channels, sides = lengths(images)
        batch, _, sizes = lengths(dsamples)
        (_, h, w), (_, rows, columns), real = sides, sizes, fill.dtype.type
        line, given = images.reshape(images.size), dsamples.reshape(dsamples.size)
        strides, blocked = strides_of((channels, h, w), (rows, columns)), can_block(h, w, columns)
        parts = (rows + ROWS_PER_PART - 1) // ROWS_PER_PART
        for number in prange(batch * parts):
            n, part = number // parts, number % parts
            m = n if count > 1 else 0
            arrays, where, dgrid = borrowed(((line, given, fill), coords, dcoords))
            sums = np.zeros((4, 4))
            memory = stack_memory(POSITIONS), stack_memory(POSITIONS)
            before = stack_memory(POSITIONS), stack_memory(POSITIONS)
            end = min(rows, (part + 1) * ROWS_PER_PART)
            together = rows_together(end - part * ROWS_PER_PART, columns)
            for i in range(part * ROWS_PER_PART, end, together):
                axes = row_of(where, n, 0, i, sides, sizes, off)
                state = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
                for k in range(block_count(columns * together)):
                    first, stop = block_span(k, columns * together)
                    at = (n, i * columns + first, i * columns + stop)
                    frame = (sides, sizes, off)
                    write_positions(where, axes, at, frame, blocked, real, memory[0], memory[1])
                    copy_positions(memory, before)
                    start = n * channels * rows * columns + (i * columns + first) * strides[4]
                    span = (k * LANES - first, stop - first)
                    block = (m * channels * h * w, start, *span, channels)
                    position_gradients(arrays, memory, block, (h, w), strides, off, real(0))
                    task = (where, dgrid, memory, before, (n, i * columns + first), span, frame)
                    state = take_gradient(task, axes, state, sums)
            if source != GRID:
                # Assigning the array would compile Numba's message about different shapes: 2 s.
                for axis in range(4):
                    for column in range(4):
                        dcoords[n, part, axis, column] = sums[axis, column]
        return stamp

    return cpu_launch.jit(vjp_coords, parallel)


@inlined
def as_arrays(memory):
    """The numbers that two pointers point to, of a block's lanes."""
    return carray(memory[0], (LANES,), np.float64), carray(memory[1], (LANES,), np.float64)


@inlined
def copy_positions(memory, copies):
    """Copy a block's positions, which its gradients will replace."""
    (xs, ys), (to_x, to_y) = as_arrays(memory), as_arrays(copies)
    for lane in range(LANES):
        to_x[lane], to_y[lane] = xs[lane], ys[lane]


@functools.cache
def _make_take_gradient(kind):
    """Function: write a block's gradients to the grid's, or add a matrix's to the sums of rows.

    A row's state is the sums of the gradients in x and y and of the divisor, then of those times
    the column. After the row's last column it is added to ``sums``, and the state begins again.
    """
    row_gradients = make_theta_row_gradients(kind.source)
    source, row_of = kind.source, make_row(kind.source, 2, kind.between_pixels)

    def take_gradient(task, axes, state, sums):
        coords, dgrid, memory, before, (n, first), span, (sides, sizes, off) = task
        (gxs, gys), (xs, ys) = as_arrays(memory), as_arrays(before)
        x0, y0, w0, x1, y1, w1 = state
        (_, rows, columns), row = sizes, -1  # a narrow block has several rows
        for lane in range(span[0], span[1]):
            i, g = (first + lane) // columns, (gxs[lane], gys[lane], 0.0)
            j = first + lane - i * columns
            if source == GRID:
                dgrid[n, i, j, 0] = g[0] * unnormalize_slope(sides[2], off)
                dgrid[n, i, j, 1] = g[1] * unnormalize_slope(sides[1], off)
                continue
            if columns < LANES and i != row:
                axes, row = row_of(coords, n, 0, i, sides, sizes, off), i
            gx, gy, _, gw = row_gradients(axes, j, (xs[lane], ys[lane], 0.0), g, sides, off)
            column = from_middle(j, columns)
            x0, y0, w0 = x0 + gx, y0 + gy, w0 + gw
            x1, y1, w1 = x1 + gx * column, y1 + gy * column, w1 + gw * column
            if j == columns - 1:
                y = from_middle(i, rows)
                add_row(sums, 0, x0, x1, y, 0)
                add_row(sums, 1, y0, y1, y, 0)
                add_row(sums, 3, w0, w1, y, 0)
                x0, y0, w0, x1, y1, w1 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        return x0, y0, w0, x1, y1, w1

    return inlined(take_gradient)
