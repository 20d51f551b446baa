"""Activations besides ReLU: tanh, sigmoid, leaky ReLU and softmax.

They act on each element or, the softmax, on each pixel's channels, so they work on batch blocks as
they do on images: channels are the second axis of both.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from .batch_blocked import BatchBlocked
from .checks import batch_of, check_number


class Activation(BatchBlocked):
    """A layer whose function is the same on images, on batch blocks, and on vectors."""

    def blocked_forward(self, params, x, wrt_x=True):
        """See the class."""
        return self.forward(params, x, wrt_x)


@dataclass(frozen=True)
class Tanh(Activation):
    """``tanh(x)``."""

    name = "tanh"

    def forward(self, params, x, wrt_x=True):
        """See the class."""
        y = np.tanh(x)
        return y, lambda dy: ((), dy * (1 - y * y))


@dataclass(frozen=True)
class Sigmoid(Activation):
    """``1 / (1 + exp(-x))``."""

    name = "sigmoid"

    def forward(self, params, x, wrt_x=True):
        """See the class."""
        y = logistic(x)
        return y, lambda dy: ((), dy * (y * (1 - y)))


@dataclass(frozen=True)
class LeakyRelu(Activation):
    """``x`` where it is positive, and ``slope x`` elsewhere; the slope at 0 is ``slope``."""

    name = "leaky_relu"

    slope: float = 0.01

    def __post_init__(self):
        """Check the slope."""
        check_number(self.name, slope=self.slope)

    def forward(self, params, x, wrt_x=True):
        """See the class."""
        slope, positive = x.dtype.type(self.slope), x > 0
        return np.where(positive, x, slope * x), lambda dy: ((), np.where(positive, dy, slope * dy))


@dataclass(frozen=True)
class Softmax(Activation):
    """``exp(x_k) / sum_j exp(x_j)`` over channels, at each pixel."""

    name = "softmax"

    def output_shape(self, shape):
        """The input's."""
        if not shape or not shape[0]:
            raise ValueError(
                f"{self.name}: x: expected shape (N, features) or (N, C, ...) with at least one "
                f"channel, got {batch_of(shape)}"
            )
        return shape

    def forward(self, params, x, wrt_x=True):
        """See the class."""
        powers = np.exp(x - x.max(1, keepdims=True))
        y = powers / powers.sum(1, keepdims=True)
        return y, lambda dy: ((), y * (dy - (dy * y).sum(1, keepdims=True)))


def logistic(x: Any) -> Any:
    """``1 / (1 + exp(-x))``, without overflow and with full precision on both sides."""
    power = np.exp(-np.abs(x))
    return np.where(x < 0, power, x.dtype.type(1)) / (1 + power)


# --- The functions that networks are written with -------------------------------------------------


def tanh() -> Tanh:
    """Hyperbolic tangent: ``tanh(x)``, for arrays of any shape.

    Returns
    -------
    Tanh

    Examples
    --------
    >>> import numpy as np
    >>> from numba_stn import nn
    >>> y, _, _ = nn.tanh().apply((), np.array([[-1.0, 0.0, 1.0]]))
    >>> y.round(4)
    array([[-0.7616,  0.    ,  0.7616]])
    """
    return Tanh()


def sigmoid() -> Sigmoid:
    """Logistic function: ``1 / (1 + exp(-x))``, for arrays of any shape.

    Returns
    -------
    Sigmoid

    Examples
    --------
    >>> import numpy as np
    >>> from numba_stn import nn
    >>> y, _, _ = nn.sigmoid().apply((), np.array([[-2.0, 0.0, 2.0]]))
    >>> y.round(4)
    array([[0.1192, 0.5   , 0.8808]])
    """
    return Sigmoid()


def leaky_relu(slope: float = 0.01) -> LeakyRelu:
    """Leaky ReLU: ``x`` where it is positive, ``slope x`` elsewhere, for arrays of any shape.

    Maas et al. 2013.

    Parameters
    ----------
    slope : float
        At least 0, which is :func:`relu`.

    Returns
    -------
    LeakyRelu

    Raises
    ------
    ValueError, TypeError
        If ``slope`` is not a finite number of at least 0.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_stn import nn
    >>> y, _, _ = nn.leaky_relu(0.1).apply((), np.array([[-2.0, 3.0]]))
    >>> y
    array([[-0.2,  3. ]])
    """
    return LeakyRelu(slope)


def softmax() -> Softmax:
    """Softmax over channels: (N, features) or (N, C, ...) -> the same shape.

    ``y[n, k] = exp(x[n, k]) / sum_j exp(x[n, j])``, so that each y is positive and their sum over k
    is 1. For training, end the network with the logits instead:
    :func:`softmax_cross_entropy` has the softmax inside.

    Returns
    -------
    Softmax

    Examples
    --------
    >>> import numpy as np
    >>> from numba_stn import nn
    >>> y, _, _ = nn.softmax().apply((), np.log([[1.0, 3.0]]))
    >>> y.round(6)
    array([[0.25, 0.75]])
    """
    return Softmax()
