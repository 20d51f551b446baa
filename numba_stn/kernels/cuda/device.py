"""Arrays on a GPU: their library, device and stream, and how a kernel is run on them.

Only this module imports ``numba.cuda``, and only when an array on a GPU is first seen: numba-cuda,
or its successor numba-cuda-mlir (:mod:`.mlir`) where numba-cuda is not installed. An array's
library decides on which device and stream a kernel runs, and allocates the result. Libraries that
this module does not know are served by Numba's own allocator.
"""

import contextlib
import functools
import importlib
import importlib.util
import sys
import warnings
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numba
import numpy as np
from numba.core.errors import NumbaPerformanceWarning

from .. import on_gpu
from ..cache import SealedFiles, store

# numba-cuda up to 0.30 uses a name that NumPy 2.5 removed.
if not hasattr(np, "row_stack"):
    np.row_stack = np.vstack  # noqa: NPY201

SIMULATED = bool(getattr(numba.config, "ENABLE_CUDASIM", 0))


def _package():
    """The package that compiles kernels; the successor has no simulator."""
    here = [name for name in ("numba_cuda", "numba_cuda_mlir") if importlib.util.find_spec(name)]
    return "numba-cuda-mlir" if here == ["numba_cuda_mlir"] and not SIMULATED else "numba-cuda"


PACKAGE = _package()

_NEEDED = (
    "arrays on a GPU need an NVIDIA driver and the package numba-cuda, which comes with "
    '`pip install "numba-stn[cuda12]"`, or `"numba-stn[cuda13]"` for a driver of CUDA 13'
)

try:
    if PACKAGE == "numba-cuda":
        cuda: Any = importlib.import_module("numba.cuda")
    else:
        cuda = importlib.import_module(".mlir", __package__).cuda
except ImportError as error:
    raise RuntimeError(f"{_NEEDED}: {error}") from error

# Threads of a block, along x and along rows: powers of two, and 6 or more together, one for each
# number of theta's gradient. The simulator starts a Python thread for each.
BLOCK = (4, 2) if SIMULATED else (32, 8)
THREADS = BLOCK[0] * BLOCK[1]

# Rows that one thread computes: enough that the hundred instructions before the first row do not
# matter, and few enough that what a tile reads stays in cache however the map rotates it.
ROWS_A_THREAD = 8

# The hardware's limit on blocks along y and z; and the limit on blocks along an array's elements.
MOST_BLOCKS, MOST_LINE_BLOCKS = 65_535, 1024

# Up to this number of elements indices have 32 bits, which also hold the sum of two indices. Each
# operation on wider ones costs a GPU several instructions.
NARROW = 2**30

device_function = cuda.jit(device=True)

# For functions that take flags or tuples: once they are inlined, the flags are constants, the
# branches not taken are gone, and the tuples are in registers.
inlined = device_function if SIMULATED else cuda.jit(device=True, forceinline=True)


def jit(function, blocks=None):
    """Compile a kernel on its first launch, and cache it on disk if a folder can be written to.

    With ``blocks``, a number of blocks of :data:`THREADS` threads, the compiler uses few enough
    registers for a multiprocessor to have that many of them at a time. It is for kernels that by
    themselves use so many that few threads wait for memory together, and that spill none with
    fewer: ``python -m benchmarks.gpu_kernels`` tells.
    """
    if SIMULATED:
        return cuda.jit(function)
    options = {} if blocks is None else {"launch_bounds": (THREADS, blocks)}
    kernel = cuda.jit(**options)(function)
    # The successor's cache has another form, which :func:`.store` does not know.
    return store(kernel, _cache_class()) if PACKAGE == "numba-cuda" else kernel


@functools.cache
def _cache_class():
    """numba-cuda's cache, with sealed files; the simulator has none."""
    cache = importlib.import_module("numba.cuda.dispatcher").CUDACache
    return type("KernelCache", (SealedFiles, cache), {})


# --- Arrays: what the caller holds, and what kernels take -----------------------------------------


@dataclass(frozen=True)
class Held:
    """A caller's array: ``owner`` is of the caller's library, ``view`` a line of its elements."""

    name: str
    owner: Any
    shape: tuple[int, ...]
    view: Any
    device: int | None  # None is the current device
    stream: int

    @property
    def dtype(self):
        """NumPy's name for the type of the elements."""
        return self.view.dtype

    @property
    def size(self):
        """Number of elements."""
        return self.view.size

    def __len__(self):
        return self.shape[0]


def kernel_array(name, array, stream=None):
    """``array`` as the kernels take it: a line of elements, with its device and stream.

    A ``stream`` that the caller names replaces the library's own.
    """
    _require_driver()
    number, own = _device_and_stream(array)
    given = own if stream is None else pointer(stream)
    interface = _interface(array)
    shape, strides = tuple(interface["shape"]), interface.get("strides")
    if strides is not None and not _in_rows(shape, strides, np.dtype(interface["typestr"])):
        raise ValueError(
            f"{name}: expected a contiguous array (rows one after another), "
            f"got strides {tuple(strides)} for shape {shape}"
        )
    return Held(name, array, shape, _line(array, number, stream is None), number, given)


def _in_rows(shape, strides, dtype):
    """Whether elements with these strides follow one another in memory."""
    expected = dtype.itemsize
    for side, stride in zip(reversed(shape), reversed(strides), strict=True):
        if side > 1 and stride != expected:
            return 0 in shape
        expected *= side
    return True


def _line(array, number, wait):
    """The elements of a contiguous array, as a one-dimensional array of Numba's.

    If the stream of its library is unknown, this waits for that stream's work.
    """
    if hasattr(array, "__cuda_ndarray__"):  # Numba's own
        return array.reshape(array.size)
    interface = dict(array.__cuda_array_interface__)
    interface |= {"shape": (prod(interface["shape"]),), "strides": None}
    with _on(number):
        return cuda.from_cuda_array_interface(interface, array, sync=wait and number is None)


def pointer(stream):
    """Address of a stream of Numba's, CuPy's or PyTorch's, or of one given as its address."""
    for name in ("cuda_stream", "ptr", "handle"):
        stream = getattr(stream, name, stream)
    try:
        return int(getattr(stream, "value", stream) or 0)
    except (TypeError, ValueError):
        raise TypeError(
            f"stream: expected a stream of Numba, CuPy or PyTorch, or its address, got {stream!r}"
        ) from None


def empty(shape, dtype, like):
    """A new array of another array's library, on that array's device and stream."""
    library, dtype = _library(like.owner), np.dtype(dtype)
    with _on(like.device), _library_on(like):
        if library == "torch":
            torch = sys.modules["torch"]
            kind = getattr(torch, dtype.name)
            array = torch.empty(shape, dtype=kind, device=like.owner.device)
        else:
            allocate = sys.modules["cupy"].empty if library == "cupy" else cuda.device_array
            array = allocate(shape, dtype)
    return kernel_array("result", array, like.stream)


def _library_on(held):
    """Context in which an array's library works on the array's stream.

    The allocator returns memory to the stream on which it was allocated.
    """
    library = _library(held.owner)
    if library not in ("torch", "cupy") or _device_and_stream(held.owner)[1] == held.stream:
        return contextlib.nullcontext()
    streams = sys.modules[library].cuda
    if library == "cupy":
        return streams.ExternalStream(held.stream)
    return streams.stream(streams.ExternalStream(held.stream, held.owner.device))


def output(shape, images, coords, out, stream=None):
    """The array that the samples are written to: ``out`` itself, or a new one."""
    if out is None:
        return empty(shape, images.dtype, images)
    if not on_gpu(out):
        raise TypeError(
            f"out: expected an array on the GPU, as the inputs are, got {type(out).__name__}"
        )
    held = kernel_array("out", out, stream)
    if held.shape != shape or held.dtype != images.dtype:
        raise ValueError(
            f"out: expected shape {shape} and dtype {images.dtype}, "
            f"got {held.shape} and {held.dtype}"
        )
    if _interface(out)["data"][1]:
        raise ValueError("out: expected an array that can be written to, got a read-only one")
    if _overlap(held, images) or _overlap(held, coords):
        raise ValueError("out: expected memory of its own, got memory shared with an input")
    return held


def batch_slice(array, chosen):
    """The items of a batch that a slice chooses: a view of the same memory."""
    first, stop, _ = chosen.indices(len(array))
    shape = max(stop - first, 0), *array.shape[1:]
    each = prod(array.shape[1:])
    view = array.view[first * each : stop * each] if array.size else array.view
    return replace(array, shape=shape, view=view)


def constant(numbers, dtype, like):
    """Constant numbers of the host, on the device of another array; they are uploaded once.

    The upload is waited for, since the numbers may be read on any stream.
    """
    data = np.ascontiguousarray(numbers, dtype)
    with _on(like.device):
        number = getattr(cuda.get_current_device(), "id", 0)  # the simulator's device has none
        view = _uploaded(data.tobytes(), data.dtype.str, number)
    return Held("constant", view, data.shape, view, like.device, like.stream)


@functools.lru_cache(maxsize=64)
def _uploaded(data, dtype, number):
    """These bytes on the current device, which has this number."""
    view = cuda.to_device(np.frombuffer(data, dtype))
    cuda.synchronize()
    return view


def returned(result, out=None):
    """The result for the caller: an array of the caller's own library."""
    return result.owner if out is None else out


def _library(owner):
    """Name of the library that an array comes from, such as "torch", "cupy" or "numba"."""
    return type(owner).__module__.partition(".")[0]


def _device_and_stream(owner):
    """Device and stream that an array's library works on; None and 0 if they are unknown."""
    library = _library(owner)
    if library == "torch":
        stream = sys.modules["torch"].cuda.current_stream(owner.device)
        return owner.device.index, stream.cuda_stream
    if library == "cupy":
        with owner.device:
            return owner.device.id, sys.modules["cupy"].cuda.get_current_stream().ptr
    return None, 0


def _interface(array):
    """The interface with an array's address; Numba's simulated arrays have NumPy's."""
    interface = getattr(array, "__cuda_array_interface__", None)
    return array.__array_interface__ if interface is None else interface


def _overlap(a, b):
    """Whether two contiguous arrays share memory."""
    start, other = _interface(a.owner)["data"][0], _interface(b.owner)["data"][0]
    return start < other + b.view.nbytes and other < start + a.view.nbytes


@functools.cache
def _require_driver():
    """Raise an error that names what is missing, unless kernels can run here."""
    if PACKAGE == "numba-cuda" and importlib.util.find_spec("numba_cuda") is None:
        raise RuntimeError(f"{_NEEDED}: numba-cuda is not installed")
    if not cuda.is_available():
        reason = cuda.cuda_error() or "its compiler library, NVVM, cannot be found"
        raise RuntimeError(f"{_NEEDED}: {' '.join(str(reason).split())}")


# --- Launches -------------------------------------------------------------------------------------


def launch(kernel, blocks, threads, *args):
    """Run a kernel on its arrays' device, on the stream of their library.

    If the arrays belong to several streams, all earlier work is waited for. Without blocks there is
    nothing to do.
    """
    if 0 in blocks:
        return
    arrays = [arg for arg in args if isinstance(arg, Held)]
    devices = {array.name: array.device for array in arrays if array.device is not None}
    if len(set(devices.values())) > 1:
        found = ", ".join(f"{name} is on GPU {number}" for name, number in devices.items())
        raise ValueError(f"expected all arrays on one device, but {found}")
    first = arrays[0]
    with _on(first.device):
        if any(array.stream != first.stream for array in arrays):
            cuda.synchronize()
        views = [arg.view if isinstance(arg, Held) else arg for arg in args]
        _configured(kernel, blocks, threads, _stream(first.device, first.stream))(*views)


def _configured(kernel, blocks, threads, stream):
    """``kernel[blocks, threads, stream]``, without Numba's warning about small grids."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NumbaPerformanceWarning)
        return kernel[blocks, threads, stream]


def _on(number):
    """Context in which this device is the current one; None changes nothing."""
    return contextlib.nullcontext() if number is None else cuda.gpus[number]


@functools.lru_cache(maxsize=64)
def _stream(number, pointer):
    """Numba's object for a library's stream on a device; 0 is the default stream."""
    return cuda.external_stream(pointer) if pointer else 0


def launch_pixels(kernel, geometry, *args):
    """Run a kernel with a thread for each output pixel, in a call of this geometry."""
    (_, batch, _), (depth, rows, columns) = geometry[1], geometry[3]
    launch(kernel, tiles(int(batch) * int(depth), int(rows), int(columns)), BLOCK, *args)


def tiles(batch, rows, columns):
    """Blocks along x, rows and batch; if they are too few, each kernel block does several tiles."""
    return (
        -(-columns // BLOCK[0]),
        min(-(-rows // (BLOCK[1] * ROWS_A_THREAD)), MOST_BLOCKS),
        min(batch, MOST_BLOCKS),
    )


def narrow(*arrays):
    """The smallest type of indices that reach all elements of these arrays."""
    return np.int32 if all(array.size < NARROW for array in arrays) else np.int64


def each(kernel, array, *args):
    """Run a kernel that loops over the elements of an array."""
    blocks = min(-(-array.size // THREADS), MOST_LINE_BLOCKS)
    launch(kernel, (blocks,), THREADS, array, *args)
