"""A lock that one process holds at a time, and that the system releases when the process ends.

It is a lock on an open file (``flock``, on Windows ``msvcrt.locking``), not the existence of the
file: a killed process holds nothing, and the file that it leaves behind is taken over.

On a network file system the server keeps the lock: NFS (Linux 2.6.12 or later, version 3 with its
lock service, or version 4), CIFS and Lustre (mounted with ``flock``) lock between machines. A
machine that dies holds its locks until the server notices, on NFS 4 after about 90 seconds. Where
the file system has no locks, or a mount keeps them local to each machine (``nolock``,
``local_lock``, ``localflock``), nothing is locked between machines.
"""

import contextlib
import errno
import os
import pathlib
import socket
import sys
import time
import warnings
from collections.abc import Callable, Iterator

# Time between two attempts to get a lock, in seconds.
POLL_SECONDS = 0.2

# Number of times that a lock's file is opened again because its last holder has just removed it.
ATTEMPTS = 50

# What a lock's file begins with.
_SIGN = b"process "

# What the system answers if another process holds the lock; other errors mean that the file system
# has no locks.
_HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK)


class LockedError(Exception):
    """Another process holds the lock; the message says which."""


@contextlib.contextmanager
def locked(
    path: pathlib.Path, patience: float = 0.0, warn: Callable[[str], None] = warnings.warn
) -> Iterator[None]:
    """Hold the lock on a file, which is created for it, and removed afterwards.

    Parameters
    ----------
    path : pathlib.Path
        Of the lock's own file. It names the holder.
    patience : float
        Seconds to wait for the lock.
    warn : callable
        Called with a sentence if the file system has no locks; nothing is locked then.

    Raises
    ------
    LockedError
        If another process, or another call in this one, holds the lock.
    OSError
        If the file cannot be created.
    """
    end = time.monotonic() + patience
    while (file := _try_to_lock(path, warn)) is None:
        if time.monotonic() >= end:
            raise LockedError(f"{_holder(path)} is at work there")
        time.sleep(POLL_SECONDS)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            release(file, path.unlink)


def _try_to_lock(path, warn):
    """Open and lock the file; None if another process holds the lock."""
    for _ in range(ATTEMPTS):
        with contextlib.ExitStack() as on_failure:
            file = open_lock_file(path)
            on_failure.callback(os.close, file)
            try:
                if not try_lock(file):
                    return None
            except OSError as error:
                warn(f"{path.parent}: this file system has no locks ({error.strerror or error}); "
                     f"make sure that no other process writes there")  # fmt: skip
            if not _is_current(file, path):  # its last holder removed it after it was opened here
                continue
            if os.read(file, len(_SIGN)) not in (b"", _SIGN):
                raise FileExistsError(errno.EEXIST, "exists, and is not a lock's file", str(path))
            with contextlib.suppress(OSError):  # the name is only for people
                os.ftruncate(file, 0)
                os.lseek(file, 0, os.SEEK_SET)
                os.write(file, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
            on_failure.pop_all()
            return file
    return None


def _is_current(file, path):
    """Whether the open file is still the one with this name."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False


def _holder(path):
    """Who holds the lock, as its file says."""
    try:
        found = path.read_text(errors="replace").strip()
    except OSError:
        found = ""
    return found if found.startswith("process ") and found.isprintable() else "another process"


# --- The lock of an open file ---------------------------------------------------------------------


def open_lock_file(path: pathlib.Path) -> int:
    """Open a lock's file, which is created if there is none; never one that a link leads to."""
    return os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)


def try_lock(file: int) -> bool:
    """Lock an open file; return False if another process holds its lock.

    Raises
    ------
    OSError
        If the file system has no locks.
    """
    try:
        _lock(file)
    except OSError as error:
        if error.errno in _HELD:
            return False
        raise
    return True


def release(file: int, remove: Callable[[], object]) -> None:
    """Remove a lock's file, by calling ``remove``, and free the lock.

    The file is removed while it is locked: who has opened it meanwhile finds out that it is gone.
    """
    if sys.platform == "win32":  # which does not remove an open file
        os.close(file)
        remove()
        return
    try:
        remove()
    finally:
        os.close(file)


if sys.platform == "win32":
    import msvcrt

    def _lock(file):
        os.lseek(file, 2**30, os.SEEK_SET)  # others cannot read a locked byte, but the name
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        os.lseek(file, 0, os.SEEK_SET)

else:
    import fcntl

    def _lock(file):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
