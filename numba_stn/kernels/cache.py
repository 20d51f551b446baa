"""Numba's cache, for kernels and helpers that factories make.

Numba's own cache does not work for these, for three reasons. It identifies a kernel that closes
over other functions by pickling them, and the pickle of a function made in a factory differs from
process to process, so a compiled kernel is never found again. It numbers the variants of a kernel,
so two processes may write two variants under the same number. And compiled code tells the functions
of one factory apart only by numbers that Numba counts in each process. So kernels from two
processes may contain different functions of the same name, and a third process that loads both
links one of them twice. Here all functions are named by what they are made of.

Nor does it survive a damaged file: every later call raises an error, or runs damaged machine code.
So a compiled kernel is a file of its own, without an index; its name says what it was made of, and
it begins with a checksum of its name and its content. What is not exactly what was written is not
loaded: the kernel is compiled again, and replaces the file.
"""

import contextlib
import hashlib
import os
import pathlib
import pickle
import stat
import uuid
import warnings
from collections.abc import Iterator
from types import FunctionType
from typing import Any

import numba
from numba.core.caching import FunctionCache
from numba.core.serialize import dumps

SUFFIX, UNFINISHED = ".nbc", ".tmp"
_SEAL = b"numba_stn kernel\n"
_HOME = pathlib.Path(__file__).parent


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


# --- Files ----------------------------------------------------------------------------------------


def _seal(path: str, content: bytes) -> bytes:
    """What a file of this name and content begins with."""
    return _SEAL + hashlib.sha256(os.path.basename(path).encode() + b"\n" + content).digest()


def write_sealed(path: str, content: bytes) -> None:
    """Write a file, so that it has all of its content or does not exist."""
    temporary = f"{path}.{uuid.uuid4().hex}{UNFINISHED}"
    try:
        with open(temporary, "xb") as file:  # "x" does not follow an existing symbolic link
            file.write(_seal(path, content))
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        pathlib.Path(temporary).unlink(missing_ok=True)
        raise


def read_sealed(path: str) -> bytes:
    """The content of a file; OSError if it cannot be read, ValueError if it is not as written."""
    if not os.path.isfile(path):  # a pipe would never end
        raise FileNotFoundError("not a file" if os.path.lexists(path) else "no such file")
    data = pathlib.Path(path).read_bytes()
    seal, content = data[: len(_SEAL) + 32], data[len(_SEAL) + 32 :]
    if seal != _seal(path, content):
        raise ValueError("not as it was written" if data else "empty")
    return content


# --- Caches ---------------------------------------------------------------------------------------


class SealedFiles:
    """For a cache of Numba's: one sealed file for each kernel and signature, and no index."""

    def _path(self, sig, codegen):
        """The file of a signature; its name depends on all that the compiled code depends on."""
        options = numba.config.OPT, numba.config.BOUNDSCHECK
        stamp = self._impl.locator.get_source_stamp()
        key = numba.__version__, options, stamp, self._index_key(sig, codegen)
        name = f"{self._impl.filename_base}.{digest(key)}{SUFFIX}"
        return os.path.join(self._cache_path, name)

    def _load_overload(self, sig, target_context):
        try:
            content = read_sealed(self._path(sig, target_context.codegen()))
            return self._impl.rebuild(target_context, pickle.loads(content))
        except Exception:  # of a sealed file, too: it may name what another NumPy no longer has
            return None

    def _save_overload(self, sig, data):
        if not self._impl.check_cachable(data):
            return
        path = self._path(sig, data.codegen)
        try:
            os.makedirs(self._cache_path, exist_ok=True)
            write_sealed(path, dumps(self._impl.reduce(data)))
        except OSError as error:  # such as a full disk
            if damage(path):  # otherwise another process has written the file meanwhile
                _warn_once(
                    f"numba_stn could not store a compiled kernel in {self._cache_path}: "
                    f"{error.strerror or error}; every process compiles it again until one can"
                )


class KernelCache(SealedFiles, FunctionCache):
    """The cache of the variants of a :func:`named` kernel."""

    def _index_key(self, sig, codegen):
        return sig, codegen.magic_tuple(), self._py_func.__qualname__


def store(kernel: Any, cache: type = KernelCache) -> Any:
    """The kernel, which from now on is stored on disk if a folder can be written to."""
    try:
        kernel._cache = cache(kernel.py_func)
    except RuntimeError as error:
        if "cannot cache" not in str(error):
            raise
        _warn_once(
            "numba_stn compiles its kernels again in every process, because Numba found no cache "
            "folder that it can write to; set NUMBA_CACHE_DIR to a writable folder"
        )
    return kernel


_warned = False


def _warn_once(message: str) -> None:
    """Warn that kernels are not stored, once in a process."""
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(message, RuntimeWarning, stacklevel=4)


# --- What doctor reports --------------------------------------------------------------------------


def folders() -> list[str]:
    """The folders of compiled kernels; none where Numba finds no folder that it can write to."""
    found = []
    for source in sorted({str(path.parent / "__init__.py") for path in _HOME.rglob("*.py")}):
        function = FunctionType(digest.__code__.replace(co_filename=source), {})
        with contextlib.suppress(RuntimeError):
            found.append(FunctionCache(function).cache_path)
    return found


def damage(path: str) -> str:
    """Why a file cannot be loaded; empty if it can."""
    try:
        read_sealed(path)
    except OSError as error:
        return error.strerror or str(error)
    except ValueError as error:
        return str(error)
    return ""


def open_to_others(folder: str) -> Iterator[str]:
    """What somebody else could change, so that this user loads what he wrote.

    That is the folder, what is in it, and the folders above it, unless only an owner may replace
    what is in them (sticky, like ``/tmp``).
    """
    if not hasattr(os, "getuid"):
        return
    own = pathlib.Path(folder).absolute()
    above = dict.fromkeys((*own.parents, *own.resolve().parents))
    for path in (*above, own, *sorted(own.glob(f"*{SUFFIX}"))):
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            sticky = path in above and status.st_mode & stat.S_ISVTX
            writable = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not sticky
            if writable or status.st_uid not in (0, os.getuid()):
                yield str(path)
