"""Losses: the mean over the batch, and its gradient with respect to the network's output.

Each is a function ``loss(outputs, targets) -> value, doutputs``, which a training step takes; the
options can be set with :func:`functools.partial`.
"""

from collections.abc import Callable
from numbers import Real
from typing import Any

import numpy as np

from ..utils.namespace import as_array, is_cupy, namespace, to_device_of
from .activations import logistic
from .checks import check_positive

Loss = Callable[[Any, Any], tuple[Any, Any]]

# --- Classes --------------------------------------------------------------------------------------


def softmax_cross_entropy(
    logits: Any, labels: Any, label_smoothing: float = 0.0, class_weights: Any = None
) -> tuple[Any, Any]:
    """Softmax cross-entropy loss of logits (N, classes) and labels (N,), and its gradient.

    ``loss = mean_n -log softmax(logits[n])[labels[n]]``. With ``label_smoothing`` (Szegedy et al.
    2015, section 7; as in PyTorch) it is ``mean_n -sum_k target[k] log softmax(logits[n])[k]``,
    where ``target = (1 - label_smoothing) onehot(labels[n]) + label_smoothing / classes``. This
    makes a network less confident, and often more accurate.

    With ``class_weights`` each target[k] is multiplied by the weight of class k, and the sum over
    the batch is divided by the sum of the weights of its labels, as in PyTorch.

    Parameters
    ----------
    logits : (N, classes) floating array
        Of NumPy or CuPy.
    labels : (N,) integer array
        Each in [0, classes). With logits on the GPU, NumPy labels are checked and copied there.
        CuPy labels are not checked, which would wait for the GPU; one out of range makes the loss
        NaN.
    label_smoothing : float
        From 0 to 1: the share of the target probability that is spread evenly over all classes.
    class_weights : (classes,) array, optional
        A positive number for each class, for instance the inverse of its frequency.

    Returns
    -------
    loss : float
        With logits on the GPU, an array of one number there, so that nothing waits for the GPU.
    dlogits : (N, classes) array
        ``(softmax(logits) - target) / N``.

    Raises
    ------
    ValueError, TypeError
        If shapes do not match, the batch is empty, a label, a weight or ``label_smoothing`` is out
        of range, or a dtype is wrong.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_stn.nn import softmax_cross_entropy
    >>> loss, dlogits = softmax_cross_entropy(np.zeros((1, 2)), np.array([1]))
    >>> print(round(loss, 4), dlogits)
    0.6931 [[ 0.5 -0.5]]
    """
    logits = floating("logits", logits)
    check_smoothing(label_smoothing)
    labels = checked_labels(logits, labels)
    if class_weights is None:
        return cross_entropy(logits, labels, label_smoothing)
    weights = _checked_weights("class_weights", class_weights, logits)
    return _weighted_cross_entropy(logits, labels, label_smoothing, weights)


def check_smoothing(label_smoothing: float) -> None:
    """Raise unless it is a number from 0 to 1."""
    if not isinstance(label_smoothing, Real) or not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing: expected a number from 0 to 1, got {label_smoothing!r}")


def checked_labels(logits: Any, labels: Any) -> Any:
    """Check the labels and copy them to where the logits are.

    Of labels on the GPU only shape and dtype are checked.
    """
    labels = as_array(labels, "labels")
    if labels.dtype.kind not in "iu":
        raise TypeError(f"labels: expected integers, got {labels.dtype}")
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(
            f"labels: expected one for each row of the logits {logits.shape}, got {labels.shape}"
        )
    if not labels.size:
        raise ValueError("labels: expected at least one, got an empty batch")
    if not is_cupy(labels) and not (0 <= labels.min() and labels.max() < logits.shape[1]):
        raise ValueError(
            f"labels: expected integers in [0, {logits.shape[1]}), "
            f"got {labels.min()} to {labels.max()}"
        )
    return to_device_of(labels, logits)


def cross_entropy(logits: Any, labels: Any, label_smoothing: float = 0.0) -> tuple[Any, Any]:
    """:func:`softmax_cross_entropy` without checks."""
    n = namespace(logits, labels).arange(len(labels))
    log_probabilities = _log_softmax(logits)
    dlogits = np.exp(log_probabilities)
    found = log_probabilities[n, labels]
    if label_smoothing:
        sharp = logits.dtype.type(1 - label_smoothing)
        dlogits -= logits.dtype.type(label_smoothing / logits.shape[1])
        dlogits[n, labels] -= sharp
        found = sharp * found + logits.dtype.type(label_smoothing) * log_probabilities.mean(1)
    else:
        dlogits[n, labels] -= 1
    if is_cupy(found):  # CuPy wraps an index that is out of range
        valid = (labels >= 0) & (labels < logits.shape[1])
        found = np.where(valid, found, found.dtype.type(np.nan))
    return as_number(-found.mean()), dlogits / logits.dtype.type(len(labels))


def _weighted_cross_entropy(logits, labels, label_smoothing, weights):
    """:func:`softmax_cross_entropy` with weights (classes,), without checks."""
    real, count = logits.dtype.type, logits.shape[1]
    log_probabilities = _log_softmax(logits)
    one_hot = (labels[:, None] == namespace(logits).arange(count)).astype(logits.dtype)
    total = (one_hot * weights).sum()
    if is_cupy(labels):  # they were not checked
        valid = (labels >= 0) & (labels < count)
        total = total + np.where(valid, real(0), real(np.nan)).sum()
    target = (real(1 - label_smoothing) * one_hot + real(label_smoothing / count)) * weights
    terms = target * np.where(target > 0, log_probabilities, real(0))  # 0 times -inf is 0 here
    dlogits = np.exp(log_probabilities) * target.sum(1, keepdims=True) - target
    return as_number(-terms.sum() / total), dlogits / total


def _log_softmax(logits):
    """``log softmax(logits)``; each row's largest logit is subtracted, so that exp is finite."""
    largest = logits.max(1, keepdims=True)
    shifted = logits - np.where(np.isfinite(largest), largest, largest.dtype.type(0))
    with np.errstate(divide="ignore"):
        return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def binary_cross_entropy(
    logits: Any, targets: Any, positive_weights: Any = None
) -> tuple[Any, Any]:
    """Binary cross-entropy loss for several labels at once, and its gradient.

    ``loss = mean -(w t log p + (1 - t) log(1 - p))`` over all elements, with
    ``p = sigmoid(logits)``. Each of the K outputs decides by itself, so an image may have any
    number of the K labels. The network ends with :func:`linear`; to predict, apply a sigmoid.

    Parameters
    ----------
    logits : (N, K) floating array
        Of NumPy or CuPy; any other shape works too.
    targets : array of the logits' shape
        From 0 to 1, or booleans: whether the label applies. Targets on the GPU are not checked.
    positive_weights : (K,) array, optional
        Positive numbers w by which the terms of labels that apply are multiplied; above 1 for
        labels that are rare.

    Returns
    -------
    loss : float
        With logits on the GPU, an array of one number there.
    dlogits : array of the logits' shape
        ``(w t (p - 1) + (1 - t) p) / logits.size``.

    Raises
    ------
    ValueError, TypeError
        If the shapes differ or are empty, a number is out of range, or a dtype is wrong.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_stn.nn import binary_cross_entropy
    >>> loss, dlogits = binary_cross_entropy(np.zeros((1, 2)), np.array([[1, 0]]))
    >>> print(round(loss, 4), dlogits)
    0.6931 [[-0.25  0.25]]
    """
    logits, t = checked_pair("logits", logits, targets)
    if not is_cupy(t) and not (0 <= t.min() and t.max() <= 1):
        raise ValueError(f"targets: expected numbers from 0 to 1, got {t.min()} to {t.max()}")
    real = logits.dtype.type
    weighted = t if positive_weights is None else (
        t * _checked_weights("positive_weights", positive_weights, logits)
    )  # fmt: skip
    rest = np.log1p(np.exp(-np.abs(logits)))  # log(1 + e^x) = max(x, 0) + rest, for x and -x
    terms = weighted * (np.maximum(-logits, real(0)) + rest)
    terms = terms + (1 - t) * (np.maximum(logits, real(0)) + rest)
    p = logistic(logits)
    slopes = (1 - t) * p - weighted * logistic(-logits)
    return as_number(terms.mean()), slopes / real(logits.size)


# --- Numbers --------------------------------------------------------------------------------------


def mean_squared_error(outputs: Any, targets: Any) -> tuple[Any, Any]:
    """Mean squared error of outputs and targets of one shape, and its gradient.

    ``loss = mean (outputs - targets)^2`` over all elements.

    Parameters
    ----------
    outputs, targets : floating arrays of one shape
        Of NumPy or CuPy. NumPy targets are copied to the GPU if the outputs are there.

    Returns
    -------
    loss : float
        With outputs on the GPU, an array of one number there.
    doutputs : array of the outputs' shape
        ``2 (outputs - targets) / outputs.size``.

    Raises
    ------
    ValueError, TypeError
        If the shapes differ or are empty, the outputs are not floating, or the targets not real.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_stn.nn import mean_squared_error
    >>> mean_squared_error(np.array([1.0, 3.0]), np.array([1.0, 1.0]))
    (2.0, array([0., 2.]))
    """
    outputs, targets = checked_pair("outputs", outputs, targets)
    difference = outputs - targets
    return as_number((difference * difference).mean()), difference * outputs.dtype.type(
        2 / outputs.size
    )


def huber(outputs: Any, targets: Any, delta: float = 1.0) -> tuple[Any, Any]:
    """Huber loss of outputs and targets of one shape, and its gradient (Huber 1964).

    ``loss = mean h(outputs - targets)`` over all elements, with ``h(d) = d^2 / 2`` where
    ``|d| <= delta``, and ``delta (|d| - delta / 2)`` elsewhere. Outliers pull less than with
    :func:`mean_squared_error`.

    Parameters
    ----------
    outputs, targets : floating arrays of one shape
        Of NumPy or CuPy. NumPy targets are copied to the GPU if the outputs are there.
    delta : float
        Positive; the difference at which the loss becomes linear.

    Returns
    -------
    loss : float
        With outputs on the GPU, an array of one number there.
    doutputs : array of the outputs' shape
        The difference, limited to -delta and delta, divided by ``outputs.size``.

    Raises
    ------
    ValueError, TypeError
        If the shapes differ or are empty, ``delta`` is not positive, the outputs are not floating,
        or the targets not real.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_stn.nn import huber
    >>> huber(np.array([1.5, 4.0]), np.array([1.0, 1.0]))
    (1.3125, array([0.25, 0.5 ]))
    """
    check_positive("huber", delta=delta)
    outputs, targets = checked_pair("outputs", outputs, targets)
    real = outputs.dtype.type
    difference = outputs - targets
    slope = np.minimum(np.maximum(difference, real(-delta)), real(delta))
    terms = slope * (difference - slope / real(2))
    return as_number(terms.mean()), slope / real(outputs.size)


# --- Checks ---------------------------------------------------------------------------------------


def checked_pair(name: str, outputs: Any, targets: Any) -> tuple[Any, Any]:
    """The outputs, and the targets in their dtype and where they are."""
    outputs = floating(name, outputs)
    targets = to_device_of(as_array(targets, "targets"), outputs)
    if outputs.shape != targets.shape:
        raise ValueError(
            f"targets: expected the {name}' shape {outputs.shape}, got {targets.shape}"
        )
    if targets.dtype.kind not in "fiub":
        raise TypeError(f"targets: expected real numbers, got {targets.dtype}")
    if not outputs.size:
        raise ValueError(f"{name}: expected at least one number, got shape {outputs.shape}")
    namespace(outputs, targets)  # raises a clear error if only one is on the GPU
    return outputs, targets.astype(outputs.dtype, copy=False)


def _checked_weights(name: str, weights: Any, logits: Any) -> Any:
    """Positive weights, one for each of the last axis's elements, in the logits' dtype there."""
    weights = as_array(weights, name)
    if weights.dtype.kind not in "fiu":
        raise TypeError(f"{name}: expected real numbers, got {weights.dtype}")
    if weights.shape != logits.shape[-1:]:
        raise ValueError(f"{name}: expected shape {logits.shape[-1:]}, got {weights.shape}")
    if not is_cupy(weights) and not ((weights > 0) & np.isfinite(weights)).all():
        raise ValueError(f"{name}: expected positive finite numbers, got {weights.tolist()}")
    return to_device_of(weights.astype(logits.dtype), logits)


def floating(name: str, array: Any) -> Any:
    """The array; raises if it is not of floating numbers."""
    array = as_array(array, name)
    if array.dtype.kind != "f":
        raise TypeError(f"{name}: expected floating numbers, got {array.dtype}")
    return array


def as_number(mean: Any) -> Any:
    """A float; on the GPU an array of one number, in float64 as Python's floats are."""
    return mean.astype(np.float64) if is_cupy(mean) else float(mean)
