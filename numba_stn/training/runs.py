"""Runs in folders: the files of a run, and how a stopped run is resumed.

While a run is not complete, its folder has a checkpoint, written after each epoch and on Ctrl-C.
A complete run has none, and ``metrics.json`` has its results. A process that writes to the folder
holds its lock (:func:`hold`).
"""

import contextlib
import json
import pathlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..nn import train
from ..nn.base import Layer, Shape
from ..utils.atomic_write import delay_interrupts, settle_leftovers, write_atomically
from ..utils.lock import LockedError, locked
from ..utils.schema import (
    NamesError,
    dict_of,
    field_rules,
    flag,
    from_json,
    list_of,
    maybe,
    number,
    record,
    text,
    whole,
)
from . import experiment, image_runs
from .checkpoint import (
    EPOCH,
    IMAGE_EPOCH,
    CheckpointError,
    TrainingState,
    config_names,
    load_config,
    pack,
    read_safetensors,
    save_checkpoint,
    unpack,
)
from .experiment import Config, Setup
from .image_runs import ImageConfig, ImageSetup
from .own_network import NetworkError

CHECKPOINT = "checkpoint.safetensors"
WEIGHTS = "weights.safetensors"
METRICS = "metrics.json"

# The files that a run writes, and those that only a run on one's own images writes. Those of an
# earlier run in the same folder are replaced or removed.
REPORT = "report.html"
FILES = (WEIGHTS, "curves.png", "classes.png", REPORT, METRICS)
IMAGE_FILES = ("split.csv",)

# The file that a process holds locked while it writes to the folder.
LOCK = "numba-stn.lock"

# What :func:`content` calls the folder of a stopped run.
STOPPED = "a stopped run"

AnyConfig = Config | ImageConfig

# What metrics.json has; the same rules hold when it is written. The test error is None if Ctrl-C
# ended the measurement. Runs on one's own images have a configuration of another kind.
_ERROR = {"test_error": maybe(number(0, 100))}
_RESULTS = {
    "interrupted": flag,
    "test_images": whole(1),
    "parameters": whole(1),
    "seconds": number(0),
    "gpu": maybe(text),
    "versions": dict_of(text),
    "commit": maybe(text),
}
_METRICS = {
    Config: record(_ERROR | field_rules(Config) | _RESULTS | {"history": list_of(EPOCH)}),
    ImageConfig: record(
        _ERROR
        | field_rules(ImageConfig)
        | _RESULTS
        | {
            "best_epoch": whole(),
            "train_images": whole(1),
            "validation_images": whole(),
            "broken": list_of(text),
            "history": list_of(IMAGE_EPOCH),
        }
    ),
}


def _kind(names: Any) -> type:
    """The kind of a run's configuration, by the names of its values."""
    return ImageConfig if isinstance(names, dict) and "data" in names else Config


def _metrics_rule(value, name):
    """The rule of metrics.json."""
    return _METRICS[_kind(value)](value, name)


def _functions(config: Any) -> Any:
    """The module whose functions a configuration, or a setup, is for."""
    return image_runs if isinstance(config, (ImageConfig, ImageSetup)) else experiment


class RunError(ValueError):
    """The folder does not have the run that was expected; the message says why."""


# --- The folder -----------------------------------------------------------------------------------


@contextlib.contextmanager
def hold(
    folder: pathlib.Path,
    warn: Callable[[str], None] = warnings.warn,
    patience: float = 0.0,
) -> Iterator[None]:
    """Make the folder, and hold its lock.

    What killed processes left half-written in it is removed.

    Parameters
    ----------
    folder : pathlib.Path
        Removed again if it was made here and is empty at the end.
    warn : callable
        Called with a sentence about each of these.
    patience : float
        Seconds to wait for the lock.

    Raises
    ------
    RunError
        If another process holds the lock.
    OSError
        If the folder cannot be written to.
    """
    new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with locked(folder / LOCK, patience, warn):
            for line in settle_leftovers(folder, remove=True):
                warn(line)
            yield
    except LockedError as error:
        raise RunError(f"{folder}: {error}; wait for it, or choose another folder") from error
    finally:
        if new:
            with contextlib.suppress(OSError):
                folder.rmdir()


def content(folder: pathlib.Path) -> str:
    """What a new run would overwrite or mix with, in words; "" if there is nothing.

    Hidden files do not count; a run neither reads nor writes them.
    """
    names = [path.name for path in folder.iterdir() if path.name != LOCK]
    names = sorted(name for name in names if not name.startswith("."))
    if CHECKPOINT in names:
        return STOPPED
    if METRICS in names:
        with contextlib.suppress(RunError, OSError):
            _read_metrics(folder)
            return "a run"
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"files of something else: {', '.join(names[:3])}{more}" if names else ""


# --- Results --------------------------------------------------------------------------------------


def complete_metrics(folder: pathlib.Path) -> dict | None:
    """The metrics of the complete run in this folder; None if there is none.

    Raises
    ------
    RunError
        If its metrics.json is damaged, or of another version.
    """
    if (folder / CHECKPOINT).exists() or not (folder / METRICS).exists():
        return None
    try:
        metrics = _read_metrics(folder)
    except OSError as error:
        raise RunError(f"{folder / METRICS}: {error.strerror or error}") from error
    return None if metrics["interrupted"] else metrics


def _read_metrics(folder):
    """Read metrics.json; raises RunError unless it follows its rules."""
    path = folder / METRICS
    try:
        return check_metrics(from_json(path.read_bytes(), _metrics_rule))
    except NamesError as error:
        raise RunError(f"{path}: a run of another version of numba_stn: {error}") from error
    except ValueError as error:
        raise RunError(f"{path}: damaged: {error}") from error


def check_metrics(metrics: dict) -> dict:
    """Check the metrics of a run against the rules of metrics.json, and return them.

    Raises
    ------
    ValueError
        If a value is missing, unknown, of the wrong type or out of range, or if the metrics of a
        complete run lack an epoch or the test error.
    """
    metrics = _metrics_rule(metrics, "")
    history, epochs = metrics["history"], metrics["epochs"]
    stops_early = _kind(metrics) is ImageConfig
    least = 0 if metrics["interrupted"] else 1 if stops_early else epochs
    whole(least, epochs)(len(history), "length of history")
    for index, entry in enumerate(history):
        whole(index + 1, index + 1)(entry["epoch"], f"history[{index}].epoch")
    if not metrics["interrupted"]:
        number(0, 100)(metrics["test_error"], "test_error")
    return metrics


def stopped_config(folder: pathlib.Path, net: str | None = None) -> AnyConfig:
    """The configuration of the stopped run in this folder.

    ``net`` is FILE.py:FUNCTION of a network of one's own.

    Raises
    ------
    RunError
        If there is no run, or it is complete.
    CheckpointError
        If its checkpoint is damaged, or of something else.
    """
    path = folder / CHECKPOINT
    if path.exists():
        config = load_config(path, _kind(config_names(path)))
        try:
            _network(config, net)
        except NetworkError as error:
            raise RunError(f"{folder}: {error}") from error
        except ValueError as error:
            raise CheckpointError(f"{path}: damaged: {error}") from error
        return config
    if complete_metrics(folder):
        raise RunError(f"{folder}: this run is complete; there is nothing left to do")
    raise RunError(f"{folder}: expected the folder of a stopped run, found no {CHECKPOINT}")


def load_or_start(
    folder: pathlib.Path, setup: Setup | ImageSetup, force: bool = False
) -> TrainingState:
    """Load the training state from the folder's checkpoint, or write the first checkpoint.

    Parameters
    ----------
    folder : pathlib.Path
    setup : Setup
    force : bool
        Start anew, whatever the folder has. The files of its run are kept until the new ones are
        complete, except for its checkpoint; other files are left alone.

    Raises
    ------
    RunError
        If the folder has no checkpoint, but other files.
    CheckpointError
        If the checkpoint is damaged, of something else, or of another configuration.
    """
    path = folder / CHECKPOINT
    if path.exists() and not force:
        return _functions(setup).resumed_state(setup, path)
    if not force and (found := content(folder)):
        raise RunError(f"{folder}: has {found}; choose another folder")
    state = _functions(setup).initial_state(setup)
    with delay_interrupts():
        save_checkpoint(path, setup.config, state)
    return state


def run_in_folder(
    folder: pathlib.Path,
    setup: Setup | ImageSetup,
    state: TrainingState,
    on_step: Callable[[int, float, float], None] = experiment.ignore,
    warn: Callable[[str], None] = warnings.warn,
) -> tuple[list[str], dict]:
    """Run the rest of the experiment in this folder; returns the files' names and the metrics.

    The caller holds the folder's lock, see :func:`hold`. ``on_step`` and ``warn`` are
    those of :func:`numba_stn.training.experiment.run`.

    Raises
    ------
    DivergedError
        If a number of a training step is not finite. The checkpoint of the last epoch stays, as
        after any other error.
    """
    path = folder / CHECKPOINT

    def save(state):
        with delay_interrupts():
            save_checkpoint(path, setup.config, state)

    learner, metrics = _functions(setup).run(setup, state, on_step, save, warn)
    with delay_interrupts():
        written = save_results(folder, setup, learner, metrics)
        if metrics["interrupted"]:
            return [*written, CHECKPOINT], metrics
        path.unlink()
    return written, metrics


def input_shape(config: AnyConfig) -> Shape:
    """The shape (C, H, W) of the images that a run's network takes."""
    if isinstance(config, ImageConfig):
        return config.channels, config.height, config.width
    return experiment.network(config)[1]


def _network(config, net):
    """The network of a configuration, and the shape of its input images."""
    if isinstance(config, ImageConfig):
        return image_runs.network(config, net)
    if net is not None:
        raise NetworkError("--net: this run has no network of its own")
    return experiment.network(config)


def load_trained(
    folder: pathlib.Path, net: str | None = None
) -> tuple[AnyConfig, Layer, train.Learner]:
    """Load the configuration, network and weights of the run in this folder.

    Parameters
    ----------
    folder : pathlib.Path
    net : str, optional
        FILE.py:FUNCTION of the network of one's own, which then is run.

    Raises
    ------
    RunError
        If there is no run, or its files are damaged, of an earlier version, or do not fit together.
    """
    try:
        metrics = _read_metrics(folder)
    except OSError as error:
        raise RunError(f"{folder}: not a run: {METRICS}: {error.strerror or error}") from error
    kind = _kind(metrics)
    config = kind(**{name: metrics[name] for name in field_rules(kind)})
    try:
        layer, shape = _network(config, net)
    except NetworkError as error:
        raise RunError(f"{folder}: {error}") from error
    except ValueError as error:
        raise RunError(f"{folder / METRICS}: damaged: {error}") from error
    if not (folder / WEIGHTS).exists():
        raise RunError(f"{folder}: not a run: found no {WEIGHTS}")
    rng = np.random.default_rng(0)
    like = {"params": layer.init(rng, shape), "state": layer.init_state(shape)}
    try:
        tree = unpack(read_safetensors(folder / WEIGHTS)[0], like)
    except CheckpointError as error:
        raise RunError(str(error)) from error
    except ValueError as error:
        raise RunError(f"{folder / WEIGHTS}: does not match this run's network: {error}") from error
    return config, layer, train.Learner(tree["params"], tree["state"], None)


def save_results(
    folder: pathlib.Path, setup: Setup | ImageSetup, learner: train.Learner, metrics: dict
) -> list[str]:
    """Write weights, pictures and, last, ``metrics.json``; returns the files' names.

    Everything is computed before the first file is written, with NumPy arrays, so that the files do
    not depend on the device.
    """
    from . import pictures, report

    learner = train.to_numpy(learner)
    lines = json.dumps(check_metrics(metrics), indent=2) + "\n"
    files: dict[str, Any] = {
        WEIGHTS: pack({"params": learner.params, "state": learner.state}),
        **_functions(setup).files(setup, learner),
        METRICS: lines.encode(),
    }
    if metrics["history"]:
        files["curves.png"] = pictures.to_png(pictures.learning_curves(metrics["history"]))
    files[REPORT] = report.build(_functions(setup).subject(setup, learner), metrics, files)
    (folder / METRICS).unlink(missing_ok=True)  # it describes the files that are about to change
    names = (*FILES[:-1], *IMAGE_FILES, METRICS)  # metrics.json is the last
    for name in names:
        if name in files:
            write_atomically(folder / name, files[name])
        else:
            (folder / name).unlink(missing_ok=True)
    return [name for name in names if name in files]
