"""Compiling, caching and starting CPU kernels.

A kernel is written once and compiled in two variants: a parallel one, and a serial one for small
work, for which waking threads would cost more than the work. Both run the same code over the same
rows, so they give the same bits.
"""

import contextlib
import functools
import hashlib
import os
import pathlib
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numba
import numba.np.ufunc.parallel

from .cache import KernelCache, named

# The number of array elements read or written, about a nanosecond each, below which one thread is
# faster than waking the others. A parallel launch takes up to 60 microseconds, and milliseconds
# while other work occupies the cores.
PARALLEL_WORK = 200_000

_SPIN = "GOMP_SPINCOUNT"
_HOME = pathlib.Path(__file__).parent


class _Process:
    """The state of this process."""

    def __init__(self, serial: bool = False):
        # Whether it is forked from a process with Numba's threads, which a fork does not copy.
        self.serial = serial
        self.launched = False
        self.launch_lock = threading.Lock()  # for launches that must not overlap
        self.blas_callers = 0  # the number of callers for which BLAS uses one thread
        self.blas_limit: Any = None


_process = _Process()
_blas_lock = threading.Lock()
_thread = threading.local()


def _after_fork() -> None:
    global _process
    _process = _Process(serial=getattr(numba.np.ufunc.parallel, "_is_initialized", True))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


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
    options: dict[str, Any] = {"error_model": "numpy", "nogil": True, "parallel": parallel}
    options["no_cfunc_wrapper"] = True  # only Python calls a kernel
    kernel = numba.njit(**options)(named(function))
    try:
        kernel._cache = KernelCache(function)
    except RuntimeError as error:  # no folder for the cache can be written to
        if "cannot cache" not in str(error):
            raise
        _warn_no_cache()
    return kernel


@functools.cache
def _warn_no_cache() -> None:
    warnings.warn(
        "numba_stn compiles its kernels again in every process, because Numba found no cache "
        "folder that it can write to; set NUMBA_CACHE_DIR to a writable folder",
        RuntimeWarning,
        stacklevel=4,
    )


def run(make: Callable[..., Callable], flags: tuple[int, ...], work: int, *args: Any) -> None:
    """Run the kernel ``make(*flags, parallel)`` on ``args``, in parallel if there is enough work.

    A child forked from a process that has started Numba's threads has the pool but not the
    threads. A parallel kernel would hang or crash there, so the serial one runs.
    """
    if not parallel(work):
        make(*flags, False)(*args)
        return
    kernel = make(*flags, True)
    if _process.launched and _layer_is_thread_safe():
        kernel(*args)
        return
    with _process.launch_lock, _first_launch():
        kernel(*args)


def parallel(work: int) -> bool:
    """Whether this thread runs a kernel with this amount of work in parallel."""
    alone = _process.serial or getattr(_thread, "alone", False)
    return work >= PARALLEL_WORK and not alone


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Context in which this thread's kernels run serially; those of other threads may be parallel.

    It is for work in the background, which must not take cores from the work in the foreground.
    """
    before = getattr(_thread, "alone", False)
    _thread.alone = True
    try:
        yield
    finally:
        _thread.alone = before


@contextlib.contextmanager
def at_most(count: int) -> Iterator[None]:
    """Context in which the kernels of this thread run on at most ``count`` threads."""
    if count == 1:
        with one_thread():
            yield
        return
    with _process.launch_lock, _first_launch():
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
    if mine:
        os.environ[_SPIN] = "10000"
    try:
        yield
    finally:
        if mine:
            del os.environ[_SPIN]
        _process.launched = True


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
    blas, process = _blas(), _process
    if blas is None:
        yield
        return
    with _blas_lock:
        process.blas_callers += 1
        if process.blas_callers == 1:
            process.blas_limit = blas.limit(limits=1)
    try:
        yield
    finally:
        with _blas_lock:
            process.blas_callers -= 1
            if process.blas_callers == 0:
                process.blas_limit.restore_original_limits()


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
    if not parallel(work):
        return 1
    return numba.get_num_threads() if _process.launched else numba.config.NUMBA_NUM_THREADS
