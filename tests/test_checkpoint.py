"""Resumed runs give the same bits as uninterrupted ones; files of other kinds are refused."""

import json
import subprocess
import sys

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from numba_stn import cli
from numba_stn.nn.tree import flatten
from numba_stn.training import checkpoint, experiment, runs

CONFIG = experiment.Config(model="st-fcn", epochs=3, batch=100)
OPTIONS = ["--model", "st-fcn", "--epochs", "3", "--batch", "100"]


@pytest.fixture(scope="module")
def setup():
    return experiment.prepare(CONFIG)


@pytest.fixture(scope="module")
def whole(setup):
    """A run that is never stopped, and its training state after each epoch."""
    states = []
    learner, metrics = experiment.run(setup, save=states.append)
    return learner, metrics, states


def same(learner, other):
    one, two = (checkpoint._arrays(checkpoint.TrainingState(each)) for each in (learner, other))
    for (name, a), b in zip(flatten(one).items(), flatten(two).values(), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)
        assert a.dtype == b.dtype


def stopped_after(setup, steps, path):
    """Write the checkpoint of a run that is stopped after this number of steps, as by Ctrl-C."""

    def on_step(done, loss, error):
        if done == steps:
            raise KeyboardInterrupt

    def save(state):
        checkpoint.save_checkpoint(path, CONFIG, state)

    experiment.run(setup, on_step=on_step, save=save)


@pytest.mark.parametrize("steps", [3, 8, 13])
def test_a_resumed_run_gives_the_same_bits(steps, setup, whole, tmp_path):
    """Stopped in the middle of an epoch, and in its last step (of 8)."""
    path = tmp_path / "checkpoint.safetensors"
    stopped_after(setup, steps, path)
    state = experiment.resumed_state(setup, path)
    assert 8 * state.epoch + state.step == steps - 1  # the step that was stopped is done again
    learner, metrics = experiment.run(setup, state)
    same(learner, whole[0])
    assert metrics["history"] == whole[1]["history"]
    assert metrics["test_error"] == whole[1]["test_error"]


def test_load_checkpoint_inverts_save_checkpoint(setup, whole, tmp_path):
    state = whole[2][1]
    path = tmp_path / "checkpoint.safetensors"
    checkpoint.save_checkpoint(path, CONFIG, state)
    found = checkpoint.load_checkpoint(path, CONFIG, experiment.initial_state(setup).learner)
    same(found.learner, state.learner)
    steps = [learner.optimiser_state["step"] for learner in (found.learner, state.learner)]
    assert steps == [16, 16]
    assert found[1:] == state[1:]
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


# --- Killed ---------------------------------------------------------------------------------------


def test_a_run_killed_in_the_middle_of_an_epoch_is_resumed(whole, tmp_path):
    """SIGKILL in the second epoch, then ``--resume`` on the command line."""
    folder = tmp_path / "run"
    script = f"""
import sys, time
from numba_stn import cli
from numba_stn.training import experiment
original, count = experiment.train.train_step, 0
def step(*args):
    global count
    count += 1
    if count == 12:
        print("here", flush=True)
        time.sleep(600)
    return original(*args)
experiment.train.train_step = step
cli.main(["train", *{OPTIONS!r}, "--out", {str(folder)!r}])
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True) as process:  # fmt: skip
        assert process.stdout.readline() == "here\n"
        process.kill()
    assert sorted(path.name for path in folder.iterdir()) == [runs.CHECKPOINT, runs.LOCK]
    assert cli.main(["train", "--resume", str(folder)]) == 0
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["history"] == whole[1]["history"]
    assert metrics["test_error"] == whole[1]["test_error"]
    weights = load_file(folder / "weights.safetensors")
    for name, array in flatten({"params": whole[0].params}).items():
        np.testing.assert_array_equal(weights[name], array, err_msg=name)
    assert not (folder / runs.CHECKPOINT).exists()


# --- Refused --------------------------------------------------------------------------------------


@pytest.fixture
def folder(setup, whole, tmp_path):
    """The folder of a run that was stopped after its first epoch."""
    checkpoint.save_checkpoint(tmp_path / runs.CHECKPOINT, CONFIG, whole[2][0])
    return tmp_path


def refused(folder, capsys, *more):
    """The line that ``--resume`` prints."""
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert cli.main(["train", "--resume", str(folder), *more]) == 2
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_file_is_refused(share, folder, capsys):
    path = folder / runs.CHECKPOINT
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert "truncated, or not safetensors" in refused(folder, capsys)


def test_a_foreign_file_is_refused(folder, capsys):
    path = folder / runs.CHECKPOINT
    save_file({"weight": np.zeros(3)}, path, {"format": "pt"})
    assert "not a checkpoint of numba_stn" in refused(folder, capsys)
    path.write_bytes(b"\x89PNG\r\n" * 100)
    assert "truncated, or not safetensors" in refused(folder, capsys)


def test_a_checkpoint_of_an_earlier_version_is_refused(folder, capsys):
    path = folder / runs.CHECKPOINT
    arrays = load_file(path)
    with safe_open(path, "numpy") as file:
        metadata = file.metadata()
    save_file(arrays, path, metadata | {"format": "numba_stn checkpoint 1"})
    assert "a checkpoint of an earlier version of numba_stn" in refused(folder, capsys)
    config = json.loads(metadata["config"])
    assert config.pop("views") == 1
    save_file(arrays, path, metadata | {"config": json.dumps(config)})
    assert "a checkpoint of another version: config: lacks views" in refused(folder, capsys)


def test_another_network_is_refused(folder, capsys):
    """Weights that do not match the configuration in the file."""
    path = folder / runs.CHECKPOINT
    arrays = load_file(path)
    with safe_open(path, "numpy") as file:
        metadata = file.metadata()
    name = next(iter(arrays))
    save_file({**arrays, name: np.zeros((7, 7), np.float32)}, path, metadata)
    line = refused(folder, capsys)
    assert "does not match this network" in line
    assert name in line


def test_another_configuration_is_refused(folder, setup):
    config = experiment.Config(model="st-fcn", epochs=3, batch=100, rate=0.5)
    initial = experiment.initial_state(setup).learner
    with pytest.raises(checkpoint.CheckpointError, match=r"rate 0\.01, expected 0\.5"):
        checkpoint.load_checkpoint(folder / runs.CHECKPOINT, config, initial)


def test_other_options_with_resume_are_refused(folder, capsys):
    assert "remove --epochs, --out" in refused(folder, capsys, "--epochs", "9", "--out", "x")


def test_a_stopped_run_is_not_overwritten(folder, capsys):
    before = (folder / runs.CHECKPOINT).read_bytes()
    assert cli.main(["train", *OPTIONS, "--out", str(folder)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"--resume {folder}" in line
    assert (folder / runs.CHECKPOINT).read_bytes() == before


def test_resume_without_a_stopped_run_is_refused(setup, whole, tmp_path, capsys):
    assert "found no checkpoint" in refused(tmp_path, capsys)
    (tmp_path / "metrics.json").write_text(json.dumps(whole[1]))
    assert "complete" in refused(tmp_path, capsys)
    (tmp_path / "metrics.json").write_text('{"interrupted": false}')
    assert "a run of another version of numba_stn: lacks test_error, " in refused(tmp_path, capsys)
