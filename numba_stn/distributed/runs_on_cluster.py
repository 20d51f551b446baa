"""Runs on a Dask cluster: one run a worker at a time, in folders that all of them see.

A run leaves its checkpoints where it always does, so what a lost worker began another goes on with.
Dask's distributed scheduler is imported here.
"""

import contextlib
import pathlib
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any

import distributed

from .. import data
from ..kernels.launch import at_most
from ..training import experiment, runs
from ..training.checkpoint import CheckpointError
from ..training.experiment import Config
from ..training.table1 import finished
from .cluster import lost_is_told

# A worker has one of this, and a run takes it.
PLACE = "numba-stn-run"

# Under which workers tell how their runs go on.
TOPIC = "numba-stn"

# Times that a run is tried again after an error that has nothing to do with it, as a full disk; a
# worker that dies is not one of these.
TRIES = 2

# Seconds after which new workers are looked for.
PACE = 2


@dataclass(frozen=True)
class Outcome:
    """A run's metrics, or why there are none."""

    metrics: dict | None = None
    error: str = ""


class OneRun(distributed.WorkerPlugin):
    """Workers have room for one run, those that join later too."""

    name = PLACE

    async def setup(self, worker: Any) -> None:
        """Let it have room for one."""
        await worker.set_resources(**{PLACE: 1})


def spread(
    client: Any, jobs: Mapping[str, dict], tell: Callable[[dict], None]
) -> Generator[tuple[str, Outcome], None, None]:
    """Run all jobs on a cluster's workers; yields each one's name and outcome as it ends.

    Those that run when this is closed stop after their step, and keep it.

    Parameters
    ----------
    client : distributed.Client
    jobs : mapping
        By any name the arguments of :func:`take_up`.
    tell : callable
        Called with what workers say, from another thread: the run's ``name``, the ``worker``, and
        ``began`` or ``epoch`` with the epochs done, or ``text``.

    Raises
    ------
    ClusterError
        If the scheduler is lost.
    """
    waiting, running = list(jobs), dict[Any, str]()
    client.register_plugin(OneRun())
    client.subscribe_topic(TOPIC, lambda event: tell(event[1]))
    try:
        while waiting or running:
            with lost_is_told():
                room = max(1, len(client.nthreads())) - len(running)
                for name in waiting[: max(0, room)]:
                    future = client.submit(take_up, name, **jobs[name], retries=TRIES, pure=False,
                                           resources={PLACE: 1})  # fmt: skip
                    running[future] = name
                del waiting[: max(0, room)]
                ended = _ended(client, list(running))
                outcomes = [(running.pop(future), _outcome(future)) for future in ended]
            yield from outcomes
    finally:
        with contextlib.suppress(OSError):
            client.cancel(list(running))


def _ended(client, futures):
    """Those that have ended within some time."""
    with client.as_current(), contextlib.suppress(TimeoutError, distributed.TimeoutError):
        distributed.wait(futures, PACE, return_when="FIRST_COMPLETED")
    return [future for future in futures if future.done()]


def _outcome(future):
    try:
        return future.result()
    except Exception as error:
        if future.cancelled():
            raise
        return Outcome(error=" ".join(f"{type(error).__name__}: {error}".split()))


# --- On a worker ----------------------------------------------------------------------------------


def take_up(name: str, folder: pathlib.Path, config: Config, data_dir: str | None) -> Outcome:
    """The task: what is left of a run in its folder, on as many threads as the worker has."""
    worker = distributed.get_worker()
    task = worker.get_current_task()

    def tell(**what):
        worker.log_event(TOPIC, {"name": name, **what})

    try:
        if finished(folder, config):  # by a worker that died as it said so
            return Outcome(runs.metrics_of(folder))
        setup = experiment.prepare(config, data_dir)

        def on_step(done, loss, error):
            if _given_up(worker, task):
                raise KeyboardInterrupt  # which keeps what was learned
            if done % setup.steps == 0:
                tell(epoch=done // setup.steps)

        folder.mkdir(parents=True, exist_ok=True)
        with at_most(worker.state.nthreads):
            stand = runs.stand_in(folder, setup)
            tell(began=stand.epoch)
            _, metrics = runs.execute(folder, setup, stand, on_step, lambda text: tell(text=text))
        return Outcome(metrics)
    except (data.DataError, experiment.DivergedError, CheckpointError, runs.RunError,
            ValueError) as error:  # fmt: skip
        return Outcome(error=str(error))


def _given_up(worker, task):
    """Whether nobody waits for a task any more: those who wanted it have gone."""
    state = worker.state.tasks.get(task)
    return state is None or state.state == "cancelled"
