"""How scalar math is compiled: for the CPU here, and in line by each CUDA kernel that calls it.

Nothing has fast-math flags: the same operations in the same order give the same bits wherever they
are compiled.
"""

from numba import njit

from ..cache import named


def scalar(function):
    """Compile scalar math; what a factory makes gets a name of its own, for the linker."""
    return njit(error_model="numpy")(named(function))


def inlined(function):
    """:func:`scalar` for what a loop does with each block.

    LLVM would call it, and pass its arguments through memory.
    """
    return njit(error_model="numpy", forceinline=True)(named(function))
