"""How the numbers of an image are stored, and what they are computed in.

Integers of 8 and 16 bits and float16 are read one by one and computed in float32: there is no
float copy of an image. Numba has no float16 on the CPU, so kernels get its bits as uint16.
"""

import functools

import numpy as np

from .jit import scalar

# float16 has 10 bits of fraction and an exponent whose bias is 15; float32 has 23 and 127.
_SHIFT, _BIAS = 13, 127 - 15

_FLOAT16, _FLOAT32, _FLOAT64 = map(np.dtype, ("float16", "float32", "float64"))


def computed(dtype):
    """The dtype that numbers of this dtype are computed in: a float that holds 32 bits or less."""
    if dtype.kind == "c":
        return dtype
    return _FLOAT64 if dtype.itemsize >= 4 and dtype != _FLOAT32 else _FLOAT32


def bits(array):
    """The array as kernels take it: float16 as uint16."""
    return array.view(np.uint16) if array.dtype == _FLOAT16 else array


@scalar
def from_half(bits):
    """float32 of the bits of a float16.

    Shifted into place, exponent and fraction are those of a float32 that is 2**-112 times the
    number; the product is exact, for subnormal numbers too.
    """
    bits = np.uint16(bits)
    magnitude = np.uint32(np.uint32(bits & np.uint16(0x7FFF)) << np.uint32(_SHIFT))
    if magnitude >= np.uint32(0x7C00 << _SHIFT):  # infinite, or NaN
        magnitude |= np.uint32(0x7F800000)
        value = np.uint32(magnitude).view(np.float32)
    else:
        value = np.uint32(magnitude).view(np.float32) * np.float32(2.0**_BIAS)
    return -value if bits & np.uint16(0x8000) else value


@scalar
def nearest(value):
    """Nearest integer, a half to the even one, of a float32 from 0 to 2**22.

    From 2**23 on, float32 holds integers only, so adding 2**23 rounds. (CUDA kernels have no rint.)
    """
    return (np.float32(value) + np.float32(2.0**23)) - np.float32(2.0**23)


@scalar
def to_half(value):
    """Bits of the float16 nearest to a float32; a half is rounded to the even one."""
    pattern = np.float32(value).view(np.uint32)
    sign = np.uint16((pattern >> np.uint32(16)) & np.uint32(0x8000))
    magnitude = np.uint32(pattern & np.uint32(0x7FFFFFFF))
    if magnitude > np.uint32(0x7F800000):
        return np.uint16(sign | np.uint16(0x7E00))
    if magnitude >= np.uint32((_BIAS + 31) << 23) - np.uint32(1 << 12):  # rounds to infinity
        return np.uint16(sign | np.uint16(0x7C00))
    if magnitude < np.uint32((_BIAS + 1) << 23):  # subnormal: whole numbers of 2**-24
        whole = nearest(np.uint32(magnitude).view(np.float32) * np.float32(2.0**24))
        return np.uint16(sign | np.uint16(whole))
    odd = (magnitude >> np.uint32(_SHIFT)) & np.uint32(1)
    rounded = magnitude + np.uint32(0xFFF) + odd - np.uint32(_BIAS << 23)
    return np.uint16(sign | np.uint16(rounded >> np.uint32(_SHIFT)))


@functools.cache
def make_load(dtype):
    """Function: element of this dtype, type that computes -> number."""
    if dtype == np.float16:

        def load(element, real):
            return from_half(element)

    else:

        def load(element, real):
            return real(element)

    return scalar(load)


@functools.cache
def make_store(dtype):
    """Function: number -> element of this dtype: rounded half to even and saturated."""
    if dtype == np.float16:
        return to_half
    kind = dtype.type
    if dtype.kind != "u":
        return scalar(lambda value: kind(value))
    most = np.float32(np.iinfo(dtype).max)

    return scalar(lambda value: kind(saturated(np.rint(value), most)))


@scalar
def saturated(value, most):
    """``value`` clipped to [0, ``most``]; NaN fails both comparisons and becomes 0."""
    real = type(value)
    if not value > real(0):
        return real(0)
    return value if value < real(most) else real(most)
