"""``numba-stn reproduce --scheduler``: runs on two worker processes, one of them killed."""

import json
import threading
import time

import pytest

from numba_stn import cli

pytest.importorskip("distributed")

from clusters import client_of, killed_in_time, two_workers, wait_for_go

from numba_stn.distributed import runs_on_cluster


@pytest.fixture(scope="module")
def workers():
    with two_workers() as found:
        yield found


@pytest.fixture
def client(workers):
    with client_of(workers) as found:
        yield found


def stops_in_its_second_epoch(folder):
    """Let the first run of this process wait there for a word."""
    from numba_stn.training import experiment

    whole, count = experiment.train.step, 0

    def step(*args):
        nonlocal count
        count += 1
        if count == 8:  # of 6 an epoch
            wait_for_go(folder)
        return whole(*args)

    experiment.train.step = step


def test_a_run_goes_on_from_its_checkpoint_elsewhere(client, tmp_path, capsys):
    client.run(stops_in_its_second_epoch, tmp_path)
    command = ["reproduce", "table1", "--dataset", "digits", "--epochs", "2", "--tasks", "R,E",
               "--models", "fcn", "--seeds", "0"]  # fmt: skip
    killer = threading.Thread(target=killed_in_time, args=[tmp_path])
    killer.start()
    on_both = [*command, "--out", str(tmp_path / "spread"), "--scheduler", client.scheduler.address]
    assert cli.main(on_both) == 0
    killer.join()
    told = capsys.readouterr().err
    assert told.count("goes on after epoch 1 on tcp://") == 1
    assert cli.main([*command, "--out", str(tmp_path / "alone")]) == 0
    for folder in ("R-fcn-seed0", "E-fcn-seed0"):
        one, other = (
            json.loads((tmp_path / place / folder / "metrics.json").read_text())
            for place in ("spread", "alone")
        )
        assert one["test_error"] == other["test_error"]
        assert one["history"] == other["history"]
        assert not (tmp_path / "spread" / folder / "checkpoint.safetensors").exists()
    tables = [(tmp_path / place / "table1.md").read_text() for place in ("spread", "alone")]
    assert tables[0] == tables[1]
    assert cli.main(on_both) == 0  # nothing is left to do
    assert "2 of 2 runs are complete" in capsys.readouterr().out


running: set[str] = set()


def alone_here(name):
    """A run that says whether it is the only one of its process."""
    running.add(name)
    time.sleep(0.05)
    found = runs_on_cluster.Outcome({"beside": sorted(running - {name})})
    running.remove(name)
    return found


def test_a_worker_takes_one_run_at_a_time(client, monkeypatch):
    monkeypatch.setattr(runs_on_cluster, "take_up", alone_here)
    jobs = {str(number): {} for number in range(8)}
    found = dict(runs_on_cluster.spread(client, jobs, tell=lambda news: None))
    assert found == {name: runs_on_cluster.Outcome({"beside": []}) for name in jobs}


def fails(name):
    raise OSError("the disk is full")


def test_a_run_that_fails_does_not_stop_the_others(client, monkeypatch):
    monkeypatch.setattr(runs_on_cluster, "take_up", fails)
    found = dict(runs_on_cluster.spread(client, {"a": {}, "b": {}}, tell=lambda news: None))
    assert found == dict.fromkeys("ab", runs_on_cluster.Outcome(error="OSError: the disk is full"))
