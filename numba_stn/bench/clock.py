"""Time several libraries in alternating rounds, after a warm-up."""

import hashlib
import statistics
import threading
import time
from collections.abc import Callable, Mapping

# Seconds to wait before each measurement. One call after it is not timed. Then the threads of the
# other libraries sleep, and the caches hold this library's data.
PAUSE = 0.02

# The least number of seconds of a measurement. A call that takes less is repeated, and its time is
# the mean.
LEAST_SECONDS = 0.01

# A library that has spent this number of seconds on a row is not timed again, so that a slow one
# does not make the row take long.
PATIENCE = 6.0


def interleaved_times(
    runs: Mapping[str, Callable[[], object]], rounds: int, patience: float = PATIENCE
) -> dict[str, list[float]]:
    """Time each function once a round, one after the other; return the seconds of each call."""
    times: dict[str, list[float]] = {who: [] for who in runs}
    spent = dict.fromkeys(runs, 0.0)
    for _ in range(rounds):
        for who, run in runs.items():
            if spent[who] < patience:
                times[who].append(_seconds_per_call(run))
                spent[who] += times[who][-1] + max(times[who][-1], LEAST_SECONDS)
    return times


def _seconds_per_call(run):
    time.sleep(PAUSE)
    run()
    count, taken, began = 0, 0.0, time.perf_counter()
    while count == 0 or taken < LEAST_SECONDS:
        run()
        count, taken = count + 1, time.perf_counter() - began
    return taken / count


def medians(times: Mapping[str, list[float]]) -> dict[str, float]:
    """Median time of each library."""
    return {who: statistics.median(each) for who, each in times.items()}


def thread_speedups(threads: int, rounds: int = 40) -> list[float]:
    """Measure by what factor this number of threads is faster than one, at pure arithmetic; sorted.

    The factor is below the number of threads where two of them share the units of a core, as those
    of a virtual machine may at times.
    """

    def seconds(count):
        # This computes with whole numbers in registers, and holds neither Python's lock nor memory.
        work = [threading.Thread(target=hashlib.pbkdf2_hmac, args=("sha256", b"", b"", 20_000))
                for _ in range(count)]  # fmt: skip
        began = time.perf_counter()
        for thread in work:
            thread.start()
        for thread in work:
            thread.join()
        return time.perf_counter() - began

    return sorted(threads * seconds(1) / seconds(threads) for _ in range(rounds))
