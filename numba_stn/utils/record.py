"""What results are kept with: the commit they belong to, and files that are whole or not there."""

import contextlib
import os
import pathlib
import signal
import subprocess
import threading
from collections.abc import Iterator


def current_commit() -> str | None:
    """The checkout's commit, marked if the package has changed; None for an installed package."""
    here = pathlib.Path(__file__)

    def git(*words):
        command = ["git", "-C", str(here.parent), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", here.name)  # not some other project's checkout
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".")
        return git("rev-parse", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def write_atomically(path: pathlib.Path, content: bytes) -> None:
    """Write a file beside ``path``, then put it there, whole or not at all."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(content)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


@contextlib.contextmanager
def ignore_interrupts() -> Iterator[None]:
    """Ctrl-C is ignored while files are written; it is the main thread's affair alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
