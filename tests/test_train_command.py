"""``numba-stn train``, through its command line."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest

from numba_stn import cli, data
from numba_stn.cli import options
from numba_stn.nn import SpatialTransformer, train, tree
from numba_stn.training import experiment, runs
from numba_stn.utils import atomic_write

HOME = os.environ.get("NUMBA_STN_DATA")
needs_mnist = pytest.mark.skipif(not HOME, reason="NUMBA_STN_DATA does not name MNIST's folder")
COMMAND = [sys.executable, "-m", "numba_stn"]


def run(*args, **env):
    return subprocess.run(
        [*COMMAND, *map(str, args)], env=os.environ | env, capture_output=True, text=True
    )


def read(folder):
    return json.loads((pathlib.Path(folder) / "metrics.json").read_text())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of the fastest model with a transformer."""
    folder = tmp_path_factory.mktemp("runs") / "st-fcn"
    assert cli.main(["train", "--model", "st-fcn", "--epochs", "40", "--out", str(folder)]) == 0
    return folder


def test_a_run_learns(trained):
    metrics = read(trained)
    assert metrics["test_error"] < 6
    assert len(metrics["history"]) == 40
    assert metrics["history"][-1]["train_loss"] < 0.3 * metrics["history"][0]["train_loss"]
    assert (metrics["seed"], metrics["interrupted"]) == (0, False)
    assert {"python", "numba", "numpy", "numba-stn"} <= metrics["versions"].keys()
    assert metrics["seconds"] > 0


def test_the_transformer_lowers_the_error():
    """On rotated digits, in the mean over two seeds: about 2.1 instead of 2.7 %."""

    def mean_error(model):
        configs = [experiment.Config(model=model, seed=seed) for seed in range(2)]
        return np.mean([experiment.run(experiment.prepare(c))[1]["test_error"] for c in configs])

    assert mean_error("st-cnn") < mean_error("cnn")


def test_a_run_writes_metrics_weights_and_pictures(trained):
    names = {path.name for path in trained.iterdir()}
    assert names == set(runs.FILES)
    for name in ("curves.png", "classes.png"):
        from matplotlib.image import imread

        picture = imread(trained / name)
        assert min(picture.shape[:2]) > 300
        assert picture[..., :3].std() > 0.05


def test_the_weights_give_the_reported_error(trained):
    from safetensors.numpy import load_file

    metrics = read(trained)
    setup = experiment.prepare(experiment.Config(model="st-fcn", epochs=40))
    shape = setup.test.images.shape[1:]
    params = setup.net.init(np.random.default_rng(9), shape)
    like = {"params": params, "state": setup.net.init_state(shape)}
    flat = load_file(trained / "weights.safetensors")
    loaded = tree.unflatten(flat, like)
    learner = train.Learner(loaded["params"], loaded["state"], None)
    error = train.error_percent(setup.net, learner, *setup.test)
    assert error == metrics["test_error"]


def test_the_same_seed_gives_the_same_metrics_on_any_number_of_threads(tmp_path):
    found = []
    for threads, seed in (("1", 3), ("2", 3), ("2", 4)):
        folder = tmp_path / f"{threads}-{seed}"
        done = run("train", "--model", "st-cnn", "--epochs", 2, "--seed", seed, "--out", folder,
                   NUMBA_NUM_THREADS=threads)  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "epoch 2/2" in done.stderr
        assert "loss" in done.stderr
        metrics = read(folder)
        found.append((metrics["test_error"], metrics["history"]))
    assert found[0] == found[1] != found[2]


def test_ctrl_c_saves_the_training_state(tmp_path):
    script = f"""
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells' background jobs ignore it
from numba_stn import cli
from numba_stn.training import experiment
original, count = experiment.train.train_step, 0
def step(*args):
    global count
    count += 1
    if count == 60:
        os.kill(os.getpid(), signal.SIGINT)
    return original(*args)
experiment.train.train_step = step
sys.exit(cli.main(["train", "--model", "fcn", "--out", {str(tmp_path)!r}]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 128 + signal.SIGINT, done.stderr
    assert "the training state is saved" in done.stderr
    assert "Traceback" not in done.stderr
    metrics = read(tmp_path)
    assert metrics["interrupted"]
    assert len(metrics["history"]) == 3  # 16 steps an epoch
    assert metrics["test_error"] < 60
    assert (tmp_path / "weights.safetensors").exists()


def test_ctrl_c_during_the_measurement_saves_the_weights(tmp_path):
    (tmp_path / "curves.png").write_text("an older run's")
    script = f"""
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells' background jobs ignore it
from numba_stn import cli
from numba_stn.training import experiment
original, count = experiment.train.error_percent, 0
def measure(*args):
    global count
    count += 1
    if count == 2:  # the first one is the epoch's
        os.kill(os.getpid(), signal.SIGINT)
    return original(*args)
experiment.train.error_percent = measure
sys.exit(cli.main(["train", "--model", "fcn", "--epochs", "1", "--force",
                   "--out", {str(tmp_path)!r}]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 130, done.stderr
    metrics = read(tmp_path)
    assert metrics["test_error"] is None
    assert metrics["interrupted"]
    assert (tmp_path / "weights.safetensors").stat().st_size > 10_000
    assert (tmp_path / "curves.png").stat().st_size > 10_000


@pytest.mark.parametrize("missing", ["tqdm", "safetensors", "matplotlib"])
def test_a_missing_package_is_reported_first(missing, tmp_path):
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        f"from numba_stn import cli\n"
        f"sys.exit(cli.main(['train', '--out', {str(tmp_path / 'r')!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert missing in line
    assert "numba-stn[train]" in line
    assert not (tmp_path / "r").exists()


@needs_mnist
@pytest.mark.parametrize(("task", "side"), [("R", 28), ("RTS", 42), ("TC", 60)])
def test_mnist_tasks_train(task, side):
    """A few steps on the real files; the docs have commands for complete runs."""
    config = experiment.Config(dataset="mnist", task=task, epochs=1, batch=128)
    setup = experiment.prepare(config, HOME)
    assert setup.test.images.shape == (10_000, 1, side, side)
    small = setup._replace(
        train=setup.train.take(slice(2560)), test=setup.test.take(slice(500)),
        validation=setup.validation.take(slice(500)),
    )  # fmt: skip
    means = []
    _, metrics = experiment.run(small, on_step=lambda done, loss, error: means.append(loss))
    assert len(means) == 20
    assert means[-1] < means[2]
    assert metrics["test_error"] < 90


@pytest.mark.parametrize(
    ("model", "task", "sides"),
    [("st-fcn", "R", [28]), ("st-fcn", "RTS", [28, 16]), ("st-fcn", "TC", [28, 16]),
     ("st-cnn", "RTS", [28])],
)  # fmt: skip
def test_st_fcn_has_two_transformers_on_a_larger_canvas(model, task, sides):
    config = experiment.Config(dataset="mnist", model=model, task=task)
    net, _ = experiment.network(config)
    found = [layer.size for layer in net.layers if isinstance(layer, SpatialTransformer)]
    assert found == [(side, side) for side in sides]
    assert experiment.parameter_count(config) < 400_000


def test_batches_have_all_images_once_except_the_last():
    split = data.Split(np.arange(10.0).reshape(10, 1, 1, 1), np.arange(10))
    rng = np.random.default_rng(0)
    batches = list(train.shuffled_batches(rng, split, 4, lambda rng, split: split))
    assert [len(labels) for _, labels in batches] == [4, 4]
    seen = np.concatenate([labels for _, labels in batches])
    assert len(set(seen)) == 8
    for images, labels in batches:
        np.testing.assert_array_equal(images.ravel(), labels)


# --- Bad input: one line, exit 2, nothing half-written --------------------------------------------

BAD = {
    "option": (["train", "--speed", "9"], "--speed"),
    "dataset": (["train", "--dataset", "cifar"], "'cifar'"),
    "task": (["train", "--task", "Q"], "'Q'"),
    "views": (["train", "--model", "cnn", "--views", "3"], "cnn has no transformer"),
    "rounds without a transformer": (
        ["train", "--model", "cnn", "--rounds", "2"],
        "cnn has no transformer",
    ),
    "rounds of splines": (
        ["train", "--transform", "tps", "--rounds", "2"],
        "rounds: expected 1 for tps",
    ),
    "rotated splines": (["train", "--transform", "tps", "--views", "3"], "tps cannot be rotated"),
    "epochs": (["train", "--epochs", "0"], "positive whole number, got '0'"),
    "seed": (["train", "--seed", "-1"], "--seed"),
    "rate": (["train", "--rate", "fast"], "positive number, got 'fast'"),
    "smoothing": (["train", "--label-smoothing", "1"], "of at least 0 and below 1, got '1'"),
    "transform": (["train", "--model", "cnn", "--transform", "affine"], "cnn has no transformer"),
    "command": (["fly"], "'fly'"),
    "batch": (["train", "--batch", "801"], "at most the 800 training images of digits, got 801"),
    "folder": (["train", "--data-dir", "."], "--data-dir"),
    "too many epochs": (["train", "--epochs", "1000001"], "--epochs: expected a whole number from"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_options_are_reported(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments, message = BAD[name]
    done = run(*arguments)
    assert done.returncode == 2
    assert message in done.stderr.replace("\r", "\n").splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_divergence_is_reported_and_keeps_the_checkpoint(tmp_path):
    done = run("train", "--model", "fcn", "--rate", "1e30", "--out", tmp_path / "run")
    assert done.returncode in (1, 2)
    line = done.stderr.replace("\r", "\n").splitlines()[-1]
    assert "a smaller --rate may help" in line
    assert f"the checkpoint {tmp_path / 'run' / runs.CHECKPOINT} is from before this" in line
    assert "Traceback" not in done.stderr
    assert [path.name for path in (tmp_path / "run").iterdir()] == [runs.CHECKPOINT]


@pytest.mark.parametrize("damage", ["missing", "truncated", "altered"])
def test_damaged_mnist_is_reported(damage, tmp_path):
    folder = tmp_path / "data" / "mnist"
    folder.mkdir(parents=True)
    for name in data.mnist.__globals__["FILES"]:
        source = pathlib.Path(HOME or "", "mnist", name)
        content = source.read_bytes() if source.is_file() else b"not the real file" * 99
        (folder / name).write_bytes(content)
    victim = folder / "train-images-idx3-ubyte.gz"
    if damage == "missing":
        victim.unlink()
    elif damage == "truncated":
        victim.write_bytes(victim.read_bytes()[:-100])
    else:
        victim.write_bytes(victim.read_bytes()[:-1] + b"!")
    done = run("train", "--dataset", "mnist", "--data-dir", tmp_path / "data",
               "--out", tmp_path / "out")  # fmt: skip
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "train-images-idx3-ubyte.gz" in line
    assert "missing" in line or "truncated or altered" in line
    assert not (tmp_path / "out").exists()


def test_an_unwritable_folder_is_reported(tmp_path):
    (tmp_path / "file").write_text("in the way")
    done = run("train", "--out", tmp_path / "file" / "run")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"numba-stn: {tmp_path / 'file' / 'run'}: cannot be written to")


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "metrics.json"
    path.write_text("old")

    def full(self, content):
        with self.open("wb") as file:
            file.write(content[:3])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pathlib.Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        atomic_write.write_atomically(path, b"half of the new one")
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.json"]
    assert path.read_text() == "old"


def test_help_names_every_choice():
    done = run("train", "--help")
    assert done.returncode == 0
    from numba_stn.nn import zoo
    from numba_stn.transforms import parametrisations

    assert tuple(data.DATASETS) == options.DATASETS
    assert tuple(data.TASKS) == options.TASKS
    assert zoo.MODELS == options.MODELS
    plane = (t.name for t in parametrisations.TRANSFORMS.values() if t.kind != "affine 3-D")
    assert tuple(plane) == options.TRANSFORMS
    for name in (*options.DATASETS, *options.TASKS, *options.MODELS, *options.TRANSFORMS):
        assert name in done.stdout
