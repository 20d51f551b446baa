"""Training: what is learned as one value, a step, an epoch, and the error on a split.

A learner of CuPy's arrays learns on the GPU, from batches of NumPy's, which are copied there.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from ..kernels.launch import one_blas_thread, one_thread
from ..utils.namespace import to_device_of, to_host
from .layer import Layer, Shape
from .losses import cross_entropy, labels_for
from .optim import Optimiser
from .tree import Tree, leaves, tree_map


class Learner(NamedTuple):
    """All that training changes; every step makes a new one, so stopping anywhere is safe."""

    params: Tree
    state: Tree
    memory: Any  # the optimiser's


def start(net: Layer, optimiser: Optimiser, shape: Shape, rng: np.random.Generator,
          library: Any = np) -> Learner:  # fmt: skip
    """A learner before the first step, its arrays of this library: ``numpy`` or ``cupy``."""
    params = tree_map(library.asarray, net.init(rng, shape))
    state = tree_map(library.asarray, net.init_state(shape))
    return Learner(params, state, optimiser.init(params))


def on_host(learner: Learner) -> Learner:
    """The learner with parameters and state of NumPy's arrays; the optimiser's are left."""
    return learner._replace(
        params=tree_map(to_host, learner.params), state=tree_map(to_host, learner.state)
    )


def _beside(learner: Learner, array: Any) -> Any:
    """The array where the learner's parameters are."""
    return to_device_of(array, *(leaf for _, leaf in leaves(learner.params)))


def step(net: Layer, optimiser: Optimiser, learner: Learner, images: Any, labels: Any,
         label_smoothing: float = 0.0) -> tuple[Learner, Any, Any]:  # fmt: skip
    """One batch: the new learner, the loss, and how many images were misread.

    On the GPU the two are arrays of one number, and nothing is waited for.
    """
    images = _beside(learner, images)
    with one_blas_thread():  # the layers' own threads share out the work
        logits, pullback, state = net.apply(
            learner.params, images, learner.state, train=True, wrt_x=False
        )
        labels = labels_for(logits, labels)
        loss, dlogits = cross_entropy(logits, labels, label_smoothing)
        dparams, _ = pullback(dlogits)
        params, memory = optimiser.update(learner.params, dparams, learner.memory)
    return Learner(params, state, memory), loss, (logits.argmax(1) != labels).sum()


def steps(
    net: Layer,
    optimiser: Optimiser,
    learner: Learner,
    batches: Iterable[tuple[Any, Any]],
    label_smoothing: float = 0.0,
) -> Iterator[tuple[Learner, Any, Any]]:
    """A step for each batch (images, labels), each yielded as it is done."""
    for images, labels in batches:
        learner, loss, wrong = step(net, optimiser, learner, images, labels, label_smoothing)
        yield learner, loss, wrong


def shuffled(
    rng: np.random.Generator, split: Any, batch: int, distort: Callable
) -> Iterator[tuple[Any, Any]]:
    """Batches of a split in random order, distorted afresh; the rest of a last one is dropped.

    ``distort(rng, split) -> split``, as a :class:`numba_stn.data.Task` does.
    """
    order = rng.permutation(len(split.labels))
    for first in range(0, len(order) - batch + 1, batch):
        yield distort(rng, split.take(order[first : first + batch]))


def ahead(batches: Iterable[Any], depth: int = 2) -> Generator[Any, None, None]:
    """The same batches in the same order, drawn by a thread while earlier ones are learned from.

    ``depth`` of them are drawn before they are asked for. Kernels in that thread run on it alone.
    """
    source, end = iter(batches), object()

    def draw():
        with one_thread():
            return next(source, end)

    pool = ThreadPoolExecutor(1, "batches")
    try:
        drawn = deque(pool.submit(draw) for _ in range(depth))
        while (batch := drawn.popleft().result()) is not end:
            drawn.append(pool.submit(draw))
            yield batch
    finally:
        pool.shutdown(cancel_futures=True)


def predict(net: Layer, learner: Learner, images: Any, batch: int = 500) -> Any:
    """The most likely class of each image, as NumPy's array."""
    found = []
    with one_blas_thread():
        for first in range(0, len(images), batch):
            part = _beside(learner, images[first : first + batch])
            found.append(net.apply(learner.params, part, learner.state)[0].argmax(1))
    return to_host(np.concatenate(found)) if found else np.empty(0, np.int64)


def error_percent(net: Layer, learner: Learner, images: Any, labels: Any) -> float:
    """Share of the images that are misread, in percent."""
    return 100 * float((predict(net, learner, images) != labels).mean())
