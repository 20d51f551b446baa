"""The sampling positions of a block of an output row, in memory for vector code."""

import functools

import numpy as np
from numba import carray

from ..math.jit import inlined
from ..math.sampler_kind import PROJECTIVE
from .coordinate_sources import make_input_pixel, make_row
from .simd.checked_taps import store_positions
from .simd.vectors import LANES


@functools.cache
def make_flat(source):
    """Function: a row of :func:`.coordinate_sources.make_row` as four numbers, or six."""
    if source == PROJECTIVE:
        return inlined(lambda row: (*row[0], *row[1], *row[3]))
    return inlined(lambda row: (*row[0], *row[1]))


@functools.cache
def make_write_positions(kind):
    """Function: write the positions of the pixels ``first`` to ``stop`` - 1 of an output plane.

    It is called as ``f(coords, axes, (n, first, stop), frame, blocked, real, x, y)``: the pixels,
    LANES at most, are counted over all rows of samples n. If they are ``blocked``, all of them are
    in one row, and ``axes`` is that row. ``frame`` is (sides, sizes, off); ``x`` and ``y`` point to
    memory for LANES numbers, and what follows the last pixel is arbitrary.
    """
    source, mode, _, _, _, between = kind
    flat, input_pixel = make_flat(source), make_input_pixel(source, 2, mode)
    row_of = make_row(source, 2, between)

    def write_positions(coords, axes, at, frame, blocked, real, x, y):
        (n, first, stop), (sides, sizes, off) = at, frame
        columns, before = sizes[2], -1
        if blocked:
            i = first // columns
            where = (n, i, first - i * columns)
            store_positions(source, mode, coords, flat(axes), where, real(0), x, y)
            return
        xs, ys = carray(x, (LANES,), np.float64), carray(y, (LANES,), np.float64)
        for lane in range(LANES):
            pixel = min(first + lane, stop - 1)
            i = pixel // columns
            if i != before:
                axes, before = row_of(coords, n, 0, i, sides, sizes, off), i
            j = pixel - i * columns
            xs[lane], ys[lane], _ = input_pixel(coords, axes, n, 0, i, j, columns, real)

    return inlined(write_positions)


@functools.cache
def make_strides(channels_last):
    """Function: (channels, H, W), (H_out, W_out) -> elements from one to the next.

    From one channel, row and column of the images, and one channel and column of the samples.
    """
    if channels_last:
        return inlined(lambda shape, size: (1, shape[2] * shape[0], shape[0], 1, shape[0]))
    return inlined(lambda shape, size: (shape[1] * shape[2], shape[2], 1, size[0] * size[1], 1))
