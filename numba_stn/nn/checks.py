"""Checks of what layers and optimisers are given: numbers in a range, arrays of a shape.

Kernels trust their arguments, so an array of a wrong shape would be read or written out of bounds.
:class:`.base.Layer` calls the functions for arrays, for every layer and in both directions.
"""

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from ..utils.namespace import is_cupy, namespace
from .tree import Tree, tree_map

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


# --- Numbers --------------------------------------------------------------------------------------


def check_whole(name: str, least: int = 1, **numbers: int) -> None:
    """Raise unless each is a whole number of at least ``least``."""
    for key, number in numbers.items():
        whole = isinstance(number, (int, np.integer)) and not isinstance(number, bool)
        if not whole or number < least:
            raise ValueError(
                f"{name}: {key} must be a whole number of at least {least}, got {number!r}"
            )


def check_number(
    name: str, least: float = 0.0, below: float = math.inf, at_most: float = math.inf,
    **numbers: float,
) -> None:  # fmt: skip
    """Raise unless each is a finite number from ``least`` to ``at_most``, and less than ``below``.

    Raises
    ------
    TypeError
        If one is not a number.
    ValueError
        If one is out of range.
    """
    for key, number in numbers.items():
        if isinstance(number, (bool, np.bool_)) or not isinstance(number, Real):
            raise TypeError(f"{name}: {key} must be a number, got {number!r}")
        if not (least <= number <= at_most and number < below):  # NaN is in no range
            upper = f" and less than {below}" if below < math.inf else ""
            upper = f" and at most {at_most}" if at_most < math.inf else upper
            raise ValueError(
                f"{name}: {key} must be a finite number of at least {least}{upper}, got {number!r}"
            )


def check_positive(name: str, **numbers: Any) -> None:
    """Raise unless each is a finite positive number."""
    for key, number in numbers.items():
        check_number(name, **{key: number})
        if not number:
            raise ValueError(f"{name}: {key} must be positive, got {number!r}")


# --- Arrays ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Expected:
    """The shape that an array must have, and the dtypes that it may have."""

    shape: tuple[int, ...]
    dtypes: tuple[np.dtype, ...]


def expected_arrays(tree: Tree) -> Tree:
    """A tree of :class:`Expected`, from one of arrays. Parameters may be of either floating type.

    A leaf that is not an array becomes None, which :func:`check_tree` takes for anything.
    """

    def of_leaf(leaf):
        if not hasattr(leaf, "dtype"):
            return None
        return Expected(leaf.shape, FLOATS if leaf.dtype in FLOATS else (leaf.dtype,))

    return tree_map(of_leaf, tree)


def check_array(name: str, argument: str, array: Any) -> Any:
    """Return a floating array of NumPy or CuPy, contiguous and in the machine's byte order.

    Sums depend on strides in their last bits, so all layers get contiguous arrays.

    Raises
    ------
    TypeError
        If it is not an array, or not of float32 or float64.
    """
    if type(array) is not np.ndarray and not is_cupy(array):
        array = _plain(name, argument, array)
    if array.dtype not in FLOATS:
        if array.dtype.newbyteorder("=") not in FLOATS:
            raise TypeError(f"{name}: {argument}: expected float32 or float64, got {array.dtype}")
        array = array.astype(array.dtype.newbyteorder("="))
    return namespace(array).ascontiguousarray(array) if array.ndim else array


def _plain(name, argument, array):
    """An array of a class that is derived from NumPy's, as one of NumPy's own."""
    if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
        raise TypeError(
            f"{name}: {argument}: expected an array of NumPy or CuPy, got {_kind(array)}"
        )
    return array.view(np.ndarray)


def check_gradient(name: str, dy: Any, kind: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """Return the gradient of an output of this kind and shape, in its dtype."""
    dy = check_array(name, "dy", dy)
    if dy.shape != shape:
        raise ValueError(f"{name}: dy: expected the output's shape {shape}, got {dy.shape}")
    if type(dy) is not kind:
        raise TypeError(
            f"{name}: dy: expected an array of one library with the output, got {_kind(dy)}"
        )
    return dy.astype(dtype, copy=False)


def check_tree(
    name: str, path: tuple[str, ...], tree: Tree, expected: Tree, x: Any = None, shape: Any = ()
) -> None:
    """Raise unless a tree has the structure and the arrays that are expected, for x of ``shape``.

    ``path`` is the argument's name, and the keys that lead to this part of it.
    """
    if isinstance(expected, dict):
        if not isinstance(tree, dict) or tree.keys() != expected.keys():
            _refuse_structure(name, path, tree, f"a dictionary with {list(expected)}")
        branches = [(key, tree[key], want) for key, want in expected.items()]
    elif isinstance(expected, tuple):
        if not isinstance(tree, (tuple, list)) or len(tree) != len(expected):
            _refuse_structure(name, path, tree, f"a tuple of {len(expected)} items")
        branches = [(str(n), *pair) for n, pair in enumerate(zip(tree, expected, strict=True))]
    else:
        branches = [("", tree, expected)]
    for key, branch, want in branches:
        if type(want) is not Expected:
            if want is not None:
                check_tree(name, (*path, key), branch, want, x, shape)
        elif not (
            type(branch) is type(x) and branch.shape == want.shape and branch.dtype in want.dtypes
        ):
            _refuse_array(name, ".".join(filter(None, (*path, key))), branch, want, x, shape)


def _refuse_structure(name, path, tree, expected):
    """Raise the error for a part of a tree that has other keys or another length."""
    if isinstance(tree, dict):
        raise ValueError(f"{name}: {'.'.join(path)}: expected {expected}, got {list(tree)}")
    if isinstance(tree, (tuple, list)):
        raise ValueError(f"{name}: {'.'.join(path)}: expected {expected}, got {len(tree)} items")
    raise TypeError(f"{name}: {'.'.join(path)}: expected {expected}, got {_kind(tree)}")


def batch_of(shape: tuple[int, ...]) -> str:
    """The shape of a batch of such examples, as messages have it."""
    return f"({', '.join(map(str, ('N', *shape)))}{'' if shape else ','})"


def _refuse_array(name, argument, array, want, x, shape):
    """Raise the error for an array, unless it is a memory-mapped one that would fit."""
    if isinstance(array, np.memmap) and type(x) is np.ndarray:
        array = np.asarray(array)
    elif not isinstance(array, np.ndarray) and not is_cupy(array):
        raise TypeError(f"{name}: {argument}: expected an array, got {_kind(array)}")
    elif type(array) is not type(x):
        raise TypeError(f"{name}: x and {argument}: expected arrays of one library, NumPy or CuPy, "
                        f"got {_kind(x)} and {_kind(array)}")  # fmt: skip
    if array.shape != want.shape:
        raise ValueError(
            f"{name}: {argument}: expected shape {want.shape} for x of shape {batch_of(shape)}, "
            f"got {array.shape}"
        )
    if array.dtype not in want.dtypes:
        expected = " or ".join(map(str, want.dtypes))
        raise TypeError(f"{name}: {argument}: expected {expected}, got {array.dtype}")


def _kind(value):
    """The name of a value's type."""
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
