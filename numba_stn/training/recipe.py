"""Training on images in arrays, with a recipe that works untouched.

This is the engine of ``numba-stn train DATA`` and of the estimators. It knows nothing of folders,
files and the command line. From images, labels and the indices of the training and validation
images it makes a :class:`Job`, and trains it epoch by epoch:

    recipe = Recipe(seed=1)                                   # every option has a default
    job = classification(recipe, images, labels, train=index, validation=other_index)
    for state in epochs(job):                                 # the TrainingState after each epoch
        print(state.history[-1])
    learner = best_learner(job, state)
    found = outputs(job, learner, images[:10])                # logits, from images as they came

``images`` is (N, H, W, C), uint8 or floats, and may be memory-mapped: batches are gathered and
standardised when they are used, so that no copy of the images is made. ``job.recipe`` has every
number that was chosen, and :func:`epochs` resumes from any state that it yielded, with the same
bits. For other targets (several labels, numbers) give :func:`make_job` an :class:`Objective`, and
for a network of one's own ``net``.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Annotated, Any, NamedTuple

import numpy as np
from scipy.special import log_softmax

from ..data.augment import MOST_ROTATE, MOST_SHEAR, augment
from ..data.dataset import Split
from ..nn import adam, one_cycle, train
from ..nn.base import Layer
from ..nn.diagnostics import observe_transformers
from ..nn.finite import NonFiniteError
from ..nn.losses import softmax_cross_entropy
from ..nn.optim import Optimiser
from ..nn.tree import flatten
from ..transforms.parametrisations import TRANSFORMS
from ..utils.schema import field_rules, flag, maybe, number, one_of, whole
from . import networks
from .checkpoint import TrainingState

PLANE_TRANSFORMS = tuple(t.name for t in TRANSFORMS.values() if t.kind != "affine 3-D")

# Numbers that depend on the size of the set. An epoch has at least STEPS_PER_EPOCH steps, as far
# as a batch of LEAST_BATCH images allows; training sees IMAGES_SEEN images in all.
MOST_BATCH, LEAST_BATCH, STEPS_PER_EPOCH = 64, 8, 30
MOST_EPOCHS, LEAST_EPOCHS, IMAGES_SEEN = 60, 10, 150_000

# Classes are weighted by default if the largest has more than this many times the images of the
# smallest.
UNEVEN = 10.0

# Fields of the recipe for random distortions of the training images.
AUGMENTATIONS = ("rotate", "scale", "translate", "shear", "flip", "light")

# Number of images that are standardised at a time, and that the network processes at a time when
# it does not train; coverage is measured on the first of the validation images.
CHUNK, COVERAGE_IMAGES = 256, 256


@dataclass(frozen=True)
class Recipe:
    """How a network is trained on images; each None is chosen by the size of the set.

    ``rotate``, ``scale``, ``translate``, ``shear`` and ``flip`` are those of
    :func:`numba_stn.augment`. ``light`` changes the light of each training image: its contrast by a
    factor from ``1 / (1 + light)`` to ``1 + light``, and its brightness by up to ``light`` standard
    deviations of the training set.

    Every field is declared with its rule, which also holds for those that are read from files.

    Raises
    ------
    ValueError
        If a value is of the wrong type or out of range.
    """

    model: Annotated[str, one_of(networks.MODELS)] = "st-cnn"
    transform: Annotated[str, one_of(PLANE_TRANSFORMS)] = "affine"
    epochs: Annotated[Any, maybe(whole(1, 10**6))] = None
    batch: Annotated[Any, maybe(whole(1))] = None
    seed: Annotated[int, whole(0, 2**128 - 1)] = 0
    rate: Annotated[float, number(above=0)] = 1e-2
    localisation_rate: Annotated[float, number(0)] = 0.1
    weight_decay: Annotated[float, number(0)] = 0.02
    label_smoothing: Annotated[float, number(0, below=1)] = 0.1
    class_weight: Annotated[Any, maybe(one_of(("balanced", "none")))] = None
    patience: Annotated[Any, maybe(whole(1))] = None
    rotate: Annotated[float, number(0, MOST_ROTATE)] = 15.0
    scale: Annotated[float, number(0)] = 0.2
    translate: Annotated[float, number(0)] = 0.1
    shear: Annotated[float, number(0, MOST_SHEAR)] = 10.0
    flip: Annotated[bool, flag] = False
    light: Annotated[float, number(0)] = 0.3

    def __post_init__(self):
        for name, rule in field_rules(type(self)).items():
            object.__setattr__(self, name, rule(getattr(self, name), name))


class Standardisation(NamedTuple):
    """Mean and standard deviation of each channel over the training images."""

    mean: np.ndarray
    deviation: np.ndarray

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Images (N, H, W, C) as the network takes them: (N, C, H, W) float32."""
        planes = np.ascontiguousarray(np.moveaxis(images, -1, 1), np.float32)
        planes -= self.mean[:, None, None]
        planes /= self.deviation[:, None, None]
        return planes


class Examples(NamedTuple):
    """Those images of an array that ``chosen`` names, with their targets."""

    images: np.ndarray
    targets: np.ndarray
    chosen: np.ndarray
    standardise: Standardisation

    @property
    def labels(self) -> np.ndarray:
        """The targets of these images."""
        return self.targets[self.chosen]

    def take(self, index: np.ndarray) -> Split:
        """Some of these images, standardised, with their targets."""
        found = self.chosen[index]
        return Split(self.standardise(self.images[found]), self.targets[found])


class Objective(NamedTuple):
    """What a network is trained for.

    ``loss(outputs, targets) -> loss, doutputs`` is the mean over a batch, as in
    :mod:`numba_stn.nn.losses`. What is reported as error is ``unit`` times the mean over all images
    of ``errors(outputs, targets)``, a sum over a batch; in classification, the number of wrong
    labels and 100, for percent.
    """

    loss: Callable[[Any, Any], tuple[Any, Any]]
    errors: Callable[[Any, Any], Any]
    unit: float = 100.0


class Job(NamedTuple):
    """Everything that a training needs before its first step."""

    recipe: Recipe
    net: Layer
    optimiser: Optimiser
    objective: Objective
    train: Examples
    validation: Examples

    @property
    def steps(self) -> int:
        """Number of steps in an epoch."""
        return len(self.train.chosen) // self.recipe.batch

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of an image, as the network takes it."""
        height, width, channels = self.train.images.shape[1:]
        return channels, height, width


# --- The job --------------------------------------------------------------------------------------


def classification(
    recipe: Recipe,
    images: np.ndarray,
    labels: np.ndarray,
    train: np.ndarray,
    validation: np.ndarray,
    classes: int | None = None,
    net: Layer | None = None,
) -> Job:
    """The job of classifying images.

    Parameters
    ----------
    recipe : Recipe
    images : (N, H, W, C) array
        Of uint8, or floats; it may be memory-mapped.
    labels : (N,) integer array
        From 0 to less than ``classes``.
    train, validation : integer arrays
        Indices of the images to learn from, and of those to choose the best epoch by. With no
        validation images, the last epoch is the best.
    classes : int, optional
        By default, the largest label plus 1.
    net : Layer, optional
        A network of one's own: (N, C, H, W) -> (N, classes).

    Returns
    -------
    Job

    Raises
    ------
    ValueError, TypeError
        If shapes, labels or indices do not fit, or an image has NaN or infinity.
    """
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        raise ValueError(f"labels: expected {len(images)} integers, got {labels.shape} of "
                         f"{labels.dtype}")  # fmt: skip
    classes = classes or int(labels.max(initial=0)) + 1
    counts = np.bincount(labels[train], minlength=classes)
    recipe = _with_class_weight(recipe, counts)
    weights = None
    if recipe.class_weight == "balanced":
        weights = counts.sum() / np.maximum(counts, 1)
    loss = partial(cross_entropy, label_smoothing=recipe.label_smoothing, class_weights=weights)
    objective = Objective(loss, wrong_labels)
    return make_job(recipe, images, labels, train, validation, classes, objective, net)


def make_job(
    recipe: Recipe,
    images: np.ndarray,
    targets: np.ndarray,
    train: np.ndarray,
    validation: np.ndarray,
    outputs: int,
    objective: Objective,
    net: Layer | None = None,
) -> Job:
    """The job of any objective; the arguments are those of :func:`classification`.

    ``targets`` (N, ...) is what the objective compares with the network's ``outputs`` numbers.
    """
    if images.ndim != 4:
        raise ValueError(f"images: expected shape (N, H, W, C), got {images.shape}")
    train, validation = np.asarray(train, np.int64), np.asarray(validation, np.int64)
    if not len(train):
        raise ValueError("train: expected at least one image, got none")
    recipe = resolved(recipe, len(train))
    height, width, channels = images.shape[1:]
    net = net or networks.build(recipe.model, (channels, height, width), outputs, recipe.transform)
    standardise = standardisation(images, train)
    own = Examples(images, targets, train, standardise)
    params = net.init(np.random.default_rng(0), (channels, height, width))
    has_transformer = any("localisation" in name.split(".") for name in flatten(params))
    factors = {"localisation": recipe.localisation_rate} if has_transformer else {}
    steps = len(train) // recipe.batch * recipe.epochs
    optimiser = adam(one_cycle(recipe.rate, steps), weight_decay=recipe.weight_decay,
                     factors=factors)  # fmt: skip
    return Job(recipe, net, optimiser, objective, own, own._replace(chosen=validation))


def resolved(recipe: Recipe, count: int) -> Recipe:
    """The recipe with the numbers that depend on the number of training images."""
    batch = recipe.batch or min(MOST_BATCH, max(LEAST_BATCH, 2 ** int(math.log2(
        max(count / STEPS_PER_EPOCH, 1)))))  # fmt: skip
    batch = min(batch, count)
    epochs = recipe.epochs or min(MOST_EPOCHS, max(LEAST_EPOCHS, IMAGES_SEEN // count))
    patience = epochs if recipe.patience is None else recipe.patience
    return replace(recipe, batch=batch, epochs=epochs, patience=patience)


def _with_class_weight(recipe, counts):
    """The recipe with the choice of class weights."""
    if recipe.class_weight is not None:
        return recipe
    present = counts[counts > 0]
    uneven = len(present) and present.max() > UNEVEN * present.min()
    return replace(recipe, class_weight="balanced" if uneven else "none")


def cross_entropy(
    logits: np.ndarray,
    labels: np.ndarray,
    label_smoothing: float,
    class_weights: np.ndarray | None = None,
) -> tuple[float, np.ndarray]:
    """Softmax cross-entropy, in which each image has the weight of its class.

    In :func:`numba_stn.nn.softmax_cross_entropy`, as in PyTorch, each class of a smoothed target
    has its own weight: then 10 % of smoothing teach a network to answer with rare classes.
    """
    loss, dlogits = softmax_cross_entropy(logits, labels, label_smoothing)
    if class_weights is None:
        return loss, dlogits
    weights = class_weights[labels] / class_weights[labels].sum()
    found = log_softmax(logits.astype(np.float64), axis=1)
    sharp = np.take_along_axis(found, labels[:, None], 1)[:, 0]
    losses = -(1 - label_smoothing) * sharp - label_smoothing * found.mean(1)
    scale = (len(labels) * weights).astype(logits.dtype)
    return float(losses @ weights), dlogits * scale[:, None]


def wrong_labels(logits: np.ndarray, labels: np.ndarray) -> int:
    """Number of images whose largest logit is not that of the label."""
    return int(np.count_nonzero(logits.argmax(1) != labels))


def standardisation(images: np.ndarray, index: np.ndarray) -> Standardisation:
    """Mean and standard deviation of each channel over the images at ``index``.

    Raises
    ------
    ValueError
        If an image has NaN or infinity; the message names the first.
    """
    total = np.zeros((2, images.shape[-1]))
    for first in range(0, len(index), CHUNK):
        part = images[index[first : first + CHUNK]].astype(np.float64)
        if not np.isfinite(part).all():
            bad = ~np.isfinite(part.reshape(len(part), -1)).all(1)
            raise ValueError(f"images: expected finite numbers, image "
                             f"{index[first + int(bad.argmax())]} has NaN or infinity")  # fmt: skip
        total += part.sum((0, 1, 2)), (part * part).sum((0, 1, 2))
    mean, square = total / max(len(index) * images.shape[1] * images.shape[2], 1)
    deviation = np.sqrt(np.maximum(square - mean * mean, 0))
    deviation[deviation <= 1e-6 * np.abs(mean) + 1e-12] = 1  # a constant channel
    return Standardisation(mean.astype(np.float32), deviation.astype(np.float32))


# --- The training ---------------------------------------------------------------------------------


def initial_state(job: Job) -> TrainingState:
    """The training state before the first step."""
    rng = np.random.default_rng(job.recipe.seed)
    return TrainingState(train.init_learner(job.net, job.optimiser, job.shape, rng))


def ignore(*_: Any) -> None:
    """A callback that does nothing."""


def epochs(
    job: Job,
    state: TrainingState | None = None,
    on_step: Callable[[int, float, float], None] = ignore,
) -> Iterator[TrainingState]:
    """Train, and yield the training state after each epoch, until the recipe's end.

    Training ends after ``epochs`` epochs, or when none of the last ``patience`` epochs was better
    than the best one before.

    Parameters
    ----------
    job : Job
    state : TrainingState, optional
        Where to start; by default before the first step.
    on_step : callable
        Called as ``on_step(done, loss, error)`` after each step, with the number of steps done in
        all, and the mean loss and error of the epoch so far.

    Yields
    ------
    TrainingState
        ``history[-1]`` describes the epoch, and ``best`` has the best epoch's arrays.

    Raises
    ------
    NonFiniteError
        If theta, the loss, a gradient or a weight is not finite; the message names the images.
    """
    for latest in states(job, state, on_step):
        if not latest.step:
            yield latest


def states(
    job: Job,
    state: TrainingState | None = None,
    on_step: Callable[[int, float, float], None] = ignore,
) -> Iterator[TrainingState]:
    """:func:`epochs`, which also yields the training state after each step."""
    state = state or initial_state(job)
    while not finished(job, state):
        for latest in train_epoch(job, state, on_step):
            state = latest
            yield state


def finished(job: Job, state: TrainingState) -> bool:
    """Whether a training has come to its end."""
    waited = state.epoch - best_epoch(state.history)
    return state.epoch >= job.recipe.epochs or waited >= job.recipe.patience


def best_epoch(history: Any) -> int:
    """The number of the best epoch, from 1: of the lowest validation error, then loss; the last."""
    if not history or "validation_error" not in history[-1]:
        return len(history)
    best = min(history, key=lambda e: (e["validation_error"], e["validation_loss"], -e["epoch"]))
    return best["epoch"]


def best_learner(job: Job, state: TrainingState) -> train.Learner:
    """The learner with the arrays of the best epoch."""
    if state.best is None:
        return state.learner
    return train.Learner(state.best[0], state.best[1], state.learner.optimiser_state)


def train_epoch(
    job: Job, state: TrainingState, on_step: Callable[[int, float, float], None] = ignore
) -> Iterator[TrainingState]:
    """Train for one epoch, or for the rest of one; yields the state after each step, and the end.

    The last state has no steps, and the epoch's entry in its history.
    """
    for latest in _train_steps(job, state):
        state = latest
        done = state.epoch * job.steps + state.step
        on_step(done, state.loss_sum / state.step, _train_error(job, state))
        yield state
    learner = state.learner
    history = (*state.history, _entry(job, state))
    is_best = best_epoch(history) == len(history)
    best = (learner.params, learner.state) if is_best else state.best
    yield TrainingState(learner, state.epoch + 1, history=history, best=best)


def _entry(job, state):
    """The description of an epoch whose steps are done."""
    entry: dict[str, Any] = {"epoch": state.epoch + 1, "train_loss": state.loss_sum / state.step,
                             "train_error": _train_error(job, state)}  # fmt: skip
    if len(job.validation.chosen):
        loss, error = measure(job, state.learner, job.validation)
        entry |= {"validation_loss": loss, "validation_error": error}
    some = job.validation if len(job.validation.chosen) else job.train
    images = some.take(np.arange(min(COVERAGE_IMAGES, len(some.chosen)))).images
    if transformers := observe_transformers(job.net, state.learner, images):
        entry["coverage"] = [round(each.coverage, 2) for each in transformers]
    return entry


def _train_error(job, state):
    return job.objective.unit * state.errors / (state.step * job.recipe.batch)


def _train_steps(job, state):
    """Yield the training state after each further step of the epoch."""
    recipe = job.recipe
    rng = np.random.default_rng([recipe.seed, state.epoch])
    batches = train.shuffled_batches(rng, job.train, recipe.batch, distortion(recipe))
    with contextlib.closing(train.prefetch(islice(batches, state.step, None))) as prefetched:
        for images, targets in prefetched:
            try:
                learner, loss, found = train.loss_step(
                    job.net, job.optimiser, state.learner, images, targets, job.objective.loss
                )
            except NonFiniteError as error:
                raise _explained(job, state, error) from error
            errors = job.objective.errors(found, targets)
            state = state._replace(learner=learner, step=state.step + 1,
                                   loss_sum=state.loss_sum + loss,
                                   errors=state.errors + errors)  # fmt: skip
            yield state


def distortion(recipe: Recipe) -> Callable[[np.random.Generator, Split], Split]:
    """The function that distorts a batch of standardised images."""
    options: dict[str, Any] = {name: getattr(recipe, name) for name in AUGMENTATIONS}
    light = options.pop("light")
    moves = any(options.values())

    def distort(rng, batch):
        images = augment(batch.images, rng, **options)[0] if moves else batch.images
        if light:
            gain, offset = rng.uniform(-1, 1, (2, len(images), 1, 1, 1))
            gain = np.exp(np.log1p(light) * gain).astype(np.float32)
            images = images * gain + (light * offset).astype(np.float32)
        return Split(images, batch.labels)

    return distort


def _explained(job, state, error):
    """The error for a number that is not finite, with the step and the images of its batch."""
    where = f"epoch {state.epoch + 1}, after step {state.step} of {job.steps}: {error}"
    if not error.images:
        return NonFiniteError(f"{where}; a smaller rate may help")
    rng = np.random.default_rng([job.recipe.seed, state.epoch])  # as for the batches
    batches = train.shuffled_indices(rng, len(job.train.chosen), job.recipe.batch)
    found = job.train.chosen[next(islice(batches, state.step, None))[list(error.images)]]
    shown = ", ".join(map(str, found[:5])) + (", ..." if found[5:].size else "")
    return NonFiniteError(f"{where}; these are the images {shown}", found.tolist())


# --- Measurement ----------------------------------------------------------------------------------


def outputs(job: Job, learner: train.Learner, images: np.ndarray) -> np.ndarray:
    """The network's outputs for images (N, H, W, C), as they came."""
    some = Examples(images, np.zeros(len(images)), np.arange(len(images)), job.train.standardise)
    return outputs_of(job.net, learner, some)


def outputs_of(net: Layer, learner: train.Learner, examples: Examples) -> np.ndarray:
    """The network's outputs for examples."""
    found = []
    for first in range(0, len(examples.chosen), CHUNK):
        last = min(first + CHUNK, len(examples.chosen))
        images = examples.take(np.arange(first, last)).images
        found.append(net.apply(learner.params, images, learner.state)[0])
    return np.concatenate(found) if found else np.empty((0, 0), np.float32)


def measure(job: Job, learner: train.Learner, examples: Examples) -> tuple[float, float]:
    """Mean loss and mean error over examples."""
    found = outputs_of(job.net, learner, examples)
    targets = examples.labels
    loss, _ = job.objective.loss(found, targets)
    return float(loss), job.objective.unit * job.objective.errors(found, targets) / len(targets)
