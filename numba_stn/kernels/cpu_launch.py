"""Compiling, caching and starting CPU kernels.

A kernel is written once and compiled in two variants: a parallel one, and a serial one for small
work, for which waking threads would cost more than the work. Both run the same code over the same
rows, so they give the same bits.
"""

import contextlib
import ctypes
import functools
import hashlib
import importlib
import importlib.metadata
import os
import pathlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numba
import numba.np.ufunc.parallel
from numba.core.compiler_lock import global_compiler_lock

from .cache import named, store

# The number of array elements read or written, about a nanosecond each, below which one thread is
# faster than waking the others. A parallel launch takes 5 microseconds with TBB, and up to 60 with
# OpenMP.
PARALLEL_WORK = 100_000

_SPIN = "GOMP_SPINCOUNT"
_TBB = {"libtbb.so.12", "tbb12.dll"}
_HOME = pathlib.Path(__file__).parent


class _Process:
    """The state of this process."""

    def __init__(self, serial: bool = False):
        # Whether it is forked from a process with Numba's threads, which a fork does not copy.
        self.serial = serial
        self.launched = False
        self.blas_callers: list[int] = []  # the threads for which BLAS uses one thread
        self.blas_limit: Any = None


_process = _Process()
_thread = threading.local()
_launch_lock = threading.RLock()  # for launches that must not overlap
_blas_lock = threading.RLock()


# --- Forks ----------------------------------------------------------------------------------------

# A fork copies the thread that calls it and no other. What another one has locked is locked in the
# child for ever, and half changed. So a fork waits until these are free, in the order in which
# threads take them. They are reentrant, since a signal handler may fork.
_LOCKS = (_launch_lock, global_compiler_lock, _blas_lock)


def _before_fork() -> None:
    for lock in _LOCKS:
        lock.acquire()


def _after_fork() -> None:
    for lock in reversed(_LOCKS):
        lock.release()


def _after_fork_in_child() -> None:
    global _process
    _after_fork()
    parent = _process
    _process = _Process(serial=getattr(numba.np.ufunc.parallel, "_is_initialized", True))
    _process.blas_callers = [k for k in parent.blas_callers if k == threading.get_ident()]
    _process.blas_limit = parent.blas_limit
    if parent.blas_callers and not _process.blas_callers:
        _restore_blas()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child
    )


# --- Kernels --------------------------------------------------------------------------------------


@functools.cache
def stamp(parallel: bool) -> int:
    """A number that identifies the sources of the kernels and a kernel's variant.

    Numba's cache does not notice an edit of a helper in another file, nor the options with which a
    kernel is compiled. It does notice the values that a kernel closes over. So every kernel closes
    over its stamp, by returning it.
    """
    return 2 * source_hash() + parallel


@functools.cache
def source_hash() -> int:
    """Hash of the sources of :mod:`numba_stn.kernels`."""
    digest = hashlib.sha256()
    for path in sorted(_HOME.rglob("*.py")):
        digest.update(path.read_bytes())
    return int(digest.hexdigest()[:15], 16)


def jit(function: Callable, parallel: bool = False) -> Callable:
    """Compile a kernel, and cache it on disk if a folder can be written to."""
    if numba.config.DISABLE_JIT and not numba.config.ENABLE_CUDASIM:
        raise RuntimeError(
            "numba_stn computes with compiled kernels only, and NUMBA_DISABLE_JIT is set: unset it"
        )
    options: dict[str, Any] = {"error_model": "numpy", "nogil": True, "parallel": parallel}
    options["no_cfunc_wrapper"] = True  # only Python calls a kernel
    return store(numba.njit(**options)(named(function)))


def run(make: Callable[..., Callable], flags: tuple[int, ...], work: int, *args: Any) -> None:
    """Run the kernel ``make(*flags, parallel)`` on ``args``, in parallel if there is enough work.

    A child forked from a process that has started Numba's threads has the pool but not the
    threads. A parallel kernel would hang or crash there, so the serial one runs.
    """
    if work < PARALLEL_WORK or not parallel(work):
        make(*flags, False)(*args)
        return
    kernel = make(*flags, True)
    if _process.launched and _layer_is_thread_safe():
        kernel(*args)
        return
    with _launch():
        kernel(*args)


@contextlib.contextmanager
def _launch() -> Iterator[None]:
    """Context of a launch that must not overlap with another one.

    A signal handler may run in the middle of it. Its kernels run serially, and wait for nothing.
    """
    with one_thread(), _launch_lock, _first_launch():
        yield


def may_be_parallel(work: int) -> bool:
    """Whether there is enough work for several threads, if this thread may start them."""
    return work >= PARALLEL_WORK


def parallel(work: int) -> bool:
    """Whether this thread runs a kernel with this amount of work in parallel."""
    return work >= PARALLEL_WORK and not _process.serial and not _is_alone()


def _is_alone() -> bool:
    """Whether this thread's kernels run serially."""
    return getattr(_thread, "alone", False)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Context in which this thread's kernels run serially; those of other threads may be parallel.

    It is for work in the background, which must not take cores from the work in the foreground.
    """
    before = _is_alone()
    _thread.alone = True
    try:
        yield
    finally:
        _thread.alone = before


@contextlib.contextmanager
def at_most(count: int) -> Iterator[None]:
    """Context in which the kernels of this thread run on at most ``count`` threads."""
    if count == 1 or _is_alone():
        with one_thread():
            yield
        return
    with _launch():
        before = numba.get_num_threads()  # this starts the threads
    numba.set_num_threads(min(count, before))
    try:
        yield
    finally:
        numba.set_num_threads(before)


@contextlib.contextmanager
def _first_launch() -> Iterator[None]:
    """Context of the first launch, which makes the pool's threads sleep soon after each launch.

    By default GNU OpenMP's threads spin for a long time while they wait, and so do OpenBLAS's. If
    matrix products alternate with our kernels, these threads take the cores from each other: a
    training step was 6 times slower. If threads sleep at once, waking them costs every launch 60
    microseconds. So they spin for about ten microseconds. OpenMP reads the count once, when Numba
    loads it, which is during the first launch. A user's own setting is not changed.
    """
    mine = not _process.launched and not {"OMP_WAIT_POLICY", _SPIN} & os.environ.keys()
    if not _process.launched:
        _load_tbb()
    if mine:
        os.environ[_SPIN] = "10000"
    try:
        yield
    finally:
        if mine:
            del os.environ[_SPIN]
        _process.launched = True


def _load_tbb() -> None:
    """Load the library TBB that pip has installed, where Numba's own import does not look for it.

    Numba prefers TBB. Its threads start in 5 microseconds, and a loop does not wait for a thread
    that has not begun, as OpenMP's loops do: on a busy machine, for milliseconds.
    """
    with contextlib.suppress(ImportError):
        importlib.import_module("numba.np.ufunc.tbbpool")
        return
    with contextlib.suppress(importlib.metadata.PackageNotFoundError, OSError):
        for file in importlib.metadata.files("tbb") or ():
            if file.name in _TBB:
                ctypes.CDLL(str(file.locate()), mode=ctypes.RTLD_GLOBAL)


def _layer_is_thread_safe() -> bool:
    """Whether two Python threads may launch at the same time.

    They may not under workqueue, nor before the layer is known: Numba reports its name only some
    time after it has started it.
    """
    try:
        return numba.threading_layer() != "workqueue"
    except ValueError:
        return False


# --- Threads of BLAS ------------------------------------------------------------------------------


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Context in which BLAS uses one thread, if threadpoolctl is installed.

    Two thread pools that compete for the cores are slower than one, especially on a busy machine.
    The limit holds for the whole process: the first caller to enter sets it, and the last one to
    leave removes it.
    """
    caller = threading.get_ident()
    with _blas_lock:  # a fork must not come in the middle of the import either
        blas = _blas()
    if blas is None:
        yield
        return
    with _blas_lock:
        _process.blas_callers.append(caller)
        if len(_process.blas_callers) == 1:
            _take_control()
            _process.blas_limit = blas.limit(limits=1)
    try:
        yield
    finally:
        with _blas_lock:
            if len(_process.blas_callers) == 1:
                _restore_blas()
            _process.blas_callers.remove(caller)


def _restore_blas() -> None:
    """Give BLAS the threads that it had before it was limited."""
    _take_control()
    _process.blas_limit.restore_original_limits()


def _take_control() -> None:
    """Let this thread change the limit; threadpoolctl lets only the last that did."""
    for library in _blas().lib_controllers:
        if hasattr(library, "clear_controlling_thread"):  # from 3.7 on
            library.clear_controlling_thread(force=True)


@functools.cache
def _blas() -> Any:
    """Controller of BLAS's threads; None without threadpoolctl, which the extra ``train`` has."""
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    return ThreadpoolController().select(user_api="blas")


def workers(work: int) -> int:
    """The number of threads that a kernel uses; asking Numba for it would start the threads."""
    if work < PARALLEL_WORK or not parallel(work):
        return 1
    return numba.get_num_threads() if _process.launched else numba.config.NUMBA_NUM_THREADS
