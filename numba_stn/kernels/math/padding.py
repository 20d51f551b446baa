"""Padding: what a coordinate outside the image means, and what a tap outside reads.

A padding mode is added here (and named in :mod:`.kind`): in :func:`pad`, which brings a coordinate
near the image as a float, so that NaN, infinity and 1e30 become ordinary numbers before anything is
made an integer, and in :func:`tap_index`, which brings each tap into it. ``mode`` and ``padding``
are constants where these functions are called, so that no branch on them is left in a kernel.
"""

import math

from .compile import inlined, scalar
from .coordinates import last, span
from .kind import BICUBIC, FILL, REFLECTION, WRAP, ZEROS

# An index whose two taps, OUTSIDE and OUTSIDE + 1, both miss the image.
OUTSIDE = -2

# A tap that reads nothing.
MISSING = -1

# A coordinate that would be reflected more often than this is called too large to reflect.
MOST_REFLECTIONS = 2**22


# --- A coordinate: brought into the image's neighbourhood, and its slope --------------------------


@scalar
def clip(c, size):
    """Nearest coordinate in [0, S - 1]; slope 0 on and beyond both ends. NaN: the low edge."""
    real = type(c)
    high = real(last(size))
    if not c > real(0):
        return real(0), real(0)
    if c >= high:
        return high, real(0)
    return c, real(1)


@scalar
def reflect(c, size, off):
    """Mirror ``c`` at the ends of the image until it lies inside, then clip it.

    The mirrors stand at 0 and S - 1 (corners aligned) or at -1/2 and S - 1/2. NaN, infinity
    and coordinates too large to reflect exactly give the low edge.
    """
    real = type(c)
    if c >= real(0) and c <= real(last(size)):  # as it is, and not with a rounding more
        return clip(c, size)
    low = -off * real(0.5)
    length = span(size, off)
    u = abs(c - low)
    if not u < length * real(MOST_REFLECTIONS):
        return real(0), real(0)
    e = u % length
    # u - e is a whole number of lengths; rounding saves the parity where the division is inexact.
    # (In a CUDA kernel math.floor gives a float.)
    turns = int(math.floor((u - e) / length + real(0.5)))
    sign = real(1) if c >= low else real(-1)
    if turns % 2 == 0:
        inside, slope = clip(low + e, size)
        return inside, slope * sign
    inside, slope = clip(low + length - e, size)
    return inside, -slope * sign


@inlined
def wrap(c, period):
    """``c`` less whole periods, and a slope of 1; 0 and 0 where that is not exact any more."""
    real = type(c)
    if period == real(0) or not abs(c) < period * real(MOST_REFLECTIONS):
        return real(0), real(0)
    return c - real(math.floor(c / period)) * period, real(1)


@inlined
def on_side(c, size, off):
    """Whether ``c`` is on a side: between its outer edges, or aligned centres."""
    real = type(c)
    edge = off * real(0.5)
    return c >= -edge and c <= real(last(size)) + edge


@inlined
def pad(c, size, mode, padding, off):
    """Coordinate not far from the image whose taps are those of ``c``; its slope; if it has any."""
    real = type(c)
    zero, one, high = real(0), real(1), real(last(size))
    if padding == ZEROS:
        reach = real(2) if mode == BICUBIC else one
        return c, one, c >= -reach and c < high + reach
    if padding == WRAP:
        c, slope = wrap(c, real(size))
        return c, slope, True
    some = True
    if padding == FILL:
        some = on_side(c, size, off)
    if mode == BICUBIC:
        if padding == REFLECTION:
            c, slope = wrap(c, real(2) * span(size, off))
        elif not c > real(-3):  # beyond these all taps are the same pixel
            c, slope = real(-3), zero
        elif c < high + real(3):
            slope = one
        else:
            c, slope = high + real(3), zero
    elif padding == REFLECTION:
        c, slope = reflect(c, size, off)
    else:
        c, slope = clip(c, size)
    return c, slope, some


# --- A tap: the pixel that it reads ---------------------------------------------------------------


@scalar
def tap_index(i, size, mode, padding, off):
    """The pixel that tap ``i`` reads, or ``MISSING``."""
    whole = type(size)
    if 0 <= i and i < size:
        return whole(i)
    if padding == WRAP:
        return whole(i % size)
    # Elsewhere the coordinate itself is inside, and a tap that is not has a weight of 0.
    if padding == ZEROS or mode != BICUBIC:
        return whole(MISSING)
    if padding == REFLECTION:
        return reflect_index(i, size, off)
    return whole(0) if i < 0 else last(size)


@scalar
def reflect_index(i, size, off):
    """Pixel that an integer is reflected to, at the mirrors of :func:`.coordinates.reflect`."""
    whole = type(size)
    length = whole(last(size) + whole(off))
    if length == whole(0):
        return whole(0)
    low = whole(off)  # twice the distance of the lower mirror from 0
    k = i % whole(2 * length)
    return whole(k) if k < size else whole(2 * length - low - k)


# --- Forward derivatives --------------------------------------------------------------------------


@scalar
def padded_tangent(slope, way):
    """How far a padded coordinate moves; where its slope is 0 it stays, whatever the way."""
    still = type(way)(0)
    return slope * way if slope != still and way != still else still


@scalar
def slope_times(slope, way):
    """Change of a value whose coordinate moves; without a way there is none, whatever its slope."""
    still = type(way)(0)
    return slope * way if way != still else still
