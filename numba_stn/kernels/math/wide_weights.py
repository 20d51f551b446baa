"""Weights of modes whose samples read many taps: B-splines, whose taps are coefficients; Lanczos.

Each function of weights has one of their slopes below it; :mod:`.interpolation` lists them by mode.
Their second derivatives are in :mod:`.curvatures`.
"""

import math

from .jit import scalar

# --- B-splines: weights of coefficients -----------------------------------------------------------
#
# ``t`` is the distance from the knot below: knots are at pixels for odd orders, and between pixels
# for even ones. Each order follows from the one before (de Boor 1972), and so do its slopes.


@scalar
def spline2_weights(t):
    """Weights of the three coefficients of a quadratic B-spline."""
    one = type(t)(1)
    a, b, half = one - t, t, type(t)(0.5)
    return a * a * half, ((t + one) * a + (type(t)(2) - t) * b) * half, t * b * half


@scalar
def spline2_slopes(t):
    """Slopes of :func:`spline2_weights`."""
    a, b = type(t)(1) - t, t
    return -a, a - b, b


@scalar
def spline3_weights(t):
    """Weights of the four coefficients of a cubic B-spline."""
    real = type(t)
    (a, b, c), n = spline2_weights(t), real(1) / real(3)
    return (
        (real(1) - t) * a * n,
        ((t + real(2)) * a + (real(2) - t) * b) * n,
        ((t + real(1)) * b + (real(3) - t) * c) * n,
        t * c * n,
    )


@scalar
def spline3_slopes(t):
    """Slopes of :func:`spline3_weights`."""
    a, b, c = spline2_weights(t)
    return -a, a - b, b - c, c


@scalar
def spline4_weights(t):
    """Weights of the five coefficients of a quartic B-spline."""
    real = type(t)
    (a, b, c, d), n = spline3_weights(t), real(0.25)
    return (
        (real(1) - t) * a * n,
        ((t + real(3)) * a + (real(2) - t) * b) * n,
        ((t + real(2)) * b + (real(3) - t) * c) * n,
        ((t + real(1)) * c + (real(4) - t) * d) * n,
        t * d * n,
    )


@scalar
def spline4_slopes(t):
    """Slopes of :func:`spline4_weights`."""
    a, b, c, d = spline3_weights(t)
    return -a, a - b, b - c, c - d, d


@scalar
def spline5_weights(t):
    """Weights of the six coefficients of a quintic B-spline."""
    real = type(t)
    (a, b, c, d, e), n = spline4_weights(t), real(1) / real(5)
    return (
        (real(1) - t) * a * n,
        ((t + real(4)) * a + (real(2) - t) * b) * n,
        ((t + real(3)) * b + (real(3) - t) * c) * n,
        ((t + real(2)) * c + (real(4) - t) * d) * n,
        ((t + real(1)) * d + (real(5) - t) * e) * n,
        t * e * n,
    )


@scalar
def spline5_slopes(t):
    """Slopes of :func:`spline5_weights`."""
    a, b, c, d, e = spline4_weights(t)
    return -a, a - b, b - c, c - d, d - e, e


# --- Lanczos: a windowed sinc over eight pixels ---------------------------------------------------


@scalar
def lanczos_weights(t):
    """Weights sinc(u) sinc(u / 4) of the pixels at the distances u, divided by their sum.

    (Duchon 1979; the weights of OpenCV's INTER_LANCZOS4.)
    """
    values, _ = _lanczos(t)
    a, b, c, d, e, f, g, h = values
    n = type(t)(1) / (a + b + c + d + e + f + g + h)
    return a * n, b * n, c * n, d * n, e * n, f * n, g * n, h * n


@scalar
def lanczos_slopes(t):
    """Slopes of :func:`lanczos_weights`."""
    values, slopes = _lanczos(t)
    a, b, c, d, e, f, g, h = values
    n = type(t)(1) / (a + b + c + d + e + f + g + h)
    p, q, r, s, u, v, w, x = slopes
    m = (p + q + r + s + u + v + w + x) * n
    return (
        (p - a * m) * n,
        (q - b * m) * n,
        (r - c * m) * n,
        (s - d * m) * n,
        (u - e * m) * n,
        (v - f * m) * n,
        (w - g * m) * n,
        (x - h * m) * n,
    )


@scalar
def _lanczos(t):
    """The kernel and its slope at the distances of the eight pixels."""
    a, b, c, d, e, f, g, h = lanczos_angles(t)
    p, q, r, s = _lanczos_at(a), _lanczos_at(b), _lanczos_at(c), _lanczos_at(d)
    v, w, x, y = _lanczos_at(e), _lanczos_at(f), _lanczos_at(g), _lanczos_at(h)
    values = p[0], q[0], r[0], s[0], v[0], w[0], x[0], y[0]
    return values, (p[1], q[1], r[1], s[1], v[1], w[1], x[1], y[1])


@scalar
def lanczos_angles(t):
    """The distances u = t + 3, t + 2, ..., t - 4, each with sine and cosine of pi u and pi u / 4.

    The sines at the other distances follow from those at t: for sinc(u) the sign alternates, for
    sinc(u / 4) the angle changes by 45 degrees.
    """
    real = type(t)
    up, two = real(1) - t, real(2)
    # An angle of at most a quarter of pi, doubled twice: exact for t near 1, too.
    near, far = _sine_and_cosine(real(math.pi / 4) * min(t, up))
    half = two * near * far
    s, c = two * half * (real(1) - two * near * near), real(1) - two * half * half
    c = c if t < up else -c
    s4, c4 = _sine_and_cosine(real(math.pi / 4) * t)
    h = real(math.sqrt(0.5))
    plus, minus = (s4 + c4) * h, (c4 - s4) * h
    return (
        (t + real(3), -s, -c, minus, -plus),
        (t + real(2), s, c, c4, -s4),
        (t + real(1), -s, -c, plus, minus),
        (t, s, c, s4, c4),
        (-up, -s, -c, -minus, plus),
        (t - real(2), s, c, -c4, s4),
        (t - real(3), -s, -c, -plus, -minus),
        (t - real(4), s, c, -s4, -c4),
    )


@scalar
def _sine_and_cosine(x):
    """Sine and cosine of angles from 0 to pi / 4, by their series."""
    real, y = type(x), x * x
    sine, cosine = real(1), real(1)
    for k in range(8, 0, -1):
        sine = real(1) - sine * y * (real(1) / real(2 * k * (2 * k + 1)))
        cosine = real(1) - cosine * y * (real(1) / real(2 * k * (2 * k - 1)))
    return x * sine, cosine


@scalar
def _lanczos_at(angles):
    """sinc(u) sinc(u / 4) and its slope, from :func:`lanczos_angles`."""
    u, s, c, s4, c4 = angles
    a, da = _sinc(u, s, c, type(u)(math.pi))
    b, db = _sinc(u, s4, c4, type(u)(math.pi / 4))
    return a * b, da * b + a * db


@scalar
def _sinc(u, s, c, scale):
    """sin(x) / x for x = scale u, and its slope in u; ``s`` and ``c`` are sine and cosine of x."""
    real = type(u)
    x = scale * u
    if abs(u) > real(1 / 32):
        value = s / x
        return value, (c - value) / u
    y = x * x  # series: the difference above would be inexact, or 0 / 0
    value = real(1) - y / real(6) * (real(1) - y / real(20) * (real(1) - y / real(42)))
    slope = real(1) - y / real(10) * (real(1) - y / real(28) * (real(1) - y / real(54)))
    return value, -x / real(3) * scale * slope
