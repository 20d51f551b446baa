"""Losses: the mean over the batch, and its gradient with respect to what it was computed from."""

from typing import Any

import numpy as np
from scipy.special import log_softmax


def softmax_cross_entropy(logits: Any, labels: Any) -> tuple[float, Any]:
    """``mean_n -log softmax(logits[n])[labels[n]]`` and its gradient.

    Parameters
    ----------
    logits : (N, classes) floating array
    labels : (N,) integer array
        Each in [0, classes).

    Returns
    -------
    loss : float
    dlogits : (N, classes) array
        ``(softmax(logits) - onehot(labels)) / N``.

    Raises
    ------
    ValueError, TypeError
        If shapes do not match, the batch is empty, a label is out of range, or a dtype is wrong.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_stn.nn import softmax_cross_entropy
    >>> loss, dlogits = softmax_cross_entropy(np.zeros((1, 2)), np.array([1]))
    >>> print(round(loss, 4), dlogits)
    0.6931 [[ 0.5 -0.5]]
    """
    logits, labels = _floating("logits", logits), np.asarray(labels)
    if labels.dtype.kind not in "iu":
        raise TypeError(f"labels: expected integers, got {labels.dtype}")
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(
            f"labels: expected one for each row of logits {logits.shape}, got {labels.shape}"
        )
    if not labels.size:
        raise ValueError("labels: expected at least one, got an empty batch")
    if not (0 <= labels.min() and labels.max() < logits.shape[1]):
        raise ValueError(
            f"labels: expected integers in [0, {logits.shape[1]}), "
            f"got {labels.min()} to {labels.max()}"
        )
    each = np.arange(len(labels))
    logs = log_softmax(logits, axis=1)
    dlogits = np.exp(logs)
    dlogits[each, labels] -= 1
    return float(-logs[each, labels].mean()), dlogits / logits.dtype.type(len(labels))


def mean_squared_error(outputs: Any, targets: Any) -> tuple[float, Any]:
    """``mean (outputs - targets)^2`` over all elements, and its gradient.

    Parameters
    ----------
    outputs, targets : floating arrays of one shape

    Returns
    -------
    loss : float
    doutputs : array
        ``2 (outputs - targets) / size``.

    Raises
    ------
    ValueError, TypeError
        If the shapes differ, or the outputs are not floating.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_stn.nn import mean_squared_error
    >>> mean_squared_error(np.array([1.0, 3.0]), np.array([1.0, 1.0]))
    (2.0, array([0., 2.]))
    """
    outputs = _floating("outputs", outputs)
    if outputs.shape != np.shape(targets):
        raise ValueError(
            f"targets: expected the outputs' shape {outputs.shape}, got {np.shape(targets)}"
        )
    difference = outputs - np.asarray(targets, outputs.dtype)
    return float((difference**2).mean()), difference * outputs.dtype.type(2 / outputs.size)


def _floating(name: str, array: Any) -> Any:
    array = np.asarray(array)
    if array.dtype.kind != "f":
        raise TypeError(f"{name}: expected floating numbers, got {array.dtype}")
    return array
