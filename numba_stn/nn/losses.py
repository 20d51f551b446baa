"""Losses: the mean over the batch, and its gradient with respect to the network's output."""

from numbers import Real
from typing import Any

import numpy as np

from ..utils.namespace import as_array, is_cupy, namespace, to_device_of


def softmax_cross_entropy(
    logits: Any, labels: Any, label_smoothing: float = 0.0
) -> tuple[Any, Any]:
    """Softmax cross-entropy loss of logits (N, classes) and labels (N,), and its gradient.

    ``loss = mean_n -log softmax(logits[n])[labels[n]]``. With ``label_smoothing`` (Szegedy et al.
    2015, section 7; as in PyTorch) it is ``mean_n -sum_k target[k] log softmax(logits[n])[k]``,
    where ``target = (1 - label_smoothing) onehot(labels[n]) + label_smoothing / classes``. This
    makes a network less confident, and often more accurate.

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

    Returns
    -------
    loss : float
        With logits on the GPU, an array of one number there, so that nothing waits for the GPU.
    dlogits : (N, classes) array
        ``(softmax(logits) - target) / N``.

    Raises
    ------
    ValueError, TypeError
        If shapes do not match, the batch is empty, a label or ``label_smoothing`` is out of range,
        or a dtype is wrong.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_stn.nn import softmax_cross_entropy
    >>> loss, dlogits = softmax_cross_entropy(np.zeros((1, 2)), np.array([1]))
    >>> print(round(loss, 4), dlogits)
    0.6931 [[ 0.5 -0.5]]
    """
    logits = _floating("logits", logits)
    check_smoothing(label_smoothing)
    return cross_entropy(logits, checked_labels(logits, labels), label_smoothing)


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
    return _as_number(-found.mean()), dlogits / logits.dtype.type(len(labels))


def _log_softmax(logits):
    """``log softmax(logits)``; each row's largest logit is subtracted, so that exp is finite."""
    largest = logits.max(1, keepdims=True)
    shifted = logits - np.where(np.isfinite(largest), largest, largest.dtype.type(0))
    with np.errstate(divide="ignore"):
        return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


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
    outputs = _floating("outputs", outputs)
    targets = to_device_of(as_array(targets, "targets"), outputs)
    if outputs.shape != targets.shape:
        raise ValueError(
            f"targets: expected the outputs' shape {outputs.shape}, got {targets.shape}"
        )
    if targets.dtype.kind not in "fiub":
        raise TypeError(f"targets: expected real numbers, got {targets.dtype}")
    if not outputs.size:
        raise ValueError(f"outputs: expected at least one number, got shape {outputs.shape}")
    namespace(outputs, targets)  # raises a clear error if only one is on the GPU
    difference = outputs - targets.astype(outputs.dtype, copy=False)
    return _as_number((difference * difference).mean()), difference * outputs.dtype.type(
        2 / outputs.size
    )


def _floating(name: str, array: Any) -> Any:
    array = as_array(array, name)
    if array.dtype.kind != "f":
        raise TypeError(f"{name}: expected floating numbers, got {array.dtype}")
    return array


def _as_number(mean: Any) -> Any:
    """A float; on the GPU an array of one number, in float64 as Python's floats are."""
    return mean.astype(np.float64) if is_cupy(mean) else float(mean)
