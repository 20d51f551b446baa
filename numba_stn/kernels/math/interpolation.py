"""One axis of any sampler: which pixels a coordinate reads, with what weights and slopes.

A sampler of several axes is the product of such axes. ``mode`` and ``padding`` are constants where
these functions are called, so that only what they ask for is left of the branches. As in
:mod:`.coordinates`, the coordinate's type decides the precision, and nothing takes an array.

Padding is done twice, before and after the whole and the fraction of a coordinate are told apart:
the coordinate is brought near the image as a float (so that NaN, infinity and 1e30 become ordinary
numbers before anything is made an integer), and then each tap, a whole number, into it.
"""

import math

from .coordinates import (
    BICUBIC,
    FILL,
    MOST_REFLECTIONS,
    NEAREST,
    OUTSIDE,
    REFLECTION,
    WRAP,
    ZEROS,
    clip,
    inlined,
    last,
    reflect,
    scalar,
    span,
)

# Keys's parameter, the slope of a bicubic weight at the next pixel: PyTorch's and OpenCV's choice.
KEYS = -0.75

# A tap that reads nothing.
MISSING = -1

# How many pixels each mode reads along an axis.
TAPS = (1, 2, 4)


# --- The coordinate: into the image's neighbourhood, whole and fraction ---------------------------


@inlined
def around(c, period):
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
def near(c, size, mode, padding, off):
    """Coordinate not far from the image whose taps are those of ``c``; its slope; if it has any."""
    real = type(c)
    zero, one, high = real(0), real(1), real(last(size))
    if padding == ZEROS:
        reach = real(2) if mode == BICUBIC else one
        return c, one, c >= -reach and c < high + reach
    if padding == WRAP:
        c, slope = around(c, real(size))
        return c, slope, True
    some = True
    if padding == FILL:
        some = on_side(c, size, off)
    if mode == BICUBIC:
        if padding == REFLECTION:
            c, slope = around(c, real(2) * span(size, off))
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


@inlined
def half_to_even(c):
    """Nearest whole number, as a float; a half goes to the even one."""
    real = type(c)
    low = math.floor(c)
    part = c - real(low)
    odd = real(low) - real(2) * real(math.floor(real(low) * real(0.5))) == real(1)
    up = part > real(0.5) or (part == real(0.5) and odd)
    return real(low) + (real(1) if up else real(0))


@inlined
def place(c, size, mode, padding, off):
    """First tap, fraction, slope of the padded coordinate, and whether any tap is read."""
    real, whole = type(c), type(size)
    c, slope, some = near(c, size, mode, padding, off)
    if not some:
        return whole(OUTSIDE), real(0), real(0), False
    if mode == NEAREST:
        return whole(half_to_even(c)), real(0), real(0), True
    low = math.floor(c)
    first = whole(low) - whole(1) if mode == BICUBIC else whole(low)
    return whole(first), c - real(low), slope, True


@scalar
def tap(i, size, mode, padding, off):
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
        return mirrored(i, size, off)
    return whole(0) if i < 0 else last(size)


@scalar
def mirrored(i, size, off):
    """Pixel that an integer is reflected to, at the mirrors of :func:`.coordinates.reflect`."""
    whole = type(size)
    length = whole(last(size) + whole(off))
    if length == whole(0):
        return whole(0)
    low = whole(off)  # twice the distance of the lower mirror from 0
    k = i % whole(2 * length)
    return whole(k) if k < size else whole(2 * length - low - k)


# --- Weights of the taps, and their slopes, for a fraction ----------------------------------------


@scalar
def nearest_weights(t):
    """The one pixel."""
    return (type(t)(1),)


@scalar
def nearest_slopes(t):
    """The nearest pixel stays the same."""
    return (type(t)(0),)


@scalar
def linear_weights(t):
    """Of the lower and the upper pixel."""
    return type(t)(1) - t, t


@scalar
def linear_slopes(t):
    """Slopes of :func:`linear_weights`."""
    return type(t)(-1), type(t)(1)


@scalar
def cubic_weights(t):
    """Keys's cubic convolution: of the four pixels at distances 1 + t, t, 1 - t and 2 - t.

    (Keys 1981, equation 4, with the parameter of PyTorch and OpenCV.)
    """
    one = type(t)(1)
    return _outer(one + t), _inner(t), _inner(one - t), _outer(one + one - t)


@scalar
def cubic_slopes(t):
    """Slopes of :func:`cubic_weights`."""
    one = type(t)(1)
    return (
        _outer_slope(one + t),
        _inner_slope(t),
        -_inner_slope(one - t),
        -_outer_slope(one + one - t),
    )


@scalar
def _inner(d):
    real = type(d)
    return ((real(KEYS) + real(2)) * d - (real(KEYS) + real(3))) * d * d + real(1)


@scalar
def _inner_slope(d):
    real = type(d)
    return (real(3) * (real(KEYS) + real(2)) * d - real(2) * (real(KEYS) + real(3))) * d


@scalar
def _outer(d):
    real = type(d)
    a = real(KEYS)
    return ((a * d - real(5) * a) * d + real(8) * a) * d - real(4) * a


@scalar
def _outer_slope(d):
    real = type(d)
    a = real(KEYS)
    return (real(3) * a * d - real(10) * a) * d + real(8) * a


WEIGHTS = (nearest_weights, linear_weights, cubic_weights)
SLOPES = (nearest_slopes, linear_slopes, cubic_slopes)


# How many powers of two the magnitudes of a sample's weights may add up to, over a plane: those of
# the linear modes to 1, Keys's along an axis to 1 + 1.5 t (1 - t), at most 11/8, whose square is
# below 2.
SPREAD = (0, 0, 1)


# --- The same four numbers whatever the mode, for code that is compiled for all -------------------


@scalar
def four_weights(t, mode):
    """Weights of the taps, and zeros for those that the mode has not."""
    none = type(t)(0)
    if mode == BICUBIC:
        return cubic_weights(t)
    if mode == NEAREST:
        return type(t)(1), none, none, none
    low, high = linear_weights(t)
    return low, high, none, none


@scalar
def four_slopes(t, mode):
    """Slopes of :func:`four_weights`."""
    none = type(t)(0)
    if mode == BICUBIC:
        return cubic_slopes(t)
    if mode == NEAREST:
        return none, none, none, none
    low, high = linear_slopes(t)
    return low, high, none, none


@scalar
def covered(c, size, mode, off):
    """How much of the weights along an axis falls on the image."""
    first, t, _, some = place(c, size, mode, ZEROS, off)
    total = type(c)(0)
    if some:
        weights = four_weights(t, mode)
        for k in range(4):
            if 0 <= first + k and first + k < size:
                total += weights[k]
    return total


@scalar
def all_covered(pixel, sides, mode, padding, dims, off):
    """How much of a sample comes from inside; with FILL, all or nothing."""
    (x, y, z), (d, h, w) = pixel, sides
    real = type(x)
    if padding == FILL:
        inside = on_side(x, w, off) and on_side(y, h, off) and (dims == 2 or on_side(z, d, off))
        return real(1) if inside else real(0)
    part = covered(x, w, mode, off) * covered(y, h, mode, off)
    return part * covered(z, d, mode, off) if dims == 3 else part


# --- Forward derivatives --------------------------------------------------------------------------


@scalar
def padded_way(slope, way):
    """How far a padded coordinate moves; where its slope is 0 it stays, whatever the way."""
    still = type(way)(0)
    return slope * way if slope != still and way != still else still


@scalar
def product(slope, way):
    """Change of a value whose coordinate moves; without a way there is none, whatever its slope."""
    still = type(way)(0)
    return slope * way if way != still else still
