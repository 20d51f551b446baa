"""Layers: small frozen values whose repr is the architecture.

A layer has ``init(rng, shape) -> params`` and ``apply(params, x, state, train) -> y, pullback,
state``, and the pullback maps the loss's gradient with respect to y to those with respect to the
parameters and to x: ``dparams, dx = pullback(dy)``. There is no tape and no hidden buffer. What
changes while a network runs (running statistics) is the ``state``, an argument and a result;
layers without one ignore it.

``shape`` is one example's shape, without N: (C, H, W) or (features,).
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from ..kernels import launch, windows
from .tree import Tree

Shape = tuple[int, ...]
Pullback = Callable[[Any], tuple[Tree, Any]]

# Elements of unfolded windows that a convolution works on at a time: about what stays in cache.
CHUNK = 250_000


class Layer:
    """What every layer is; a layer without parameters or state defines only ``forward``."""

    def init(self, rng: np.random.Generator, shape: Shape) -> Tree:
        """Parameters for inputs of ``shape``, drawn from ``rng``."""
        return ()

    def init_state(self, shape: Shape) -> Tree:
        """Running statistics before the first step."""
        return ()

    def output_shape(self, shape: Shape) -> Shape:
        """Shape of an output for an input of ``shape``."""
        return shape

    def apply(
        self, params: Tree, x: Any, state: Tree = (), train: bool = False, wrt_x: bool = True
    ) -> tuple[Any, Pullback, Tree]:
        """Output, pullback and new state for the batch ``x``.

        Without ``wrt_x``, as for the images a network is trained on, the pullback's second result
        may be None, and then costs nothing.
        """
        return *self.forward(params, x, wrt_x), state

    def forward(self, params: Tree, x: Any, wrt_x: bool = True) -> tuple[Any, Pullback]:
        """Output and pullback."""
        raise NotImplementedError


# --- Dense and convolution ------------------------------------------------------------------------


@dataclass(frozen=True)
class Linear(Layer):
    """``y = x W^T + b``: (N, in) -> (N, features)."""

    features: int

    def __post_init__(self):
        """Check the number."""
        _whole("linear", features=self.features)

    def init(self, rng, shape):
        """He-normal weights (features, in), zero bias."""
        if len(shape) != 1:
            raise ValueError(f"linear: expected inputs of one side, got {shape}; flatten() first")
        return {"weight": _he(rng, (self.features, *shape)), "bias": _zeros(self.features)}

    def output_shape(self, shape):
        """(features,)."""
        return (self.features,)

    def forward(self, params, x, wrt_x=True):
        """See the class."""
        weight = params["weight"]
        _check("linear", x, (weight.shape[1],))

        def pullback(dy):
            return {"weight": dy.T @ x, "bias": dy.sum(0)}, dy @ weight if wrt_x else None

        return x @ weight.T + params["bias"], pullback


@dataclass(frozen=True)
class Conv2d(Layer):
    """Cross-correlation with (features, C, kernel, kernel) weights, and a bias per feature.

    Windows are unfolded into columns and multiplied by BLAS, a few images at a time, so that the
    columns stay in cache and the chunks can go to several threads; the pullback unfolds them
    again. The chunks, and so the bits, do not depend on the number of threads.
    """

    features: int
    kernel: int
    stride: int = 1
    padding: int = 0

    def __post_init__(self):
        """Check the numbers."""
        _whole("conv2d", features=self.features, kernel=self.kernel, stride=self.stride)
        _whole("conv2d", 0, padding=self.padding)

    def init(self, rng, shape):
        """He-normal weights, zero bias."""
        self.output_shape(shape)
        weight = _he(rng, (self.features, shape[0], self.kernel, self.kernel))
        return {"weight": weight, "bias": _zeros(self.features)}

    def output_shape(self, shape):
        """(features, H_out, W_out)."""
        _image_sided("conv2d", shape)
        return (self.features, *_sides("conv2d", shape, self.kernel, self.stride, self.padding))

    def forward(self, params, x, wrt_x=True):
        """See the class."""
        _check("conv2d", x, (params["weight"].shape[1], None, None))
        window = (self.kernel, self.stride, self.padding)
        weight = params["weight"].reshape(self.features, -1)
        bias = params["bias"][:, None, None]
        y = np.empty((len(x), *self.output_shape(x.shape[1:])), x.dtype)
        chunks = _chunks(len(x), weight.shape[1] * prod(y.shape[2:]))

        def unfolded(part):
            columns = windows.unfold(x[part].transpose(1, 2, 3, 0), *window)
            return columns.reshape(len(columns), -1)

        def forward(part):
            product = (weight @ unfolded(part)).reshape(self.features, *y.shape[2:], -1)
            np.add(product.transpose(3, 0, 1, 2), bias, out=y[part])

        def backward(part, dy, dx):
            columns = unfolded(part)
            flat = dy[part].transpose(1, 2, 3, 0).reshape(self.features, -1)
            if dx is not None:
                dcolumns = (weight.T @ flat).reshape(len(columns), *y.shape[2:], -1)
                own = (*x.shape[1:], part.stop - part.start)
                dx[part] = windows.fold(dcolumns, own, *window).transpose(3, 0, 1, 2)
            return flat @ columns.T

        def pullback(dy):
            dx = np.empty_like(x) if wrt_x else None
            shares = launch.each(lambda part: backward(part, dy, dx), chunks)
            dweight = sum(shares, np.zeros_like(weight)).reshape(params["weight"].shape)
            return {"weight": dweight, "bias": dy.sum((0, 2, 3))}, dx

        launch.each(forward, chunks)
        return y, pullback


# --- Pooling, ReLU, flatten -----------------------------------------------------------------------


@dataclass(frozen=True)
class MaxPool(Layer):
    """Largest value of each (kernel, kernel) window; what does not fill a window is dropped."""

    kernel: int = 2

    def __post_init__(self):
        """Check the number."""
        _whole("max_pool", kernel=self.kernel)

    def output_shape(self, shape):
        """(C, H // kernel, W // kernel)."""
        return (shape[0], *_sides("max_pool", shape, self.kernel, self.kernel, 0))

    def forward(self, params, x, wrt_x=True):
        """See the class."""
        _check("max_pool", x, (None, None, None))
        self.output_shape(x.shape[1:])
        y, which = windows.max_pool(x, self.kernel, self.kernel)

        def pullback(dy):
            return (), windows.max_pool_vjp(dy, which, x.shape, self.kernel, self.kernel)

        return y, pullback


@dataclass(frozen=True)
class AvgPool(Layer):
    """Mean of each (kernel, kernel) window; what does not fill a window is dropped."""

    kernel: int = 2

    def __post_init__(self):
        """Check the number."""
        _whole("avg_pool", kernel=self.kernel)

    def output_shape(self, shape):
        """(C, H // kernel, W // kernel)."""
        return (shape[0], *_sides("avg_pool", shape, self.kernel, self.kernel, 0))

    def forward(self, params, x, wrt_x=True):
        """See the class."""
        _check("avg_pool", x, (None, None, None))
        k = self.kernel
        _, h, w = self.output_shape(x.shape[1:])
        inner = x[:, :, : h * k, : w * k]
        y = inner.reshape(*x.shape[:2], h, k, w, k).mean((3, 5), dtype=x.dtype)

        def pullback(dy):
            dx = np.zeros_like(x)
            dx[:, :, : h * k, : w * k] = (dy / (k * k)).repeat(k, 2).repeat(k, 3)
            return (), dx

        return y, pullback


@dataclass(frozen=True)
class Relu(Layer):
    """``max(x, 0)``; slope 0 at 0."""

    def forward(self, params, x, wrt_x=True):
        """See the class."""
        y = np.maximum(x, 0)
        return y, lambda dy: ((), dy * (y > 0))


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
class BatchNorm(Layer):
    """``(x - mean) / sqrt(var + epsilon) * scale + shift`` for each channel (Ioffe, Szegedy 2015).

    While training, mean and variance are the batch's, and the state moves towards them by
    ``1 - momentum`` a step; otherwise they are the state's.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5

    def init(self, rng, shape):
        """Scale 1, shift 0."""
        return {"scale": np.ones(shape[0], np.float32), "shift": _zeros(shape[0])}

    def init_state(self, shape):
        """Mean 0, variance 1."""
        return {"mean": _zeros(shape[0]), "var": np.ones(shape[0], np.float32)}

    def apply(self, params, x, state=(), train=False, wrt_x=True):
        """See the class."""
        if not isinstance(state, dict):
            raise ValueError("batch_norm: expected its state, as init_state gives it, got none")
        _check("batch_norm", x, (len(params["scale"]), *(None,) * max(x.ndim - 2, 0)))
        if train and not len(x):
            raise ValueError("batch_norm: expected at least one example to learn from, got none")
        axes = (0, *range(2, x.ndim))
        if train:
            count = x.size // x.shape[1]
            mean, var = x.mean(axes), x.var(axes)
            state = self._moved(state, mean, var * (count / max(count - 1, 1)))
        else:
            mean, var = state["mean"].astype(x.dtype), state["var"].astype(x.dtype)
        shape = (1, -1) + (1,) * (x.ndim - 2)
        inverse = (1 / np.sqrt(var + x.dtype.type(self.epsilon))).reshape(shape)
        normal = (x - mean.reshape(shape)) * inverse
        scale = params["scale"].reshape(shape)

        def pullback(dy):
            dscale, dshift = (dy * normal).sum(axes), dy.sum(axes)
            dx = dy
            if train:  # the batch's own mean and variance depend on x too
                count = x.dtype.type(x.size // x.shape[1])
                dx = dy - (dshift.reshape(shape) + normal * dscale.reshape(shape)) / count
            return {"scale": dscale, "shift": dshift}, dx * (scale * inverse)

        return normal * scale + params["shift"].reshape(shape), pullback, state

    def _moved(self, state, mean, var):
        keep = np.float32(self.momentum)
        return {
            key: (keep * state[key] + (1 - keep) * new).astype(state[key].dtype)
            for key, new in (("mean", mean), ("var", var))
        }


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
        for layer, own, past in _with_own(self.layers, params, state):
            x, back, new = layer.apply(own, x, past, train, wrt_x)
            pullbacks.append(back)
            states.append(new)
            wrt_x = wrt_x or bool(own)  # below a layer with parameters, gradients must arrive

        def pullback(dy):
            dparams = []
            for back in reversed(pullbacks):
                # None: nothing further down has parameters, or wants a gradient.
                down, dy = ((), None) if dy is None else back(dy)
                dparams.append(down)
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
        ends = np.cumsum([y.shape[1] for y, _, _ in results])[:-1]

        def pullback(dy):
            parts = np.split(dy, ends, axis=1)
            backs = [back(part) for (_, back, _), part in zip(results, parts, strict=True)]
            dx = sum(dx for _, dx in backs) if wrt_x else None
            return tuple(dparams for dparams, _ in backs), dx

        joined = np.concatenate([y for y, _, _ in results], axis=1)
        return joined, pullback, tuple(new for _, _, new in results)


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


# --- Helpers --------------------------------------------------------------------------------------


def _zeros(size: int) -> np.ndarray:
    return np.zeros(size, np.float32)


def _he(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Normal weights of variance 2 / inputs (He et al. 2015), for layers before a ReLU."""
    return (rng.standard_normal(shape) * np.sqrt(2 / prod(shape[1:]))).astype(np.float32)


def _image_sided(name: str, shape: Shape) -> None:
    if len(shape) != 3:
        raise ValueError(f"{name}: expected inputs of shape (C, H, W), got {shape}")


def _sides(name: str, shape: Shape, kernel: int, stride: int, padding: int) -> Shape:
    _image_sided(name, shape)
    sides = tuple(windows.output_side(side, kernel, stride, padding) for side in shape[1:])
    if min(sides) < 1:
        raise ValueError(f"{name}: a window of {kernel} x {kernel} does not fit into {shape[1:]}")
    return sides


def _chunks(batch: int, elements: int) -> list[slice]:
    """Slices of the batch whose columns have about CHUNK elements."""
    step = max(1, CHUNK // max(elements, 1))
    return [slice(start, min(start + step, batch)) for start in range(0, batch, step)]


def _with_own(layers: tuple[Layer, ...], params: Tree, state: Tree) -> list[tuple]:
    """Each layer with its parameters and state; () stands for layers that all have none."""
    states = state if state else ((),) * len(layers)
    if not len(params) == len(states) == len(layers):
        raise ValueError(
            f"expected parameters and state for {len(layers)} layers, "
            f"got {len(params)} and {len(states)}"
        )
    return list(zip(layers, params, states, strict=True))


# --- Checks ---------------------------------------------------------------------------------------


def _whole(name: str, least: int = 1, **numbers: int) -> None:
    """Raise unless each number is a whole one, not below ``least``."""
    for key, number in numbers.items():
        if not isinstance(number, (int, np.integer)) or number < least:
            raise ValueError(
                f"{name}: {key} must be a whole number from {least} on, got {number!r}"
            )


def _layers(name: str, layers: tuple[Layer, ...]) -> None:
    """Raise unless each is a layer."""
    for layer in layers:
        if not isinstance(layer, Layer):
            hint = "; call it: relu(), not relu" if callable(layer) else ""
            raise TypeError(f"{name}: expected layers, got {layer!r}{hint}")


def _check(name: str, x: Any, shape: tuple[int | None, ...]) -> None:
    """Raise unless x is a floating batch of this shape (None: any length)."""
    if x.ndim != len(shape) + 1 or any(
        want is not None and want != have for want, have in zip(shape, x.shape[1:], strict=False)
    ):
        sides = ", ".join("any" if side is None else str(side) for side in shape)
        raise ValueError(f"{name}: expected inputs of shape (N, {sides}), got {x.shape}")
    if x.dtype.kind != "f":
        raise TypeError(f"{name}: expected floating inputs, got {x.dtype}")
