"""Files that are written completely or not at all."""

import contextlib
import os
import pathlib
import signal
import threading
from collections.abc import Iterator


def write_atomically(path: pathlib.Path, content: bytes) -> None:
    """Write a file completely or not at all: beside ``path`` first, then moved there."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def ignore_interrupts() -> Iterator[None]:
    """Ignore Ctrl-C while files are written; only the main thread receives it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
