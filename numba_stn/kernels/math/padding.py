"""Padding: what a coordinate outside the image means, and what a tap outside reads.

A padding mode is added here (and named in :mod:`.sampler_kind`): in :func:`pad`, which brings a
coordinate near the image as a float, so that NaN, infinity and 1e30 become ordinary numbers before
anything is made an integer, and in :func:`tap_index`, which brings each tap into it. ``mode`` and
``padding`` are constants where these functions are called, so that no branch on them is left in a
kernel.
"""

import math

from .coordinates import last, span
from .jit import inlined, scalar
from .sampler_kind import (
    BICUBIC,
    FILL,
    LANCZOS4,
    MIRROR,
    REFLECTION,
    SPLINE2,
    SPLINE_MARGIN,
    TAPS,
    WRAP,
    ZEROS,
)

# An index for which the taps OUTSIDE and OUTSIDE + 1 both miss the image.
OUTSIDE = -2

# The index of a tap that reads nothing.
MISSING = -1

# A coordinate that would be reflected more often than this is too large to reflect exactly.
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

    The mirrors are at 0 and S - 1 (corners aligned) or at -1/2 and S - 1/2. NaN, infinity
    and coordinates too large to reflect exactly give the low edge.
    """
    real = type(c)
    if c >= real(0) and c <= real(last(size)):  # returned as it is, without another rounding
        return clip(c, size)
    low = -off * real(0.5)
    length = span(size, off)
    u = abs(c - low)
    if not u < length * real(MOST_REFLECTIONS):
        return real(0), real(0)
    e = u % length
    # u - e is a multiple of the length; rounding keeps its parity where the division is inexact.
    # (In a CUDA kernel math.floor gives a float.)
    mirrored = int(math.floor((u - e) / length + real(0.5)))
    sign = real(1) if c >= low else real(-1)
    if mirrored % 2 == 0:
        inside, slope = clip(low + e, size)
        return inside, slope * sign
    inside, slope = clip(low + length - e, size)
    return inside, -slope * sign


@inlined
def wrap(c, period):
    """``c`` modulo the period, with slope 1; 0 with slope 0 if ``c`` is too large to be exact."""
    real = type(c)
    if period == real(0) or not abs(c) < period * real(MOST_REFLECTIONS):
        return real(0), real(0)
    return c - real(math.floor(c / period)) * period, real(1)


@inlined
def on_side(c, size, off):
    """Whether ``c`` is between a side's outer edges, or outer centres if corners are aligned."""
    real = type(c)
    edge = off * real(0.5)
    return c >= -edge and c <= real(last(size)) + edge


@inlined
def on_filled_side(c, size, mode, off):
    """The same for FILL; an image of coefficients has a margin of which nothing is inside."""
    if mode >= SPLINE2 and mode < LANCZOS4:
        margin = type(size)(SPLINE_MARGIN)
        return on_side(c - type(c)(margin), type(size)(size - margin - margin), off)
    return on_side(c, size, off)


@inlined
def pad(c, size, mode, padding, off):
    """The padded coordinate, its slope, and whether it has any taps.

    It has the same taps as ``c`` and is near the image.
    """
    real = type(c)
    zero, one, high = real(0), real(1), real(last(size))
    reach = real(TAPS[mode]) * real(0.5) if mode >= BICUBIC else one
    if padding == ZEROS:
        return c, one, c >= -reach and c < high + reach
    if padding == WRAP:
        c, slope = wrap(c, real(size))
        return c, slope, True
    some = True
    if padding == FILL:
        some = on_filled_side(c, size, mode, off)
    mirrors = off if padding == REFLECTION else off * real(0)
    if mode >= BICUBIC:
        same = reach + one
        if padding in (REFLECTION, MIRROR):
            c, slope = wrap(c, real(2) * span(size, mirrors))
        elif not c > -same:  # beyond these all taps are the same pixel
            c, slope = -same, zero
        elif c < high + same:
            slope = one
        else:
            c, slope = high + same, zero
    elif padding in (REFLECTION, MIRROR):
        c, slope = reflect(c, size, mirrors)
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
    # In all other cases the coordinate is inside, and a tap outside has the weight 0.
    if padding == ZEROS or mode < BICUBIC:
        return whole(MISSING)
    if padding in (REFLECTION, MIRROR):
        return reflect_index(i, size, off if padding == REFLECTION else off * type(off)(0))
    return whole(0) if i < 0 else last(size)


@scalar
def reflect_index(i, size, off):
    """The pixel that an index is reflected to, at the mirrors of :func:`reflect`."""
    whole = type(size)
    length = whole(last(size) + whole(off))
    if length == whole(0):
        return whole(0)
    low = whole(off)  # twice the distance of the lower mirror from 0
    k = i % whole(2 * length)
    return whole(k) if k < size else whole(2 * length - low - k)


# --- Forward derivatives --------------------------------------------------------------------------


@scalar
def padded_tangent(slope, tangent):
    """Tangent of a padded coordinate; 0 where its slope is 0, even if the tangent is infinite."""
    zero = type(tangent)(0)
    return slope * tangent if slope != zero and tangent != zero else zero


@scalar
def slope_times(slope, tangent):
    """Tangent of a value with this slope; 0 where the coordinate does not move."""
    zero = type(tangent)(0)
    return slope * tangent if tangent != zero else zero
