"""The clock: several libraries in turn, warm."""

import hashlib
import statistics
import threading
import time
from collections.abc import Callable, Mapping

# Seconds before each turn, and a run that is not timed: for the other library's threads to fall
# asleep, and for the caches to hold one's own data.
PAUSE = 0.02

# Seconds that a turn lasts at least: a call that takes less is made again and again, as a loop
# would, and the turn's time is the mean.
TURN = 0.01

# A library that has spent so many seconds on a row has no further turns: a slow one's figure needs
# fewer rounds, and the row stays short.
PATIENCE = 6.0


def turns(
    runs: Mapping[str, Callable[[], object]], rounds: int, patience: float = PATIENCE
) -> dict[str, list[float]]:
    """Seconds that each took in each of its turns."""
    times: dict[str, list[float]] = {who: [] for who in runs}
    spent = dict.fromkeys(runs, 0.0)
    for _ in range(rounds):
        for who, run in runs.items():
            if spent[who] < patience:
                times[who].append(_turn(run))
                spent[who] += times[who][-1] + max(times[who][-1], TURN)
    return times


def _turn(run):
    time.sleep(PAUSE)
    run()
    count, began = 0, time.perf_counter()
    while (taken := time.perf_counter() - began) < TURN:
        run()
        count += 1
    return taken / count


def medians(times: Mapping[str, list[float]]) -> dict[str, float]:
    """Each one's median."""
    return {who: statistics.median(each) for who, each in times.items()}


def threads_worth(threads: int, rounds: int = 40) -> list[float]:
    """How many times one thread's arithmetic that many do, sorted.

    Fewer than they are where two of them share a core's units, as a virtual machine's may for a
    while.
    """

    def seconds(count):
        # Whole numbers in registers, without the interpreter's lock and without memory.
        work = [threading.Thread(target=hashlib.pbkdf2_hmac, args=("sha256", b"", b"", 20_000))
                for _ in range(count)]  # fmt: skip
        began = time.perf_counter()
        for thread in work:
            thread.start()
        for thread in work:
            thread.join()
        return time.perf_counter() - began

    return sorted(threads * seconds(1) / seconds(threads) for _ in range(rounds))
