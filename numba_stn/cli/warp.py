"""``numba-stn warp``."""

import argparse
import contextlib
import functools
import math
import pathlib
import sys

from ..utils.atomic_write import delay_interrupts, is_stream
from ..utils.progress import progress, progress_bar
from . import warp_files
from .options import (
    FailedError,
    UsageError,
    check_absent,
    check_different,
    output_files,
    report_leftovers,
    require_pillow,
)
from .surroundings import one_line

EXAMPLES = """\
  numba-stn warp photo.jpg rotated.png --rotate 30      rotate counter-clockwise
  numba-stn warp photos/ small/ --scale 0.5 --expand    all images of a folder, at half size
  numba-stn warp 'scans/*.tif' flat/ --matrix m.txt     warp by a matrix from a file
  numba-stn warp stack.zarr half.zarr --scale 0.5 --expand
                                                        a stack larger than memory
  numba-stn warp stack.zarr out.zarr --rotate 2 --scheduler tcp://host:8786
                                                        the same on a Dask cluster
"""

DESCRIPTION = """\
Warp one image, all images of a folder, or all that match a pattern. An image
is scaled, sheared and rotated about its centre, in this order, and then
translated; or it is warped by a matrix; or its corners are moved to given
positions. A stack of images (.zarr or .npy) is warped a few images at a time,
so it may be larger than memory."""

MODES = ("bilinear", "nearest", "bicubic")
PADDINGS = ("zeros", "border", "reflection", "wrap", "fill")
AXES = ("NHW", "NHWC", "NCHW")
CONVENTIONS = ("output-to-input", "opencv", "skimage")


def add(commands) -> None:
    """Add the subcommand and its options to the parser."""
    warp = commands.add_parser(
        "warp",
        help="rotate, scale, shear, translate or straighten images",
        description=DESCRIPTION,
        epilog="examples:\n" + EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    option = warp.add_argument
    option("input", metavar="IN", help="an image (.png, .jpg, .tif, ... or .npy), a folder of "
           "images, a pattern in quotes, or a stack of images (.zarr or .npy)")  # fmt: skip
    option("output", metavar="OUT", help="the file to write, whose suffix chooses the format; a "
           "folder if IN is a folder or a pattern; .zarr or .npy if IN is a stack")  # fmt: skip
    _add_maps(option)
    option("--size", type=_size, metavar="WxH", help="size of the output; default: the input's")
    option("--expand", action="store_true", help="make the output as large as the warped image")
    option("--mode", choices=MODES, default="bilinear", help="interpolation; default: bilinear")
    option("--padding", choices=PADDINGS, default="zeros", help="values outside the image; "
           "default: zeros")  # fmt: skip
    option("--fill", type=_fill, default=0, metavar="N[,N,N]", help="value of pixels outside the "
           "image, one number or one for each channel; default: 0")  # fmt: skip
    option("--axes", choices=AXES, help="read IN as a stack with these axes; by default .zarr and "
           ".npy with 4 axes are NHWC, .zarr with 3 is NHW, and .npy with 3 is one "
           "image")  # fmt: skip
    option("--scheduler", metavar="ADDRESS", help="warp the stack on the workers of this Dask "
           "cluster, which must see the same files")  # fmt: skip
    option("--force", action="store_true", help="overwrite existing files")
    warp.set_defaults(run=run)


def _add_maps(option):
    """Add the options that define the map."""
    option("--rotate", type=_number, metavar="DEG", help="angle in degrees, counter-clockwise")
    option("--scale", type=_scale, metavar="S[,SY]", help="factor, or one for x and one for y; 2 "
           "doubles the size")  # fmt: skip
    option("--shear", type=_number, nargs=2, metavar=("KX", "KY"), help="add KX y to x, and KY x "
           "to y")  # fmt: skip
    option("--translate", type=_number, nargs=2, metavar=("X", "Y"), help="move by X pixels to the "
           "right and Y down")  # fmt: skip
    option("--corners", type=_number, nargs=8, metavar=("X", "Y") * 4, help="output positions of "
           "the image's outer corners: upper left, upper right, lower right, lower "
           "left")  # fmt: skip
    option("--matrix", metavar="FILE", help="text or .npy file with 2 or 3 rows of 3 numbers")
    option("--convention", choices=CONVENTIONS, help="the matrix maps output to input pixels "
           "(default), or is OpenCV's M, or scikit-image's inverse_map")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Run ``numba-stn warp``; the exit code is 0."""
    _check_options(args)
    if "" in (args.input, args.output):  # from an unset variable of a shell; not the working folder
        raise UsageError("IN and OUT: expected names, got an empty one")
    named = args.matrix is not None
    matrix = warp_files.read_matrix(args.matrix, args.convention) if named else None
    if _is_stack(args):
        return _warp_stack(args, matrix)
    require_pillow()
    source, target = pathlib.Path(args.input), pathlib.Path(args.output)
    if source.is_dir() or (any(sign in args.input for sign in "*?[") and not source.exists()):
        _warp_folder(args, matrix, warp_files.image_files(source, args.input), target)
        return 0
    if target.is_dir():
        target = target / source.name
    with output_files([target], args.force):
        check_absent([target], args.force)
        _write(target, _warped(args, matrix, source))
    return 0


def _warp_folder(args, matrix, sources, folder):
    """Warp image files into a folder; an error at the end names those that cannot be warped."""
    pairs = [(source, folder / source.name) for source in sources]
    targets = [target for _, target in pairs]
    errors: list[UsageError] = []
    with output_files(targets, args.force):
        check_different(pairs)
        warp_files.check_inputs_remain(pairs, args.matrix)
        check_absent(targets, args.force)
        try:
            _warp_pairs(args, matrix, pairs, errors)
        finally:
            for error in errors:
                print(f"numba-stn: {one_line(error)}", file=sys.stderr)
    if errors:
        others = f"; the others are in {folder}" if len(errors) < len(pairs) else ""
        raise FailedError(f"{len(errors)} of {len(pairs)} images could not be warped{others}")


def _warp_pairs(args, matrix, pairs, errors):
    """Warp each source to its target, and append the errors to a list."""
    done = 0
    try:
        with contextlib.closing(progress(pairs, lambda pair: one_line(pair[0].name))) as each:
            for source, target in each:
                try:
                    for path in (source, target):
                        if is_stream(path):  # which might never end
                            raise UsageError(f"{path}: expected a file, got a FIFO or a device")
                    warped = _warped(args, matrix, source)
                    with delay_interrupts():  # until the image is counted
                        _write(target, warped)
                        done += 1
                except UsageError as error:
                    errors.append(error)
    except KeyboardInterrupt:
        text = f"{done} of {len(pairs)} images are done, and complete in {pairs[0][1].parent}"
        raise KeyboardInterrupt(text) from None


def _warped(args, matrix, source):
    """Read and warp an image file."""
    from .. import warp_image
    from ..images import files

    try:
        image = files.read_image(source)
        matrix, sides = output_canvas(args, matrix, image.shape[:2])
        return warp_image(image, matrix, sides, mode=args.mode, padding_mode=args.padding,
                          fill=args.fill)  # fmt: skip
    except (files.FileError, ValueError, TypeError, MemoryError) as error:
        text = str(error) or "not enough memory"
        raise UsageError(text if text.startswith(str(source)) else f"{source}: {text}") from error


def _write(target, image):
    from ..images import files

    try:
        files.write_image(target, image)
    except files.FileError as error:
        raise UsageError(str(error)) from error
    except MemoryError as error:
        raise UsageError(f"{target}: not enough memory") from error


# --- Stacks ---------------------------------------------------------------------------------------


def _is_stack(args):
    from ..distributed import image_stacks

    if image_stacks.is_stack(pathlib.Path(args.input), args.axes):
        return True
    if args.scheduler:
        raise UsageError(f"--scheduler: expected a stack (.zarr or .npy), got {args.input}")
    return False


def _warp_stack(args, matrix):
    """Warp a stack on the threads of this process or on the workers of a cluster."""
    from ..distributed import cluster, image_stacks
    from ..images import files

    source, target = pathlib.Path(args.input), pathlib.Path(args.output)
    if target.is_dir() and not image_stacks.is_zarr(target):
        target = target / source.name
    if not source.exists():
        report_leftovers(source.resolve().parent)  # which may put it back
    try:
        with output_files([target], args.force):
            check_absent([target], args.force)
            stack = image_stacks.describe_stack(source, args.axes)
            map_, sides = output_canvas(args, matrix, stack.sides)
            options = {"mode": args.mode, "padding_mode": args.padding, "fill": args.fill}
            with _executor(args.scheduler) as compute:
                warped = image_stacks.warp_stack(stack, target, map_, sides, compute, **options)
                with contextlib.closing(warped), progress_bar(stack.shape[0], "image") as advance:
                    for done in warped:
                        advance(done)
    except ImportError as error:
        raise UsageError(f'stacks need more packages ({error}); pip install "numba-stn[scale]" on '
                         f"every machine")  from error  # fmt: skip
    except cluster.ClusterError as error:
        raise UsageError(f"--scheduler {args.scheduler}: {error}") from error
    except files.FileError as error:
        raise UsageError(_one_line(error)) from error
    except (RuntimeError, ValueError, TypeError, MemoryError) as error:
        raise UsageError(f"{source}: {_one_line(error)}") from error
    return 0


def _one_line(error):
    """Join the lines of an error's message."""
    return " ".join(str(error).split()) or type(error).__name__


@contextlib.contextmanager
def _executor(scheduler):
    """Give a function that runs many calls: see :mod:`numba_stn.distributed.cluster`."""
    from ..distributed import cluster

    if not scheduler:
        yield cluster.map_in_threads
        return
    with cluster.connect(scheduler) as client:
        if not client.nthreads():
            print(f"{scheduler}: waiting for the first worker", file=sys.stderr)
        yield functools.partial(cluster.map_on_cluster, client)


# --- The matrix -----------------------------------------------------------------------------------

PARTS = ("rotate", "scale", "shear", "translate")


def _check_options(args):
    """Raise unless the options define exactly one map."""
    alternatives = [["matrix"], ["corners"], PARTS]
    given = [[name for name in names if getattr(args, name) is not None] for names in alternatives]
    given = [names for names in given if names]
    if len(given) > 1:
        first, second = (f"--{names[0]}" for names in given[:2])
        raise UsageError(f"{first} and {second}: expected one or the other, got both")
    if not given and not args.size:
        raise UsageError("expected at least one of --rotate, --scale, --shear, --translate, "
                         "--corners, --matrix and --size")  # fmt: skip
    if args.convention and not args.matrix:
        raise UsageError("--convention: expected --matrix FILE with it, got none")
    if args.expand and args.size:
        raise UsageError("--expand and --size: expected one or the other, got both")


def output_canvas(args: argparse.Namespace, matrix, sides: tuple[int, int]):
    """Give the matrix from output to input pixels, and the output's sides (H, W).

    ``matrix`` is that of ``--matrix``, or None.
    """
    from ..images import canvas
    from ..transforms.matrices import from_opencv

    size = args.size or sides
    parts = {name: getattr(args, name) for name in PARTS if getattr(args, name) is not None}
    if args.corners:
        matrix = canvas.matrix_from_corners(sides, _points(args.corners))
    elif parts:
        matrix = canvas.recentre(canvas.matrix_from_parts(sides, **parts), sides, size)
    elif matrix is None:
        matrix = canvas.resize_matrix(sides, size)
    if args.expand:
        matrix, size = canvas.expand_canvas(matrix, sides)
    return from_opencv(matrix), size


def _points(numbers):
    """Pair the numbers: x0, y0, x1, y1, ... to (x0, y0), (x1, y1), ..."""
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
    """Parse one factor, or one for each axis."""
    numbers = tuple(_number(part) for part in text.split(","))
    if len(numbers) > 2 or not all(numbers):
        raise argparse.ArgumentTypeError(f"expected one or two numbers other than 0, got {text!r}")
    return numbers * 2 if len(numbers) == 1 else numbers


def _fill(text: str) -> float | tuple[float, ...]:
    numbers = tuple(_number(part) for part in text.split(","))
    return numbers[0] if len(numbers) == 1 else numbers


def _size(text: str) -> tuple[int, int]:
    """Parse WxH to (H, W)."""
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT in pixels, got {text!r}")
    return int(height), int(width)
