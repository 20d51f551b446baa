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

    A leaf that is not an array becomes None, which fits anything.
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
    usual = type(array) is np.ndarray and array.dtype in FLOATS and array.flags.c_contiguous
    return array if usual else _converted(name, argument, array)


def _converted(name, argument, array):
    """:func:`check_array` for arguments other than plain, contiguous arrays."""
    if not isinstance(array, np.ndarray) and not is_cupy(array):
        raise TypeError(
            f"{name}: {argument}: expected an array of NumPy or CuPy, got {_kind(array)}"
        )
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"{name}: {argument}: expected an array without a mask, got a masked array")
    dtype = array.dtype.newbyteorder("=")
    if dtype not in FLOATS:
        raise TypeError(f"{name}: {argument}: expected float32 or float64, got {dtype}")
    array = array.astype(dtype, copy=False)
    return namespace(array).ascontiguousarray(array) if array.ndim else array


def check_gradient(name: str, dy: Any, kind: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """Return the gradient of an output of this kind and shape, in its dtype."""
    dy = check_array(name, "dy", dy)
    if dy.shape != shape:
        raise ValueError(f"{name}: dy: expected the output's shape {shape}, got {dy.shape}")
    if type(dy) is not kind:
        raise TypeError(
            f"{name}: dy: expected an array of one library with the output, got {_kind(dy)}"
        )
    return dy if dy.dtype == dtype else dy.astype(dtype)


def check_tree(
    name: str, argument: str, tree: Tree, expected: Tree, x: Any = None, shape: Any = ()
) -> None:
    """Raise unless a tree has the structure and the arrays that are expected, for x of ``shape``.

    Raises
    ------
    ValueError, TypeError
        The message names the layer, the argument and the part of it.
    """
    kinds = (np.ndarray, np.memmap) if x is None or type(x) is np.ndarray else (type(x),)
    if found := _first_misfit(tree, expected, kinds):
        *path, part, want = found
        where = ".".join(map(str, (argument, *path)))
        if type(want) is not Expected:
            _refuse_structure(name, where, part, want)
        _refuse_array(name, where, part, want, x, shape)


def _first_misfit(tree, expected, kinds):
    """The keys to the first part of a tree that does not fit, the part, and what was expected."""
    if expected is None:
        return None
    if type(expected) is Expected:
        fits = (
            type(tree) in kinds and tree.shape == expected.shape and tree.dtype in expected.dtypes
        )
        return None if fits else (tree, expected)
    if type(expected) is dict:
        if not isinstance(tree, dict) or tree.keys() != expected.keys():
            return tree, expected
    elif not isinstance(tree, (tuple, list)) or len(tree) != len(expected):
        return tree, expected
    for key, want in expected.items() if type(expected) is dict else enumerate(expected):
        if found := _first_misfit(tree[key], want, kinds):
            return (key, *found)
    return None


def _refuse_structure(name, argument, tree, expected):
    """Raise the error for a part of a tree that has other keys or another length."""
    if isinstance(expected, dict):
        wanted = f"a dictionary with {list(expected)}"
    else:
        wanted = f"a tuple of {len(expected)} items"
    if isinstance(tree, dict):
        raise ValueError(f"{name}: {argument}: expected {wanted}, got {list(tree)}")
    if isinstance(tree, (tuple, list)):
        raise ValueError(f"{name}: {argument}: expected {wanted}, got {len(tree)} items")
    raise TypeError(f"{name}: {argument}: expected {wanted}, got {_kind(tree)}")


def _refuse_array(name, argument, array, want, x, shape):
    """Raise the error for an array that does not fit."""
    if not isinstance(array, np.ndarray) and not is_cupy(array):
        raise TypeError(f"{name}: {argument}: expected an array, got {_kind(array)}")
    if is_cupy(array) != is_cupy(x) or isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"{name}: x and {argument}: expected arrays of one library, NumPy or CuPy, "
                        f"got {_kind(x)} and {_kind(array)}")  # fmt: skip
    if array.shape != want.shape:
        raise ValueError(
            f"{name}: {argument}: expected shape {want.shape} for x of shape {batch_of(shape)}, "
            f"got {array.shape}"
        )
    expected = " or ".join(map(str, want.dtypes))
    raise TypeError(f"{name}: {argument}: expected {expected}, got {array.dtype}")


def batch_of(shape: tuple[int, ...]) -> str:
    """The shape of a batch of such examples, as messages have it."""
    return f"({', '.join(map(str, ('N', *shape)))}{'' if shape else ','})"


def _kind(value):
    """The name of a value's type."""
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
