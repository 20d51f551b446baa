"""Whose functions work on an array: NumPy's or CuPy's, as the array itself is one or the other.

CuPy is imported when someone asks for the device "cuda", and nowhere else: an array of it can come
only from a process that has it.
"""

import importlib
import sys
from types import ModuleType
from typing import Any

import numpy as np

from ..kernels import on_gpu

DEVICES = ("cpu", "cuda")

_CUDA_REQUIREMENTS = (
    'the device "cuda" needs CuPy, numba-cuda, an NVIDIA GPU and its driver; '
    '`pip install "numba-stn[train,cupy12]"`, or `"numba-stn[train,cupy13]"` for a driver of '
    "CUDA 13, brings the packages"
)


def is_cupy(array: Any) -> bool:
    """Whether ``array`` is CuPy's."""
    kind = type(array)
    return kind is not np.ndarray and kind.__module__.partition(".")[0] == "cupy"


def namespace(*arrays: Any) -> ModuleType:
    """The module ``cupy`` if the arrays are CuPy's, else ``numpy``.

    Raises
    ------
    TypeError
        If some are CuPy's and others are not.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_stn.utils.namespace import namespace
    >>> namespace(np.ones(3), np.ones(2)) is np
    True
    """
    found = {is_cupy(array) for array in arrays}
    if len(found) > 1:
        kinds = " and ".join(f"{type(a).__module__}.{type(a).__name__}" for a in arrays)
        raise TypeError(f"expected arrays of one library, NumPy or CuPy, got {kinds}")
    return sys.modules["cupy"] if True in found else np


def as_array(array: Any, name: str) -> Any:
    """An array of CuPy's as it is, anything else as NumPy's; an error names it.

    Raises
    ------
    TypeError
        If it is on a GPU and not CuPy's: NumPy would copy it to the host. Or is no array.
    """
    if is_cupy(array):
        return array
    if on_gpu(array):
        kind = f"{type(array).__module__}.{type(array).__name__}"
        raise TypeError(
            f"{name}: expected an array of NumPy or CuPy, got {kind}; cupy.asarray makes one of "
            f"it, in the same memory"
        )
    try:
        return np.asarray(array)
    except ValueError as error:  # lists of several lengths
        kind = type(array).__name__
        raise TypeError(f"{name}: expected an array, got {kind}: {error}") from error


def to_device_of(array: Any, *others: Any) -> Any:
    """``array`` where the others are: copied to the GPU if any of them is CuPy's."""
    there = next((other for other in others if is_cupy(other)), None)
    return array if there is None else namespace(there).asarray(array)


def to_host(array: Any) -> Any:
    """``array`` as NumPy's, copied from the GPU if it is CuPy's."""
    return array.get() if is_cupy(array) else array


# --- Devices by name ------------------------------------------------------------------------------


def array_library(device: str) -> ModuleType:
    """The library whose arrays live on ``device``: "cpu" or "cuda".

    Raises
    ------
    ValueError
        If there is no such device.
    RuntimeError
        If something that "cuda" needs is missing; the message says what, and how to get it.

    Examples
    --------
    >>> from numba_stn.utils.namespace import library
    >>> library("cpu").__name__
    'numpy'
    """
    if device not in DEVICES:
        raise ValueError(f"device: expected one of {list(DEVICES)}, got {device!r}")
    return np if device == "cpu" else _import_cupy()


def _import_cupy() -> ModuleType:
    try:
        cupy = importlib.import_module("cupy")
        ready = cupy.cuda.is_available()
    except Exception as error:  # one that does not fit its driver fails in ways of its own
        raise RuntimeError(f"{_CUDA_REQUIREMENTS}: {_first_line(error)}") from error
    if not ready:
        raise RuntimeError(f"{_CUDA_REQUIREMENTS}: CuPy finds no GPU, or no driver for it")
    from ..kernels.cuda import device  # what the warps run on

    device._require_driver()
    return cupy


def _first_line(error: Exception) -> str:
    """An error's first line, for CuPy's own are pages; its type if it says nothing."""
    return next(iter(str(error).split("\n")), "").strip() or type(error).__name__


def gpu_name(array_library: ModuleType) -> str | None:
    """What the current GPU is called; None for NumPy."""
    if array_library is np:
        return None
    runtime = array_library.cuda.runtime
    name = runtime.getDeviceProperties(runtime.getDevice())["name"]
    return name.decode() if isinstance(name, bytes) else str(name)
