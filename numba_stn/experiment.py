"""One experiment from configuration to results: what ``numba-stn train`` runs."""

import json
import pathlib
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any, NamedTuple

import numpy as np

from . import __version__, data, namespace
from .nn import adam, one_cycle, train, zoo
from .nn.layer import Layer
from .nn.optim import Optimiser
from .nn.tree import flatten, size
from .record import commit, write_atomically

# A task's test set and validation set are drawn once, whatever seed trains; small ones are drawn
# several times over, so that an error is worth its digits.
TEST_SEED, TEST_DRAWS = 20150605, 2_000
VALIDATION_SEED, VALIDATION_DRAWS = 20150606, 500

# Steps after which the loss is looked at; in between the GPU runs ahead.
LOOK = {"cpu": 1, "cuda": 16}


@dataclass(frozen=True)
class Config:
    """What to train, on what, and how.

    ``batch`` and ``rate`` belong to the optimiser (Adam, one cycle); the localisation trains at
    ``rate * localisation_rate``. With the ``device`` "cuda" the steps run on the GPU, with CuPy.
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
    device: str = "cpu"


class DivergedError(Exception):
    """Training went astray; the message says how."""


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
    named = (("dataset", data.DATASETS), ("task", data.TASKS), ("device", namespace.DEVICES))
    for name, choices in named:
        if getattr(config, name) not in choices:
            got = getattr(config, name)
            raise ValueError(f"{name}: expected one of {list(choices)}, got {got!r}")
    splits = data.DATASETS[config.dataset](folder)
    task = data.TASKS[config.task]
    if config.batch > len(splits.train.labels):
        raise ValueError(
            f"batch: expected at most the {len(splits.train.labels)} training images of "
            f"{config.dataset}, got {config.batch}"
        )
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
    then ends with the last whole epoch. A second Ctrl-C ends the measuring too.

    Returns
    -------
    learner : Learner
    metrics : dict
        ``test_error`` in percent (None if it was not measured to the end), ``history`` (one entry
        an epoch), ``seconds``, and the rest of what a reader needs to know about the run.

    Raises
    ------
    DivergedError
        If the loss is no longer finite.
    RuntimeError
        If something that the device "cuda" needs is missing.
    """
    config, history, began = setup.config, [], time.perf_counter()
    library = namespace.library(config.device)
    origin = {"gpu": namespace.gpu_name(library), "versions": versions(library),
              "commit": commit()}  # fmt: skip
    rng, shape = np.random.default_rng(config.seed), setup.test.images.shape[1:]
    learner = train.start(setup.net, setup.optimiser, shape, rng, library)
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
    try:
        error = train.error_percent(setup.net, learner, *setup.test)
    except KeyboardInterrupt:
        interrupted, error = True, None
    metrics = {
        "test_error": error,
        **asdict(config),
        "interrupted": interrupted,
        "test_images": len(setup.test.labels),
        "parameters": size(learner.params),
        "seconds": round(time.perf_counter() - began, 2),
        **origin,
        "history": history,
    }
    return learner, metrics


def _epoch(setup, learner, epoch, on_step):
    """Each step's learner, and the epoch's means when the loss was last looked at."""
    config = setup.config
    means: dict[str, float] = {}
    rng = np.random.default_rng([config.seed, epoch])
    batches = train.shuffled(rng, setup.train, config.batch, setup.task)
    total, wrong = 0.0, 0
    done = train.steps(setup.net, setup.optimiser, learner, batches)
    for count, (learner, loss, misread) in enumerate(done, 1):
        total, wrong = total + loss, wrong + misread
        if not means or count % LOOK[config.device] == 0 or count == setup.steps:
            means = _means(total, wrong, count, config.batch)
        if not np.isfinite(means["train_loss"]):
            raise DivergedError(
                f"the loss is {float(loss)} in epoch {epoch + 1}; a smaller --rate may help"
            )
        on_step(epoch, means["train_loss"], means["train_error"])
        yield learner, means


def _means(total, wrong, count, batch):
    """Loss and error of an epoch's first steps."""
    return {"train_loss": float(total) / count, "train_error": 100 * int(wrong) / (count * batch)}


def versions(library: Any = np) -> dict[str, str]:
    """Versions of Python and of what the numbers depend on."""
    names = ["numba", "numpy", "scipy"]
    own = {"python": platform.python_version(), "numba-stn": __version__}
    if library is not np:
        names.append("numba-cuda")
        own["cupy"] = library.__version__
    return own | {name: metadata.version(name) for name in names}


# --- What is left behind --------------------------------------------------------------------------


# What a run writes; a file of an earlier run in the same folder is replaced or removed.
FILES = ("weights.safetensors", "curves.png", "classes.png", "metrics.json")


def save(folder: pathlib.Path, setup: Setup, learner: train.Learner, metrics: dict) -> list[str]:
    """Write weights, pictures and, last, ``metrics.json`` into ``folder``; the files' names.

    Everything is made before the first file is written, and of NumPy's arrays: the files do not
    depend on the device.
    """
    from safetensors.numpy import save as packed

    from . import pictures

    learner = train.on_host(learner)
    tree = flatten({"params": learner.params, "state": learner.state})
    text = json.dumps(metrics, indent=2, allow_nan=False) + "\n"
    content = {
        "weights.safetensors": packed({name: np.ascontiguousarray(a) for name, a in tree.items()}),
        "classes.png": pictures.png(pictures.before_and_after(setup.net, learner, setup.test)),
        "metrics.json": text.encode(),
    }
    if metrics["history"]:
        content["curves.png"] = pictures.png(pictures.learning_curves(metrics["history"]))
    (folder / "metrics.json").unlink(missing_ok=True)  # it belongs to the files about to go
    for name in FILES:
        if name in content:
            write_atomically(folder / name, content[name])
        else:
            (folder / name).unlink(missing_ok=True)
    return [name for name in FILES if name in content]
