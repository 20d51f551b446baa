"""A network of one's own, from a function in a Python file: ``nets.py:small``."""

import hashlib
import importlib.util
import pathlib
import sys
from collections.abc import Callable

from ..nn.base import Layer, Shape

# A function (shape of an image (C, H, W), number of outputs) -> layer.
Builder = Callable[[Shape, int], Layer]


class NetworkError(ValueError):
    """There is no such network, or it does not fit; the message says why, in one line."""


def load_builder(spec: str) -> Builder:
    r"""Run a Python file and return one of its functions.

    Parameters
    ----------
    spec : str
        ``file.py:function``.

    Raises
    ------
    NetworkError
        If the file is missing or raises an error, or has no such function.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from numba_stn.training.own_network import build, load_builder
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "nets.py"
    >>> _ = path.write_text(
    ...     "from numba_stn import nn\n"
    ...     "def small(shape, outputs):\n"
    ...     "    return nn.serial(nn.flatten(), nn.linear(outputs))\n"
    ... )
    >>> build(load_builder(f"{path}:small"), (1, 4, 4), 3).output_shape((1, 4, 4))
    (3,)
    """
    path, name = _parts(spec)
    key = f"numba_stn_network_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]}"
    found = importlib.util.spec_from_file_location(key, path)
    if found is None or found.loader is None or not path.is_file():
        raise NetworkError(f"net: {path}: expected a Python file, and found none")
    module = importlib.util.module_from_spec(found)
    earlier = sys.modules.get(key)
    sys.modules[key] = module  # so that dataclasses and pickle find its classes
    try:
        found.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # the file may do anything
        if earlier is None:
            del sys.modules[key]
        else:
            sys.modules[key] = earlier
        raise NetworkError(f"net: {path}: {_in_words(error)}") from error
    builder = getattr(module, name, None)
    if not callable(builder):
        raise NetworkError(f"net: {path}: expected a function {name!r}, and found none")
    return builder


def source_digest(spec: str) -> str:
    """SHA-256 of the file, by which a run knows that it is the same.

    Raises
    ------
    NetworkError
        If the file cannot be read.
    """
    path, _ = _parts(spec)
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise NetworkError(f"net: {path}: {error.strerror or error}") from error


def build(builder: Builder, shape: Shape, outputs: int) -> Layer:
    """Call a builder, and check what it returns.

    Parameters
    ----------
    builder : callable
        ``builder(shape, outputs) -> layer``.
    shape : (C, H, W)
        Of an image.
    outputs : int
        The number of classes, for example.

    Raises
    ------
    NetworkError
        If it raises an error, returns something else than a layer, or a layer with other outputs.
    """
    name = getattr(builder, "__name__", repr(builder))
    try:
        net = builder(shape, outputs)
        if not isinstance(net, Layer):
            raise NetworkError(f"net: {name}: expected a layer, got {type(net).__name__}")
        found = net.output_shape(shape)
    except NetworkError:
        raise
    except Exception as error:  # the function may do anything
        raise NetworkError(
            f"net: {name}, called with the shape {shape} and {outputs} outputs: {_in_words(error)}"
        ) from error
    if found != (outputs,):
        raise NetworkError(
            f"net: {name}: expected {outputs} outputs for images of shape {shape}, "
            f"(N, {outputs}), got {('N', *found)}"
        )
    return net


def _parts(spec):
    """The path of the file, and the name of the function."""
    path, colon, name = str(spec).rpartition(":")
    if not colon or not path or not name.isidentifier():
        raise NetworkError(f"net: expected FILE.py:FUNCTION, got {spec!r}")
    return pathlib.Path(path), name


def _in_words(error):
    """An error in one line, with its type."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
