"""Images with a frame, and the traversal of outputs in strips.

An image that is small enough is copied into a frame on the task's stack. Then all taps of all
positions can be read there, and rows are processed in strips (:mod:`.simd.strips`), under affine
maps only. :mod:`.traversal` is for all other outputs.
"""

import functools

import numpy as np
from numba import carray

from ..math.coordinates import FAR
from ..math.jit import inlined, scalar
from ..math.padding import tap_index
from ..math.sampler_kind import AFFINE, BICUBIC, BORDER, REFLECTION, ZEROS
from .simd.memory import stack_memory
from .simd.strips import RINGS, STRIP, compute_strip
from .simd.vectors import LANES
from .tiles import TILE_ROWS, block_count, block_span

# Bytes for the frames of a task, which stay in the first cache.
FRAMES = 2**15

# Bytes for the first coordinates of a tile's rows, and of the last strip's rows beyond them.
STARTS = 2 * (TILE_ROWS + STRIP) * 8


def frame_bytes(mode, sides, pixel):
    """Bytes of a framed plane; ``pixel`` is the number of bytes of a pixel."""
    height, width = sides
    return (height + 2 * RINGS[mode]) * (width + 2 * RINGS[mode]) * pixel


def framed_planes(kind, fill, sides, pixel, size):
    """The number of planes that fit into a task's frames; 0 if the kind or the sizes do not suit.

    What is read outside must be 0, and an output should have a quarter of the image's pixels.
    """
    area = sides[0] * sides[1] * pixel
    if kind.source != AFFINE or kind.dims != 2 or size[1] < LANES or area == 0:
        return 0
    if kind.mode not in RINGS or kind.padding not in (ZEROS, BORDER, REFLECTION):
        return 0
    if kind.padding == ZEROS and fill.any():
        return 0
    if 4 * size[0] * size[1] < sides[0] * sides[1]:
        return 0
    return FRAMES // frame_bytes(kind.mode, sides, pixel)


@functools.cache
def make_copy_to_frame(padding, mode):
    """Function: fill a framed plane; ``size`` is (H, W, elements of a pixel).

    It is called as ``copy(frame, at, image, first, size, off)``: the elements of one-dimensional
    arrays, and the first ones of both planes. Taps outside read zeros. Only bicubic ones may
    read a pixel of the image instead.
    """
    ring, pixels = RINGS[mode], padding != ZEROS and mode == BICUBIC

    def copy_to_frame(frame, at, image, first, size, off):
        h, w, channels = size
        u, zero = np.uint64, frame.dtype.type(0)
        pitch, length = (w + 2 * ring) * channels, w * channels
        for y in range(-ring, h + ring):
            row = at + (y + ring) * pitch
            if pixels:
                source = first + tap_index(y, h, mode, padding, off) * length
                for x in range(-ring, w + ring):
                    pixel = source + tap_index(x, w, mode, padding, off) * channels
                    for c in range(channels):
                        frame[u(row + (x + ring) * channels + c)] = image[u(pixel + c)]
            elif y < 0 or y >= h:
                for k in range(pitch):
                    frame[u(row + k)] = zero
            else:
                for k in range(ring * channels):
                    frame[u(row + k)] = frame[u(row + pitch - 1 - k)] = zero
                for k in range(length):
                    frame[u(row + ring * channels + k)] = image[u(first + y * length + k)]

    return scalar(copy_to_frame)


@functools.cache
def make_from_frame(padding, mode):
    """Function: write the sums in framed planes, (planes, H', W'), to those of image n.

    Each pixel also gets, in a fixed order, the sums of the pixels of the frame that are read from
    it.
    """
    ring, pixels = RINGS[mode], padding != ZEROS and mode == BICUBIC

    def from_frame(frame, images, n, first, off):
        h, w = images.shape[2:]
        for plane in range(frame.shape[0]):
            c = first + plane
            for y in range(h):
                for x in range(w):
                    images[n, c, y, x] = frame[plane, y + ring, x + ring]
            if not pixels:
                continue
            for y in range(-ring, h + ring):
                row, inner = tap_index(y, h, mode, padding, off), 0 <= y < h
                for x in range(-ring, w + ring):
                    if not (inner and 0 <= x < w):
                        column = tap_index(x, w, mode, padding, off)
                        images[n, c, row, column] += frame[plane, y + ring, x + ring]

    return scalar(from_frame)


@functools.cache
def make_each_strip(padding, mode, row_of, visit, outside):
    """Function: visit the strips of a task's tile.

    The task has n, ``start`` and ``end`` (its rows), ``shape`` (H, W, H_out, W_out), ``off``, and
    ``memory`` for the slots and perhaps slopes. ``row_of(task, i)`` is (x, step of x, y, step of
    y). ``visit(task, where, number)`` is called for each strip, or ``outside(task, where)`` if it
    has no taps. ``where`` is (first row, rows, first column, first slot), and ``number`` that of
    the strip's blocks in their rows. The slots of a strip are computed before the strip before it
    is visited: so the processor need not wait for them.
    """

    def each_strip(task, zero):
        start, end, (h, w, _, columns) = task.start, task.end, task.shape
        memory, blocks = stack_memory(STARTS), block_count(columns)
        starts = carray(memory, (2, TILE_ROWS + STRIP), np.float64)
        for i in range(start, end + STRIP):
            starts[0, i - start], _, starts[1, i - start], _ = row_of(task, min(i, end - 1))
        _, x_step, _, y_step = row_of(task, start)
        tame = is_tame(starts, end - start, (x_step, y_step), columns)
        count = (end - start + STRIP - 1) // STRIP * blocks
        touches, next_touches = np.int64(0), np.int64(0)
        for k in range(-1, count):
            touches = next_touches
            if k + 1 < count:
                above, number = (k + 1) // blocks * STRIP, (k + 1) % blocks
                column, slot = block_span(number, columns)[0], ((k + 1) & 1) * STRIP
                row = (above, TILE_ROWS + STRIP, x_step, y_step, column, slot, tame)
                next_touches = compute_strip(
                    padding, mode, zero, memory, row, (h, w, task.off), task.memory
                )
            if k < 0:
                continue
            above, number = k // blocks * STRIP, k % blocks
            column, high = block_span(number, columns)[0], min(STRIP, end - start - above)
            where = (start + above, high, column, (k & 1) * STRIP)
            if touches:
                visit(task, where, number)
            else:
                outside(task, where)

    return inlined(each_strip)


@scalar
def is_tame(starts, rows, steps, columns):
    """Whether the coordinates of these rows are numbers whose integer parts float32 holds."""
    last, across = rows - 1, (abs(steps[0]) + abs(steps[1])) * columns
    one = abs(starts[0, 0]) + abs(starts[1, 0])
    two = abs(starts[0, last]) + abs(starts[1, last])
    return one + across < FAR and two + across < FAR
