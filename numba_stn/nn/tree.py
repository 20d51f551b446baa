"""Parameter trees: dictionaries and tuples whose leaves are arrays."""

from collections.abc import Callable, Iterator
from typing import Any

Tree = Any  # an array, or a dict or tuple of trees


def tree_map(function: Callable, tree: Tree, *others: Tree) -> Tree:
    """Apply ``function`` to each leaf of ``tree`` and the leaves at its place in ``others``."""
    if isinstance(tree, dict):
        return {
            key: tree_map(function, tree[key], *(other[key] for other in others)) for key in tree
        }
    if isinstance(tree, (tuple, list)):
        return tuple(tree_map(function, *branches) for branches in zip(tree, *others, strict=True))
    return function(tree, *others)


def leaves(tree: Tree, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each leaf with its path, in a fixed order."""
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
    """The tree as one dictionary, ``{"0.weight": array, ...}``, for a file."""
    return {".".join(path): leaf for path, leaf in leaves(tree)}


def unflatten(flat: dict[str, Any], like: Tree) -> Tree:
    """The tree of ``like``'s structure and shapes whose leaves :func:`flatten` put into ``flat``.

    Raises
    ------
    ValueError
        If a leaf is missing, left over, or of another shape; the message names it.
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
    """Numbers in the tree."""
    return sum(leaf.size for _, leaf in leaves(tree))
