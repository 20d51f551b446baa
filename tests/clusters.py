"""Clusters of two worker processes on this machine, and how one of them is killed in time."""

import contextlib
import os
import signal
import time

import distributed


@contextlib.contextmanager
def two_workers(memory_limit=0):
    """A cluster of two processes, of two threads each."""
    local = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=2, memory_limit=memory_limit, **local
    ) as cluster:
        yield cluster


@contextlib.contextmanager
def client_of(cluster):
    """A client, when both workers are there."""
    with distributed.Client(cluster, set_as_default=False) as client:
        client.wait_for_workers(2)
        yield client


def until(found, seconds=60):
    """What the function finds, as soon as it finds something."""
    end = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
    return value


def killed_in_time(folder):
    """Kill the first process that says in this folder that it waits, and let the others go on."""
    waiting = until(lambda: list(folder.glob("*.waits")))
    os.kill(int(waiting[0].stem), signal.SIGKILL)
    (folder / "go").touch()


def wait_for_go(folder):
    (folder / f"{os.getpid()}.waits").touch()
    until((folder / "go").exists)
