"""The pooling layers."""

from dataclasses import dataclass
from math import prod

import numpy as np

from .base import Layer
from .batch_blocked import Windowed, kernels_for, output_sides
from .checks import batch_of, check_whole


@dataclass(frozen=True)
class MaxPool(Windowed):
    """Largest value of each (kernel, kernel) window; incomplete windows are dropped."""

    name = "max_pool"

    kernel: int = 2

    def __post_init__(self):
        """Check the argument."""
        check_whole("max_pool", kernel=self.kernel)

    def output_shape(self, shape):
        """(C, H // kernel, W // kernel)."""
        sides = output_sides("max_pool", shape, self.kernel, self.kernel)
        return (shape[0], *sides)

    def blocked_forward(self, params, x, wrt_x=True):
        """See the class."""
        kernels, _ = kernels_for(x)
        y, index = kernels.max_pool(x, self.kernel)
        return y, lambda dy: ((), kernels.max_pool_vjp(dy, index, x.shape, self.kernel))


@dataclass(frozen=True)
class AvgPool(Windowed):
    """Mean of each (kernel, kernel) window; incomplete windows are dropped."""

    name = "avg_pool"

    kernel: int = 2

    def __post_init__(self):
        """Check the argument."""
        check_whole("avg_pool", kernel=self.kernel)

    def output_shape(self, shape):
        """(C, H // kernel, W // kernel)."""
        sides = output_sides("avg_pool", shape, self.kernel, self.kernel)
        return (shape[0], *sides)

    def blocked_forward(self, params, x, wrt_x=True):
        """See the class."""
        k = self.kernel
        h, w = (side // k for side in x.shape[2:4])
        windows = x[:, :, : h * k, : w * k].reshape(*x.shape[:2], h, k, w, k, *x.shape[4:])
        y = windows[:, :, :, 0, :, 0].copy()  # a mean over two axes takes NumPy three times as long
        for element in range(1, k * k):
            y += windows[:, :, :, element // k, :, element % k]
        y /= x.dtype.type(k * k)

        def pullback(dy):
            dx = np.zeros_like(x)
            dx[:, :, : h * k, : w * k] = (dy / (k * k)).repeat(k, 2).repeat(k, 3)
            return (), dx

        return y, pullback


@dataclass(frozen=True)
class GlobalAvgPool(Layer):
    """Mean of each channel: (N, C, ...) -> (N, C)."""

    name = "global_avg_pool"

    def output_shape(self, shape):
        """(C,)."""
        if len(shape) < 2 or 0 in shape[1:]:
            raise ValueError(
                f"{self.name}: x: expected shape (N, C, H, W), with sides of at least one pixel, "
                f"got {batch_of(shape)}"
            )
        return shape[:1]

    def forward(self, params, x, wrt_x=True):
        """See the class."""
        pixels = prod(x.shape[2:])
        y = x.reshape(*x.shape[:2], pixels).mean(2)

        def pullback(dy):
            dx = (dy / dy.dtype.type(pixels)).reshape(*dy.shape, 1).repeat(pixels, 2)
            return (), dx.reshape(x.shape)

        return y, pullback


def max_pool(kernel: int = 2) -> MaxPool:
    """Max pooling layer: (N, C, H, W) -> (N, C, H // kernel, W // kernel).

    Parameters
    ----------
    kernel : int
        Side of a window, and the step from one window to the next, in pixels. Rows and columns
        that do not fill a window are dropped.

    Returns
    -------
    MaxPool

    Raises
    ------
    ValueError
        If ``kernel`` is not a positive whole number.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_stn import nn
    >>> x = np.arange(16.0).reshape(1, 1, 4, 4)
    >>> y, _, _ = nn.max_pool(2).apply((), x)
    >>> y[0, 0]
    array([[ 5.,  7.],
           [13., 15.]])
    """
    return MaxPool(kernel)


def avg_pool(kernel: int = 2) -> AvgPool:
    """Average pooling layer: (N, C, H, W) -> (N, C, H // kernel, W // kernel).

    Parameters
    ----------
    kernel : int
        Side of a window, and the step from one window to the next, in pixels. Rows and columns
        that do not fill a window are dropped.

    Returns
    -------
    AvgPool

    Raises
    ------
    ValueError
        If ``kernel`` is not a positive whole number.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_stn import nn
    >>> x = np.arange(16.0).reshape(1, 1, 4, 4)
    >>> y, _, _ = nn.avg_pool(2).apply((), x)
    >>> y[0, 0]
    array([[ 2.5,  4.5],
           [10.5, 12.5]])
    """
    return AvgPool(kernel)


def global_avg_pool() -> GlobalAvgPool:
    """Global average pooling layer: (N, C, H, W) -> (N, C), the mean of each channel.

    Before the last linear layer it replaces :func:`flatten`: the network then has far fewer
    weights, and takes images of any size (Lin et al. 2014). Volumes work too.

    Returns
    -------
    GlobalAvgPool

    Examples
    --------
    >>> import numpy as np
    >>> from numba_stn import nn
    >>> x = np.arange(8.0).reshape(1, 2, 2, 2)
    >>> y, _, _ = nn.global_avg_pool().apply((), x)
    >>> y
    array([[1.5, 5.5]])
    """
    return GlobalAvgPool()
