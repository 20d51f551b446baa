"""Training: a training step, batches, prediction and the error of a network.

A learner of CuPy arrays is trained on the GPU, from NumPy batches, which are copied there.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from ..kernels.cpu_launch import one_blas_thread, one_thread
from ..utils.namespace import as_array, namespace, to_device_of, to_host
from .base import Layer, Shape
from .checks import check_whole
from .finite import NonFiniteError, all_finite, check_arrays, check_loss, explained
from .losses import (
    Loss,
    check_smoothing,
    checked_labels,
    cross_entropy,
    softmax_cross_entropy,
)
from .optim import Optimiser
from .tree import Tree, leaves, tree_map


class Learner(NamedTuple):
    """All that training changes: parameters, running statistics, and the optimiser's state.

    Each step makes a new one, so training may be stopped at any time.
    """

    params: Tree
    state: Tree
    optimiser_state: Any


def init_learner(net: Layer, optimiser: Optimiser, shape: Shape, rng: np.random.Generator,
                 library: Any = np) -> Learner:  # fmt: skip
    """Make a learner with initial parameters, for images of ``shape``.

    Parameters
    ----------
    net : Layer
    optimiser : Optimiser
    shape : (C, H, W)
        Of one image.
    rng : numpy.random.Generator
        Draws the parameters.
    library : module
        ``numpy`` or ``cupy``, whose arrays the learner has.

    Returns
    -------
    Learner
    """
    params = tree_map(library.asarray, net.init(rng, shape))
    state = tree_map(library.asarray, net.init_state(shape))
    return Learner(params, state, optimiser.init(params))


def to_numpy(learner: Learner) -> Learner:
    """The learner with parameters and state as NumPy arrays; the optimiser's state is unchanged."""
    return learner._replace(
        params=tree_map(to_host, learner.params), state=tree_map(to_host, learner.state)
    )


def _beside(learner: Learner, array: Any) -> Any:
    """The array, copied to where the learner's parameters are."""
    return to_device_of(array, *(leaf for _, leaf in leaves(learner.params)))


def train_step(net: Layer, optimiser: Optimiser, learner: Learner, images: Any, targets: Any,
               label_smoothing: float = 0.0, loss: Loss | None = None,
               ) -> tuple[Learner, Any, Any]:  # fmt: skip
    """One training step on a batch: forward, loss, backward, update.

    Parameters
    ----------
    net : Layer
    optimiser : Optimiser
    learner : Learner
    images : (N, C, H, W) array
    targets : array
        Of N examples: labels (N,) of integers, or whatever the ``loss`` takes.
    label_smoothing : float
        As in :func:`numba_stn.nn.softmax_cross_entropy`, for the default loss.
    loss : callable, optional
        ``loss(outputs, targets) -> value, doutputs``, for instance :func:`numba_stn.nn.huber`, or
        ``functools.partial(nn.softmax_cross_entropy, class_weights=weights)``. By default it is
        softmax cross-entropy.

    Returns
    -------
    learner : Learner
        After the step.
    loss : float
    errors : int
        Number of misclassified images; 0 if the targets are not labels. On the GPU this and the
        loss are arrays of one number, so that the step does not wait for the GPU.

    Raises
    ------
    NonFiniteError
        If theta, the loss, a gradient, or a weight or a running statistic after the step is not
        finite. The message names the layer, and the images whose pixels or targets are not finite;
        the learner given is still good. On the GPU this is not checked, which would wait for it:
        call :func:`check_finite` now and then.
    """
    check_smoothing(label_smoothing)
    if loss is not None and label_smoothing:
        raise ValueError(
            f"label_smoothing: expected 0 with a loss of one's own, got {label_smoothing!r}"
        )
    to_learn = [targets]

    def default(logits, labels):
        to_learn[0] = checked_labels(logits, labels)  # on the GPU, copied only once
        return cross_entropy(logits, to_learn[0], label_smoothing)

    learner, value, outputs = loss_step(net, optimiser, learner, images, targets, loss or default)
    return learner, value, count_errors(outputs, to_learn[0])


def loss_step(
    net: Layer, optimiser: Optimiser, learner: Learner, images: Any, targets: Any, loss: Loss
) -> tuple[Learner, Any, Any]:
    """:func:`train_step`, which returns the network's outputs, (N, ...), instead of errors."""
    images = _beside(learner, images)
    with one_blas_thread(), np.errstate(all="ignore"):  # the layers use threads of their own
        try:
            return _loss_step(net, optimiser, learner, images, targets, loss)
        except NonFiniteError as error:
            raise explained(error, images, targets) from None


def _loss_step(net, optimiser, learner, images, targets, loss):
    """:func:`loss_step`, which says more about numbers that are not finite."""
    on_cpu = namespace(images) is np
    outputs, pullback, state = net.apply(
        learner.params, images, learner.state, train=True, wrt_x=False
    )
    value, doutputs = loss(outputs, targets)
    if on_cpu:
        check_loss(net, learner.params, images, learner.state, value)
    dparams, _ = pullback(doutputs)
    try:
        params, optimiser_state = optimiser.update(learner.params, dparams, learner.optimiser_state)
    except NonFiniteError:
        check_arrays(net, "gradient", dparams)  # says in which layer
        raise
    if on_cpu:
        check_arrays(net, "running statistic", state)
    return Learner(params, state, optimiser_state), value, outputs


def count_errors(outputs: Any, targets: Any) -> Any:
    """The number of misclassified images; 0 if the targets are not labels (N,) of integers."""
    targets = as_array(targets, "targets")
    if targets.dtype.kind not in "iu" or targets.ndim != 1 or outputs.ndim != 2:
        return 0
    return (outputs.argmax(1) != to_device_of(targets, outputs)).sum()


def check_finite(net: Layer, learner: Learner) -> None:
    """Raise unless all weights and running statistics are finite.

    Parameters
    ----------
    net : Layer
    learner : Learner
        On the GPU this waits for it.

    Raises
    ------
    NonFiniteError
        The message names the layer.
    """
    arrays = [leaf for _, leaf in leaves((learner.params, learner.state))]
    if all_finite(*(array for array in arrays if array.dtype.kind == "f")):
        return  # after one wait for the GPU, not two
    check_arrays(net, "weight", learner.params)
    check_arrays(net, "running statistic", learner.state)


def train_steps(
    net: Layer,
    optimiser: Optimiser,
    learner: Learner,
    batches: Iterable[tuple[Any, Any]],
    label_smoothing: float = 0.0,
    loss: Loss | None = None,
) -> Iterator[tuple[Learner, Any, Any]]:
    """:func:`train_step` for each batch (images, targets); yields its results."""
    for images, targets in batches:
        learner, value, errors = train_step(
            net, optimiser, learner, images, targets, label_smoothing, loss
        )
        yield learner, value, errors


def evaluate(
    net: Layer, learner: Learner, images: Any, targets: Any, loss: Loss | None = None,
    batch: int = 500,
) -> tuple[float, int]:  # fmt: skip
    """Loss and errors of a network on images that it does not learn from.

    Parameters
    ----------
    net : Layer
    learner : Learner
    images : (N, C, H, W) array
        At least one image.
    targets : array
        Of N examples; see :func:`train_step`.
    loss : callable, optional
        See :func:`train_step`; the value is its mean over batches, weighted by their lengths.
    batch : int
        Number of images that the network processes at a time.

    Returns
    -------
    loss : float
    errors : int
        Number of misclassified images; 0 if the targets are not labels.

    Raises
    ------
    ValueError
        If there is no image, or another number of targets.
    NonFiniteError
        If the images have pixels that are not finite; the message names them.
    """
    check_whole("evaluate", batch=batch)
    loss, targets = loss or softmax_cross_entropy, as_array(targets, "targets")
    if not len(images) or targets.shape[:1] != (len(images),):
        raise ValueError(
            f"targets: expected one for each of {len(images)} images, at least one, "
            f"got {targets.shape}"
        )
    total, errors = 0.0, 0
    for first, outputs in zip(
        range(0, len(images), batch), _outputs(net, learner, images, batch), strict=True
    ):
        part = targets[first : first + batch]
        total += float(loss(outputs, part)[0]) * len(outputs)
        errors += int(count_errors(outputs, part))
    return total / len(images), errors


def shuffled_batches(
    rng: np.random.Generator, split: Any, batch: int, distort: Callable | None = None
) -> Iterator[tuple[Any, Any]]:
    """Batches of a split in random order, each freshly distorted.

    Parameters
    ----------
    rng : numpy.random.Generator
        Draws the order and the distortions.
    split : numba_stn.data.Split
    batch : int
        Number of images in a batch. The last images, if they do not fill a batch, are dropped.
    distort : callable, optional
        ``distort(rng, split) -> split``, for instance a :class:`numba_stn.data.Task`; by default
        the images are used as they are.

    Yields
    ------
    split : numba_stn.data.Split
        Images and labels of a batch.
    """
    for index in shuffled_indices(rng, len(split.labels), batch):
        part = split.take(index)
        yield part if distort is None else distort(rng, part)


def shuffled_indices(rng: np.random.Generator, count: int, batch: int) -> Iterator[np.ndarray]:
    """Indices of each of the batches that :func:`shuffled_batches` draws from ``count`` images."""
    check_whole("shuffled_batches", batch=batch)
    order = rng.permutation(count)
    for first in range(0, count - batch + 1, batch):
        yield order[first : first + batch]


def prefetch(batches: Iterable[Any], depth: int = 2) -> Generator[Any, None, None]:
    """The same batches in the same order, made in another thread while earlier ones are used.

    Parameters
    ----------
    batches : iterable
        Kernels that it calls run on that thread alone.
    depth : int
        Number of batches that are made in advance.
    """
    check_whole("prefetch", depth=depth)
    source, end = iter(batches), object()

    def make():
        with one_thread():
            return next(source, end)

    pool = ThreadPoolExecutor(1, "batches")
    try:
        waiting = deque(pool.submit(make) for _ in range(depth))
        while (batch := waiting.popleft().result()) is not end:
            waiting.append(pool.submit(make))
            yield batch
    finally:
        pool.shutdown(cancel_futures=True)


def predict(net: Layer, learner: Learner, images: Any, batch: int = 500) -> Any:
    """The most likely class of each image.

    Parameters
    ----------
    net : Layer
    learner : Learner
    images : (N, C, H, W) array
    batch : int
        Number of images that the network processes at a time.

    Returns
    -------
    (N,) array of integers, of NumPy

    Raises
    ------
    NonFiniteError
        If the images have pixels that are not finite; the message names them.
    """
    check_whole("predict", batch=batch)
    found = [outputs.argmax(1) for outputs in _outputs(net, learner, images, batch)]
    return to_host(np.concatenate(found)) if found else np.empty(0, np.int64)


def _outputs(net, learner, images, batch):
    """The network's output for each batch of images; on the CPU their pixels must be finite.

    A theta of NaN would sample nothing, and the answer would look like any other.
    """
    for first in range(0, len(images), batch):
        part = images[first : first + batch]
        if namespace(part) is np and not all_finite(part):
            where = f"images {first} to {first + len(part) - 1}: expected finite numbers"
            raise explained(NonFiniteError(where), part)
        part = _beside(learner, part)
        with one_blas_thread():
            outputs = net.apply(learner.params, part, learner.state)[0]
        yield outputs


def error_percent(net: Layer, learner: Learner, images: Any, labels: Any) -> float:
    """Share of misclassified images, or parts of images if a network reads several, in percent."""
    found = predict(net, learner, images)
    if np.shape(labels) != found.shape:
        raise ValueError(
            f"labels: expected one for each of {len(found)} answers, got {np.shape(labels)}"
        )
    return 100 * float((found != labels).mean())
