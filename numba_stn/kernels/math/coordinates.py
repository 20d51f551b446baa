"""The scalar math of every sampler: numbers in, numbers out, one formula a function.

Both targets call these functions: CPU loops (:mod:`.backend`) and CUDA kernels (:mod:`.backend`)
differ only in where an index comes from and how a result is written. So nothing here takes an
array, and nothing here has fast-math flags: the same operations in the same order give the same
bits wherever they are compiled.

Two conventions keep the formulas short.

``off`` is ``1 - align_corners`` in the working precision. With it one formula serves both
conventions: the interval [-1, 1] spans ``S - 1 + off`` pixels of a side of S pixels, and the
centre of pixel j lies at ``(2 j - (S - 1)) / (S - 1 + off)``.

The type of the coordinate decides the precision of everything computed from it. A bare literal
would turn float32 into float64, so constants are written ``real(1)``.
"""

import math

import numpy as np
from numba import njit

from ..cache import named

# Where the coordinates come from: an array in memory, or a matrix, computed on the fly.
GRID, AFFINE, PROJECTIVE = 0, 1, 2

# The lane that the others are counted from.
MIDDLE = 8

# Added and taken away again, this leaves of a small float32 a whole number of 2^-23.
SNAP = 1.5

# Coordinates from here on are not split into a whole number and a fraction of float32.
FAR = 2**22

# What a coordinate outside the image means.
ZEROS, BORDER, REFLECTION, WRAP, FILL = 0, 1, 2, 3, 4

# How values between pixels are formed.
NEAREST, BILINEAR, BICUBIC = 0, 1, 2

# An index whose two taps, OUTSIDE and OUTSIDE + 1, both miss the image.
OUTSIDE = -2

# A coordinate that would be reflected more often than this is called too large to reflect.
MOST_REFLECTIONS = 2**22


def scalar(function):
    """Compile scalar math; what a factory makes gets a name of its own, for the linker."""
    return njit(error_model="numpy")(named(function))


def inlined(function):
    """:func:`scalar` for what a loop does with each block.

    LLVM would call it, and pass its arguments through memory.
    """
    return njit(error_model="numpy", forceinline=True)(named(function))


# --- Normalised and pixel coordinates -----------------------------------------------------------


@scalar
def last(size):
    """Index of a side's last pixel, in the type of indices: 32 bits stay 32."""
    return type(size)(size - 1)


@scalar
def from_middle(j, size):
    """Twice the way from a side's middle to pixel j, a whole number."""
    return type(size)(2 * j - (size - 1))


@scalar
def span(size, off):
    """Pixels that [-1, 1] covers on a side of ``size`` pixels: S - 1, or S without corners."""
    return type(off)(last(size)) + off


@scalar
def base_coordinate(j, size, off):
    """Normalised centre of output pixel j: (2 j - (S - 1)) / (S - 1 + off), 0 on a side of 1."""
    real = type(off)
    length = span(size, off)
    if length == real(0):
        return real(0)
    return real(from_middle(j, size)) / length


@scalar
def unnormalize(c, size, off):
    """Pixel coordinate of a normalised one: (S - 1) / 2 + c (S - 1 + off) / 2."""
    return middle(size, off) + c * unnormalize_slope(size, off)


@scalar
def middle(size, off):
    """Pixel coordinate of a side's middle."""
    real = type(off)
    return real(last(size)) * real(0.5)


@scalar
def unnormalize_slope(size, off):
    """Slope of :func:`unnormalize`: (S - 1 + off) / 2."""
    return span(size, off) * type(off)(0.5)


@scalar
def affine_step(t, size, size_out, off):
    """Input pixels moved per output pixel by the factor ``t`` of theta."""
    real = type(off)
    length = span(size_out, off)
    if length == real(0):
        return real(0)
    return t * span(size, off) / length


@scalar
def affine_axis(t0, t1, t2, size, width, height, off):
    """What one row (t0, t1, t2) of theta does to one coordinate, in pixels.

    Step from column to column, step from row to row, way across a row, and twice the shift. Theta
    maps normalised to normalised coordinates; both conversions are folded in.
    """
    real = type(off)
    step = affine_step(t0, size, width, off)
    return step, affine_step(t1, size, height, off), step * real(last(width)), span(size, off) * t2


@scalar
def affine_start(axis, i, size, height):
    """Coordinate at column 0 of output row i, from an :func:`affine_axis`.

    Products come before sums, so that an identity theta gives the exact integer.
    """
    _, row_step, way, shift = axis
    real = type(way)
    rows = row_step * real(from_middle(i, height))
    return (rows - way + shift + real(last(size))) * real(0.5)


@scalar
def along_row(start, step, first, lane, real):
    """Coordinate of lane ``lane`` of the block that begins at column ``first``, in float64.

    A block's middle is found in float64. From there on its lanes are counted in the images' own
    precision, and from a whole number, so that the distance is small and little is rounded. It is
    rounded to a whole number of 2^-23, so that its sum with the whole number is exact, and whoever
    splits that sum, or the distance alone, finds the same tap and fraction.
    """
    place = start + step * (first + MIDDLE)
    return counted(place, np.floor(place), step, lane, real)


@scalar
def along_row_evenly(start, step, first, lane, real):
    """:func:`along_row`, but counted from an even number, so that halves go to the even neighbour.

    Whoever rounds the distance alone then finds what rounding the sum gives.
    """
    place = start + step * (first + MIDDLE)
    return counted(place, np.float64(2) * np.floor(place * np.float64(0.5)), step, lane, real)


@scalar
def counted(place, base, step, lane, real):
    """Coordinate of a lane of the block whose middle is at ``place``, counted from ``base``."""
    near = real(place - base)
    if near != near:  # infinite: there is no distance to it
        near = real(0)
    far = near + real(step) * real(lane - MIDDLE)
    return base + np.float64((far + real(SNAP)) - real(SNAP))


@scalar
def split(c, start, step):
    """Pixel coordinate ``start + step c`` of a float32 ``c``, to 2^-23, in float64.

    The product's rounding is kept (float64 holds the product of two float32; a block has it from
    a fused multiplication), and the fraction counted from a whole number, rounded as in
    :func:`along_row`. So a block need not leave float32: start and step are exact in it.
    """
    far = start + step * np.float64(c)
    if not (abs(far) < FAR and start < FAR // 2):
        return far
    one = np.float32(1)
    exact, middle = np.float64(c) * step, np.float32(start)
    product = np.float32(exact)
    rest = np.float32(exact - np.float64(product))
    base = np.floor(product + middle)
    fraction = (product - (base - middle)) + rest
    fraction = (fraction + one) - one
    return np.float64(base) + np.float64(fraction)


# --- Padding: coordinate -> coordinate inside, and its slope -------------------------------------


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


# --- Bilinear interpolation ----------------------------------------------------------------------


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
    """The same sum, each column first: for pixels whose channels stand together in memory."""
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


# --- Fixed-point sums (CUDA) ---------------------------------------------------------------------
#
# A sum of floats depends on the order of its terms, and a GPU keeps none. A sum of integers does
# not. So terms are scaled by a power of two, rounded to int64, added, and scaled back. The power
# is the largest for which the sum cannot overflow, whatever the terms' signs.

# Length of the fraction in a float's bits; the exponent stands above it.
FRACTION32, FRACTION64 = 23, 52

# Sums stay below 2 to this power, which leaves room for the rounding of every term.
SUM_BITS = 62


@scalar
def exponent_bias(fraction):
    """Exponent field of 1.0: 127, or 1023 where the fraction has 52 bits."""
    return 1023 if fraction == FRACTION64 else 127


@scalar
def bits_are_finite(bits, fraction):
    """Whether the magnitude with these bits is neither infinite nor NaN."""
    return (bits >> fraction) <= 2 * exponent_bias(fraction)


@scalar
def fixed_point_shift(peak, fraction, terms):
    """Power s of the scale 2**s for at most 2**``terms`` terms no larger than the peak.

    ``peak`` holds the bits of the largest magnitude: a float whose exponent field is e lies below
    2**(e - bias + 1), so a scaled term below 2**(SUM_BITS - terms). Both the scale and its
    inverse must be normal floats, hence the limit for tiny peaks.
    """
    bias = exponent_bias(fraction)
    return min(SUM_BITS - terms - ((peak >> fraction) - bias + 1), bias - 1)


@scalar
def fixed_point_scale(peak, fraction, terms, one):
    """2**s in the precision of ``one``, where s is the :func:`fixed_point_shift`."""
    return type(one)(math.ldexp(one, int(fixed_point_shift(peak, fraction, terms))))


@scalar
def quantize(value, scale):
    """Nearest integer to ``value * scale``; a half goes up."""
    real = type(scale)
    scaled = value * scale
    below = math.floor(scaled)
    return int(below) + int(scaled - real(below) >= real(0.5))


@scalar
def dequantize(total, scale):
    """The float that a sum of quantised values stands for; rounded once."""
    return type(scale)(total) / scale
