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
    write_positions, strides_of = make_write_positions(source, mode), make_strides(channels_last)
    accumulate = make_accumulate(mode, padding)

    def vjp_images(dsamples, coords, off, bands, dimages):
        count, channels, sides = lengths(dimages)
        batch, _, sizes = lengths(dsamples)
        (_, h, w), (_, rows, columns), real = sides, sizes, dimages.dtype.type
        sums, given = dimages.reshape(dimages.size), dsamples.reshape(dsamples.size)
        strides, blocked = strides_of((channels, h, w), (rows, columns)), can_block(h, w, columns)
        for task in prange(count * bands):
            m, band = task // bands, task % bands
            top, bottom = band * h // bands, (band + 1) * h // bands
            arrays, where = borrowed(((sums, given), coords))
            clear_rows(arrays[0], m * channels * h * w, channels, (top, bottom), strides, w)
            x, y = stack_memory(POSITIONS), stack_memory(POSITIONS)
            first_n, last_n = (m, m + 1) if count > 1 else (0, batch)
            for line in range(first_n * rows, last_n * rows):
                n, i = line // rows, line % rows
                axes = row_of(where, n, 0, i, sides, sizes, off)
                for k in range(block_count(columns)):
                    first, stop = block_span(k, columns)
                    at = (n, i, first, stop, columns)
                    write_positions(where, axes, at, blocked, real, x, y)
                    start = n * channels * rows * columns + (i * columns + first) * strides[4]
                    span = (k * LANES - first, stop - first)
                    block = (m * channels * h * w, start, *span, channels)
                    accumulate(arrays, (x, y), block, (top, bottom), (h, w), strides, off)
        return stamp

    return cpu_launch.jit(vjp_images, parallel)


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
    write_positions, strides_of = make_write_positions(source, mode), make_strides(channels_last)
    position_gradients = make_position_gradients(mode, padding)
    take_gradient = _make_take_gradient(source)

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
            sums = np.zeros((3, 4))
            memory = stack_memory(POSITIONS), stack_memory(POSITIONS)
            before = stack_memory(POSITIONS), stack_memory(POSITIONS)
            for i in range(part * ROWS_PER_PART, min(rows, (part + 1) * ROWS_PER_PART)):
                axes = row_of(where, n, 0, i, sides, sizes, off)
                state = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
                for k in range(block_count(columns)):
                    first, stop = block_span(k, columns)
                    at = (n, i, first, stop, columns)
                    write_positions(where, axes, at, blocked, real, memory[0], memory[1])
                    copy_positions(memory, before)
                    start = n * channels * rows * columns + (i * columns + first) * strides[4]
                    span = (k * LANES - first, stop - first)
                    block = (m * channels * h * w, start, *span, channels)
                    position_gradients(arrays, memory, block, (h, w), strides, off, real(0))
                    task = (dgrid, axes, memory, before, (n, i, first), span, sides, sizes, off)
                    state = take_gradient(task, state)
                y = from_middle(i, rows)
                for axis in range(3):
                    add_row(sums, axis, state[axis], state[3 + axis], y, 0)
            if source != GRID:
                # Assigning the array would compile Numba's message about different shapes: 2 s.
                for axis in range(3):
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
def _make_take_gradient(source):
    """Function: write a block's gradients to the grid's, or add a matrix's to the sums of a row.

    The sums are those of the gradients in x, y and z, then of those times the column.
    """
    row_gradients = make_theta_row_gradients(source)

    def take_gradient(task, state):
        dgrid, axes, memory, before, (n, i, first), span, sides, sizes, off = task
        gxs, gys = (
            carray(memory[0], (LANES,), np.float64),
            carray(memory[1], (LANES,), np.float64),
        )
        xs, ys = (carray(before[0], (LANES,), np.float64), carray(before[1], (LANES,), np.float64))
        x0, y0, z0, x1, y1, z1 = state
        for lane in range(span[0], span[1]):
            j, g = first + lane, (gxs[lane], gys[lane], 0.0)
            if source == GRID:
                dgrid[n, i, j, 0] = g[0] * unnormalize_slope(sides[2], off)
                dgrid[n, i, j, 1] = g[1] * unnormalize_slope(sides[1], off)
            else:
                pixel = (xs[lane], ys[lane], 0.0)
                gx, gy, gz = row_gradients(axes, j, pixel, g, sides, off)
                column = from_middle(j, sizes[2])
                x0, y0, z0 = x0 + gx, y0 + gy, z0 + gz
                x1, y1, z1 = x1 + gx * column, y1 + gy * column, z1 + gz * column
        return x0, y0, z0, x1, y1, z1

    return inlined(take_gradient)
