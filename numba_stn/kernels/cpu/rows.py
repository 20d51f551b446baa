"""Rows of blocks, as the CPU loops of :mod:`.backend` and :mod:`.interleaved` walk over them.

Where a row reads, how it is divided into blocks, and which of them are inside the image.
``coords``, ``off`` and ``sides`` are those of :mod:`.backend`.
"""

import functools

import numpy as np
from numba.core import types
from numba.extending import overload

from ..math.coordinates import (
    AFFINE,
    BICUBIC,
    BILINEAR,
    FAR,
    FILL,
    MIDDLE,
    PROJECTIVE,
    REFLECTION,
    WRAP,
    ZEROS,
    affine_axis,
    affine_start,
    along_row,
    middle,
    scalar,
    split,
    unnormalize_slope,
)
from .simd.addresses import SLOTS
from .simd.vectors import LANES

# A row's block fetches into the cache what the row so many rows later will read. The processor
# does not foresee a turned image's lines, and a line from memory takes as long as three blocks.
ROWS_AHEAD = 8

# Rows whose shares of theta's gradient are added up before others.
BAND = 32

# Bands of rows that a task works through together, at most, a few blocks' columns at a time: what
# such a tile reads stays in cache, and within few pages.
TALL = 4


def tile_height(batch, rows, workers):
    """Bands of rows to a tile of gradients, so that no worker waits long for another's last tile.

    The taller, the fewer lines of the image are read by two tiles.
    """
    bands = -(-rows // BAND)

    def time(tall):
        tiles = batch * -(-bands // tall)
        return -(-tiles // workers) * (tall + 0.3)

    return min(range(TALL, 0, -1), key=time)


def tile_rows(batch, rows, workers):
    """Rows to a tile of samples, which need not be whole bands: all workers get alike."""
    least = max(1, -(-rows // (TALL * BAND)))

    def time(tiles):
        return -(-batch * tiles // workers) * (-(-rows // tiles) + 0.3 * BAND)

    return max(1, -(-rows // min(range(least, least + workers), key=time)))


# --- Coordinate sources ---------------------------------------------------------------------------


@scalar
def image_map(source, coords, n, sides, off):
    """All that rows of samples n have in common: :func:`.coordinates.affine_axis` of x and of y.

    For a grid, half the image's sides and their middles.
    """
    h, w, rows, columns = sides
    zero = np.float64(0)
    if source != AFFINE:
        return (
            (unnormalize_slope(w, off), zero, zero, middle(w, off)),
            (unnormalize_slope(h, off), zero, zero, middle(h, off)),
        )
    x0, x1, x2 = coords[n, 0, 0, 0], coords[n, 0, 0, 1], coords[n, 0, 0, 2]
    y0, y1, y2 = coords[n, 0, 1, 0], coords[n, 0, 1, 1], coords[n, 0, 1, 2]
    return (
        affine_axis(x0, x1, x2, w, columns, rows, off),
        affine_axis(y0, y1, y2, h, columns, rows, off),
    )


@scalar
def row_map(source, axes, i, sides):
    """Start and step of x, then of y: along output row i, or of a normalised coordinate."""
    h, w, rows, _ = sides
    x, y = axes
    if source != AFFINE:
        return x[3], x[0], y[3], y[0]
    return affine_start(x, i, w, rows), x[0], affine_start(y, i, h, rows), y[0]


@scalar
def elements_ahead(source, axes, sides):
    """Where a later row will read: so many elements from where this one does; 0: not known."""
    far_x, far_y = ROWS_AHEAD * axes[0][1], ROWS_AHEAD * axes[1][1]
    if source != AFFINE or not (abs(far_x) < sides[1] and abs(far_y) < sides[0]):
        return 0
    return int(far_y) * sides[1] + int(far_x)


@scalar
def point(source, coords, row, n, i, j, first, real):
    """Input pixel coordinate (x, y) that output pixel (i, j) of image n reads, in float64.

    ``first`` is its block's first column, ``real`` the type of the images.
    """
    if source == AFFINE:
        return (
            along_row(row[0], row[1], first, j - first, real),
            along_row(row[2], row[3], first, j - first, real),
        )
    x, y = coords[n, i, j, 0], coords[n, i, j, 1]
    return from_grid(x, row[0], row[1], real), from_grid(y, row[2], row[3], real)


def from_grid(c, start, step, real):
    """Pixel coordinate ``start + step c`` in float64; of float32 by :func:`.coordinates.split`."""
    raise NotImplementedError("for compiled code")


@overload(from_grid)
def _from_grid(c, start, step, real):
    if c == real.dtype == types.float32:
        return lambda c, start, step, real: split(c, start, step)
    return lambda c, start, step, real: start + step * np.float64(c)


# --- Blocks ---------------------------------------------------------------------------------------


@scalar
def can_block(height, width, columns):
    """Whether rows of so many columns are done in blocks: see :mod:`.bilinear`."""
    small = max(height, width) < FAR and height * width < 2**31
    return columns >= LANES and width > 1 and small


@scalar
def block_count(columns):
    """Blocks of a row."""
    return (columns + LANES - 1) // LANES


@scalar
def block_span(k, columns):
    """First column and last + 1 of block k; the last block is moved back to end with the row."""
    first = max(0, min(k * LANES, columns - LANES))
    return first, min(first + LANES, columns)


@scalar
def origin(j, first, columns):
    """Column that :func:`.coordinates.along_row` counts pixel j from: the first one of its block.

    A row too short for blocks has long steps for their size: there each pixel is its own middle.
    """
    return first if columns >= LANES else j - MIDDLE


@scalar
def first_slot(chunk, i):
    """The block that has the workspace's first slot: a row's chunk and the next take turns."""
    return chunk - SLOTS * (i & 1)


@scalar
def touching(limits, first, stop):
    """Blocks ``first`` to ``stop`` - 1 but for those of a row that reach no tap."""
    return max(first, limits[2] // LANES), min(stop, (limits[3] + LANES - 1) // LANES)


@scalar
def between(start, step, inverse, low, high, columns):
    """Columns from which on and up to which ``start + step j`` is in [low, high)."""
    one, two = (low - start) * inverse, (high - start) * inverse
    if step == 0.0:
        one, two = (-1.0, np.float64(columns)) if low <= start < high else (0.0, 0.0)
    left, right = max(min(one, two), -1.0), min(max(one, two), np.float64(columns))
    some = low < high and left < right
    return (int(np.floor(left)) + 1, int(np.ceil(right))) if some else (0, 0)


@scalar
def reaching(start, step, columns):
    """Columns from which on and up to which ``start + step j`` may be 0 or more."""
    if step == 0.0:
        return 0, columns if start >= 0.0 else 0
    root = min(max(-start / step, -1.0), np.float64(columns))
    if step > 0.0:
        return max(int(np.floor(root)), 0), columns
    return 0, min(int(np.ceil(root)) + 1, columns)


@scalar
def reads_nothing(limits, first, last):
    """Whether no tap of a row's columns ``first`` to ``last`` - 1 is inside."""
    return first >= limits[3] or last <= limits[2]


@scalar
def slack(step):
    """More than a coordinate of an affine row is ever rounded by."""
    return 1e-3 * (1.0 + abs(step))


@scalar
def row_limits(source, padding, mode, row, inverse, top, bottom, right, pitch, sides):
    """What :func:`.addresses.place` wants to know of a row.

    First two numbers: of an affine row, the columns from which on and up to which all taps are
    inside; of others, the first row and the last + 1 that taps may be in. Then the columns between
    which there are any taps, the pitch by which offsets count, and the last + 1 column that taps
    may be in. ``inverse`` are 1 by the steps of x and of y, of an affine row.
    """
    columns = sides[3]
    if source != AFFINE:
        return top, bottom, 0, columns, pitch, right
    return affine_limits(padding, mode, row, inverse, top, bottom, right, pitch, sides)


@scalar
def line_limits(source, padding, mode, line, right, sides):
    """The :func:`row_limits` in a whole image of a row whose x and y may have a divisor.

    ``line`` has start and step of x, of y, and of the divisor.
    """
    height, width = sides[:2]
    if source == PROJECTIVE:
        left, stop = projected_limits(padding, mode, line, sides)
        return 0, height, left, stop, width, right
    inverse = (1.0 / line[1], 1.0 / line[3])
    return row_limits(source, padding, mode, line[:4], inverse, 0, height, right, width, sides)


@scalar
def projected_limits(padding, mode, line, sides):
    """The columns of a projective row between which there are any taps.

    As long as the divisor keeps its sign, an edge is crossed where numerators are as large as so
    many divisors.
    """
    height, width, _, columns = sides
    x0, xs, y0, ys, w0, ws = line
    last = w0 + ws * (columns - 1)
    least = min(abs(w0), abs(last))
    most = abs(x0) + abs(y0) + (abs(xs) + abs(ys)) * columns + abs(w0) + abs(last)
    if padding not in (ZEROS, FILL) or not (w0 * last > 0.0 and most < 1e12 * least):
        return 0, columns
    sign, margin = (1.0 if w0 > 0.0 else -1.0), (2.0 if mode == BICUBIC else 1.0) + 1e-3
    low, high = 0, columns
    for start, step, side in ((x0, xs, width), (y0, ys, height)):
        one, two = reaching((start + margin * w0) * sign, (step + margin * ws) * sign, columns)
        low, high = max(low, one), min(high, two)
        far = side - 1 + margin
        one, two = reaching((far * w0 - start) * sign, (far * ws - step) * sign, columns)
        low, high = max(low, one), min(high, two)
    return low, max(low, high)


@scalar
def affine_limits(padding, mode, row, inverse, top, bottom, right, pitch, sides):
    """The :func:`row_limits` of an affine row."""
    height, width, _, columns = sides
    tame = abs(row[0]) + abs(row[1]) + abs(row[2]) + abs(row[3]) < 1e15  # and not NaN
    if not tame:
        return 0, 0, 0, columns, pitch, right
    least = 0.0 if padding == ZEROS else 1.0
    margin = 1.0 if mode == BICUBIC else 0.0
    x, y = slack(row[1]) + margin, slack(row[3]) + margin
    first, last = between(row[0], row[1], inverse[0], least + x, right - 1 - x, columns)
    one, two = between(row[2], row[3], inverse[1], max(least, top) + y, bottom - 1 - y, columns)
    first, last = max(first, one), min(last, two)
    if padding in (REFLECTION, WRAP) or (first == 0 and last == columns):
        return first, last, 0, columns, pitch, right
    # What is clipped to an edge is read there.
    none, infinite = padding in (ZEROS, FILL), 1e30
    left, stop = (0, columns)
    if none:
        left, stop = between(row[0], row[1], inverse[0], -1 - x, width + x, columns)
    # What is clipped to row 0 has a tap in row 1 too, of weight 0, which makes NaN of infinity.
    low = top - 1 - y if none or top > 1 else -infinite
    high = bottom + y if none or bottom < height else infinite
    one, two = between(row[2], row[3], inverse[1], low, high, columns)
    return first, last, max(left, one), min(stop, two), pitch, right


@scalar
def find_rows(source, padding, axes, sides, first, last, top, bottom, pitch, maps, limits):
    """Fill in :func:`row_map` and :func:`row_limits` for rows first to last - 1."""
    inverse = (1.0 / axes[0][0], 1.0 / axes[1][0])
    for i in range(first, last):
        row = row_map(source, axes, i, sides)
        found = row_limits(
            source, padding, BILINEAR, row, inverse, top, bottom, sides[1], pitch, sides
        )
        keep(i - first, row, found, maps, limits)


@scalar
def keep(r, row, found, maps, limits):
    """Keep what was found for the r-th of some rows."""
    for k in range(len(row)):
        maps[r, k] = row[k]
    for k in range(6):
        limits[r, k] = found[k]


@functools.cache
def make_found_row(numbers):
    """Function: what was kept for the r-th row, whose map has so many numbers, 4 or 6."""
    if numbers == 6:
        return scalar(lambda maps, limits, r: (_six(maps, r), _six(limits, r)))
    return scalar(lambda maps, limits, r: (
        (maps[r, 0], maps[r, 1], maps[r, 2], maps[r, 3]), _six(limits, r),
    ))  # fmt: skip


@scalar
def _six(rows, r):
    return rows[r, 0], rows[r, 1], rows[r, 2], rows[r, 3], rows[r, 4], rows[r, 5]
