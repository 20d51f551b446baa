"""Interpolation: which taps a coordinate reads along an axis, with what weights and slopes.

A sampler of several axes is the product of such axes. ``mode`` and ``padding`` are constants where
these functions are called. As in :mod:`.coordinates`, the coordinate's type decides the precision,
and nothing takes an array.
"""

import math

from .jit import inlined, scalar
from .padding import OUTSIDE, clip, on_side, pad, reflect
from .sampler_kind import (
    BEFORE,
    BICUBIC,
    BORDER,
    CATMULL_ROM,
    FILL,
    LANCZOS4,
    NEAREST,
    SPLINE2,
    SPLINE3,
    SPLINE4,
    SPLINE5,
    ZEROS,
)
from .wide_weights import (
    lanczos_slopes,
    lanczos_weights,
    spline2_slopes,
    spline2_weights,
    spline3_slopes,
    spline3_weights,
    spline4_slopes,
    spline4_weights,
    spline5_slopes,
    spline5_weights,
)

# Keys's parameter a: the slope of a bicubic weight at the next pixel. PyTorch and OpenCV use -0.75,
# Keys himself -0.5, which gives the Catmull-Rom spline.
KEYS, CATMULL_ROM_KEYS = -0.75, -0.5


# --- Bilinear interpolation: the common case ------------------------------------------------------


@scalar
def locate(c, size, padding, off):
    """Lower tap, fraction towards the upper one, and slope of the padded coordinate.

    The coordinate is brought into range as a float and made an integer only afterwards, so
    that NaN, infinity and 1e30 are as safe as any other. The integer has the type of ``size``.
    """
    real, whole = type(c), type(size)
    slope = real(1)
    if padding == ZEROS:
        if not (c >= real(-1) and c < real(size)):
            return whole(OUTSIDE), real(0), real(0)
    elif padding == BORDER:
        c, slope = clip(c, size)
    else:
        c, slope = reflect(c, size, off)
    low = math.floor(c)
    return whole(low), c - real(low), slope


@scalar
def bilinear_weights(tx, ty):
    """Weights of the taps nw, ne, sw, se at the fractions (tx, ty)."""
    one = type(tx)(1)
    sx = one - tx
    sy = one - ty
    return sx * sy, tx * sy, sx * ty, tx * ty


@scalar
def bilinear(nw, ne, sw, se, weights):
    """Weighted sum of the four taps."""
    return nw * weights[0] + ne * weights[1] + sw * weights[2] + se * weights[3]


@scalar
def bilinear_by_columns(nw, ne, sw, se, tx, ty):
    """The same sum, columns first: for pixels whose channels are adjacent in memory."""
    one = type(tx)(1)
    sx, sy = one - tx, one - ty
    return (nw * sy + sw * ty) * sx + (ne * sy + se * ty) * tx


@scalar
def bilinear_slopes(nw, ne, sw, se, tx, ty):
    """Slopes of the interpolated value in x and in y; the forward difference at integers."""
    one = type(tx)(1)
    dx = (ne - nw) * (one - ty) + (se - sw) * ty
    dy = (sw - nw) * (one - tx) + (se - ne) * tx
    return dx, dy


@inlined
def weighted_fill(fill, weight):
    """The value of a missing tap of this weight: one of weight 0 adds nothing, but 0 * inf is NaN.

    A slope in x is a difference along each row; there the weights are those of the rows.
    """
    return fill if weight != type(weight)(0) else type(fill)(0)


# --- One axis of any mode: first tap, fraction, weights of the taps and their slopes --------------


@inlined
def half_to_even(c):
    """Nearest integer, as a float; a half is rounded to the even one."""
    real = type(c)
    low = math.floor(c)
    part = c - real(low)
    odd = real(low) - real(2) * real(math.floor(real(low) * real(0.5))) == real(1)
    up = part > real(0.5) or (part == real(0.5) and odd)
    return real(low) + (real(1) if up else real(0))


@inlined
def locate_taps(c, size, mode, padding, off):
    """First tap, fraction, slope of the padded coordinate, and whether it reads any tap."""
    real, whole = type(c), type(size)
    c, slope, some = pad(c, size, mode, padding, off)
    if not some:
        return whole(OUTSIDE), real(0), real(0), False
    if mode == NEAREST:
        return whole(half_to_even(c)), real(0), real(0), True
    if mode in (SPLINE2, SPLINE4):
        c += real(0.5)
    low = math.floor(c)
    first = whole(low) - whole(BEFORE[mode]) if mode >= BICUBIC else whole(low)
    return whole(first), c - real(low), slope, True


@scalar
def nearest_weights(t):
    """The weight of the nearest pixel."""
    return (type(t)(1),)


@scalar
def nearest_slopes(t):
    """Zero: moving the coordinate a little does not change the nearest pixel."""
    return (type(t)(0),)


@scalar
def linear_weights(t):
    """Weights of the lower and the upper pixel."""
    return type(t)(1) - t, t


@scalar
def linear_slopes(t):
    """Slopes of :func:`linear_weights`."""
    return type(t)(-1), type(t)(1)


@scalar
def cubic_weights(t):
    """Keys's cubic convolution: weights of the four pixels at distances 1 + t, t, 1 - t and 2 - t.

    (Keys 1981, equation 4, with the parameter of PyTorch and OpenCV.)
    """
    return keys_weights(t, type(t)(KEYS))


@scalar
def cubic_slopes(t):
    """Slopes of :func:`cubic_weights`."""
    return keys_slopes(t, type(t)(KEYS))


@scalar
def catmull_rom_weights(t):
    """:func:`cubic_weights` with Keys's own parameter, whose error is of third order."""
    return keys_weights(t, type(t)(CATMULL_ROM_KEYS))


@scalar
def catmull_rom_slopes(t):
    """Slopes of :func:`catmull_rom_weights`."""
    return keys_slopes(t, type(t)(CATMULL_ROM_KEYS))


@scalar
def keys_weights(t, a):
    """Weights of a cubic convolution with the parameter ``a``."""
    one = type(t)(1)
    return _outer(one + t, a), _inner(t, a), _inner(one - t, a), _outer(one + one - t, a)


@scalar
def keys_slopes(t, a):
    """Slopes of :func:`keys_weights`."""
    one = type(t)(1)
    return (
        _outer_slope(one + t, a),
        _inner_slope(t, a),
        -_inner_slope(one - t, a),
        -_outer_slope(one + one - t, a),
    )


@scalar
def _inner(d, a):
    real = type(d)
    return ((a + real(2)) * d - (a + real(3))) * d * d + real(1)


@scalar
def _inner_slope(d, a):
    real = type(d)
    return (real(3) * (a + real(2)) * d - real(2) * (a + real(3))) * d


@scalar
def _outer(d, a):
    real = type(d)
    return ((a * d - real(5) * a) * d + real(8) * a) * d - real(4) * a


@scalar
def _outer_slope(d, a):
    real = type(d)
    return (real(3) * a * d - real(10) * a) * d + real(8) * a


WEIGHTS = (
    nearest_weights, linear_weights, cubic_weights, catmull_rom_weights,
    spline2_weights, spline3_weights, spline4_weights, spline5_weights, lanczos_weights,
)  # fmt: skip
SLOPES = (
    nearest_slopes, linear_slopes, cubic_slopes, catmull_rom_slopes,
    spline2_slopes, spline3_slopes, spline4_slopes, spline5_slopes, lanczos_slopes,
)  # fmt: skip


# For each mode, what the sum of the magnitudes of the weights along an axis does not exceed. Keys's
# is 1 - 2 a t (1 - t), at most 11/8 or 5/4.
MAGNITUDES = (1.0, 1.0, 1.375, 1.25, 1.0, 1.0, 1.0, 1.0, 1.72)


def weight_bits(kind):
    """The power of two that the sum of the magnitudes of a sample's weights does not exceed."""
    return math.ceil(kind.dims * math.log2(MAGNITUDES[kind.mode]))


# --- Weights for any mode, for code that is compiled once for all modes ---------------------------


@scalar
def four_weights(t, mode):
    """Weights of the taps up to :data:`.CATMULL_ROM`; zeros for taps that a mode does not have."""
    none = type(t)(0)
    if mode == BICUBIC:
        return cubic_weights(t)
    if mode == CATMULL_ROM:
        return catmull_rom_weights(t)
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
    if mode == CATMULL_ROM:
        return catmull_rom_slopes(t)
    if mode == NEAREST:
        return none, none, none, none
    low, high = linear_slopes(t)
    return low, high, none, none


@scalar
def eight_weights(t, mode):
    """Weights of the taps of any mode; zeros for taps that it does not have."""
    none = type(t)(0)
    if mode == LANCZOS4:
        return lanczos_weights(t)
    if mode == SPLINE5:
        a, b, c, d, e, f = spline5_weights(t)
        return a, b, c, d, e, f, none, none
    if mode == SPLINE4:
        a, b, c, d, e = spline4_weights(t)
        return a, b, c, d, e, none, none, none
    if mode == SPLINE3:
        a, b, c, d = spline3_weights(t)
    elif mode == SPLINE2:
        a, b, c = spline2_weights(t)
        d = none
    else:
        a, b, c, d = four_weights(t, mode)
    return a, b, c, d, none, none, none, none


@scalar
def eight_slopes(t, mode):
    """Slopes of :func:`eight_weights`."""
    none = type(t)(0)
    if mode == LANCZOS4:
        return lanczos_slopes(t)
    if mode == SPLINE5:
        a, b, c, d, e, f = spline5_slopes(t)
        return a, b, c, d, e, f, none, none
    if mode == SPLINE4:
        a, b, c, d, e = spline4_slopes(t)
        return a, b, c, d, e, none, none, none
    if mode == SPLINE3:
        a, b, c, d = spline3_slopes(t)
    elif mode == SPLINE2:
        a, b, c = spline2_slopes(t)
        d = none
    else:
        a, b, c, d = four_slopes(t, mode)
    return a, b, c, d, none, none, none, none


@scalar
def covered(c, size, mode, off):
    """The share of the weights along an axis that falls on the image."""
    first, t, _, some = locate_taps(c, size, mode, ZEROS, off)
    total = type(c)(0)
    if some:
        weights = eight_weights(t, mode)
        for k in range(8):
            if 0 <= first + k and first + k < size:
                total += weights[k]
    return total


@scalar
def all_covered(pixel, sides, mode, padding, dims, off):
    """The share of a sample that comes from inside the image; with FILL, 1 or 0."""
    (x, y, z), (d, h, w) = pixel, sides
    real = type(x)
    if padding == FILL:
        inside = on_side(x, w, off) and on_side(y, h, off) and (dims == 2 or on_side(z, d, off))
        return real(1) if inside else real(0)
    part = covered(x, w, mode, off) * covered(y, h, mode, off)
    return part * covered(z, d, mode, off) if dims == 3 else part
