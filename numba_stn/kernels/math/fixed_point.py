"""Fixed-point sums, for CUDA: integers whose sum does not depend on the order of the terms.

A sum of floats depends on the order of its terms, and a GPU has no fixed order. A sum of integers
does not. So terms are scaled by a power of two, rounded to int64, added, and scaled back. The power
is the largest for which the sum cannot overflow, whatever the terms' signs.
"""

import math

from .jit import scalar

# The number of fraction bits of a float; the exponent is above them.
FRACTION32, FRACTION64 = 23, 52

# Sums stay below 2 to this power, which leaves room for the rounding of every term.
SUM_BITS = 62


@scalar
def exponent_bias(fraction):
    """Exponent field of 1.0: 127, or 1023 where the fraction has 52 bits."""
    return 1023 if fraction == FRACTION64 else 127


@scalar
def bits_are_finite(bits, fraction):
    """Whether the magnitude with these bits is neither infinite nor NaN."""
    return (bits >> fraction) <= 2 * exponent_bias(fraction)


@scalar
def fixed_point_shift(peak, fraction, terms):
    """Power s of the scale 2**s for at most 2**``terms`` terms no larger than the peak.

    ``peak`` holds the bits of the largest magnitude: a float whose exponent field is e is less than
    2**(e - bias + 1), so a scaled term below 2**(SUM_BITS - terms). Both the scale and its
    inverse must be normal floats, hence the limit for tiny peaks.
    """
    bias = exponent_bias(fraction)
    return min(SUM_BITS - terms - ((peak >> fraction) - bias + 1), bias - 1)


@scalar
def fixed_point_scale(peak, fraction, terms, one):
    """2**s in the precision of ``one``, where s is the :func:`fixed_point_shift`."""
    return type(one)(math.ldexp(one, int(fixed_point_shift(peak, fraction, terms))))


@scalar
def quantize(value, scale):
    """Nearest integer to ``value * scale``; a half goes up."""
    real = type(scale)
    scaled = value * scale
    below = math.floor(scaled)
    return int(below) + int(scaled - real(below) >= real(0.5))


@scalar
def dequantize(total, scale):
    """The float of a sum of quantised values; rounded once."""
    return type(scale)(total) / scale
