"""Train the paper's ST-CNN for some steps on the CPU or on the GPU, for :mod:`.gpu_first_run`.

The data, the first weights and the batches are the same, so that the first losses agree but for
rounding, and the errors by chance only. Both write to one file, under the name of the device.
"""

import argparse
import fcntl
import json
import pathlib
import sys
import time
from collections.abc import Sequence

from numba_stn.training import experiment
from numba_stn.utils import namespace

SKIPPED = 3


def main(argv: Sequence[str] | None = None) -> int:
    """Train, and add the results to the file."""
    args = parser().parse_args(argv)
    try:
        namespace.array_library(args.device)
    except RuntimeError as error:
        print(" ".join(str(error).split()))
        return SKIPPED
    setup = experiment.prepare(experiment.Config(epochs=1, device=args.device))
    epochs = max(1, round(args.steps / setup.steps))
    setup = experiment.prepare(experiment.Config(epochs=epochs, device=args.device))
    losses: list[float] = []
    times: list[float] = []

    def on_step(done, loss, error):
        losses.append(round(float(loss), 6))
        times.append(time.perf_counter())

    _, metrics = experiment.run(setup, on_step=on_step)
    found = {
        "steps": len(losses),
        "first_losses": losses[:16:5],
        "last_loss": losses[-1],
        "test_error": metrics["test_error"],
        "ms_per_step": round(1e3 * (times[-1] - times[0]) / max(len(times) - 1, 1), 3),
        "history": metrics["history"],
        "gpu": metrics["gpu"],
        "versions": metrics["versions"],
    }
    print(json.dumps(found, indent=1))
    if args.json:
        add(args.json, args.device, found)
    return 0


def add(path: pathlib.Path, device: str, found: dict) -> None:
    """Add the results of a device to the file, which another process may write to as well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        known = json.loads(file.read() or "{}")
        file.seek(0)
        file.truncate()
        json.dump({**known, device: found}, file, indent=1)


def parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    result = argparse.ArgumentParser("python -m benchmarks.gpu_training")
    result.add_argument("device", choices=("cpu", "cuda"))
    result.add_argument("--steps", type=int, default=200, metavar="N", help="about this many steps")
    result.add_argument("--json", type=pathlib.Path, metavar="FILE")
    return result


if __name__ == "__main__":
    sys.exit(main())
