"""Prefilter of spline interpolation: the coefficients of the spline that passes through the pixels.

A spline sample is a sum of coefficients times weights (:mod:`.interpolation`). The coefficients of
a line solve a banded system, by one recursion forward and one backward for each pole (Unser et al.
1993). The image is continued beyond its edges as its padding says: periodically, where the sum that
starts a recursion is finite; or by :data:`.sampler_kind.SPLINE_MARGIN` pixels of the edge's value
(or of the fill), beyond which the line is mirrored, as in SciPy.

:func:`filter_line` works in place, on ``lanes`` lines that are neighbours in memory: element i of
line k is ``data[start + i * pitch + k]``. Columns and rows of an image are filtered one after the
other.
"""

import math
from typing import NamedTuple

import numpy as np

from .jit import inlined, scalar
from .padding import reflect_index
from .sampler_kind import (
    MIRROR,
    REFLECTION,
    SPLINE2,
    SPLINE3,
    SPLINE4,
    SPLINE5,
    SPLINE_MARGIN,
    WRAP,
    ZEROS,
)

_ROOT = math.sqrt

# The poles of the filter of each order, inside the unit circle.
POLES = {
    SPLINE2: (_ROOT(8.0) - 3.0,),
    SPLINE3: (_ROOT(3.0) - 2.0,),
    SPLINE4: (
        _ROOT(664.0 - _ROOT(438976.0)) + _ROOT(304.0) - 19.0,
        _ROOT(664.0 + _ROOT(438976.0)) - _ROOT(304.0) - 19.0,
    ),
    SPLINE5: (
        _ROOT(67.5 - _ROOT(4436.25)) + _ROOT(26.25) - 6.5,
        _ROOT(67.5 + _ROOT(4436.25)) - _ROOT(26.25) - 6.5,
    ),
}

# Powers of a pole below this change no sum.
_NEGLIGIBLE = 1e-18


# --- How an image is continued --------------------------------------------------------------------


class Continuation(NamedTuple):
    """How lines are continued: first by a margin, and then by a boundary."""

    margin: int  # pixels before the line, and after it
    constant: bool  # whether these are the fill; otherwise they are the edge's
    boundary: int  # MIRROR, REFLECTION with unaligned corners, or WRAP


def continuation(padding, off):
    """The :class:`Continuation` of a padding."""
    if padding == WRAP:
        return Continuation(0, False, WRAP)
    if padding in (MIRROR, REFLECTION):
        return Continuation(0, False, REFLECTION if padding == REFLECTION and off else MIRROR)
    if padding == ZEROS:
        return Continuation(SPLINE_MARGIN, True, MIRROR)
    return Continuation(SPLINE_MARGIN, False, REFLECTION)


def coordinate_factor(side, margin, off):
    """Normalised coordinates on a side with margins, of those on the same side without."""
    return (side - 1 + off) / (side + 2 * margin - 1 + off) if margin else 1.0


# --- The filter -----------------------------------------------------------------------------------


@inlined
def filter_line(data, start, pitch, lanes, n, poles, boundary):
    """Replace ``n`` samples of each line by their coefficients; ``poles`` is an array."""
    real, gain = data.dtype.type, data.dtype.type(1)
    if n == 1:
        return
    for k in range(len(poles)):
        z = real(poles[k])
        gain *= (real(1) - z) * (real(1) - real(1) / z)
    for i in range(n):
        for lane in range(lanes):
            data[np.uint64(start + i * pitch + lane)] *= gain
    for k in range(len(poles)):
        _filter_by_pole(data, start, pitch, lanes, n, real(poles[k]), boundary)


@inlined
def _filter_by_pole(data, start, pitch, lanes, n, z, boundary):
    """One recursion forward, one backward."""
    real, end = type(z), start + (n - 1) * pitch
    for lane in range(lanes):
        data[start + lane] = _first_sum(data, start + lane, pitch, n, z, boundary)
    for i in range(1, n):
        for lane in range(lanes):
            at = np.uint64(start + i * pitch + lane)
            data[at] += z * data[np.uint64(start + (i - 1) * pitch + lane)]
    for lane in range(lanes):
        last = data[end + lane]
        if boundary == WRAP:
            last = -z * _last_sum(data, start + lane, pitch, n, z)
        elif boundary == MIRROR:
            last = z / (z * z - real(1)) * (last + z * data[end + lane - pitch])
        else:
            last = z / (z - real(1)) * last
        data[end + lane] = last
    for i in range(1, n):
        for lane in range(lanes):
            at = np.uint64(end - i * pitch + lane)
            data[at] = z * (data[np.uint64(end - (i - 1) * pitch + lane)] - data[at])


@scalar
def _first_sum(data, start, pitch, n, z, boundary):
    """The sum over k of z^k times the sample k pixels before the first; it has a period."""
    real = type(z)
    total, power, period = real(0), real(1), n
    if boundary != WRAP:
        period = 2 * n - 2 if boundary == MIRROR else 2 * n
    for k in range(period):
        at = -k % n
        if boundary != WRAP:
            at = reflect_index(-k, n, 0 if boundary == MIRROR else 1)
        total += power * data[start + at * pitch]
        power *= z
        if abs(power) < real(_NEGLIGIBLE):
            return total
    return total / (real(1) - power)


@scalar
def _last_sum(data, start, pitch, n, z):
    """The sum over k of z^k times the number k pixels after the last, of a line that repeats."""
    real = type(z)
    total, power = real(0), real(1)
    for k in range(n):
        total += power * data[start + (n - 1 + k) % n * pitch]
        power *= z
        if abs(power) < real(_NEGLIGIBLE):
            return total
    return total / (real(1) - power)


@inlined
def scale_ends(data, start, pitch, lanes, n, factor, boundary):
    """Multiply the ends of lines by a factor if they are mirrored there.

    The transposed filter is the filter itself between this with 2 and this with 1/2: mirrored at
    pixels, the matrix of weights is symmetric except that each end is counted once.
    """
    if boundary == MIRROR:
        for lane in range(lanes):
            data[start + lane] *= factor
            data[start + (n - 1) * pitch + lane] *= factor
