"""How scalar math is compiled for the CPU; a CUDA kernel compiles what it calls by itself.

Nothing has fast-math flags: the same operations in the same order give the same bits wherever they
are compiled.
"""

from numba import njit

from ..cache import named


def scalar(function):
    """Compile scalar math. A function made by a factory gets a name of its own, for the linker."""
    return njit(error_model="numpy")(named(function))


def inlined(function):
    """As :func:`scalar`, but always inlined: for what a loop does with each block or pixel.

    Left to itself, LLVM would call the function and pass its arguments through memory.
    """
    return njit(error_model="numpy", forceinline=True)(named(function))
