"""One experiment, from its configuration to its results; :mod:`.runs` keeps it in a folder."""

import contextlib
import pathlib
import platform
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from itertools import islice
from typing import Annotated, Any, NamedTuple

import numpy as np

from .. import __version__, data
from ..nn import adam, one_cycle, train, zoo
from ..nn.base import Layer, Shape
from ..nn.diagnostics import observe_transformers
from ..nn.finite import NonFiniteError
from ..nn.optim import Optimiser
from ..nn.tree import size
from ..transforms.parametrisations import TRANSFORMS
from ..utils import namespace
from ..utils.commit import current_commit
from ..utils.schema import field_rules, number, one_of, whole
from .checkpoint import CheckpointError, TrainingState, load_checkpoint

# The distorted test and validation sets of a task are drawn once, with fixed seeds, whatever the
# seed of the training. A small set is drawn several times, until it has at least this number of
# images, so that its error is more precise.
TEST_SEED, TEST_IMAGES = 20150605, 2_000
VALIDATION_SEED, VALIDATION_IMAGES = 20150606, 500

# Coverage is measured on this number of validation images. Below this percentage, a transformer is
# reported as collapsed.
COVERAGE_IMAGES, COLLAPSE_PERCENT = 500, 25.0

# A fully connected network on a canvas that is larger than the digits' images has two transformers
# one after another: the first crops an image, the second the digit in it, wherever it was on the
# canvas. MNIST's digits are up to 20 pixels wide and high. From 16 samples a side they are
# classified no worse, and each sample gets more weights.
SECOND_CROP = 16 / 28

# Number of steps between two looks at the loss: on the GPU, each of them waits for the device.
STEPS_PER_LOSS = {"cpu": 1, "cuda": 16}

# Limits of numbers in a configuration, far above all that is of use. A file that asks for more is
# damaged; the networks that it describes would need all memory.
MOST_IN_PARALLEL, MOST_EPOCHS, MOST_SEED = 100, 10**6, 2**128 - 1

_PLANE_TRANSFORMS = [t.name for t in TRANSFORMS.values() if t.kind != "affine 3-D"]


@dataclass(frozen=True)
class Config:
    """What to train, on what, and how.

    ``transformers`` is the number of transformers in parallel. With a single one, ``views`` is the
    number of rotated views of each image, over which the network's logits are averaged. ``rounds``
    is the number of rounds in which each transformer predicts its map. ``batch``,
    ``rate`` and ``weight_decay`` are the optimiser's (Adam, one cycle). The localisation is trained
    at ``rate * localisation_rate``. ``label_smoothing`` is the loss's. With the ``device`` "cuda"
    the steps run on the GPU, with CuPy.

    Each field is declared with its rule, which holds for every configuration, also for those that
    are read from files.

    Raises
    ------
    ValueError
        If a value is of the wrong type or out of range.
    """

    dataset: Annotated[str, one_of(data.DATASETS)] = "digits"
    task: Annotated[str, one_of(data.TASKS)] = "R"
    model: Annotated[str, one_of(zoo.MODELS)] = "st-cnn"
    transform: Annotated[str, one_of(_PLANE_TRANSFORMS)] = "affine"
    transformers: Annotated[int, whole(1, MOST_IN_PARALLEL)] = 1
    views: Annotated[int, whole(1, MOST_IN_PARALLEL)] = 1
    rounds: Annotated[int, whole(1, MOST_IN_PARALLEL)] = 1
    epochs: Annotated[int, whole(1, MOST_EPOCHS)] = 60
    seed: Annotated[int, whole(0, MOST_SEED)] = 0
    batch: Annotated[int, whole(1)] = 50
    rate: Annotated[float, number(above=0)] = 1e-2
    localisation_rate: Annotated[float, number(0)] = 0.1
    weight_decay: Annotated[float, number(0)] = 0.0
    label_smoothing: Annotated[float, number(0, below=1)] = 0.0
    device: Annotated[str, one_of(namespace.DEVICES)] = "cpu"

    def __post_init__(self):
        for name, rule in field_rules(Config).items():
            object.__setattr__(self, name, rule(getattr(self, name), name))


class DivergedError(Exception):
    """A number of a training step is not finite; the message names the step and the layer."""


class Setup(NamedTuple):
    """Everything that an experiment needs before its first step."""

    config: Config
    net: Layer
    optimiser: Optimiser
    train: data.Split
    validation: data.Split
    test: data.Split
    task: data.Task

    @property
    def steps(self) -> int:
        """Number of steps in an epoch."""
        return len(self.train.labels) // self.config.batch


def prepare(config: Config, folder: str | None = None) -> Setup:
    """Load the data, draw the validation and test sets, and build the network.

    Raises
    ------
    DataError
        If the data are missing or altered.
    ValueError
        If there is no such network, or the batch is larger than the training set.
    """
    net, _ = network(config)
    splits = data.DATASETS[config.dataset](folder)
    task = data.TASKS[config.task]
    if config.batch > len(splits.train.labels):
        raise ValueError(
            f"batch: expected at most the {len(splits.train.labels)} training images of "
            f"{config.dataset}, got {config.batch}"
        )
    steps = len(splits.train.labels) // config.batch * config.epochs
    factors = {"localisation": config.localisation_rate} if config.model.startswith("st-") else {}
    return Setup(
        config,
        net,
        adam(one_cycle(config.rate, steps), weight_decay=config.weight_decay, factors=factors),
        splits.train,
        _distorted(task, splits.validation, VALIDATION_SEED, VALIDATION_IMAGES),
        _distorted(task, splits.test, TEST_SEED, TEST_IMAGES),
        task,
    )


def network(config: Config) -> tuple[Layer, Shape]:
    """The network of a configuration, and the shape (C, H, W) of its input images.

    Raises
    ------
    ValueError
        If there is no such network.
    """
    task, side = data.TASKS[config.task], data.SIDES[config.dataset]
    shape = (task.digits, task.side(side), task.side(side))
    two = config.model == "st-fcn" and shape[1] > side
    sides = [side, round(side * SECOND_CROP)] if two else [side]
    sizes = [(side, side) for side in sides]
    net = zoo.build(config.model, shape, config.transform, sizes, task.classes,
                    config.transformers, config.views, config.rounds)  # fmt: skip
    return net, shape


def parameter_count(config: Config) -> int:
    """Number of parameters of the network."""
    net, shape = network(config)
    return size(net.init(np.random.default_rng(0), shape))


def _distorted(task: data.Task, split: data.Split, seed: int, images: int) -> data.Split:
    """A fixed distorted set of at least ``images`` images."""
    copies = max(1, -(-images // len(split.labels)))
    index = np.tile(np.arange(len(split.labels)), copies)
    rng = np.random.default_rng(seed)
    return task(rng, split.take(index))


# --- The run --------------------------------------------------------------------------------------


def initial_state(setup: Setup) -> TrainingState:
    """The training state before the first step.

    Raises
    ------
    RuntimeError
        If something that the device "cuda" needs is missing.
    """
    rng, shape = np.random.default_rng(setup.config.seed), setup.test.images.shape[1:]
    library = namespace.array_library(setup.config.device)
    return TrainingState(train.init_learner(setup.net, setup.optimiser, shape, rng, library))


def resumed_state(setup: Setup, path: pathlib.Path) -> TrainingState:
    """The training state in a checkpoint.

    Raises
    ------
    CheckpointError
        If the file is not a checkpoint of this run.
    RuntimeError
        If something that the device "cuda" needs is missing.
    """
    library = namespace.array_library(setup.config.device)
    state = load_checkpoint(path, setup.config, initial_state(setup).learner, library)
    try:
        _check_progress(setup, state)
    except ValueError as error:
        raise CheckpointError(f"{path}: damaged: {error}") from error
    return state


def _check_progress(setup, state):
    """Raise unless the numbers of a training state fit together, and to the network."""
    config, learner = setup.config, state.learner
    step = state.epoch * setup.steps + state.step
    whole(0, config.epochs)(state.epoch, "epoch")
    whole(0, setup.steps if state.epoch < config.epochs else 0)(state.step, "step")
    whole(step, step)(learner.optimiser_state["step"], "optimiser_step")
    whole(0, state.step * config.batch)(state.errors, "errors")
    whole(state.epoch, state.epoch)(len(state.history), "length of history")
    if not state.history:
        return
    transformers = len(observe_transformers(setup.net, learner, setup.validation.images[:1]))
    for index, entry in enumerate(state.history):
        name = f"history[{index}]"
        whole(index + 1, index + 1)(entry["epoch"], f"{name}.epoch")
        length = len(entry.get("coverage", ()))
        whole(transformers, transformers)(length, f"length of {name}.coverage")


def ignore(*_: Any) -> None:
    """A callback that does nothing."""


def run(
    setup: Setup,
    state: TrainingState | None = None,
    on_step: Callable[[int, float, float], None] = ignore,
    save: Callable[[TrainingState], None] = ignore,
    warn: Callable[[str], None] = warnings.warn,
) -> tuple[train.Learner, dict]:
    """Train, then measure the error on the test set once.

    Ctrl-C ends the training after the last complete step, and keeps what was learned; the history
    then ends with the last complete epoch. A second Ctrl-C ends the measurement too. A resumed run
    gives the same bits as one that never stopped.

    Parameters
    ----------
    setup : Setup
    state : TrainingState, optional
        Where to start; by default before the first step.
    on_step : callable
        Called as ``on_step(done, loss, error)`` after each step, with the number of steps done in
        all, and the mean loss and error of the epoch so far.
    save : callable
        Called with the training state after each epoch, and after Ctrl-C.
    warn : callable
        Called with a sentence if a transformer collapses.

    Returns
    -------
    learner : Learner
    metrics : dict
        ``test_error`` in percent (None if the measurement did not end), ``history`` (one entry per
        epoch), ``seconds``, the configuration, versions, and so on.

    Raises
    ------
    DivergedError
        If theta, the loss, a gradient or a weight is not finite. What was saved before is good.
    RuntimeError
        If something that the device "cuda" needs is missing.
    """
    config, state = setup.config, state or initial_state(setup)
    library = namespace.array_library(config.device)
    origin = {"gpu": namespace.gpu_name(library), "versions": versions(library),
              "commit": current_commit()}  # fmt: skip
    began = time.perf_counter() - state.seconds
    interrupted = False
    try:
        for latest in _train(setup, state, on_step, warn):
            state = latest  # assigned here, so that Ctrl-C leaves that of the last complete step
            if not state.step:
                save(state._replace(seconds=time.perf_counter() - began))
    except KeyboardInterrupt:
        interrupted = True
        save(state._replace(seconds=time.perf_counter() - began))
    try:
        error = train.error_percent(setup.net, state.learner, *setup.test)
    except KeyboardInterrupt:
        interrupted, error = True, None
    metrics = {
        "test_error": error,
        **asdict(config),
        "interrupted": interrupted,
        "test_images": len(setup.test.labels),
        "parameters": size(state.learner.params),
        "seconds": round(time.perf_counter() - began, 2),
        **origin,
        "history": list(state.history),
    }
    return state.learner, metrics


def _train(setup, state, on_step, warn):
    """Yield the training state after each step and, with its history, after each epoch."""
    while state.epoch < setup.config.epochs:
        for latest in _train_epoch(setup, state, on_step):
            state = latest
            yield state
        learner, history = state.learner, state.history
        error = train.error_percent(setup.net, learner, *setup.validation)
        entry = {"epoch": state.epoch + 1, **_epoch_means(setup, state), "validation_error": error}
        if coverage := _coverage(setup, learner):
            entry["coverage"] = coverage
            warn_of_collapse(coverage, history, warn)
        state = TrainingState(learner, state.epoch + 1, history=(*history, entry))
        yield state


def _train_epoch(setup, state, on_step):
    """Yield the training state after each further step of the epoch; skips the steps done."""
    config = setup.config
    rng = np.random.default_rng([config.seed, state.epoch])
    all_batches = train.shuffled_batches(rng, setup.train, config.batch, setup.task)
    means: dict[str, float] = {}
    with contextlib.closing(train.prefetch(islice(all_batches, state.step, None))) as batches:
        steps = train.train_steps(
            setup.net, setup.optimiser, state.learner, batches, config.label_smoothing
        )
        try:
            for learner, loss, errors in steps:
                state = state._replace(
                    learner=learner,
                    step=state.step + 1,
                    loss_sum=state.loss_sum + loss,
                    errors=state.errors + errors,
                )
                due = state.step % STEPS_PER_LOSS[config.device] == 0 or state.step == setup.steps
                if due and config.device != "cpu":  # on the CPU every step looks itself
                    train.check_finite(setup.net, learner)
                if due or not means:
                    means = _epoch_means(setup, state)
                done = state.epoch * setup.steps + state.step
                on_step(done, means["train_loss"], means["train_error"])
                yield state
        except NonFiniteError as error:
            raise _diverged(setup, state, error) from error


def _diverged(setup, state, error):
    """The error for a number that is not finite, with the step and the images of its batch."""
    where = f"epoch {state.epoch + 1}, after step {state.step} of {setup.steps}: {error}"
    if not error.images:
        return DivergedError(f"{where}; a smaller --rate may help")
    rng = np.random.default_rng([setup.config.seed, state.epoch])  # as for the batches
    batches = train.shuffled_indices(rng, len(setup.train.labels), setup.config.batch)
    index = next(islice(batches, state.step, None))[list(error.images)]
    shown = ", ".join(map(str, index[:5])) + (", ..." if index[5:].size else "")
    return DivergedError(f"{where}; in the training set these are the images {shown}")


def _epoch_means(setup, state):
    """Mean loss and error of the epoch's steps so far."""
    images = state.step * setup.config.batch
    return {
        "train_loss": float(state.loss_sum) / state.step,
        "train_error": 100 * int(state.errors) / images,
    }


def files(setup: Setup, learner: train.Learner) -> dict[str, bytes]:
    """The run's own files: a picture of the classes before and after the transformer."""
    from . import pictures

    return {
        "classes.png": pictures.to_png(pictures.before_and_after(setup.net, learner, setup.test))
    }


def subject(setup: Setup, learner: train.Learner) -> Any:
    """What the report of a run is about."""
    from . import pictures, report

    names = [str(number) for number in range(setup.task.classes)]
    show = pictures.first_channel
    return report.Subject(setup.config, setup.net, learner, setup.test, names, show)


def versions(library: Any = np) -> dict[str, str]:
    """Versions of Python and of the packages that the results depend on."""
    names = ["numba", "numpy", "scipy"]
    own = {"python": platform.python_version(), "numba-stn": __version__}
    if library is not np:
        names.append("numba-cuda")
        own["cupy"] = library.__version__
    return own | {name: metadata.version(name) for name in names}


# --- Diagnosis ------------------------------------------------------------------------------------


def _coverage(setup, learner):
    """Each transformer's coverage of some validation images, in percent."""
    images = setup.validation.images[:COVERAGE_IMAGES]
    outputs = observe_transformers(setup.net, learner, images)
    return [round(output.coverage, 2) for output in outputs]


def warn_of_collapse(
    coverage: list[float], history: Sequence[dict], warn: Callable[[str], None]
) -> None:
    """Warn when a transformer begins to sample mostly outside its images."""
    before = history[-1]["coverage"] if history else [100.0] * len(coverage)
    for index, (now, past) in enumerate(zip(coverage, before, strict=True), 1):
        if now < COLLAPSE_PERCENT <= past:
            warn(
                f"collapse: in epoch {len(history) + 1} only {now:.0f} % of the samples of "
                f"transformer {index} are inside the image (coverage); outside there is no "
                f"gradient that leads back. Try a smaller --localisation-rate or --rate, or a "
                f"transform with fewer parameters"
            )
