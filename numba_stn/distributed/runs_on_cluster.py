"""Training runs on a Dask cluster: one run per worker at a time, in folders that all workers see.

A run writes its checkpoints as usual, so another worker resumes the run of a lost one. A worker
holds the lock of its run's folder: a worker that is lost but still alive, or that works for another
scheduler, does not write to the same folder. This module imports Dask's distributed scheduler.
"""

import contextlib
import pathlib
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any

import distributed

from .. import data
from ..kernels.cpu_launch import at_most
from ..training import experiment, runs
from ..training.experiment import Config
from ..training.table1 import is_complete
from .cluster import cluster_errors

# A worker has one unit of this resource, and a run needs one.
RESOURCE = "numba-stn-run"

# The topic under which workers report their progress.
TOPIC = "numba-stn"

# Number of retries after an error that is not the run's own, for instance a full disk. The death of
# a worker does not count.
RETRIES = 2

# Time between two looks for new workers, in seconds.
POLL_SECONDS = 2

# Time that a worker waits for a folder that another one holds, in seconds. A lost worker ends after
# its current step; a machine that died holds its locks on NFS for about 90 seconds.
PATIENCE = 120


@dataclass(frozen=True)
class Outcome:
    """The metrics of a run, or the reason why there are none."""

    metrics: dict | None = None
    error: str = ""


class OneRunPerWorker(distributed.WorkerPlugin):
    """Give each worker, also those that join later, the resource for one run."""

    name = RESOURCE

    async def setup(self, worker: Any) -> None:
        """Give the worker one unit of the resource."""
        await worker.set_resources(**{RESOURCE: 1})


def run_on_cluster(
    client: Any, jobs: Mapping[str, dict], report: Callable[[dict], None]
) -> Generator[tuple[str, Outcome], None, None]:
    """Distribute runs over a cluster's workers; yields each one's name and outcome when it ends.

    When the generator is closed, the active runs stop after their current step, with a checkpoint.

    Parameters
    ----------
    client : distributed.Client
    jobs : mapping
        From a run's name to the arguments of :func:`run_task`.
    report : callable
        Called from another thread with the workers' messages, which are dictionaries. They have the
        run's ``name``, the ``worker``, and either ``began`` or ``epoch``, the number of epochs
        done, or a ``text``.

    Raises
    ------
    ClusterError
        If the scheduler is lost.
    """
    waiting, running = list(jobs), dict[Any, str]()
    client.register_plugin(OneRunPerWorker())
    client.subscribe_topic(TOPIC, lambda event: report(event[1]))
    try:
        while waiting or running:
            with cluster_errors():
                free = max(1, len(client.nthreads())) - len(running)
                for name in waiting[: max(0, free)]:
                    future = client.submit(run_task, name, **jobs[name], retries=RETRIES,
                                           pure=False, resources={RESOURCE: 1})  # fmt: skip
                    running[future] = name
                del waiting[: max(0, free)]
                done = _wait_for_some(client, list(running))
                outcomes = [(running.pop(future), _outcome(future)) for future in done]
            yield from outcomes
    finally:
        with contextlib.suppress(OSError):
            client.cancel(list(running))


def _wait_for_some(client, futures):
    """The futures that are done, after a wait of at most POLL_SECONDS for the first."""
    with client.as_current(), contextlib.suppress(TimeoutError, distributed.TimeoutError):
        distributed.wait(futures, POLL_SECONDS, return_when="FIRST_COMPLETED")
    return [future for future in futures if future.done()]


def _outcome(future):
    try:
        return future.result()
    except Exception as error:
        if future.cancelled():
            raise
        return Outcome(error=" ".join(f"{type(error).__name__}: {error}".split()))


# --- On a worker ----------------------------------------------------------------------------------


def run_task(name: str, folder: pathlib.Path, config: Config, data_dir: str | None) -> Outcome:
    """Run, or resume, the run in this folder, on the worker's number of threads."""
    worker = distributed.get_worker()
    task = worker.get_current_task()

    def report(**message):
        worker.log_event(TOPIC, {"name": name, **message})

    def on_step(done, loss, error):
        if _is_abandoned(worker, task):
            raise KeyboardInterrupt  # ends the run with a checkpoint
        if done % setup.steps == 0:
            report(epoch=done // setup.steps)

    def warn(message):
        report(text=message)

    try:
        with runs.hold(folder, warn, PATIENCE), at_most(worker.state.nthreads):
            if is_complete(folder, config):  # by a worker that died before it could return
                return Outcome(runs.complete_metrics(folder))
            setup = experiment.prepare(config, data_dir)
            state = runs.load_or_start(folder, setup)
            report(began=state.epoch)
            return Outcome(runs.run_in_folder(folder, setup, state, on_step, warn)[1])
    except (data.DataError, experiment.DivergedError, ValueError, FloatingPointError) as error:
        return Outcome(error=str(error))


def _is_abandoned(worker, task):
    """Whether nobody waits for the task any more, because the client is gone."""
    state = worker.state.tasks.get(task)
    return state is None or state.state == "cancelled"
