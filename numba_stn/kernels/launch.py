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
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numba

# Array elements touched, about a nanosecond each, below which one thread is faster than waking
# the others: a launch costs 45 microseconds, and milliseconds while other work keeps the cores.
PARALLEL_WORK = 200_000

T = TypeVar("T")
R = TypeVar("R")

_HOME = pathlib.Path(__file__).parent
_owner: list[int] = []  # the process whose threads the pool holds, once there is a pool
_one_at_a_time = threading.Lock()


class _Thread(threading.local):
    """What is known of each Python thread."""

    is_worker = False


_this = _Thread()


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
    """Hash of this package's sources."""
    digest = hashlib.sha256()
    for path in sorted(_HOME.glob("*.py")):
        digest.update(path.read_bytes())
    return int(digest.hexdigest()[:15], 16)


def jit(function: Callable, parallel: bool = False) -> Callable:
    """Compile a kernel, cached on disk where there is a place for it."""
    options: dict[str, Any] = {"error_model": "numpy", "nogil": True, "parallel": parallel}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError as error:  # no writable place for the cache
        if "cannot cache" not in str(error):
            raise
        _warn_no_cache()
        return numba.njit(**options)(function)


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

    A child forked from a process that has used Numba's threads holds a pool whose threads do
    not exist, and would hang or die in it, so there the serial kernel runs. So it does inside
    :func:`each`, whose threads are the parallel ones.
    """
    if work < PARALLEL_WORK or _this.is_worker or (_owner and _owner[0] != os.getpid()):
        make(*flags, False)(*args)
        return
    kernel = make(*flags, True)
    if _owner and _layer_is_thread_safe():
        kernel(*args)
        return
    with _one_at_a_time, _first_launch():
        kernel(*args)


@contextlib.contextmanager
def _first_launch() -> Iterator[None]:
    """Note whose threads the pool holds, and let them sleep between launches.

    GNU OpenMP's threads otherwise spin while they wait, and so do OpenBLAS's: where NumPy's
    matrix products alternate with our kernels, as in training, they take the cores from each
    other (a step was 6 times slower). OpenMP reads the policy once, when Numba loads it, which
    is during the first launch; a policy of the user's own stands.
    """
    mine = not _owner and "OMP_WAIT_POLICY" not in os.environ
    if mine:
        os.environ["OMP_WAIT_POLICY"] = "passive"
    try:
        yield
    finally:
        if mine:
            del os.environ["OMP_WAIT_POLICY"]
        if not _owner:
            _owner.append(os.getpid())


def _layer_is_thread_safe() -> bool:
    """Whether two Python threads may launch at once: not under workqueue, nor before it is known.

    Numba names the layer some time after it has started it.
    """
    try:
        return numba.threading_layer() != "workqueue"
    except ValueError:
        return False


# --- Work that is more than one kernel ------------------------------------------------------------


def each(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """``[function(item) for item in items]``, on as many threads as a parallel kernel has.

    For work that mixes serial kernels with matrix products.
    """
    if len(items) < 2 or threads() < 2 or _this.is_worker or _blas() is None:
        return [function(item) for item in items]
    with one_blas_thread():
        return list(_workers(os.getpid(), threads()).map(function, items))


def one_blas_thread() -> contextlib.AbstractContextManager:
    """BLAS on one thread meanwhile, where threadpoolctl is installed to see to it.

    Two pools that wait for each other's cores are slower than one, the more so on a busy machine.
    """
    blas = _blas()
    return contextlib.nullcontext() if blas is None else blas.limit(limits=1)


def _become_worker() -> None:
    _this.is_worker = True


@functools.cache
def _workers(pid: int, count: int) -> ThreadPoolExecutor:
    """Workers of this process: a forked child has none of its parent's."""
    return ThreadPoolExecutor(count, "numba_stn", initializer=_become_worker)


@functools.cache
def _blas() -> Any:
    """Where BLAS's threads are set; None without threadpoolctl (the extra ``train`` brings it)."""
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    return ThreadpoolController().select(user_api="blas")


def threads() -> int:
    """Threads that a parallel kernel will use."""
    return numba.get_num_threads()
