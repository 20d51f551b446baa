"""Numba's cache, for kernels and helpers that a factory puts together.

Numba tells kernels that close over something else apart by pickling it, and the pickle of a
function made in a factory is another one in every process: what was compiled is never found again.
It numbers the variants of a kernel, so that two processes may write two under one number. And it
numbers the functions of a process, which is all that tells those from one factory apart in
compiled code: two kernels that two processes compiled may hold two functions of one name, and a
third, which loads both, links one of them twice. Here all are named by what they are made of.
"""

import hashlib
from types import FunctionType
from typing import Any

from numba.core.caching import FunctionCache, IndexDataCacheFile


def described(value: Any) -> Any:
    """What a closed-over value is, the same in every process.

    A function is where it stands in the sources, and what it closes over.
    """
    if isinstance(value, tuple):
        return tuple(described(item) for item in value)
    function = getattr(value, "py_func", None) or getattr(value, "_defn", value)
    if not isinstance(function, FunctionType):
        return repr(value)
    cells = tuple(described(cell.cell_contents) for cell in function.__closure__ or ())
    place = function.__module__, function.__qualname__, function.__code__.co_firstlineno
    return (*place, cells)


def digest(value: Any) -> str:
    """A short name for something that has a repr."""
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]


def named(function: Any) -> Any:
    """The function, under a name of its own if it closes over anything."""
    if function.__closure__:
        function.__qualname__ += f"_{digest(described(function))}"
    return function


class _Files(IndexDataCacheFile):
    """A kernel's index, and a file for each signature: its number is the signature's hash."""

    def save(self, key, data):
        overloads = self._load_index()
        overloads[key] = name = self._data_name(int(digest(key), 16))
        self._save_data(name, data)
        self._save_index(overloads)


class KernelCache(FunctionCache):
    """Where the variants of a :func:`named` kernel are found again."""

    def __init__(self, function):
        super().__init__(function)
        self._cache_file = _Files(
            self._cache_path, self._impl.filename_base, self._impl.locator.get_source_stamp()
        )

    def _index_key(self, sig, codegen):
        return sig, codegen.magic_tuple(), self._py_func.__qualname__
