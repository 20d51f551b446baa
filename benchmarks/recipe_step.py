"""Time a training step of the recipe for one's own images beside the same step in PyTorch.

``python -m benchmarks.recipe_step`` builds the networks that ``numba-stn train`` builds for images
of a size, with and without a transformer, and times whole steps: forward, loss, backward, AdamW.
PyTorch trains the module that ``numba_stn.export.to_torch`` makes of the same network and weights,
in the better of its two memory layouts.

Each library has a process of its own, because PyTorch's threads spin after each call and take the
cores from other threads. The processes take turns: while one computes, the others wait for a line.
The first steps are not timed. The results are the median time of a step, and the median ratio of
turns that follow each other, so other work on the machine affects all alike.

With ``--layers`` the processes of numba_stn print where the time of a step goes: compiled code by
kernel, and the rest by Python function.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

# A library's name, and the layout of its images.
LIBRARIES = ("numba_stn", "torch", "torch, channels last")

WARM_STEPS, STEPS_PER_TURN = 5, 5


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recipe_step",
                                     description=__doc__.split("\n")[0])  # fmt: skip
    add = parser.add_argument
    add("--size", type=int, default=48, help="side of the images; default: 48")
    add("--channels", type=int, default=3, help="default: 3")
    add("--classes", type=int, default=15, help="default: 15")
    add("--batch", type=int, default=64, help="default: 64")
    add("--threads", type=int, default=2, help="default: 2")
    add("--rounds", type=int, default=15, help="turns of each process; default: 15")
    add("--layers", action="store_true", help="print where the time of a step goes instead")
    add("--answer", nargs=2, metavar=("LIBRARY", "MODEL"), help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.answer:
        answer(args, *args.answer)
        return
    models = ("st-cnn", "cnn")
    if args.layers:
        for model in models:
            print(f"\n{model}")
            where(make_steps(args, "numba_stn", model)[1])
        return
    print(f"| step, batch {args.batch} of {args.size} x {args.size} x {args.channels} "
          "| numba_stn, ms | PyTorch, ms | ratio |\n| --- | --- | --- | --- |")  # fmt: skip
    for model in models:
        print(compared(args, model), flush=True)


def compared(args: argparse.Namespace, model: str) -> str:
    """A row of the table."""
    with ExitStack() as stack:
        processes = {name: stack.enter_context(Process(args, name, model)) for name in LIBRARIES}
        losses = {name: float(process.receive()) for name, process in processes.items()}
        for name, loss in losses.items():
            if not np.isclose(loss, losses["numba_stn"], rtol=1e-4):
                raise SystemExit(f"{name}: expected the loss {losses['numba_stn']}, got {loss}")
        turns: dict[str, list[float]] = {name: [] for name in LIBRARIES}
        for k in range(args.rounds):
            for name in LIBRARIES if k % 2 else LIBRARIES[::-1]:
                turns[name].append(processes[name].seconds())
    best = min(LIBRARIES[1:], key=lambda name: statistics.median(turns[name]))
    ratio = statistics.median(b / a for a, b in zip(turns["numba_stn"], turns[best], strict=True))
    ours, theirs = (1e3 * statistics.median(turns[name]) for name in ("numba_stn", best))
    return f"| {model} | {ours:.1f} | {theirs:.1f} ({best}) | {ratio:.2f} |"


class Process:
    """A process that times the steps of one library."""

    def __init__(self, args: argparse.Namespace, name: str, model: str) -> None:
        numbers = ("size", "channels", "classes", "batch", "threads")
        options = [f"--{number}={getattr(args, number)}" for number in numbers]
        command = [sys.executable, "-m", "benchmarks.recipe_step", *options, "--answer", name,
                   model]  # fmt: skip
        count = str(args.threads)
        limits = {"NUMBA_NUM_THREADS": count, "OMP_NUM_THREADS": count}
        self.process = subprocess.Popen(command, env=os.environ | limits, text=True, bufsize=1,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.communicate()

    def receive(self) -> str:
        """Read a line from the process."""
        if line := self.process.stdout.readline():
            return line.strip()
        raise SystemExit("a measuring process ended; see its message above")

    def seconds(self) -> float:
        """Measure the median seconds of a step."""
        self.process.stdin.write("time\n")
        return statistics.median(json.loads(self.receive()))


# --- The measuring process ------------------------------------------------------------------------


def answer(args: argparse.Namespace, library: str, model: str) -> None:
    """Print the loss before training, then the seconds of some steps for each line that is read."""
    loss, step = make_steps(args, library, model)
    print(loss, flush=True)
    for _ in range(WARM_STEPS):
        step()
    for _ in sys.stdin:
        step()  # wakes the threads, and brings this library's arrays into the caches
        times = []
        for _ in range(STEPS_PER_TURN):
            began = time.perf_counter()
            step()
            times.append(time.perf_counter() - began)
        print(json.dumps(times), flush=True)


def make_steps(args: Any, library: str, model: str) -> tuple[float, Callable[[], Any]]:
    """The loss of the initial weights without dropout, and a function that makes a step."""
    from numba_stn.nn import train
    from numba_stn.training import recipe

    rng = np.random.default_rng(0)
    shape = (args.batch, args.size, args.size, args.channels)
    images = rng.integers(0, 256, shape, np.uint8)
    labels = np.arange(args.batch) % args.classes
    everything = np.arange(args.batch)
    options = recipe.Recipe(model=model, batch=args.batch, class_weight="none")
    job = recipe.classification(options, images, labels, everything, everything, args.classes)
    learner = recipe.initial_state(job).learner
    batch = job.train.take(everything)
    if library != "numba_stn":
        return torch_steps(args, job, learner, batch, library.endswith("channels last"))
    logits, _, _ = job.net.apply(learner.params, batch.images, learner.state)
    steps = _steps(train, job, learner, batch)
    return job.objective.loss(logits, batch.labels)[0], lambda: next(steps)


def _steps(train: Any, job: Any, learner: Any, batch: Any) -> Iterator[None]:
    """Make a step each time an element is asked for."""
    while True:
        learner, _, _ = train.loss_step(job.net, job.optimiser, learner, *batch, job.objective.loss)
        yield


def torch_steps(args: Any, job: Any, learner: Any, batch: Any, channels_last: bool) -> Any:
    """:func:`make_steps` of PyTorch, for the same network, weights and images."""
    import torch

    from numba_stn.export import to_torch

    torch.set_num_threads(args.threads)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    module = to_torch(job.net, learner.params, learner.state, job.shape).to(memory_format=layout)
    images = torch.from_numpy(batch.images).to(memory_format=layout)
    labels = torch.from_numpy(batch.labels)
    own = job.recipe
    groups: dict[bool, list[Any]] = {True: [], False: []}
    for name, weight in module.named_parameters():
        groups["localisation" in name or ".head." in name].append(weight)
    rates = {True: own.rate * own.localisation_rate, False: own.rate}
    some = [{"params": groups[part], "lr": rates[part]} for part in groups if groups[part]]
    optimiser = torch.optim.AdamW(some, weight_decay=own.weight_decay)

    def loss():
        return torch.nn.functional.cross_entropy(
            module(images), labels, label_smoothing=own.label_smoothing
        )

    def step():
        optimiser.zero_grad()
        value = loss()
        value.backward()
        optimiser.step()
        return value.item()

    with torch.no_grad():
        first = loss().item()
    module.train()
    return first, step


# --- Where the time goes --------------------------------------------------------------------------


def where(step: Callable[[], Any], steps: int = 20) -> None:
    """Print the milliseconds of a step that kernels take, by kernel, and the rest."""
    from numba_stn.kernels import cpu_launch

    spent: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    run = cpu_launch.run

    def timed(make, flags, work, *args):
        began = time.perf_counter()
        run(make, flags, work, *args)
        spent[make.__name__] += time.perf_counter() - began
        calls[make.__name__] += 1

    for _ in range(WARM_STEPS):
        step()
    cpu_launch.run = timed
    try:
        began = time.perf_counter()
        for _ in range(steps):
            step()
        total = time.perf_counter() - began
    finally:
        cpu_launch.run = run
    print(f"{1e3 * total / steps:8.2f} ms a step")
    for name, seconds in spent.most_common():
        print(f"{1e3 * seconds / steps:8.2f} {name} ({calls[name] // steps} calls)")
    print(f"{1e3 * (total - spent.total()) / steps:8.2f} outside of kernels")


if __name__ == "__main__":
    main()
