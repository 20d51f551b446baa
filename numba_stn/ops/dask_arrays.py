"""Dask arrays for functions of batches: one task per chunk of examples, computed lazily.

A task runs its kernels on a single thread. A scheduler may then run any number of tasks at once:
Dask distributes the threads.
"""

import inspect
import sys
from collections.abc import Callable
from functools import reduce, wraps
from operator import add
from typing import Any, TypeVar, cast

import numpy as np

from ..kernels.cpu_launch import one_thread

F = TypeVar("F", bound=Callable[..., Any])

Array = Any


def accept_dask_arrays(*names: str) -> Callable[[F], F]:
    """Let a function take Dask arrays (N, ...) for the arguments of these names.

    Arrays are rechunked so that only N is divided. If one argument is a Dask array, others may be
    NumPy arrays, and ``images`` may have one example for all. Arguments are checked at once.
    """

    def decorate(function: F) -> F:
        signature = inspect.signature(function)

        @wraps(function)
        def wrapper(*args, **kwargs):
            dask_array = sys.modules.get("dask.array")
            if dask_array is None:
                return function(*args, **kwargs)
            kind = dask_array.Array
            if not any(isinstance(arg, kind) for arg in (*args, *kwargs.values())):
                return function(*args, **kwargs)
            given = signature.bind(*args, **kwargs).arguments
            return _call_lazily(wrapper, names, given)  # unlike ``function``, it can be pickled

        return cast(F, wrapper)

    return decorate


def _call_lazily(function, names, given):
    """Return the function's results as Dask arrays."""
    import dask
    import dask.array as da

    arrays, options = _split_arguments(names, given)
    count, sizes = _choose_chunks(arrays)
    blocks = {name: _split_array(array, count, sizes) for name, array in arrays.items()}
    empty = {name: np.empty((0, *a.shape[1:]), a.dtype) for name, a in arrays.items()}
    like = _check(function, arrays, empty, options)
    several = isinstance(like, tuple)
    tasks = [
        dask.delayed(run_on_one_thread, nout=len(like) if several else None)(
            function, {name: each[n] for name, each in blocks.items()}, options
        )
        for n in range(len(sizes))
    ]
    if not several:
        return _concatenate(tasks, like, sizes)
    results: list[Any] = []
    for k, result in enumerate(like):
        parts = [task[k] for task in tasks]
        # The gradient of an input that all examples share is the sum over the examples.
        shared = len(like) == len(names) - 1 and arrays[names[k + 1]].shape[0] == 1 < count
        if result is None:
            results.append(None)
        elif shared:
            total = reduce(add, parts)
            results.append(da.from_delayed(total, (1, *result.shape[1:]), meta=result))
        else:
            results.append(_concatenate(parts, result, sizes))
    return tuple(results)


def _check(function, arrays, empty, options):
    """Return the results for no examples, of the shapes and dtypes; errors name the real shapes."""
    try:
        return function(**empty, **options)
    except (ValueError, TypeError) as error:
        text = str(error)
        for array in arrays.values():
            text = text.replace(f"got {(0, *array.shape[1:])}", f"got {array.shape}")
        raise type(error)(text) from None


def run_on_one_thread(
    function: Callable[..., Any], arrays: dict[str, Any], options: dict[str, Any]
) -> Any:
    """Run one task: a chunk of examples, with the kernels on this thread only."""
    with one_thread():
        return function(**arrays, **options)


def _concatenate(parts, like, sizes):
    """Return one Dask array of its chunks."""
    import dask.array as da

    return da.concatenate([
        da.from_delayed(part, (size, *like.shape[1:]), meta=like)
        for part, size in zip(parts, sizes, strict=True)
    ])  # fmt: skip


# --- Chunks of the arguments ----------------------------------------------------------------------


def _split_arguments(names, given):
    """Return the arrays by name, and the other arguments."""
    import dask.array as da

    for name in ("out", "stream"):
        if given.get(name) is not None:
            raise TypeError(f"{name}: expected None with Dask arrays, got {given[name]!r}")
    arrays = {}
    for name in names:
        if name not in given:
            raise TypeError(f"missing a required argument: {name!r}")
        array = given[name]
        arrays[name] = array if isinstance(array, da.Array) else np.asarray(array)
        if not arrays[name].ndim or np.isnan(arrays[name].shape).any():
            raise ValueError(f"{name}: expected a known shape (N, ...), got {arrays[name].shape}")
    options = {name: value for name, value in given.items() if name not in names}
    if "size" in options and options["size"] is not None and len(options["size"]) > 3:
        options["size"] = tuple(options["size"])[2:]  # PyTorch's full shape
    return arrays, options


def _choose_chunks(arrays):
    """Return the number of examples and the chunk sizes, those of the first chunked argument."""
    import dask.array as da

    count = max(len(array) for array in arrays.values())
    for name, array in arrays.items():
        one = name == "images"
        if len(array) != count and not (one and len(array) == 1):
            raise ValueError(
                f"{name}: expected {count} examples{', or one' * one}, got {len(array)}"
            )
    for array in arrays.values():
        if isinstance(array, da.Array) and len(array) == count:
            return count, array.chunks[0]
    return count, (count,)


def _split_array(array, count, sizes):
    """Return an argument's part for each task; a single example is shared by all tasks."""
    import dask.array as da

    if len(array) == 1 < count:
        whole = array.rechunk(-1).to_delayed().ravel()[0] if isinstance(array, da.Array) else array
        return [whole] * len(sizes)
    if isinstance(array, da.Array):
        whole = array.rechunk({0: sizes, **dict.fromkeys(range(1, array.ndim), -1)})
        return list(whole.to_delayed().ravel())
    return np.split(array, np.cumsum(sizes)[:-1])
