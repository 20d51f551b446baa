"""How scalar math is compiled for the CPU; a CUDA kernel compiles what it calls by itself.

Nothing has fast-math flags: the same operations in the same order give the same bits wherever they
are compiled.
"""

import functools
from typing import Any

from numba import config, njit
from numba.core.registry import CPUDispatcher

from ..cache import named
from ..linked_code import LinkedCompiler

# Kernels link these functions; so they need no wrappers for calls from Python and from C, nor
# machine code of their own.
_LINKED: dict[str, Any] = {
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
    "pipeline_class": LinkedCompiler,
}


class _CompiledCodeOnly(CPUDispatcher):
    """A function without an address that Python could call."""

    def __call__(self, *args, **kwargs):
        name = self.py_func.__name__
        raise TypeError(f"{name}: only compiled code can call it; use python_callable in Python")

    def add_overload(self, cres):
        self.overloads[tuple(cres.signature.args)] = cres


class _CalledBySimulator(_CompiledCodeOnly):
    """The same in the CUDA simulator, where a kernel is Python code and calls it all the same."""

    @functools.cached_property
    def _callable(self):
        return njit(error_model="numpy")(self.py_func)

    def __call__(self, *args, **kwargs):
        return self._callable(*args, **kwargs)


def scalar(function):
    """Compile scalar math, to be called from compiled code only.

    A function made by a factory gets a name of its own, for the linker.
    """
    return _compiled_code_only(njit(error_model="numpy", **_LINKED)(named(function)))


def inlined(function):
    """As :func:`scalar`, but always inlined: for what a loop does with each block or pixel.

    Left to itself, LLVM would call the function and pass its arguments through memory.
    """
    compiled = njit(error_model="numpy", forceinline=True, **_LINKED)(named(function))
    return _compiled_code_only(compiled)


def _compiled_code_only(function):
    """Let the function refuse calls from Python, unless compilation is disabled."""
    if isinstance(function, CPUDispatcher):
        function.__class__ = _CalledBySimulator if config.ENABLE_CUDASIM else _CompiledCodeOnly
    return function


def python_callable(function):
    """As :func:`scalar`, for functions that Python calls, too; also of a :func:`scalar` itself."""
    return njit(error_model="numpy")(named(getattr(function, "py_func", function)))
