"""Weights of Lanczos's interpolation and their slopes, as in :mod:`...math.wide_weights`."""

import math

from .vectors import lanes


def lanczos_weights(emit, t):
    """The weights of the eight taps."""
    values = [value for value, _ in _lanczos(emit, t, False)]
    share = _inverse_sum(emit, values)
    return [emit.builder.fmul(value, share) for value in values]


def lanczos_slopes(emit, t):
    """The slopes of :func:`lanczos_weights`."""
    b = emit.builder
    values, slopes = zip(*_lanczos(emit, t, True), strict=True)
    share = _inverse_sum(emit, values)
    mean = b.fmul(_sum(b, slopes), share)
    return [
        b.fmul(b.fsub(slope, b.fmul(value, mean)), share)
        for value, slope in zip(values, slopes, strict=True)
    ]


def _inverse_sum(emit, values):
    return emit.builder.fdiv(lanes(emit.real, 1.0), _sum(emit.builder, values))


def _sum(b, values):
    total, *others = values
    for value in others:
        total = b.fadd(total, value)
    return total


def _lanczos(emit, t, sloped):
    """The kernel and its slope at the distances t + 3, t + 2, ..., t - 4."""
    b = emit.builder

    def number(value):
        return lanes(emit.real, value)

    one, two = number(1.0), number(2.0)
    up = b.fsub(one, t)
    below = b.fcmp_ordered("<", t, up)
    near, far = _sine_and_cosine(emit, b.fmul(number(math.pi / 4), b.select(below, t, up)))
    half = b.fmul(b.fmul(two, near), far)
    s = b.fmul(b.fmul(two, half), b.fsub(one, b.fmul(b.fmul(two, near), near)))
    c = b.fsub(one, b.fmul(b.fmul(two, half), half))
    c = b.select(below, c, b.fneg(c))
    s4, c4 = _sine_and_cosine(emit, b.fmul(number(math.pi / 4), t))
    root = number(math.sqrt(0.5))
    plus, minus = b.fmul(b.fadd(s4, c4), root), b.fmul(b.fsub(c4, s4), root)
    no = b.fneg
    taps = [
        (b.fadd(t, number(3.0)), -1, minus, no(plus)),
        (b.fadd(t, two), 1, c4, no(s4)),
        (b.fadd(t, one), -1, plus, minus),
        (t, 1, s4, c4),
        (no(up), -1, no(minus), plus),
        (b.fsub(t, two), 1, no(c4), s4),
        (b.fsub(t, number(3.0)), -1, no(plus), no(minus)),
        (b.fsub(t, number(4.0)), 1, no(s4), no(c4)),
    ]
    found = []
    for u, sign, sine, cosine in taps:
        whole = (s, c) if sign > 0 else (no(s), no(c))
        value, slope = _sinc(emit, u, *whole, math.pi, sloped)
        window, window_slope = _sinc(emit, u, sine, cosine, math.pi / 4, sloped)
        both = None
        if sloped:
            both = b.fadd(b.fmul(slope, window), b.fmul(value, window_slope))
        found.append((b.fmul(value, window), both))
    return found


def _sine_and_cosine(emit, x):
    """Sine and cosine of angles from 0 to pi / 4, by their series."""
    b, one = emit.builder, lanes(emit.real, 1.0)
    y = b.fmul(x, x)
    sine = cosine = one
    for k in range(8, 0, -1):
        odd, even = (
            b.fdiv(one, lanes(emit.real, float(2 * k * n))) for n in (2 * k + 1, 2 * k - 1)
        )
        sine = b.fsub(one, b.fmul(b.fmul(sine, y), odd))
        cosine = b.fsub(one, b.fmul(b.fmul(cosine, y), even))
    return b.fmul(x, sine), cosine


def _sinc(emit, u, s, c, scale, sloped):
    """sin(x) / x for x = scale u, and its slope in u; ``s`` and ``c`` are sine and cosine of x."""
    b, factor = emit.builder, lanes(emit.real, scale)

    def one_less(share, number):
        divided = b.fdiv(share, lanes(emit.real, float(number)))
        return lambda inner: b.fsub(lanes(emit.real, 1.0), b.fmul(divided, inner))

    x = b.fmul(factor, u)
    y = b.fmul(x, x)
    far = b.fcmp_ordered(">", emit.call("fabs", u), lanes(emit.real, 1 / 32))
    one = lanes(emit.real, 1.0)
    series = one_less(y, 6)(one_less(y, 20)(one_less(y, 42)(one)))
    quotient = b.fdiv(s, x)
    value = b.select(far, quotient, series)
    if not sloped:
        return value, None
    slope = one_less(y, 10)(one_less(y, 28)(one_less(y, 54)(one)))
    slope = b.fmul(b.fmul(b.fneg(b.fdiv(x, lanes(emit.real, 3.0))), factor), slope)
    return value, b.select(far, b.fdiv(b.fsub(c, quotient), u), slope)
