"""The library of an array: NumPy or CuPy.

CuPy is imported when the device "cuda" is requested, and nowhere else: a process with an array of
CuPy has already imported it.
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
    "CUDA 13, installs the packages"
)


def is_cupy(array: Any) -> bool:
    """Return whether ``array`` is CuPy's."""
    kind = type(array)
    return kind is not np.ndarray and kind.__module__.partition(".")[0] == "cupy"


def namespace(*arrays: Any) -> ModuleType:
    """Return the module ``cupy`` if the arrays are CuPy's, else ``numpy``.

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
    """Return CuPy's arrays unchanged, and anything else as an array of NumPy.

    Raises
    ------
    TypeError
        If it is not an array, or is on a GPU and not CuPy's: NumPy would copy it to the host. The
        message begins with ``name``.
    """
    if is_cupy(array):
        return array
    if on_gpu(array):
        kind = f"{type(array).__module__}.{type(array).__name__}"
        raise TypeError(
            f"{name}: expected an array of NumPy or CuPy, got {kind}; cupy.asarray converts it "
            f"without a copy"
        )
    try:
        return np.asarray(array)
    except ValueError as error:  # nested lists of unequal lengths
        kind = type(array).__name__
        raise TypeError(f"{name}: expected an array, got {kind}: {error}") from error


def to_device_of(array: Any, *others: Any) -> Any:
    """Copy ``array`` to the GPU if any of the others is CuPy's."""
    on_device = next((other for other in others if is_cupy(other)), None)
    return array if on_device is None else namespace(on_device).asarray(array)


def to_host(array: Any) -> Any:
    """Return ``array`` as NumPy's, copied from the GPU if it is CuPy's."""
    return array.get() if is_cupy(array) else array


# --- Devices by name ------------------------------------------------------------------------------


def array_library(device: str) -> ModuleType:
    """Return the library whose arrays are on ``device``, "cpu" or "cuda".

    Raises
    ------
    ValueError
        If there is no such device.
    RuntimeError
        If a requirement of "cuda" is missing; the message names it and how to install it.

    Examples
    --------
    >>> from numba_stn.utils.namespace import array_library
    >>> array_library("cpu").__name__
    'numpy'
    """
    if device not in DEVICES:
        raise ValueError(f"device: expected one of {list(DEVICES)}, got {device!r}")
    return np if device == "cpu" else _import_cupy()


def _import_cupy() -> ModuleType:
    """Import CuPy and check that it can use a GPU."""
    try:
        cupy = importlib.import_module("cupy")
        ready = cupy.cuda.is_available()
    except Exception as error:  # CuPy with a wrong driver raises many kinds of errors
        raise RuntimeError(f"{_CUDA_REQUIREMENTS}: {_first_line(error)}") from error
    if not ready:
        raise RuntimeError(f"{_CUDA_REQUIREMENTS}: CuPy finds no GPU, or no driver for it")
    from ..kernels.cuda import device  # the warps' driver

    device._require_driver()
    return cupy


def _first_line(error: Exception) -> str:
    """Return the first line of an error (CuPy's have pages), or its type if it has no text."""
    return next(iter(str(error).split("\n")), "").strip() or type(error).__name__


def gpu_name(array_library: ModuleType) -> str | None:
    """Return the name of the current GPU; None for NumPy."""
    if array_library is np:
        return None
    runtime = array_library.cuda.runtime
    name = runtime.getDeviceProperties(runtime.getDevice())["name"]
    return name.decode() if isinstance(name, bytes) else str(name)
