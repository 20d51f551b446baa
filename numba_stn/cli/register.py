"""``numba-stn register``."""

import argparse
import pathlib
import sys

from ..utils.atomic_write import delay_interrupts, write_atomically
from .options import UsageError, check_absent, check_different, output_files, require_pillow

EXAMPLES = """\
  numba-stn register today.png yesterday.png aligned.png
                                                        align one photograph with another
"""

DESCRIPTION = """\
Estimate the map that aligns the image MOVING with the image FIXED, and write
the aligned MOVING in FIXED's size. A second picture shows both images before
and after: grey where they agree, red where FIXED is brighter, cyan where
MOVING is brighter. If the images do not match, nothing is written and the exit
code is 1."""

TRANSFORMS = ("translation", "rigid", "similarity", "affine", "projective", "tps")


def add(commands) -> None:
    """Add the subcommand and its options to the parser."""
    register = commands.add_parser(
        "register",
        help="align one image with another",
        description=DESCRIPTION,
        epilog="examples:\n" + EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    option = register.add_argument
    option("moving", metavar="MOVING", help="an image (.png, .jpg, .tif, ... or .npy)")
    option("fixed", metavar="FIXED", help="another image of the same scene")
    option("output", metavar="OUT", help="the file to write the aligned image to")
    option("--transform", choices=TRANSFORMS, default="affine", help="default: affine")
    option("--metric", choices=("correlation", "intensity"), default="correlation",
           help="correlation (default) ignores a difference in brightness and contrast, intensity "
           "does not")  # fmt: skip
    option("--mask", metavar="FILE", help="an image of FIXED's size; only pixels that are not "
           "black here are compared")  # fmt: skip
    option("--moving-mask", metavar="FILE", help="the same for MOVING, of its size")
    option("--matrix", metavar="FILE", help="also write the matrix from FIXED's to MOVING's "
           "pixels, as numba-stn warp --matrix reads it")  # fmt: skip
    option("--picture", metavar="FILE", help="the file for the picture of both images; default: "
           "OUT's name with -before-after.png")  # fmt: skip
    option("--force", action="store_true", help="overwrite existing files")
    register.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run ``numba-stn register``; the exit code is 1 if the images do not match."""
    require_pillow()
    from ..images import files

    target = pathlib.Path(args.output)
    picture = pathlib.Path(args.picture or target.with_name(f"{target.stem}-before-after.png"))
    outputs = [target, picture, *([pathlib.Path(args.matrix)] if args.matrix else [])]
    _check_outputs(args, outputs)
    with output_files(outputs, args.force):
        check_different([*zip(("OUT", "--picture", "--matrix"), outputs, strict=False)])
        check_absent(outputs, args.force)
        try:
            moving, metadata = files.read_file(pathlib.Path(args.moving))
            fixed = files.read_image(pathlib.Path(args.fixed))
            result = _register(args, moving, fixed)
            report = result.report
            _print_report(report)
            if not report.converged:
                return 1
            overlays = before_and_after(moving, fixed, result.aligned, report.gain, report.bias)
            with delay_interrupts():  # all files, or none
                files.write_image(target, result.aligned, metadata)
                files.write_image(picture, overlays)
                if args.matrix:
                    _write_matrix(pathlib.Path(args.matrix), result.matrix)
        except (files.FileError, ValueError, TypeError) as error:
            raise UsageError(str(error)) from error
    print(f"wrote {', '.join(map(str, outputs))}")
    return 0


def _check_outputs(args, outputs):
    """Raise before anything is computed if one of the output files cannot be written."""
    from ..images.files import SUFFIXES

    for path in outputs[:2]:
        if path.suffix.lower() not in SUFFIXES:
            raise UsageError(f"{path}: expected a name that ends in one of {', '.join(SUFFIXES)}")
    for path in outputs:
        if path.is_dir():
            raise UsageError(f"{path}: expected a file name, got a folder")
    if args.matrix and args.transform == "tps":
        raise UsageError("--matrix: a thin-plate spline has no matrix")


def _register(args, moving, fixed):
    from .. import register

    return register(
        moving, fixed, args.transform, metric=args.metric,
        mask=_read_mask(args.mask), moving_mask=_read_mask(args.moving_mask),
    )  # fmt: skip


def _read_mask(path):
    from ..images import files

    if path is None:
        return None
    image = files.read_image(pathlib.Path(path))
    return (image.max(2) if image.ndim == 3 else image) > 0


def _print_report(report):
    stream = sys.stdout if report.converged else sys.stderr
    prefix = "" if report.converged else "numba-stn: the images do not match: "
    print(f"{prefix}{report.reason}", file=stream)
    print(
        f"correlation {report.correlation:.3f}, of details {report.details:.3f}; overlap "
        f"{100 * report.overlap:.0f} %; gain {report.gain:.2f}, bias {report.bias:.2f}; "
        f"{sum(report.iterations)} steps",
        file=stream,
    )


def _write_matrix(path, matrix):
    rows = (" ".join(repr(float(number)) for number in row) for row in matrix)
    write_atomically(path, ("\n".join(rows) + "\n").encode())


def before_and_after(moving, fixed, aligned, gain=1.0, bias=0.0):
    """Draw two overlays of both images, centred and aligned, side by side.

    ``gain * moving + bias`` has the brightness of ``fixed``. The result is (H, 2 W + gap, 3) of
    uint8.
    """
    import numpy as np

    from .. import warp_image
    from ..images import canvas
    from ..transforms.matrices import from_opencv

    sides = fixed.shape[:2]
    centred = from_opencv(canvas.recentre(np.eye(3), moving.shape[:2], sides))
    before = warp_image(np.ascontiguousarray(_grey(moving)), centred, sides)
    red, gap = _grey(fixed), np.full((sides[0], max(2, sides[1] // 50), 3), 255, np.uint8)
    low, high = np.percentile(red, (0.5, 99.5))

    def overlay(other):
        pair = np.dstack([red, gain * other + bias, gain * other + bias])
        return np.rint(255 * np.clip((pair - low) / max(high - low, 1e-12), 0, 1)).astype(np.uint8)

    return np.concatenate([overlay(before), gap, overlay(_grey(aligned))], axis=1)


def _grey(image):
    """Average the colour channels, without alpha: (H, W) of float64."""
    if image.ndim == 2:
        return image.astype(float)
    return image[:, :, : 3 if image.shape[2] >= 3 else 1].mean(2)
