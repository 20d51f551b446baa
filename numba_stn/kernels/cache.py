"""Numba's cache, for kernels and helpers that factories make.

Numba's own cache does not work for these, for three reasons. It identifies a kernel that closes
over other functions by pickling them, and the pickle of a function made in a factory differs from
process to process, so a compiled kernel is never found again. It numbers the variants of a kernel,
so two processes may write two variants under the same number. And compiled code tells the functions
of one factory apart only by numbers that Numba counts in each process. So kernels from two
processes may contain different functions of the same name, and a third process that loads both
links one of them twice. Here all functions are named by what they are made of.
"""

import hashlib
from types import FunctionType
from typing import Any

from numba.core.caching import FunctionCache, IndexDataCacheFile


def described(value: Any) -> Any:
    """A description of a closed-over value that is the same in every process.

    A function is described by its position in the sources and by what it closes over.
    """
    if isinstance(value, tuple):
        return tuple(described(item) for item in value)
    function = getattr(value, "py_func", None) or getattr(value, "_defn", value)
    if not isinstance(function, FunctionType):
        return repr(value)
    cells = tuple(described(cell.cell_contents) for cell in function.__closure__ or ())
    position = function.__module__, function.__qualname__, function.__code__.co_firstlineno
    return (*position, cells)


def digest(value: Any) -> str:
    """A short name for a value, from its repr."""
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]


def named(function: Any) -> Any:
    """The function; if it closes over anything, its name is extended by a hash of that."""
    if function.__closure__:
        function.__qualname__ += f"_{digest(described(function))}"
    return function


class _Files(IndexDataCacheFile):
    """The index of a kernel, and a file for each signature, numbered by the signature's hash."""

    def save(self, key, data):
        overloads = self._load_index()
        overloads[key] = name = self._data_name(int(digest(key), 16))
        self._save_data(name, data)
        self._save_index(overloads)


class KernelCache(FunctionCache):
    """The cache of the variants of a :func:`named` kernel."""

    def __init__(self, function):
        super().__init__(function)
        self._cache_file = _Files(
            self._cache_path, self._impl.filename_base, self._impl.locator.get_source_stamp()
        )

    def _index_key(self, sig, codegen):
        return sig, codegen.magic_tuple(), self._py_func.__qualname__
