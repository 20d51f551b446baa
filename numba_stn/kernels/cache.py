"""Numba's cache, for kernels that a factory puts together.

Numba tells kernels that close over something else apart by pickling it, and the pickle of a
function made in a factory is another one in every process: what was compiled is never found again.
Moreover it numbers the variants of a kernel, so that two processes may write two under one number.
Here a kernel is named by what it is made of, and its files by that name.
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


class _Files(IndexDataCacheFile):
    """A kernel's index, and a file for each signature, named by it and not by a number."""

    def save(self, key, data):
        overloads = self._load_index()
        overloads[key] = name = self._data_name(int(digest(key), 16))
        self._save_data(name, data)
        self._save_index(overloads)


class KernelCache(FunctionCache):
    """Where a kernel's variants are found again."""

    def __init__(self, function):
        super().__init__(function)
        self._made_of = digest(described(function))
        self._cache_file = _Files(
            self._cache_path,
            f"{self._impl.filename_base}-{self._made_of}",
            self._impl.locator.get_source_stamp(),
        )

    def _index_key(self, sig, codegen):
        return sig, codegen.magic_tuple(), self._made_of
