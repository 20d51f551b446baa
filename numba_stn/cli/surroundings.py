"""What surrounds a command: stdout and stderr, of whatever kind, and the signals that stop it."""

import contextlib
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

from ..utils.atomic_write import STOP_SIGNALS


class OutputError(Exception):
    """Results cannot be written to stdout; ``args[0]`` is the system's error."""


class Stream:
    """A standard stream that never raises the errors of the system, or of an encoding.

    What it cannot encode is written with backslashes. If it cannot be written to, it is given up:
    ``raised`` is raised then, once, or nothing if that is None.
    """

    def __init__(self, stream: Any, raised: type[Exception] | None):
        self._stream, self._raised = stream, raised

    def write(self, text: str) -> int:
        """Write a text."""
        try:
            return self._stream.write(text)
        except UnicodeEncodeError:
            encoding = self._stream.encoding
            return self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        except OSError as error:
            self._give_up(error)
            return len(text)

    def flush(self) -> None:
        """Write what is buffered."""
        try:
            self._stream.flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error):
        """Let the rest go nowhere; Python flushes the stream again when it ends."""
        with contextlib.suppress(OSError, AttributeError):
            _redirect_to_nowhere(self._stream.fileno())
        if self._raised:
            raise self._raised(error) from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def safe_streams() -> Iterator[None]:
    """Replace stdout and stderr by streams that are open, and whose errors are no tracebacks.

    Messages that cannot be written are lost, but results that cannot are an :class:`OutputError`.
    """
    for descriptor in range(3):  # a closed one would be the number of the next file that is opened
        try:
            os.fstat(descriptor)
        except OSError:
            _redirect_to_nowhere(descriptor)
    with contextlib.ExitStack() as stack:
        for enter, stream, raised in (
            (contextlib.redirect_stdout, sys.stdout, OutputError),
            (contextlib.redirect_stderr, sys.stderr, None),
        ):
            if stream is None:  # it was closed when Python started
                stream = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(enter(Stream(stream, raised)))
        try:
            yield
        finally:
            with contextlib.suppress(OutputError):  # the command has failed for another reason
                sys.stdout.flush()


def _redirect_to_nowhere(descriptor):
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere != descriptor:
        os.dup2(nowhere, descriptor)
        os.close(nowhere)


@contextlib.contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Let SIGTERM and SIGHUP stop the command as Ctrl-C does; yields the numbers of those received.

    Signals that are ignored, as under ``nohup``, stay ignored.
    """
    received: list[int] = []

    def stop(number, frame):
        received.append(number)
        raise KeyboardInterrupt

    main = threading.current_thread() is threading.main_thread()
    changed = [number for number in STOP_SIGNALS
               if main and signal.getsignal(number) == signal.SIG_DFL]  # fmt: skip
    for number in changed:
        signal.signal(number, stop)
    try:
        yield received
    finally:
        for number in changed:
            signal.signal(number, signal.SIG_DFL)


def one_line(text: Any) -> str:
    """The text without control characters, which names of files may have."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", lambda found: repr(found[0])[1:-1],
                  str(text))  # fmt: skip
