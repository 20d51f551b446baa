"""The division of an output into bands and tiles of rows, and of a row into blocks of pixels."""

import functools
from typing import NamedTuple

from ..math.coordinates import FAR, MIDDLE
from ..math.jit import scalar
from .simd.vectors import LANES

# The number of rows in a band: their contributions to theta's gradient are summed first.
BAND = 32

# The largest number of bands in a tile. A task computes all rows of a tile, a few blocks of columns
# at a time, so that what the tile reads stays in cache and within few pages of memory.
TILE_BANDS = 4
TILE_ROWS = TILE_BANDS * BAND


class Tile(NamedTuple):
    """Rows ``start`` to ``end`` - 1 of samples n, which sample image m."""

    m: int
    n: int
    start: int
    end: int
    columns: int
    blocked: bool  # whether its rows are divided into blocks, by :func:`can_block`


@functools.lru_cache(1024)
def bands_per_tile(batch, rows, workers):
    """The number of bands in a tile of a gradient with which the workers finish first.

    Of equally good numbers it is the largest: then fewer rows of the image are read by two tiles.
    """
    bands = -(-rows // BAND)

    def time(tall):
        tiles = batch * -(-bands // tall)
        return -(-tiles // workers) * (tall + 0.3)

    return min(range(TILE_BANDS, 0, -1), key=time)


@functools.lru_cache(1024)
def rows_per_tile(batch, rows, workers):
    """The number of rows in a tile of samples with which the workers finish first.

    A tile of samples need not be whole bands, so that workers get equal shares.
    """
    least = max(1, -(-rows // TILE_ROWS))

    def time(tiles):
        return -(-batch * tiles // workers) * (-(-rows // tiles) + 0.3 * BAND)

    return max(1, -(-rows // min(range(least, least + workers), key=time)))


# --- Blocks of a row ------------------------------------------------------------------------------


def has_blocks(height, width, columns):
    """Whether rows of ``columns`` samples are divided into blocks: see :mod:`.simd`."""
    small = max(height, width) < FAR and height * width < 2**31
    return columns >= LANES and width > 1 and small


can_block = scalar(has_blocks)  # for compiled code


@scalar
def block_count(columns):
    """The number of blocks of a row."""
    return (columns + LANES - 1) // LANES


@scalar
def block_span(k, columns):
    """First column and last + 1 of block k; the last block is moved back to end with the row."""
    first = max(0, min(k * LANES, columns - LANES))
    return first, min(first + LANES, columns)


@scalar
def block_origin(j, first, columns):
    """The column from which :func:`.coordinates.along_row` counts column j: its block's first.

    A row too short for blocks may have long steps. There each pixel is the middle of a block of its
    own.
    """
    return first if columns >= LANES else j - MIDDLE
