"""Runs in folders: what an experiment leaves behind, and how it goes on after it was stopped.

While a run is going there is a checkpoint, written after each epoch and on Ctrl-C. When it is
complete there is none, and ``metrics.json`` says how it ended.
"""

import json
import pathlib
import warnings
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np

from ..nn import train
from ..nn.layer import Layer
from ..nn.tree import flatten, unflatten
from ..utils.record import ignore_interrupts, write_atomically
from . import checkpoint, experiment
from .checkpoint import Stand
from .experiment import Config, DivergedError, Setup

CHECKPOINT = "checkpoint.safetensors"
WEIGHTS = "weights.safetensors"

# What a run writes; a file of an earlier run in the same folder is replaced or removed.
FILES = (WEIGHTS, "curves.png", "classes.png", "metrics.json")


class RunError(Exception):
    """A folder holds no run that can go on; the message says why."""


def metrics_of(folder: pathlib.Path) -> dict | None:
    """The metrics of a complete run; None where there is none, or one that is still to go on."""
    if (folder / CHECKPOINT).exists():
        return None
    try:
        metrics = _read(folder)
    except (OSError, ValueError, TypeError):
        return None
    return metrics if metrics.get("interrupted") is False else None


def _read(folder):
    """What metrics.json says, and what earlier versions left unsaid."""
    return checkpoint.EARLIER | json.loads((folder / "metrics.json").read_text())


def config_of(folder: pathlib.Path) -> Config:
    """The configuration of the run that stopped in this folder.

    Raises
    ------
    RunError
        If there is none, or it is complete.
    CheckpointError
        If its checkpoint is damaged or foreign.
    """
    if (folder / CHECKPOINT).exists():
        return checkpoint.load_config(folder / CHECKPOINT, Config)
    if metrics_of(folder):
        raise RunError(f"{folder}: this run is complete; nothing is left to do")
    raise RunError(
        f"{folder}: expected the folder of a run that was stopped, found no {CHECKPOINT}"
    )


def stand_in(folder: pathlib.Path, setup: Setup) -> Stand:
    """Where the experiment stands in this folder; at its beginning, if there is no checkpoint.

    Raises
    ------
    CheckpointError
        If the checkpoint is damaged, foreign, or of another configuration.
    """
    path = folder / CHECKPOINT
    if path.exists():
        return experiment.resume(setup, path)
    stand = experiment.begin(setup)
    checkpoint.save(path, setup.config, stand)
    return stand


def execute(
    folder: pathlib.Path,
    setup: Setup,
    stand: Stand,
    on_step: Callable[[int, float, float], None] = experiment.nothing,
    tell: Callable[[str], None] = warnings.warn,
) -> tuple[list[str], dict]:
    """Run what is left of the experiment in this folder; the files' names, and the metrics.

    Raises
    ------
    DivergedError
        If the loss is no longer finite. The checkpoint is gone then.
    """
    path = folder / CHECKPOINT

    def keep(stand):
        with ignore_interrupts():
            checkpoint.save(path, setup.config, stand)

    try:
        learner, metrics = experiment.run(setup, stand, on_step, keep, tell)
    except DivergedError:
        path.unlink()
        raise
    with ignore_interrupts():
        written = save(folder, setup, learner, metrics)
        if metrics["interrupted"]:
            return [*written, CHECKPOINT], metrics
        path.unlink()
    return written, metrics


def trained(folder: pathlib.Path) -> tuple[Config, Layer, train.Learner]:
    """What a run in this folder has learned: its configuration, network and weights.

    Raises
    ------
    RunError
        If there is no such run, or its files are damaged or do not fit each other.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        metrics = _read(folder)
        config = Config(**{field.name: metrics[field.name] for field in fields(Config)})
        net, shape = experiment.network(config)
        like = {"params": net.init(np.random.default_rng(0), shape),
                "state": net.init_state(shape)}  # fmt: skip
        if not (folder / WEIGHTS).exists():
            raise RunError(f"{folder}: no run in it: found no {WEIGHTS}")
        tree = unflatten(load_file(folder / WEIGHTS), like)
    except OSError as error:
        name = pathlib.Path(error.filename or folder).name
        raise RunError(f"{folder}: no run in it: {name}: {error.strerror or error}") from error
    except (KeyError, TypeError, ValueError, SafetensorError) as error:
        raise RunError(f"{folder}: damaged, or another version's: {error}") from error
    return config, net, train.Learner(tree["params"], tree["state"], None)


def save(folder: pathlib.Path, setup: Setup, learner: train.Learner, metrics: dict) -> list[str]:
    """Write weights, pictures and, last, ``metrics.json`` into ``folder``; the files' names.

    Everything is made before the first file is written, and of NumPy's arrays: the files do not
    depend on the device.
    """
    from safetensors.numpy import save as packed

    from . import pictures

    learner = train.on_host(learner)
    tree = flatten({"params": learner.params, "state": learner.state})
    text = json.dumps(metrics, indent=2, allow_nan=False) + "\n"
    content: dict[str, Any] = {
        WEIGHTS: packed({name: np.ascontiguousarray(a) for name, a in tree.items()}),
        "classes.png": pictures.png(pictures.before_and_after(setup.net, learner, setup.test)),
        "metrics.json": text.encode(),
    }
    if metrics["history"]:
        content["curves.png"] = pictures.png(pictures.learning_curves(metrics["history"]))
    (folder / "metrics.json").unlink(missing_ok=True)  # it belongs to the files about to go
    for name in FILES:
        if name in content:
            write_atomically(folder / name, content[name])
        else:
            (folder / name).unlink(missing_ok=True)
    return [name for name in FILES if name in content]
