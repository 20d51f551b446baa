"""Many calls of one function, on this process's threads or on a Dask cluster.

Each call runs its kernels on one thread; the parallelism is that of the threads or workers.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from typing import Any

from ..ops.dask_arrays import run_on_one_thread

# Time to wait for an answer from a scheduler, in seconds.
TIMEOUT = 5


class ClusterError(Exception):
    """The cluster failed; the message says why, in one line."""


def map_in_threads(function: Callable[..., Any], calls: Sequence[dict]) -> Iterator[Any]:
    """Call a function with each of these keywords, on Numba's number of threads.

    Yields the results as they come. After an error, or Ctrl-C, no further call begins; those that
    are running end first.
    """
    import numba

    count = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    with ThreadPoolExecutor(count) as pool:
        try:
            futures = [pool.submit(run_on_one_thread, function, call, {}) for call in calls]
            yield from (future.result() for future in as_completed(futures))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def map_on_cluster(
    client: Any, function: Callable[..., Any], calls: Sequence[dict]
) -> Iterator[Any]:
    """Call a function with each of these keywords, on a cluster's workers.

    Yields the results as they come. The calls of a lost worker are made again.

    Raises
    ------
    ClusterError
        If the scheduler is lost, or workers die repeatedly.
    """
    import distributed

    futures = [client.submit(run_on_one_thread, function, call, {}, pure=False) for call in calls]
    try:
        with cluster_errors():
            for future in distributed.as_completed(futures, loop=client.loop):
                yield future.result()
                future.release()
    finally:
        with contextlib.suppress(OSError):
            client.cancel(futures)


@contextlib.contextmanager
def cluster_errors() -> Iterator[None]:
    """Raise the errors of lost machines as :class:`ClusterError`."""
    import distributed
    from distributed.comm import CommClosedError

    try:
        yield
    except distributed.KilledWorker as error:
        raise ClusterError(f"several workers died one after another: {error}") from error
    except (CancelledError, asyncio.CancelledError, CommClosedError) as error:
        raise ClusterError("the connection to the Dask scheduler was lost") from error


@contextlib.contextmanager
def connect(address: str) -> Iterator[Any]:
    """A client of the Dask scheduler at this address; Dask's own log messages are turned off.

    Raises
    ------
    ClusterError
        If no scheduler answers within a few seconds.
    ImportError
        If Dask is missing.
    """
    import distributed

    try:
        asyncio.run(_check_scheduler(address))
    except (OSError, ValueError, asyncio.TimeoutError) as error:
        raise ClusterError(f"found no Dask scheduler there: {error}") from error
    loggers = [logging.getLogger(f"distributed{part}") for part in ("", ".client", ".core")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    client = distributed.Client(address, timeout=TIMEOUT, set_as_default=False, name="numba-stn")
    try:
        yield client
    finally:
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            client.close(timeout=TIMEOUT)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


async def _check_scheduler(address):
    """Raise if no scheduler answers; a client would also log many lines."""
    from distributed.comm import connect
    from distributed.core import coerce_to_address

    comm = await connect(coerce_to_address(address), timeout=TIMEOUT)
    await comm.close()
