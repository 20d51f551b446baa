"""The command ``numba-stn``. What a subcommand needs is imported when it runs."""

import argparse
import contextlib
import os
import pathlib
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from . import __version__
from .progress import progress

EXAMPLES = """examples:
  numba-stn train                                       learn to read rotated digits, offline
  numba-stn train --model cnn                           the same without the transformer
  numba-stn train --dataset mnist --task RTS --epochs 5
  numba-stn train --device cuda                         on the GPU, with CuPy
  numba-stn bench warp_affine                           race the other libraries at this
  numba-stn warmup                                      compile now, not at the first calls
"""

# Spelled out here, so that --help need not import what they name.
DATASETS = ("digits", "mnist")
TASKS = ("none", "R", "RTS", "TC")
MODELS = ("fcn", "cnn", "st-fcn", "st-cnn")
TRANSFORMS = (
    "translation", "scale", "rotation", "shear", "rigid", "similarity", "attention",
    "restricted_affine", "affine", "projective", "tps",
)  # fmt: skip
DEVICES = ("cpu", "cuda")


class UsageError(Exception):
    """The user can mend this; the message says how."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code.

    0: done; 1: a comparison found results that differ; 2: the input was at fault, one line on
    stderr says how; 130: stopped by Ctrl-C.
    """
    args = parser().parse_args(argv)
    try:
        return args.run(args)
    except UsageError as error:
        print(f"numba-stn: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("numba-stn: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read our output has had enough, as head has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    top = argparse.ArgumentParser(
        "numba-stn",
        description="Spatial transformer networks without a framework.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"numba-stn {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_train(commands)
    _add_bench(commands)
    _add_warmup(commands)
    return top


def _add_train(commands) -> None:
    train = commands.add_parser(
        "train",
        help="train a network on distorted digits",
        description="Train a network on distorted digits. Writes metrics.json, the weights and "
        "pictures. With no argument: scikit-learn's digits, rotated; offline, under a minute.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = train.add_argument
    add("--dataset", choices=DATASETS, default="digits", help="default: digits")
    add("--task", choices=TASKS, default="R", help="distortion: rotated (R), rotated, translated "
        "and scaled (RTS), translated among clutter (TC); default: R")  # fmt: skip
    add("--model", choices=MODELS, default="st-cnn", help="default: st-cnn")
    add("--transform", choices=TRANSFORMS, help="what the transformer may do; default: affine")
    add("--epochs", type=_positive, metavar="N", help="default: 60 for digits, 10 for mnist")
    add("--seed", type=_seed, default=0, metavar="S", help="default: 0")
    add("--batch", type=_positive, metavar="N", help="default: 50 for digits, 128 for mnist")
    add("--rate", type=_rate, metavar="R", help="highest learning rate")
    add("--device", choices=DEVICES, default="cpu", help="cuda: the whole step on the GPU, which "
        "needs CuPy; default: cpu")  # fmt: skip
    add("--out", metavar="DIR", help="where to write; default: runs/<time>")
    add("--data-dir", metavar="DIR", help="folder that holds MNIST's four files under mnist/; "
        "default: the environment's NUMBA_STN_DATA, else they are downloaded once")  # fmt: skip
    train.set_defaults(run=run_train)


def _add_bench(commands) -> None:
    bench = commands.add_parser(
        "bench",
        help="race the other libraries installed here",
        description="Time this project and each installed peer at the same work, in turn, after a "
        "check that the results agree. A ratio is the peer's time by ours.",
    )
    add = bench.add_argument
    add("rows", nargs="*", metavar="ROW", help="rows whose name holds this; default: all")
    add("--rounds", type=_positive, default=9, metavar="N", help="default: 9")
    add("--json", metavar="FILE", help="write the figures to this file too")
    add("--list", action="store_true", help="show the rows' names")
    add("--sweep", action="store_true", help="instead of the rows, sweep angle, zoom, size and "
        "channels; takes some minutes")  # fmt: skip
    bench.set_defaults(run=run_bench)


def _add_warmup(commands) -> None:
    warmup = commands.add_parser(
        "warmup",
        help="compile the kernels now, not at the first calls",
        description="Compile the kernels for the usual calls and leave them in Numba's cache, "
        "where later processes find them.",
    )
    warmup.add_argument("calls", nargs="*", metavar="CALL", help="calls whose name holds this, as "
        "float32 or warp_affine; default: all")  # fmt: skip
    warmup.set_defaults(run=run_warmup)


# --- train ----------------------------------------------------------------------------------------


def run_train(args: argparse.Namespace) -> int:
    """``numba-stn train``."""
    started = time.strftime("%Y%m%d-%H%M%S")
    try:
        import safetensors.numpy  # noqa: F401
        import tqdm  # noqa: F401

        from . import data, experiment, pictures  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f'training needs more packages ({error}); pip install "numba-stn[train]"'
        ) from error
    config = _config(args)
    _require(config.device)
    with _folder(pathlib.Path(args.out or f"runs/{started}")) as folder:
        try:
            setup = experiment.prepare(config, args.data_dir)
            learner, metrics = _with_bar(experiment.run, setup)
        except (data.DataError, experiment.DivergedError, ValueError) as error:
            raise UsageError(str(error)) from error
        with _patiently():
            written = experiment.save(folder, setup, learner, metrics)
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
    print(f"stopped by Ctrl-C after {len(metrics['history'])} of {metrics['epochs']} epochs; "
          f"what was learned is kept", file=sys.stderr)  # fmt: skip
    return 130


def _config(args):
    """The experiment that the options describe; each data set has its own defaults."""
    from .experiment import Config

    if args.data_dir and args.dataset == "digits":
        raise UsageError("--data-dir: the digits come with scikit-learn; it is for --dataset mnist")
    if args.transform and not args.model.startswith("st-"):
        raise UsageError(f"--transform {args.transform}: the model {args.model} has no transformer")
    chosen: dict[str, Any] = {
        "epochs": args.epochs or {"digits": 60, "mnist": 10}[args.dataset],
        "batch": args.batch or {"digits": 50, "mnist": 128}[args.dataset],
        "transform": args.transform or "affine",
    }
    if args.rate:
        chosen["rate"] = args.rate
    named = ("dataset", "task", "model", "seed", "device")
    return Config(**{name: getattr(args, name) for name in named}, **chosen)


def _require(device):
    """Say what the device lacks, before there is a folder or a file."""
    from .namespace import library

    try:
        library(device)
    except RuntimeError as error:
        raise UsageError(f"--device {device}: {error}") from error


@contextlib.contextmanager
def _folder(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """The folder, writable before anything is computed in vain, and gone again if left empty."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe.{os.getpid()}"
        probe.touch()
        probe.unlink()
        yield folder
    except OSError as error:
        raise UsageError(f"cannot write to {folder}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            for path in new:
                path.rmdir()


@contextlib.contextmanager
def _patiently() -> Iterator[None]:
    """Ctrl-C waits until the files are written."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _with_bar(run, setup):
    """``run(setup, on_step)`` under a progress bar with loss, error and the time left."""
    from tqdm import tqdm

    epochs = setup.config.epochs
    total = epochs * setup.steps
    # A bar that nobody watches live is a line now and then, not thousands in a log.
    pace = 0.1 if sys.stderr.isatty() else 10
    with tqdm(total=total, unit="step", mininterval=pace, maxinterval=max(pace, 10)) as bar:

        def on_step(epoch, loss, error):
            bar.set_description(f"epoch {epoch + 1}/{epochs}", refresh=False)
            bar.set_postfix_str(f"loss {loss:.3f}, error {error:.2f} %", refresh=False)
            bar.update()

        return run(setup, on_step)


# --- bench ----------------------------------------------------------------------------------------


def run_bench(args: argparse.Namespace) -> int:
    """``numba-stn bench``; 1 if a peer's results differ from ours."""
    from .bench import report

    if args.sweep and args.rows:
        raise UsageError("--sweep: it measures instead of the rows; name none")
    try:
        names = report.choose(args.rows)
    except LookupError as error:
        raise UsageError(error.args[0]) from error
    if args.list:
        print("\n".join(names))
        return 0
    with _report_file(args) as write:
        found = _measured(args, names)
        write(found)
    return int(any(row["disagree"] for row in [*found.get("rows", []), *found.get("sweep", [])]))


def _measured(args, names):
    """The figures asked for, said as they come."""
    from .bench import report, sweep

    if not args.sweep:
        return report.comparison(names, args.rounds, lambda text: print(text, flush=True))
    found = sweep.table(progress(sweep.points(), sweep.name), args.rounds)
    for point in found:
        print(sweep.line(point))
    return {"sweep": found}


@contextlib.contextmanager
def _report_file(args):
    """A function that writes the figures to ``--json``, which is tried before there are any."""
    import json

    from .bench import report
    from .record import write_atomically

    if args.json is None:
        yield lambda found: None
        return
    path = pathlib.Path(args.json)

    def write(found):
        found = report.circumstances(["numba-stn", *sys.argv[1:]], args.rounds) | found
        write_atomically(path, (json.dumps(found, indent=1) + "\n").encode())

    with _folder(path.parent):
        yield write


# --- warmup ---------------------------------------------------------------------------------------


def run_warmup(args: argparse.Namespace) -> int:
    """``numba-stn warmup``."""
    from . import warmup

    began = time.perf_counter()
    folder = warmup.cache_folder()
    if folder is None:
        raise UsageError("Numba finds no folder for its cache; set NUMBA_CACHE_DIR to one")
    try:
        calls = warmup.choose(args.calls)
    except LookupError as error:
        raise UsageError(error.args[0]) from error
    for call in progress(calls, lambda call: call.name):
        call.run()
    print(f"warm after {time.perf_counter() - began:.0f} s; the cache is {folder}")
    return 0


# --- Option types ---------------------------------------------------------------------------------


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a positive whole number, got {text!r}")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 on, got {text!r}")
    return int(text)


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a positive number, got {text!r}")
    return rate
