"""``numba-stn predict``."""

import argparse
import json
import pathlib
import sys

from .options import UsageError

EXAMPLES = """\
  numba-stn predict runs/digits seven.png               what a trained network reads in an image
"""


def add(commands) -> None:
    """Its options."""
    predict = commands.add_parser(
        "predict",
        help="read images with a trained network",
        description="Say what the network of a run reads in images, and how sure it is. Images "
        "are made grey and brought to the size that the network was trained on. It knows bright "
        "digits on a dark ground.",
        epilog="examples:\n" + EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    predict.add_argument("run_folder", metavar="RUN", help="the folder of a run of train")
    predict.add_argument("images", nargs="+", metavar="IMAGE", help="images of one digit each")
    predict.add_argument("--invert", action="store_true", help="for dark digits on a bright ground")
    predict.add_argument("--json", action="store_true", help="a JSON object a line, with the "
                         "probability of each class")  # fmt: skip
    predict.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """``numba-stn predict``; 2 if an image could not be read."""
    try:
        from ..images import files
        from ..training import runs
        from ..training.prediction import probabilities, seen_by
    except ImportError as error:
        raise UsageError(
            f'this needs more packages ({error}); pip install "numba-stn[images,train]"'
        ) from error
    try:
        config, net, learner = runs.trained(pathlib.Path(args.run_folder))
    except runs.RunError as error:
        raise UsageError(str(error)) from error
    failed = 0
    for name in args.images:
        try:
            image = seen_by(config, files.read_image(pathlib.Path(name)), args.invert)
            (chances,) = probabilities(net, learner, image)
        except (files.FileError, ImportError, ValueError) as error:
            failed += 1
            named = "" if isinstance(error, files.FileError) else f"{name}: "
            print(f"numba-stn: {named}{error}", file=sys.stderr)
            continue
        best = int(chances.argmax())
        if args.json:
            line = {"image": name, "label": best, "probabilities": [float(c) for c in chances]}
            print(json.dumps(line), flush=True)
        else:
            print(f"{name}: {best} ({100 * chances[best]:.1f} %)", flush=True)
    if failed:
        raise UsageError(f"{failed} of {len(args.images)} images could not be read")
    return 0
