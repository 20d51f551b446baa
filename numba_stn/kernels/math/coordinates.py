"""Normalised and pixel coordinates: one formula a function, numbers in, numbers out.

CPU loops and CUDA kernels both call these functions; they differ only in where an index comes from
and how a result is written. So nothing here takes an array. Two conventions keep the formulas
short.

``off`` is ``1 - align_corners`` in the working precision. With it one formula serves both
conventions: the interval [-1, 1] spans ``S - 1 + off`` pixels of a side of S pixels, and the
centre of pixel j lies at ``(2 j - (S - 1)) / (S - 1 + off)``.

The type of the coordinate decides the precision of everything computed from it. A bare literal
would turn float32 into float64, so constants are written ``real(1)``.
"""

import numpy as np

from .compile import scalar

# The lane that the others are counted from.
MIDDLE = 8

# Added and taken away again, this leaves of a small float32 a whole number of 2^-23.
SNAP = 1.5

# Coordinates from here on are not split into a whole number and a fraction of float32.
FAR = 2**22


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


# --- Rows under an affine map ---------------------------------------------------------------------


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
    return counted_from(place, np.floor(place), step, lane, real)


@scalar
def along_row_evenly(start, step, first, lane, real):
    """:func:`along_row`, but counted from an even number, so that halves go to the even neighbour.

    Whoever rounds the distance alone then finds what rounding the sum gives.
    """
    place = start + step * (first + MIDDLE)
    return counted_from(place, np.float64(2) * np.floor(place * np.float64(0.5)), step, lane, real)


@scalar
def counted_from(place, base, step, lane, real):
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
