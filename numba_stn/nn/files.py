"""Trees of arrays in safetensors files, which hold numbers only: reading one runs no code.

:func:`save` and :func:`load` keep the tree's structure in the file; :func:`pack` and :func:`unpack`
leave it to the caller, who knows the network.
"""

import json
import os
import pathlib

import numpy as np

from ..utils.atomic_write import write_atomically
from ..utils.namespace import is_cupy, to_host
from .tree import Tree, flatten, leaves, unflatten

FORMAT = "numba_stn arrays 1"


class FileError(ValueError):
    """The file does not have what was expected; the message says why, in one line."""


def save(path: str | os.PathLike, tree: Tree) -> None:
    """Save a tree of arrays in a file, which is written whole or not at all.

    Parameters
    ----------
    path : str or path-like
        A file of safetensors is written, whatever its name.
    tree : tree
        Dictionaries and tuples of arrays of NumPy or CuPy, for instance
        ``{"params": learner.params, "state": learner.state}``.

    Raises
    ------
    TypeError
        If a leaf is not an array; the message names it.
    ValueError
        If an array has NaN or infinity, or two leaves have one name.
    ImportError
        If the package safetensors is missing.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> from numba_stn import nn
    >>> net = nn.serial(nn.flatten(), nn.linear(2))
    >>> params = net.init(np.random.default_rng(0), (1, 2, 2))
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "net.safetensors"
    >>> nn.save(path, params)
    >>> net.apply(nn.load(path), np.zeros((1, 1, 2, 2), np.float32))[0]
    array([[0., 0.]], dtype=float32)
    """
    found = list(leaves(tree))
    for where, leaf in found:
        name = ".".join(where) or "itself"
        if not isinstance(leaf, np.ndarray) and not is_cupy(leaf):
            raise TypeError(f"tree: {name}: expected an array, got {type(leaf).__name__}")
        if leaf.dtype.kind not in "fiub":
            raise TypeError(f"tree: {name}: expected real numbers, got {leaf.dtype}")
    if len(flatten(tree)) != len(found):
        raise ValueError("tree: expected different names, but a key has a dot in it")
    metadata = {"format": FORMAT, "structure": json.dumps(_structure(tree))}
    write_atomically(pathlib.Path(path), pack(tree, metadata))


def load(path: str | os.PathLike, like: Tree | None = None) -> Tree:
    """Load the tree of arrays that :func:`save` wrote, as arrays of NumPy.

    Parameters
    ----------
    path : str or path-like
    like : tree, optional
        Its structure, shapes and dtypes are then expected of the file's arrays. Any safetensors
        file with these names can be loaded with it.

    Returns
    -------
    tree

    Raises
    ------
    ValueError
        If the file cannot be read, is damaged, or does not fit; the message says why.
    ImportError
        If the package safetensors is missing.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> from numba_stn import nn
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "arrays.safetensors"
    >>> nn.save(path, ({"weight": np.ones(2)}, ()))
    >>> nn.load(path)
    ({'weight': array([1., 1.])}, ())
    """
    path = pathlib.Path(path)
    flat, metadata = read(path)
    if like is not None:
        try:
            return unpack(flat, like)
        except ValueError as error:
            raise FileError(f"{path}: {error}") from error
    if metadata.get("format") != FORMAT:
        raise FileError(f"{path}: expected a file of nn.save, or a tree `like` that of its arrays")
    try:
        _check_finite(flat)
        tree = _rebuilt(json.loads(metadata["structure"]), (), flat)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise FileError(f"{path}: damaged: {' '.join(str(error).split())}") from error
    if len(list(leaves(tree))) != len(flat):
        raise FileError(f"{path}: damaged: it has arrays that its structure does not name")
    return tree


def _structure(tree):
    """The structure of a tree in JSON: objects, arrays, and null for a leaf."""
    if isinstance(tree, dict):
        return {str(key): _structure(branch) for key, branch in tree.items()}
    if isinstance(tree, (tuple, list)):
        return [_structure(branch) for branch in tree]
    return None


def _rebuilt(structure, path, flat):
    """The tree of a structure, with the arrays of a file."""
    if isinstance(structure, dict):
        return {key: _rebuilt(branch, (*path, key), flat) for key, branch in structure.items()}
    if isinstance(structure, list):
        branches = enumerate(structure)
        return tuple(_rebuilt(branch, (*path, str(index)), flat) for index, branch in branches)
    if structure is not None:
        raise ValueError(f"structure: expected objects, arrays and null, got {structure!r}")
    return flat[".".join(path)]


# --- Files whose structure is known ---------------------------------------------------------------


def pack(tree: Tree, metadata: dict[str, str] | None = None) -> bytes:
    """The content of a safetensors file that has a tree's arrays.

    Raises
    ------
    ValueError
        If an array has NaN or infinity; the message names it.
    """
    from safetensors.numpy import save as to_bytes

    flat = {name: np.asarray(to_host(a), order="C") for name, a in flatten(tree).items()}
    _check_finite(flat)
    return to_bytes(flat, metadata)


def unpack(flat: dict[str, np.ndarray], like: Tree) -> Tree:
    """The arrays of a safetensors file as a tree.

    Parameters
    ----------
    flat : dict of str to array
    like : tree
        Its structure, shapes and dtypes are expected.

    Raises
    ------
    ValueError
        If an array is missing, unknown, of another shape or dtype, or not finite; the message names
        it.
    """
    for name, expected in flatten(like).items():
        if name in flat and flat[name].dtype != expected.dtype:
            raise ValueError(f"weights: {name} has {flat[name].dtype}, expected {expected.dtype}")
    tree = unflatten(flat, like)
    _check_finite(flat)
    return tree


def _check_finite(flat):
    for name, array in flat.items():
        if wrong := array.size - np.count_nonzero(np.isfinite(array)):
            raise ValueError(
                f"weights: {name} has NaN or infinity at {wrong} of {array.size} places, expected "
                f"finite numbers"
            )


def read(path: pathlib.Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read the arrays and the metadata of a safetensors file.

    Raises
    ------
    FileError
        If it cannot be read, is truncated, or is not such a file.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load as from_bytes

    try:
        content = path.read_bytes()  # a mapped file that shrinks meanwhile would end the process
        arrays = from_bytes(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
        text = " ".join(str(error).split())
        raise FileError(f"{path}: truncated, or not safetensors: {text}") from error
    return arrays, header.get("__metadata__") or {}
