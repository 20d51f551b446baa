"""Checkpoints: the training state of a run in a safetensors file, written whole or not at all.

The arrays are those of :class:`numba_stn.nn.train.Learner`. Everything else (the configuration, the
history, the position in the epoch) is JSON in the file's metadata. JSON writes the shortest decimal
form of a float that reads back as the same float, so nothing is lost.
"""

import json
import pathlib
from dataclasses import asdict, fields
from typing import Any, NamedTuple

import numpy as np

from ..nn.train import Learner
from ..nn.tree import Tree, flatten, tree_map, unflatten
from ..utils.atomic_write import write_atomically
from ..utils.namespace import to_host

FORMAT = "numba_stn checkpoint 2"
EARLIER_FORMATS = ("numba_stn checkpoint 1",)


class CheckpointError(Exception):
    """The file is not a checkpoint of this run; the message says why, in one line."""


class TrainingState(NamedTuple):
    """The state of a run between two steps: all that it needs to continue.

    ``epoch`` epochs are complete, and ``step`` steps of the next one. ``loss_sum`` is the sum of
    their losses, and ``errors`` the number of images that were misclassified in them. ``seconds``
    is the time that the run has taken.
    """

    learner: Learner
    epoch: int = 0
    step: int = 0
    loss_sum: Any = 0.0
    errors: Any = 0
    history: tuple[dict, ...] = ()
    seconds: float = 0.0


def save_checkpoint(path: pathlib.Path, config: Any, state: TrainingState) -> None:
    """Write the checkpoint of a run with this configuration, a dataclass."""
    from safetensors.numpy import save

    scalars = {
        "epoch": state.epoch,
        "step": state.step,
        "loss_sum": float(state.loss_sum),
        "errors": int(state.errors),
        "history": state.history,
        "seconds": state.seconds,
        "optimiser_step": state.learner.optimiser_state["step"],
    }
    arrays = {name: np.ascontiguousarray(to_host(a)) for name, a in flatten(_arrays(state)).items()}
    metadata = {
        "format": FORMAT,
        "config": json.dumps(asdict(config)),
        "training_state": json.dumps(scalars),
    }
    write_atomically(path, save(arrays, metadata))


def load_config(path: pathlib.Path, kind: type) -> Any:
    """Load the configuration of a checkpoint's run, as a dataclass of this kind.

    Raises
    ------
    CheckpointError
        If the file cannot be read, is truncated, is not a checkpoint, or is of another version.
    """
    found = _load_metadata(path, "config")
    names = {field.name for field in fields(kind)}
    if found.keys() != names:
        different = sorted(found.keys() ^ names)
        raise CheckpointError(
            f"{path}: a checkpoint of another version, whose options differ: {different}"
        )
    return kind(**found)


def load_checkpoint(
    path: pathlib.Path, config: Any, initial: Learner, library: Any = np
) -> TrainingState:
    """Load the training state of a run.

    Parameters
    ----------
    path : pathlib.Path
    config : dataclass
        Of the run that is to continue.
    initial : Learner
        That run's learner before its first step; it gives the structure and shapes of the arrays.
    library : module
        ``numpy`` or ``cupy``, whose arrays the training state has.

    Raises
    ------
    CheckpointError
        As :func:`load_config` does, or if the file belongs to another configuration.
    """
    from safetensors.numpy import load_file

    found = load_config(path, type(config))
    for name, value in asdict(config).items():
        if (other := getattr(found, name)) != value:
            raise CheckpointError(
                f"{path}: a checkpoint of a run with {name} {other!r}, expected {value!r}"
            )
    scalars = _load_metadata(path, "training_state")
    try:
        arrays = unflatten(load_file(path), _arrays(TrainingState(initial)))
        optimiser_step = scalars.pop("optimiser_step")
        history = tuple(scalars.pop("history"))
        arrays = tree_map(library.asarray, arrays)
        optimiser_state = {"step": optimiser_step, "slots": arrays["slots"]}
        learner = Learner(arrays["params"], arrays["state"], optimiser_state)
        return TrainingState(learner, history=history, **scalars)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: does not match this network: {error}") from error


def _arrays(state: TrainingState) -> Tree:
    """The arrays of a training state."""
    learner = state.learner
    slots = learner.optimiser_state["slots"]
    return {"params": learner.params, "state": learner.state, "slots": slots}


def _load_metadata(path: pathlib.Path, name: str) -> dict:
    """Load one entry of the file's metadata."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            metadata = file.metadata() or {}
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
    except SafetensorError as error:
        raise CheckpointError(f"{path}: truncated, or not safetensors: {error}") from error
    if (found := metadata.get("format")) != FORMAT:
        if found in EARLIER_FORMATS:
            raise CheckpointError(f"{path}: a checkpoint of an earlier version of numba_stn, which "
                                  f"cannot be resumed")  # fmt: skip
        raise CheckpointError(f"{path}: not a checkpoint of numba_stn: expected the format "
                              f"{FORMAT!r}, got {found!r}")  # fmt: skip
    try:
        entry = json.loads(metadata[name])
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: its {name} cannot be read: {error}") from error
    if not isinstance(entry, dict):
        raise CheckpointError(f"{path}: its {name} cannot be read: expected an object")
    return entry
