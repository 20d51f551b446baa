"""Second derivatives of the weights, for second derivatives of samples.

As in :mod:`.interpolation`, ``t`` is the fraction between two taps, and its type decides the
precision. Weights are differentiable within a cell only: at its ends the second derivatives of most
modes jump, as the slopes of bilinear ones do.
"""

import math

from .interpolation import CATMULL_ROM_KEYS, KEYS
from .jit import scalar
from .sampler_kind import (
    BICUBIC,
    CATMULL_ROM,
    LANCZOS4,
    SPLINE2,
    SPLINE3,
    SPLINE4,
    SPLINE5,
)
from .wide_weights import (
    lanczos_angles,
    lanczos_slopes,
    lanczos_weights,
    spline2_slopes,
    spline3_slopes,
    spline4_slopes,
)

# --- One axis, each mode --------------------------------------------------------------------------


@scalar
def nearest_curvatures(t):
    """Zero."""
    return (type(t)(0),)


@scalar
def linear_curvatures(t):
    """Zero: linear weights have constant slopes."""
    return type(t)(0), type(t)(0)


@scalar
def cubic_curvatures(t):
    """Derivatives of :func:`.interpolation.cubic_slopes`."""
    return keys_curvatures(t, type(t)(KEYS))


@scalar
def catmull_rom_curvatures(t):
    """Derivatives of :func:`.interpolation.catmull_rom_slopes`."""
    return keys_curvatures(t, type(t)(CATMULL_ROM_KEYS))


@scalar
def keys_curvatures(t, a):
    """Derivatives of :func:`.interpolation.keys_slopes`."""
    one = type(t)(1)
    return (
        _outer_curvature(one + t, a),
        _inner_curvature(t, a),
        _inner_curvature(one - t, a),
        _outer_curvature(one + one - t, a),
    )


@scalar
def _inner_curvature(d, a):
    real = type(d)
    return real(6) * (a + real(2)) * d - real(2) * (a + real(3))


@scalar
def _outer_curvature(d, a):
    real = type(d)
    return real(6) * a * d - real(10) * a


@scalar
def spline2_curvatures(t):
    """Derivatives of :func:`.wide_weights.spline2_slopes`."""
    real = type(t)
    return real(1), real(-2), real(1)


@scalar
def spline3_curvatures(t):
    """Derivatives of :func:`.wide_weights.spline3_slopes`; slopes are differences of weights."""
    a, b, c = spline2_slopes(t)
    return -a, a - b, b - c, c


@scalar
def spline4_curvatures(t):
    """Derivatives of :func:`.wide_weights.spline4_slopes`."""
    a, b, c, d = spline3_slopes(t)
    return -a, a - b, b - c, c - d, d


@scalar
def spline5_curvatures(t):
    """Derivatives of :func:`.wide_weights.spline5_slopes`."""
    a, b, c, d, e = spline4_slopes(t)
    return -a, a - b, b - c, c - d, d - e, e


@scalar
def lanczos_curvatures(t):
    """Derivatives of :func:`.wide_weights.lanczos_slopes`.

    With the kernel v, its sum V and the weights W = v / V: W'' = (v'' - 2 W' V' - W V'') / V.
    """
    angles, weights, slopes = lanczos_angles(t), lanczos_weights(t), lanczos_slopes(t)
    a, b, c, d = angles[0], angles[1], angles[2], angles[3]
    e, f, g, h = angles[4], angles[5], angles[6], angles[7]
    a, b, c, d = _lanczos_at(a), _lanczos_at(b), _lanczos_at(c), _lanczos_at(d)
    e, f, g, h = _lanczos_at(e), _lanczos_at(f), _lanczos_at(g), _lanczos_at(h)
    n = type(t)(1) / (a[0] + b[0] + c[0] + d[0] + e[0] + f[0] + g[0] + h[0])
    slope = type(t)(2) * (a[1] + b[1] + c[1] + d[1] + e[1] + f[1] + g[1] + h[1]) * n
    total = (a[2] + b[2] + c[2] + d[2] + e[2] + f[2] + g[2] + h[2]) * n
    return (
        a[2] * n - slopes[0] * slope - weights[0] * total,
        b[2] * n - slopes[1] * slope - weights[1] * total,
        c[2] * n - slopes[2] * slope - weights[2] * total,
        d[2] * n - slopes[3] * slope - weights[3] * total,
        e[2] * n - slopes[4] * slope - weights[4] * total,
        f[2] * n - slopes[5] * slope - weights[5] * total,
        g[2] * n - slopes[6] * slope - weights[6] * total,
        h[2] * n - slopes[7] * slope - weights[7] * total,
    )


@scalar
def _lanczos_at(angles):
    """sinc(u) sinc(u / 4), its slope and its second derivative."""
    u, s, c, s4, c4 = angles
    a, b = _sinc(u, s, c, type(u)(math.pi)), _sinc(u, s4, c4, type(u)(math.pi / 4))
    bend = a[2] * b[0] + type(u)(2) * a[1] * b[1] + a[0] * b[2]
    return a[0] * b[0], a[1] * b[0] + a[0] * b[1], bend


@scalar
def _sinc(u, s, c, scale):
    """sin(x) / x for x = scale u, its slope and its second derivative in u.

    ``s`` and ``c`` are sine and cosine of x. Near 0 the series is used, in powers of y = x^2: the
    differences of the other formulas would lose digits.
    """
    real = type(u)
    x = scale * u
    if abs(u) > real(0.5):
        value = s / x
        slope = (c - value) / u
        return value, slope, -(scale * s + real(2) * slope) / u
    y, one = x * x, real(1)
    value = slope = curvature = one
    for k in range(8, 0, -1):
        value = one - value * y * (one / real(2 * k * (2 * k + 1)))
        slope = one - slope * y * (one / real(2 * k * (2 * k + 3)))
        ratio = real(2 * k + 1) / real(2 * k * (2 * k - 1) * (2 * k + 3))
        curvature = one - curvature * y * ratio
    third = scale * (one / real(3))
    return value, -x * third * slope, -scale * third * curvature


CURVATURES = (
    nearest_curvatures, linear_curvatures, cubic_curvatures, catmull_rom_curvatures,
    spline2_curvatures, spline3_curvatures, spline4_curvatures, spline5_curvatures,
    lanczos_curvatures,
)  # fmt: skip

# For each mode, a power of two that the sum of the magnitudes of a sample's slopes, over all taps
# and along all three axes, does not exceed: slopes along one axis times weights along the others.
SLOPE_BITS = (0, 3, 5, 4, 3, 3, 2, 2, 5)


@scalar
def eight_curvatures(t, mode):
    """Second derivatives of :func:`.interpolation.eight_weights`."""
    none = type(t)(0)
    a, b, c, d = none, none, none, none
    if mode == LANCZOS4:
        return lanczos_curvatures(t)
    if mode == SPLINE5:
        a, b, c, d, e, f = spline5_curvatures(t)
        return a, b, c, d, e, f, none, none
    if mode == SPLINE4:
        a, b, c, d, e = spline4_curvatures(t)
        return a, b, c, d, e, none, none, none
    if mode == SPLINE3:
        a, b, c, d = spline3_curvatures(t)
    elif mode == SPLINE2:
        a, b, c = spline2_curvatures(t)
    elif mode == BICUBIC:
        a, b, c, d = cubic_curvatures(t)
    elif mode == CATMULL_ROM:
        a, b, c, d = catmull_rom_curvatures(t)
    return a, b, c, d, none, none, none, none
