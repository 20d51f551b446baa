"""Many calls of one function: on this process's threads, or on a Dask cluster.

Each runs its kernels on one thread, so that threads and workers are all that there are.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from typing import Any

from ..ops.dask_arrays import run_on_one_thread

# Seconds after which a scheduler that does not answer is not there.
PATIENCE = 5


class ClusterError(Exception):
    """The cluster cannot do it; the message says why, in one line."""


def in_threads(function: Callable[..., Any], calls: Sequence[dict]) -> Iterator[Any]:
    """The results of calls with these keywords, as they come, from as many threads as Numba has.

    After an error, or Ctrl-C, no other call begins; those that run end first.
    """
    import numba

    count = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    with ThreadPoolExecutor(count) as pool:
        try:
            futures = [pool.submit(run_on_one_thread, function, call, {}) for call in calls]
            yield from (future.result() for future in as_completed(futures))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def on_cluster(client: Any, function: Callable[..., Any], calls: Sequence[dict]) -> Iterator[Any]:
    """The same from a cluster's workers; what a lost one had is called again.

    Raises
    ------
    ClusterError
        If the scheduler is lost, or call after call kills its worker.
    """
    import distributed

    futures = [client.submit(run_on_one_thread, function, call, {}, pure=False) for call in calls]
    try:
        with lost_is_told():
            for future in distributed.as_completed(futures, loop=client.loop):
                yield future.result()
                future.release()
    finally:
        with contextlib.suppress(OSError):
            client.cancel(futures)


@contextlib.contextmanager
def lost_is_told() -> Iterator[None]:
    """What happens when a cluster's machines are gone, as :class:`ClusterError`."""
    import distributed
    from distributed.comm import CommClosedError

    try:
        yield
    except distributed.KilledWorker as error:
        raise ClusterError(f"worker after worker died at it: {error}") from error
    except (CancelledError, asyncio.CancelledError, CommClosedError) as error:
        raise ClusterError("the connection to the Dask scheduler was lost") from error


@contextlib.contextmanager
def connected(address: str) -> Iterator[Any]:
    """A client of the Dask scheduler at this address, which then tells nothing by itself.

    Raises
    ------
    ClusterError
        If there is none within some seconds.
    ImportError
        Where Dask is missing.
    """
    import distributed

    try:
        asyncio.run(_knock(address))
    except (OSError, ValueError, asyncio.TimeoutError) as error:
        raise ClusterError(f"found no Dask scheduler there: {error}") from error
    loggers = [logging.getLogger(f"distributed{part}") for part in ("", ".client", ".core")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    client = distributed.Client(address, timeout=PATIENCE, set_as_default=False, name="numba-stn")
    try:
        yield client
    finally:
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            client.close(timeout=PATIENCE)
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


async def _knock(address):
    """Raise if nobody answers; a client would make more words of it."""
    from distributed.comm import connect
    from distributed.core import coerce_to_address

    comm = await connect(coerce_to_address(address), timeout=PATIENCE)
    await comm.close()
