"""The map of ``numba-stn warp``: its options, and the matrix and the canvas that they mean."""

import argparse
import math
from collections.abc import Callable
from typing import Any

from .options import UsageError

CONVENTIONS = ("output-to-input", "opencv", "skimage")
# ``--antialias`` is on where the output shrinks the image by more than this factor.
SHRINKS = 1.5

PARTS = ("flip", "rotate", "scale", "shear", "translate")
FLIPS = ("horizontal", "vertical", "both")
FITS = ("translation", "rigid", "similarity", "affine", "projective")


def add_options(option: Callable[..., Any]) -> None:
    """Add the options that define the map."""
    option("--rotate", type=_number, metavar="DEG", help="angle in degrees, counter-clockwise")
    option("--scale", type=_scale, metavar="S[,SY]", help="factor, or one for x and one for y; 2 "
           "doubles the size")  # fmt: skip
    option("--shear", type=_number, nargs=2, metavar=("KX", "KY"), help="add KX y to x, and KY x "
           "to y")  # fmt: skip
    option("--translate", type=_number, nargs=2, metavar=("X", "Y"), help="move by X pixels to the "
           "right and Y down")  # fmt: skip
    option("--flip", choices=FLIPS, help="exchange left and right (horizontal), top and bottom "
           "(vertical), or both")  # fmt: skip
    option("--corners", type=_number, nargs=8, metavar=("X", "Y") * 4, help="output positions of "
           "the image's outer corners: upper left, upper right, lower right, lower "
           "left")  # fmt: skip
    option("--from-corners", type=_number, nargs=8, metavar=("X", "Y") * 4, help="positions in the "
           "image, of a page or a sign, that become the corners of the output: upper left, upper "
           "right, lower right, lower left; without --size, the output has the length of the "
           "longer of opposite sides")  # fmt: skip
    option("--points", metavar="FILE", help="text or .npy file with a row X Y U V for each of "
           "several points: (X, Y) in the image comes to (U, V) in the output")  # fmt: skip
    option("--fit", choices=FITS, help="the map that is fitted to the points; default: projective "
           "to 4 or more, affine to 3, similarity to 2, translation to 1")  # fmt: skip
    option("--robust", type=_number, metavar="PIXELS", help="leave out points that the map takes "
           "further than this from (U, V)")  # fmt: skip
    option("--matrix", metavar="FILE", help="text or .npy file with 2 or 3 rows of 3 numbers")
    option("--convention", choices=CONVENTIONS, help="the matrix maps output to input pixels "
           "(default), or is OpenCV's M, or scikit-image's inverse_map")  # fmt: skip


def check_options(args: argparse.Namespace) -> None:
    """Raise unless the options define exactly one map."""
    alternatives = [["matrix"], ["points"], ["corners"], ["from_corners"], PARTS]
    given = [[name for name in names if getattr(args, name) is not None] for names in alternatives]
    given = [names for names in given if names]
    if len(given) > 1:
        first, second = (f"--{names[0]}".replace("_", "-") for names in given[:2])
        raise UsageError(f"{first} and {second}: expected one or the other, got both")
    if not given and not args.size:
        raise UsageError("expected at least one of --rotate, --scale, --shear, --translate, "
                         "--flip, --corners, --from-corners, --points, --matrix and "
                         "--size")  # fmt: skip
    if args.convention and not args.matrix:
        raise UsageError("--convention: expected --matrix FILE with it, got none")
    for name in ("fit", "robust"):
        if getattr(args, name) is not None and not args.points:
            raise UsageError(f"--{name}: expected --points FILE with it, got none")
    if args.expand and args.size:
        raise UsageError("--expand and --size: expected one or the other, got both")


def output_canvas(args: argparse.Namespace, matrix, sides: tuple[int, int]):
    """Give the matrix from output to input pixels, and the output's sides (H, W).

    ``matrix`` is that of ``--matrix`` or ``--points``, or None.
    """
    import numpy as np

    from ..images import canvas
    from ..transforms.matrices import from_opencv

    size = args.size or sides
    parts = {name: getattr(args, name) for name in PARTS if getattr(args, name) is not None}
    if args.corners:
        matrix = canvas.matrix_from_corners(sides, _points(args.corners))
    elif args.from_corners:
        corners = _points(args.from_corners)
        size = args.size or canvas.size_of_corners(corners)
        matrix = np.linalg.inv(canvas.matrix_from_corners(size, corners))
    elif parts:
        matrix = canvas.recentre(canvas.matrix_from_parts(sides, **parts), sides, size)
    elif matrix is None:
        matrix = canvas.resize_matrix(sides, size)
    if args.expand:
        matrix, size = canvas.expand_canvas(matrix, sides)
    return from_opencv(matrix), size


def sampler_options(args: argparse.Namespace, matrix, sides: tuple[int, int]) -> dict:
    """Give the options of :func:`numba_stn.warp_image`; without ``--antialias`` they depend."""
    from ..images.antialias import shrinks

    antialias = args.antialias
    if antialias is None:
        antialias = args.mode != "nearest" and shrinks(matrix, sides, SHRINKS)
    return {"mode": args.mode, "padding_mode": args.padding, "fill": args.fill,
            "antialias": antialias}  # fmt: skip


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


def fill(text: str) -> float | tuple[float, ...]:
    """Parse one number, or one for each channel."""
    numbers = tuple(_number(part) for part in text.split(","))
    return numbers[0] if len(numbers) == 1 else numbers


def size(text: str) -> tuple[int, int]:
    """Parse WxH to (H, W)."""
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT in pixels, got {text!r}")
    return int(height), int(width)
