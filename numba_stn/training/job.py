"""What a training on images in arrays is made of: the recipe, examples, and a job of them."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, NamedTuple

import numpy as np
from scipy.special import log_softmax

from ..data.augment import MOST_ELASTIC, MOST_PERSPECTIVE, MOST_ROTATE, MOST_SHEAR
from ..data.dataset import Split
from ..nn import adam, one_cycle
from ..nn.base import Layer
from ..nn.losses import softmax_cross_entropy
from ..nn.optim import Optimiser
from ..nn.tree import flatten
from ..transforms.parametrisations import TRANSFORMS
from ..utils.schema import field_rules, flag, maybe, number, one_of, whole
from . import networks

PLANE_TRANSFORMS = tuple(t.name for t in TRANSFORMS.values() if t.kind != "affine 3-D")

# Numbers that depend on the size of the set. An epoch has at least STEPS_PER_EPOCH steps, as far
# as a batch of LEAST_BATCH images allows; training sees IMAGES_SEEN images in all.
MOST_BATCH, LEAST_BATCH, STEPS_PER_EPOCH = 64, 8, 30
MOST_EPOCHS, LEAST_EPOCHS, IMAGES_SEEN = 60, 10, 150_000

# Classes are weighted by default if the largest has more than this many times the images of the
# smallest.
UNEVEN = 10.0

# Fields of the recipe for random distortions of the training images.
AUGMENTATIONS = ("rotate", "scale", "translate", "shear", "flip", "perspective", "elastic",
                 "light")  # fmt: skip

# Number of images that are standardised at a time.
CHUNK = 256


@dataclass(frozen=True)
class Recipe:
    """How a network is trained on images; each None is chosen by the size of the set.

    ``rotate``, ``scale``, ``translate``, ``shear``, ``flip``, ``perspective`` and ``elastic`` are
    those of :func:`numba_stn.augment`. ``light`` changes the light of each training image: its
    contrast by a factor from ``1 / (1 + light)`` to ``1 + light``, and its brightness by up to
    ``light`` standard deviations of the training set.

    Every field is declared with its rule, which also holds for those that are read from files.

    Raises
    ------
    ValueError
        If a value is of the wrong type or out of range.
    """

    model: Annotated[str, one_of(networks.MODELS)] = "st-cnn"
    transform: Annotated[str, one_of(PLANE_TRANSFORMS)] = "affine"
    rounds: Annotated[int, whole(1, 100)] = 1
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
    perspective: Annotated[float, number(0, MOST_PERSPECTIVE)] = 0.0
    elastic: Annotated[float, number(0, MOST_ELASTIC)] = 0.0
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
    net = net or networks.build(
        recipe.model, (channels, height, width), outputs, recipe.transform, recipe.rounds
    )
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
