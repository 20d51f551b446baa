"""Runs that are stopped go on to the same bits; files that are no checkpoints are refused."""

import json
import subprocess
import sys

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from numba_stn import cli
from numba_stn.training import checkpoint, experiment, runs

CONFIG = experiment.Config(model="st-fcn", epochs=3, batch=100)
OPTIONS = ["--model", "st-fcn", "--epochs", "3", "--batch", "100"]


@pytest.fixture(scope="module")
def setup():
    return experiment.prepare(CONFIG)


@pytest.fixture(scope="module")
def whole(setup):
    """The run that is never stopped, and where it stands after each epoch."""
    stands = []
    learner, metrics = experiment.run(setup, keep=stands.append)
    return learner, metrics, stands


def same(learner, other):
    one, two = (checkpoint._arrays(checkpoint.Stand(each)) for each in (learner, other))
    for (name, a), b in zip(
        checkpoint.flatten(one).items(), checkpoint.flatten(two).values(), strict=True
    ):
        np.testing.assert_array_equal(a, b, err_msg=name)
        assert a.dtype == b.dtype


def stopped_after(setup, steps, path):
    """A checkpoint of the run, stopped as Ctrl-C does after so many steps."""

    def on_step(done, loss, error):
        if done == steps:
            raise KeyboardInterrupt

    experiment.run(setup, on_step=on_step, keep=lambda stand: checkpoint.save(path, CONFIG, stand))


@pytest.mark.parametrize("steps", [3, 8, 13])
def test_a_run_goes_on_to_the_same_bits(steps, setup, whole, tmp_path):
    """Stopped in mid-epoch, and in the last step of an epoch (of 8 steps)."""
    path = tmp_path / "checkpoint.safetensors"
    stopped_after(setup, steps, path)
    stand = experiment.resume(setup, path)
    assert 8 * stand.epoch + stand.step == steps - 1  # the step that was stopped is done again
    learner, metrics = experiment.run(setup, stand)
    same(learner, whole[0])
    assert metrics["history"] == whole[1]["history"]
    assert metrics["test_error"] == whole[1]["test_error"]


def test_there_and_back(setup, whole, tmp_path):
    stand = whole[2][1]
    path = tmp_path / "checkpoint.safetensors"
    checkpoint.save(path, CONFIG, stand)
    found = checkpoint.load(path, CONFIG, experiment.begin(setup).learner)
    same(found.learner, stand.learner)
    assert found.learner.memory["step"] == stand.learner.memory["step"] == 16
    assert found[1:] == stand[1:]
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_run_of_an_earlier_version_goes_on(setup, whole, tmp_path):
    """One of before there were readings."""
    path = tmp_path / "checkpoint.safetensors"
    stopped_after(setup, 11, path)
    with safe_open(path, "numpy") as file:
        metadata = file.metadata()
    config = json.loads(metadata["config"])
    assert config.pop("readings") == 1
    save_file(load_file(path), path, metadata | {"config": json.dumps(config)})
    assert runs.config_of(tmp_path) == CONFIG
    learner, _ = experiment.run(setup, experiment.resume(setup, path))
    same(learner, whole[0])


# --- Killed ---------------------------------------------------------------------------------------


def test_a_process_killed_in_mid_epoch_loses_nothing(whole, tmp_path):
    """SIGKILL in the middle of the second epoch; then ``--resume``, by the command line."""
    folder = tmp_path / "run"
    script = f"""
import sys, time
from numba_stn import cli, experiment
original, count = experiment.train.step, 0
def step(*args):
    global count
    count += 1
    if count == 12:
        print("here", flush=True)
        time.sleep(600)
    return original(*args)
experiment.train.step = step
cli.main(["train", *{OPTIONS!r}, "--out", {str(folder)!r}])
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True) as process:  # fmt: skip
        assert process.stdout.readline() == "here\n"
        process.kill()
    assert [path.name for path in folder.iterdir()] == [runs.CHECKPOINT]
    assert cli.main(["train", "--resume", str(folder)]) == 0
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["history"] == whole[1]["history"]
    assert metrics["test_error"] == whole[1]["test_error"]
    weights = load_file(folder / "weights.safetensors")
    for name, array in checkpoint.flatten({"params": whole[0].params}).items():
        np.testing.assert_array_equal(weights[name], array, err_msg=name)
    assert not (folder / runs.CHECKPOINT).exists()


# --- Refused --------------------------------------------------------------------------------------


@pytest.fixture
def folder(setup, whole, tmp_path):
    """That of a run stopped after its first epoch."""
    checkpoint.save(tmp_path / runs.CHECKPOINT, CONFIG, whole[2][0])
    return tmp_path


def refused(folder, capsys, *more):
    """The one line that ``--resume`` says."""
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
    assert "cut off or not safetensors" in refused(folder, capsys)


def test_a_foreign_file_is_refused(folder, capsys):
    path = folder / runs.CHECKPOINT
    save_file({"weight": np.zeros(3)}, path, {"format": "pt"})
    assert "no checkpoint of this program" in refused(folder, capsys)
    path.write_bytes(b"\x89PNG\r\n" * 100)
    assert "cut off or not safetensors" in refused(folder, capsys)


def test_another_network_is_refused(folder, capsys):
    """Weights that do not fit the configuration they come with."""
    path = folder / runs.CHECKPOINT
    arrays = load_file(path)
    with safe_open(path, "numpy") as file:
        metadata = file.metadata()
    name = next(iter(arrays))
    save_file({**arrays, name: np.zeros((7, 7), np.float32)}, path, metadata)
    line = refused(folder, capsys)
    assert "does not fit this network" in line
    assert name in line


def test_another_configuration_is_refused(folder, setup):
    config = experiment.Config(model="st-fcn", epochs=3, batch=100, rate=0.5)
    with pytest.raises(checkpoint.CheckpointError, match=r"rate 0\.01, expected 0\.5"):
        checkpoint.load(folder / runs.CHECKPOINT, config, experiment.begin(setup).learner)


def test_options_beside_resume_are_refused(folder, capsys):
    assert "drop --epochs, --out" in refused(folder, capsys, "--epochs", "9", "--out", "x")


def test_a_stopped_run_is_not_begun_anew_unasked(folder, capsys):
    before = (folder / runs.CHECKPOINT).read_bytes()
    assert cli.main(["train", *OPTIONS, "--out", str(folder)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"--resume {folder}" in line
    assert (folder / runs.CHECKPOINT).read_bytes() == before


def test_nothing_to_resume_is_said(tmp_path, capsys):
    assert "found no checkpoint" in refused(tmp_path, capsys)
    (tmp_path / "metrics.json").write_text('{"interrupted": false}')
    assert "complete" in refused(tmp_path, capsys)
