"""Layers of features: fully connected, ReLU, flatten.

A layer is a small frozen value whose repr shows the architecture; see :mod:`.base`. The other
layers are in :mod:`.activations`, :mod:`.convolution`, :mod:`.pooling`, :mod:`.normalisation`,
:mod:`.dropout`, :mod:`.containers` and :mod:`.transformer`.
"""

from dataclasses import dataclass
from math import prod

import numpy as np

from .base import Layer, he_normal, zeros
from .batch_blocked import BatchBlocked, kernels_for
from .checks import batch_of, check_whole


@dataclass(frozen=True)
class Linear(Layer):
    """``y = x W^T + b``: (N, inputs) -> (N, features)."""

    name = "linear"

    features: int

    def __post_init__(self):
        """Check the argument."""
        check_whole(self.name, features=self.features)

    def init(self, rng, shape):
        """He-normal weights (features, inputs), zero bias."""
        self.output_shape(shape)
        return {"weight": he_normal(rng, (self.features, *shape)), "bias": zeros(self.features)}

    def output_shape(self, shape):
        """(features,)."""
        if len(shape) != 1:
            raise ValueError(
                f"{self.name}: x: expected shape (N, inputs), got {batch_of(shape)}; put flatten() "
                f"before"
            )
        return (self.features,)

    def forward(self, params, x, wrt_x=True):
        """See the class."""
        weight = params["weight"]

        def pullback(dy):
            return {"weight": dy.T @ x, "bias": dy.sum(0)}, dy @ weight if wrt_x else None

        return x @ weight.T + params["bias"], pullback


@dataclass(frozen=True)
class Relu(BatchBlocked):
    """``max(x, 0)``; the slope at 0 is 0."""

    name = "relu"

    def forward(self, params, x, wrt_x=True):
        """See the class."""
        y = np.maximum(x, 0)
        return y, lambda dy: ((), np.where(y > 0, dy, dy.dtype.type(0)))

    def blocked_forward(self, params, x, wrt_x=True):
        """See the class."""
        kernels, _ = kernels_for(x)
        y = kernels.relu(x)
        return y, lambda dy: ((), kernels.relu_vjp(dy, y))


@dataclass(frozen=True)
class Flatten(Layer):
    """(N, ...) -> (N, features)."""

    name = "flatten"

    def output_shape(self, shape):
        """(product of the sides,)."""
        return (prod(shape),)

    def forward(self, params, x, wrt_x=True):
        """See the class."""
        return x.reshape(len(x), prod(x.shape[1:])), lambda dy: ((), dy.reshape(x.shape))


# --- The functions that networks are written with -------------------------------------------------


def linear(features: int) -> Linear:
    """Fully connected layer: (N, inputs) -> (N, features).

    ``y = x W^T + b``. Initial weights are normal, of variance 2 / inputs (He et al. 2015), and the
    bias is 0.

    Parameters
    ----------
    features : int
        Number of outputs.

    Returns
    -------
    Linear

    Raises
    ------
    ValueError
        If ``features`` is not a positive whole number.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_stn import nn
    >>> layer = nn.linear(3)
    >>> params = layer.init(np.random.default_rng(0), (5,))
    >>> y, pullback, _ = layer.apply(params, np.ones((2, 5), np.float32))
    >>> y.shape
    (2, 3)
    """
    return Linear(features)


def relu() -> Relu:
    """Rectified linear unit: ``max(x, 0)``, for arrays of any shape.

    Returns
    -------
    Relu

    Examples
    --------
    >>> import numpy as np
    >>> from numba_stn import nn
    >>> y, _, _ = nn.relu().apply((), np.array([[-1.0, 2.0]]))
    >>> y
    array([[0., 2.]])
    """
    return Relu()


def flatten() -> Flatten:
    """Flatten each example to a vector: (N, C, H, W) -> (N, C H W).

    Returns
    -------
    Flatten

    Examples
    --------
    >>> from numba_stn import nn
    >>> nn.flatten().output_shape((8, 4, 4))
    (128,)
    """
    return Flatten()
