"""The base class of layers, and helpers that they share.

A layer has two functions: ``init(rng, shape) -> params`` and ``apply(params, x, state, train) -> y,
pullback, state``. The pullback maps the gradient of the loss with respect to y to those with
respect to the parameters and to x: ``dparams, dx = pullback(dy)``. There is no tape and no hidden
buffer. Running statistics are the ``state``, an argument and a result of ``apply``. Layers without
state ignore it.

``shape`` is the shape of one example, without N: (C, H, W) or (features,).
"""

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from .tree import Tree

Shape = tuple[int, ...]
Pullback = Callable[[Any], tuple[Tree, Any]]


class Layer:
    """Base class of all layers.

    A layer without parameters and state defines only :meth:`forward`.
    """

    def init(self, rng: np.random.Generator, shape: Shape) -> Tree:
        """Draw the parameters for inputs of ``shape`` from ``rng``."""
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
        """
        return *self.forward(params, x, wrt_x), state

    def forward(self, params: Tree, x: Any, wrt_x: bool = True) -> tuple[Any, Pullback]:
        """Output and pullback, for a layer without state."""
        raise NotImplementedError


def repeat(x: Any, count: int) -> Any:
    """``np.repeat(x, count, axis=0)``, for which CuPy would launch a kernel per example."""
    return np.stack([x] * count, axis=1).reshape(len(x) * count, *x.shape[1:])


# --- Initial parameters ---------------------------------------------------------------------------


def zeros(size: int) -> np.ndarray:
    """A bias of zeros."""
    return np.zeros(size, np.float32)


def he_normal(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Normal weights of variance 2 / inputs (He et al. 2015), for layers before a ReLU."""
    return (rng.standard_normal(shape) * np.sqrt(2 / prod(shape[1:]))).astype(np.float32)


# --- Checks ---------------------------------------------------------------------------------------


def check_whole(name: str, least: int = 1, **numbers: int) -> None:
    """Raise unless each is a whole number of at least ``least``."""
    for key, number in numbers.items():
        if not isinstance(number, (int, np.integer)) or number < least:
            raise ValueError(
                f"{name}: {key} must be a whole number of at least {least}, got {number!r}"
            )


def check_input(
    name: str, x: Any, expected: tuple[int | None, ...], shape: Shape | None = None
) -> None:
    """Raise unless x is a float32 or float64 batch of examples of the ``expected`` shape.

    None in ``expected`` is any length. ``shape``, if given, is checked instead of x's own.
    """
    shape = x.shape if shape is None else shape
    if len(shape) != len(expected) + 1 or any(
        want is not None and want != have for want, have in zip(expected, shape[1:], strict=False)
    ):
        sides = ", ".join("any" if side is None else str(side) for side in expected)
        raise ValueError(f"{name}: expected inputs of shape (N, {sides}), got {shape}")
    if x.dtype not in (np.float32, np.float64):
        raise TypeError(f"{name}: expected float32 or float64 inputs, got {x.dtype}")
