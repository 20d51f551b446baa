"""Layers that can work on batch blocks, and how consecutive ones are applied together.

Convolution and pooling work on the batch-blocked layout of
:mod:`numba_stn.kernels.layers.batch_blocks`. A single such layer converts its input to batch blocks
and its output back. A network passes consecutive ones to :func:`apply_in_batch_blocks`, which
converts once at either end. So the arrays between other layers are always (N, C, H, W).

CuPy's arrays keep their layout. For them the functions of :mod:`.cupy_layers`, which have the same
names, replace the kernels.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..kernels.layers import batch_blocks, convolution
from ..utils.namespace import namespace
from . import cupy_layers
from .base import (
    Layer,
    Pullback,
    Shape,
    check_batch,
    check_params,
    checked_pullback,
)
from .checks import batch_of
from .tree import Tree


def kernels_for(*arrays: Any) -> tuple[Any, Any]:
    """The modules that pool and that convolve these arrays: NumPy's or CuPy's."""
    return (batch_blocks, convolution) if namespace(*arrays) is np else (cupy_layers, cupy_layers)


class BatchBlocked(Layer):
    """A layer that can also work on batch blocks."""

    count = 1  # the number of layers that it replaces

    def blocked_forward(self, params: Tree, x: Any, wrt_x: bool = True) -> tuple[Any, Pullback]:
        """:meth:`forward` on batch blocks."""
        raise NotImplementedError

    def blocked_apply(
        self, params: Tree, x: Any, batch: int, state: Tree, train: bool, wrt_x: bool
    ) -> tuple[Any, Pullback, Tree]:
        """:meth:`apply` on batch blocks that hold ``batch`` images."""
        return *self.blocked_forward(params, x, wrt_x), state

    def fused_with(self, following: Layer) -> "BatchBlocked | None":
        """One layer for this one and the ``following`` one, on NumPy arrays, or None."""
        return None


class Windowed(BatchBlocked):
    """A layer that slides a window over images; it works on batch blocks only."""

    def forward(self, params, x, wrt_x=True):
        """See :meth:`Layer.forward`."""
        y, back, _ = _in_batch_blocks((self,), (params,), x, ((),), False, wrt_x)

        def pullback(dy):
            (dparams,), dx = back(dy)
            return dparams, dx

        return y, pullback


def apply_in_batch_blocks(
    layers: Sequence[BatchBlocked], params: Sequence[Tree], x: Any,
    states: Sequence[Tree] | None = None, train: bool = False, wrt_x: bool = True,
) -> tuple[Any, Callable[[Any], tuple[tuple, Any]], list[Tree]]:  # fmt: skip
    """Apply consecutive layers with one conversion to batch blocks and one back.

    Returns the output, the pullback, whose first result has each layer's gradients, and the
    layers' states. Checks the arguments, as :meth:`Layer.apply` does for a single layer.
    """
    states = states or ((),) * len(layers)
    x = check_batch(layers[0], x)
    shape = x.shape[1:]
    for layer, layer_params, state in zip(layers, params, states, strict=True):
        check_params(layer, layer_params, state, train, x, shape)
        shape = layer.output_shape(shape)
    y, pullback, new_states = _in_batch_blocks(layers, params, x, states, train, wrt_x)
    return y, checked_pullback(layers[-1], pullback, y), new_states


def _in_batch_blocks(layers, params, x, states, train, wrt_x):
    """:func:`apply_in_batch_blocks` without checks."""
    batch = len(x)
    layout, _ = kernels_for(x)
    y, pullbacks, new_states = layout.to_batch_blocks(x), [], []
    for layer, layer_params, state in _steps(layers, params, states, layout is batch_blocks):
        replaced = [()] * (layer.count - 1)  # these have neither parameters nor state
        y, back, state = layer.blocked_apply(layer_params, y, batch, state, train, wrt_x)
        pullbacks.append((back, replaced))
        new_states += [state, *replaced]
        wrt_x = wrt_x or bool(layer_params)

    def pullback(dy):
        dparams, dx = [], layout.to_batch_blocks(dy)
        for back, replaced in reversed(pullbacks):
            layer_dparams, dx = ((), None) if dx is None else back(dx)
            dparams += [*replaced, layer_dparams]
        dx = None if dx is None else layout.from_batch_blocks(dx, batch)
        return tuple(reversed(dparams)), dx

    return layout.from_batch_blocks(y, batch), pullback, new_states


def _steps(layers, params, states, fuse):
    """Layers, parameters and states; if ``fuse``, one layer replaces two where that is possible."""
    steps: list[tuple[BatchBlocked, Tree, Tree]] = []
    for layer, layer_params, state in zip(layers, params, states, strict=True):
        if fuse and steps and (fused := steps[-1][0].fused_with(layer)):
            steps[-1] = (fused, *steps[-1][1:])
        else:
            steps.append((layer, layer_params, state))
    return steps


# --- Checks ---------------------------------------------------------------------------------------


def check_image_shape(name: str, shape: Shape) -> None:
    """Raise unless the shape is (C, H, W)."""
    if len(shape) != 3:
        raise ValueError(f"{name}: x: expected shape (N, C, H, W), got {batch_of(shape)}")


def output_sides(
    name: str, shape: Shape, kernel: int, stride: int, padding: int | str = 0
) -> Shape:
    """(H_out, W_out) of a window over images of shape (C, H, W); raise if it does not fit."""
    check_image_shape(name, shape)
    margins = window_margins(shape[1:], kernel, stride, padding)
    sides = tuple(
        convolution.output_side(side + sum(margin), kernel, stride)
        for side, margin in zip(shape[1:], (margins[:2], margins[2:]), strict=True)
    )
    if min(shape[1:]) < 1 or min(sides) < 1:
        raise ValueError(
            f"{name}: x: expected images (N, C, H, W) into which a window of {kernel} x {kernel} "
            f"fits, got {batch_of(shape)}"
        )
    return sides


def window_margins(
    sides: Shape, kernel: int, stride: int, padding: int | str
) -> tuple[int, int, int, int]:
    """The zeros (top, bottom, left, right) around images with the ``sides`` (H, W).

    With the padding "same" there are ``ceil(side / stride)`` windows along a side. If the zeros
    that they need cannot be divided equally, there is one more at the end.
    """
    if padding != "same":
        return (int(padding),) * 4
    totals = [max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in sides]
    top, left = (total // 2 for total in totals)
    return top, totals[0] - top, left, totals[1] - left
