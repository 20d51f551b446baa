"""Parameter trees: dictionaries and tuples whose leaves are arrays."""

from collections.abc import Callable, Iterator
from typing import Any

Tree = Any  # an array, or a dict or tuple of trees


def tree_map(function: Callable, tree: Tree, *others: Tree) -> Tree:
    """Apply a function to each leaf of a tree, and to the leaves of ``others`` at the same path.

    Parameters
    ----------
    function : callable
        Called with one leaf of each tree.
    tree, *others : trees
        ``others`` have the structure of ``tree``.

    Returns
    -------
    tree
        Of the results, with the structure of ``tree``.

    Examples
    --------
    >>> from numba_stn.nn import tree
    >>> tree.tree_map(lambda a, b: a + b, {"x": 1, "y": (2,)}, {"x": 10, "y": (20,)})
    {'x': 11, 'y': (22,)}
    """
    if isinstance(tree, dict):
        return {
            key: tree_map(function, tree[key], *(other[key] for other in others)) for key in tree
        }
    if isinstance(tree, (tuple, list)):
        return tuple(tree_map(function, *branches) for branches in zip(tree, *others, strict=True))
    return function(tree, *others)


def leaves(tree: Tree, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Iterate over (path, leaf) in a fixed order.

    Examples
    --------
    >>> from numba_stn.nn import tree
    >>> list(tree.leaves({"x": 1, "y": (2,)}))
    [(('x',), 1), (('y', '0'), 2)]
    """
    if isinstance(tree, dict):
        branches = [(str(key), tree[key]) for key in tree]
    elif isinstance(tree, (tuple, list)):
        branches = [(str(index), branch) for index, branch in enumerate(tree)]
    else:
        yield path, tree
        return
    for key, branch in branches:
        yield from leaves(branch, (*path, key))


def flatten(tree: Tree) -> dict[str, Any]:
    """Convert a tree to one dictionary ``{"0.weight": array, ...}``, as files need it.

    Examples
    --------
    >>> from numba_stn.nn import tree
    >>> tree.flatten(({"weight": 1, "bias": 2}, ()))
    {'0.weight': 1, '0.bias': 2}
    """
    return {".".join(path): leaf for path, leaf in leaves(tree)}


def unflatten(flat: dict[str, Any], like: Tree) -> Tree:
    """Convert a dictionary from :func:`flatten` back to a tree.

    Parameters
    ----------
    flat : dict of str to array
    like : tree
        Its structure, shapes and dtypes are those of the result.

    Raises
    ------
    ValueError
        If a leaf is missing, unknown, or of another shape; the message names it.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_stn.nn import tree
    >>> tree.unflatten({"0.bias": np.ones(2)}, ({"bias": np.zeros(2)},))
    ({'bias': array([1., 1.])},)
    """
    wanted = flatten(like)
    if wanted.keys() != flat.keys():
        raise ValueError(
            f"weights: expected the names {sorted(wanted)}, but "
            f"{sorted(wanted.keys() - flat.keys())} are missing and "
            f"{sorted(flat.keys() - wanted.keys())} are unknown"
        )
    for name, leaf in wanted.items():
        if leaf.shape != flat[name].shape:
            raise ValueError(f"weights: {name} has shape {flat[name].shape}, expected {leaf.shape}")
    names = iter(wanted)
    return tree_map(lambda leaf: flat[next(names)].astype(leaf.dtype), like)


def size(tree: Tree) -> int:
    """Total number of elements of a tree's arrays.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_stn.nn import tree
    >>> tree.size({"weight": np.ones((3, 5)), "bias": np.ones(3)})
    18
    """
    return sum(leaf.size for _, leaf in leaves(tree))
