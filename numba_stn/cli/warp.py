"""``numba-stn warp``."""

import argparse
import contextlib
import pathlib
import re
import sys

from ..utils.atomic_write import delay_interrupts, is_stream
from ..utils.progress import progress
from . import warp_files, warp_maps, warp_stacks
from .options import (
    FailedError,
    UsageError,
    check_absent,
    check_different,
    output_files,
    print_written,
    require_pillow,
)
from .surroundings import one_line

EXAMPLES = """\
  numba-stn warp photo.jpg rotated.png --rotate 30      rotate counter-clockwise
  numba-stn warp photos/ small/ --scale 0.5 --expand    all images of a folder, at half size
  numba-stn warp scans/*.tif flat/ --matrix m.txt       warp by a matrix from a file
  numba-stn warp page.jpg flat.png --from-corners 40 22 610 35 640 450 15 470
                                                        straighten a photographed page
  numba-stn warp scan.tif map.tif --points pairs.txt --size 2000x1500
                                                        by points that were found in both
  numba-stn warp stack.zarr half.zarr --scale 0.5 --expand
                                                        a stack larger than memory
  numba-stn warp stack.zarr out.zarr --rotate 2 --scheduler tcp://host:8786
                                                        the same on a Dask cluster
"""

DESCRIPTION = """\
Warp one image, several, all images of a folder, or all that match a pattern.
An image is flipped, scaled, sheared and rotated about its centre, in this
order, and then translated; or it is warped by a matrix; or its corners are
moved to given positions; or four points in it become the corners of the output,
which straightens a page that was photographed at an angle. A stack of images
(.zarr, .npy, or .tif with several pages) is warped a few images at a time, so
it may be larger than memory. Colour profile, resolution, EXIF and JPEG quality
of the input are kept where the format of the output can store them. Colours
with alpha are multiplied by it while they are interpolated."""

MODES = ("bilinear", "nearest", "bicubic", "catmull-rom", "lanczos4",
         "spline2", "spline3", "spline4", "spline5")  # fmt: skip
PADDINGS = ("zeros", "border", "reflection", "mirror", "wrap", "fill")
# More words after OUT: see :func:`numba_stn.cli.parse`.
MORE = "more"


def add(commands) -> None:
    """Add the subcommand and its options to the parser."""
    warp = commands.add_parser(
        "warp",
        help="rotate, scale, shear, translate or straighten images",
        description=DESCRIPTION,
        epilog="examples:\n" + EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    # "-1,1" and "-1e-3" are values of options, as newer Pythons see it, and not names of options.
    warp._negative_number_matcher = re.compile(r"-\.?\d")
    option = warp.add_argument
    option("input", metavar="IN", help="an image (.png, .jpg, .tif, ... or .npy), a folder of "
           "images, a pattern, or a stack of images (.zarr, .npy, or .tif with several "
           "pages)")  # fmt: skip
    # What follows IN: any number of others, and OUT. argparse would give them all to IN.
    option("output", metavar="[IN ...] OUT", help="more images, and the file to write, whose "
           "suffix chooses the format; a folder if there are several images, or IN is a folder or "
           "a pattern; .zarr, .npy or .tif if IN is a stack")  # fmt: skip
    option(MORE, nargs="*", default=[], help=argparse.SUPPRESS)
    warp_maps.add_options(option)
    option("--size", type=warp_maps.size, metavar="WxH", help="size of the output; default: the "
           "input's")  # fmt: skip
    option("--expand", action="store_true", help="make the output as large as the warped image")
    option("--mode", choices=MODES, default="bilinear", help="interpolation; default: bilinear")
    option("--padding", choices=PADDINGS, default="zeros", help="values outside the image; "
           "default: zeros")  # fmt: skip
    option("--fill", type=warp_maps.fill, default=0, metavar="N[,N,N]", help="value of pixels "
           "outside the image, one number or one for each channel; default: 0")  # fmt: skip
    option("--antialias", action=argparse.BooleanOptionalAction, help="average over the area of "
           "each output pixel; default: where the output shrinks the image by more than "
           f"{warp_maps.SHRINKS}, in any direction, unless the mode is nearest")  # fmt: skip
    option("--quality", type=_quality, metavar="N", help="quality of JPEG and WebP, 1 to 100; "
           "default: that of an input JPEG, otherwise 95; WebP is lossless unless the input is "
           "not")  # fmt: skip
    option("--allow-large", action="store_true", help="also read images of more than 178,956,970 "
           "pixels; a small damaged file can claim more than it has")  # fmt: skip
    option("--axes", type=_axes, metavar="AXES", help="read IN as a stack with these axes, in this "
           "order: Y rows, X columns (or H, W), S colours, C channels, and N, T, Z for images, as "
           "in YX, YXS or TCZYX; by default .zarr has the axes that its metadata (OME) name, "
           "otherwise .zarr with 2 axes is YX, .zarr and .npy with 4 are NHWC, .zarr with 3 is "
           "NHW, and .npy with 3 is one image")  # fmt: skip
    option("--scheduler", metavar="ADDRESS", help="warp the stack on the workers of this Dask "
           "cluster, which must see the same files")  # fmt: skip
    option("--force", action="store_true", help="overwrite existing files")
    warp.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run ``numba-stn warp``; the exit code is 0."""
    warp_maps.check_options(args)
    words: list[str] = [args.input, args.output, *args.more]
    *names, out = words
    if "" in (*names, out):  # from an unset variable of a shell; not the working folder
        raise UsageError("IN and OUT: expected names, got an empty one")
    matrix = warp_files.given_matrix(args)
    target = pathlib.Path(out)
    if len(names) == 1 and warp_stacks.is_stack(args):
        _check_quality(args, [target])
        return warp_stacks.warp_stack(args, matrix, target)
    require_pillow()
    source = pathlib.Path(names[0])
    if len(names) > 1 or warp_files.names_several(names[0]):
        _warp_folder(args, matrix, warp_files.image_files(names), target)
        return 0
    if target.is_dir():
        target = target / source.name
    _check_quality(args, [target])
    with output_files([target], args.force):
        check_absent([target], args.force)
        print_written(target, _write(args, target, *_warped(args, matrix, source)))
    return 0


def _check_quality(args, targets):
    """Raise if ``--quality`` is for none of the outputs."""
    from ..images.files import LOSSY_SUFFIXES

    if args.quality and not any(path.suffix.lower() in LOSSY_SUFFIXES for path in targets):
        raise UsageError(f"--quality: expected an output in one of {', '.join(LOSSY_SUFFIXES)}, "
                         f"got {targets[0]}")  # fmt: skip


def _warp_folder(args, matrix, sources, folder):
    """Warp image files into a folder; an error at the end names those that cannot be warped."""
    warp_files.check_folder(folder, len(sources))
    pairs = [(source, folder / source.name) for source in sources]
    targets = [target for _, target in pairs]
    _check_quality(args, targets)
    errors: list[UsageError] = []
    written: list[tuple[pathlib.Path, str]] = []
    with output_files(targets, args.force):
        check_different(pairs)
        warp_files.check_inputs_remain(pairs, args.matrix or args.points)
        check_absent(targets, args.force)
        try:
            _warp_pairs(args, matrix, pairs, errors, written)
        finally:
            for error in errors:
                print(f"numba-stn: {one_line(error)}", file=sys.stderr)
            for target, text in written:  # after the progress bar
                print_written(target, text)
    if errors:
        others = f"; the others are in {folder}" if len(errors) < len(pairs) else ""
        raise FailedError(f"{len(errors)} of {len(pairs)} images could not be warped{others}")


def _warp_pairs(args, matrix, pairs, errors, written):
    """Warp each source to its target, and append the errors, and what is written, to lists."""
    from ..images.tiff_files import SUFFIXES, has_pages

    try:
        with contextlib.closing(progress(pairs, lambda pair: one_line(pair[0].name))) as each:
            for source, target in each:
                try:
                    for path in (source, target):
                        if is_stream(path):  # which might never end
                            raise UsageError(f"{path}: expected a file, got a FIFO or a device")
                    if source.suffix.lower() in SUFFIXES and has_pages(source):
                        text = warp_stacks.warp_stack_file(args, matrix, source, target,
                                                            warp_stacks.no_bar)  # fmt: skip
                        written.append((target, text))
                        continue
                    warped = _warped(args, matrix, source)
                    with delay_interrupts():  # until the image is counted
                        written.append((target, _write(args, target, *warped)))
                except UsageError as error:
                    errors.append(error)
    except KeyboardInterrupt:
        text = f"{len(written)} of {len(pairs)} images are done, and complete in "
        raise KeyboardInterrupt(f"{text}{pairs[0][1].parent}") from None


def _warped(args, matrix, source):
    """Read and warp an image file; returns the image, and the file's metadata."""
    from ..images import files
    from ..images.warp_image import warp_image

    try:
        image, metadata = files.read_file(source, args.allow_large)
        matrix, sides = warp_maps.output_canvas(args, matrix, image.shape[:2])
        alpha = metadata.alpha and image.ndim == 3 and image.shape[2] in (2, 4)
        options = warp_maps.sampler_options(args, matrix, sides)
        return warp_image(image, matrix, sides, alpha=alpha, **options), metadata
    except (files.FileError, ValueError, TypeError, MemoryError) as error:
        text = str(error) or "not enough memory"
        raise UsageError(text if text.startswith(str(source)) else f"{source}: {text}") from error


def _write(args, target, image, metadata):
    """Write an image file; returns what was written, in words."""
    from ..images import files

    try:
        return files.write_image(target, image, metadata, args.quality)
    except files.FileError as error:
        raise UsageError(str(error)) from error
    except MemoryError as error:
        raise UsageError(f"{target}: not enough memory") from error


def _axes(text: str) -> str:
    from ..distributed.stack_axes import check_axes

    try:
        return check_axes(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _quality(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= 100):
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 to 100, got {text!r}")
    return int(text)
