"""The layers of volumes (N, C, D, H, W): convolution and pooling.

They are array operations of NumPy and CuPy. A convolution is matrix products of unfolded volumes
(im2col), a block of the output at a time, so that unfolded volumes take little memory: those of all
taps would be ``kernel**3`` times as large as the input. Blocks are the same on any machine, and are
added in order.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np

from ..kernels.layers.convolution import output_side
from ..utils.namespace import namespace
from . import cupy_layers
from .base import Layer, Shape, he_normal, zeros
from .checks import batch_of, check_whole

# The most numbers that are unfolded at once, unless a single row of an output needs more.
MOST_UNFOLDED = 2**22


# --- Convolution ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Conv3d(Layer):
    """Cross-correlation with weights (features, C, kernel, kernel, kernel) and a bias (features,).

    :func:`conv3d` makes one.
    """

    name = "conv3d"

    features: int
    kernel: int
    stride: int = 1
    padding: int | str = 0

    def __post_init__(self):
        """Check the arguments."""
        check_whole(self.name, features=self.features, kernel=self.kernel, stride=self.stride)
        if not isinstance(self.padding, str):
            check_whole(self.name, 0, padding=self.padding)
        elif self.padding != "same":
            raise ValueError(
                f'{self.name}: padding must be a whole number of at least 0, or "same", '
                f"got {self.padding!r}"
            )

    def init(self, rng, shape):
        """He-normal weights, zero bias."""
        self.output_shape(shape)
        weight = he_normal(rng, (self.features, shape[0], *[self.kernel] * 3))
        return {"weight": weight, "bias": zeros(self.features)}

    def output_shape(self, shape):
        """(features, D_out, H_out, W_out)."""
        return (self.features, *output_sides(self.name, shape, self))

    def margins(self, sides: Shape) -> list[tuple[int, int]]:
        """The zeros (before, after) along each axis of volumes with the ``sides`` (D, H, W).

        With the padding "same" there are ``ceil(side / stride)`` windows along a side. If the zeros
        that they need cannot be divided equally, there is one more at the end.
        """
        if self.padding != "same":
            return [(int(self.padding),) * 2] * 3
        lengths = [(-(-side // self.stride) - 1) * self.stride + self.kernel for side in sides]
        totals = [max(length - side, 0) for length, side in zip(lengths, sides, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]

    def forward(self, params, x, wrt_x=True):
        """See the class."""
        dtype = np.result_type(x.dtype, params["weight"].dtype)
        weight, bias = (params[key].astype(dtype, copy=False) for key in ("weight", "bias"))
        padded = _padded(_batch_last(x).astype(dtype, copy=False), self.margins(x.shape[2:]))
        flat = weight.reshape(self.features, prod(weight.shape[1:]))
        sides = output_sides(self.name, x.shape[1:], self)
        y = namespace(x).zeros((self.features, *sides, len(x)), dtype)
        for part in _parts(len(flat.T), y.shape):
            view = y[part]
            view[...] = (flat @ _unfolded(padded, self, part) + bias[:, None]).reshape(view.shape)

        def pullback(dy):
            dy = _batch_last(dy.astype(dtype, copy=False))
            return self._gradients(dy, weight, padded, x, wrt_x)

        return _batch_first(y), pullback

    def _gradients(self, dy, weight, padded, x, wrt_x):
        """Gradients with respect to the parameters and to x."""
        flat = weight.reshape(self.features, prod(weight.shape[1:]))
        dflat = 0 * flat
        dpadded = namespace(x).zeros(padded.shape, dy.dtype) if wrt_x else None
        for part in _parts(len(flat.T), dy.shape):
            own = dy[part].reshape(self.features, prod(dy[part].shape[1:]))
            dflat += own @ _unfolded(padded, self, part).T
            if wrt_x:
                _add_folded(dpadded, self, part, flat.T @ own)
        dparams = {"weight": dflat.reshape(weight.shape), "bias": dy.sum((1, 2, 3, 4))}
        if not wrt_x:
            return dparams, None
        return dparams, _batch_first(_inner(dpadded, self.margins(x.shape[2:]), x.shape[2:]))


def conv3d(features: int, kernel: int, stride: int = 1, padding: int | str = 0) -> Conv3d:
    """Convolution layer of volumes: (N, C, D, H, W) -> (N, features, D_out, H_out, W_out).

    ``y[n, f] = bias[f] + sum_c weight[f, c] * x[n, c]``, a cross-correlation with cubic windows.

    Parameters
    ----------
    features : int
        Number of output channels.
    kernel : int
        Side of the window, in voxels.
    stride : int
        Voxels from one window to the next.
    padding : int or "same"
        Number of zeros around each channel, as for :func:`conv2d`. With "same", each side of the
        output is ``ceil(side / stride)``.

    Returns
    -------
    Conv3d

    Raises
    ------
    ValueError
        If a number is out of range.

    Examples
    --------
    >>> from numba_stn import nn
    >>> nn.conv3d(8, 3).output_shape((1, 10, 12, 14))
    (8, 8, 10, 12)
    >>> nn.conv3d(8, 3, stride=2, padding="same").output_shape((1, 10, 12, 15))
    (8, 5, 6, 8)
    """
    return Conv3d(features, kernel, stride, padding)


# --- Unfolded volumes -----------------------------------------------------------------------------
#
# Volumes have their batch last here, (C, D, H, W, N): neighbours in memory are then neighbours
# among the columns of unfolded volumes too. A part of an output, a tuple of slices, has all its
# features and columns, but only some slices, rows and examples.


def _parts(taps: int, shape: Shape) -> Iterator[tuple[slice, ...]]:
    """The parts of an output (F, D, H, W, N), one after another; each number has these taps."""
    _, depth, height, width, batch = shape
    of_row = max(taps * width, 1)
    rows = min(max(MOST_UNFOLDED // of_row, 1), max(height, 1))
    slices = min(max(MOST_UNFOLDED // (of_row * height), 1), max(depth, 1))
    examples = max(MOST_UNFOLDED // (of_row * height * depth), 1)
    steps = ((batch, examples), (depth, slices), (height, rows))
    for start in itertools.product(*(range(0, *limits) for limits in steps)):
        n, k, i = (slice(s, min(s + step, end))
                   for s, (end, step) in zip(start, steps, strict=True))  # fmt: skip
        yield slice(None), k, i, slice(0, width), n


def _unfolded(padded, layer, part):
    """What the taps of a part read, (C k k k, slices rows columns examples)."""
    _, *counted, examples = part
    counts = [each.stop - each.start for each in counted]
    kernel, stride, channels = layer.kernel, layer.stride, len(padded)
    x = padded[:, part[1].start * stride :, part[2].start * stride :, :, examples]
    c, i, j, k, n = x.strides
    windows = namespace(padded).lib.stride_tricks.as_strided(
        x, (channels, kernel, kernel, kernel, *counts, x.shape[4]),
        (c, i, j, k, i * stride, j * stride, k * stride, n),
    )  # fmt: skip
    return windows.reshape(channels * kernel**3, prod(counts) * x.shape[4])


def _add_folded(dpadded, layer, part, dunfolded):
    """Add the gradients of what the taps of a part read to the voxels that they read."""
    (_, *counted, examples), kernel, stride = part, layer.kernel, layer.stride
    counts = [each.stop - each.start for each in counted]
    taps = dunfolded.reshape(len(dpadded), *[kernel] * 3, *counts, examples.stop - examples.start)
    for tap in itertools.product(range(kernel), repeat=3):
        firsts = [each.start * stride + first for each, first in zip(counted, tap, strict=True)]
        where = (
            slice(first, first + stride * (count - 1) + 1, stride)
            for first, count in zip(firsts, counts, strict=True)
        )
        view = dpadded[(slice(None), *where, examples)]
        view += taps[(slice(None), *tap)]


def _batch_last(x):
    """(N, C, D, H, W) -> (C, D, H, W, N)."""
    return namespace(x).ascontiguousarray(x.transpose(1, 2, 3, 4, 0))


def _batch_first(x):
    """(C, D, H, W, N) -> (N, C, D, H, W)."""
    return namespace(x).ascontiguousarray(x.transpose(4, 0, 1, 2, 3))


def _padded(x, margins):
    """Volumes with zeros around each channel."""
    if not any(map(sum, margins)):
        return x
    sides = [side + sum(margin) for side, margin in zip(x.shape[1:4], margins, strict=True)]
    result = namespace(x).zeros((len(x), *sides, x.shape[4]), x.dtype)
    _inner(result, margins, x.shape[1:4])[...] = x
    return result


def _inner(padded, margins, sides):
    """The view of padded volumes without their margins."""
    inner = [slice(m[0], m[0] + side) for m, side in zip(margins, sides, strict=True)]
    return padded[(slice(None), *inner)]


# --- Pooling --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MaxPool3d(Layer):
    """Largest value of each (kernel, kernel, kernel) window; incomplete windows are dropped."""

    name = "max_pool3d"

    kernel: int = 2

    def __post_init__(self):
        """Check the argument."""
        check_whole(self.name, kernel=self.kernel)

    def output_shape(self, shape):
        """(C, D // kernel, H // kernel, W // kernel)."""
        return (shape[0], *output_sides(self.name, shape, self))

    def forward(self, params, x, wrt_x=True):
        """See the class."""
        y, index = cupy_layers.max_pool(x, self.kernel)
        return y, lambda dy: ((), cupy_layers.max_pool_vjp(dy, index, x.shape, self.kernel))


@dataclass(frozen=True)
class AvgPool3d(Layer):
    """Mean of each (kernel, kernel, kernel) window; incomplete windows are dropped."""

    name = "avg_pool3d"

    kernel: int = 2

    def __post_init__(self):
        """Check the argument."""
        check_whole(self.name, kernel=self.kernel)

    def output_shape(self, shape):
        """(C, D // kernel, H // kernel, W // kernel)."""
        return (shape[0], *output_sides(self.name, shape, self))

    def forward(self, params, x, wrt_x=True):
        """See the class."""
        first, *others = cupy_layers.window_elements(x, self.kernel)
        y, share = first.copy(), x.dtype.type(1 / self.kernel**3)
        for element in others:
            y += element
        y *= share

        def pullback(dy):
            dx, each = namespace(x).zeros(x.shape, x.dtype), dy * share
            for element in cupy_layers.window_elements(dx, self.kernel):
                element[...] = each
            return (), dx

        return y, pullback


def max_pool3d(kernel: int = 2) -> MaxPool3d:
    """Max pooling layer of volumes: (N, C, D, H, W) -> (N, C, D // kernel, ..., W // kernel).

    Parameters
    ----------
    kernel : int
        Side of a window, and the step from one window to the next, in voxels. Voxels that do not
        fill a window are dropped.

    Returns
    -------
    MaxPool3d

    Raises
    ------
    ValueError
        If ``kernel`` is not a positive whole number.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_stn import nn
    >>> y, _, _ = nn.max_pool3d(2).apply((), np.arange(16.0).reshape(1, 1, 2, 2, 4))
    >>> y
    array([[[[[13., 15.]]]]])
    """
    return MaxPool3d(kernel)


def avg_pool3d(kernel: int = 2) -> AvgPool3d:
    """Average pooling layer of volumes: (N, C, D, H, W) -> (N, C, D // kernel, ..., W // kernel).

    Parameters
    ----------
    kernel : int
        Side of a window, and the step from one window to the next, in voxels. Voxels that do not
        fill a window are dropped.

    Returns
    -------
    AvgPool3d

    Raises
    ------
    ValueError
        If ``kernel`` is not a positive whole number.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_stn import nn
    >>> y, _, _ = nn.avg_pool3d(2).apply((), np.arange(16.0).reshape(1, 1, 2, 2, 4))
    >>> y
    array([[[[[6.5, 8.5]]]]])
    """
    return AvgPool3d(kernel)


# --- Checks ---------------------------------------------------------------------------------------


def output_sides(name: str, shape: Shape, layer: Conv3d | MaxPool3d | AvgPool3d) -> Shape:
    """(D_out, H_out, W_out) of a window over volumes of shape (C, D, H, W); raise if none fits."""
    if len(shape) != 4:
        raise ValueError(f"{name}: x: expected shape (N, C, D, H, W), got {batch_of(shape)}")
    kernel, stride, margins = layer.kernel, layer.kernel, [(0, 0)] * 3
    if isinstance(layer, Conv3d):
        stride, margins = layer.stride, layer.margins(shape[1:])
    sides = tuple(
        output_side(side + sum(margin), kernel, stride)
        for side, margin in zip(shape[1:], margins, strict=True)
    )
    if min(shape[1:]) < 1 or min(sides) < 1:
        raise ValueError(
            f"{name}: x: expected volumes (N, C, D, H, W) into which a window of {kernel} x "
            f"{kernel} x {kernel} fits, got {batch_of(shape)}"
        )
    return sides
