"""What a call would launch on a GPU: its kernels, the types they are compiled for, and the sizes.

No GPU is needed and no kernel runs: the arrays are NumPy's with the mark of a device array, and
launches are written down. Large arrays cost nothing, because their memory is never touched.
"""

import contextlib
import importlib
import mmap
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from numba_stn.kernels.cuda import backend, device

# numba-cuda uses the types of Numba, its successor has its own.
_OF = {"numba-cuda": ("numba.core.types", "numba"), "numba-cuda-mlir": (
    "numba_cuda_mlir.numba_cuda.types", "numba_cuda_mlir.numba_cuda.typing.typeof")}  # fmt: skip
types, _typing = map(importlib.import_module, _OF[device.PACKAGE])


class Pretended(np.ndarray):
    """An array that passes for one on a GPU."""

    __cuda_ndarray__ = True


class Launch(NamedTuple):
    """One launch: the kernel, the types of its arguments, its grid, and the bytes of its arrays."""

    kernel: Any
    types: tuple
    blocks: tuple
    block: tuple  # threads of a block along x, y ...
    sizes: tuple  # bytes of each array among the arguments
    args: tuple

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return int(np.prod(self.block))


def pretended(array: Any) -> Any:
    """An array of the same shape and dtype that passes for one on a GPU."""
    return None if array is None else np.asarray(array).view(Pretended)


def empty(shape: tuple[int, ...], dtype: Any = np.float32) -> Any:
    """An array of zeros; of a large one, only the pages that are touched take memory."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if size < 1 << 20:
        return np.zeros(shape, dtype).view(Pretended)
    memory = mmap.mmap(-1, size)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):  # those would be zeroed as a whole
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(memory, dtype).reshape(shape).view(Pretended)


def launches(call: Callable[[], object]) -> list[Launch]:
    """Make a call with pretended arrays, and list what it would launch, in order."""
    with recording() as found:
        call()
    return found


@contextlib.contextmanager
def recording() -> Iterator[list[Launch]]:
    """Context in which launches are written down instead of run."""
    assert backend  # its modules import the real module of CUDA, before it is replaced
    found: list[Launch] = []

    def configured(kernel, blocks, threads, stream):
        return lambda *args: found.append(_launch(kernel, blocks, threads, args))

    stand_in = SimpleNamespace(
        jit=device.cuda.jit,
        compile_ptx=device.cuda.compile_ptx,
        device_array=empty,
        to_device=pretended,
        get_current_device=lambda: SimpleNamespace(id=0),
        synchronize=lambda: None,
    )
    before = device._require_driver, device.cuda, device._configured
    device._require_driver, device.cuda, device._configured = lambda: None, stand_in, configured
    device._uploaded.cache_clear()
    try:
        yield found
    finally:
        device._require_driver, device.cuda, device._configured = before
        device._uploaded.cache_clear()


def _launch(kernel, blocks, threads, args):
    arrays = tuple(arg.nbytes for arg in args if isinstance(arg, np.ndarray))
    blocks = blocks if isinstance(blocks, tuple) else (blocks,)
    block = threads if isinstance(threads, tuple) else (threads,)
    return Launch(kernel, tuple(map(_type, args)), blocks, block, arrays, args)


def _type(arg):
    """The type that Numba gives to an argument on a GPU."""
    if isinstance(arg, np.ndarray):
        return types.Array(_typing.typeof(arg.dtype.type(0)), arg.ndim, "C")
    if isinstance(arg, tuple):
        parts = tuple(map(_type, arg))
        same = len(set(parts)) == 1
        return types.UniTuple(parts[0], len(parts)) if same else types.Tuple(parts)
    return _typing.typeof(arg)


def name_of(kernel: Any) -> str:
    """A kernel's name: its module, its function, and the choices it was made for."""
    function = kernel.py_func
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    chosen = [f"{name}={_short(cell.cell_contents)}" for name, cell in cells if name != "sources"]
    module = function.__module__.rpartition(".")[2]
    return f"{module}.{function.__name__}" + (f" ({', '.join(chosen)})" if chosen else "")


def _short(value):
    return getattr(value, "__name__", None) or str(value)


def types_of(found: tuple) -> str:
    """The types of a kernel's numbers in a few words: those of its arrays, and of indices."""
    names = [str(each.dtype) for each in found if isinstance(each, types.Array)]
    wide = any(isinstance(each, types.BaseTuple) and "int64" in str(each) for each in found)
    return " ".join(dict.fromkeys(names)) + (", 64-bit indices" if wide else "")
