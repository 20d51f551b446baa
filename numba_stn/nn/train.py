"""Training: what is learned as one value, a step, an epoch, and the error on a split."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from ..kernels.launch import one_blas_thread
from .layer import Layer, Shape
from .losses import softmax_cross_entropy
from .optim import Optimiser
from .tree import Tree


class Learner(NamedTuple):
    """All that training changes; every step makes a new one, so stopping anywhere is safe."""

    params: Tree
    state: Tree
    memory: Any  # the optimiser's


def start(net: Layer, optimiser: Optimiser, shape: Shape, rng: np.random.Generator) -> Learner:
    """A learner before the first step."""
    params = net.init(rng, shape)
    return Learner(params, net.init_state(shape), optimiser.init(params))


def step(net: Layer, optimiser: Optimiser, learner: Learner, images: Any, labels: Any,
         ) -> tuple[Learner, float, int]:  # fmt: skip
    """One batch: the new learner, the loss, and how many images were misread."""
    with one_blas_thread():  # the layers' own threads share out the work
        logits, pullback, state = net.apply(
            learner.params, images, learner.state, train=True, wrt_x=False
        )
        loss, dlogits = softmax_cross_entropy(logits, labels)
        dparams, _ = pullback(dlogits)
        params, memory = optimiser.update(learner.params, dparams, learner.memory)
    return Learner(params, state, memory), loss, int((logits.argmax(1) != labels).sum())


def steps(
    net: Layer, optimiser: Optimiser, learner: Learner, batches: Iterable[tuple[Any, Any]]
) -> Iterator[tuple[Learner, float, int]]:
    """A step for each batch (images, labels), each yielded as it is done."""
    for images, labels in batches:
        learner, loss, wrong = step(net, optimiser, learner, images, labels)
        yield learner, loss, wrong


def shuffled(
    rng: np.random.Generator, split: Any, batch: int, distort: Callable
) -> Iterator[tuple[Any, Any]]:
    """Batches of a split in random order, distorted afresh; the rest of a last one is dropped."""
    order = rng.permutation(len(split.labels))
    for first in range(0, len(order) - batch + 1, batch):
        part = split.take(order[first : first + batch])
        yield distort(rng, part.images), part.labels


def predict(net: Layer, learner: Learner, images: Any, batch: int = 500) -> Any:
    """The most likely class of each image."""
    with one_blas_thread():
        found = [
            net.apply(learner.params, images[first : first + batch], learner.state)[0].argmax(1)
            for first in range(0, len(images), batch)
        ]
    return np.concatenate(found) if found else np.empty(0, np.int64)


def error_percent(net: Layer, learner: Learner, images: Any, labels: Any) -> float:
    """Share of the images that are misread, in percent."""
    return 100 * float((predict(net, learner, images) != labels).mean())
