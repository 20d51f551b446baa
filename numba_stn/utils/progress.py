"""Progress on stderr, for work of several parts."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def progress(parts: Sequence[T], name: Callable[[T], str]) -> Iterator[T]:
    """The parts, one after the other, under a bar; a line for each where tqdm is not installed."""
    try:
        from tqdm import tqdm
    except ImportError:
        for number, part in enumerate(parts, 1):
            print(f"{number}/{len(parts)} {name(part)}", file=sys.stderr)
            yield part
        return
    pace = _refresh_interval()
    with tqdm(parts, mininterval=pace, maxinterval=max(pace, 10)) as bar:
        for part in bar:
            bar.set_description(name(part), refresh=False)
            yield part


@contextlib.contextmanager
def progress_bar(total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """A bar for so many things, on stderr; call what it gives with how many more are done."""
    try:
        from tqdm import tqdm
    except ImportError:
        yield lambda more: None
        return
    pace = _refresh_interval()
    with tqdm(total=total, unit=unit, mininterval=pace, maxinterval=max(pace, 10)) as bar:
        yield lambda more: bar.update(more)  # which returns what is of no use


def _refresh_interval():
    """Seconds between a bar's states: one that nobody watches live must not fill a log."""
    return 0.1 if sys.stderr.isatty() else 10
