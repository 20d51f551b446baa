"""A run's folder: what is there already is not overwritten, and one process at a time writes to it.

Most of these commands are refused before anything is trained.
"""

import errno
import json
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from numba_stn import cli
from numba_stn.cli import export
from numba_stn.nn import tree
from numba_stn.training import checkpoint, experiment, runs
from numba_stn.utils import lock
from numba_stn.utils.atomic_write import PREFIX

OPTIONS = ["--model", "fcn", "--epochs", "2", "--batch", "400"]
CONFIG = experiment.Config(model="fcn", epochs=2, batch=400)
TABLE = ["reproduce", "table1", "--dataset", "digits", "--epochs", "1", "--models", "fcn",
         "--tasks", "R", "--seeds", "0"]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A complete run."""
    folder = tmp_path_factory.mktemp("runs") / "complete"
    assert cli.main(["train", *OPTIONS, "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def complete(trained, tmp_path):
    """A copy of the complete run."""
    folder = tmp_path / "run"
    folder.mkdir()
    for path in trained.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes()
            for path in folder.rglob("*") if path.is_file()}  # fmt: skip


def refused(folder, capsys, *command):
    """The line that a command prints which is refused, and changes nothing in a folder."""
    before = content(folder)
    assert cli.main([str(word) for word in command]) == 2
    assert content(folder) == before
    (line,) = capsys.readouterr().err.splitlines()
    return line


# --- What is there already ------------------------------------------------------------------------


def test_a_complete_run_is_not_overwritten(complete, capsys):
    line = refused(complete, capsys, "train", *OPTIONS, "--out", complete)
    assert line == (
        f"numba-stn: {complete}: has a run; choose another --out, or train there with --force"
    )


def test_files_of_something_else_are_not_overwritten(tmp_path, capsys):
    for number in range(5):
        (tmp_path / f"{number}.txt").write_text("mine")
    line = refused(tmp_path, capsys, "train", *OPTIONS, "--out", tmp_path)
    assert "has files of something else: 0.txt, 1.txt, 2.txt and 2 more; choose another" in line
    (tmp_path / "metrics.json").write_text('{"accuracy": 1}')
    assert "files of something else" in refused(
        tmp_path, capsys, "train", *OPTIONS, "--out", tmp_path
    )


def test_force_replaces_a_run_and_leaves_other_files(complete, capsys):
    (complete / "notes.txt").write_text("mine")
    before = content(complete)
    command = ["train", *OPTIONS[:4], "--batch", "200", "--out", str(complete), "--force"]
    assert cli.main(command) == 0
    after = content(complete)
    assert after.keys() == before.keys()
    assert [name for name in after if after[name] == before[name]] == [
        "notes.txt", "classes.png",  # of the test images; this network has no transformer
    ]  # fmt: skip
    assert json.loads(after["metrics.json"])["batch"] == 200


def test_force_keeps_the_old_results_until_the_new_ones_are_there(complete, monkeypatch):
    """An error in the first epoch leaves the results that were there."""

    def step(*args):
        raise experiment.DivergedError("in the first epoch")

    before = content(complete)
    monkeypatch.setattr(experiment.train, "train_step", step)
    assert cli.main(["train", *OPTIONS, "--out", str(complete), "--force"]) != 0
    after = content(complete)
    assert after.pop(runs.CHECKPOINT)
    assert after == before


def test_a_hidden_file_does_not_count(tmp_path):
    (tmp_path / ".DS_Store").write_text("")
    assert cli.main(["train", *OPTIONS, "--out", str(tmp_path)]) == 0
    assert (tmp_path / ".DS_Store").exists()


def test_resume_with_force_is_refused(complete, capsys):
    assert "remove --force" in refused(complete, capsys, "train", "--resume", complete, "--force")


def test_an_empty_name_trains_nothing(tmp_path, monkeypatch, capsys):
    """As from an unset variable of a shell."""
    (tmp_path / "notes.txt").write_text("mine")
    monkeypatch.chdir(tmp_path)
    refused(tmp_path, capsys, "train", "--resume", "")
    refused(tmp_path, capsys, "train", "--out", "")


def test_runs_that_begin_in_the_same_second_have_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(time, "strftime", lambda *_: "20260101-120000")
    for _ in range(3):
        assert cli.main(["train", *OPTIONS]) == 0
    names = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert names == ["20260101-120000", "20260101-120000-2", "20260101-120000-3"]


def test_reproduce_does_not_overwrite_files_of_something_else(tmp_path, capsys):
    command = [*TABLE, "--out", tmp_path]
    (tmp_path / "table1.md").write_text("my own table")
    assert "table1.*: not a table of numba-stn reproduce" in refused(tmp_path, capsys, *command)
    (tmp_path / "table1.json").write_text('{"rows": []}')
    assert "lacks command, runs and has the unknown 'rows'" in refused(tmp_path, capsys, *command)
    for name in ("table1.md", "table1.json"):
        (tmp_path / name).unlink()
    folder = tmp_path / "R-fcn-seed0"
    folder.mkdir()
    (folder / "weights.safetensors").write_text("something else")
    assert cli.main([str(word) for word in command]) == 1
    error = capsys.readouterr().err
    assert f"{folder}: has files of something else: weights.safetensors" in error
    assert content(tmp_path) == {f"{folder.name}/weights.safetensors": b"something else"}


def test_export_does_not_overwrite_a_file_of_its_run(complete, capsys):
    target = complete / ".." / complete.name / "weights.safetensors"
    for more in ([], ["--force"]):
        line = refused(complete, capsys, "export", complete, target, *more)
        assert "a file of the run; choose another name" in line


# --- The lock -------------------------------------------------------------------------------------


def test_two_processes_do_not_write_to_one_folder(complete, tmp_path, capsys):
    stopped = tmp_path / "stopped"
    table = tmp_path / "table"
    for folder, command in (
        (complete, ["train", *OPTIONS, "--out", complete, "--force"]),
        (stopped, ["train", *OPTIONS, "--out", stopped]),
        (stopped, ["train", "--resume", stopped]),
        (table, [*TABLE, "--out", table]),
    ):
        with runs.hold(folder):
            line = refused(folder, capsys, *command)
        assert f"{folder}: process {os.getpid()} on " in line
        assert "is at work there; wait for it, or choose another folder" in line
        assert not (folder / runs.LOCK).exists()
    with runs.hold(table / "R-fcn-seed0"):
        assert cli.main([*TABLE, "--out", str(table)]) == 1
        assert "R-fcn-seed0: process" in capsys.readouterr().err
    assert not stopped.exists()


def test_two_processes_do_not_export_to_one_file(complete, tmp_path, capsys):
    target = tmp_path / "net.safetensors"
    with lock.locked(tmp_path / "net.safetensors.lock"):
        line = refused(tmp_path, capsys, "export", complete, target)
    assert "is at work there" in line
    assert cli.main(["export", str(complete), str(target)]) == 0
    assert "exists; --force overwrites it" in refused(tmp_path, capsys, "export", complete, target)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [target.name]


def test_the_lock_of_a_long_name_is_shorter(tmp_path):
    for letter in ("x", "\u4e2d"):
        name = letter * (243 // len(letter.encode())) + ".safetensors"  # 255 bytes
        found = export._lock_file(tmp_path / name)
        assert len(found.name.encode()) <= 255
        found.touch()


HOLDER = """
import pathlib, sys, time
from numba_stn.utils.lock import locked
with locked(pathlib.Path(sys.argv[1])):
    print("here", flush=True)
    time.sleep(600)
"""


def test_a_dead_process_holds_nothing(tmp_path):
    path = tmp_path / "lock"
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "here\n"
            message = f"process {process.pid} on .* is at work there"
            with pytest.raises(lock.LockedError, match=message), lock.locked(path):
                pass
        finally:
            process.kill()
    assert path.exists()
    with lock.locked(path):
        assert path.read_text().startswith(f"process {os.getpid()} on ")
    assert not path.exists()


def test_many_threads_hold_a_lock_one_at_a_time(tmp_path, monkeypatch):
    """The file is removed and created again all the time, and never two hold it."""
    monkeypatch.setattr(lock, "POLL_SECONDS", 0)
    holders, most, done = 0, 0, 0

    def work():
        nonlocal holders, most, done
        for _ in range(30):
            with lock.locked(tmp_path / "lock", patience=60):
                holders += 1
                most = max(most, holders)
                time.sleep(0)
                holders -= 1
                done += 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, done) == (1, 240)
    assert not list(tmp_path.iterdir())


def test_a_lock_is_waited_for(tmp_path):
    path = tmp_path / "lock"
    with lock.locked(path):
        waiter = threading.Thread(target=lambda: lock.locked(path, patience=60).__enter__())
        waiter.start()
        time.sleep(0.05)
        assert waiter.is_alive()
    waiter.join(60)
    assert not waiter.is_alive()


def test_a_file_that_is_no_locks_is_not_touched(tmp_path):
    path = tmp_path / "lock"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match="not a lock's file"), lock.locked(path):
        pass
    assert path.read_text() == "mine"
    path.unlink()
    path.symlink_to(tmp_path / "victim")
    with pytest.raises(OSError), lock.locked(path):  # noqa: PT011
        pass
    assert not (tmp_path / "victim").exists()


def test_a_file_system_without_locks_is_reported(tmp_path, monkeypatch):
    def no_lock(file):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock, "_lock", no_lock)
    messages = []
    with lock.locked(tmp_path / "lock", warn=messages.append):
        pass
    (message,) = messages
    assert f"{tmp_path}: this file system has no locks (No locks available)" in message


def test_what_a_killed_process_left_is_named_and_removed(tmp_path):
    left = tmp_path / f"{PREFIX}{'0' * 16}"
    (left / "new").mkdir(parents=True)
    (left / "new" / runs.CHECKPOINT).write_text("half")
    messages = []
    with runs.hold(tmp_path, messages.append):
        assert not left.exists()
    (message,) = messages
    assert str(left) in message


# --- Errors while training ------------------------------------------------------------------------


@pytest.mark.parametrize("error", [experiment.DivergedError, ValueError, MemoryError, OSError])
def test_the_checkpoint_survives_an_error(error, trained, tmp_path, monkeypatch):
    """An error in the second epoch leaves the checkpoint of the first, which is resumed."""
    folder, count = tmp_path / "run", 0
    setup = experiment.prepare(CONFIG)
    whole = experiment.train.train_step

    def step(*args):
        nonlocal count
        count += 1
        if count == 4:  # of 2 an epoch
            raise error("in the second epoch")
        return whole(*args)

    monkeypatch.setattr(experiment.train, "train_step", step)
    with runs.hold(folder):
        state = runs.load_or_start(folder, setup)
        with pytest.raises(error, match="in the second epoch"):
            runs.run_in_folder(folder, setup, state)
    assert [path.name for path in folder.iterdir()] == [runs.CHECKPOINT]
    found = experiment.resumed_state(setup, folder / runs.CHECKPOINT)
    assert (found.epoch, found.step) == (1, 0)
    assert cli.main(["train", "--resume", str(folder)]) == 0
    for name in (runs.WEIGHTS, "classes.png", "curves.png"):
        assert (folder / name).read_bytes() == (trained / name).read_bytes()


def test_weights_that_are_not_finite_do_not_reach_the_checkpoint(tmp_path, monkeypatch, capsys):
    """As when one NaN pixel makes weights NaN, while the loss stays finite."""
    whole, count = experiment.train.train_step, 0

    def step(*args):
        nonlocal count
        count += 1
        learner, loss, errors = whole(*args)
        if count == 4:  # the last step of the second epoch
            learner = learner._replace(params=tree.tree_map(lambda a: a * np.nan, learner.params))
        return learner, loss, errors

    monkeypatch.setattr(experiment.train, "train_step", step)
    assert cli.main(["train", *OPTIONS, "--out", str(tmp_path / "run")]) == 2
    assert "NaN" in capsys.readouterr().err.splitlines()[-1]
    assert checkpoint.load_config(tmp_path / "run" / runs.CHECKPOINT, experiment.Config) == CONFIG
