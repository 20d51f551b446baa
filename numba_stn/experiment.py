"""One experiment from configuration to results: what ``numba-stn train`` runs."""

import json
import os
import pathlib
import platform
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any, NamedTuple

import numpy as np

from . import data
from .nn import adam, one_cycle, train, zoo
from .nn.layers import Layer
from .nn.optim import Optimiser
from .nn.tree import flatten, size

# A task's test set and validation set are drawn once, whatever seed trains; small ones are drawn
# several times over, so that an error is worth its digits.
TEST_SEED, TEST_DRAWS = 20150605, 2_000
VALIDATION_SEED, VALIDATION_DRAWS = 20150606, 500


@dataclass(frozen=True)
class Config:
    """What to train, on what, and how.

    ``batch`` and ``rate`` belong to the optimiser (Adam, one cycle); the localisation trains at
    ``rate * localisation_rate``.
    """

    dataset: str = "digits"
    task: str = "R"
    model: str = "st-cnn"
    transform: str = "affine"
    epochs: int = 60
    seed: int = 0
    batch: int = 50
    rate: float = 1e-2
    localisation_rate: float = 0.1


class Setup(NamedTuple):
    """Everything an experiment needs before its first step."""

    config: Config
    net: Layer
    optimiser: Optimiser
    train: data.Split
    validation: data.Split
    test: data.Split
    task: data.Task

    @property
    def steps(self) -> int:
        """Steps in an epoch."""
        return len(self.train.labels) // self.config.batch


def prepare(config: Config, folder: str | None = None) -> Setup:
    """Read the data, draw the validation and test sets, and build the network.

    Raises
    ------
    DataError
        If the data are missing or altered.
    ValueError
        If the configuration names something that does not exist.
    """
    splits = data.DATASETS[config.dataset](folder)
    task = data.TASKS[config.task]
    own = splits.train.images.shape[-1]
    side = task.side(own)
    net = zoo.build(config.model, (1, side, side), config.transform, (own, own))
    total = len(splits.train.labels) // config.batch * config.epochs
    factors = {"localisation": config.localisation_rate} if config.model.startswith("st-") else {}
    return Setup(
        config,
        net,
        adam(one_cycle(config.rate, total), factors=factors),
        splits.train,
        _drawn(task, splits.validation, VALIDATION_SEED, VALIDATION_DRAWS),
        _drawn(task, splits.test, TEST_SEED, TEST_DRAWS),
        task,
    )


def _drawn(task: data.Task, split: data.Split, seed: int, draws: int) -> data.Split:
    """A fixed distorted set of at least ``draws`` images."""
    copies = max(1, -(-draws // len(split.labels)))
    index = np.tile(np.arange(len(split.labels)), copies)
    rng = np.random.default_rng(seed)
    return data.Split(task(rng, split.images[index]), split.labels[index])


# --- The run --------------------------------------------------------------------------------------


def run(setup: Setup, on_step: Callable[[int, float, float], None] = lambda *_: None
        ) -> tuple[train.Learner, dict]:  # fmt: skip
    """Train, then measure once on the test set.

    ``on_step(epoch, loss, error)`` is called after each step with the epoch's running means.
    Ctrl-C ends the training after the last finished step and keeps what was learned; the history
    then ends with the last whole epoch.

    Returns
    -------
    learner : Learner
    metrics : dict
        ``test_error`` in percent, ``history`` (one entry an epoch), ``seconds``, and the rest of
        what a reader needs to know about the run.
    """
    config, history, began = setup.config, [], time.perf_counter()
    shape = setup.test.images.shape[1:]
    learner = train.start(setup.net, setup.optimiser, shape, np.random.default_rng(config.seed))
    interrupted = False
    try:
        for epoch in range(config.epochs):
            entry: dict[str, Any] = {"epoch": epoch + 1}
            for latest, means in _epoch(setup, learner, epoch, on_step):
                learner = latest  # here, so that Ctrl-C leaves the last finished step's
                entry.update(means)
            entry["validation_error"] = train.error_percent(setup.net, learner, *setup.validation)
            history.append(entry)
    except KeyboardInterrupt:
        interrupted = True
    metrics = {
        "test_error": train.error_percent(setup.net, learner, *setup.test),
        **asdict(config),
        "interrupted": interrupted,
        "test_images": len(setup.test.labels),
        "parameters": size(learner.params),
        "seconds": round(time.perf_counter() - began, 2),
        "versions": versions(),
        "commit": commit(),
        "history": history,
    }
    return learner, metrics


def _epoch(setup, learner, epoch, on_step):
    """Each step's learner, and the epoch's means so far."""
    config = setup.config
    rng = np.random.default_rng([config.seed, epoch])
    batches = train.shuffled(rng, setup.train, config.batch, setup.task)
    total, wrong = 0.0, 0
    done = train.steps(setup.net, setup.optimiser, learner, batches)
    for count, (learner, loss, misread) in enumerate(done, 1):
        total, wrong = total + loss, wrong + misread
        means = {
            "train_loss": total / count,
            "train_error": 100 * wrong / (count * config.batch),
        }
        on_step(epoch, means["train_loss"], means["train_error"])
        yield learner, means


def versions() -> dict[str, str]:
    """Versions of Python and of what the numbers depend on."""
    names = ("numba-stn", "numba", "numpy", "scipy")
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in names}


def commit() -> str | None:
    """The checkout's commit, marked if files have changed since; None outside a checkout."""
    command = ["git", "-C", str(pathlib.Path(__file__).parent), "describe"]
    try:
        done = subprocess.run(
            [*command, "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


# --- What is left behind --------------------------------------------------------------------------


def write_atomically(path: pathlib.Path, write: Callable[[Any], None]) -> None:
    """Let ``write`` fill a file beside ``path``, then put it there, whole or not at all."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(beside)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def save(folder: pathlib.Path, setup: Setup, learner: train.Learner, metrics: dict) -> list[str]:
    """Write weights, pictures and, last, ``metrics.json`` into ``folder``; the files' names."""
    from safetensors.numpy import save as packed

    from . import pictures

    weights = flatten({"params": learner.params, "state": learner.state})
    weights = {name: np.ascontiguousarray(array) for name, array in weights.items()}
    write_atomically(folder / "weights.safetensors", lambda path: path.write_bytes(packed(weights)))
    written = ["weights.safetensors"]
    if metrics["history"]:
        figure = pictures.learning_curves(metrics["history"])
        write_atomically(folder / "curves.png", lambda path: figure.savefig(path, format="png"))
        written.append("curves.png")
    warped = pictures.before_and_after(setup.net, learner, setup.test)
    write_atomically(folder / "classes.png", lambda path: warped.savefig(path, format="png"))
    text = json.dumps(metrics, indent=2) + "\n"
    write_atomically(folder / "metrics.json", lambda path: path.write_text(text))
    return [*written, "classes.png", "metrics.json"]
