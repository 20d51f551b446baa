"""The base class of layers, and helpers that they share.

A layer has two functions: ``init(rng, shape) -> params`` and ``apply(params, x, state, train) -> y,
pullback, state``. The pullback maps the gradient of the loss with respect to y to those with
respect to the parameters and to x: ``dparams, dx = pullback(dy)``. There is no tape and no hidden
buffer. Running statistics are the ``state``, an argument and a result of ``apply``. Layers without
state ignore it.

``shape`` is the shape of one example, without N: (C, H, W) or (features,).

Whatever class defines ``apply``, :class:`Layer` has it check its arguments, and its pullback dy:
kernels would read and write out of bounds where shapes do not fit.
"""

import functools
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from .checks import check_array, check_gradient, check_tree, expected_arrays
from .tree import Tree

Shape = tuple[int, ...]
Pullback = Callable[[Any], tuple[Tree, Any]]

# Of this number of input shapes a layer remembers which arrays they need.
SHAPES_REMEMBERED = 32


def _checked(apply):
    """The method ``apply`` of a layer, with checks of its arguments and of its pullback's dy."""

    @functools.wraps(apply)
    def checked_apply(self, params, x, state=(), train=False, wrt_x=True, **options):
        x = check_arguments(self, params, x, state, train)
        y, pullback, state = apply(self, params, x, state, train, wrt_x, **options)
        return y, checked_pullback(self, pullback, y), state

    return checked_apply


class Layer:
    """Base class of all layers.

    A layer is a value that does not change. One without state defines only :meth:`forward`, and
    :meth:`init` if it has parameters; one with state defines :meth:`init_state` and :meth:`apply`.
    Both are then called only with an x that :meth:`output_shape` does not refuse, with parameters
    and state of the shapes that :meth:`init` and :meth:`init_state` give for it, and the pullback
    with a dy of the output's shape and dtype. Anything else raises an error before.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        """Have the class's own ``apply`` check its arguments."""
        super().__init_subclass__(**options)
        if "apply" in vars(cls):
            cls.apply = _checked(cls.apply)  # type: ignore[method-assign]

    def init(self, rng: np.random.Generator, shape: Shape) -> Tree:
        """Draw the parameters for inputs of ``shape`` from ``rng``."""
        return ()

    def init_state(self, shape: Shape) -> Tree:
        """Running statistics before the first step."""
        return ()

    def output_shape(self, shape: Shape) -> Shape:
        """Shape of an output for an input of ``shape``.

        Raises
        ------
        ValueError
            If the layer does not take such inputs.
        """
        return shape

    def arrays(self, shape: Shape) -> tuple[Tree, Tree]:
        """Describe the parameters and the state for inputs of ``shape``, for the checks.

        Both are trees of :class:`numba_stn.nn.checks.Expected`. In a container they end with None
        where its layers' own begin, which those check themselves.
        """
        params = self.init(np.random.default_rng(0), shape)
        return expected_arrays(params), expected_arrays(self.init_state(shape))

    def part(self, key: str) -> "Layer":
        """The layer whose parameters are under a key of this one's, if it is a container."""
        return self

    @functools.cached_property
    def _remembered(self) -> dict[Shape, tuple[Tree, Tree]]:
        """The results of :meth:`arrays`, which draws parameters, for the latest shapes."""
        return {}

    @_checked
    def apply(
        self, params: Tree, x: Any, state: Tree = (), train: bool = False, wrt_x: bool = True
    ) -> tuple[Any, Pullback, Tree]:
        """Output, pullback and new state for a batch.

        Parameters
        ----------
        params, state : trees
            As :meth:`init` and :meth:`init_state` give them, of the same library as x.
        x : (N, ...) array
            Of NumPy or CuPy.
        train : bool
            Whether this is a training step: batch normalisation then uses the batch's own
            statistics, and dropout is on.
        wrt_x : bool
            Whether the gradient with respect to x is wanted. Without it, the pullback's second
            result may be None, which saves its time.

        Returns
        -------
        y : (N, ...) array
        pullback : callable
            ``dparams, dx = pullback(dy)``.
        state : tree

        Raises
        ------
        ValueError, TypeError
            If an argument has the wrong shape or type, here or in the pullback; the message names
            the layer and the argument.
        """
        return *self.forward(params, x, wrt_x), state

    def forward(self, params: Tree, x: Any, wrt_x: bool = True) -> tuple[Any, Pullback]:
        """Output and pullback, for a layer without state."""
        raise NotImplementedError


# --- Checks ---------------------------------------------------------------------------------------


def name_of(layer: Layer) -> str:
    """The layer's name in messages; by default its class's."""
    return getattr(layer, "name", type(layer).__name__)


def check_arguments(layer: Layer, params: Tree, x: Any, state: Tree, train: bool) -> Any:
    """Return the batch x as a plain array; raise if the layer cannot be applied to it."""
    x = check_batch(layer, x)
    check_params(layer, params, state, train, x, x.shape[1:])
    return x


def check_batch(layer: Layer, x: Any) -> Any:
    """Return a batch as a plain array; raise if it is something else."""
    x = check_array(name_of(layer), "x", x)
    if not x.ndim:
        raise ValueError(f"{name_of(layer)}: x: expected a batch of shape (N, ...), got a number")
    return x


def check_params(
    layer: Layer, params: Tree, state: Tree, train: bool, x: Any, shape: Shape
) -> None:
    """Raise unless parameters and state fit inputs of ``shape``, of x's library.

    Without training a layer may have no use for its state; batch normalisation says if it has.
    """
    remembered = layer._remembered
    if (found := remembered.get(shape)) is None:
        if len(remembered) >= SHAPES_REMEMBERED:
            remembered.clear()
        layer.output_shape(shape)  # raises an error if the layer does not take such inputs
        found = remembered[shape] = layer.arrays(shape)
    own_params, own_state = found
    check_tree(name_of(layer), "params", params, own_params, x, shape)
    if own_state and (train or not (isinstance(state, (tuple, list)) and not state)):
        check_tree(name_of(layer), "state", state, own_state, x, shape)


def checked_pullback(layer: Layer, pullback: Pullback, y: Any) -> Pullback:
    """The pullback of the output y, with a check of its argument."""
    expected = type(y), y.shape, y.dtype  # not y itself, which may not be needed any more

    def checked(dy):
        return pullback(check_gradient(name_of(layer), dy, *expected))

    return checked


# --- Helpers --------------------------------------------------------------------------------------


def check_layers(name: str, layers: tuple[Layer, ...]) -> None:
    """Raise unless each is a layer."""
    for layer in layers:
        if not isinstance(layer, Layer):
            hint = "; call it: relu(), not relu" if callable(layer) else ""
            raise TypeError(f"{name}: expected layers, got {layer!r}{hint}")


def repeat(x: Any, count: int) -> Any:
    """``np.repeat(x, count, axis=0)``, for which CuPy would launch a kernel per example."""
    return np.stack([x] * count, axis=1).reshape(len(x) * count, *x.shape[1:])


# --- Initial parameters ---------------------------------------------------------------------------


def zeros(size: int) -> np.ndarray:
    """A bias of zeros."""
    return np.zeros(size, np.float32)


def he_normal(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Normal weights of variance 2 / inputs (He et al. 2015), for layers before a ReLU."""
    variance = 2 / max(prod(shape[1:]), 1)  # a layer may have no inputs
    return (rng.standard_normal(shape) * np.sqrt(variance)).astype(np.float32)
