"""Checkpoints: the training state of a run in a safetensors file, written whole or not at all.

The arrays are those of :class:`numba_stn.nn.train.Learner`. Everything else (the configuration, the
history, the position in the epoch) is JSON in the file's metadata. JSON writes the shortest decimal
form of a float that reads back as the same float, so nothing is lost.
"""

import json
import pathlib
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np

from ..nn.files import FileError, pack, read, unpack
from ..nn.train import Learner
from ..nn.tree import Tree, tree_map
from ..utils.atomic_write import write_atomically
from ..utils.schema import (
    NamesError,
    Rule,
    field_rules,
    from_json,
    list_of,
    number,
    record,
    short,
    whole,
)

FORMAT = "numba_stn checkpoint 2"
EARLIER_FORMATS = ("numba_stn checkpoint 1",)

_PERCENT = number(0, 100)

# An epoch in a run's history. The coverage is that of each transformer, if there are any.
EPOCH = record(
    {
        "epoch": whole(1),
        "train_loss": number(0),
        "train_error": _PERCENT,
        "validation_error": _PERCENT,
        "coverage": list_of(_PERCENT),
    },
    optional=("coverage",),
)

# An epoch of a run that has no validation images, or keeps the best epoch.
IMAGE_EPOCH = record(
    {
        "epoch": whole(1),
        "train_loss": number(0),
        "train_error": _PERCENT,
        "validation_loss": number(0),
        "validation_error": _PERCENT,
        "coverage": list_of(_PERCENT),
    },
    optional=("validation_loss", "validation_error", "coverage"),
)


def _scalars(kind: type) -> Rule:
    """The rule of what a training state has besides arrays; it also holds when it is written."""
    return record(
        {
            "epoch": whole(),
            "step": whole(),
            "loss_sum": number(0),
            "errors": whole(),
            "history": list_of(IMAGE_EPOCH if keeps_best(kind) else EPOCH),
            "seconds": number(0),
            "optimiser_step": whole(),
        }
    )


def keeps_best(kind: type) -> bool:
    """Whether runs of this configuration keep the best epoch: it has a field ``patience``."""
    return "patience" in field_rules(kind)


class CheckpointError(ValueError):
    """The file is not a checkpoint of this run; the message says why, in one line."""


class TrainingState(NamedTuple):
    """The state of a run between two steps: all that it needs to continue.

    ``epoch`` epochs are complete, and ``step`` steps of the next one. ``loss_sum`` is the sum of
    their losses, and ``errors`` the number of images that were misclassified in them. ``seconds``
    is the time that the run has taken. ``best`` has the parameters and the running statistics of
    the best epoch, in runs that keep it.
    """

    learner: Learner
    epoch: int = 0
    step: int = 0
    loss_sum: Any = 0.0
    errors: Any = 0
    history: tuple[dict, ...] = ()
    seconds: float = 0.0
    best: tuple[Tree, Tree] | None = None


def save_checkpoint(path: pathlib.Path, config: Any, state: TrainingState) -> None:
    """Write the checkpoint of a run with this configuration, a dataclass.

    Raises
    ------
    ValueError
        If a number is not finite; the file that was there before is unchanged.
    """
    scalars = {
        "epoch": state.epoch,
        "step": state.step,
        "loss_sum": float(state.loss_sum),
        "errors": int(state.errors),
        "history": state.history,
        "seconds": state.seconds,
        "optimiser_step": state.learner.optimiser_state["step"],
    }
    metadata = {
        "format": FORMAT,
        "config": json.dumps(asdict(config)),
        "training_state": json.dumps(_scalars(type(config))(scalars, "")),
    }
    write_atomically(path, pack(_arrays(state), metadata))


def load_config(path: pathlib.Path, kind: type) -> Any:
    """Load the configuration of a checkpoint's run, as a dataclass of this kind.

    Raises
    ------
    CheckpointError
        If the file cannot be read, is truncated, is not a checkpoint, or is of another version.
    """
    return _config(path, read_safetensors(path)[1], kind)


def config_names(path: pathlib.Path) -> dict:
    """What a checkpoint has as its run's configuration, unchecked; {} if it is no object.

    Raises
    ------
    CheckpointError
        If the file cannot be read, is truncated, or is not safetensors.
    """
    content = read_safetensors(path)[1].get("config", "")
    try:
        found = from_json(content, lambda value, name: value)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


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
    flat, metadata = read_safetensors(path)
    found = _config(path, metadata, type(config))
    for name, value in asdict(config).items():
        if (other := getattr(found, name)) != value:
            raise CheckpointError(
                f"{path}: a checkpoint of a run with {name} {other!r}, expected {value!r}"
            )
    scalars = _entry(path, metadata, "training_state", _scalars(type(config)))
    has_best = keeps_best(type(config)) and scalars["epoch"] > 0
    best = (initial.params, initial.state) if has_best else None
    try:
        arrays = unpack(flat, _arrays(TrainingState(initial, best=best)))
    except ValueError as error:
        raise CheckpointError(f"{path}: does not match this network: {error}") from error
    arrays = tree_map(library.asarray, arrays)
    optimiser_state = {"step": scalars.pop("optimiser_step"), "slots": arrays["slots"]}
    history = tuple(scalars.pop("history"))
    learner = Learner(arrays["params"], arrays["state"], optimiser_state)
    best = (arrays["best_params"], arrays["best_state"]) if has_best else None
    return TrainingState(learner, history=history, best=best, **scalars)


def _arrays(state: TrainingState) -> Tree:
    """The arrays of a training state."""
    learner = state.learner
    slots = learner.optimiser_state["slots"]
    own = {"params": learner.params, "state": learner.state, "slots": slots}
    if state.best is None:
        return own
    return own | {"best_params": state.best[0], "best_state": state.best[1]}


def _config(path: pathlib.Path, metadata: dict[str, str], kind: type) -> Any:
    """The configuration in a file's metadata, as a dataclass of this kind."""
    if (found := metadata.get("format")) != FORMAT:
        if found in EARLIER_FORMATS:
            raise CheckpointError(f"{path}: a checkpoint of an earlier version of numba_stn, which "
                                  f"cannot be resumed")  # fmt: skip
        raise CheckpointError(f"{path}: not a checkpoint of numba_stn: expected the format "
                              f"{FORMAT!r}, got {short(found)}")  # fmt: skip
    return kind(**_entry(path, metadata, "config", record(field_rules(kind))))


def _entry(path: pathlib.Path, metadata: dict[str, str], name: str, rule: Rule) -> Any:
    """An entry of the metadata, which is JSON that follows the rule."""
    if name not in metadata:
        raise CheckpointError(f"{path}: damaged: lacks {name}")
    try:
        return from_json(metadata[name], rule, name)
    except NamesError as error:
        raise CheckpointError(f"{path}: a checkpoint of another version: {error}") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: damaged: {error}") from error


# --- Arrays in safetensors files ------------------------------------------------------------------


def read_safetensors(path: pathlib.Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read the arrays and the metadata of a safetensors file.

    Raises
    ------
    CheckpointError
        If it cannot be read, is truncated, or is not such a file.
    """
    try:
        return read(path)
    except FileError as error:
        raise CheckpointError(str(error)) from error
