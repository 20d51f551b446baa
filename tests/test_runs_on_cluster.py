"""``numba-stn reproduce --scheduler``: runs on two worker processes, one of which is killed."""

import json
import os
import threading
import time

import pytest

from numba_stn import cli

pytest.importorskip("distributed")

from clusters import client_of, killed_in_time, two_workers, wait_for_go

from numba_stn.distributed import runs_on_cluster
from numba_stn.training import runs


@pytest.fixture(scope="module")
def workers():
    with two_workers() as found:
        yield found


@pytest.fixture
def client(workers):
    with client_of(workers) as found:
        yield found


def stop_in_second_epoch(folder):
    """Let the first run of this process wait in its second epoch, until one is killed."""
    from numba_stn.training import experiment

    whole, count = experiment.train.train_step, 0

    def step(*args):
        nonlocal count
        count += 1
        if count == 8:  # of 6 an epoch
            wait_for_go(folder)
        return whole(*args)

    experiment.train.train_step = step


def test_another_worker_resumes_the_run_of_a_killed_one(client, tmp_path, capsys):
    client.run(stop_in_second_epoch, tmp_path)
    command = ["reproduce", "table1", "--dataset", "digits", "--epochs", "2", "--tasks", "R,E",
               "--models", "fcn", "--seeds", "0"]  # fmt: skip
    killer = threading.Thread(target=killed_in_time, args=[tmp_path])
    killer.start()
    on_cluster = [*command, "--out", str(tmp_path / "cluster"),
                  "--scheduler", client.scheduler.address]  # fmt: skip
    assert cli.main(on_cluster) == 0
    killer.join()
    printed = capsys.readouterr().err
    assert printed.count("resumed after epoch 1 on tcp://") == 1
    assert cli.main([*command, "--out", str(tmp_path / "local")]) == 0
    for folder in ("R-fcn-seed0", "E-fcn-seed0"):
        one, other = (
            json.loads((tmp_path / out / folder / "metrics.json").read_text())
            for out in ("cluster", "local")
        )
        assert one["test_error"] == other["test_error"]
        assert one["history"] == other["history"]
        assert not (tmp_path / "cluster" / folder / "checkpoint.safetensors").exists()
    tables = [(tmp_path / out / "table1.md").read_text() for out in ("cluster", "local")]
    assert tables[0] == tables[1]
    assert cli.main(on_cluster) == 0  # nothing is left to do
    assert "2 of 2 runs are complete" in capsys.readouterr().out


running: set[str] = set()


def concurrent_runs(name):
    """A run whose metrics are the names of the other runs in its process."""
    running.add(name)
    time.sleep(0.05)
    found = runs_on_cluster.Outcome({"others": sorted(running - {name})})
    running.remove(name)
    return found


def run_all(client, jobs):
    return dict(runs_on_cluster.run_on_cluster(client, jobs, report=lambda message: None))


def test_a_worker_trains_one_run_at_a_time(client, monkeypatch):
    monkeypatch.setattr(runs_on_cluster, "run_task", concurrent_runs)
    jobs = {str(number): {} for number in range(8)}
    found = run_all(client, jobs)
    assert found == {name: runs_on_cluster.Outcome({"others": []}) for name in jobs}


def fails(name):
    raise OSError("the disk is full")


def test_a_run_that_fails_does_not_stop_the_others(client, monkeypatch):
    monkeypatch.setattr(runs_on_cluster, "run_task", fails)
    found = run_all(client, {"a": {}, "b": {}})
    assert found == dict.fromkeys("ab", runs_on_cluster.Outcome(error="OSError: the disk is full"))


# --- Folders that are in use ----------------------------------------------------------------------

TRIAL = ["reproduce", "table1", "--dataset", "digits", "--epochs", "1", "--tasks", "R",
         "--models", "fcn", "--seeds", "0"]  # fmt: skip


def set_patience(seconds):
    runs_on_cluster.PATIENCE = seconds


def test_a_second_scheduler_does_not_write_to_the_folder(client, tmp_path, capsys):
    command = [*TRIAL, "--out", str(tmp_path), "--scheduler", client.scheduler.address]
    with runs.hold(tmp_path):
        assert cli.main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{tmp_path}: process {os.getpid()} on " in line
    assert not list(tmp_path.iterdir())


def test_a_worker_waits_for_a_folder_and_then_gives_up(client, tmp_path, capsys):
    command = [*TRIAL, "--out", str(tmp_path), "--scheduler", client.scheduler.address]
    client.run(set_patience, 0)
    with runs.hold(tmp_path / "R-fcn-seed0"):
        assert cli.main(command) == 1
    assert f"R-fcn-seed0: process {os.getpid()} on " in capsys.readouterr().err
    assert not (tmp_path / "R-fcn-seed0").exists()
    client.run(set_patience, 60)
    held, go = threading.Event(), threading.Event()

    def hold():
        with runs.hold(tmp_path / "R-fcn-seed0"):
            held.set()
            go.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(60)
    threading.Timer(1, go.set).start()
    assert cli.main(command) == 0
    holder.join()
    assert runs.complete_metrics(tmp_path / "R-fcn-seed0")
    assert [path.name for path in tmp_path.rglob("*.lock")] == []


def test_other_files_in_a_runs_folder_are_named(client, tmp_path, capsys):
    (tmp_path / "R-fcn-seed0").mkdir()
    (tmp_path / "R-fcn-seed0" / "weights.safetensors").write_text("mine")
    command = [*TRIAL, "--out", str(tmp_path), "--scheduler", client.scheduler.address]
    assert cli.main(command) == 1
    assert "has files of something else: weights.safetensors" in capsys.readouterr().err
    assert (tmp_path / "R-fcn-seed0" / "weights.safetensors").read_text() == "mine"
