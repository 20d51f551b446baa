"""Files and folders that are written completely or not at all.

What is new is written into a workspace, a hidden folder beside its destination whose name cannot be
foreseen, and renamed when it is complete. Its process holds a lock in it, which ends with the
process, however that ends; :func:`settle_leftovers` finds the workspaces of killed processes.
"""

import contextlib
import errno
import os
import pathlib
import re
import secrets
import shutil
import signal
import stat
import threading
import time
from collections.abc import Iterator

from .lock import POLL_SECONDS, open_lock_file, release, try_lock

# A workspace's name: this and 16 hexadecimal digits.
PREFIX = ".numba-stn-"

# In a workspace: the lock; the folders of what is new, and of the folder that it replaces; and the
# name of the latter when it is no longer needed.
_LOCK, _NEW, _OLD, _TRASH = "lock", "new", "old", "trash"


def write_atomically(path: pathlib.Path, content: bytes) -> None:
    """Write a file completely or not at all.

    A file that is replaced keeps its mode, and a symbolic link its meaning: the file that it names
    is replaced. A FIFO or a device is written to.

    Raises
    ------
    OSError
        If the file cannot be written; it is what it was before, and ``filename`` is ``path``.
    """
    try:
        if is_stream(path):
            path.write_bytes(content)
            return
        with delay_interrupts(), replace_file(path) as new:
            new.write_bytes(content)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def destination(path: pathlib.Path) -> pathlib.Path:
    """The file that is written for a path: where a symbolic link leads to, also to nothing yet."""
    return pathlib.Path(os.path.realpath(path)) if path.is_symlink() else path


def is_stream(path: pathlib.Path) -> bool:
    """Whether a path is a FIFO, a device or the like, which is written to and not replaced."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


# --- Replacing ------------------------------------------------------------------------------------


@contextlib.contextmanager
def replace_file(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yield an empty file to write to; at the end it becomes ``path``, after an error nothing does.

    A file that is replaced keeps its mode and, where the system permits it, its owner.
    """
    path = destination(path)
    with workspace(path.parent) as work:
        new, before = work / _NEW / path.name, _stat(path)
        if before and stat.S_ISDIR(before.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        new.touch(0o600 if before else 0o666, exist_ok=False)  # less than this by the umask
        yield new
        _flush_to_disk(new)
        if before:
            with contextlib.suppress(OSError, AttributeError):  # not ours to give, or Windows
                os.chown(new, before.st_uid, before.st_gid)
            new.chmod(stat.S_IMODE(before.st_mode))
        os.replace(new, path)


def _stat(path):
    """The file's description; None if there is no file."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def replace_folder(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yield the path of a folder to create; at the end it becomes ``path``.

    A folder cannot replace another, which is renamed first. An error or an interrupt leaves the old
    folder or the new one; after SIGKILL between the two renames, :func:`settle_leftovers` puts the
    old one back.
    """
    path = destination(path)
    with workspace(path.parent) as work:
        new = work / _NEW / path.name
        yield new
        for folder, _, names in os.walk(new):
            for name in names:
                _flush_to_disk(pathlib.Path(folder, name))
        with delay_interrupts():
            _exchange(work, new, path)


def _exchange(work, new, path):
    """Move the old folder away, and the new one to its place."""
    old = work / _OLD / path.name
    if not path.exists():
        os.rename(new, path)
        return
    shutil.copymode(path, new)
    old.parent.mkdir()
    os.rename(path, old)
    try:
        os.rename(new, path)
    except BaseException:
        os.rename(old, path)
        raise
    os.rename(old.parent, work / _TRASH)  # of which nothing is put back


def _flush_to_disk(path):
    """Wait until a file is on the disk.

    Otherwise, after a power cut, some file systems have the new name and not yet the content. The
    folder is not waited for: if the rename is lost, the old content is still complete.
    """
    with path.open("r+b" if os.name == "nt" else "rb") as file:
        os.fsync(file.fileno())


# --- Workspaces -----------------------------------------------------------------------------------


@contextlib.contextmanager
def workspace(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Create a workspace in a folder, which has the empty folder ``new``; remove it at the end."""
    with contextlib.ExitStack() as stack:
        with delay_interrupts():
            work, lock = _create_workspace(folder)
            stack.callback(_remove_workspace, work, lock)
        yield work


def _remove_workspace(work, lock):
    with delay_interrupts():  # locked until nothing is left that could be taken for a leftover
        release(lock, lambda: shutil.rmtree(work, ignore_errors=True))


def _create_workspace(folder):
    """Create and lock a workspace; returns its path and the lock's descriptor."""
    while True:
        work = folder / f"{PREFIX}{secrets.token_hex(8)}"
        work.mkdir()
        with contextlib.suppress(FileNotFoundError):
            lock = open_lock_file(work / _LOCK)
            with contextlib.suppress(OSError):  # a file system without locks
                while not try_lock(lock):
                    time.sleep(POLL_SECONDS)
            if os.fstat(lock).st_nlink:
                (work / _NEW).mkdir()
                return work, lock
            os.close(lock)
        # Before it was locked, another run took it for a leftover and removed it: once more.


def settle_leftovers(folder: pathlib.Path, remove: bool = False) -> list[str]:
    """Put back what killed processes had moved away, and perhaps remove the rest of their files.

    Parameters
    ----------
    folder : pathlib.Path
    remove : bool
        Whether to remove the workspaces of killed processes. One that has the only copy of
        something is never removed.

    Returns
    -------
    list of str
        For each workspace a line that names it. Those of living processes are left alone.
    """
    found = sorted(path for path in folder.glob(f"{PREFIX}*") if _is_workspace(path))
    return [line for work in found for line in _settle(work, remove)]


def _is_workspace(path):
    named = re.fullmatch(re.escape(PREFIX) + "[0-9a-f]{16}", path.name)
    return bool(named) and path.is_dir() and not path.is_symlink()


def _settle(work, remove):
    """Settle one workspace; returns lines about it, none if its process is alive."""
    try:
        with _lock_of_the_dead(work) as dead, delay_interrupts():
            if not dead:
                return []
            if not _is_own(work):
                return [f"{work}: left by another user's run that was killed"]
            return [*_put_back(work), *_remove_rest(work, remove)]
    except OSError as error:
        return [f"{work}: perhaps left by a run that was killed ({error.strerror})"]


def _is_own(work):
    """Whether this user has made it: others could put links into it that lead anywhere."""
    folders = [work, *(work / name for name in (_NEW, _OLD) if os.path.lexists(work / name))]
    user = os.geteuid() if hasattr(os, "geteuid") else 0  # Windows says 0 for every file
    return all(stat.S_ISDIR(found.st_mode) and found.st_uid == user
               for found in map(os.lstat, folders))  # fmt: skip


@contextlib.contextmanager
def _lock_of_the_dead(work):
    """Yield whether a workspace's process has ended; if so, hold the lock in its place."""
    lock = open_lock_file(work / _LOCK)
    try:
        yield try_lock(lock)
    finally:
        os.close(lock)


def _put_back(work):
    """Put the old folder back if its place is empty, which the process should have filled."""
    for old in list((work / _OLD).glob("*")):
        path = work.parent / old.name
        if not os.path.lexists(path):
            os.rename(old, path)
            yield f"{path}: put back; a run was killed while it replaced it"


def _remove_rest(work, remove):
    """Remove the workspace, if wanted, except where it has the only copy of something."""
    for old in (work / _OLD).glob("*"):
        if any((work / _NEW).glob("*")):  # so what is in its place was not made by this process
            yield f"{old}: what a run that was killed should have replaced; move or delete it"
            return
    if not remove:
        yield f"{work}: left by a run that was killed; delete it, or use --force where there is one"
        return
    shutil.rmtree(work, ignore_errors=True)
    done = "could not be removed" if work.exists() else "removed"
    yield f"{work}: left by a run that was killed; {done}"


def remove_late(path: pathlib.Path) -> None:
    """Remove what was written into a workspace, at a path in its ``new``, after it was removed."""
    work = path.parents[1] if len(path.parents) > 1 else path
    if _is_workspace(work) and not (work / _LOCK).exists():
        shutil.rmtree(work, ignore_errors=True)


# --- Interrupts -----------------------------------------------------------------------------------

# Ctrl-C, and what ends a process politely.
STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP")
                     if hasattr(signal, name))  # fmt: skip


@contextlib.contextmanager
def delay_interrupts() -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and SIGHUP wait for the end of the block.

    Only the main thread receives them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    handled = {number: handler for number, handler in before.items()
               if handler not in (signal.SIG_IGN, None)}  # fmt: skip
    try:
        for number in handled:
            signal.signal(number, lambda number, frame: received.append(number))
        yield
    finally:
        for number, handler in handled.items():
            signal.signal(number, handler)
        for number in received:
            signal.raise_signal(number)
