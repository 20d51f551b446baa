"""How CPU kernels are compiled, cached and started.

A kernel is written once and compiled twice: a serial variant for small work, for which waking
threads would cost more than the work, and a parallel one. Both run the same code over the same
rows, so they give the same bits.
"""

import functools
import hashlib
import os
import pathlib
import threading
import warnings
from collections.abc import Callable
from typing import Any

import numba

# Multiply-adds below which one thread is faster than waking the others.
PARALLEL_WORK = 30_000

_HOME = pathlib.Path(__file__).parent
_owner: list[int] = []  # the process whose threads the pool holds, once there is a pool
_one_at_a_time = threading.Lock()


@functools.cache
def source_hash() -> int:
    """Hash of this package's sources.

    Numba's cache does not see an edit in a helper that lives in another file, but it does see
    the values that a kernel closes over. So every kernel closes over this one, by returning it.
    """
    digest = hashlib.sha256()
    for path in sorted(_HOME.glob("*.py")):
        digest.update(path.read_bytes())
    return int(digest.hexdigest()[:15], 16)


def jit(function: Callable, parallel: bool = False) -> Callable:
    """Compile a kernel, cached on disk where there is a place for it."""
    options: dict[str, Any] = {"error_model": "numpy", "parallel": parallel}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError as error:  # no writable place for the cache
        _warn_no_cache(str(error))
        return numba.njit(**options)(function)


@functools.cache
def _warn_no_cache(reason: str) -> None:
    warnings.warn(
        f"numba_stn compiles its kernels anew in every process, because Numba found no writable "
        f"cache folder ({reason}); set NUMBA_CACHE_DIR to a folder that can be written",
        RuntimeWarning,
        stacklevel=4,
    )


def run(make: Callable[..., Callable], flags: tuple[int, ...], work: int, *args: Any) -> None:
    """Run the kernel ``make(*flags, parallel)`` on ``args``, in parallel if ``work`` is worth it.

    A child forked from a process that has used Numba's threads holds a pool whose threads do
    not exist, and would hang or die in it, so there the serial kernel runs.
    """
    if work < PARALLEL_WORK or (_owner and _owner[0] != os.getpid()):
        make(*flags, False)(*args)
        return
    if not _owner:
        _owner.append(os.getpid())
    kernel = make(*flags, True)
    if _layer_is_thread_safe():
        kernel(*args)
    else:
        with _one_at_a_time:
            kernel(*args)


def _layer_is_thread_safe() -> bool:
    """Whether two Python threads may launch at once: not under workqueue, nor before it is known.

    Numba names the layer only after the first parallel launch.
    """
    try:
        return numba.threading_layer() != "workqueue"
    except ValueError:
        return False


def threads() -> int:
    """Threads that a parallel kernel will use."""
    return numba.get_num_threads()
