"""Normalised and pixel coordinates: one formula a function, numbers in, numbers out.

CPU loops and CUDA kernels both call these functions; they differ only in where an index comes from
and how a result is written. So nothing here takes an array. Two conventions keep the formulas
short.

``off`` is ``1 - align_corners`` in the working precision. With it one formula serves both
conventions: the interval [-1, 1] spans ``S - 1 + off`` pixels of a side of S pixels, and the
centre of pixel j is at ``(2 j - (S - 1)) / (S - 1 + off)``.

The type of the coordinate decides the precision of everything computed from it. A bare literal
would turn float32 into float64, so constants are written ``real(1)``.
"""

import numpy as np

from .jit import scalar

# The lane of a block from which the other lanes are counted.
MIDDLE = 8

# Adding this to a small float32 and subtracting it again rounds the number to a multiple of 2^-23.
SNAP = 1.5

# Coordinates from this one on are not split into an integer and a float32 fraction.
FAR = 2**22


@scalar
def last(size):
    """Index of a side's last pixel, in the type of indices: 32 bits stay 32."""
    return type(size)(size - 1)


@scalar
def from_middle(j, size):
    """Twice the distance from a side's middle to pixel j, an integer."""
    return type(size)(2 * j - (size - 1))


@scalar
def span(size, off):
    """The number of pixels that [-1, 1] covers: S - 1 if corners are aligned, else S."""
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

    Returns the step from column to column, the step from row to row, the distance across a row, and
    twice the shift. Theta maps normalised to normalised coordinates; both conversions are included.
    """
    real = type(off)
    step = affine_step(t0, size, width, off)
    return step, affine_step(t1, size, height, off), step * real(last(width)), span(size, off) * t2


@scalar
def affine_start(axis, i, size, height):
    """Coordinate at column 0 of output row i, from an :func:`affine_axis`.

    Products come before sums, so that an identity theta gives the exact integer.
    """
    _, row_step, across, shift = axis
    real = type(across)
    rows = row_step * real(from_middle(i, height))
    return (rows - across + shift + real(last(size))) * real(0.5)


@scalar
def along_row(start, step, first, lane, real):
    """Coordinate of lane ``lane`` of the block that begins at column ``first``, in float64.

    The coordinate of the block's middle is computed in float64, and its integer part is the base.
    From there each lane is an offset from the base in the images' own precision: the offset is
    small, so that little is rounded. It is rounded to a multiple of 2^-23. Then its sum with the
    base is exact, and splitting that sum, or the offset alone, gives the same tap and fraction.
    """
    center = start + step * (first + MIDDLE)
    return from_base(center, np.floor(center), step, lane, real)


@scalar
def along_row_evenly(start, step, first, lane, real):
    """As :func:`along_row`, but the base is even, so that halves are rounded to the even neighbour.

    Rounding the offset alone then gives the same pixel as rounding the sum.
    """
    center = start + step * (first + MIDDLE)
    return from_base(center, np.float64(2) * np.floor(center * np.float64(0.5)), step, lane, real)


@scalar
def from_base(center, base, step, lane, real):
    """Coordinate of a lane of the block whose middle is at ``center``: ``base`` plus an offset."""
    near = real(center - base)
    if near != near:  # the center is infinite, and so is the base
        near = real(0)
    far = near + real(step) * real(lane - MIDDLE)
    return base + np.float64((far + real(SNAP)) - real(SNAP))


@scalar
def split(c, start, step):
    """Pixel coordinate ``start + step c`` of a float32 ``c``, to 2^-23, in float64.

    The rounding error of the product is kept: float64 holds the product of two float32 exactly, and
    vector code gets the error from a fused multiply-add. The fraction is an offset from an integer,
    rounded as in :func:`along_row`. So vector code can stay in float32, in which ``start`` and
    ``step`` are exact.
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
