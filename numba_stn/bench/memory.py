"""Peak memory of a forward and backward pass, measured in a new process each."""

import multiprocessing
import re
from functools import partial
from typing import Any

import numpy as np

from . import warps
from .rows import MissingError

SHAPES = ((1, 1, 4096, 4096), (1, 3, 1080, 1920), (64, 32, 28, 28))

# The warm-up: large enough to start every thread, and small enough to leave little memory in use.
# Small images have kernels of their own, which are loaded here, too.
_WARM_UPS = (1, 3, 256, 256), (16, 8, 28, 28)


def table() -> list[dict[str, Any]]:
    """For each shape, MiB of inputs, samples and gradients, and each library's peak divided by it.

    The table is empty where the system does not report peak memory.
    """
    rows = [_row(shape) for shape in SHAPES]
    return [row for row in rows if row["peaks"]]


def _row(shape):
    peaks = {}
    for who in ("ours", "torch"):
        try:
            needed, peaks[who] = _in_new_process(who, shape)
        except MissingError:
            continue
    name = "both ways " + "x".join(map(str, shape))
    mebibytes = round(needed / 2**20, 1) if peaks else None
    return {"row": name, "needed_mib": mebibytes, "peaks": peaks}


def _in_new_process(who, shape):
    """Run :func:`peak` in a new process; return the bytes needed, and the peak divided by them."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        needed, used = pool.apply(peak, (who, shape))
    return needed, round(used / needed, 3)


def peak(who: str, shape: tuple[int, ...]) -> tuple[int, int]:
    """Measure the bytes of inputs, samples and gradients, and the most bytes in use at once."""
    make = warps.both_ways(*shape).makers[who]
    draw = partial(warps.problem, backward=True)
    for small in _WARM_UPS:
        make(draw(small)).run()
    problem = draw(shape)
    runner = make(problem)
    before = _reset()
    results = runner.read(runner.run())
    used = _status("VmHWM") - before
    inputs = _bytes(problem)
    return inputs + _bytes(results.values()), inputs + used


def _bytes(arrays):
    return sum(np.asarray(array).nbytes for array in arrays)


def _reset():
    """Reset the system's record of peak memory; return the bytes now in use."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError as error:
        raise MissingError("peak memory can be reset only on Linux") from error
    return _status("VmRSS")


def _status(name):
    """Read a number of bytes from /proc/self/status."""
    with open("/proc/self/status") as file:
        found = re.search(rf"^{name}:\s+(\d+) kB", file.read(), re.MULTILINE)
    if not found:
        raise MissingError(f"this system does not report {name}")
    return 1024 * int(found[1])
