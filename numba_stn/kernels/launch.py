"""How CPU kernels are compiled, cached and started.

A kernel is written once and compiled twice: a serial variant for small work, for which waking
threads would cost more than the work, and a parallel one. Both run the same code over the same
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

# Array elements touched, about a nanosecond each, below which one thread is faster than waking
# the others: a launch costs up to 60 microseconds, and milliseconds while other work has the cores.
PARALLEL_WORK = 200_000

_SPIN = "GOMP_SPINCOUNT"
_HOME = pathlib.Path(__file__).parent


class _Process:
    """What is known of this process."""

    def __init__(self, serial: bool = False):
        self.serial = serial  # forked from a process with Numba's threads, which did not come along
        self.launched = False
        self.one_at_a_time = threading.Lock()
        self.limits = 0  # how many callers want BLAS on one thread
        self.limiter: Any = None


_process = _Process()
_limits = threading.Lock()
_thread = threading.local()


def _after_fork() -> None:
    global _process
    _process = _Process(serial=getattr(numba.np.ufunc.parallel, "_is_initialized", True))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@functools.cache
def stamp(parallel: bool) -> int:
    """Number that names this package's sources and a kernel's variant.

    Numba's cache sees neither an edit in a helper that lives in another file nor the options a
    kernel is compiled with, but it does see the values that a kernel closes over. So every kernel
    closes over its stamp, by returning it.
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
    """Compile a kernel, cached on disk where there is a place for it."""
    options: dict[str, Any] = {"error_model": "numpy", "nogil": True, "parallel": parallel}
    kernel = numba.njit(**options)(named(function))
    try:
        kernel._cache = KernelCache(function)
    except RuntimeError as error:  # no writable place for the cache
        if "cannot cache" not in str(error):
            raise
        _warn_no_cache()
    return kernel


@functools.cache
def _warn_no_cache() -> None:
    warnings.warn(
        "numba_stn compiles its kernels anew in every process, because Numba found no writable "
        "cache folder; set NUMBA_CACHE_DIR to a folder that can be written",
        RuntimeWarning,
        stacklevel=4,
    )


def run(make: Callable[..., Callable], flags: tuple[int, ...], work: int, *args: Any) -> None:
    """Run the kernel ``make(*flags, parallel)`` on ``args``, in parallel if ``work`` is worth it.

    A child forked from a process that has started Numba's threads has the pool but not the
    threads, and would hang or die in it, so there the serial kernel runs.
    """
    if not parallel(work):
        make(*flags, False)(*args)
        return
    kernel = make(*flags, True)
    if _process.launched and _layer_is_thread_safe():
        kernel(*args)
        return
    with _process.one_at_a_time, _first_launch():
        kernel(*args)


def parallel(work: int) -> bool:
    """Whether so much work is shared out here and now."""
    alone = _process.serial or getattr(_thread, "alone", False)
    return work >= PARALLEL_WORK and not alone


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Kernels on this thread alone meanwhile; other threads' kernels are shared out as ever.

    For work in the background, which must not take the cores from what waits for it.
    """
    before = getattr(_thread, "alone", False)
    _thread.alone = True
    try:
        yield
    finally:
        _thread.alone = before


@contextlib.contextmanager
def at_most(count: int) -> Iterator[None]:
    """Kernels of this thread on so many threads meanwhile, at most."""
    if count == 1:
        with one_thread():
            yield
        return
    with _process.one_at_a_time, _first_launch():
        before = numba.get_num_threads()  # which starts them
    numba.set_num_threads(min(count, before))
    try:
        yield
    finally:
        numba.set_num_threads(before)


@contextlib.contextmanager
def _first_launch() -> Iterator[None]:
    """Let the pool's threads sleep soon after a launch.

    GNU OpenMP's threads otherwise spin for long while they wait, and so do OpenBLAS's: where
    matrix products alternate with our kernels they take the cores from each other (a training
    step was 6 times slower). Threads that sleep at once cost every launch 60 microseconds to
    wake. So they spin for some ten microseconds. OpenMP reads the count once, when Numba loads
    it, which is during the first launch; a setting of the user's own stands.
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
    """Whether two Python threads may launch at once: not under workqueue, nor before it is known.

    Numba names the layer some time after it has started it.
    """
    try:
        return numba.threading_layer() != "workqueue"
    except ValueError:
        return False


# --- BLAS, which works beside the kernels ---------------------------------------------------------


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """BLAS on one thread meanwhile, where threadpoolctl is installed to see to it.

    Two pools that wait for each other's cores are slower than one, the more so on a busy machine.
    The limit is the whole process's: the first caller in sets it, the last one out lifts it.
    """
    blas, process = _blas(), _process
    if blas is None:
        yield
        return
    with _limits:
        process.limits += 1
        if process.limits == 1:
            process.limiter = blas.limit(limits=1)
    try:
        yield
    finally:
        with _limits:
            process.limits -= 1
            if process.limits == 0:
                process.limiter.restore_original_limits()


@functools.cache
def _blas() -> Any:
    """Where BLAS's threads are set; None without threadpoolctl (the extra ``train`` brings it)."""
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    return ThreadpoolController().select(user_api="blas")


def workers(work: int) -> int:
    """Threads that a kernel will use. Numba is not asked before it has started them."""
    if not parallel(work):
        return 1
    return numba.get_num_threads() if _process.launched else numba.config.NUMBA_NUM_THREADS
