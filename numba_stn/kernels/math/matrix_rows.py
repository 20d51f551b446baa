"""Matrices between output and input pixels, in any number of dimensions: scalar math.

``coordinate_sources.py`` of each target computes an output row's coordinates with these formulas.
``t`` are the entries of one row of theta: the factors of column, row and slice, and the shift;
``sides`` are (D, H, W) of the images, ``sizes`` those of the output. As in :mod:`.coordinates`, the
type of ``off`` decides the precision.
"""

from .coordinates import affine_axis, affine_step, base_coordinate, from_middle, middle, span
from .jit import inlined, scalar
from .sampler_kind import PROJECTIVE

# --- Rows -----------------------------------------------------------------------------------------


@scalar
def axis_row(t, size, divisor, k, i, sizes, off):
    """Start and step, along a row, of a coordinate's numerator.

    In pixels. The middle is multiplied by the divisor, because it is added after the division.
    """
    depth, height, width = sizes
    real, half = type(off), type(off)(0.5)
    step, row_step, across, shift = affine_axis(t[0], t[1], t[3], size, width, height, off)
    rows = row_step * real(from_middle(i, height))
    slices = affine_step(t[2], size, depth, off) * real(from_middle(k, depth))
    start = (slices + rows - across + shift) * half + middle(size, off) * divisor[0]
    return start, step + middle(size, off) * divisor[1]


@scalar
def divisor_row(t, k, i, sizes, off):
    """Start and step of the divisor along a row."""
    depth, height, width = sizes
    real = type(off)
    start = t[0] * base_coordinate(0, width, off) + t[1] * base_coordinate(i, height, off) + t[3]
    if t[2] != real(0):  # never in a plane
        start += t[2] * base_coordinate(k, depth, off)
    length = span(width, off)
    return start, t[0] * real(2) / length if length != real(0) else real(0)


# --- The adjoint, and forward derivatives ---------------------------------------------------------


@scalar
def quotient_vjp(row, j, pixel, slopes, sides, off):
    """Gradients of the numerators of x, y and z and of their divisor, from that of the quotients.

    In pixels. They are 0 where the gradient is 0, however small the divisor is. In a plane, z's
    are 0.
    """
    real = type(off)
    gx, gy, gz = slopes
    if gx == real(0) and gy == real(0) and gz == real(0):
        return real(0), real(0), real(0), real(0)
    w = row[3][0] + row[3][1] * real(j)
    u, v = pixel[0] - middle(sides[2], off), pixel[1] - middle(sides[1], off)
    t = pixel[2] - middle(sides[0], off)
    return gx / w, gy / w, gz / w, -(gx * u + gy * v + gz * t) / w


@inlined
def position_jvp(source, dims, row, row_dot, j, pixel):
    """Tangent of the sampling position of column j; :func:`quotient_vjp` is the transpose.

    ``row_dot`` is the row of theta's tangent.
    """
    (x0, xs), (y0, ys), (z0, zs), (w0, ws) = row_dot
    column = type(x0)(j)
    x, y, z = x0 + xs * column, y0 + ys * column, z0 + zs * column
    if source == PROJECTIVE:
        w, w_dot = row[3][0] + row[3][1] * column, w0 + ws * column
        x, y = (x - pixel[0] * w_dot) / w, (y - pixel[1] * w_dot) / w
        if dims == 3:
            z = (z - pixel[2] * w_dot) / w
    return x, y, z


@scalar
def quotient_vjp_jvp(row, row_dot, j, moved, slopes, sides):
    """Tangents of the gradients of :func:`quotient_vjp`.

    ``moved`` is the sampling position and its tangent, ``slopes`` its gradient and that gradient's
    tangent. ``row_dot`` is the row of theta's tangent.
    """
    (pixel, pixel_dot), ((gx, gy, gz), (gx_dot, gy_dot, gz_dot)) = moved, slopes
    real = type(gx)
    zero = real(0)
    still = gx == zero and gy == zero and gz == zero
    if still and gx_dot == zero and gy_dot == zero and gz_dot == zero:
        return zero, zero, zero, zero
    w = row[3][0] + row[3][1] * real(j)
    rate = (row_dot[3][0] + row_dot[3][1] * real(j)) / w
    u, v = pixel[0] - middle(sides[2], w), pixel[1] - middle(sides[1], w)
    t = pixel[2] - middle(sides[0], w)
    gx_dot, gy_dot, gz_dot = gx_dot - gx * rate, gy_dot - gy * rate, gz_dot - gz * rate
    along = gx * pixel_dot[0] + gy * pixel_dot[1] + gz * pixel_dot[2]
    return gx_dot / w, gy_dot / w, gz_dot / w, -(gx_dot * u + gy_dot * v + gz_dot * t + along) / w


@scalar
def second_moments(value, x, y):
    """``value`` times the products of (x, y, 1) with itself: xx, xy, x, yy, y, 1."""
    by_x, by_y = value * x, value * y
    return by_x * x, by_x * y, by_x, by_y * y, by_y, value
