"""How finely an output pixel is divided for antialiasing: scalar math.

Where a map shrinks the image, an output pixel is divided into parts, and its sample is their mean.
``t`` and ``theta``, ``sides``, ``sizes`` and ``off`` are those of :mod:`.matrix_rows`.
"""

import math

from .coordinates import affine_step, span
from .jit import inlined, python_callable, scalar
from .sampler_kind import PROJECTIVE

# The largest number of parts of an output pixel along an axis. A map that shrinks further skips
# pixels again.
MOST = 16

# A step may exceed an integer by this much before there is another part: several times what float32
# may round a step by.
SLACK = 2.0**-16

# The number of points along each side of the output at which a projective map's Jacobian is
# evaluated.
POINTS = 9

# Divisors of projective maps below this are at the horizon.
NEAR = 1e-3


@scalar
def step_length(tx, ty, tz, sides, size, off):
    """The distance, in input pixels, between what two output pixels next to each other read.

    They are neighbours along an axis of length ``size``, for which theta has the factors ``tx``,
    ``ty`` and ``tz``.
    """
    d, h, w = sides
    x, y = affine_step(tx, w, size, off), affine_step(ty, h, size, off)
    z = affine_step(tz, d, size, off)
    return type(off)(math.sqrt(x * x + y * y + z * z))


@scalar
def jacobian(row, divisor, x, y, z):
    """Slopes along x, y and z of one coordinate of a projective map, at (x, y, z) of the output."""
    real = type(x)
    w = divisor[0] * x + divisor[1] * y + divisor[2] * z + divisor[3]
    if not abs(w) > real(NEAR):
        return real(0), real(0), real(0)
    u = (row[0] * x + row[1] * y + row[2] * z + row[3]) / w
    return (
        (row[0] - u * divisor[0]) / w,
        (row[1] - u * divisor[1]) / w,
        (row[2] - u * divisor[2]) / w,
    )


@scalar
def point_at(k, off):
    """The normalised coordinate of the k-th point along a side of the output."""
    real = type(off)
    return real(2 * k) / real(POINTS - 1) - real(1)


@scalar
def larger(a, b):
    """The larger number; ``a`` if ``b`` is NaN."""
    return b if b > a else a


@scalar
def longest_steps(theta, sides, sizes, off):
    """The longest :func:`step_length` of a projective map, along x, y and z."""
    real, (depth, rows, columns) = type(off), sizes
    across, down, inward = real(0), real(0), real(0)
    middle = POINTS // 2  # the only point of an output with one slice
    for k in range(0 if depth > 1 else middle, POINTS if depth > 1 else middle + 1):
        for i in range(POINTS):
            for j in range(POINTS):
                x, y, z = point_at(j, off), point_at(i, off), point_at(k, off)
                u = jacobian(theta[0], theta[3], x, y, z)
                v = jacobian(theta[1], theta[3], x, y, z)
                t = jacobian(theta[2], theta[3], x, y, z)
                across = larger(across, step_length(u[0], v[0], t[0], sides, columns, off))
                down = larger(down, step_length(u[1], v[1], t[1], sides, rows, off))
                inward = larger(inward, step_length(u[2], v[2], t[2], sides, depth, off))
    return across, down, inward


@scalar
def parts_of_step(length, size):
    """The number of parts of a pixel whose step is this long; 1 if the step is NaN."""
    whole, real = type(size), type(length)
    if not length > real(1):
        return whole(1)
    if not length < real(MOST):
        return whole(MOST)
    return whole(math.ceil(length - real(SLACK)))


@inlined
def parts_per_pixel(source, theta, sides, sizes, off):
    """The number of parts of an output pixel along (D, H, W): the length of its step, rounded up.

    Neighbouring parts then read at most a pixel apart.
    """
    depth, rows, columns = sizes
    if source == PROJECTIVE:
        across, down, inward = longest_steps(theta, sides, sizes, off)
        return (
            parts_of_step(inward, depth),
            parts_of_step(down, rows),
            parts_of_step(across, columns),
        )
    x, y, z, _ = theta
    return (
        parts_of_step(step_length(x[2], y[2], z[2], sides, depth, off), depth),
        parts_of_step(step_length(x[1], y[1], z[1], sides, rows, off), rows),
        parts_of_step(step_length(x[0], y[0], z[0], sides, columns, off), columns),
    )


@python_callable
def finer_scale(size, parts, off):
    """The factor of theta's column of an axis for which the output's pixels are the parts.

    It is 1, except where corners are aligned: there the parts reach beyond the corners.
    """
    real, whole = type(off), type(size)
    length = span(size, off) * real(parts)
    return span(whole(size * parts), off) / length if length != real(0) else real(1)
