"""The table of the 2015 paper, run by run: what ``numba-stn reproduce table1`` does.

Each run has a folder of its own (see :mod:`.runs`); what is complete is not run again, what was
stopped goes on. The table is made anew of the complete runs' ``metrics.json`` after each run.
"""

import json
import pathlib
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from statistics import mean, stdev
from typing import Any, NamedTuple

from ..utils.record import write_atomically
from . import checkpoint, runs
from .experiment import Config, parameters

TASKS = ("R", "RTS", "P", "E", "TC", "addition")


class Kind(NamedTuple):
    """A row of the table: a network and what its transformers may do."""

    model: str
    transform: str = "affine"
    transformers: int = 1

    def __str__(self) -> str:
        if not self.model.startswith("st-"):
            return self.model.upper()
        several = f"{self.transformers} x " if self.transformers > 1 else ""
        return f"{several}{self.model.upper()} {self.transform}"


# Test errors in percent, means of three seeds: Jaderberg et al. 2015, table 1; of the addition,
# appendix A.
PAPER = {
    Kind("fcn"): {"R": 2.1, "RTS": 5.2, "P": 3.1, "E": 3.2, "TC": 13.2, "addition": 47.7},
    Kind("cnn"): {"R": 1.2, "RTS": 0.8, "P": 1.5, "E": 1.4, "TC": 3.5, "addition": 14.7},
    Kind("st-fcn"): {"R": 1.2, "RTS": 0.8, "P": 1.5, "E": 2.7, "TC": 2.0, "addition": 22.6},
    Kind("st-fcn", "projective"): {"R": 1.3, "RTS": 0.9, "P": 1.4, "E": 2.6},
    Kind("st-fcn", "tps"): {"R": 1.1, "RTS": 0.8, "P": 1.4, "E": 2.4},
    Kind("st-cnn"): {"R": 0.7, "RTS": 0.5, "P": 0.8, "E": 1.2, "TC": 1.7},
    Kind("st-cnn", "projective"): {"R": 0.8, "RTS": 0.6, "P": 0.8, "E": 1.3},
    Kind("st-cnn", "tps"): {"R": 0.7, "RTS": 0.5, "P": 0.8, "E": 1.1},
    Kind("st-fcn", "affine", 2): {"addition": 9.0},
}

# One recipe for every run, chosen by the error on validation images. Networks without convolutions
# take a tenth of the time, and get more epochs; images of 60 pixels a side take longer, and get
# fewer. P and the addition get fewer to save time. RTS gets about what 20 minutes hold.
RECIPE: dict[str, Any] = {
    "dataset": "mnist",
    "batch": 128,
    "rate": 1e-2,
    "weight_decay": 0.02,
    "label_smoothing": 0.1,
    "localisation_rate": 0.3,
}
EPOCHS = {"fcn": 150, "st-fcn": 150, "cnn": 36, "st-cnn": 36}
LENGTHS = {"RTS": 4 / 3, "P": 1 / 2, "TC": 2 / 3, "addition": 1 / 2}

# ST-FCN reads the digits of RTS three times, which takes about twice as long, and gets half the
# epochs. Splines cannot be turned.
READINGS = {("st-fcn", transform, "RTS"): 3 for transform in ("affine", "projective")}


class Run(NamedTuple):
    """A cell of the table under one seed."""

    task: str
    kind: Kind
    seed: int

    def __str__(self) -> str:
        return f"{self.task} {self.kind}, seed {self.seed}"

    @property
    def folder(self) -> str:
        """What its folder is called."""
        words = (self.task, *str(self.kind).lower().replace(" x ", "x ").split())
        return "-".join((*words, f"seed{self.seed}"))

    def config(self, **changes: Any) -> Config:
        """Its configuration: the recipe, but for the changes."""
        own = {"task": self.task, "seed": self.seed, **self.kind._asdict()}
        model, transform, _ = self.kind
        readings = READINGS.get((model, transform, self.task), 1)
        epochs = EPOCHS[model] * LENGTHS.get(self.task, 1) / (2 if readings > 1 else 1)
        length = {"epochs": round(epochs), "readings": readings}
        return Config(**RECIPE | length | own | changes)


def planned(
    tasks: Sequence[str], models: Sequence[str], transforms: Sequence[str], seeds: Sequence[int]
) -> list[Run]:
    """The runs of the table in these tasks, of these models and transforms.

    Every cell is run with the first seed; the paper's main row, ST-CNN affine, with all of them.
    """
    kinds = [kind for kind in PAPER if kind.model in models and kind.transform in transforms]
    return [
        Run(task, kind, seed)
        for seed in seeds
        for kind in kinds
        if seed == seeds[0] or kind == Kind("st-cnn")
        for task in tasks
        if task in PAPER[kind]
    ]


# --- Running --------------------------------------------------------------------------------------


def unfinished(out: pathlib.Path, wanted: Sequence[Run], **changes: Any) -> list[Run]:
    """Those of the runs that are not complete in this folder.

    Raises
    ------
    RunError, CheckpointError
        As :func:`finished` does.
    """
    return [run for run in wanted if not finished(out / run.folder, run.config(**changes))]


def finished(folder: pathlib.Path, config: Config) -> bool:
    """Whether this run is complete; what its folder holds must be this run.

    Raises
    ------
    RunError
        If it is another, or of a network that has changed since.
    CheckpointError
        If its checkpoint is damaged or foreign.
    """
    metrics = runs.metrics_of(folder)
    if metrics is not None:
        found = {name: metrics.get(name) for name in asdict(config)}
    elif (folder / runs.CHECKPOINT).exists():
        found = asdict(checkpoint.load_config(folder / runs.CHECKPOINT, Config))
    else:
        return False
    for name, value in asdict(config).items():
        if found[name] != value:
            raise runs.RunError(
                f"{folder}: holds a run with {name} {found[name]!r}, expected {value!r}; choose "
                f"another --out"
            )
    if metrics is None:
        return False
    count, expected = metrics.get("parameters"), parameters(config)
    if count != expected:
        raise runs.RunError(
            f"{folder}: holds a run of another version's network, with {count} parameters, "
            f"expected {expected}; remove it, or choose another --out"
        )
    return True


# --- The table ------------------------------------------------------------------------------------

# What the table says of each run, of its metrics.json.
NOTED = ("test_error", "seed", "epochs", "readings", "batch", "rate", "localisation_rate",
         "weight_decay", "label_smoothing", "seconds", "parameters", "test_images", "dataset",
         "device", "gpu", "commit", "versions")  # fmt: skip


def collected(out: pathlib.Path) -> list[dict]:
    """What is to be said of each complete run in this folder, in the table's order."""
    found = []
    for kind, tasks in PAPER.items():
        for task in tasks:
            folders = out.glob(Run(task, kind, 0).folder.removesuffix("0") + "*")
            each = [metrics for metrics in map(runs.metrics_of, folders) if metrics]
            found += [
                {"task": task, **kind._asdict(), **{name: metrics[name] for name in NOTED},
                 "validation_error": metrics["history"][-1]["validation_error"]}
                for metrics in sorted(each, key=lambda metrics: metrics["seed"])
            ]  # fmt: skip
    return found


def write_table(out: pathlib.Path, command: Sequence[str] = ()) -> None:
    """Write ``table1.json`` and ``table1.md`` of the complete runs in this folder."""
    found = collected(out)
    content = {"command": shlex.join(command), "runs": found}
    write_atomically(out / "table1.json", (json.dumps(content, indent=1) + "\n").encode())
    write_atomically(out / "table1.md", markdown(found).encode())


def markdown(found: list[dict]) -> str:
    """The table beside the paper's; a cell that was not run is empty."""
    lines = [
        "| model | " + " | ".join(TASKS) + " |",
        "|---" * (len(TASKS) + 1) + "|",
    ]
    for kind, paper in PAPER.items():
        cells = [_cell(found, kind, task, paper.get(task)) for task in TASKS]
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(found, kind, task, paper):
    """Ours, with the seeds' standard deviation, and the paper's in brackets."""
    errors = [
        each["test_error"]
        for each in found
        if each["task"] == task and tuple(each[name] for name in Kind._fields) == kind
    ]
    theirs = "" if paper is None else f"({paper:.1f})"
    if not errors:
        return theirs
    spread = f" ± {stdev(errors):.2f}" if len(errors) > 1 else ""
    return f"**{mean(errors):.2f}**{spread} {theirs}"
