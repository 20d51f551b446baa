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
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np

from ..data.augment import augment
from ..data.dataset import Split
from ..nn import train
from ..nn.base import Layer
from ..nn.diagnostics import observe_transformers
from ..nn.finite import NonFiniteError
from .checkpoint import TrainingState
from .job import (
    AUGMENTATIONS,
    UNEVEN,
    Examples,
    Job,
    Objective,
    Recipe,
    Standardisation,
    classification,
    cross_entropy,
    make_job,
    resolved,
    wrong_labels,
)

__all__ = ["AUGMENTATIONS", "UNEVEN", "Examples", "Job", "Objective", "Recipe", "Standardisation",
           "best_epoch", "best_learner", "classification", "cross_entropy", "distortion", "epochs",
           "finished", "initial_state", "make_job", "measure", "outputs", "outputs_of", "resolved",
           "states", "train_epoch", "wrong_labels"]  # fmt: skip

# Number of images that the network processes at a time when it does not train; coverage is measured
# on the first of the validation images.
CHUNK, COVERAGE_IMAGES = 256, 256

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
