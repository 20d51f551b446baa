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
def longest_steps(theta, sides, rows, columns, off):
    """The longest :func:`step_length` of a projective map, along x and along y."""
    real = type(off)
    across, down = real(0), real(0)
    for i in range(POINTS):
        for j in range(POINTS):
            x, y = real(2 * j) / real(POINTS - 1), real(2 * i) / real(POINTS - 1)
            by_x, by_y = jacobian(theta, x - real(1), y - real(1))
            one = step_length(by_x[0], by_y[0], real(0), sides, columns, off)
            other = step_length(by_x[1], by_y[1], real(0), sides, rows, off)
            across, down = one if one > across else across, other if other > down else down
    return across, down


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
        across, down = longest_steps(theta, sides, rows, columns, off)
        return (
            parts_of_step(off * type(off)(0), depth),
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
