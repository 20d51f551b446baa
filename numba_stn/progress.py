"""Progress on stderr, for work of several parts."""

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
    # A bar that nobody watches live is a line now and then, not thousands in a log.
    pace = 0.1 if sys.stderr.isatty() else 10
    with tqdm(parts, mininterval=pace, maxinterval=max(pace, 10)) as bar:
        for part in bar:
            bar.set_description(name(part), refresh=False)
            yield part
