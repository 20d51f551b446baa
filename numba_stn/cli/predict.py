"""The subcommand ``numba-stn predict``."""

import argparse
import json
import pathlib
import sys

from .options import FailedError, UsageError

EXAMPLES = """\
  numba-stn predict runs/digits seven.png               classify an image with a trained network
"""


def add(commands) -> None:
    """Add the subcommand."""
    predict = commands.add_parser(
        "predict",
        help="classify images with a trained network",
        description="Print the class that a run's network predicts for each image, and its "
        "probability. Images are converted to grey, and to the size that the network was trained "
        "on. The network was trained on bright digits on a dark background.",
        epilog="examples:\n" + EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    predict.add_argument("run_folder", metavar="RUN", help="folder of a run of train")
    predict.add_argument("images", nargs="+", metavar="IMAGE", help="images of one digit each")
    predict.add_argument("--invert", action="store_true", help="for dark digits on a bright "
                         "background")  # fmt: skip
    predict.add_argument("--json", action="store_true", help="print one JSON object per image, "
                         "with the probability of each class")  # fmt: skip
    predict.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Predict the class of each image; an error at the end if some cannot be classified."""
    try:
        from ..images import files
        from ..training import runs
        from ..training.prediction import network_input, probabilities
    except ImportError as error:
        raise UsageError(
            f'predict needs more packages ({error}); pip install "numba-stn[images,train]"'
        ) from error
    try:
        config, net, learner = runs.load_trained(pathlib.Path(args.run_folder))
    except runs.RunError as error:
        raise UsageError(str(error)) from error
    failed = 0
    for name in args.images:
        try:
            image = network_input(config, files.read_image(pathlib.Path(name)), args.invert)
            (found,) = probabilities(net, learner, image)
        except (files.FileError, ImportError, ValueError) as error:
            failed += 1
            prefix = "" if isinstance(error, files.FileError) else f"{name}: "
            print(f"numba-stn: {prefix}{error}", file=sys.stderr)
            continue
        best = int(found.argmax())
        if args.json:
            line = {"image": name, "label": best, "probabilities": [float(p) for p in found]}
            print(json.dumps(line), flush=True)
        else:
            print(f"{name}: {best} ({100 * found[best]:.1f} %)", flush=True)
    if failed:
        raise FailedError(f"{failed} of {len(args.images)} images could not be classified")
    return 0
