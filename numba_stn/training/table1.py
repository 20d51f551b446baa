"""Tables of test errors, run by run: what ``numba-stn reproduce`` trains and writes.

``table1`` is that of the 2015 paper. ``table2`` has the same tasks, with transformers that predict
their map in several rounds.

Each run has its own folder (see :mod:`.runs`). Complete runs are not trained again, and stopped
ones are resumed. After each run the table is written again, from the ``metrics.json`` of all
complete runs.
"""

import json
import pathlib
import re
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from statistics import mean, stdev
from typing import Any, NamedTuple

from ..utils.atomic_write import write_atomically
from ..utils.schema import from_json, list_of, record, text
from . import runs
from .checkpoint import load_config
from .experiment import Config, parameter_count

TASKS = ("R", "RTS", "P", "E", "TC", "addition")


class TableRow(NamedTuple):
    """A row of the table: a network and its transformers' transform."""

    model: str
    transform: str = "affine"
    transformers: int = 1
    rounds: int = 1

    def __str__(self) -> str:
        if not self.model.startswith("st-"):
            return self.model.upper()
        several = f"{self.transformers} x " if self.transformers > 1 else ""
        rounds = f" {self.rounds} rounds" if self.rounds > 1 else ""
        return f"{several}{self.model.upper()} {self.transform}{rounds}"

    @classmethod
    def of(cls, run: dict[str, Any]) -> "TableRow":
        """The row of an entry of the table's file; those of earlier versions have no rounds."""
        found: dict[str, Any] = {name: run[name] for name in cls._fields if name in run}
        return cls(**found)


class Table(NamedTuple):
    """A table: its name, which its files have, and its tasks.

    ``errors`` has the rows, and for each of their tasks the error in percent to compare with. Only
    the rows in ``all_seeds`` are trained with all seeds, the others with the first.
    """

    name: str
    tasks: tuple[str, ...]
    errors: dict[TableRow, dict[str, float]]
    all_seeds: tuple[TableRow, ...]


# The paper's test errors in percent, means of three seeds: Jaderberg et al. 2015, table 1, and for
# the addition, appendix A.
PAPER_ERRORS = {
    TableRow("fcn"): {"R": 2.1, "RTS": 5.2, "P": 3.1, "E": 3.2, "TC": 13.2, "addition": 47.7},
    TableRow("cnn"): {"R": 1.2, "RTS": 0.8, "P": 1.5, "E": 1.4, "TC": 3.5, "addition": 14.7},
    TableRow("st-fcn"): {"R": 1.2, "RTS": 0.8, "P": 1.5, "E": 2.7, "TC": 2.0, "addition": 22.6},
    TableRow("st-fcn", "projective"): {"R": 1.3, "RTS": 0.9, "P": 1.4, "E": 2.6},
    TableRow("st-fcn", "tps"): {"R": 1.1, "RTS": 0.8, "P": 1.4, "E": 2.4},
    TableRow("st-cnn"): {"R": 0.7, "RTS": 0.5, "P": 0.8, "E": 1.2, "TC": 1.7},
    TableRow("st-cnn", "projective"): {"R": 0.8, "RTS": 0.6, "P": 0.8, "E": 1.3},
    TableRow("st-cnn", "tps"): {"R": 0.7, "RTS": 0.5, "P": 0.8, "E": 1.1},
    TableRow("st-fcn", "affine", 2): {"addition": 9.0},
}

TABLE1 = Table("table1", TASKS, PAPER_ERRORS, (TableRow("st-cnn"),))

# What the same networks reached in one round: docs/results.md.
_ST_CNN = {"R": 0.54, "RTS": 0.48, "P": 0.69, "E": 0.54, "TC": 0.97}
_ROUNDS = {TableRow("st-cnn", rounds=rounds): _ST_CNN for rounds in (2, 3)}
_ROUNDS |= {TableRow("st-fcn", rounds=rounds): {"RTS": 0.76} for rounds in (2, 3)}
TABLE2 = Table("table2", ("R", "RTS", "P", "E", "TC"), _ROUNDS, tuple(_ROUNDS))

TABLES = {table.name: table for table in (TABLE1, TABLE2)}

# All runs have the same options, chosen by the validation error. The number of epochs differs:
# networks without convolutions take a tenth of the time, and get more epochs. Images of 60 pixels a
# side (TC) take longer, and get fewer. P and the addition get fewer to save time. RTS gets the
# number that takes about 20 minutes.
OPTIONS: dict[str, Any] = {
    "dataset": "mnist",
    "batch": 128,
    "rate": 1e-2,
    "weight_decay": 0.02,
    "label_smoothing": 0.1,
    "localisation_rate": 0.3,
}
EPOCHS = {"fcn": 150, "st-fcn": 150, "cnn": 36, "st-cnn": 36}
EPOCH_FACTORS = {"RTS": 4 / 3, "P": 1 / 2, "TC": 2 / 3, "addition": 1 / 2}

# ST-FCN has three views of the digits of RTS. They take about twice as long, and get half the
# epochs. Thin-plate splines cannot be rotated, and have one view.
# So has a network in several rounds.
VIEWS = {("st-fcn", transform, "RTS"): 3 for transform in ("affine", "projective")}

# How much longer a step takes for each further round, as a share of the time with one round; the
# epochs are fewer by as much.
ROUND_COST = 0.35


class Run(NamedTuple):
    """A cell of the table with one seed."""

    task: str
    row: TableRow
    seed: int

    def __str__(self) -> str:
        return f"{self.task} {self.row}, seed {self.seed}"

    @property
    def folder(self) -> str:
        """Name of the run's folder."""
        words = (self.task, *str(self.row).lower().replace(" x ", "x ").split())
        return "-".join((*words, f"seed{self.seed}"))

    def config(self, **changes: Any) -> Config:
        """Configuration of the run: the table's options, with these changes."""
        own = {"task": self.task, "seed": self.seed, **self.row._asdict()}
        model, transform, _, rounds = self.row
        views = VIEWS.get((model, transform, self.task), 1) if rounds == 1 else 1
        epochs = EPOCHS[model] * EPOCH_FACTORS.get(self.task, 1) / (2 if views > 1 else 1)
        epochs /= 1 + ROUND_COST * (rounds - 1)
        length = {"epochs": round(epochs), "views": views}
        return Config(**OPTIONS | length | own | changes)


def planned_runs(
    tasks: Sequence[str],
    models: Sequence[str],
    transforms: Sequence[str],
    seeds: Sequence[int],
    table: Table = TABLE1,
) -> list[Run]:
    """The runs of the table for these tasks, models and transforms.

    Each cell is run with the first seed. The paper's main row, ST-CNN affine, is run with all, as
    are those of ``table2``.
    """
    rows = [row for row in table.errors if row.model in models and row.transform in transforms]
    return [
        Run(task, row, seed)
        for seed in seeds
        for row in rows
        if seed == seeds[0] or row in table.all_seeds
        for task in tasks
        if task in table.errors[row]
    ]


# --- Running --------------------------------------------------------------------------------------


def incomplete_runs(out: pathlib.Path, wanted: Sequence[Run], **changes: Any) -> list[Run]:
    """Those of the runs that are not complete in this folder.

    Raises
    ------
    RunError, CheckpointError
        As :func:`is_complete` does.
    """
    return [run for run in wanted if not is_complete(out / run.folder, run.config(**changes))]


def is_complete(folder: pathlib.Path, config: Config) -> bool:
    """Whether the run of this configuration is complete in this folder.

    Raises
    ------
    RunError
        If the folder has another run, or one of an earlier version or of a network that has
        changed since.
    CheckpointError
        If its checkpoint is damaged, or of something else.
    """
    metrics = runs.complete_metrics(folder)
    if metrics is not None:
        found = {name: metrics[name] for name in asdict(config)}
    elif (folder / runs.CHECKPOINT).exists():
        found = asdict(load_config(folder / runs.CHECKPOINT, Config))
    else:
        return False
    for name, value in asdict(config).items():
        if found[name] != value:
            raise runs.RunError(
                f"{folder}: has a run with {name} {found[name]!r}, expected {value!r}; choose "
                f"another --out"
            )
    if metrics is None:
        return False
    count, expected = metrics.get("parameters"), parameter_count(config)
    if count != expected:
        raise runs.RunError(
            f"{folder}: has a run of another version's network, with {count} parameters, "
            f"expected {expected}; remove it, or choose another --out"
        )
    return True


# --- The table ------------------------------------------------------------------------------------

# What a table's JSON file has of each run's metrics.json.
REPORTED = ("test_error", "seed", "epochs", "views", "batch", "rate", "localisation_rate",
            "weight_decay", "label_smoothing", "seconds", "parameters", "test_images", "dataset",
            "device", "gpu", "commit", "versions")  # fmt: skip

_TABLE = record({"command": text, "runs": list_of(lambda run, name: run)})


def collect_runs(out: pathlib.Path, table: Table = TABLE1) -> list[dict]:
    """The entries of the JSON file for the complete runs in this folder, in the table's order."""
    found = []
    for row, tasks in table.errors.items():
        for task in tasks:
            complete = [_metrics_of(folder, task, row) for folder in _folders(out, task, row)]
            found += [
                {"task": task, **row._asdict(), **{name: metrics[name] for name in REPORTED},
                 "validation_error": metrics["history"][-1]["validation_error"]}
                for metrics in sorted(filter(None, complete), key=lambda metrics: metrics["seed"])
            ]  # fmt: skip
    return found


def _folders(out, task, row):
    """The folders of a cell's runs, one for each seed."""
    name = Run(task, row, 0).folder.removesuffix("0")
    return [path for path in out.glob(f"{name}*") if re.fullmatch(r"\d+", path.name[len(name) :])]


def _metrics_of(folder, task, row):
    """The metrics of the complete run in a cell's folder, or None."""
    metrics = runs.complete_metrics(folder)
    if metrics:
        for name, expected in {"task": task, **row._asdict()}.items():
            if metrics[name] != expected:
                raise runs.RunError(
                    f"{folder / runs.METRICS}: {name}: expected {expected!r}, as the folder's name "
                    f"says, got {metrics[name]!r}"
                )
    return metrics


def check_table(out: pathlib.Path, table: Table = TABLE1) -> None:
    """Check that this folder's table, if there is one, was written by :func:`write_table`.

    Raises
    ------
    RunError
        If its file of JSON or Markdown is something else, which would be overwritten.
    """
    path = out / f"{table.name}.json"
    try:
        if path.exists():
            from_json(path.read_bytes(), _TABLE)
        elif path.with_suffix(".md").exists():
            raise ValueError(f"expected {path.name} beside it")
    except ValueError as error:
        raise runs.RunError(
            f"{path.with_suffix('.*')}: not a table of numba-stn reproduce ({error}); choose "
            f"another --out"
        ) from error


def write_table(out: pathlib.Path, command: Sequence[str] = (), table: Table = TABLE1) -> None:
    """Write the table's JSON and Markdown files from the complete runs in this folder."""
    found = collect_runs(out, table)
    content = {"command": shlex.join(command), "runs": found}
    write_atomically(out / f"{table.name}.json", (json.dumps(content, indent=1) + "\n").encode())
    write_atomically(out / f"{table.name}.md", to_markdown(found, table).encode())


def to_markdown(found: list[dict], table: Table = TABLE1) -> str:
    """The table as Markdown, with the errors to compare with, which a cell without runs has."""
    lines = [
        "| model | " + " | ".join(table.tasks) + " |",
        "|---" * (len(table.tasks) + 1) + "|",
    ]
    digits = 1 if table is TABLE1 else 2
    for row, others in table.errors.items():
        cells = [_cell(found, row, task, others.get(task), digits) for task in table.tasks]
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(found, row, task, other, digits):
    """Our error, with the seeds' standard deviation, and that to compare with in brackets."""
    errors = [run["test_error"] for run in found if run["task"] == task and TableRow.of(run) == row]
    theirs = "" if other is None else f"({other:.{digits}f})"
    if not errors:
        return theirs
    deviation = f" ± {stdev(errors):.2f}" if len(errors) > 1 else ""
    return f"**{mean(errors):.2f}**{deviation} {theirs}"
