"""Patches: rectangles of a large output, each computed from a crop of a large image.

A patch has the bits that the whole output has there. So its coordinates are those of the whole:
they are computed by the same operations, from the same numbers, and only then counted from the
crop's first pixel. The taps of a padding are those of the whole image, too: a crop contains all of
them, and reaches an edge of the image wherever a sample is padded there.
"""

import functools
from typing import NamedTuple

import numpy as np
from numba import prange

from .. import cpu_launch
from ..math.coordinates import along_row, along_row_evenly
from ..math.jit import inlined, scalar
from ..math.padding import MISSING, pad, tap_index
from ..math.sampler_kind import MIRROR, NEAREST, PROJECTIVE, REFLECTION, WRAP
from .coordinate_sources import make_input_pixel, make_row
from .limits import divided_row_limits
from .simd.interpolation import VECTOR_MODES
from .simd.memory import borrowed
from .simd.vectors import LANES
from .tiles import block_count, block_origin

# A coordinate that is never reached.
NEVER = 2**31 - 1


class Crop(NamedTuple):
    """The part of an axis of the image that is read.

    Pixel i of the image, with i from ``cut`` on replaced by ``i - jump``, has the index
    ``i - start`` in the crop. ``cut`` and ``jump`` are for the pixels before the first one, which
    WRAP takes from the end: they are the crop's last ones.
    """

    start: int
    cut: int = NEVER
    jump: int = 0


class Frame(NamedTuple):
    """Where a patch is in the output, and a crop in the image."""

    sides: tuple[int, int]  # of the image, (H, W)
    sizes: tuple[int, int]  # of the output, (H_out, W_out)
    first: tuple[int, int]  # row and column of the patch's first pixel
    y: Crop
    x: Crop

    def numbers(self):
        """All of them, for kernels."""
        return np.array([each for part in self for each in part], np.int64)


def whole_frame(sides, sizes):
    """The numbers of the frame of an output that is computed at once."""
    return Frame(sides, sizes, (0, 0), Crop(0), Crop(0)).numbers()


@scalar
def unpack_frame(numbers):
    """The parts of a :class:`Frame`."""
    n = numbers
    return (n[0], n[1]), (n[2], n[3]), (n[4], n[5]), (n[6], n[7], n[8]), (n[9], n[10], n[11])


@functools.cache
def _make_place(mode, padding):
    """Function: a position in the image -> the same in the crop; ``period`` is that of padding.

    In nearest mode it is that of the pixel which is read, or NaN.
    """
    folds = padding in (WRAP, REFLECTION, MIRROR)

    def place(c, size, crop, period):
        start, cut, _ = crop
        if mode == NEAREST:
            c, _, some = pad(c, size, mode, padding, 1.0)
            index = tap_index(int(np.rint(c)), size, mode, padding, 1.0) if some else MISSING
            c = float(index) if index != MISSING else np.nan
        elif folds:
            c, _, _ = pad(c, size, mode, padding, 1.0)
        if c >= cut:
            c -= period
        return c - start

    return inlined(place)


@functools.cache
def make_positions(kind, parallel):
    """Kernel: the matrix of a whole output -> the positions of a patch in the crop."""
    stamp = cpu_launch.stamp(parallel)
    source, mode, padding = kind.source, kind.of_coefficients().mode, kind.padding
    row_of, input_pixel = make_row(source, 2, True), make_input_pixel(source, 2, mode)
    place, along = _make_place(mode, padding), along_row_evenly if mode == NEAREST else along_row
    blocked = mode in VECTOR_MODES  # samples of others are computed one by one

    def positions(coords, frame, periods, zero, grid):
        (h, w), (rows, columns), (top, left), crop_y, crop_x = unpack_frame(frame)
        real = type(zero)
        for r in prange(grid.shape[1]):
            matrix, out = borrowed((coords, grid))
            i = top + r
            row = row_of(matrix, 0, 0, i, (1, h, w), (1, rows, columns), 1.0)
            line, last = (*row[0], *row[1], *row[3]), columns
            limits = divided_row_limits(source, padding, mode, line, w, (h, w, rows, columns))
            if blocked and columns >= LANES and limits.high == block_count(columns):
                last = columns - LANES
            for k in range(out.shape[2]):
                j = left + k
                if source == PROJECTIVE:
                    x, y, _ = input_pixel(matrix, row, 0, 0, i, j, columns, real)
                else:  # the last block, if it is sampled, is so after the one that it overlaps
                    first = block_origin(j, last if j >= last else j // LANES * LANES, columns)
                    x = along(line[0], line[1], first, j - first, real)
                    y = along(line[2], line[3], first, j - first, real)
                out[0, r, k, 0] = place(x, w, crop_x, periods[1])
                out[0, r, k, 1] = place(y, h, crop_y, periods[0])
        return stamp

    return cpu_launch.jit(positions, parallel)


def positions(kind, matrix, frame, shape, zero):
    """The sampling positions of a patch of this shape, (1, rows, columns, 2), in the crop."""
    grid = np.empty((1, *shape, 2))
    periods = tuple(float(period_of(kind.padding, side)) for side in frame.sides)
    cpu_launch.run(
        make_positions, (kind,), grid.size * 2,
        matrix.reshape(1, 3, 3), frame.numbers(), periods, zero, grid,
    )  # fmt: skip
    return grid


def period_of(padding, side):
    """The number of pixels after which a padded side repeats."""
    return side if padding == WRAP else 2 * side - 2 * (padding == MIRROR)
