"""The GPU that :mod:`benchmarks.gpu` measures: its arrays and its description."""

import contextlib
import importlib
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from importlib import metadata
from types import ModuleType
from typing import Any

import numpy as np

LIBRARIES = ("numba-stn", "numba", "numba-cuda", "numpy", "scipy", "torch", "cupy",
             "cupy-cuda12x", "cupy-cuda13x")  # fmt: skip


class Gpu:
    """The current device, and the libraries that allocate on it."""

    def __init__(self, arrays: str = "any") -> None:
        """Find the device, and the libraries or the one whose arrays are wanted.

        Raises
        ------
        RuntimeError
            If no kernel can run here; the message names what is missing.
        """
        from numba_stn.kernels.cuda import device

        device._require_driver()
        self.cuda = device.cuda
        self.cupy, self.torch = (
            _library(name) if arrays in ("any", name) else None for name in ("cupy", "torch")
        )

    @property
    def arrays(self) -> str:
        """The library whose arrays are the inputs of numba_stn."""
        return "cupy" if self.cupy else "torch" if self.torch else "numba"

    def put(self, array: Any) -> Any:
        """Copy a NumPy array to the device; None stays None."""
        if array is None:
            return None
        if self.cupy:
            return self.cupy.asarray(array)
        if self.torch:
            return self.torch.tensor(array, device="cuda")
        return self.cuda.to_device(array)

    def tensor(self, array: Any) -> Any:
        """View an array on the device as a PyTorch tensor in the same memory; None stays None.

        The tensor is detached, so that gradients which PyTorch computes do not affect our inputs.
        """
        return None if array is None else self.torch.as_tensor(array, device="cuda").detach()

    def free(self) -> None:
        """Free the memory that the libraries' allocators hold, for the next row."""
        self.cuda.synchronize()
        _or_none(lambda: self.cuda.current_context().deallocations.clear())
        if self.cupy:
            self.cupy.get_default_memory_pool().free_all_blocks()
        if self.torch:
            self.torch.cuda.empty_cache()

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """Run other work on the device, on a non-blocking stream.

        Numba cannot make such a stream, so without CuPy and PyTorch there is no other work.
        """
        library = self.torch or self.cupy
        if library:
            stream = self.cupy.cuda.Stream(non_blocking=True)
            if self.torch:
                stream = self.torch.cuda.stream(self.torch.cuda.Stream())
            with stream:
                options = {"device": "cuda"} if self.torch else {}
                work = library.ones(1 << 26, **options)
                for _ in range(50):
                    work = library.sin(work)
        yield
        self.cuda.synchronize()

    def l2(self) -> int:
        """Bytes of the last-level cache, or more."""
        return _or_none(lambda: int(self.cuda.get_current_device().L2_CACHE_SIZE)) or 128 << 20

    def about(self) -> dict[str, Any]:
        """Describe the device, the driver and the versions; None is unknown.

        ``driver`` and ``runtime`` are versions of CUDA: the newest that the driver supports, and
        that of the compiler.
        """
        cuda, device = self.cuda, self.cuda.get_current_device()
        versions = {}
        for name in LIBRARIES:
            with contextlib.suppress(metadata.PackageNotFoundError):
                versions[name] = metadata.version(name)
        return {
            "name": _or_none(lambda: _text(device.name)),
            "compute_capability": _or_none(lambda: _dotted(device.compute_capability)),
            "memory_bytes": _or_none(lambda: int(cuda.current_context().get_memory_info().total)),
            "l2_bytes": _or_none(lambda: int(device.L2_CACHE_SIZE)),
            "driver": _or_none(lambda: _dotted(cuda.cudadrv.driver.driver.get_version())),
            "runtime": _or_none(lambda: _dotted(cuda.cudadrv.runtime.runtime.get_version())),
            "driver_package": _driver_package(),
            "arrays": self.arrays,
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "versions": versions,
        }


def host(array: Any) -> Any:
    """Copy an array of any library to NumPy."""
    if isinstance(array, np.ndarray):
        return array
    for copied in ("copy_to_host", "get"):  # Numba's, CuPy's
        if hasattr(array, copied):
            return getattr(array, copied)()
    return array.detach().cpu().numpy()


def _library(name: str) -> ModuleType | None:
    """Import CuPy or PyTorch; None if it is not installed or has no GPU."""
    from numba import config

    if getattr(config, "ENABLE_CUDASIM", 0):  # the simulated device has only Numba's arrays
        return None
    try:
        module = importlib.import_module(name)
        return module if module.cuda.is_available() else None
    except Exception:  # an incompatible driver can raise anything
        return None


def _or_none(function):
    """Call a function; None if it fails, as in the simulator."""
    try:
        return function()
    except Exception:
        return None


def _text(name):
    return name.decode() if isinstance(name, bytes) else str(name)


def _dotted(version):
    return ".".join(map(str, version))


def _driver_package():
    """The version of the driver's package."""
    if not shutil.which("nvidia-smi"):
        return None
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    return _or_none(lambda: subprocess.run(command, capture_output=True, text=True, check=True,
                                         timeout=30).stdout.split()[0])  # fmt: skip
