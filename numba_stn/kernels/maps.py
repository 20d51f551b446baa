"""Matrices between output and input pixels, in any number of dimensions: scalar math.

What :mod:`.sources` makes rows of on the CPU, and :mod:`.cuda_sources` on a GPU. ``t`` are the
entries of one row of theta: the factors of column, row and slice, and what is added; ``sides`` are
(D, H, W) of the images, ``sizes`` those of the output. As in :mod:`.pixel`, the type of ``off``
decides the precision.
"""

from .pixel import (
    affine_axis,
    affine_step,
    base_coordinate,
    from_middle,
    middle,
    scalar,
    span,
)


@scalar
def axis_row(t, size, divisor, k, i, sizes, off):
    """Start and step, along a row, of a coordinate's numerator.

    In pixels; the middle is times the divisor, since it is added after the division.
    """
    depth, height, width = sizes
    real, half = type(off), type(off)(0.5)
    step, row_step, way, shift = affine_axis(t[0], t[1], t[3], size, width, height, off)
    rows = row_step * real(from_middle(i, height))
    slices = affine_step(t[2], size, depth, off) * real(from_middle(k, depth))
    start = (slices + rows - way + shift) * half + middle(size, off) * divisor[0]
    return start, step + middle(size, off) * divisor[1]


@scalar
def divisor_row(t, i, sizes, off):
    """Start and step of the divisor along a row."""
    _, height, width = sizes
    real = type(off)
    start = t[0] * base_coordinate(0, width, off) + t[1] * base_coordinate(i, height, off) + t[3]
    length = span(width, off)
    return start, t[0] * real(2) / length if length != real(0) else real(0)


@scalar
def divided(row, j, pixel, slopes, sides, off):
    """Gradient of the numerators of x and y, and of their divisor, from that of the quotients.

    In pixels. Where the gradient is 0 so are these, however near the divisor is to 0.
    """
    real = type(off)
    gx, gy, _ = slopes
    if gx == real(0) and gy == real(0):
        return real(0), real(0), real(0)
    w = row[3][0] + row[3][1] * real(j)
    u, v = pixel[0] - middle(sides[2], off), pixel[1] - middle(sides[1], off)
    return gx / w, gy / w, -(gx * u + gy * v) / w
