"""Losses: the mean over the batch, and its gradient with respect to what it was computed from."""

from typing import Any

import numpy as np

from ..utils.namespace import as_array, is_cupy, namespace, to_device_of


def softmax_cross_entropy(
    logits: Any, labels: Any, label_smoothing: float = 0.0
) -> tuple[Any, Any]:
    """``mean_n -log softmax(logits[n])[labels[n]]`` and its gradient.

    With ``label_smoothing``, PyTorch's, the right class is to get that much less than the whole,
    and every class an equal part of it: ``-sum_k target[k] log softmax(logits[n])[k]`` with the
    ``target = (1 - label_smoothing) onehot(labels[n]) + label_smoothing / classes`` (Szegedy et
    al. 2015, section 7). A network so trained is less sure of itself, and often errs less.

    Parameters
    ----------
    logits : (N, classes) floating array
        Of NumPy or CuPy.
    labels : (N,) integer array
        Each in [0, classes). With logits on the GPU, labels of NumPy are checked and copied there;
        those of CuPy are not waited for: one out of range makes the loss NaN.
    label_smoothing : float
        From 0 to 1.

    Returns
    -------
    loss : float
        With logits on the GPU, an array of one number there: nothing is waited for.
    dlogits : (N, classes) array
        ``(softmax(logits) - target) / N``.

    Raises
    ------
    ValueError, TypeError
        If shapes do not match, the batch is empty, a label or the smoothing is out of range, or a
        dtype is wrong.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_stn.nn import softmax_cross_entropy
    >>> loss, dlogits = softmax_cross_entropy(np.zeros((1, 2)), np.array([1]))
    >>> print(round(loss, 4), dlogits)
    0.6931 [[ 0.5 -0.5]]
    """
    logits = _floating("logits", logits)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing: expected a number from 0 to 1, got {label_smoothing!r}")
    return cross_entropy(logits, labels_for(logits, labels), label_smoothing)


def labels_for(logits: Any, labels: Any) -> Any:
    """The labels where the logits are, checked; those on the GPU already for shape and type."""
    labels = as_array(labels, "labels")
    if labels.dtype.kind not in "iu":
        raise TypeError(f"labels: expected integers, got {labels.dtype}")
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(
            f"labels: expected one for each row of logits {logits.shape}, got {labels.shape}"
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
    """:func:`softmax_cross_entropy` of what is known to be right."""
    each = namespace(logits, labels).arange(len(labels))
    logs = _log_softmax(logits)
    dlogits = np.exp(logs)
    own = logs[each, labels]
    if label_smoothing:
        right = logits.dtype.type(1 - label_smoothing)
        dlogits -= logits.dtype.type(label_smoothing / logits.shape[1])
        dlogits[each, labels] -= right
        own = right * own + logits.dtype.type(label_smoothing) * logs.mean(1)
    else:
        dlogits[each, labels] -= 1
    if is_cupy(own):  # where an index out of range wraps around
        own = np.where((labels >= 0) & (labels < logits.shape[1]), own, own.dtype.type(np.nan))
    return _number(-own.mean()), dlogits / logits.dtype.type(len(labels))


def _log_softmax(logits):
    """``log softmax(logits)``, each row from its largest, for exp not to overflow."""
    largest = logits.max(1, keepdims=True)
    below = logits - np.where(np.isfinite(largest), largest, largest.dtype.type(0))
    with np.errstate(divide="ignore"):
        return below - np.log(np.exp(below).sum(1, keepdims=True))


def mean_squared_error(outputs: Any, targets: Any) -> tuple[Any, Any]:
    """``mean (outputs - targets)^2`` over all elements, and its gradient.

    Parameters
    ----------
    outputs, targets : floating arrays of one shape
        Of NumPy or CuPy; targets of NumPy are copied to the GPU if the outputs are there.

    Returns
    -------
    loss : float
        With outputs on the GPU, an array of one number there.
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
    targets = to_device_of(as_array(targets, "targets"), outputs)
    if outputs.shape != targets.shape:
        raise ValueError(
            f"targets: expected the outputs' shape {outputs.shape}, got {targets.shape}"
        )
    namespace(outputs, targets)  # nothing but a clear error if they are apart
    difference = outputs - targets.astype(outputs.dtype, copy=False)
    return _number((difference * difference).mean()), difference * outputs.dtype.type(
        2 / outputs.size
    )


def _floating(name: str, array: Any) -> Any:
    array = as_array(array, name)
    if array.dtype.kind != "f":
        raise TypeError(f"{name}: expected floating numbers, got {array.dtype}")
    return array


def _number(mean: Any) -> Any:
    """A float; on the GPU an array of one, in float64 as Python's floats are."""
    return mean.astype(np.float64) if is_cupy(mean) else float(mean)
