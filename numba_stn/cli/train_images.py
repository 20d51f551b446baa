"""``numba-stn train DATA``: the options, and the training, of a network on one's own images."""

import argparse
import pathlib
import sys
from collections.abc import Callable
from typing import Any

from .options import UsageError, positive, share

FITS = ("stretch", "crop", "pad")
MODELS = ("st-cnn", "cnn")
AUGMENTATIONS = ("rotate", "scale", "translate", "shear", "flip", "light")

# Options that are only for the built-in data sets, and those that are only for one's own images.
BUILT_IN_ONLY = ("dataset", "task", "transformers", "views", "device", "data_dir")
IMAGES_ONLY = ("net", "size", "channels", "fit", "ground", "split", "group", "group_across",
               "skip_broken", "augment", "class_weight", "patience", "memory")  # fmt: skip

# Options of both that are fields of the recipe.
RECIPE_OPTIONS = ("model", "transform", "rounds", "epochs", "seed", "batch", "rate",
                  "localisation_rate", "weight_decay", "label_smoothing", "class_weight",
                  "patience")  # fmt: skip


def add_options(train: argparse.ArgumentParser) -> None:
    """Add the options that are only for one's own images."""
    add = train.add_argument_group("options for your own images, DATA").add_argument
    add("--net", metavar="FILE.py:FUNCTION", help="a network of your own: FUNCTION(shape, "
        "classes), with the shape (C, H, W) of an image, returns a layer; needed again to resume, "
        "predict and export")  # fmt: skip
    add("--size", type=sides, metavar="S", help="side of the images, or HxW; default: that of an "
        ".npz's images, or the median side of the files, rounded up to a multiple of 16, from 32 "
        "to 96")  # fmt: skip
    add("--channels", type=int, choices=(1, 3), help="1 for grey, 3 for colour; default: 3 if any "
        "image has colours")  # fmt: skip
    add("--fit", choices=FITS, help="images of another aspect ratio are stretched, cropped to "
        "their middle, or padded with their edge pixels; default: stretch")  # fmt: skip
    add("--ground", type=level, metavar="G", help="grey level under transparent pixels, from 0 to "
        "255; default: 255, white")  # fmt: skip
    add("--split", type=shares, metavar="A,B,C", help="shares of the training, validation and test "
        "images, in every class; default: 0.7,0.15,0.15")  # fmt: skip
    add("--group", metavar="REGEX", help="images of a class stay on one side of the split if the "
        "first pair of parentheses matches the same text in their file names; with a / in it, in "
        "their paths")  # fmt: skip
    add("--group-across", action="store_true", help="a group may have images of several classes, "
        "for instance the pages of a writer")  # fmt: skip
    add("--skip-broken", action="store_true", help="go on without files that cannot be read")
    add("--augment", type=augmentation, metavar="LIST", help="random distortions of the training "
        "images: the largest angle in degrees, change of scale, shift as a share of the side, "
        "shear in degrees, whether images are mirrored, shift of the corners (perspective) and of "
        "control points (elastic) as a share of the side, and the change of contrast and, in "
        "standard deviations, of brightness; or none; for example rotate=20,flip; default: "
        "rotate=15,scale=0.2,translate=0.1,shear=10,light=0.3")  # fmt: skip
    add("--class-weight", choices=("balanced", "none"), help="balanced: a class with few images "
        "counts as much as one with many; default: balanced if the largest class has more than 10 "
        "times the images of the smallest")  # fmt: skip
    add("--patience", type=positive, metavar="N", help="stop when no epoch of the last N was "
        "better than the best before; default: never")  # fmt: skip
    add("--memory", type=share, metavar="F", help="images that take more than this share of the "
        "memory are mapped from a file in the run's folder; default: 0.25")  # fmt: skip


def check(args: argparse.Namespace) -> None:
    """Raise if an option is given that is not for this kind of data."""
    names = IMAGES_ONLY if args.data is None else BUILT_IN_ONLY
    given = [name for name in names if getattr(args, name) not in (None, False)]
    if given and args.data is None:
        raise UsageError(f"{option(given[0])}: only for your own images; name their folder, CSV or "
                         f".npz file")  # fmt: skip
    if given:
        raise UsageError(f"{option(given[0])}: only for the built-in data sets, without DATA")
    if args.net is not None and (args.model, args.transform, args.rounds) != (None, None, None):
        raise UsageError("--net: not with --model, --transform or --rounds")
    if args.data is not None and args.model not in (None, *MODELS):
        raise UsageError(f"--model: expected one of {list(MODELS)} for your own images, got "
                         f"{args.model!r}")  # fmt: skip
    if args.data is not None and args.model == "cnn":
        for name in ("transform", "rounds", "localisation_rate"):
            if getattr(args, name) is not None:
                raise UsageError(f"{option(name)} {getattr(args, name)}: the model cnn has no "
                                 f"transformer")  # fmt: skip


def check_out(data: str | None, out: pathlib.Path) -> None:
    """Raise if the run's folder would be one of the classes."""
    if data is not None and pathlib.Path(data).resolve() in (out.resolve(), *out.resolve().parents):
        raise UsageError(f"{out}: lies in the folder of the images, {data}; choose another --out")


def option(name: str) -> str:
    """The option with this name in the namespace."""
    return f"--{name.replace('_', '-')}"


def recipe_of(args: argparse.Namespace) -> Any:
    """The recipe from the options."""
    from ..training.recipe import Recipe

    given = {name: getattr(args, name) for name in RECIPE_OPTIONS}
    given = {name: value for name, value in given.items() if value is not None}
    try:
        return Recipe(**given, **(args.augment or {}))
    except ValueError as error:
        raise UsageError(f"--{error}") from error


def prepare(args: argparse.Namespace, folder: pathlib.Path) -> Any:
    """Read the images and build the network; returns the setup."""
    from ..data.image_store import DEFAULTS, Options
    from ..training import image_runs

    recipe = recipe_of(args)
    options = Options(
        args.size, args.channels, args.fit or "stretch",
        255 if args.ground is None else args.ground, args.group, args.group_across,
        args.split or DEFAULTS.split, recipe.seed, args.skip_broken,
        DEFAULTS.memory if args.memory is None else args.memory, folder,
    )  # fmt: skip
    setup = image_runs.prepare(recipe, pathlib.Path(args.data), options, _progress(), args.net)
    describe(setup)
    return setup


def prepare_again(config: Any, folder: pathlib.Path) -> Any:
    """Read the images of a stopped run again; returns the setup."""
    from ..training import image_runs

    return image_runs.prepare_again(config, folder, _progress())


def _progress() -> Callable:
    from ..utils.progress import progress_bar

    return progress_bar


def describe(setup: Any) -> None:
    """Print what was read, and what was chosen."""
    config, images = setup.config, setup.images
    counts = [len(images.part(part)) for part in range(3)]
    for line in images.notes:
        print(f"numba-stn: {line}", file=sys.stderr)
    if images.broken:
        print(f"numba-stn: skipped images, which cannot be read, see metrics.json: "
              f"{len(images.broken)}", file=sys.stderr)  # fmt: skip
    if config.net is not None and (reason := _not_exportable(setup.net)):
        print(f"numba-stn: this network can be trained but not exported: {reason}",
              file=sys.stderr)  # fmt: skip
    shape = f"{config.height} x {config.width} x {config.channels}"
    print(f"{sum(counts)} images of {len(config.classes)} classes, {shape}; {counts[0]} to train, "
          f"{counts[1]} for validation, {counts[2]} to test; up to {config.epochs} epochs of "
          f"{setup.steps} steps of {config.batch} images", flush=True)  # fmt: skip


def _not_exportable(net):
    """Why a network of one's own cannot be exported, or ""; before a training, not after it."""
    from .. import export

    try:
        export.check_exportable(net)
    except export.ExportError as error:
        return str(error)
    return ""


# --- Option types ---------------------------------------------------------------------------------


def sides(value: str) -> tuple[int, int]:
    """Convert a side, or HxW."""
    parts = value.lower().split("x")
    parts = parts * 2 if len(parts) == 1 else parts
    if len(parts) != 2 or not all(part.isdecimal() and 1 <= int(part) <= 4096 for part in parts):
        raise argparse.ArgumentTypeError(
            f"expected a side from 1 to 4096 pixels, or height x width as in 48x64, got {value!r}"
        )
    return int(parts[0]), int(parts[1])


def level(value: str) -> int:
    """Convert a grey level."""
    if not value.isdecimal() or int(value) > 255:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to 255, got {value!r}")
    return int(value)


def shares(value: str) -> list[float]:
    """Convert the shares of training, validation and test images."""
    from ..data.splitting import three_shares

    try:
        return three_shares([float(part) for part in value.split(",")], "shares")
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected three numbers, of which the second may be 0, as in 0.7,0.15,0.15, got "
            f"{value!r}"
        ) from None


def augmentation(value: str) -> dict[str, Any]:
    """Convert a list of distortions; those that it does not name are off."""
    found: dict[str, Any] = dict.fromkeys(AUGMENTATIONS, 0.0) | {"flip": False}
    for part in value.split(",") if value != "none" else ():
        name, sign, amount = part.partition("=")
        if name not in AUGMENTATIONS or (name == "flip") == bool(sign):
            raise argparse.ArgumentTypeError(
                f"expected none, or some of rotate=R, scale=S, translate=T, shear=H, "
                f"perspective=P, elastic=E, light=L and flip, separated by commas, got {part!r}"
            )
        try:
            found[name] = True if name == "flip" else float(amount)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{name}: expected a number, got {amount!r}") from None
    return found
