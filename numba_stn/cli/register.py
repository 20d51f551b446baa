"""``numba-stn register``."""

import argparse
import contextlib
import pathlib
import sys

from .options import UsageError, folder_of, require_pillow

EXAMPLES = """\
  numba-stn register today.png yesterday.png laid.png   lay one photograph upon another
"""

TRANSFORMS = ("translation", "rigid", "similarity", "affine", "projective", "tps")


def add(commands) -> None:
    """Its options."""
    register = commands.add_parser(
        "register",
        help="lay one image upon another",
        description="Find the map that lays the image MOVING upon the image FIXED, and write "
        "MOVING as it then is, in FIXED's size. Beside it a picture shows both before and after: "
        "what agrees is grey, FIXED alone is red, MOVING alone is blue-green. If the images do not "
        "match, nothing is written and the exit code is 1.",
        epilog="examples:\n" + EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    option = register.add_argument
    option("moving", metavar="MOVING", help="an image (.png, .jpg, .tif, ... or .npy)")
    option("fixed", metavar="FIXED", help="another of the same scene")
    option("output", metavar="OUT", help="the image to write")
    option("--transform", choices=TRANSFORMS, default="affine", help="default: affine")
    option("--metric", choices=("correlation", "intensity"), default="correlation", help="whether "
           "brightness and contrast count for nothing (default) or are a difference")  # fmt: skip
    option("--mask", metavar="FILE", help="an image of FIXED's size: what is not black counts")
    option("--matrix", metavar="FILE", help="write the matrix here too, from FIXED's to MOVING's "
           "pixels, as numba-stn warp --matrix takes it")  # fmt: skip
    option("--picture", metavar="FILE", help="default: OUT's name with -before-after.png")
    option("--force", action="store_true", help="overwrite what is there")
    register.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """``numba-stn register``; 1 if the images do not match."""
    require_pillow()
    from ..images import files

    target = pathlib.Path(args.output)
    picture = pathlib.Path(args.picture or target.with_name(f"{target.stem}-before-after.png"))
    written = [target, picture, *([pathlib.Path(args.matrix)] if args.matrix else [])]
    _check(args, written)
    with contextlib.ExitStack() as folders:
        for path in written:
            folders.enter_context(folder_of(path.parent))
        try:
            moving, fixed = (files.read_image(pathlib.Path(p)) for p in (args.moving, args.fixed))
            found = _registered(args, moving, fixed)
            _say(found.report)
            if not found.report.converged:
                return 1
            files.write_image(target, found.aligned)
            report = found.report
            shown = before_and_after(moving, fixed, found.aligned, report.gain, report.bias)
            files.write_image(picture, shown)
            if args.matrix:
                _write_matrix(pathlib.Path(args.matrix), found.matrix)
        except (files.FileError, ValueError, TypeError) as error:
            raise UsageError(str(error)) from error
    print(f"wrote {', '.join(map(str, written))}")
    return 0


def _check(args, written):
    """Raise for what would come to light only when some files are written and others not."""
    from ..images.files import SUFFIXES

    for path in written[:2]:
        if path.suffix.lower() not in SUFFIXES:
            raise UsageError(f"{path}: expected a name that ends in one of {', '.join(SUFFIXES)}")
    for number, path in enumerate(written):
        if path.is_dir() or path.resolve() in (other.resolve() for other in written[:number]):
            what = "is a folder" if path.is_dir() else "is to be written twice"
            raise UsageError(f"{path}: {what}; expected a file for each result")
        if path.exists() and not args.force:
            raise UsageError(f"{path}: exists; --force overwrites it")
    if args.matrix and args.transform == "tps":
        raise UsageError("--matrix: a thin-plate spline has none")


def _registered(args, moving, fixed):
    from .. import register
    from ..images import files

    mask = None
    if args.mask:
        drawn = files.read_image(pathlib.Path(args.mask))
        mask = (drawn.max(2) if drawn.ndim == 3 else drawn) > 0
    return register(moving, fixed, args.transform, metric=args.metric, mask=mask)


def _say(report):
    where = sys.stdout if report.converged else sys.stderr
    name = "" if report.converged else "numba-stn: the images do not match: "
    print(f"{name}{report.reason}", file=where)
    print(
        f"correlation {report.correlation:.3f}, of details {report.details:.3f}; overlap "
        f"{100 * report.overlap:.0f} %; gain {report.gain:.2f}, bias {report.bias:.2f}; "
        f"{sum(report.iterations)} steps",
        file=where,
    )


def _write_matrix(path, matrix):
    from ..utils.record import write_atomically

    rows = (" ".join(repr(float(number)) for number in row) for row in matrix)
    write_atomically(path, ("\n".join(rows) + "\n").encode())


def before_and_after(moving, fixed, aligned, gain=1.0, bias=0.0):
    """Both images, middle on middle and then aligned, side by side: (H, 2 W + gap, 3) of uint8.

    ``gain * moving + bias`` is as bright as the fixed one.
    """
    import numpy as np

    from .. import warp_image
    from ..images import canvas
    from ..transforms.matrices import from_opencv

    sides = fixed.shape[:2]
    centred = from_opencv(canvas.centred(np.eye(3), moving.shape[:2], sides))
    before = warp_image(np.ascontiguousarray(_mean(moving)), centred, sides)
    red, gap = _mean(fixed), np.full((sides[0], max(2, sides[1] // 50), 3), 255, np.uint8)
    low, high = np.percentile(red, (0.5, 99.5))

    def shown(other):
        pair = np.dstack([red, gain * other + bias, gain * other + bias])
        return np.rint(255 * np.clip((pair - low) / max(high - low, 1e-12), 0, 1)).astype(np.uint8)

    return np.concatenate([shown(before), gap, shown(_mean(aligned))], axis=1)


def _mean(image):
    """(H, W) of float64: the mean of the colours, without alpha."""
    if image.ndim == 2:
        return image.astype(float)
    return image[:, :, : 3 if image.shape[2] >= 3 else 1].mean(2)
