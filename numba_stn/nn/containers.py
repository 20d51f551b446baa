"""Containers: layers in series, in parallel, and on several views of an image."""

import operator
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from itertools import accumulate, groupby
from typing import Any

import numpy as np

from .base import Layer, check_layers, repeat
from .batch_blocked import BatchBlocked, Windowed, apply_in_batch_blocks
from .checks import batch_of, check_tree, check_whole
from .tree import Tree


@dataclass(frozen=True)
class Serial(Layer):
    """One layer after another; parameters and state are tuples of the layers' own."""

    name = "serial"

    layers: tuple[Layer, ...]

    def __post_init__(self):
        """Check the layers."""
        check_layers(self.name, self.layers)

    def init(self, rng, shape):
        """Each layer's parameters, drawn in order."""
        params = []
        for layer in self.layers:
            params.append(layer.init(rng, shape))
            shape = layer.output_shape(shape)
        return tuple(params)

    def init_state(self, shape):
        """Each layer's state."""
        states = []
        for layer in self.layers:
            states.append(layer.init_state(shape))
            shape = layer.output_shape(shape)
        return tuple(states)

    def output_shape(self, shape):
        """The last layer's."""
        for layer in self.layers:
            shape = layer.output_shape(shape)
        return shape

    def arrays(self, shape):
        """See :meth:`Layer.arrays`."""
        return (None,) * len(self.layers), ()

    def part(self, key):
        """See :meth:`Layer.part`."""
        return self.layers[int(key)]

    def apply(self, params, x, state=(), train=False, wrt_x=True):
        """See the class."""
        pullbacks, new_states = [], []
        for layers, group_params, states in _groups(_with_params(self, params, state)):
            if len(layers) > 1:
                x, back, new = apply_in_batch_blocks(layers, group_params, x, states, train, wrt_x)
                new_states += new
            else:
                x, back, new = layers[0].apply(group_params[0], x, states[0], train, wrt_x)
                new_states.append(new)
            pullbacks.append((back, len(layers)))
            wrt_x = wrt_x or any(group_params)  # layers before need the gradient from here on

        def pullback(dy):
            dparams = []
            for back, count in reversed(pullbacks):
                if dy is None:  # no layer before has parameters, and dx is not wanted
                    group_dparams = ((),) * count
                else:
                    group_dparams, dy = back(dy)
                    group_dparams = group_dparams if count > 1 else (group_dparams,)
                dparams += reversed(group_dparams)
            return tuple(reversed(dparams)), dy

        return x, pullback, tuple(new_states)


class Branches(Layer):
    """Several layers on the same input, whose outputs are combined."""

    name: str
    layers: tuple[Layer, ...]

    def __post_init__(self):
        """Check the layers."""
        check_layers(self.name, self.layers)
        if not self.layers:
            raise ValueError(f"{self.name}: expected at least one layer, got none")

    def init(self, rng, shape):
        """Each layer's parameters, drawn in order."""
        self.output_shape(shape)
        return tuple(layer.init(rng, shape) for layer in self.layers)

    def init_state(self, shape):
        """Each layer's state."""
        return tuple(layer.init_state(shape) for layer in self.layers)

    def arrays(self, shape):
        """See :meth:`Layer.arrays`."""
        return (None,) * len(self.layers), ()

    def part(self, key):
        """See :meth:`Layer.part`."""
        return self.layers[int(key)]

    def apply(self, params, x, state=(), train=False, wrt_x=True):
        """See the class."""
        results = [
            layer.apply(layer_params, x, layer_state, train, wrt_x)
            for layer, layer_params, layer_state in _with_params(self, params, state)
        ]
        channels = [y.shape[1] for y, _, _ in results]

        def pullback(dy):
            parts = self.combined_vjp(dy, channels)
            backs = [back(part) for (_, back, _), part in zip(results, parts, strict=True)]
            dx = sum(dx for _, dx in backs) if wrt_x else None
            return tuple(dparams for dparams, _ in backs), dx

        y = self.combined([y for y, _, _ in results])
        return y, pullback, tuple(state for _, _, state in results)

    def combined(self, outputs: list[Any]) -> Any:
        """The output for those of the layers."""
        raise NotImplementedError

    def combined_vjp(self, dy: Any, channels: list[int]) -> list[Any]:
        """The gradients of the layers' outputs, which have these numbers of channels."""
        raise NotImplementedError


@dataclass(frozen=True)
class Parallel(Branches):
    """Several layers on the same input; their outputs are concatenated along channels."""

    name = "parallel"

    layers: tuple[Layer, ...]

    def output_shape(self, shape):
        """The sum of the layers' channels, and their common sides."""
        shapes = [layer.output_shape(shape) for layer in self.layers]
        if len({other[1:] for other in shapes}) != 1:
            raise ValueError(
                f"parallel: layers: expected outputs that differ in channels only, got {shapes}"
            )
        return (sum(other[0] for other in shapes), *shapes[0][1:])

    def combined(self, outputs):
        """The layers' outputs, concatenated along channels."""
        return np.concatenate(outputs, axis=1)

    def combined_vjp(self, dy, channels):
        """See :meth:`Branches.combined_vjp`."""
        *ends, _ = accumulate(channels)
        return np.split(dy, ends, axis=1)


@dataclass(frozen=True)
class Sum(Branches):
    """Several layers on the same input; their outputs are added."""

    name = "sum"

    layers: tuple[Layer, ...]

    def output_shape(self, shape):
        """The layers' common shape."""
        shapes = [layer.output_shape(shape) for layer in self.layers]
        if len(set(shapes)) != 1:
            raise ValueError(f"sum: layers: expected outputs of one shape, got {shapes}")
        return shapes[0]

    def combined(self, outputs):
        """The sum of the layers' outputs, added in order."""
        return reduce(operator.add, outputs)

    def combined_vjp(self, dy, channels):
        """See :meth:`Branches.combined_vjp`."""
        return [dy] * len(channels)


@dataclass(frozen=True)
class MeanOfViews(Layer):
    """One layer on each of an image's views, which are along channels; the mean of its outputs.

    (N, views C, ...) -> the layer's output for (N, C, ...).
    """

    name = "mean_of_views"

    views: int
    layer: Layer

    def __post_init__(self):
        """Check the arguments."""
        check_whole(self.name, views=self.views)
        check_layers(self.name, (self.layer,))

    def init(self, rng, shape):
        """The layer's own."""
        return self.layer.init(rng, self.view_shape(shape))

    def init_state(self, shape):
        """The layer's."""
        return self.layer.init_state(self.view_shape(shape))

    def output_shape(self, shape):
        """The layer's."""
        return self.layer.output_shape(self.view_shape(shape))

    def view_shape(self, shape):
        """Shape of one view."""
        if not shape or shape[0] % self.views:
            raise ValueError(
                f"mean_of_views: x: expected channels in {self.views} equal parts, got "
                f"{batch_of(shape)}"
            )
        return (shape[0] // self.views, *shape[1:])

    def arrays(self, shape):
        """See :meth:`Layer.arrays`; they are the layer's."""
        return None, ()

    def part(self, key):
        """See :meth:`Layer.part`; it is the layer's."""
        return self.layer.part(key)

    def apply(self, params, x, state=(), train=False, wrt_x=True):
        """See the class."""
        views = x.reshape(len(x) * self.views, *self.view_shape(x.shape[1:]))
        y, back, state = self.layer.apply(params, views, state, train, wrt_x)

        def pullback(dy):
            dparams, dx = back(repeat(dy / dy.dtype.type(self.views), self.views))
            return dparams, None if dx is None else dx.reshape(x.shape)

        return y.reshape(len(x), self.views, *y.shape[1:]).mean(1), pullback, state


# --- The functions that networks are written with -------------------------------------------------


def serial(*layers: Layer) -> Serial:
    """Apply layers one after another.

    ``y = layer_k(... layer_2(layer_1(x)))``

    Parameters
    ----------
    *layers : Layer

    Returns
    -------
    Serial
        Itself a layer. Its parameters, state and gradients are tuples with one item per layer.

    Raises
    ------
    TypeError
        If an argument is not a layer.

    Examples
    --------
    >>> from numba_stn import nn
    >>> net = nn.serial(nn.conv2d(8, 5), nn.relu(), nn.max_pool(2), nn.flatten(), nn.linear(10))
    >>> net.output_shape((1, 28, 28))
    (10,)
    """
    return Serial(layers)


def parallel(*layers: Layer) -> Parallel:
    """Apply several layers to the same input, and concatenate their outputs along channels.

    (N, C, ...) -> (N, C_1 + ... + C_k, ...), where the layers' outputs are (N, C_i, ...).

    Parameters
    ----------
    *layers : Layer
        At least one. Their outputs may differ in channels only.

    Returns
    -------
    Parallel
        Itself a layer. Its parameters, state and gradients are tuples with one item per layer.

    Raises
    ------
    ValueError, TypeError
        If there is no layer, or an argument is not a layer.

    Examples
    --------
    >>> from numba_stn import nn
    >>> nn.parallel(nn.conv2d(8, 3, padding=1), nn.conv2d(4, 5, padding=2)).output_shape((1, 9, 9))
    (12, 9, 9)
    """
    return Parallel(layers)


def sum_of(*layers: Layer) -> Sum:
    """Apply several layers to the same input, and add their outputs.

    ``y = layer_1(x) + ... + layer_k(x)``

    Parameters
    ----------
    *layers : Layer
        At least one. Their outputs have the same shape.

    Returns
    -------
    Sum
        Itself a layer. Its parameters, state and gradients are tuples with one item per layer.

    Raises
    ------
    ValueError, TypeError
        If there is no layer, or an argument is not a layer.

    Examples
    --------
    >>> from numba_stn import nn
    >>> halves = nn.sum_of(nn.conv2d(8, 3, 2, "same"), nn.conv2d(8, 1, 2))
    >>> halves.output_shape((4, 9, 9))
    (8, 5, 5)
    """
    return Sum(layers)


def residual(*layers: Layer) -> Sum:
    """Apply layers one after another, and add their input to the result (He et al. 2016).

    ``y = x + layer_k(... layer_1(x))``

    Parameters
    ----------
    *layers : Layer
        The output of the last one has the shape of x.

    Returns
    -------
    Sum
        Of ``serial(*layers)`` and of an empty :func:`serial`, which returns x.

    Raises
    ------
    TypeError
        If an argument is not a layer.

    Examples
    --------
    >>> from numba_stn import nn
    >>> block = nn.residual(nn.conv2d(8, 3, padding="same"), nn.batch_norm(), nn.relu())
    >>> block.output_shape((8, 9, 9))
    (8, 9, 9)
    """
    return Sum((Serial(layers), Serial(())))


def mean_of_views(views: int, *layers: Layer) -> MeanOfViews:
    """Apply layers to each of several views of an image, and average the results.

    (N, views C, ...) -> what the layers give for (N, C, ...).

    ``y = 1 / views sum_k layers(x_k)``, where x_k is the k-th of ``views`` equal parts of the
    channels, as a spatial transformer with ``view_angles`` gives them. All views share the layers'
    parameters. Batch normalisation treats all views as one batch.

    Parameters
    ----------
    views : int
        Number of views of each image.
    *layers : Layer
        Applied one after another.

    Returns
    -------
    MeanOfViews

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong type or value, or the channels cannot be divided into ``views``
        equal parts.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_stn import nn
    >>> localisation = nn.serial(nn.flatten(), nn.linear(8), nn.relu())
    >>> net = nn.serial(
    ...     nn.spatial_transformer(localisation, view_angles=(0, -20, 20)),
    ...     nn.mean_of_views(3, nn.flatten(), nn.linear(10)),
    ... )
    >>> params = net.init(np.random.default_rng(0), (1, 8, 8))
    >>> logits, pullback, _ = net.apply(params, np.ones((2, 1, 8, 8), np.float32))
    >>> logits.shape
    (2, 10)
    """
    return MeanOfViews(views, serial(*layers))


# --- Helpers --------------------------------------------------------------------------------------


def _groups(items: list[tuple]) -> Iterator[tuple]:
    """Group (layer, params, state): consecutive layers that work on batch blocks are one group.

    A group without convolution or pooling is divided again: a conversion would not pay.
    """
    for blocked, group in groupby(items, lambda item: isinstance(item[0], BatchBlocked)):
        group_items = list(group)
        together = blocked and any(isinstance(layer, Windowed) for layer, _, _ in group_items)
        for part in [group_items] if together else [[item] for item in group_items]:
            yield tuple(zip(*part, strict=True))


def _with_params(container: Serial | Branches, params: Tree, state: Tree) -> list[tuple]:
    """Each layer with its parameters and state; an empty state means that no layer has any."""
    layers, states = container.layers, state
    if isinstance(state, (tuple, list)) and not state:
        states = ((),) * len(layers)
    check_tree(container.name, "state", states, (None,) * len(layers))
    return list(zip(layers, params, states, strict=True))
