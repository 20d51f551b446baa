"""Where a training run stands, as a file: safetensors, written whole or not at all.

The arrays are what :class:`numba_stn.nn.train.Learner` holds; what is not an array (the
configuration, the history, the place in the epoch) travels in the file's metadata, as JSON. JSON
writes a float's shortest decimal form that reads back as the same float, so nothing is lost.
"""

import json
import pathlib
from dataclasses import asdict, fields
from typing import Any, NamedTuple

import numpy as np

from ..nn.train import Learner
from ..nn.tree import Tree, flatten, tree_map, unflatten
from ..utils.namespace import to_host
from ..utils.record import write_atomically

FORMAT = "numba_stn checkpoint 1"

# Options that earlier versions did not have, and what their runs were.
EARLIER = {"readings": 1}


class CheckpointError(Exception):
    """A file is no checkpoint of this run; the message says why, in one line."""


class Stand(NamedTuple):
    """Where a run stands: between two steps.

    ``epoch`` epochs are done and ``step`` steps of the next, whose losses add up to ``total``
    and in which ``wrong`` images were misread.
    """

    learner: Learner
    epoch: int = 0
    step: int = 0
    total: Any = 0.0
    wrong: Any = 0
    history: tuple[dict, ...] = ()
    seconds: float = 0.0


def save(path: pathlib.Path, config: Any, stand: Stand) -> None:
    """Write the checkpoint of a run with this configuration, a dataclass."""
    from safetensors.numpy import save as packed

    memory = stand.learner.memory
    place = {
        "epoch": stand.epoch,
        "step": stand.step,
        "total": float(stand.total),
        "wrong": int(stand.wrong),
        "history": stand.history,
        "seconds": stand.seconds,
        "optimiser_step": memory["step"],
    }
    arrays = {name: np.ascontiguousarray(to_host(a)) for name, a in flatten(_arrays(stand)).items()}
    metadata = {"format": FORMAT, "config": json.dumps(asdict(config)), "stand": json.dumps(place)}
    write_atomically(path, packed(arrays, metadata))


def load_config(path: pathlib.Path, kind: type) -> Any:
    """The configuration that a checkpoint was written with, as this dataclass.

    Raises
    ------
    CheckpointError
        If the file cannot be read, is cut off, is no checkpoint, or is one of another version.
    """
    found = EARLIER | _part(path, "config")
    names = {field.name for field in fields(kind)}
    if found.keys() != names:
        differ = sorted(found.keys() ^ names)
        raise CheckpointError(f"{path}: written by another version, whose options differ: {differ}")
    return kind(**found)


def load(path: pathlib.Path, config: Any, start: Learner, library: Any = np) -> Stand:
    """Where the run stood, its arrays of this library: ``numpy`` or ``cupy``.

    Parameters
    ----------
    path : pathlib.Path
    config : dataclass
        Of the run that is to go on.
    start : Learner
        That run's learner before its first step, which says what arrays there are.
    library : module

    Raises
    ------
    CheckpointError
        As :func:`load_config` does, or if the file belongs to another configuration.
    """
    from safetensors.numpy import load_file

    found = load_config(path, type(config))
    for name, value in asdict(config).items():
        if (other := getattr(found, name)) != value:
            raise CheckpointError(f"{path}: of a run with {name} {other!r}, expected {value!r}")
    place = _part(path, "stand")
    try:
        arrays = unflatten(load_file(path), _arrays(Stand(start)))
        memory = {"step": place.pop("optimiser_step"), "slots": arrays["slots"]}
        history = tuple(place.pop("history"))
        params, state = arrays["params"], arrays["state"]
        params, state, memory["slots"] = tree_map(library.asarray, (params, state, memory["slots"]))
        return Stand(Learner(params, state, memory), history=history, **place)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: does not fit this network: {error}") from error


def _arrays(stand: Stand) -> Tree:
    learner = stand.learner
    return {"params": learner.params, "state": learner.state, "slots": learner.memory["slots"]}


def _part(path: pathlib.Path, name: str) -> dict:
    """One entry of the file's metadata."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            metadata = file.metadata() or {}
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
    except SafetensorError as error:
        raise CheckpointError(f"{path}: cut off or not safetensors: {error}") from error
    if metadata.get("format") != FORMAT:
        got = metadata.get("format", "no such mark")
        raise CheckpointError(f"{path}: no checkpoint of this program: expected {FORMAT!r}, "
                              f"got {got!r}")  # fmt: skip
    try:
        found = json.loads(metadata[name])
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: its {name} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: its {name} cannot be read: expected an object")
    return found
