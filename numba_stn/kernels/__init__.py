"""The compiled loops. One module a target, the same names in both; the arrays choose.

Nothing here is public: kernels trust their arguments, and :mod:`numba_stn.functional` checks them.
"""

from types import ModuleType
from typing import Any


def on_gpu(array: Any) -> bool:
    """Whether ``array`` lives on a CUDA device (or on Numba's simulated one)."""
    return hasattr(array, "__cuda_array_interface__") or hasattr(array, "__cuda_ndarray__")


def backend(gpu: bool) -> ModuleType:
    """The module whose kernels run: imported on first use, for CUDA takes its time."""
    if gpu:
        from . import cuda

        return cuda
    from . import cpu

    return cpu
