"""What every layer is: two functions, and the checks that they share.

A layer has ``init(rng, shape) -> params`` and ``apply(params, x, state, train) -> y, pullback,
state``, and the pullback maps the loss's gradient with respect to y to those with respect to the
parameters and to x: ``dparams, dx = pullback(dy)``. There is no tape and no hidden buffer. What
changes while a network runs (running statistics) is the ``state``, an argument and a result;
layers without one ignore it.

``shape`` is one example's shape, without N: (C, H, W) or (features,).
"""

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from .tree import Tree

Shape = tuple[int, ...]
Pullback = Callable[[Any], tuple[Tree, Any]]


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
        """Output, pullback and new state for the batch ``x``, all of NumPy's or of CuPy's arrays.

        Without ``wrt_x``, as for the images a network is trained on, the pullback's second result
        may be None, and then costs nothing.
        """
        return *self.forward(params, x, wrt_x), state

    def forward(self, params: Tree, x: Any, wrt_x: bool = True) -> tuple[Any, Pullback]:
        """Output and pullback."""
        raise NotImplementedError


def repeated(x: Any, count: int) -> Any:
    """``np.repeat(x, count, axis=0)``, for which CuPy would launch a kernel for each example."""
    return np.stack([x] * count, axis=1).reshape(len(x) * count, *x.shape[1:])


# --- First weights --------------------------------------------------------------------------------


def zeros(size: int) -> np.ndarray:
    """A bias of zeros."""
    return np.zeros(size, np.float32)


def he(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Normal weights of variance 2 / inputs (He et al. 2015), for layers before a ReLU."""
    return (rng.standard_normal(shape) * np.sqrt(2 / prod(shape[1:]))).astype(np.float32)


# --- Checks ---------------------------------------------------------------------------------------


def whole(name: str, least: int = 1, **numbers: int) -> None:
    """Raise unless each number is a whole one, not below ``least``."""
    for key, number in numbers.items():
        if not isinstance(number, (int, np.integer)) or number < least:
            raise ValueError(
                f"{name}: {key} must be a whole number from {least} on, got {number!r}"
            )


def check(name: str, x: Any, expected: tuple[int | None, ...], shape: Shape | None = None) -> None:
    """Raise unless x, or what has its dtype and this ``shape``, is a batch as expected.

    That is float32 or float64, each example of the expected shape (None: any length).
    """
    shape = x.shape if shape is None else shape
    if len(shape) != len(expected) + 1 or any(
        want is not None and want != have for want, have in zip(expected, shape[1:], strict=False)
    ):
        sides = ", ".join("any" if side is None else str(side) for side in expected)
        raise ValueError(f"{name}: expected inputs of shape (N, {sides}), got {shape}")
    if x.dtype not in (np.float32, np.float64):
        raise TypeError(f"{name}: expected float32 or float64 inputs, got {x.dtype}")
