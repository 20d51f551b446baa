"""The subcommand ``numba-stn predict``."""

import argparse
import contextlib
import csv
import itertools
import json
import pathlib
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from .options import (
    FailedError,
    UsageError,
    check_absent,
    check_different,
    output_files,
    output_folder,
    positive,
)

EXAMPLES = """\
  numba-stn predict runs/digits seven.png               classify an image with a trained network
  numba-stn predict runs/signs photographs --top 3      a folder; the three most likely classes
  numba-stn predict runs/signs a.jpg --overlay seen     draw where the transformer looks
"""

# Images that are read and classified together, and the number from which there is a progress bar.
BATCH, MANY = 64, 32


def add(commands) -> None:
    """Add the subcommand."""
    predict = commands.add_parser(
        "predict",
        help="classify images with a trained network",
        description="Print the class that a run's network predicts for each image, and its "
        "probability. Images are prepared exactly as training did. A network of digits was trained "
        "on bright digits on a dark ground: a transparent ground is filled, dark digits on a "
        "bright ground are inverted, and digits with a wide margin are enlarged; a line on stderr "
        "says so.",
        epilog="examples:\n" + EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = predict.add_argument
    add("run_folder", metavar="RUN", help="folder of a run of train")
    add("images", nargs="+", metavar="IMAGE", help="images, or folders of images")
    add("--top", type=positive, metavar="K", help="the K most likely classes; default: 1, and all "
        "with --json")  # fmt: skip
    add("--json", action="store_true", help="print one JSON object per image, with the probability "
        "of each class")  # fmt: skip
    add("--csv", action="store_true", help="print CSV with the columns image, label and "
        "probability, and with --top label_2, probability_2 and so on")  # fmt: skip
    add("--overlay", metavar="DIR", help="write each image there as PNG, with the frame drawn in "
        "which the transformer looks")  # fmt: skip
    add("--force", action="store_true", help="overwrite files in the folder of --overlay")
    add("--net", metavar="FILE.py:FUNCTION", help="of a run with a network of its own: that file, "
        "which is run")  # fmt: skip
    add("--invert", action="store_true", help="for networks of digits: the digits are dark on a "
        "bright ground")  # fmt: skip
    predict.set_defaults(run=run)


class Source(NamedTuple):
    """An image to classify: its path, its name in the output, and where its overlay is written."""

    path: pathlib.Path
    name: str
    overlay: pathlib.Path | None


def run(args: argparse.Namespace) -> int:
    """Predict the class of each image; an error at the end if some cannot be classified."""
    if args.json and args.csv:
        raise UsageError("--json and --csv: expected one of them")
    try:
        from ..training import runs
        from ..utils.progress import progress_bar
    except ImportError as error:
        raise UsageError(
            f'predict needs more packages ({error}); pip install "numba-stn[images,train]"'
        ) from error
    try:
        config, net, learner = runs.load_trained(pathlib.Path(args.run_folder), args.net)
    except runs.RunError as error:
        raise UsageError(str(error)) from error
    sources = list(find_images(args.images, args.overlay))
    printer = Printer(config, args)
    failed = 0
    with contextlib.ExitStack() as stack:
        if args.overlay is not None:
            _prepare_overlays(stack, sources, args, net, learner, config)
        shown = len(sources) > MANY and not sys.stdout.isatty()
        done = stack.enter_context(progress_bar(len(sources), "image")) if shown else _nothing
        pool = stack.enter_context(ThreadPoolExecutor())
        printer.begin()
        for first in range(0, len(sources), BATCH):
            batch = sources[first : first + BATCH]
            prepared = list(pool.map(lambda source: _read(config, source, args.invert), batch))
            for source, image, found in _answers(net, learner, batch, prepared):
                done(1)
                if isinstance(found, Exception):
                    failed += 1
                    _complain(source, found)
                    continue
                for note in image.prepared.notes:
                    print(f"numba-stn: {source.name}: {note}", file=sys.stderr)
                printer.print(source.name, found)
                if source.overlay is not None:
                    _write_overlay(source.overlay, image, net, learner)
    if failed:
        raise FailedError(f"{failed} of {len(sources)} images could not be classified")
    return 0


def _nothing(more):
    """Show no progress."""


def _complain(source, error):
    from ..images.files import FileError

    prefix = "" if isinstance(error, FileError) else f"{source.name}: "
    print(f"numba-stn: {prefix}{error}", file=sys.stderr)


# --- The images -----------------------------------------------------------------------------------


def find_images(names: Iterable[str], overlay: str | None) -> Iterator[Source]:
    """The images of the command line, and those in its folders."""
    from ..data import DataError
    from ..data.listing import images_below

    for name in names:
        path = pathlib.Path(name)
        if not path.is_dir():
            yield _source(path, name, path.name, overlay)
            continue
        try:
            found, _ = images_below(path, "")
        except (DataError, ImportError) as error:
            raise UsageError(str(error)) from error
        if not found:
            raise UsageError(f"{name}: found no images")
        for each in found:
            yield _source(path / each, str(path / each), each, overlay)


def _source(path, name, relative, overlay):
    target = None
    if overlay is not None:
        target = pathlib.Path(overlay, relative)
        target = target.with_name(f"{target.stem}.png")
    return Source(path, name, target)


class Image(NamedTuple):
    """An image as it was read, and as the network takes it."""

    pixels: Any
    prepared: Any


def _read(config, source, invert):
    """Read an image and prepare it; returns the error if that fails."""
    from ..images.files import FileError, read_image
    from ..kernels.cpu_launch import one_thread
    from ..training.prediction import prepare_image

    try:
        with one_thread():
            pixels = read_image(source.path)
            return Image(pixels, prepare_image(config, pixels, invert))
    except (FileError, ImportError, ValueError, TypeError) as error:
        return error


def _answers(net, learner, sources, images):
    """Yield each source, its image, and its probabilities, or an error instead of these."""
    import numpy as np

    from ..training.prediction import probabilities

    good = [image.prepared.planes for image in images if not isinstance(image, Exception)]
    try:
        rows = iter(probabilities(net, learner, np.concatenate(good)) if good else ())
    except ValueError:  # of one of them
        rows = itertools.chain.from_iterable(_single(net, learner, planes) for planes in good)
    for source, image in zip(sources, images, strict=True):
        yield source, image, image if isinstance(image, Exception) else next(rows)


def _single(net, learner, planes):
    """The probabilities of one image, or the error, in a list."""
    from ..training.prediction import probabilities

    try:
        return list(probabilities(net, learner, planes))
    except ValueError as error:
        return [error]


# --- What is printed ------------------------------------------------------------------------------


class Printer:
    """Prints one line for each image."""

    def __init__(self, config, args):
        from ..training.image_runs import ImageConfig
        from ..training.prediction import class_names

        self.names = class_names(config)
        self.own = isinstance(config, ImageConfig)
        self.top = min(args.top or 1, len(self.names))
        self.all = args.top is None
        self.json, self.csv = args.json, args.csv
        self.writer = csv.writer(sys.stdout, lineterminator="\n")

    def begin(self) -> None:
        """Print the first line of CSV."""
        if self.csv:
            further = [f"{name}_{n}" for n in range(2, self.top + 1)
                       for name in ("label", "probability")]  # fmt: skip
            self.writer.writerow(["image", "label", "probability", *further])

    def print(self, name: str, found: Any) -> None:
        """Print the classes of an image by their probabilities."""
        best = [int(label) for label in (-found).argsort(kind="stable")[: self.top]]
        if self.json:
            print(json.dumps(self._json(name, found, best)), flush=True)
        elif self.csv:
            cells = itertools.chain.from_iterable((self.names[k], float(found[k])) for k in best)
            self.writer.writerow([name, *cells])
            sys.stdout.flush()
        else:
            text = ", ".join(f"{self.names[k]} ({100 * found[k]:.1f} %)" for k in best)
            print(f"{name}: {text}", flush=True)

    def _json(self, name, found, best):
        """The object of an image; the classes of one's own images have names, digits numbers."""
        if not self.own:
            values: Any = [float(p) for p in found]
            return {"image": name, "label": best[0], "probabilities": values}
        kept = range(len(self.names)) if self.all else best
        values = {self.names[k]: float(found[k]) for k in kept}
        return {"image": name, "label": self.names[best[0]], "probabilities": values}


# --- Overlays -------------------------------------------------------------------------------------


def _prepare_overlays(stack, sources, args, net, learner, config):
    """Check that the overlays can be written, before anything is classified."""
    import numpy as np

    from ..training import runs
    from ..training.frames import frames

    shape = runs.input_shape(config)
    if not frames(net, learner, np.zeros((1, *shape), np.float32)):
        raise UsageError("--overlay: this run's network has no transformer at its start")
    paths = [source.overlay for source in sources]
    stack.enter_context(output_folder(pathlib.Path(args.overlay)))
    stack.enter_context(output_files(paths, args.force))
    check_different([(source.name, source.overlay) for source in sources])
    check_absent(paths, args.force)


def _write_overlay(path, image, net, learner):
    """Write an image with the frames of the network's transformers."""
    from ..images.files import write_image
    from ..training.frames import frames
    from ..training.pictures import draw_frames

    polygons = [image.prepared.locate(frame[0]) for frame in
                frames(net, learner, image.prepared.planes)]  # fmt: skip
    write_image(path, draw_frames(image.pixels, polygons))
