"""``numba-stn train``."""

import argparse
import contextlib
import pathlib
import sys
import time

from .options import (
    DATASETS,
    DEVICES,
    MODELS,
    TASKS,
    TRANSFORMS,
    UsageError,
    folder_of,
    positive,
    rate,
    seed,
    share,
)

EXAMPLES = """\
  numba-stn train                                       learn to read rotated digits, offline
  numba-stn train --model cnn                           the same without the transformer
  numba-stn train --dataset mnist --task RTS --epochs 5
  numba-stn train --device cuda                         on the GPU, with CuPy
  numba-stn train --resume runs/20260101-120000         go on where Ctrl-C, or a crash, stopped it
"""


def add(commands) -> None:
    """Its options."""
    train = commands.add_parser(
        "train",
        help="train a network on distorted digits",
        description="Train a network on distorted digits. Writes metrics.json, the weights and "
        "pictures. With no argument: scikit-learn's digits, rotated; offline, under a minute.",
        epilog="examples:\n" + EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = train.add_argument
    add("--dataset", choices=DATASETS, help="default: digits")
    add("--task", choices=TASKS, help="distortion: rotated (R), rotated, scaled and translated "
        "(RTS), projective (P), elastic (E), translated among clutter (TC), or two RTS digits to "
        "add; default: R")  # fmt: skip
    add("--model", choices=MODELS, help="default: st-cnn")
    add("--transform", choices=TRANSFORMS, help="what the transformer may do; default: affine")
    add("--transformers", type=positive, metavar="N", help="side by side; default: 1")
    add("--readings", type=positive, metavar="N", help="how often an image is read, turned by 0, "
        "-20, 20, -40 degrees and so on, for the mean of the logits; not by tps, nor with several "
        "--transformers; default: 1")  # fmt: skip
    add("--epochs", type=positive, metavar="N", help="default: 60 for digits, 10 for mnist")
    add("--seed", type=seed, metavar="S", help="default: 0")
    add("--batch", type=positive, metavar="N", help="default: 50 for digits, 128 for mnist")
    add("--rate", type=rate, metavar="R", help="highest learning rate")
    add("--localisation-rate", type=rate, metavar="F", help="factor of the rate for what finds "
        "the transform; default: 0.1")  # fmt: skip
    add("--weight-decay", type=rate, metavar="W", help="of every parameter, a step: this by the "
        "rate; default: none")  # fmt: skip
    add("--label-smoothing", type=share, metavar="S", help="share of the target that all classes "
        "have alike; default: none")  # fmt: skip
    add("--device", choices=DEVICES, help="cuda: the whole step on the GPU, which needs CuPy; "
        "default: cpu")  # fmt: skip
    add("--resume", metavar="DIR", help="go on with the run that was stopped in this folder, with "
        "its own options")  # fmt: skip
    add("--out", metavar="DIR", help="where to write; default: runs/<time>")
    add("--data-dir", metavar="DIR", help="folder that holds MNIST's four files under mnist/; "
        "default: the environment's NUMBA_STN_DATA, else they are downloaded once")  # fmt: skip
    train.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """``numba-stn train``."""
    started = time.strftime("%Y%m%d-%H%M%S")
    runs = trainer()
    config = _resumed(args) if args.resume else _config(args)
    _require(config.device)
    with folder_of(pathlib.Path(args.resume or args.out or f"runs/{started}")) as folder:
        if not args.resume and (folder / runs.CHECKPOINT).exists():
            raise UsageError(
                f"{folder}: holds a run that was stopped; numba-stn train --resume {folder} goes "
                f"on, another --out begins anew"
            )
        written, metrics = executed(folder, config, args.data_dir)
    return _report(folder, written, metrics)


def _report(folder, written, metrics):
    """Say what came out; the exit code."""
    error = metrics["test_error"]
    found = "not measured" if error is None else f"{error:.2f} % of {metrics['test_images']} images"
    print(
        f"test error {found}, after {metrics['seconds']:.0f} s; in {folder}: {', '.join(written)}"
    )
    if not metrics["interrupted"]:
        return 0
    print(f"stopped by Ctrl-C after {len(metrics['history'])} of {metrics['epochs']} epochs; what "
          f"was learned is kept, and numba-stn train --resume {folder} goes on",
          file=sys.stderr)  # fmt: skip
    return 130


# --- The configuration ----------------------------------------------------------------------------


# Options of ``train`` that are fields of the configuration.
CONFIGURED = ("dataset", "task", "model", "transform", "transformers", "readings", "epochs", "seed",
              "batch", "rate", "localisation_rate", "weight_decay", "label_smoothing",
              "device")  # fmt: skip


def _config(args):
    """The experiment that the options describe; each data set has its own defaults."""
    from ..training.experiment import Config

    given = {name: getattr(args, name) for name in CONFIGURED if getattr(args, name) is not None}
    dataset, model = given.get("dataset", "digits"), given.get("model", "st-cnn")
    if args.data_dir and dataset == "digits":
        raise UsageError("--data-dir: the digits come with scikit-learn; it is for --dataset mnist")
    for name in ("transform", "transformers", "readings", "localisation_rate"):
        if name in given and not model.startswith("st-"):
            option = name.replace("_", "-")
            raise UsageError(f"--{option} {given[name]}: the model {model} has no transformer")
    defaults = {"digits": {"epochs": 60, "batch": 50}, "mnist": {"epochs": 10, "batch": 128}}
    return Config(**defaults[dataset] | given)


def _resumed(args):
    """The configuration of the run that is to go on."""
    from ..training import runs
    from ..training.checkpoint import CheckpointError

    given = [name for name in (*CONFIGURED, "out") if getattr(args, name) is not None]
    if given:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise UsageError(f"--resume: the run goes on with its own options; drop {options}")
    try:
        return runs.config_of(pathlib.Path(args.resume))
    except (runs.RunError, CheckpointError) as error:
        raise UsageError(f"--resume: {error}") from error


def _require(device):
    """Say what the device lacks, before there is a folder or a file."""
    from ..utils.namespace import array_library

    try:
        array_library(device)
    except RuntimeError as error:
        raise UsageError(f"--device {device}: {error}") from error


# --- Training -------------------------------------------------------------------------------------


def trainer():
    """The module that runs experiments, if all that it needs is installed."""
    try:
        import safetensors.numpy  # noqa: F401
        import tqdm  # noqa: F401

        from ..training import pictures, runs  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f'training needs more packages ({error}); pip install "numba-stn[train]"'
        ) from error
    return runs


def executed(folder, config, data_dir):
    """The run, or what is left of it, under a progress bar: the files' names and the metrics."""
    from .. import data
    from ..training import experiment, runs
    from ..training.checkpoint import CheckpointError

    try:
        setup = experiment.prepare(config, data_dir)
        stand = runs.stand_in(folder, setup)
        with _bar(setup, stand) as (on_step, tell):
            return runs.execute(folder, setup, stand, on_step, tell)
    except (data.DataError, experiment.DivergedError, CheckpointError, ValueError) as error:
        raise UsageError(str(error)) from error


@contextlib.contextmanager
def _bar(setup, stand):
    """A progress bar with loss, error and the time left: ``on_step`` and ``tell`` for the run."""
    from tqdm import tqdm

    epochs, steps = setup.config.epochs, setup.steps
    # A bar that nobody watches live is a line now and then, not thousands in a log.
    pace = 0.1 if sys.stderr.isatty() else 10
    with tqdm(total=epochs * steps, initial=stand.epoch * steps + stand.step, unit="step",
              mininterval=pace, maxinterval=max(pace, 10)) as bar:  # fmt: skip

        def on_step(done, loss, error):
            bar.set_description(f"epoch {-(-done // steps)}/{epochs}", refresh=False)
            bar.set_postfix_str(f"loss {loss:.3f}, error {error:.2f} %", refresh=False)
            bar.update()

        yield on_step, lambda text: bar.write(f"numba-stn: {text}", file=sys.stderr)
