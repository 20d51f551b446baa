"""The kernels under numba-cuda-mlir, the successor of numba-cuda, which has the same decorators.

Only :mod:`.device` imports this module, where numba-cuda-mlir alone is installed. It does not know
the functions of Numba, which it does not import. Three things are missing for these kernels, and
are added here through its own registries, tried with version 0.6.0:

- calls of functions that are compiled for the CPU as well, the scalar math;
- ``type(x)``, by which that math keeps to the type of its arguments;
- named tuples that are made in a kernel.
"""

import importlib
from typing import Any

from numba.core.dispatcher import Dispatcher

cuda: Any = importlib.import_module("numba_cuda_mlir.cuda")
_extending: Any = importlib.import_module("numba_cuda_mlir.extending")
_types: Any = importlib.import_module("numba_cuda_mlir.numba_cuda.types")
_typeof: Any = importlib.import_module("numba_cuda_mlir.numba_cuda.typing.typeof").typeof_impl

_type_of_class = _typeof.dispatch(type)
_named_tuples: set[type] = set()


@_typeof.register(Dispatcher)
def _type_of_scalar_math(function, context):
    """Let kernels call a function of Numba: the same source is compiled as a device function."""
    if not hasattr(function, "_numba_cuda_mlir_device_dispatcher"):
        function._numba_cuda_mlir_device_dispatcher = cuda.jit(device=True)(function.py_func)
        function.__numba_cuda_mlir_jitable__ = True
    return _typeof(function._numba_cuda_mlir_device_dispatcher, context)


@_typeof.register(type)
def _type_of_named_tuple(value, context):
    """Let kernels make a named tuple, which is the tuple of its fields."""
    if issubclass(value, tuple) and hasattr(value, "_fields") and value not in _named_tuples:
        _named_tuples.add(value)
        _extending.lower_builtin(value, _types.VarArg(_types.Any))(_make_tuple)
        _extending.refresh_registries()
    return _type_of_class(value, context)


def _make_tuple(lower, target, args, kws):
    lower.lower_build_tuple_expr_assign(target, args)


def _type_of_number(lower, target, args, kws):
    """Lower ``type(x)``: a class has no value at run time, only its type counts."""
    lower.store_var(target, lower.get_numba_type(target.name))


_extending.lower_builtin(type, _types.Any)(_type_of_number)
_extending.refresh_registries()
