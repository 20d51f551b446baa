"""``numba-stn warp``."""

import argparse
import contextlib
import functools
import glob
import math
import pathlib
import sys
import warnings

from ..utils.progress import counted, progress
from .options import UsageError, folder_of, require_pillow

EXAMPLES = """\
  numba-stn warp photo.jpg turned.png --rotate 30       turn it, counter-clockwise
  numba-stn warp photos/ small/ --scale 0.5 --expand    all images of a folder, at half size
  numba-stn warp 'scans/*.tif' flat/ --matrix m.txt     by a matrix of your own
  numba-stn warp stack.zarr half.zarr --scale 0.5 --expand
                                                        a stack larger than memory
  numba-stn warp stack.zarr out.zarr --rotate 2 --scheduler tcp://host:8786
                                                        the same on a Dask cluster
"""

MODES = ("bilinear", "nearest", "bicubic")
PADDINGS = ("zeros", "border", "reflection", "wrap", "fill")
AXES = ("NHW", "NHWC", "NCHW")
CONVENTIONS = ("output-to-input", "opencv", "skimage")


def add(commands) -> None:
    """Its options."""
    warp = commands.add_parser(
        "warp",
        help="turn, scale, shear, move or straighten images",
        description="Warp an image, or all images of a folder or of a pattern. They are scaled, "
        "sheared and turned about their middle, in this order, and then moved; or warped by a "
        "matrix, or so that their corners come where they are wanted. A stack of images, in .zarr "
        "or .npy, is warped a few at a time and need not fit into memory.",
        epilog="examples:\n" + EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    option = warp.add_argument
    option("input", metavar="IN", help="an image (.png, .jpg, .tif, ... or .npy), a folder of "
           "them, a pattern in quotes, or a stack of them (.zarr or .npy)")  # fmt: skip
    option("output", metavar="OUT", help="the image to write, in the format that its name says; "
           "for a folder or a pattern, a folder; for a stack .zarr or .npy")  # fmt: skip
    option("--rotate", type=_number, metavar="DEG", help="degrees, counter-clockwise")
    option("--scale", type=_scale, metavar="S[,SY]", help="how many times larger")
    option(
        "--shear", type=_number, nargs=2, metavar=("KX", "KY"), help="x moves by KX y, y by KY x"
    )
    option(
        "--translate",
        type=_number,
        nargs=2,
        metavar=("X", "Y"),
        help="pixels to the right and down",
    )
    option("--corners", type=_number, nargs=8, metavar=("X", "Y") * 4, help="where the outer "
           "corners of the image come to lie: upper left, upper right, lower right, lower "
           "left")  # fmt: skip
    option("--matrix", metavar="FILE", help="2 or 3 rows of 3 numbers, as text or .npy")
    option("--convention", choices=CONVENTIONS, help="what the matrix maps: output to input pixels "
           "(default), or as OpenCV's M or scikit-image's inverse_map")  # fmt: skip
    option("--size", type=_size, metavar="WxH", help="of the output; default: the input's own")
    option("--expand", action="store_true", help="an output that holds all of the image")
    option("--mode", choices=MODES, default="bilinear", help="default: bilinear")
    option("--padding", choices=PADDINGS, default="zeros", help="what lies outside; default: zeros")
    option("--fill", type=_fill, default=0, metavar="N[,N,N]", help="the value outside, for each "
           "channel; default: 0")  # fmt: skip
    option("--axes", choices=AXES, help="what the axes of an array are, which is then a stack; "
           "default: NHW for 3 of .zarr, NHWC for 4, and an image for 3 of .npy")  # fmt: skip
    option("--scheduler", metavar="ADDRESS", help="of a Dask cluster whose workers see the same "
           "files; its workers warp the stack")  # fmt: skip
    option("--force", action="store_true", help="overwrite what is there")
    warp.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """``numba-stn warp``; 2 if an image could not be warped."""
    _only_one_way(args)
    if _is_stack(args):
        return _warp_stack(args)
    require_pillow()
    pairs, folder = _pairs(args)
    with folder_of(folder):
        if len(pairs) == 1:
            _warp(args, *pairs[0])
            return 0
        failed = 0
        for source, target in progress(pairs, lambda pair: pair[0].name):
            try:
                _warp(args, source, target)
            except UsageError as error:
                failed += 1
                print(f"numba-stn: {error}", file=sys.stderr)
    if failed:
        raise UsageError(f"{failed} of {len(pairs)} images could not be warped; the others are in "
                         f"{folder}")  # fmt: skip
    return 0


def _warp(args, source, target):
    """One image."""
    from .. import warp_image
    from ..images import files

    try:
        image = files.read_image(source)
        matrix, shape = plan(args, image.shape[:2])
        warped = warp_image(image, matrix, shape, mode=args.mode, padding_mode=args.padding,
                            fill=args.fill)  # fmt: skip
        files.write_image(target, warped)
    except (files.FileError, ValueError, TypeError, MemoryError) as error:
        text = str(error)
        raise UsageError(text if text.startswith(str(source)) else f"{source}: {text}") from error


# --- Stacks ---------------------------------------------------------------------------------------


def _is_stack(args):
    from ..distributed import stacks

    if stacks.is_stack(pathlib.Path(args.input), args.axes):
        return True
    if args.scheduler:
        raise UsageError(f"--scheduler: is for stacks, .zarr or .npy, and {args.input} is none")
    return False


def _warp_stack(args):
    """Images of one array, on this process's threads or on a cluster's workers."""
    from ..distributed import cluster, stacks
    from ..images import files

    source, target = pathlib.Path(args.input), pathlib.Path(args.output)
    if target.is_dir() and not stacks.is_zarr(target):
        target = target / source.name
    _spare(target, args.force)
    try:
        stack = stacks.look(source, args.axes)
        matrix, sides = plan(args, stack.sides)
        options = {"mode": args.mode, "padding_mode": args.padding, "fill": args.fill}
        with folder_of(target.parent), _computing(args.scheduler) as compute:
            warped = stacks.warp(stack, target, matrix, sides, compute, **options)
            with contextlib.closing(warped), counted(stack.shape[0], "image") as advance:
                for done in warped:
                    advance(done)
    except ImportError as error:
        raise UsageError(f'this needs more packages ({error}); pip install "numba-stn[scale]", on '
                         f"every machine")  from error  # fmt: skip
    except cluster.ClusterError as error:
        raise UsageError(f"--scheduler {args.scheduler}: {error}") from error
    except files.FileError as error:
        raise UsageError(_line(error)) from error
    except (RuntimeError, ValueError, TypeError, MemoryError) as error:
        raise UsageError(f"{source}: {_line(error)}") from error
    return 0


def _line(error):
    """What an error says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__


@contextlib.contextmanager
def _computing(scheduler):
    """What calls a function many times: see :mod:`numba_stn.distributed.cluster`."""
    from ..distributed import cluster

    if not scheduler:
        yield cluster.in_threads
        return
    with cluster.connected(scheduler) as client:
        if not client.nthreads():
            print(f"{scheduler}: has no workers yet; waiting for them", file=sys.stderr)
        yield functools.partial(cluster.on_cluster, client)


# --- What to read and where to write --------------------------------------------------------------


def _pairs(args):
    """Each input with its output, and the folder to write to; nothing is overwritten unasked."""
    source, target = pathlib.Path(args.input), pathlib.Path(args.output)
    several = source.is_dir() or (any(sign in args.input for sign in "*?[") and not source.exists())
    if not several:
        if target.is_dir():
            target = target / source.name
        pairs = [(source, target)]
    else:
        pairs = [(path, target / path.name) for path in _inputs(source, args.input)]
    for _, written in pairs:
        _spare(written, args.force)
    return pairs, pairs[0][1].parent


def _spare(path, force):
    """Raise if something would be overwritten unasked."""
    if path.exists() and not force:
        raise UsageError(f"{path}: exists; --force overwrites it")


def _inputs(source, pattern):
    """The images of a folder, or those that a pattern matches."""
    from ..images.files import SUFFIXES

    paths = source.iterdir() if source.is_dir() else map(pathlib.Path, glob.glob(pattern))
    found = sorted(path for path in paths if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise UsageError(f"{pattern}: found no image; expected names that end in "
                         f"{', '.join(SUFFIXES)}")  # fmt: skip
    return found


# --- The matrix -----------------------------------------------------------------------------------

PARTS = ("rotate", "scale", "shear", "translate")


def _only_one_way(args):
    """Raise if the warp is told in two ways, or in none."""
    ways = [["matrix"], ["corners"], PARTS]
    given = [[name for name in way if getattr(args, name) is not None] for way in ways]
    told = [names for names in given if names]
    if len(told) > 1:
        first, second = (f"--{names[0]}" for names in told[:2])
        raise UsageError(f"{first} and {second}: give one or the other")
    if not told and not args.size:
        raise UsageError("expected what to do: --rotate, --scale, --shear, --translate, --corners, "
                         "--matrix or --size")  # fmt: skip
    if args.convention and not args.matrix:
        raise UsageError("--convention: says what --matrix FILE maps; there is none")
    if args.expand and args.size:
        raise UsageError("--expand and --size: give one or the other")


def plan(args: argparse.Namespace, sides: tuple[int, int]):
    """The matrix from output to input pixels, and the output's sides (H, W)."""
    from ..images import canvas
    from ..transforms.matrices import from_opencv

    size = args.size or sides
    parts = {name: getattr(args, name) for name in PARTS if getattr(args, name) is not None}
    if args.matrix:
        matrix = _of_file(args.matrix, args.convention)
    elif args.corners:
        matrix = canvas.of_corners(sides, _in_pairs(args.corners))
    elif parts:
        matrix = canvas.centred(canvas.of_parts(sides, **parts), sides, size)
    else:
        matrix = canvas.resized(sides, size)
    if args.expand:
        matrix, size = canvas.expanded(matrix, sides)
    return from_opencv(matrix), size


def _of_file(name, convention):
    """From input to output pixels, whatever the file's matrix maps."""
    import numpy as np

    from ..transforms.matrices import from_opencv, from_skimage, to_skimage

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # of a file without numbers
            found = np.load(name, allow_pickle=False) if name.endswith(".npy") else np.loadtxt(name)
    except OSError as error:
        raise UsageError(f"--matrix {name}: {error.strerror or error}") from error
    except (ValueError, EOFError, UserWarning) as error:
        raise UsageError(f"--matrix {name}: expected 2 or 3 rows of 3 numbers: {error}") from error
    try:
        inverse = to_skimage(from_opencv(from_skimage(found)))  # so that there is one
        return to_skimage(found) if convention == "opencv" else inverse
    except (ValueError, TypeError) as error:
        text = str(error).split(": ", 1)[-1]  # without the name of some argument
        raise UsageError(f"--matrix {name}: {text}") from error


def _in_pairs(numbers):
    return [numbers[k : k + 2] for k in range(0, len(numbers), 2)]


# --- Option types ---------------------------------------------------------------------------------


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"expected a number, got {text!r}")
    return number


def _scale(text: str) -> tuple[float, ...]:
    """A factor, or one for each axis."""
    numbers = tuple(_number(part) for part in text.split(","))
    if len(numbers) > 2 or not all(numbers):
        raise argparse.ArgumentTypeError(f"expected a number, or two, none of them 0, got {text!r}")
    return numbers * 2 if len(numbers) == 1 else numbers


def _fill(text: str) -> float | tuple[float, ...]:
    numbers = tuple(_number(part) for part in text.split(","))
    return numbers[0] if len(numbers) == 1 else numbers


def _size(text: str) -> tuple[int, int]:
    """(H, W) from WxH."""
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT in pixels, got {text!r}")
    return int(height), int(width)
