"""Runs in folders: the files of a run, and how a stopped run is resumed.

While a run is not complete, its folder has a checkpoint, written after each epoch and on Ctrl-C.
A complete run has none, and ``metrics.json`` has its results.
"""

import json
import pathlib
import warnings
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np

from ..nn import train
from ..nn.base import Layer
from ..nn.tree import flatten, unflatten
from ..utils.atomic_write import ignore_interrupts, write_atomically
from . import experiment
from .checkpoint import TrainingState, load_config, save_checkpoint
from .experiment import Config, Setup

CHECKPOINT = "checkpoint.safetensors"
WEIGHTS = "weights.safetensors"
METRICS = "metrics.json"

# The files that a run writes. Those of an earlier run in the same folder are replaced or removed.
FILES = (WEIGHTS, "curves.png", "classes.png", METRICS)


class RunError(Exception):
    """The folder does not have the run that was expected; the message says why."""


def complete_metrics(folder: pathlib.Path) -> dict | None:
    """The metrics of the complete run in this folder; None if there is none.

    Raises
    ------
    RunError
        If the run is of an earlier version.
    """
    if (folder / CHECKPOINT).exists():
        return None
    try:
        metrics = _read_metrics(folder)
    except (OSError, ValueError):
        return None
    if metrics.get("interrupted") is not False:
        return None
    _check_version(folder, metrics)
    return metrics


def _read_metrics(folder):
    metrics = json.loads((folder / METRICS).read_text())
    if not isinstance(metrics, dict):
        raise ValueError(f"{METRICS}: expected an object, got {type(metrics).__name__}")
    return metrics


def _check_version(folder, metrics):
    """Raise if metrics.json lacks an option: it is of an earlier version."""
    if missing := [field.name for field in fields(Config) if field.name not in metrics]:
        raise RunError(
            f"{folder}: a run of an earlier version of numba_stn: its {METRICS} lacks "
            f"{', '.join(missing)}"
        )


def stopped_config(folder: pathlib.Path) -> Config:
    """The configuration of the stopped run in this folder.

    Raises
    ------
    RunError
        If there is no run, or it is complete.
    CheckpointError
        If its checkpoint is damaged, or of something else.
    """
    if (folder / CHECKPOINT).exists():
        return load_config(folder / CHECKPOINT, Config)
    if complete_metrics(folder):
        raise RunError(f"{folder}: this run is complete; there is nothing left to do")
    raise RunError(f"{folder}: expected the folder of a stopped run, found no {CHECKPOINT}")


def load_or_start(folder: pathlib.Path, setup: Setup) -> TrainingState:
    """Load the training state from the folder's checkpoint, or write the first checkpoint.

    Raises
    ------
    CheckpointError
        If the checkpoint is damaged, of something else, or of another configuration.
    """
    path = folder / CHECKPOINT
    if path.exists():
        return experiment.resumed_state(setup, path)
    state = experiment.initial_state(setup)
    save_checkpoint(path, setup.config, state)
    return state


def run_in_folder(
    folder: pathlib.Path,
    setup: Setup,
    state: TrainingState,
    on_step: Callable[[int, float, float], None] = experiment.ignore,
    warn: Callable[[str], None] = warnings.warn,
) -> tuple[list[str], dict]:
    """Run the rest of the experiment in this folder; returns the files' names and the metrics.

    ``on_step`` and ``warn`` are those of :func:`numba_stn.training.experiment.run`.

    Raises
    ------
    DivergedError
        If a number of a training step is not finite. The checkpoint of the last epoch stays.
    """
    path = folder / CHECKPOINT

    def save(state):
        with ignore_interrupts():
            save_checkpoint(path, setup.config, state)

    learner, metrics = experiment.run(setup, state, on_step, save, warn)
    with ignore_interrupts():
        written = save_results(folder, setup, learner, metrics)
        if metrics["interrupted"]:
            return [*written, CHECKPOINT], metrics
        path.unlink()
    return written, metrics


def load_trained(folder: pathlib.Path) -> tuple[Config, Layer, train.Learner]:
    """Load the configuration, network and weights of the run in this folder.

    Raises
    ------
    RunError
        If there is no run, or its files are damaged, of an earlier version, or do not fit together.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        metrics = _read_metrics(folder)
        _check_version(folder, metrics)
        config = Config(**{field.name: metrics[field.name] for field in fields(Config)})
        net, shape = experiment.network(config)
        like = {"params": net.init(np.random.default_rng(0), shape),
                "state": net.init_state(shape)}  # fmt: skip
        if not (folder / WEIGHTS).exists():
            raise RunError(f"{folder}: not a run: found no {WEIGHTS}")
        tree = unflatten(load_file(folder / WEIGHTS), like)
    except OSError as error:
        name = pathlib.Path(error.filename or folder).name
        raise RunError(f"{folder}: not a run: {name}: {error.strerror or error}") from error
    except (KeyError, TypeError, ValueError, SafetensorError) as error:
        raise RunError(f"{folder}: damaged, or of another version: {error}") from error
    return config, net, train.Learner(tree["params"], tree["state"], None)


def save_results(
    folder: pathlib.Path, setup: Setup, learner: train.Learner, metrics: dict
) -> list[str]:
    """Write weights, pictures and, last, ``metrics.json``; returns the files' names.

    Everything is computed before the first file is written, with NumPy arrays, so that the files do
    not depend on the device.
    """
    from safetensors.numpy import save

    from . import pictures

    learner = train.to_numpy(learner)
    tree = flatten({"params": learner.params, "state": learner.state})
    text = json.dumps(metrics, indent=2, allow_nan=False) + "\n"
    content: dict[str, Any] = {
        WEIGHTS: save({name: np.ascontiguousarray(a) for name, a in tree.items()}),
        "classes.png": pictures.to_png(pictures.before_and_after(setup.net, learner, setup.test)),
        METRICS: text.encode(),
    }
    if metrics["history"]:
        content["curves.png"] = pictures.to_png(pictures.learning_curves(metrics["history"]))
    (folder / METRICS).unlink(missing_ok=True)  # it describes the files that are about to change
    for name in FILES:
        if name in content:
            write_atomically(folder / name, content[name])
        else:
            (folder / name).unlink(missing_ok=True)
    return [name for name in FILES if name in content]
