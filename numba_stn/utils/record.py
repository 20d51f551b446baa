"""Records of results: the commit that they belong to, and files that are written atomically."""

import contextlib
import os
import pathlib
import signal
import subprocess
import threading
from collections.abc import Iterator


def current_commit() -> str | None:
    """Return the commit of this checkout, with "-dirty" if the package differs from it.

    None for an installed package.
    """
    here = pathlib.Path(__file__)
    package = here.parents[1]

    def git(*words):
        command = ["git", "-C", str(package), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", str(here))  # fails in another project's checkout
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".")
        return git("rev-parse", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


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
