"""The convolution layer."""

from dataclasses import dataclass

import numpy as np

from ..utils.namespace import namespace
from .base import he_normal, zeros
from .batch_blocked import Windowed, kernels_for, output_sides, window_margins
from .checks import check_whole


@dataclass(frozen=True)
class Conv2d(Windowed):
    """Cross-correlation with weights (features, C, kernel, kernel) and a bias (features,).

    See :mod:`numba_stn.kernels.layers.convolution`.
    """

    name = "conv2d"

    features: int
    kernel: int
    stride: int = 1
    padding: int | str = 0

    def __post_init__(self):
        """Check the arguments."""
        check_whole("conv2d", features=self.features, kernel=self.kernel, stride=self.stride)
        if not isinstance(self.padding, str):
            check_whole("conv2d", 0, padding=self.padding)
        elif self.padding != "same":
            raise ValueError(
                f'conv2d: padding must be a whole number of at least 0, or "same", '
                f"got {self.padding!r}"
            )

    def init(self, rng, shape):
        """He-normal weights, zero bias."""
        self.output_shape(shape)
        weight = he_normal(rng, (self.features, shape[0], self.kernel, self.kernel))
        return {"weight": weight, "bias": zeros(self.features)}

    def output_shape(self, shape):
        """(features, H_out, W_out)."""
        sides = output_sides("conv2d", shape, self.kernel, self.stride, self.padding)
        return (self.features, *sides)

    def margins(self, sides):
        """The zeros (top, bottom, left, right) around images with the ``sides`` (H, W)."""
        return window_margins(sides, self.kernel, self.stride, self.padding)

    def blocked_forward(self, params, x, wrt_x=True):
        """See the class."""
        weight, margins = params["weight"], self.margins(x.shape[2:4])
        layout, kernels = kernels_for(x, weight)
        dtype = np.result_type(x.dtype, weight.dtype)
        padded = layout.padded(x.astype(dtype, copy=False), margins)

        def pullback(dy):
            dy = dy.astype(dtype, copy=False)
            dweight, dbias = kernels.convolve_vjp_weight(dy, padded, weight.shape, self.stride)
            dx = None
            if wrt_x:
                dx = kernels.convolve_vjp_x(dy, weight, padded.shape, self.stride)
                dx = namespace(dx).ascontiguousarray(layout.cropped(dx, margins))
            return {"weight": dweight, "bias": dbias}, dx

        return kernels.convolve(padded, weight, params["bias"], self.stride), pullback


def conv2d(features: int, kernel: int, stride: int = 1, padding: int | str = 0) -> Conv2d:
    """Convolution layer: (N, C, H, W) -> (N, features, H_out, W_out).

    ``y[n, f] = bias[f] + sum_c weight[f, c] * x[n, c]``, a cross-correlation with square windows.

    Parameters
    ----------
    features : int
        Number of output channels.
    kernel : int
        Side of the window, in pixels.
    stride : int
        Pixels from one window to the next.
    padding : int or "same"
        Number of zeros around each channel. ``H_out = (H + 2 padding - kernel) // stride + 1``.
        With "same", the number of zeros with which ``H_out = ceil(H / stride)``: the input's sides,
        if the stride is 1. If it cannot be the same at both ends, there is one more at the bottom
        or at the right, as in TensorFlow, and as in PyTorch for a stride of 1.

    Returns
    -------
    Conv2d

    Raises
    ------
    ValueError
        If a number is out of range.

    Examples
    --------
    >>> from numba_stn import nn
    >>> nn.conv2d(8, 5).output_shape((1, 28, 28))
    (8, 24, 24)
    >>> nn.conv2d(8, 5, stride=2, padding="same").output_shape((1, 28, 28))
    (8, 14, 14)
    """
    return Conv2d(features, kernel, stride, padding)
