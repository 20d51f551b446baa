"""Matrices between output and input pixels, in any number of dimensions: scalar math.

What :mod:`.coordinate_sources` makes rows of on the CPU, and :mod:`.coordinate_sources` on a GPU.
``t`` are the entries of one row of theta: the factors of column, row and slice, and what is added;
``sides`` are (D, H, W) of the images, ``sizes`` those of the output. As in :mod:`.coordinates`, the
type of ``off`` decides the precision.
"""

import math

from .compile import inlined, scalar
from .coordinates import affine_axis, affine_step, base_coordinate, from_middle, middle, span
from .kind import PROJECTIVE

# Parts of an output pixel along an axis, at most; a map that shrinks further skips pixels again.
MOST = 16

# How much longer than a whole number a way may be before there is another part: what float32 may
# round a way by, several times over.
SLACK = 2.0**-16

# Where a projective map's Jacobian is looked at, along each side of the output.
PLACES = 9

# Divisors of projective maps under this are a horizon's.
NEAR = 1e-3

# --- Rows -----------------------------------------------------------------------------------------


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


# --- The adjoint, and forward derivatives ---------------------------------------------------------


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


@inlined
def moved(source, row, row_dot, j, pixel):
    """How the input pixel that column j reads moves as its row does: what ``divided`` transposes.

    ``row_dot`` is the row of theta's change.
    """
    (x0, xs), (y0, ys), (z0, zs), (w0, ws) = row_dot
    column = type(x0)(j)
    x, y, z = x0 + xs * column, y0 + ys * column, z0 + zs * column
    if source == PROJECTIVE:
        w, w_dot = row[3][0] + row[3][1] * column, w0 + ws * column
        x, y = (x - pixel[0] * w_dot) / w, (y - pixel[1] * w_dot) / w
    return x, y, z


@scalar
def second_moments(value, x, y):
    """``value`` times the products of (x, y, 1) with itself: xx, xy, x, yy, y, 1."""
    by_x, by_y = value * x, value * y
    return by_x * x, by_x * y, by_x, by_y * y, by_y, value


# --- Areas: how finely an output pixel is divided where a map shrinks -----------------------------


@scalar
def way(tx, ty, tz, sides, size, off):
    """Pixels from what an output pixel reads to what the next one along an axis does.

    ``tx``, ``ty`` and ``tz`` are theta's factors of that axis, whose side is ``size``.
    """
    d, h, w = sides
    x, y = affine_step(tx, w, size, off), affine_step(ty, h, size, off)
    z = affine_step(tz, d, size, off)
    return type(off)(math.sqrt(x * x + y * y + z * z))


@scalar
def jacobian(theta, x, y):
    """Jacobian ((dx/dx, dx/dy), (dy/dx, dy/dy)) of a projective map at (x, y) of the output."""
    by_x, by_y, _, divisor = theta
    real = type(x)
    w = divisor[0] * x + divisor[1] * y + divisor[3]
    if not abs(w) > real(NEAR):
        return (real(0), real(0)), (real(0), real(0))
    u = (by_x[0] * x + by_x[1] * y + by_x[3]) / w
    v = (by_y[0] * x + by_y[1] * y + by_y[3]) / w
    return (
        ((by_x[0] - u * divisor[0]) / w, (by_x[1] - u * divisor[1]) / w),
        ((by_y[0] - v * divisor[0]) / w, (by_y[1] - v * divisor[1]) / w),
    )


@scalar
def longest_ways(theta, sides, rows, columns, off):
    """The longest :func:`way` of a projective map along x and along y, of some on the output."""
    real = type(off)
    across, down = real(0), real(0)
    for i in range(PLACES):
        for j in range(PLACES):
            x, y = real(2 * j) / real(PLACES - 1), real(2 * i) / real(PLACES - 1)
            by_x, by_y = jacobian(theta, x - real(1), y - real(1))
            one = way(by_x[0], by_y[0], real(0), sides, columns, off)
            other = way(by_x[1], by_y[1], real(0), sides, rows, off)
            across, down = one if one > across else across, other if other > down else down
    return across, down


@scalar
def parts_of(length, size):
    """Parts that a way is divided into; one that is no number into none but itself."""
    whole, real = type(size), type(length)
    if not length > real(1):
        return whole(1)
    if not length < real(MOST):
        return whole(MOST)
    return whole(math.ceil(length - real(SLACK)))


@inlined
def divided_into(source, theta, sides, sizes, off):
    """Parts of an output pixel along (D, H, W): as many as its way there is pixels long.

    Neighbouring parts then read at most a pixel apart.
    """
    depth, rows, columns = sizes
    if source == PROJECTIVE:
        across, down = longest_ways(theta, sides, rows, columns, off)
        return parts_of(off * type(off)(0), depth), parts_of(down, rows), parts_of(across, columns)
    x, y, z, _ = theta
    return (
        parts_of(way(x[2], y[2], z[2], sides, depth, off), depth),
        parts_of(way(x[1], y[1], z[1], sides, rows, off), rows),
        parts_of(way(x[0], y[0], z[0], sides, columns, off), columns),
    )


@scalar
def shrunk(size, parts, off):
    """What theta's factor of an axis is times so that pixels are the parts of those of ``size``.

    1, but where corners are aligned: there the parts reach beyond them.
    """
    real, whole = type(off), type(size)
    length = span(size, off) * real(parts)
    return span(whole(size * parts), off) / length if length != real(0) else real(1)
