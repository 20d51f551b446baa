"""One run on one's own images: its configuration, its training, and what it leaves.

It has the functions of :mod:`.experiment`, so that :mod:`.runs` keeps both in folders.
"""

import csv
import io
import pathlib
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, NamedTuple, cast

import numpy as np

from ..data.image_store import Options, Progress, no_progress
from ..data.own_images import ImageSet, load
from ..data.preparation import DTYPES, FITS, MOST_SIDE, Preparation
from ..data.splitting import SPLITS, TEST, TRAIN, VALIDATION, three_shares
from ..nn import train
from ..nn.base import Layer, Shape
from ..nn.finite import NonFiniteError
from ..nn.tree import size
from ..utils.commit import current_commit
from ..utils.schema import flag, list_of, maybe, number, one_of, text, whole
from . import networks, own_network, recipe
from .checkpoint import CheckpointError, TrainingState, load_checkpoint
from .experiment import DivergedError, ignore, versions, warn_of_collapse
from .own_network import NetworkError
from .recipe import Job, Recipe, Standardisation

# Classes, and images of each, that the picture of a run shows.
SHOWN_CLASSES, SHOWN_IMAGES = 16, 50


@dataclass(frozen=True)
class ImageConfig(Recipe):
    """How a network is trained, and on which images: the recipe, the data, their preparation.

    ``digest`` is :meth:`numba_stn.data.own_images.ImageSet.digest` of the data, and ``mean`` and
    ``deviation`` are those of the training images, for each channel. ``net`` names the function of
    a network of one's own, FILE.py:FUNCTION, and ``net_digest`` is the file's.
    """

    data: Annotated[str, text] = ""
    digest: Annotated[str, text] = ""
    classes: Annotated[Any, list_of(text)] = ()
    height: Annotated[int, whole(1, MOST_SIDE)] = 1
    width: Annotated[int, whole(1, MOST_SIDE)] = 1
    channels: Annotated[int, whole(1, 1024)] = 3
    fit: Annotated[str, one_of(FITS)] = "stretch"
    ground: Annotated[int, whole(0, 255)] = 255
    dtype: Annotated[str, one_of(DTYPES)] = "uint8"
    mean: Annotated[Any, list_of(number())] = ()
    deviation: Annotated[Any, list_of(number(above=0))] = ()
    split: Annotated[Any, three_shares] = (0.7, 0.15, 0.15)
    group: Annotated[str | None, maybe(text)] = None
    group_across: Annotated[bool, flag] = False
    skip_broken: Annotated[bool, flag] = False
    memory: Annotated[float, number(0)] = 0.25
    net: Annotated[str | None, maybe(text)] = None
    net_digest: Annotated[str | None, maybe(text)] = None
    device: Annotated[str, one_of(("cpu",))] = "cpu"

    @property
    def preparation(self) -> Preparation:
        """How images are prepared."""
        return Preparation(
            self.height, self.width, self.channels, self.fit, self.ground, self.dtype
        )

    @property
    def standardisation(self) -> Standardisation:
        """How prepared images are standardised."""
        return Standardisation(
            np.array(self.mean, np.float32), np.array(self.deviation, np.float32)
        )

    def options(self, folder: pathlib.Path | None) -> Options:
        """How the images are read again."""
        return Options(
            (self.height, self.width), self.channels, self.fit, self.ground, self.group,
            self.group_across, tuple(self.split), self.seed, self.skip_broken, self.memory, folder,
        )  # fmt: skip


class ImageSetup(NamedTuple):
    """Everything that a run needs before its first step."""

    config: ImageConfig
    images: ImageSet
    job: Job

    @property
    def steps(self) -> int:
        """Number of steps in an epoch."""
        return self.job.steps

    @property
    def net(self) -> Layer:
        """The network."""
        return self.job.net

    @property
    def test(self) -> recipe.Examples:
        """The test images."""
        return self.job.train._replace(chosen=self.images.part(TEST))


def prepare(
    wanted: Recipe,
    source: pathlib.Path,
    options: Options,
    progress: Progress = no_progress,
    net: str | None = None,
) -> ImageSetup:
    """Read the images and build the network.

    Raises
    ------
    DataError
        If the images cannot be read, labelled or divided.
    ValueError
        If there is no such network, or it does not fit.
    """
    digest = None if net is None else own_network.source_digest(net)
    if net is not None:
        own_network.load_builder(net)  # so that an error comes before the images are read
    images = load(source, options, progress)
    config = ImageConfig(
        **asdict(wanted),
        **asdict(images.preparation),
        data=str(pathlib.Path(source).absolute()),
        digest=images.digest(),
        classes=images.classes,
        split=options.split,
        group=options.group,
        group_across=options.group_across,
        skip_broken=options.skip_broken,
        memory=options.memory,
        net=net,
        net_digest=digest,
    )
    return _setup(config, images)


def prepare_again(
    config: ImageConfig, folder: pathlib.Path | None, progress: Progress = no_progress
) -> ImageSetup:
    """Read the images of a stopped run again; a network of one's own must have been allowed.

    Raises
    ------
    DataError
        If the images cannot be read, labelled or divided.
    CheckpointError
        If they are not those of the run.
    """
    images = load(pathlib.Path(config.data), config.options(folder), progress)
    own = list(images.classes), images.preparation
    if own != (config.classes, config.preparation) or images.digest() != config.digest:
        raise CheckpointError(f"{config.data}: the images, their labels or their division are not "
                              f"those with which the run began")  # fmt: skip
    return _setup(config, images)


def _setup(config, images):
    """The setup of a configuration, whose open numbers are chosen here."""
    net = _build(config)
    job = recipe.classification(
        config, images.images, images.labels, images.part(TRAIN), images.part(VALIDATION),
        len(images.classes), net,
    )  # fmt: skip
    mean, deviation = (array.tolist() for array in job.train.standardise)
    config = replace(cast(ImageConfig, job.recipe), mean=mean, deviation=deviation)
    return ImageSetup(config, images, job._replace(recipe=config))


def network(config: ImageConfig, net: str | None = None) -> tuple[Layer, Shape]:
    """The network of a configuration, and the shape (C, H, W) of its input images.

    Parameters
    ----------
    config : ImageConfig
    net : str, optional
        FILE.py:FUNCTION of the network of one's own. A configuration comes from a file, and that
        alone must not run another one.

    Raises
    ------
    ValueError
        If there is no such network, if a network of one's own is not named or was changed, or if
        there is not one mean and deviation for each channel.
    """
    for name in ("mean", "deviation"):
        whole(config.channels, config.channels)(len(getattr(config, name)), f"length of {name}")
    check_net(config, net)
    return _build(replace(config, net=net)), _shape(config)


def check_net(config: ImageConfig, net: str | None) -> None:
    """Raise unless ``net`` is the network of one's own of a configuration.

    Raises
    ------
    NetworkError
        The message says what to do.
    """
    if config.net is not None and net is None:
        raise NetworkError(f"this run has a network of its own, which runs a Python file: if you "
                           f"trust it, give --net {config.net}")  # fmt: skip
    if config.net is None and net is not None:
        raise NetworkError("--net: this run has no network of its own")
    if net is not None and own_network.source_digest(net) != config.net_digest:
        raise NetworkError(f"--net {net}: not the file with which the run was trained")


def _build(config):
    """The network of a configuration."""
    if config.net is not None:
        builder = own_network.load_builder(config.net)
        return own_network.build(builder, _shape(config), len(config.classes))
    classes = len(config.classes)
    return networks.build(config.model, _shape(config), classes, config.transform, config.rounds)


def _shape(config):
    return config.channels, config.height, config.width


# --- The run --------------------------------------------------------------------------------------


def initial_state(setup: ImageSetup) -> TrainingState:
    """The training state before the first step."""
    return recipe.initial_state(setup.job)


def resumed_state(setup: ImageSetup, path: pathlib.Path) -> TrainingState:
    """The training state in a checkpoint.

    Raises
    ------
    CheckpointError
        If the file is not a checkpoint of this run.
    """
    state = load_checkpoint(path, setup.config, initial_state(setup).learner)
    try:
        _check_progress(setup, state)
    except ValueError as error:
        raise CheckpointError(f"{path}: damaged: {error}") from error
    return state


def _check_progress(setup, state):
    """Raise unless the numbers of a training state fit together."""
    config, steps = setup.config, setup.steps
    step = state.epoch * steps + state.step
    whole(0, config.epochs)(state.epoch, "epoch")
    whole(0, 0 if recipe.finished(setup.job, state) else steps)(state.step, "step")
    whole(step, step)(state.learner.optimiser_state["step"], "optimiser_step")
    whole(0, state.step * config.batch)(state.errors, "errors")
    whole(state.epoch, state.epoch)(len(state.history), "length of history")
    check_history(state.history)


def check_history(history: list[dict]) -> None:
    """Raise unless the entries of a history fit together.

    Raises
    ------
    ValueError
        If an epoch is missing, or its entry has not what the first one has.
    """
    for index, entry in enumerate(history):
        whole(index + 1, index + 1)(entry["epoch"], f"history[{index}].epoch")
        if entry.keys() != history[0].keys():
            raise ValueError(f"history[{index}]: expected {list(history[0])}, got {list(entry)}")
        length = len(history[0].get("coverage", ()))
        name = f"length of history[{index}].coverage"
        whole(length, length)(len(entry.get("coverage", ())), name)


def run(
    setup: ImageSetup,
    state: TrainingState | None = None,
    on_step: Callable[[int, float, float], None] = ignore,
    save: Callable[[TrainingState], None] = ignore,
    warn: Callable[[str], None] = warnings.warn,
) -> tuple[train.Learner, dict]:
    """Train, then measure the best epoch's error on the test images once.

    Arguments and results are those of :func:`.experiment.run`.

    Raises
    ------
    DivergedError
        If theta, the loss, a gradient or a weight is not finite. What was saved before is good.
    """
    job, state = setup.job, state or initial_state(setup)
    origin = {"gpu": None, "versions": versions(), "commit": current_commit()}
    began = time.perf_counter() - state.seconds
    interrupted = False
    try:
        for latest in _states(setup, state, on_step, warn):
            state = latest  # assigned here, so that Ctrl-C leaves that of the last complete step
            if not state.step:
                save(state._replace(seconds=time.perf_counter() - began))
    except KeyboardInterrupt:
        interrupted = True
        save(state._replace(seconds=time.perf_counter() - began))
    learner = recipe.best_learner(job, state)
    try:
        _, error = recipe.measure(job, learner, setup.test)
    except KeyboardInterrupt:
        interrupted, error = True, None
    counts = np.bincount(setup.images.split, minlength=len(SPLITS)).tolist()
    metrics = {
        "test_error": error,
        **asdict(setup.config),
        "interrupted": interrupted,
        "best_epoch": recipe.best_epoch(state.history),
        "train_images": counts[TRAIN],
        "validation_images": counts[VALIDATION],
        "test_images": counts[TEST],
        "broken": setup.images.broken,
        "parameters": size(learner.params),
        "seconds": round(time.perf_counter() - began, 2),
        **origin,
        "history": list(state.history),
    }
    return learner, metrics


def _states(setup, state, on_step, warn):
    """The training states; warns of a collapse, and names the images that have NaN."""
    epochs_done = state.epoch
    try:
        for latest in recipe.states(setup.job, state, on_step):
            if latest.epoch > epochs_done and "coverage" in latest.history[-1]:
                warn_of_collapse(latest.history[-1]["coverage"], latest.history[:-1], warn)
            epochs_done = latest.epoch
            yield latest
    except NonFiniteError as error:
        named = ", ".join(setup.images.names[number] for number in error.images[:5])
        raise DivergedError(f"{error}{f': {named}' if named else ''}") from error


# --- What it leaves -------------------------------------------------------------------------------


def files(setup: ImageSetup, learner: train.Learner) -> dict[str, bytes]:
    """The run's own files: a picture of the classes, and the division of the images."""
    from . import pictures

    chosen = [
        members[:SHOWN_IMAGES]
        for label in range(min(len(setup.config.classes), SHOWN_CLASSES))
        if len(members := np.flatnonzero(setup.test.labels == label))
    ]
    figure = pictures.before_and_after(
        setup.net, learner, setup.test.take(np.concatenate(chosen)), show=shown(setup.config),
        names=setup.config.classes,
    )  # fmt: skip
    return {"classes.png": pictures.to_png(figure), "split.csv": split_csv(setup.images)}


def subject(setup: ImageSetup, learner: train.Learner) -> Any:
    """What the report of a run is about."""
    from . import report

    return report.Subject(
        setup.config, setup.net, learner, setup.test, setup.config.classes, shown(setup.config),
        [setup.images.names[number] for number in setup.test.chosen],
    )  # fmt: skip


def shown(config: ImageConfig) -> Callable[[np.ndarray], np.ndarray]:
    """A function from a network's images (N, C, H, W) to pictures from 0 to 1.

    Pictures are (N, H, W, 3) in colour, and (N, H, W) with any other number of channels.
    """
    mean, deviation = config.standardisation
    largest = np.iinfo(config.dtype).max if config.dtype != "float32" else 1

    def show(planes: np.ndarray) -> np.ndarray:
        first = planes[:, : len(mean)]  # of several views
        found = (first * deviation[:, None, None] + mean[:, None, None]) / largest
        found = np.moveaxis(found, 1, -1) if len(mean) == 3 else found[:, 0]
        return np.clip(found, 0, 1)

    return show


def split_csv(images: ImageSet) -> bytes:
    """The division of the images as CSV, with the columns path, label and split, and group."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["path", "label", "split"] + ["group"] * (images.groups is not None))
    groups = [[group] for group in images.groups] if images.groups else [[]] * len(images.names)
    for name, label, split, group in zip(
        images.names, images.labels, images.split, groups, strict=True
    ):
        writer.writerow([name, images.classes[label], SPLITS[split], *group])
    return file.getvalue().encode("utf-8", "surrogateescape")
