"""The compiled kernels, for CPU and GPU; the arrays of a call choose.

:mod:`.cpu.backend` and :mod:`.cuda.backend` have the same functions: begin there. The scalar
formulas that both use are in :mod:`.math`. Nothing here is public: kernels trust their arguments,
which :mod:`numba_stn.ops` checks.
"""

import functools
import importlib
from types import ModuleType
from typing import Any


def on_gpu(array: Any) -> bool:
    """Whether ``array`` is on a CUDA device, or on Numba's simulated one."""
    return hasattr(array, "__cuda_array_interface__") or hasattr(array, "__cuda_ndarray__")


@functools.cache
def backend(gpu: bool) -> ModuleType:
    """The module whose functions run; it is imported on first use, as importing CUDA is slow."""
    return importlib.import_module(f".{'cuda' if gpu else 'cpu'}.backend", __name__)
