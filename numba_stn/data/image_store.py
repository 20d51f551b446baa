"""How a set is read and stored: options, threads with progress, arrays that may be mapped."""

import contextlib
import math
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..images.files import FileError
from .dataset import DataError

# Images that take more than this share of the memory are mapped from a file.
MEMORY_SHARE = 0.25

_AT_ONCE = 1024  # files that wait for a thread

Progress = Callable[[int, str], contextlib.AbstractContextManager[Callable[[int], None]]]


@contextlib.contextmanager
def no_progress(total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """Show nothing."""
    yield lambda more: None


@dataclass(frozen=True)
class Options:
    """How a set is read and divided; None is chosen by the images.

    ``group`` is a regular expression, see :func:`.listing.groups_by`. Groups are those of a class,
    unless ``group_across`` says that equal groups of several classes belong together. ``folder`` is
    where images are that take more than ``memory`` of the computer's memory.
    """

    size: tuple[int, int] | None = None
    channels: int | None = None
    fit: str = "stretch"
    ground: int = 255
    group: str | None = None
    group_across: bool = False
    split: Sequence[float] = (0.7, 0.15, 0.15)
    seed: int = 0
    skip_broken: bool = False
    memory: float = MEMORY_SHARE
    folder: pathlib.Path | None = None


DEFAULTS = Options()


def on_threads(
    work: Callable[[Any], Any], items: Iterable[Any], unit: str, progress: Progress
) -> dict[Any, str]:
    """Call a function for each item, on threads; returns the messages of those that failed.

    Failures are of a file: it cannot be read, or be prepared.
    """
    failed, items = {}, list(items)

    def attempt(item):
        try:
            work(item)
        except (FileError, OSError) as error:
            return item, error
        return None

    with progress(len(items), unit) as done, ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for first in range(0, len(items), _AT_ONCE):
            for failure in pool.map(attempt, items[first : first + _AT_ONCE]):
                if failure:
                    failed[failure[0]] = str(failure[1])
                done(1)
    return failed


def allocate(shape: tuple[int, ...], dtype: str, options: Options) -> np.ndarray:
    """An array in memory; or, if it is too large, mapped from a file that has no name.

    The file ends with the process, however that ends. Its space is taken now, because a disk that
    is full later would kill the process.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size <= options.memory * memory_bytes() or not size:
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile(dir=options.folder) as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            where = options.folder or tempfile.gettempdir()
            raise DataError(f"{where}: {size / 2**30:.1f} GiB are needed for the images: "
                            f"{error.strerror}; choose a folder on another disk, a smaller --size, "
                            f"or a larger --memory") from error  # fmt: skip
        return np.memmap(file, dtype, "r+", shape=shape)


def memory_bytes() -> int:
    """Size of the computer's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
