"""Peak memory of a forward and backward, each measured in a process of its own."""

import multiprocessing
import re
from functools import partial
from typing import Any

import numpy as np

from . import warps
from .rows import MissingError

SHAPES = ((1, 1, 4096, 4096), (1, 3, 1080, 1920), (64, 32, 28, 28))

# Large enough that the warm-up starts every thread, small enough that nothing it leaves counts.
_WARM = (1, 3, 256, 256)


def table() -> list[dict[str, Any]]:
    """Of each shape: MiB that inputs, samples and gradients take, and each library's peak over it.

    Empty where the system does not tell.
    """
    rows = [_row(shape) for shape in SHAPES]
    return [row for row in rows if row["peaks"]]


def _row(shape):
    peaks = {}
    for who in ("ours", "torch"):
        try:
            needed, peaks[who] = _alone(who, shape)
        except MissingError:
            continue
    name = "both ways " + "x".join(map(str, shape))
    mebibytes = round(needed / 2**20, 1) if peaks else None
    return {"row": name, "needed_mib": mebibytes, "peaks": peaks}


def _alone(who, shape):
    """:func:`peak` in a new process, where nothing else has been."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        needed, used = pool.apply(peak, (who, shape))
    return needed, round(used / needed, 3)


def peak(who: str, shape: tuple[int, ...]) -> tuple[int, int]:
    """Bytes of inputs, samples and gradients, and the most that were in use at once."""
    make = warps.both_ways(*shape).makers[who]
    draw = partial(warps.problem, backward=True)
    make(draw(_WARM)).run()
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
    """Start the record of peak memory anew; bytes now in use."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError as error:
        raise MissingError("only Linux keeps a record of peak memory that can be reset") from error
    return _status("VmRSS")


def _status(name):
    with open("/proc/self/status") as file:
        found = re.search(rf"^{name}:\s+(\d+) kB", file.read(), re.MULTILINE)
    if not found:
        raise MissingError(f"this system does not tell {name}")
    return 1024 * int(found[1])
