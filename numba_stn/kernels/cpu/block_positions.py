"""The sampling positions of a block of an output row, in memory for vector code."""

import functools

import numpy as np
from numba import carray

from ..math.jit import inlined
from ..math.sampler_kind import PROJECTIVE
from .coordinate_sources import make_input_pixel
from .simd.checked_taps import store_positions
from .simd.vectors import LANES


@functools.cache
def make_flat(source):
    """Function: a row of :func:`.coordinate_sources.make_row` as four numbers, or six."""
    if source == PROJECTIVE:
        return inlined(lambda row: (*row[0], *row[1], *row[3]))
    return inlined(lambda row: (*row[0], *row[1]))


@functools.cache
def make_write_positions(source, mode):
    """Function: write the positions of the columns ``first`` to ``stop`` - 1 of a row.

    It is called as ``f(coords, axes, (n, i, first, stop, columns), blocked, real, x, y)``: ``axes``
    is the row, and ``x`` and ``y`` are pointers to memory for LANES numbers. What follows the last
    column is arbitrary.
    """
    flat, input_pixel = make_flat(source), make_input_pixel(source, 2, mode)

    def write_positions(coords, axes, where, blocked, real, x, y):
        n, i, first, stop, columns = where
        if blocked:
            store_positions(source, mode, coords, flat(axes), (n, i, first), real(0), x, y)
            return
        xs, ys = carray(x, (LANES,), np.float64), carray(y, (LANES,), np.float64)
        for lane in range(LANES):
            j = min(first + lane, stop - 1)
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
