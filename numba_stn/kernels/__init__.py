"""The compiled loops. One module a target, the same names in both; the arrays choose.

Nothing here is public: kernels trust their arguments, and :mod:`numba_stn.ops.grid_sample` checks
them.
"""

import importlib
from types import ModuleType
from typing import Any


def on_gpu(array: Any) -> bool:
    """Whether ``array`` lives on a CUDA device (or on Numba's simulated one)."""
    return hasattr(array, "__cuda_array_interface__") or hasattr(array, "__cuda_ndarray__")


def backend(gpu: bool) -> ModuleType:
    """The module whose kernels run: imported on first use, because importing CUDA takes long."""
    return importlib.import_module(f".{'cuda' if gpu else 'cpu'}.backend", __name__)
