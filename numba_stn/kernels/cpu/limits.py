"""Which blocks of a row have taps, and which have all taps inside the image."""

from typing import NamedTuple

import numpy as np

from ..math.jit import scalar
from ..math.sampler_kind import (
    AFFINE,
    BEFORE,
    FILL,
    MIRROR,
    NEAREST,
    PROJECTIVE,
    REFLECTION,
    TAPS,
    WRAP,
    ZEROS,
)
from .simd.vectors import LANES
from .tiles import block_count


class Window(NamedTuple):
    """The part of the image that a task reads or writes, and the pitch of offsets in it."""

    top: int
    bottom: int  # rows top to bottom - 1
    right: int  # columns 0 to right - 1
    pitch: int  # elements from a row to the next


class Limits(NamedTuple):
    """The limits of a row, for the traversal and :func:`.addresses.compute_addresses`.

    All taps of the columns ``first`` to ``last`` - 1 of an affine row are inside. For other rows,
    ``first`` to ``last`` - 1 are the image rows that taps may be in. Only the blocks ``low`` to
    ``high`` - 1 have taps. ``pitch`` and ``right`` are those of the window.
    """

    first: int
    last: int
    low: int
    high: int
    pitch: int
    right: int


@scalar
def row_limits(source, padding, mode, row, inverse, window, sides):
    """The :class:`Limits` of a row; ``inverse`` has 1 / step of x and of y of an affine row."""
    if source == AFFINE:
        return affine_limits(padding, mode, row, inverse, window, sides)
    top, bottom, right, pitch = window
    return Limits(top, bottom, 0, block_count(sides[3]), pitch, right)


@scalar
def divided_row_limits(source, padding, mode, row, right, sides):
    """The :func:`row_limits` of a row whose x and y may have a divisor, in a whole image.

    ``row`` has start and step of x, of y, and of the divisor.
    """
    height, width = sides[:2]
    if source == PROJECTIVE:
        left, stop = projected_limits(padding, mode, row, sides)
        return Limits(0, height, left // LANES, block_count(stop), width, right)
    inverse = (1.0 / row[1], 1.0 / row[3])
    window = Window(0, height, right, width)
    return row_limits(source, padding, mode, row[:4], inverse, window, sides)


@scalar
def affine_limits(padding, mode, row, inverse, window, sides):
    """The :func:`row_limits` of an affine row."""
    height, width, _, columns = sides
    top, bottom, right, pitch = window
    tame = abs(row[0]) + abs(row[1]) + abs(row[2]) + abs(row[3]) < 1e15  # and not NaN
    if not tame:
        return Limits(0, 0, 0, block_count(columns), pitch, right)
    margin = float(BEFORE[mode])
    if mode == NEAREST and padding != FILL:
        margin = -0.5  # half a pixel outside, the nearest one is still that at the edge
    x, y = slack(row[1]) + margin, slack(row[3]) + margin
    first, last = between(row[0], row[1], inverse[0], x, right - 1 - x, columns)
    one, two = between(row[2], row[3], inverse[1], top + y, bottom - 1 - y, columns)
    first, last = max(first, one), min(last, two)
    if padding in (REFLECTION, WRAP, MIRROR) or (first == 0 and last == columns):
        return Limits(first, last, 0, block_count(columns), pitch, right)
    # With the other paddings a coordinate outside is clipped to an edge, and has taps there.
    none, infinite = padding in (ZEROS, FILL), 1e30
    left, stop = (0, columns)
    if none:
        left, stop = between(row[0], row[1], inverse[0], -1 - x, width + x, columns)
    # A coordinate clipped to row 0 also has a tap in row 1, of weight 0, where infinity gives NaN.
    low = top - 1 - y if none or top > 1 else -infinite
    high = bottom + y if none or bottom < height else infinite
    one, two = between(row[2], row[3], inverse[1], low, high, columns)
    left, stop = max(left, one), min(stop, two)
    return Limits(first, last, left // LANES, block_count(stop), pitch, right)


@scalar
def slack(step):
    """A bound of the rounding error of a coordinate of an affine row."""
    return 1e-3 * (1.0 + abs(step))


@scalar
def between(start, step, inverse, low, high, columns):
    """First column and last + 1 of those at which ``start + step j`` is in [low, high)."""
    one, two = (low - start) * inverse, (high - start) * inverse
    if step == 0.0:
        one, two = (-1.0, np.float64(columns)) if low <= start < high else (0.0, 0.0)
    left, right = max(min(one, two), -1.0), min(max(one, two), np.float64(columns))
    some = low < high and left < right
    return (int(np.floor(left)) + 1, int(np.ceil(right))) if some else (0, 0)


# --- Projective rows ------------------------------------------------------------------------------


@scalar
def projected_limits(padding, mode, line, sides):
    """First column and last + 1 of those of a projective row that may have taps.

    While the divisor w keeps its sign, the edge x = e is crossed where the numerator equals e w.
    """
    height, width, _, columns = sides
    x0, xs, y0, ys, w0, ws = line
    last = w0 + ws * (columns - 1)
    least = min(abs(w0), abs(last))
    most = abs(x0) + abs(y0) + (abs(xs) + abs(ys)) * columns + abs(w0) + abs(last)
    if padding not in (ZEROS, FILL) or not (w0 * last > 0.0 and most < 1e12 * least):
        return 0, columns
    sign, margin = (1.0 if w0 > 0.0 else -1.0), max(TAPS[mode] / 2, 1.0) + 1e-3
    low, high = 0, columns
    for start, step, side in ((x0, xs, width), (y0, ys, height)):
        one, two = reaching((start + margin * w0) * sign, (step + margin * ws) * sign, columns)
        low, high = max(low, one), min(high, two)
        far = side - 1 + margin
        one, two = reaching((far * w0 - start) * sign, (far * ws - step) * sign, columns)
        low, high = max(low, one), min(high, two)
    return low, max(low, high)


@scalar
def reaching(start, step, columns):
    """First column and last + 1 of those at which ``start + step j`` may be 0 or more."""
    if step == 0.0:
        return 0, columns if start >= 0.0 else 0
    root = min(max(-start / step, -1.0), np.float64(columns))
    if step > 0.0:
        return max(int(np.floor(root)), 0), columns
    return 0, min(int(np.ceil(root)) + 1, columns)
