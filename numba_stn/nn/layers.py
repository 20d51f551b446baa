"""Layers: small frozen values whose repr is the architecture. See :mod:`.layer` for what one is."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, groupby
from math import prod

import numpy as np

from ..kernels.layers import batch_norm as batch_norms
from ..utils.namespace import namespace
from . import dense
from .images import AvgPool, Bundled, Conv2d, MaxPool, Windowed, loops, through
from .layer import Layer, check, he, repeated, whole, zeros
from .tree import Tree

# --- Dense, ReLU, flatten -------------------------------------------------------------------------


@dataclass(frozen=True)
class Linear(Layer):
    """``y = x W^T + b``: (N, in) -> (N, features)."""

    features: int

    def __post_init__(self):
        """Check the number."""
        whole("linear", features=self.features)

    def init(self, rng, shape):
        """He-normal weights (features, in), zero bias."""
        if len(shape) != 1:
            raise ValueError(f"linear: expected inputs of one side, got {shape}; flatten() first")
        return {"weight": he(rng, (self.features, *shape)), "bias": zeros(self.features)}

    def output_shape(self, shape):
        """(features,)."""
        return (self.features,)

    def forward(self, params, x, wrt_x=True):
        """See the class."""
        weight = params["weight"]
        check("linear", x, (weight.shape[1],))

        def pullback(dy):
            return {"weight": dy.T @ x, "bias": dy.sum(0)}, dy @ weight if wrt_x else None

        return x @ weight.T + params["bias"], pullback


@dataclass(frozen=True)
class Relu(Bundled):
    """``max(x, 0)``; slope 0 at 0."""

    name = "relu"

    def forward(self, params, x, wrt_x=True):
        """See the class."""
        y = np.maximum(x, 0)
        return y, lambda dy: ((), np.where(y > 0, dy, dy.dtype.type(0)))

    def bundled(self, params, x, wrt_x=True):
        """See the class."""
        form, _ = loops(x)
        y = form.rectify(x)
        return y, lambda dy: ((), form.rectify_vjp(dy, y))


@dataclass(frozen=True)
class Flatten(Layer):
    """(N, ...) -> (N, features)."""

    def output_shape(self, shape):
        """(product of the sides,)."""
        return (prod(shape),)

    def forward(self, params, x, wrt_x=True):
        """See the class."""
        return x.reshape(len(x), prod(x.shape[1:])), lambda dy: ((), dy.reshape(x.shape))


# --- Batch normalisation --------------------------------------------------------------------------


@dataclass(frozen=True)
class BatchNorm(Bundled):
    """``(x - mean) / sqrt(var + epsilon) * scale + shift`` for each channel (Ioffe, Szegedy 2015).

    While training, mean and variance are the batch's, and the state moves towards them by
    ``1 - momentum`` a step; otherwise they are the state's.
    """

    name = "batch_norm"

    momentum: float = 0.9
    epsilon: float = 1e-5

    def init(self, rng, shape):
        """Scale 1, shift 0."""
        return {"scale": np.ones(shape[0], np.float32), "shift": zeros(shape[0])}

    def init_state(self, shape):
        """Mean 0, variance 1."""
        return {"mean": zeros(shape[0]), "var": np.ones(shape[0], np.float32)}

    def expects(self, params):
        """(C, any, any)."""
        return (len(params["scale"]), None, None)

    def apply(self, params, x, state=(), train=False, wrt_x=True):
        """See the class."""
        check("batch_norm", x, (len(params["scale"]), *(None,) * max(x.ndim - 2, 0)))
        return self.normalized(dense, params, x, len(x), state, train)

    def bundled_apply(self, params, x, batch, state=(), train=False, wrt_x=True):
        """See the class."""
        form = batch_norms if namespace(x) is np else dense
        return self.normalized(form, params, x, batch, state, train)

    def pooled(self, kernel):
        """See the class."""
        return _PooledBatchNorm(self, kernel)

    def normalized(self, form, params, x, batch, state, train):
        """:meth:`apply`, by functions for the form that x has."""
        if not isinstance(state, dict):
            raise ValueError("batch_norm: expected its state, as init_state gives it, got none")
        if train and not batch:
            raise ValueError("batch_norm: expected at least one example to learn from, got none")
        count = batch * form.pixels(x)
        mean, var = state["mean"], state["var"]
        if train:
            mean, var = form.moments(x, batch)
            state = self._moved(state, mean, var * (count / max(count - 1, 1)))
        inverse = 1 / np.sqrt(var + self.epsilon)
        factor = params["scale"] * inverse

        def pullback(dy):
            dshift, centred = form.normalize_sums(dy, x, batch, mean)
            dscale, of_x, constant = centred * inverse, 0 * factor, 0 * factor
            if train:  # the batch's own mean and variance depend on x too
                of_x, constant = -factor * inverse * dscale / count, -factor * dshift / count
            dx = form.combine(dy, x, batch, mean, factor, of_x, constant)
            sums = {"scale": dscale, "shift": dshift}  # which may have been added in float64
            return {k: v.astype(params[k].dtype, copy=False) for k, v in sums.items()}, dx

        return form.normalize(x, batch, mean, factor, params["shift"]), pullback, state

    def _moved(self, state, mean, var):
        keep = np.float32(self.momentum)
        return {
            key: (keep * state[key] + (1 - keep) * new).astype(state[key].dtype)
            for key, new in (("mean", mean), ("var", var))
        }


@dataclass(frozen=True)
class _PooledBatchNorm(Bundled):
    """Batch normalisation and a max pooling, with the parameters and the state of the first."""

    count = 2

    norm: BatchNorm
    kernel: int

    def bundled_apply(self, params, x, batch, state=(), train=False, wrt_x=True):
        """See the class."""
        return self.norm.normalized(batch_norms.Pooled(self.kernel), params, x, batch, state, train)


# --- Combinations ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Serial(Layer):
    """One layer after another; parameters and state are tuples of the layers' own."""

    layers: tuple[Layer, ...]

    def __post_init__(self):
        """Check the layers."""
        _layers("serial", self.layers)

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

    def apply(self, params, x, state=(), train=False, wrt_x=True):
        """See the class."""
        pullbacks, states = [], []
        for layers, owns, pasts in _runs(_with_own(self.layers, params, state)):
            if len(layers) > 1:
                x, back, new = through(layers, owns, x, pasts, train, wrt_x)
                states += new
            else:
                x, back, new = layers[0].apply(owns[0], x, pasts[0], train, wrt_x)
                states.append(new)
            pullbacks.append((back, len(layers)))
            wrt_x = wrt_x or any(owns)  # below a layer with parameters, gradients must arrive

        def pullback(dy):
            dparams = []
            for back, count in reversed(pullbacks):
                if dy is None:  # nothing further down has parameters, or wants a gradient
                    down = ((),) * count
                else:
                    down, dy = back(dy)
                    down = down if count > 1 else (down,)
                dparams += reversed(down)
            return tuple(reversed(dparams)), dy

        return x, pullback, tuple(states)


@dataclass(frozen=True)
class Parallel(Layer):
    """Several layers on the same input, side by side; their outputs are joined along channels."""

    layers: tuple[Layer, ...]

    def __post_init__(self):
        """Check the layers."""
        _layers("parallel", self.layers)
        if not self.layers:
            raise ValueError("parallel: expected at least one layer")

    def init(self, rng, shape):
        """Each layer's parameters, drawn in order."""
        self.output_shape(shape)
        return tuple(layer.init(rng, shape) for layer in self.layers)

    def init_state(self, shape):
        """Each layer's state."""
        return tuple(layer.init_state(shape) for layer in self.layers)

    def output_shape(self, shape):
        """The channels added up, the sides the layers' own."""
        shapes = [layer.output_shape(shape) for layer in self.layers]
        if len({other[1:] for other in shapes}) != 1:
            raise ValueError(
                f"parallel: expected outputs that differ in channels only, got {shapes}"
            )
        return (sum(other[0] for other in shapes), *shapes[0][1:])

    def apply(self, params, x, state=(), train=False, wrt_x=True):
        """See the class."""
        results = [
            layer.apply(own, x, past, train, wrt_x)
            for layer, own, past in _with_own(self.layers, params, state)
        ]
        *ends, _ = accumulate(y.shape[1] for y, _, _ in results)

        def pullback(dy):
            parts = np.split(dy, ends, axis=1)
            backs = [back(part) for (_, back, _), part in zip(results, parts, strict=True)]
            dx = sum(dx for _, dx in backs) if wrt_x else None
            return tuple(dparams for dparams, _ in backs), dx

        return self.joined([y for y, _, _ in results]), pullback, tuple(s for _, _, s in results)

    @staticmethod
    def joined(outputs):
        """The layers' outputs as one, along channels."""
        return np.concatenate(outputs, axis=1)


@dataclass(frozen=True)
class Averaged(Layer):
    """One layer on each of an image's readings, which lie along channels; the mean of its outputs.

    (N, readings C, ...) -> the layer's output for (C, ...).
    """

    readings: int
    layer: Layer

    def __post_init__(self):
        """Check the arguments."""
        whole("averaged", readings=self.readings)
        _layers("averaged", (self.layer,))

    def init(self, rng, shape):
        """The layer's own."""
        return self.layer.init(rng, self.each(shape))

    def init_state(self, shape):
        """The layer's."""
        return self.layer.init_state(self.each(shape))

    def output_shape(self, shape):
        """The layer's."""
        return self.layer.output_shape(self.each(shape))

    def each(self, shape):
        """Shape of one reading."""
        if not shape or shape[0] % self.readings:
            raise ValueError(
                f"averaged: expected channels in {self.readings} equal parts, got {shape}"
            )
        return (shape[0] // self.readings, *shape[1:])

    def apply(self, params, x, state=(), train=False, wrt_x=True):
        """See the class."""
        each = x.reshape(len(x) * self.readings, *self.each(x.shape[1:]))
        y, back, state = self.layer.apply(params, each, state, train, wrt_x)

        def pullback(dy):
            dparams, dx = back(repeated(dy / dy.dtype.type(self.readings), self.readings))
            return dparams, None if dx is None else dx.reshape(x.shape)

        return y.reshape(len(x), self.readings, *y.shape[1:]).mean(1), pullback, state


# --- The names that networks are written with -----------------------------------------------------


def linear(features: int) -> Linear:
    """Fully connected layer."""
    return Linear(features)


def conv2d(features: int, kernel: int, stride: int = 1, padding: int = 0) -> Conv2d:
    """Convolution with square windows."""
    return Conv2d(features, kernel, stride, padding)


def max_pool(kernel: int = 2) -> MaxPool:
    """Largest value of each window."""
    return MaxPool(kernel)


def avg_pool(kernel: int = 2) -> AvgPool:
    """Mean of each window."""
    return AvgPool(kernel)


def relu() -> Relu:
    """Rectified linear unit."""
    return Relu()


def flatten() -> Flatten:
    """Images to vectors."""
    return Flatten()


def batch_norm(momentum: float = 0.9, epsilon: float = 1e-5) -> BatchNorm:
    """Batch normalisation of (N, features) or (N, C, H, W)."""
    return BatchNorm(momentum, epsilon)


def serial(*layers: Layer) -> Serial:
    """One layer after another."""
    return Serial(layers)


def parallel(*layers: Layer) -> Parallel:
    """Several layers side by side on the same input."""
    return Parallel(layers)


def averaged(readings: int, *layers: Layer) -> Averaged:
    """One layer after another on each of so many readings of an image, and the mean of the results.

    ``y = 1 / readings sum_k layers(x_k)``, where x_k is the k-th part of the channels:
    (N, readings C, ...), as a transformer with ``turns`` gives it, becomes what the layers make of
    (N, C, ...). All readings share the layers' parameters, and batch normalisation takes them as
    one batch.

    Parameters
    ----------
    readings : int
    *layers : Layer

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong type or value, or the channels are not so many equal parts.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_stn import nn
    >>> eyes = nn.serial(nn.flatten(), nn.linear(8), nn.relu())
    >>> net = nn.serial(
    ...     nn.spatial_transformer(eyes, turns=(0, -20, 20)),
    ...     nn.averaged(3, nn.flatten(), nn.linear(10)),
    ... )
    >>> params = net.init(np.random.default_rng(0), (1, 8, 8))
    >>> logits, pullback, _ = net.apply(params, np.ones((2, 1, 8, 8), np.float32))
    >>> logits.shape
    (2, 10)
    """
    return Averaged(readings, serial(*layers))


# --- Helpers --------------------------------------------------------------------------------------


def _runs(stages: list[tuple]) -> Iterator[tuple]:
    """Layers with their parameters and states, those together that can work on bundles."""
    for bundled, run in groupby(stages, lambda stage: isinstance(stage[0], Bundled)):
        group = list(run)
        whole = bundled and any(isinstance(layer, Windowed) for layer, _, _ in group)
        for part in [group] if whole else [[stage] for stage in group]:
            yield tuple(zip(*part, strict=True))


def _with_own(layers: tuple[Layer, ...], params: Tree, state: Tree) -> list[tuple]:
    """Each layer with its parameters and state; () stands for layers that all have none."""
    states = state if state else ((),) * len(layers)
    if not len(params) == len(states) == len(layers):
        raise ValueError(
            f"expected parameters and state for {len(layers)} layers, "
            f"got {len(params)} and {len(states)}"
        )
    return list(zip(layers, params, states, strict=True))


def _layers(name: str, layers: tuple[Layer, ...]) -> None:
    """Raise unless each is a layer."""
    for layer in layers:
        if not isinstance(layer, Layer):
            hint = "; call it: relu(), not relu" if callable(layer) else ""
            raise TypeError(f"{name}: expected layers, got {layer!r}{hint}")
