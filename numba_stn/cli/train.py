"""The subcommand ``numba-stn train``."""

import argparse
import contextlib
import itertools
import pathlib
import sys
import time

from . import train_images
from .options import (
    DATASETS,
    DEVICES,
    MODELS,
    TASKS,
    TRANSFORMS,
    FailedError,
    UsageError,
    output_folder,
    positive,
    rate,
    seed,
    share,
)

EXAMPLES = """\
  numba-stn train                                       learn to classify rotated digits, offline
  numba-stn train --model cnn                           the same without the transformer
  numba-stn train --dataset mnist --task RTS --epochs 5
  numba-stn train --device cuda                         on the GPU, with CuPy
  numba-stn train photographs                           your own images: a subfolder for each class
  numba-stn train --resume runs/20260101-120000         resume after Ctrl-C or a crash
"""


def add(commands) -> None:
    """Add the subcommand."""
    train = commands.add_parser(
        "train",
        help="train a network on your own images, or on distorted digits",
        description="Train a network on your own images, or on distorted digits. Writes "
        "metrics.json, the weights and pictures. Without options: scikit-learn's digits, rotated; "
        "offline, in under a minute.",
        epilog="examples:\n" + EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = train.add_argument
    add("data", nargs="?", metavar="DATA", help="your own images: a folder with one subfolder for "
        "each class; a folder with train/, test/ and perhaps val/ of such; a .csv with the columns "
        "path, label and perhaps split and group; or an .npz with the arrays images, labels and "
        "perhaps split and groups")  # fmt: skip
    add("--dataset", choices=DATASETS, help="built-in data set; default: digits")
    add("--task", choices=TASKS, help="distortion: rotated (R), rotated, scaled and translated "
        "(RTS), projective (P), elastic (E), translated among clutter (TC), or the sum of two RTS "
        "digits (addition); default: R")  # fmt: skip
    add("--model", choices=MODELS, help="default: st-cnn")
    add("--transform", choices=TRANSFORMS, help="the transformer's transform; default: affine")
    add("--transformers", type=positive, metavar="N", help="number of transformers in parallel; "
        "default: 1")  # fmt: skip
    add("--views", type=positive, metavar="N", help="number of views of each image, rotated by 0, "
        "-20, 20, -40 degrees and so on, whose logits are averaged; not for tps or several "
        "--transformers; default: 1")  # fmt: skip
    add("--rounds", type=positive, metavar="K", help="number of rounds in which each transformer "
        "predicts its map; the maps are composed; not for tps; default: 1")  # fmt: skip
    add("--epochs", type=positive, metavar="N", help="default: 60 for digits, 10 for mnist; "
        "for your own images by their number")  # fmt: skip
    add("--seed", type=seed, metavar="S", help="default: 0")
    add("--batch", type=positive, metavar="N", help="batch size; default: 50 for digits, 128 for "
        "mnist, for your own images by their number")  # fmt: skip
    add("--rate", type=rate, metavar="R", help="highest learning rate; default: 0.01")
    add("--localisation-rate", type=rate, metavar="F", help="learning-rate factor for the "
        "localisation network; default: 0.1")  # fmt: skip
    add("--weight-decay", type=rate, metavar="W", help="decoupled weight decay (AdamW); each step "
        "subtracts this times the learning rate times the parameter; default: none; for your own "
        "images 0.02")  # fmt: skip
    add("--label-smoothing", type=share, metavar="S", help="label smoothing: the share of the "
        "target probability spread evenly over all classes; default: none; for your own images "
        "0.1")  # fmt: skip
    add("--device", choices=DEVICES, help="cuda: all of a step on the GPU, with CuPy; default: cpu")
    add("--resume", metavar="DIR", help="resume the stopped run in this folder, with its own "
        "options")  # fmt: skip
    add("--out", metavar="DIR", help="output folder, which must be new or empty; default: "
        "runs/<time>")  # fmt: skip
    add("--force", action="store_true", help="train in --out although it has a run, which is "
        "replaced, or other files, which are left alone")  # fmt: skip
    add("--data-dir", metavar="DIR", help="folder that has MNIST's four files under mnist/; "
        "default: the environment variable NUMBA_STN_DATA; without it they are downloaded "
        "once")  # fmt: skip
    train_images.add_options(train)
    train.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Train a network, and print the test error."""
    require_training()
    if args.resume is not None:
        _check_resume_options(args)
        with run_folder(pathlib.Path(args.resume)) as folder:
            config = _resumed_config(folder, args.net)
            written, metrics = _train(folder, lambda: _prepare_again(config, folder, args))
        return _report(folder, written, metrics)
    train_images.check(args)
    config = _config(args) if args.data is None else train_images.recipe_of(args)
    if args.data is None:
        _require_device(config.device)
    out = _new_folder() if args.out is None else pathlib.Path(args.out)
    train_images.check_out(args.data, out)
    with run_folder(out) as folder:
        if not args.force:
            _require_vacant(folder)
        if args.data is None:
            written, metrics = train_in_folder(folder, config, args.data_dir, args.force)
        else:
            written, metrics = _train(
                folder, lambda: train_images.prepare(args, folder), args.force
            )
    return _report(folder, written, metrics)


def _prepare_again(config, folder, args):
    """The setup of a run that is resumed."""
    from ..training import experiment

    if isinstance(config, experiment.Config):
        return experiment.prepare(config, args.data_dir)
    return train_images.prepare_again(config, folder)


def _new_folder():
    """A name for the run's folder: the time, and a number if there is such a folder."""
    name = f"runs/{time.strftime('%Y%m%d-%H%M%S')}"
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(path for path in map(pathlib.Path, names) if not path.exists())


def _require_vacant(folder):
    """Raise if the folder has a run, or other files."""
    from ..training import runs

    found = runs.content(folder)
    resume = f"resume it with numba-stn train --resume {folder}, " * (found == runs.STOPPED)
    if found:
        raise UsageError(
            f"{folder}: has {found}; {resume}choose another --out, or train there with --force"
        )


def _report(folder, written, metrics):
    """Print the results; returns the exit code."""
    error = metrics["test_error"]
    found = "not measured" if error is None else f"{error:.2f} % of {metrics['test_images']} images"
    print(
        f"test error {found}, after {metrics['seconds']:.0f} s; in {folder}: {', '.join(written)}"
    )
    if not metrics["interrupted"]:
        return 0
    print(f"stopped after {len(metrics['history'])} of {metrics['epochs']} epochs; the "
          f"training state is saved, and numba-stn train --resume {folder} resumes the run",
          file=sys.stderr)  # fmt: skip
    return 130


# --- The configuration ----------------------------------------------------------------------------


# Options of ``train`` that are fields of the configuration.
CONFIG_OPTIONS = ("dataset", "task", "model", "transform", "transformers", "views", "rounds",
                  "epochs", "seed", "batch", "rate", "localisation_rate", "weight_decay",
                  "label_smoothing", "device")  # fmt: skip


def _config(args):
    """The configuration from the options; each data set has its own defaults."""
    from ..training.experiment import Config

    given = {name: value for name in CONFIG_OPTIONS if (value := getattr(args, name)) is not None}
    dataset, model = given.get("dataset", "digits"), given.get("model", "st-cnn")
    if args.data_dir and dataset == "digits":
        raise UsageError("--data-dir: only for --dataset mnist; the digits come with scikit-learn")
    for name in ("transform", "transformers", "views", "rounds", "localisation_rate"):
        if name in given and not model.startswith("st-"):
            raise UsageError(
                f"{train_images.option(name)} {given[name]}: the model {model} has no transformer"
            )
    defaults = {"digits": {"epochs": 60, "batch": 50}, "mnist": {"epochs": 10, "batch": 128}}
    try:
        return Config(**defaults[dataset] | given)
    except ValueError as error:
        raise UsageError(f"--{error}") from error


def _check_resume_options(args):
    """Raise if --resume is given with an option that the run has itself."""
    names = [name for name in (*CONFIG_OPTIONS, *train_images.IMAGES_ONLY, "out", "force")
             if name != "net"]  # fmt: skip
    given = [
        train_images.option(name) for name in names if getattr(args, name) not in (None, False)
    ]
    if given := ["DATA"] * (args.data is not None) + given:
        options = ", ".join(given)
        raise UsageError(f"--resume: a run is resumed with its own options; remove {options}")


def _resumed_config(folder, net):
    """The configuration of the run that is resumed."""
    from ..training import runs

    try:
        config = runs.stopped_config(folder, net)
    except ValueError as error:
        raise UsageError(f"--resume: {error}") from error
    _require_device(config.device)
    return config


def _require_device(device):
    """Raise if something that the device needs is missing, before a folder or file is written."""
    from ..utils.namespace import array_library

    try:
        array_library(device)
    except RuntimeError as error:
        raise UsageError(f"--device {device}: {error}") from error


# --- Training -------------------------------------------------------------------------------------


def require_training():
    """The module :mod:`numba_stn.training.runs`; raise if a package that it needs is missing."""
    try:
        import safetensors.numpy  # noqa: F401
        import tqdm  # noqa: F401

        from ..training import pictures, runs  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f'training needs more packages ({error}); pip install "numba-stn[train]"'
        ) from error
    return runs


@contextlib.contextmanager
def run_folder(path):
    """Make a folder and hold its lock; it is removed again if it is empty at the end."""
    from ..training import checkpoint, runs

    def warn(message):
        print(f"numba-stn: {message}", file=sys.stderr)

    with output_folder(path, force=True) as folder:
        try:
            with runs.hold(folder, warn):
                yield folder
        except (runs.RunError, checkpoint.CheckpointError) as error:
            raise UsageError(str(error)) from error


def train_in_folder(folder, config, data_dir, force=False):
    """Run, or resume, the run in this folder with a progress bar; returns files and metrics."""
    from ..training import experiment

    return _train(folder, lambda: experiment.prepare(config, data_dir), force)


def _train(folder, prepare, force=False):
    """Run, or resume, the run with this setup; returns files and metrics."""
    from .. import data
    from ..training import experiment, runs

    try:
        setup = prepare()
        state = runs.load_or_start(folder, setup, force)
        with _progress_bar(setup, state) as (on_step, warn):
            return runs.run_in_folder(folder, setup, state, on_step, warn)
    except experiment.DivergedError as error:
        raise FailedError(
            f"{error}; the checkpoint {folder / runs.CHECKPOINT} is from before this"
        ) from error
    except (data.DataError, ValueError, FloatingPointError) as error:
        raise UsageError(str(error)) from error


@contextlib.contextmanager
def _progress_bar(setup, state):
    """A progress bar with loss, error and remaining time; yields ``on_step`` and ``warn``."""
    from tqdm import tqdm

    epochs, steps = setup.config.epochs, setup.steps
    # Without a terminal, for instance in a log, the bar prints a line now and then only.
    interval = 0.1 if sys.stderr.isatty() else 10
    with tqdm(total=epochs * steps, initial=state.epoch * steps + state.step, unit="step",
              mininterval=interval, maxinterval=max(interval, 10)) as bar:  # fmt: skip

        def on_step(done, loss, error):
            bar.set_description(f"epoch {-(-done // steps)}/{epochs}", refresh=False)
            bar.set_postfix_str(f"loss {loss:.3f}, error {error:.2f} %", refresh=False)
            bar.update()

        yield on_step, lambda text: bar.write(f"numba-stn: {text}", file=sys.stderr)
