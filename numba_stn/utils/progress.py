"""Progress bars on stderr."""

import contextlib
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def progress(parts: Sequence[T], name: Callable[[T], str]) -> Generator[T, None, None]:
    """Yield the parts under a progress bar; without tqdm, print a line for each."""
    try:
        from tqdm import tqdm
    except ImportError:
        for number, part in enumerate(parts, 1):
            print(f"{number}/{len(parts)} {name(part)}", file=sys.stderr)
            yield part
        return
    interval = _refresh_interval()
    with tqdm(parts, mininterval=interval, maxinterval=max(interval, 10)) as bar:
        for part in bar:
            bar.set_description(name(part), refresh=False)
            yield part


@contextlib.contextmanager
def progress_bar(total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """Show a bar for ``total`` things; it yields a function to call with the number done since."""
    try:
        from tqdm import tqdm
    except ImportError:
        yield lambda more: None
        return
    interval = _refresh_interval()
    with tqdm(total=total, unit=unit, mininterval=interval, maxinterval=max(interval, 10)) as bar:
        yield lambda more: bar.update(more)


def _refresh_interval():
    """Return the seconds between updates: few of them if stderr goes to a log."""
    return 0.1 if sys.stderr.isatty() else 10
