"""Warp stacks of images that need not fit into memory: Zarr arrays, and files of arrays and pages.

:mod:`.stack_axes` says which axes a stack may have, and :mod:`.stack_files` reads and writes parts
of it. Some images are read and warped at a time, each as :func:`numba_stn.warp_image` warps it. An
image that is too large for that is warped patch by patch (:mod:`numba_stn.images.patches`).
"""

import itertools
import math
import pathlib
from collections.abc import Callable, Generator, Iterator
from typing import Any, NamedTuple

import numpy as np

from ..images.files import FileError, Metadata
from ..images.patches import Like, job_of
from ..images.warp_image import warp_image
from .stack_axes import channel_axis, from_images, plane_axes, to_images
from .stack_files import (
    SUFFIXES,
    Stack,
    check_pages,
    create_stack,
    describe_stack,
    is_stack,
    is_zarr,
    open_stack,
    read_block,
    write_images,
)

__all__ = ["FileError", "Stack", "check_options", "describe_stack", "is_stack", "is_zarr",
           "warp_images", "warp_stack"]  # fmt: skip

# Size of what is read and written at once at most, and of a task about: bytes before and after the
# warp. This is much less than a worker's memory, and much more work than the scheduling of a task.
CHUNK_BYTES, TASK_BYTES = 2**25, 2**26

Block = tuple[slice, ...]


class WarpJob(NamedTuple):
    """The warp of a stack from one file to another: all that a task needs to know.

    ``chunk`` is the shape of what a task writes at once, and ``whole`` says that these are whole
    images.
    """

    source: Stack
    target: pathlib.Path
    chunk: tuple[int, ...]
    whole: bool
    matrix: np.ndarray
    sides: tuple[int, int]
    options: dict[str, Any]


# --- Warping --------------------------------------------------------------------------------------


def warp_images(images: np.ndarray, axes: str, matrix: np.ndarray, sides: tuple[int, int],
                **options: Any) -> np.ndarray:  # fmt: skip
    """Warp a part of a stack, each image by :func:`numba_stn.warp_image` with these options."""
    native = _native(to_images(images, axes))
    out = np.empty((len(native), *sides, *native.shape[3:]), native.dtype)
    for image, result in zip(native, out, strict=True):
        warp_image(image, matrix, sides, out=result, **options)
    return from_images(out, axes, _shape_with(images.shape, axes, sides))


def _native(images):
    return np.ascontiguousarray(images, images.dtype.newbyteorder("="))


def _shape_with(shape, axes, sides):
    found = list(shape)
    for axis, side in zip(plane_axes(axes), sides, strict=True):
        found[axis] = side
    return found


def check_options(stack: Stack, matrix: np.ndarray, **options: Any) -> None:
    """Raise the errors that warping the stack would raise, before anything is read or written."""
    channels = () if stack.channels is None else (stack.channels,)
    image = np.zeros((1, 1, *channels), stack.dtype.newbyteorder("="))
    warp_image(image, matrix, **options)


def warp_block(job: WarpJob, array: Any, block: Block) -> np.ndarray:
    """Warp what a block of the output needs of an open stack."""
    axes, options = job.source.axes, dict(job.options)
    axis = channel_axis(axes)
    if axis is not None and isinstance(options.get("fill"), tuple):
        options["fill"] = options["fill"][block[axis]]
    if not job.whole:
        return _warp_patches(job, array, block, options)
    images = _read(array, job.source, block, (slice(None), slice(None)))
    return warp_images(images, axes, job.matrix, job.sides, **options)


def _warp_patches(job, array, block, options):
    """Warp a block whose images are too large to be read."""
    axes, dtype = job.source.axes, job.source.dtype.newbyteorder("=")
    axis, plane = channel_axis(axes), plane_axes(axes)
    shape = [each.stop - each.start for each in block]
    like = Like((*job.source.sides, *([] if axis is None else [shape[axis]])), dtype)
    patches, found = job_of(like, job.matrix, job.sides, **options), np.empty(shape, dtype)
    rows, columns = (block[k] for k in plane)
    images = math.prod(_with_axes(shape, plane, [1] * len(shape)))
    pixels = CHUNK_BYTES // max(1, images * dtype.itemsize)
    patch = (rows.start, rows.stop, columns.start, columns.stop)
    for each, parts in _small_patches(patches, patch, pixels):
        top, bottom, left, right = each
        where = [slice(None)] * len(shape)
        where[plane[0]] = slice(top - rows.start, bottom - rows.start)
        where[plane[1]] = slice(left - columns.start, right - columns.start)
        target = found[tuple(where)]
        crops = _native(to_images(_read_parts(array, job.source, block, parts), axes))
        warped = [patches.compute(each, parts, crop) for crop in crops]
        if warped:
            target[...] = from_images(np.stack(warped), axes, target.shape)
    return found


def _small_patches(job, patch, pixels):
    """Divide a patch until none reads more than this number of pixels, unless it is one pixel.

    Yields patches and the parts of the image that they read.
    """
    parts = job.parts(patch)
    top, bottom, left, right = patch
    size = parts[0].length * parts[1].length if parts else 0
    if size <= pixels or (bottom - top, right - left) == (1, 1):
        yield patch, parts
        return
    if bottom - top >= right - left:
        middle = (top + bottom) // 2
        halves = (top, middle, left, right), (middle, bottom, left, right)
    else:
        middle = (left + right) // 2
        halves = (top, bottom, left, middle), (top, bottom, middle, right)
    for half in halves:
        yield from _small_patches(job, half, pixels)


def _read_parts(array, stack, block, parts):
    """Read the parts of rows and columns of some images."""
    plane = plane_axes(stack.axes)
    rows, columns = (part.slices for part in parts) if parts else [((0, 0, 1),)] * 2
    strips = []
    for y in rows:
        pieces = []
        for x in columns:
            piece = _read(array, stack, block, [_ascending(each) for each in (y, x)])
            down = [axis for axis, each in zip(plane, (y, x), strict=True) if each[2] < 0]
            pieces.append(np.flip(piece, tuple(down)))
        strips.append(np.concatenate(pieces, plane[1]))
    return np.concatenate(strips, plane[0])


def _ascending(part):
    """The pixels of a slice (start, stop, step) in ascending order."""
    start, stop, step = part
    return slice(start, stop) if step > 0 else slice(stop + 1, start + 1)


def _read(array, stack, block, sides):
    """Read rows and columns of some images of a block."""
    where = list(block)
    for axis, part in zip(plane_axes(stack.axes), sides, strict=True):
        where[axis] = slice(*part.indices(stack.shape[axis])[:2])
    return read_block(array, stack, tuple(where))


# --- Division into tasks --------------------------------------------------------------------------


def divide(stack: Stack, sides: tuple[int, int], suffix: str = ".zarr") -> tuple[Any, Any, bool]:
    """Return the chunk shape of the output, what is computed at once, and if it is whole images.

    The chunks are the source's, but with at most CHUNK_BYTES of images. Without chunks, what is
    computed at once are neighbours in the file, as far as possible.
    """
    shape, (rows, columns) = stack.shape_with(sides), plane_axes(stack.axes)
    own = stack.chunks or _with_axes(stack.shape, (rows, columns), shape)
    own = [max(1, min(length, side)) for length, side in zip(own, shape, strict=True)]
    size = stack.dtype.itemsize
    plane = (math.prod(stack.sides) + math.prod(sides)) * size
    axis = channel_axis(stack.axes)
    colours = 1 if axis is None else own[axis]
    chunk = _shortened(own, CHUNK_BYTES // (plane * colours), stack.axes)
    others = math.prod(chunk) // (chunk[rows] * chunk[columns])
    if plane * others <= CHUNK_BYTES:
        return tuple(chunk), tuple(_with_axes(chunk, (rows, columns), shape)), True
    if math.prod(own) * size > CHUNK_BYTES // 4:
        chunk = _cut(chunk, CHUNK_BYTES // (4 * others * size), (rows, columns), suffix)
        return tuple(chunk), tuple(chunk), False
    return tuple(own), tuple(own), False


def _with_axes(lengths, axes, others):
    """Replace the lengths of some axes by those of another shape."""
    return [others[k] if k in axes else length for k, length in enumerate(lengths)]


def _shortened(chunk, most, axes):
    """Shorten the axes that number images, the first ones first, to at most so many images."""
    kept = (*plane_axes(axes), channel_axis(axes))
    numbering = [k for k in range(len(chunk)) if k not in kept]
    chunk = list(chunk)
    for axis in numbering:
        others = math.prod(chunk[k] for k in numbering if k != axis)
        chunk[axis] = max(1, min(chunk[axis], most // others))
    return chunk


def _cut(chunk, pixels, plane, suffix):
    """Halve rows and columns until there are at most so many pixels; in files, rows first."""
    chunk, (rows, columns) = list(chunk), plane
    while chunk[rows] * chunk[columns] > max(1, pixels):
        longest = rows if chunk[rows] >= chunk[columns] else columns
        if suffix != ".zarr" and chunk[rows] > 1:
            longest = rows
        chunk[longest] = -(-chunk[longest] // 2)
    return chunk


def blocks_of(shape: tuple[int, ...], unit: tuple[int, ...]) -> list[Block]:
    """Return the blocks of this shape into which an output is divided."""
    ranges = [
        [slice(k, min(k + length, side)) for k in range(0, side, length)]
        for length, side in zip(unit, shape, strict=True)
    ]
    return list(itertools.product(*ranges))


def warp_blocks(job: WarpJob, blocks: list[Block]) -> int:
    """The task: warp some blocks one after another; returns their number."""
    array = open_stack(job.source.path)
    if (describe_stack(job.source.path, job.source.axes).shape, array.dtype) != (
        job.source.shape, job.source.dtype,
    ):  # fmt: skip
        raise FileError(f"{job.source.path}: changed while it is read")
    shape = job.source.shape_with(job.sides)
    for block in blocks:
        first = tuple(each.start for each in block)
        write_images(job.target, shape, first, warp_block(job, array, block))
    return len(blocks)


def warp_stack(
    source: Stack,
    target: pathlib.Path,
    matrix: np.ndarray,
    sides: tuple[int, int],
    compute: Callable[[Callable, list[dict]], Iterator[int]],
    **options: Any,
) -> Generator[int, None, None]:
    """Warp a stack into a file; yields the number of :func:`blocks_of` each task that is done.

    Parameters
    ----------
    source : Stack
    target : pathlib.Path
        Ends in ``.zarr``, ``.npy``, ``.npz`` or ``.tif``. An existing stack is overwritten.
    matrix : (2, 3) or (3, 3) array
        From output to input pixels, as for :func:`numba_stn.warp_image`.
    sides : (H, W)
        Of the output images.
    compute : callable
        ``compute(function, calls)`` calls the function with the keywords of each dictionary in a
        list, in any order, on any threads or machines, and yields the results as they come; see
        :mod:`.cluster`.
    **options
        As for :func:`numba_stn.warp_image`.

    Raises
    ------
    FileError
        If a file cannot be read or written.
    ValueError, TypeError
        If the options are wrong.
    """
    suffix = target.suffix.lower()
    if suffix not in SUFFIXES:
        raise FileError(f"{target}: expected a name that ends in one of {', '.join(SUFFIXES)} "
                        f"for a stack")  # fmt: skip
    check_pages(target, source.axes)
    check_options(source, matrix, **options)
    chunks, unit, whole = divide(source, sides, suffix)
    shape = source.shape_with(sides)
    with create_stack(target, source, shape, chunks) as temporary:
        source = source._replace(metadata=Metadata(), attributes=None)  # no worker needs them
        job = WarpJob(source, temporary, unit, whole, matrix, sides, options)
        blocks = blocks_of(shape, unit)
        count = max(1, TASK_BYTES // max(1, bytes_of(source, sides, unit, whole)))
        groups = [blocks[k : k + count] for k in range(0, len(blocks), count)]
        yield from compute(warp_blocks, [{"job": job, "blocks": group} for group in groups])


def count_blocks(stack: Stack, sides: tuple[int, int], suffix: str) -> int:
    """Return the number of blocks of a warped stack."""
    return len(blocks_of(stack.shape_with(sides), divide(stack, sides, suffix)[1]))


def bytes_of(stack: Stack, sides: tuple[int, int], unit: tuple[int, ...], whole: bool) -> int:
    """Return about how many bytes are read and written for a block."""
    written = math.prod(unit) * stack.dtype.itemsize
    if not whole:
        return 2 * written
    return written + written * math.prod(stack.sides) // math.prod(sides)
