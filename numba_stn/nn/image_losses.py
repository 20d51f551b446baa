"""Losses for the registration of images: correlation, overlap, and the smoothness of a field.

As those in :mod:`.losses`, each returns its value and its gradient with respect to the first
argument.
"""

from typing import Any

import numpy as np

from ..utils.namespace import as_array, namespace
from .checks import check_positive, check_whole
from .losses import as_number, checked_pair, floating

# --- Correlation ----------------------------------------------------------------------------------


def cross_correlation(
    outputs: Any, targets: Any, window: int | None = 9, epsilon: float = 1e-5
) -> tuple[Any, Any]:
    """Loss of normalised cross-correlation of two batches of images, and its gradient.

    ``loss = 1 - mean cov(outputs, targets)^2 / (var(outputs) var(targets) + epsilon)``, where the
    moments are those of the pixels in a window around each pixel (Avants et al. 2008, and the loss
    NCC of VoxelMorph). It does not change with the contrast and the brightness of either image,
    also if they vary slowly across it, and is 0 where one is a linear function of the other.

    Parameters
    ----------
    outputs, targets : (N, C, H, W) or (N, C, D, H, W) floating arrays of one shape
        Of NumPy or CuPy.
    window : int or None
        Odd side of the window in pixels; None for the whole image. At the edges, windows have
        fewer pixels.
    epsilon : float
        Positive; in units of the variances' product. Windows of constant pixels have no
        correlation.

    Returns
    -------
    loss : float
        From 0 to 1. With outputs on the GPU, an array of one number there.
    doutputs : array of the outputs' shape

    Raises
    ------
    ValueError, TypeError
        If the shapes differ or are empty, the window is not odd, or a dtype is wrong.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_stn import nn
    >>> images = np.random.default_rng(0).random((1, 1, 20, 20))
    >>> loss, gradient = nn.cross_correlation(3 * images + 1, images, window=None)
    >>> bool(loss < 0.01)
    True
    """
    outputs, targets = checked_pair("outputs", outputs, targets)
    if outputs.ndim not in (4, 5):
        raise ValueError(f"outputs: expected shape (N, C, H, W) or (N, C, D, H, W), got "
                         f"{outputs.shape}")  # fmt: skip
    if window is not None:
        check_whole("cross_correlation", window=window)
        if window % 2 == 0:
            raise ValueError(f"cross_correlation: window: expected an odd number, got {window}")
    check_positive("cross_correlation", epsilon=epsilon)
    x, y = outputs.astype(np.float64), targets.astype(np.float64)
    counts = _sums(np.ones_like(x[:1, :1]), window)
    mean_x, mean_y = (_sums(values, window) / counts for values in (x, y))
    covariance = _sums(x * y, window) / counts - mean_x * mean_y
    variance_x = _sums(x * x, window) / counts - mean_x * mean_x
    variance_y = _sums(y * y, window) / counts - mean_y * mean_y
    product = variance_x * variance_y + epsilon
    ratio = covariance / product
    loss = 1 - (covariance * ratio).mean()
    # The gradients of the window's moments, and back through its means.
    dcovariance = -2 * ratio / (x.size * counts)
    dvariance = ratio * ratio * variance_y / (x.size * counts)
    doutputs = _sums(dcovariance, window) * y + 2 * _sums(dvariance, window) * x
    doutputs -= _sums(dcovariance * mean_y + 2 * dvariance * mean_x, window)
    return as_number(loss), doutputs.astype(outputs.dtype)


def _sums(values, window):
    """The sum over each pixel's window, which ends at the edges; its own transpose."""
    for axis in range(2, values.ndim):
        side = values.shape[axis]
        if window is None or window >= 2 * side - 1:
            values = np.broadcast_to(values.sum(axis, keepdims=True), values.shape)
            continue
        sums = np.moveaxis(np.cumsum(values, axis), axis, 0)
        zero = np.zeros_like(sums[:1])
        index = np.arange(side)
        high = np.concatenate([zero, sums])[np.minimum(index + window // 2 + 1, side)]
        low = np.concatenate([zero, sums])[np.maximum(index - window // 2, 0)]
        values = np.moveaxis(high - low, 0, axis)
    return values


# --- Overlap --------------------------------------------------------------------------------------


def dice(outputs: Any, targets: Any, epsilon: float = 1e-5) -> tuple[Any, Any]:
    """Dice loss of two batches of soft masks, and its gradient.

    ``loss = 1 - mean (2 sum outputs targets + epsilon) / (sum outputs + sum targets + epsilon)``,
    where the sums are over the pixels, and the mean is over images and channels, one for each label
    (Dice 1945; Milletari et al. 2016 square the terms of the denominator).

    Parameters
    ----------
    outputs, targets : (N, C, ...) floating arrays of one shape
        From 0 to 1, which is not checked. Of NumPy or CuPy.
    epsilon : float
        Positive; two empty masks have a loss of 0.

    Returns
    -------
    loss : float
        With outputs on the GPU, an array of one number there.
    doutputs : array of the outputs' shape

    Raises
    ------
    ValueError, TypeError
        If the shapes differ or are empty, or a dtype is wrong.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_stn import nn
    >>> left, half = np.zeros((2, 1, 1, 4, 4))
    >>> left[..., :2], half[..., 1:3] = 1, 1
    >>> print(round(nn.dice(left, half)[0], 3))
    0.5
    """
    check_positive("dice", epsilon=epsilon)
    outputs, targets = checked_pair("outputs", outputs, targets)
    if outputs.ndim < 3:
        raise ValueError(f"outputs: expected shape (N, C, ...), got {outputs.shape}")
    axes = tuple(range(2, outputs.ndim))
    both = 2 * (outputs * targets).sum(axes, keepdims=True) + epsilon
    either = outputs.sum(axes, keepdims=True) + targets.sum(axes, keepdims=True) + epsilon
    ratio = both / either
    doutputs = (ratio - 2 * targets) / (either * ratio.size)
    return as_number(1 - ratio.mean()), doutputs.astype(outputs.dtype)


# --- Smoothness -----------------------------------------------------------------------------------


def smoothness(displacement: Any) -> tuple[Any, Any]:
    """Mean squared differences of neighbours in a displacement or velocity field, and its gradient.

    ``value = mean over axes of mean (u(x + 1) - u(x))^2``, as the penalty Grad of VoxelMorph
    (Balakrishnan et al. 2019). Add it to the loss of a registration, times a weight.

    Parameters
    ----------
    displacement : (N, H, W, 2) or (N, D, H, W, 3) floating array
        Of NumPy or CuPy.

    Returns
    -------
    value : float
        With a field on the GPU, an array of one number there.
    ddisplacement : array of the field's shape

    Raises
    ------
    ValueError, TypeError
        If the shape or the dtype is wrong.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_stn import nn
    >>> steps = np.zeros((1, 3, 3, 2))
    >>> steps[..., 0] = np.arange(3)
    >>> nn.smoothness(steps)[0]
    0.25
    """
    field = floating("displacement", as_array(displacement, "displacement"))
    if field.ndim not in (4, 5) or field.shape[-1] != field.ndim - 2 or 0 in field.shape:
        raise ValueError(
            f"displacement: expected shape (N, H, W, 2) or (N, D, H, W, 3), got {field.shape}"
        )
    value, gradient, axes = namespace(field).zeros(()), np.zeros_like(field), field.ndim - 2
    for axis in range(1, 1 + axes):
        steps = np.diff(field, axis=axis)
        if steps.size:
            value = value + (steps * steps).mean(dtype=np.float64) / axes
            slopes = np.moveaxis(steps * field.dtype.type(2 / (axes * steps.size)), axis, 0)
            along = np.moveaxis(gradient, axis, 0)
            along[1:] += slopes
            along[:-1] -= slopes
    return as_number(value), gradient
