"""The GPU that :mod:`benchmarks.gpu` measures: whose arrays are used, and what it is."""

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

    def __init__(self) -> None:
        """Find them.

        Raises
        ------
        RuntimeError
            If no kernel can run here; the message says what is missing.
        """
        from numba_stn.kernels.cuda import device

        device._require_driver()
        self.cuda = device.cuda
        self.cupy, self.torch = (_library(name) for name in ("cupy", "torch"))

    @property
    def arrays(self) -> str:
        """Whose arrays our functions are given."""
        return "cupy" if self.cupy else "torch" if self.torch else "numba"

    def put(self, array: Any) -> Any:
        """A NumPy array on the device; None as it is."""
        if array is None:
            return None
        if self.cupy:
            return self.cupy.asarray(array)
        if self.torch:
            return self.torch.tensor(array, device="cuda")
        return self.cuda.to_device(array)

    def tensor(self, array: Any) -> Any:
        """PyTorch's view of an array on the device, in the same memory; None as it is.

        Detached: a tensor of ours must not learn that PyTorch wants its gradient.
        """
        return None if array is None else self.torch.as_tensor(array, device="cuda").detach()

    def tidy(self) -> None:
        """Give back what the libraries' allocators keep, for the next row's libraries."""
        self.cuda.synchronize()
        _known(lambda: self.cuda.current_context().deallocations.clear())
        if self.cupy:
            self.cupy.get_default_memory_pool().free_all_blocks()
        if self.torch:
            self.torch.cuda.empty_cache()

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """Other work on the device meanwhile, on a stream that waits for no other.

        Numba makes no such stream, so without CuPy and PyTorch there is none.
        """
        library = self.torch or self.cupy
        if library:
            stream = self.cupy.cuda.Stream(non_blocking=True)
            if self.torch:
                stream = self.torch.cuda.stream(self.torch.cuda.Stream())
            with stream:
                place = {"device": "cuda"} if self.torch else {}
                work = library.ones(1 << 26, **place)
                for _ in range(50):
                    work = library.sin(work)
        yield
        self.cuda.synchronize()

    def l2(self) -> int:
        """Bytes of the last cache, or more."""
        return _known(lambda: int(self.cuda.get_current_device().L2_CACHE_SIZE)) or 128 << 20

    def about(self) -> dict[str, Any]:
        """What was measured on: the device, the driver, and versions; None: it could not be told.

        ``driver`` and ``runtime`` are versions of CUDA: the newest that the driver serves, and
        that of the compiler.
        """
        cuda, device = self.cuda, self.cuda.get_current_device()
        versions = {}
        for name in LIBRARIES:
            with contextlib.suppress(metadata.PackageNotFoundError):
                versions[name] = metadata.version(name)
        return {
            "name": _known(lambda: _text(device.name)),
            "compute_capability": _known(lambda: _dotted(device.compute_capability)),
            "memory_bytes": _known(lambda: int(cuda.current_context().get_memory_info().total)),
            "l2_bytes": _known(lambda: int(device.L2_CACHE_SIZE)),
            "driver": _known(lambda: _dotted(cuda.cudadrv.driver.driver.get_version())),
            "runtime": _known(lambda: _dotted(cuda.cudadrv.runtime.runtime.get_version())),
            "driver_package": _driver_package(),
            "arrays": self.arrays,
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "versions": versions,
        }


def host(array: Any) -> Any:
    """The NumPy array of any library's array."""
    if isinstance(array, np.ndarray):
        return array
    for copied in ("copy_to_host", "get"):  # Numba's, CuPy's
        if hasattr(array, copied):
            return getattr(array, copied)()
    return array.detach().cpu().numpy()


def _library(name: str) -> ModuleType | None:
    """CuPy or PyTorch, where it is installed and has a GPU."""
    from numba import config

    if getattr(config, "ENABLE_CUDASIM", 0):  # the simulated device has Numba's arrays alone
        return None
    try:
        module = importlib.import_module(name)
        return module if module.cuda.is_available() else None
    except Exception:  # one that does not fit the driver fails in ways of its own
        return None


def _known(ask):
    """What ``ask`` gives; None where it cannot be told, as in the simulator."""
    try:
        return ask()
    except Exception:
        return None


def _text(name):
    return name.decode() if isinstance(name, bytes) else str(name)


def _dotted(version):
    return ".".join(map(str, version))


def _driver_package():
    """The driver's own version."""
    if not shutil.which("nvidia-smi"):
        return None
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    return _known(lambda: subprocess.run(command, capture_output=True, text=True, check=True,
                                         timeout=30).stdout.split()[0])  # fmt: skip
