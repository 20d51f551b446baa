"""One experiment from configuration to results; :mod:`.runs` keeps it in a folder."""

import contextlib
import pathlib
import platform
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from .. import __version__, data
from ..nn import adam, one_cycle, train, zoo
from ..nn.layer import Layer, Shape
from ..nn.optim import Optimiser
from ..nn.tree import size
from ..nn.watch import watch
from ..utils import namespace
from ..utils.record import current_commit
from .checkpoint import Stand, load

# A task's test set and validation set are drawn once, whatever seed trains; small ones are drawn
# several times over, so that an error is worth its digits.
TEST_SEED, TEST_DRAWS = 20150605, 2_000
VALIDATION_SEED, VALIDATION_DRAWS = 20150606, 500

# Coverage is taken on so many validation images; a transformer that falls below so many percent is
# losing them.
WATCHED, COLLAPSED = 500, 25.0

# What a network without convolutions reads of a canvas larger than its digits' images. It looks
# twice: a transformer cuts out an image, and another one the digit, which it sees there in the
# middle, wherever on the canvas it was. MNIST's digits are up to 20 pixels wide and high, and
# read no worse from 16 samples, which leave more weights to each.
READS = 16 / 28

# Steps after which the loss is looked at; in between the GPU runs ahead.
LOOK = {"cpu": 1, "cuda": 16}


@dataclass(frozen=True)
class Config:
    """What to train, on what, and how.

    ``transformers`` stand side by side; a single one brings an image into place for several
    ``readings`` of it, each turned a little, and the network says their mean. ``batch``, ``rate``
    and ``weight_decay`` belong to the optimiser (Adam, one cycle); the localisation trains at
    ``rate * localisation_rate``. ``label_smoothing`` is the loss's. With the ``device`` "cuda" the
    steps run on the GPU, with CuPy.
    """

    dataset: str = "digits"
    task: str = "R"
    model: str = "st-cnn"
    transform: str = "affine"
    transformers: int = 1
    readings: int = 1
    epochs: int = 60
    seed: int = 0
    batch: int = 50
    rate: float = 1e-2
    localisation_rate: float = 0.1
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
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
    net, _ = network(config)
    splits = data.DATASETS[config.dataset](folder)
    task = data.TASKS[config.task]
    if config.batch > len(splits.train.labels):
        raise ValueError(
            f"batch: expected at most the {len(splits.train.labels)} training images of "
            f"{config.dataset}, got {config.batch}"
        )
    total = len(splits.train.labels) // config.batch * config.epochs
    factors = {"localisation": config.localisation_rate} if config.model.startswith("st-") else {}
    return Setup(
        config,
        net,
        adam(one_cycle(config.rate, total), weight_decay=config.weight_decay, factors=factors),
        splits.train,
        _drawn(task, splits.validation, VALIDATION_SEED, VALIDATION_DRAWS),
        _drawn(task, splits.test, TEST_SEED, TEST_DRAWS),
        task,
    )


def network(config: Config) -> tuple[Layer, Shape]:
    """The network, and the shape (C, H, W) of what it reads.

    Raises
    ------
    ValueError
        If the configuration names something that does not exist.
    """
    named = (("dataset", data.DATASETS), ("task", data.TASKS), ("device", namespace.DEVICES))
    for name, choices in named:
        if getattr(config, name) not in choices:
            got = getattr(config, name)
            raise ValueError(f"{name}: expected one of {list(choices)}, got {got!r}")
    task, own = data.TASKS[config.task], data.SIDES[config.dataset]
    shape = (task.digits, task.side(own), task.side(own))
    reads = [own, round(own * READS)] if config.model == "st-fcn" and shape[1] > own else [own]
    sizes = [(read, read) for read in reads]
    net = zoo.build(config.model, shape, config.transform, sizes, task.classes,
                    config.transformers, config.readings)  # fmt: skip
    return net, shape


def parameters(config: Config) -> int:
    """Number of parameters of the network."""
    net, shape = network(config)
    return size(net.init(np.random.default_rng(0), shape))


def _drawn(task: data.Task, split: data.Split, seed: int, draws: int) -> data.Split:
    """A fixed distorted set of at least ``draws`` images."""
    copies = max(1, -(-draws // len(split.labels)))
    index = np.tile(np.arange(len(split.labels)), copies)
    rng = np.random.default_rng(seed)
    return task(rng, split.take(index))


# --- The run --------------------------------------------------------------------------------------


def nothing(*_: Any) -> None:
    """For those who do not want to be called."""


def begin(setup: Setup) -> Stand:
    """Where the run stands before its first step.

    Raises
    ------
    RuntimeError
        If something that the device "cuda" needs is missing.
    """
    rng, shape = np.random.default_rng(setup.config.seed), setup.test.images.shape[1:]
    library = namespace.array_library(setup.config.device)
    return Stand(train.start(setup.net, setup.optimiser, shape, rng, library))


def resume(setup: Setup, path: pathlib.Path) -> Stand:
    """Where the run stood when it left this checkpoint.

    Raises
    ------
    CheckpointError
        If the file is no checkpoint of this run.
    RuntimeError
        If something that the device "cuda" needs is missing.
    """
    library = namespace.array_library(setup.config.device)
    return load(path, setup.config, begin(setup).learner, library)


def run(
    setup: Setup,
    stand: Stand | None = None,
    on_step: Callable[[int, float, float], None] = nothing,
    keep: Callable[[Stand], None] = nothing,
    tell: Callable[[str], None] = warnings.warn,
) -> tuple[train.Learner, dict]:
    """Train, then measure once on the test set.

    Ctrl-C ends the training after the last finished step and keeps what was learned; the history
    then ends with the last whole epoch. A second Ctrl-C ends the measuring too. A run that goes on
    from where one stood ends like one that never stopped, bit for bit.

    Parameters
    ----------
    setup : Setup
    stand : Stand, optional
        Where to start; at the beginning, if not given.
    on_step : callable
        Called as ``on_step(done, loss, error)`` after each step: the steps done in all, and the
        epoch's running means.
    keep : callable
        Called with the stand after each epoch, and after Ctrl-C.
    tell : callable
        Called with a sentence if the training is going astray.

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
    config, stand = setup.config, stand or begin(setup)
    library = namespace.array_library(config.device)
    origin = {"gpu": namespace.gpu_name(library), "versions": versions(library),
              "commit": current_commit()}  # fmt: skip
    began = time.perf_counter() - stand.seconds
    interrupted = False
    try:
        for latest in _stands(setup, stand, on_step, tell):
            stand = latest  # here, so that Ctrl-C leaves the last finished step's
            if not stand.step:
                keep(stand._replace(seconds=time.perf_counter() - began))
    except KeyboardInterrupt:
        interrupted = True
        keep(stand._replace(seconds=time.perf_counter() - began))
    try:
        error = train.error_percent(setup.net, stand.learner, *setup.test)
    except KeyboardInterrupt:
        interrupted, error = True, None
    metrics = {
        "test_error": error,
        **asdict(config),
        "interrupted": interrupted,
        "test_images": len(setup.test.labels),
        "parameters": size(stand.learner.params),
        "seconds": round(time.perf_counter() - began, 2),
        **origin,
        "history": list(stand.history),
    }
    return stand.learner, metrics


def _stands(setup, stand, on_step, tell):
    """Where the run stands after each step and, with its history, after each epoch."""
    while stand.epoch < setup.config.epochs:
        for latest in _epoch(setup, stand, on_step):
            stand = latest
            yield stand
        learner, history = stand.learner, stand.history
        error = train.error_percent(setup.net, learner, *setup.validation)
        entry = {"epoch": stand.epoch + 1, **_means(setup, stand), "validation_error": error}
        if coverage := _coverage(setup, learner):
            entry["coverage"] = coverage
            _diagnose(coverage, history, tell)
        stand = Stand(learner, stand.epoch + 1, history=(*history, entry))
        yield stand


def _epoch(setup, stand, on_step):
    """Where the run stands after each further step of the epoch; batches done are passed over."""
    config = setup.config
    rng = np.random.default_rng([config.seed, stand.epoch])
    drawn = train.shuffled(rng, setup.train, config.batch, setup.task)
    means: dict[str, float] = {}
    with contextlib.closing(train.ahead(islice(drawn, stand.step, None))) as batches:
        learned = train.steps(
            setup.net, setup.optimiser, stand.learner, batches, config.label_smoothing
        )
        for learner, loss, wrong in learned:
            stand = stand._replace(
                learner=learner,
                step=stand.step + 1,
                total=stand.total + loss,
                wrong=stand.wrong + wrong,
            )
            if not means or stand.step % LOOK[config.device] == 0 or stand.step == setup.steps:
                means = _means(setup, stand)
            if not np.isfinite(means["train_loss"]):
                raise DivergedError(
                    f"the loss is {float(loss)} in epoch {stand.epoch + 1}; a smaller --rate may "
                    f"help"
                )
            done = stand.epoch * setup.steps + stand.step
            on_step(done, means["train_loss"], means["train_error"])
            yield stand


def _means(setup, stand):
    """Loss and error of the epoch's steps so far."""
    images = stand.step * setup.config.batch
    return {
        "train_loss": float(stand.total) / stand.step,
        "train_error": 100 * int(stand.wrong) / images,
    }


def versions(library: Any = np) -> dict[str, str]:
    """Versions of Python and of what the numbers depend on."""
    names = ["numba", "numpy", "scipy"]
    own = {"python": platform.python_version(), "numba-stn": __version__}
    if library is not np:
        names.append("numba-cuda")
        own["cupy"] = library.__version__
    return own | {name: metadata.version(name) for name in names}


# --- Diagnosis ------------------------------------------------------------------------------------


def _coverage(setup, learner):
    """Each transformer's coverage of some validation images, in percent."""
    seen = watch(setup.net, learner, setup.validation.images[:WATCHED])
    return [round(each.coverage, 2) for each in seen]


def _diagnose(coverage, history, tell):
    """Say so when a transformer comes to read mostly beside its images, once each time."""
    before = history[-1]["coverage"] if history else [100.0] * len(coverage)
    for number, (now, past) in enumerate(zip(coverage, before, strict=True), 1):
        if now < COLLAPSED <= past:
            tell(
                f"collapse: in epoch {len(history) + 1} only {now:.0f} % of what transformer "
                f"{number} reads lies inside the image (coverage); outside there is no gradient to "
                f"bring it back. Try a smaller --localisation-rate or --rate, or a transform of "
                f"fewer parameters"
            )
