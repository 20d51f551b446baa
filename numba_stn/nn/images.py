"""Layers of images: convolution and pooling, and how a run of them is worked through.

Such layers work on bundles of images (:mod:`numba_stn.kernels.layers.batch_blocks`). One on its own
bundles its input and unbundles its output; a network hands a run of them to :func:`through`, which
does so once, at its ends. So what stands between layers is always (N, C, H, W).

CuPy's arrays are worked on as they are, by functions of the same names (:mod:`.dense`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..kernels.layers import batch_blocks, convolution
from ..utils.namespace import namespace
from . import dense
from .layer import Layer, Pullback, Shape, check, he, whole, zeros
from .tree import Tree


def loops(*arrays: Any) -> tuple[Any, Any]:
    """The modules whose functions pool and convolve these arrays, by whose arrays they are."""
    return (batch_blocks, convolution) if namespace(*arrays) is np else (dense, dense)


class Bundled(Layer):
    """A layer that can also work on bundles."""

    name: str  # as messages have it
    count = 1  # layers that it stands for

    def expects(self, params: Tree) -> tuple[int | None, ...]:
        """Shape of one input, None for any length."""
        return (None, None, None)

    def bundled(self, params: Tree, x: Any, wrt_x: bool = True) -> tuple[Any, Pullback]:
        """:meth:`forward` of bundles."""
        raise NotImplementedError

    def bundled_apply(
        self, params: Tree, x: Any, batch: int, state: Tree, train: bool, wrt_x: bool
    ) -> tuple[Any, Pullback, Tree]:
        """:meth:`apply` of bundles that hold so many images."""
        return *self.bundled(params, x, wrt_x), state

    def pooled(self, kernel: int) -> "Bundled | None":
        """One layer for this and a max pooling behind it, on NumPy's arrays, if there is one."""
        return None


class Windowed(Bundled):
    """A layer that looks through windows at images, and works on bundles only."""

    def forward(self, params, x, wrt_x=True):
        """See the class."""
        y, run, _ = through((self,), (params,), x, wrt_x=wrt_x)

        def pullback(dy):
            (dparams,), dx = run(dy)
            return dparams, dx

        return y, pullback


def through(
    layers: Sequence[Bundled], params: Sequence[Tree], x: Any, states: Sequence[Tree] | None = None,
    train: bool = False, wrt_x: bool = True,
) -> tuple[Any, Callable[[Any], tuple[tuple, Any]], list[Tree]]:  # fmt: skip
    """Output, pullback and states of a run of layers, the gradients one for each layer."""
    batch, shape = len(x), x.shape[1:]
    states = states or ((),) * len(layers)
    for layer, own in zip(layers, params, strict=True):
        check(layer.name, x, layer.expects(own), (batch, *shape))
        shape = layer.output_shape(shape)
    form, _ = loops(x)
    y, pullbacks, moved = form.bundle(x), [], []
    for layer, own, state in _steps(layers, params, states, form is batch_blocks):
        rest = [()] * (layer.count - 1)  # the others have neither parameters nor state
        y, back, state = layer.bundled_apply(own, y, batch, state, train, wrt_x)
        pullbacks.append((back, rest))
        moved += [state, *rest]
        wrt_x = wrt_x or bool(own)

    def pullback(dy):
        dparams, dx = [], form.bundle(dy.astype(y.dtype, copy=False))
        for back, rest in reversed(pullbacks):
            down, dx = ((), None) if dx is None else back(dx)
            dparams += [*rest, down]
        dx = None if dx is None else form.unbundle(dx, batch)
        return tuple(reversed(dparams)), dx

    return form.unbundle(y, batch), pullback, moved


def _steps(layers, params, states, together):
    """The layers with their own; if ``together``, two that are one step stand as one."""
    steps: list[tuple[Bundled, Tree, Tree]] = []
    for layer, own, state in zip(layers, params, states, strict=True):
        joint = None
        if together and steps and isinstance(layer, MaxPool):
            joint = steps[-1][0].pooled(layer.kernel)
        if joint:
            steps[-1] = (joint, *steps[-1][1:])
        else:
            steps.append((layer, own, state))
    return steps


# --- Convolution ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Conv2d(Windowed):
    """Cross-correlation with (features, C, kernel, kernel) weights, and a bias per feature.

    See :mod:`numba_stn.kernels.layers.convolution`.
    """

    name = "conv2d"

    features: int
    kernel: int
    stride: int = 1
    padding: int = 0

    def __post_init__(self):
        """Check the numbers."""
        whole("conv2d", features=self.features, kernel=self.kernel, stride=self.stride)
        whole("conv2d", 0, padding=self.padding)

    def init(self, rng, shape):
        """He-normal weights, zero bias."""
        self.output_shape(shape)
        weight = he(rng, (self.features, shape[0], self.kernel, self.kernel))
        return {"weight": weight, "bias": zeros(self.features)}

    def output_shape(self, shape):
        """(features, H_out, W_out)."""
        _image_sided("conv2d", shape)
        return (self.features, *_sides("conv2d", shape, self.kernel, self.stride, self.padding))

    def expects(self, params):
        """(C, any, any)."""
        return (params["weight"].shape[1], None, None)

    def bundled(self, params, x, wrt_x=True):
        """See the class."""
        weight, margin = params["weight"], self.padding
        form, sums = loops(x, weight)
        wide = form.padded(x.astype(np.result_type(x.dtype, weight.dtype), copy=False), margin)

        def pullback(dy):
            dy = dy.astype(wide.dtype, copy=False)
            dweight, dbias = sums.convolve_vjp_weight(dy, wide, weight.shape, self.stride)
            dx = None
            if wrt_x:
                dx = sums.convolve_vjp_x(dy, weight, wide.shape, self.stride)
                dx = namespace(dx).ascontiguousarray(form.cropped(dx, margin))
            return {"weight": dweight, "bias": dbias}, dx

        return sums.convolve(wide, weight, params["bias"], self.stride), pullback


# --- Pooling --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MaxPool(Windowed):
    """Largest value of each (kernel, kernel) window; what does not fill a window is dropped."""

    name = "max_pool"

    kernel: int = 2

    def __post_init__(self):
        """Check the number."""
        whole("max_pool", kernel=self.kernel)

    def output_shape(self, shape):
        """(C, H // kernel, W // kernel)."""
        return (shape[0], *_sides("max_pool", shape, self.kernel, self.kernel))

    def bundled(self, params, x, wrt_x=True):
        """See the class."""
        form, _ = loops(x)
        y, which = form.max_pool(x, self.kernel)
        return y, lambda dy: ((), form.max_pool_vjp(dy, which, x.shape, self.kernel))


@dataclass(frozen=True)
class AvgPool(Windowed):
    """Mean of each (kernel, kernel) window; what does not fill a window is dropped."""

    name = "avg_pool"

    kernel: int = 2

    def __post_init__(self):
        """Check the number."""
        whole("avg_pool", kernel=self.kernel)

    def output_shape(self, shape):
        """(C, H // kernel, W // kernel)."""
        return (shape[0], *_sides("avg_pool", shape, self.kernel, self.kernel))

    def bundled(self, params, x, wrt_x=True):
        """See the class."""
        k = self.kernel
        h, w = (side // k for side in x.shape[2:4])
        inner = x[:, :, : h * k, : w * k]
        y = inner.reshape(*x.shape[:2], h, k, w, k, *x.shape[4:]).mean((3, 5), dtype=x.dtype)

        def pullback(dy):
            dx = np.zeros_like(x)
            dx[:, :, : h * k, : w * k] = (dy / (k * k)).repeat(k, 2).repeat(k, 3)
            return (), dx

        return y, pullback


# --- Checks ---------------------------------------------------------------------------------------


def _image_sided(name: str, shape: Shape) -> None:
    if len(shape) != 3:
        raise ValueError(f"{name}: expected inputs of shape (C, H, W), got {shape}")


def _sides(name: str, shape: Shape, kernel: int, stride: int, padding: int = 0) -> Shape:
    _image_sided(name, shape)
    sides = tuple(convolution.output_side(side + 2 * padding, kernel, stride) for side in shape[1:])
    if min(sides) < 1:
        raise ValueError(f"{name}: a window of {kernel} x {kernel} does not fit into {shape[1:]}")
    return sides
