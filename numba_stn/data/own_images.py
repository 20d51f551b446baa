"""One's own images: read, prepared, labelled and divided, from a folder, a CSV or an ``.npz`` file.

Nothing here knows of networks. :func:`load` returns arrays.
"""

import contextlib
import hashlib
import math
import os
import pathlib
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..images.files import FileError, open_npy, read_image
from ..images.pnm import open_image
from .dataset import DataError
from .listing import (
    Listing,
    counted,
    groups_by,
    list_csv,
    list_folder,
    sorted_classes,
    split_number,
)
from .preparation import Preparation
from .splitting import SPLITS, TEST, TRAIN, split_groups

# Default sides are a multiple of SIDE_STEP, from LEAST_SIDE to MOST_SIDE.
SIDE_STEP, LEAST_SIDE, MOST_SIDE = 16, 32, 96

# Images that take more than this share of the memory are mapped from a file.
MEMORY_SHARE = 0.25

_BLOCK = 2**24  # bytes that are hashed, or read, at a time
_AT_ONCE = 1024  # files that wait for a thread

# The dtype in which the numbers of an array are stored, which otherwise are floats.
_STORED = {"u1": "uint8", "b1": "uint8", "u2": "uint16"}

Progress = Callable[[int, str], contextlib.AbstractContextManager[Callable[[int], None]]]


@contextlib.contextmanager
def no_progress(total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """Show nothing."""
    yield lambda more: None


@dataclass(frozen=True)
class Options:
    """How a set is read and divided; None is chosen by the images.

    ``group`` is a regular expression, see :func:`.listing.groups_by`. Groups are those of a class,
    unless ``group_across`` says that equal groups of several classes belong together. ``folder`` is
    where images are that take more than ``memory`` of the computer's memory.
    """

    size: tuple[int, int] | None = None
    channels: int | None = None
    fit: str = "stretch"
    ground: int = 255
    group: str | None = None
    group_across: bool = False
    split: Sequence[float] = (0.7, 0.15, 0.15)
    seed: int = 0
    skip_broken: bool = False
    memory: float = MEMORY_SHARE
    folder: pathlib.Path | None = None


class ImageSet(NamedTuple):
    """A set of images in memory, or mapped from a file.

    Attributes
    ----------
    images : (N, H, W, C) array
        Prepared, see :class:`.preparation.Preparation`.
    labels : (N,) array of int64
        Indices of ``classes``.
    classes : tuple of str
    split : (N,) array of int8
        0 for training, 1 for validation, 2 for test.
    names : list of str
        Files relative to the set's folder.
    groups : list of str, or None
    preparation : Preparation
    broken : list of str
        What is wrong with files that were skipped.
    notes : list of str
        Sentences that the user should read.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    split: np.ndarray
    names: list[str]
    groups: list[str] | None
    preparation: Preparation
    broken: list[str]
    notes: list[str]

    def part(self, part: int) -> np.ndarray:
        """Indices of the images of a part: 0 training, 1 validation, 2 test."""
        return np.flatnonzero(self.split == part)

    def digest(self) -> str:
        """A hash of all that training depends on: images, labels, classes and parts."""
        described = self.images.shape, str(self.images.dtype), self.classes, self.preparation
        found = hashlib.sha256(repr(described).encode("utf-8", "surrogateescape"))
        rows = max(1, _BLOCK // max(1, self.images[:1].nbytes))
        for first in range(0, len(self.images), rows):
            found.update(self.images[first : first + rows].tobytes())
        found.update(self.labels.tobytes() + self.split.tobytes())
        return found.hexdigest()


def load(
    source: pathlib.Path, options: Options = Options(), progress: Progress = no_progress
) -> ImageSet:
    """Read, prepare and divide the images of a source.

    Parameters
    ----------
    source : pathlib.Path
        A folder with one subfolder for each class; one with ``train``, ``test``, and perhaps
        ``val``, of such folders; a CSV file with the columns ``path`` and ``label``, and perhaps
        ``split`` and ``group``; or an ``.npz`` file with the arrays ``images``, (N, H, W) or (N, H,
        W, C), and ``labels``, and perhaps ``split`` and ``groups``.
    options : Options
    progress : callable
        ``progress(total, unit)`` is a context that yields a function, which is called with the
        number of images read since.

    Returns
    -------
    ImageSet

    Raises
    ------
    DataError
        If the images cannot be read, labelled or divided; the message says what to do.
    """
    source = pathlib.Path(source)
    if source.is_dir():
        return _load_files(list_folder(source), options, progress)
    if source.suffix.lower() == ".csv":
        return _load_files(list_csv(source), options, progress)
    if source.suffix.lower() == ".npz":
        return _load_arrays(source, options, progress)
    found = "is no folder" if source.exists() else "does not exist"
    raise DataError(f"{source}: {found}; expected a folder of images, a .csv or an .npz file")


# --- Files ----------------------------------------------------------------------------------------


def _load_files(listing, options, progress):
    """Read the files of a listing."""
    groups = listing.groups
    if options.group is not None:
        groups = groups_by(options.group, listing.names)
    paths = [listing.root / name for name in listing.names]
    preparation, broken = choose_preparation(paths, options, progress)
    images = allocate((len(paths), preparation.height, preparation.width, preparation.channels),
                      preparation.dtype, options)  # fmt: skip

    def read(number):
        images[number] = prepared(paths[number], preparation)

    others = [number for number in range(len(paths)) if number not in broken]
    broken |= on_threads(read, others, "image", progress)
    complaints = [broken[number] for number in sorted(broken)]
    if broken and not options.skip_broken:
        raise DataError(f"cannot read {counted(complaints, 'image')}; repair or remove them, or go "
                        f"on without them by --skip-broken")  # fmt: skip
    kept = [number for number in range(len(paths)) if number not in broken]
    if not kept:
        raise DataError(f"{listing.root}: found no images that can be read: {complaints[0]}")
    if lost := sorted(set(listing.labels) - {listing.labels[number] for number in kept}):
        raise DataError(f"no image can be read of {counted(lost, 'class')}; repair some, or remove "
                        f"the class")  # fmt: skip
    for new, old in enumerate(kept):  # without a second array
        if new != old:
            images[new] = images[old]
    notes = [f"ignored files, which by their names are no images: {listing.ignored}"]
    kept_listing = listing._replace(groups=groups).take(kept)
    return _divided(images[: len(kept)], kept_listing, preparation, options, complaints,
                    notes * bool(listing.ignored))  # fmt: skip


def on_threads(
    work: Callable[[Any], Any], items: Iterable[Any], unit: str, progress: Progress
) -> dict[Any, str]:
    """Call a function for each item, on threads; returns the messages of those that failed.

    Failures are of a file: it cannot be read, or be prepared.
    """
    failed, items = {}, list(items)

    def attempt(item):
        try:
            work(item)
        except (FileError, OSError) as error:
            return item, error
        return None

    with progress(len(items), unit) as done, ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for first in range(0, len(items), _AT_ONCE):
            for failure in pool.map(attempt, items[first : first + _AT_ONCE]):
                if failure:
                    failed[failure[0]] = str(failure[1])
                done(1)
    return failed


def prepared(path: pathlib.Path, preparation: Preparation) -> np.ndarray:
    """Read an image and prepare it.

    Raises
    ------
    FileError
        If it cannot be read or prepared; the message names the file.
    """
    image = read_image(path)
    try:
        return preparation(image)
    except (ValueError, TypeError) as error:
        raise FileError(f"{path}: {error}") from error


def choose_preparation(
    paths: list[pathlib.Path], options: Options, progress: Progress = no_progress
) -> tuple[Preparation, dict[int, str]]:
    """Choose the preparation that the options leave open, by the headers of all files.

    Returns
    -------
    Preparation
    dict
        What is wrong with files whose header cannot be read, by their number.
    """
    headers: list[Any] = [None] * len(paths)

    def read(number):
        headers[number] = read_header(paths[number])

    broken = on_threads(read, range(len(paths)), "header", progress)
    found = [header for header in headers if header is not None]
    if not found:
        raise DataError(f"found no images that can be read: {next(iter(broken.values()))}")
    height, width = options.size or default_size([header[:2] for header in found])
    channels = options.channels or (3 if any(header[2] for header in found) else 1)
    dtype = max((header[3] for header in found), key=["uint8", "uint16", "float32"].index)
    preparation = Preparation(height, width, channels, options.fit, options.ground, dtype)
    return preparation, broken


def read_header(path: pathlib.Path) -> tuple[int, int, bool, str]:
    """Height, width, whether there are colours, and the dtype, without reading the pixels."""
    if path.suffix.lower() == ".npy":
        array = open_npy(path)
        if array.ndim not in (2, 3):
            raise FileError(f"{path}: expected (H, W) or (H, W, C), got {array.shape}")
        dtype = _STORED.get(array.dtype.str[1:], "float32")
        height, width, *channels = array.shape
        return height, width, channels[0] >= 3 if channels else False, dtype
    from PIL import Image, UnidentifiedImageError

    try:
        with open_image(path) as file, Image.open(file) as picture:
            width, height = picture.size
            mode = picture.mode
            colours = mode not in ("1", "L", "LA", "La", "F") and not mode.startswith("I")
    except UnidentifiedImageError:
        size = path.stat().st_size
        reason = "an empty file" if not size else "no image format that Pillow knows"
        raise FileError(f"{path}: {reason}") from None
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}") from error
    except Exception as error:  # whatever Pillow's plugins raise on broken files
        raise FileError(f"{path}: a broken image: {error}") from error
    dtype = "float32" if mode == "F" else "uint16" if mode.startswith("I") else "uint8"
    return height, width, colours, dtype


def default_size(sides: list[tuple[int, int]]) -> tuple[int, int]:
    """A square whose side is the median of the images' mean sides, rounded up to a multiple of 16.

    It has at least 32 and at most 96 pixels.
    """
    median = float(np.median([math.sqrt(height * width) for height, width in sides]))
    side = math.ceil(median / SIDE_STEP) * SIDE_STEP
    return (min(max(side, LEAST_SIDE), MOST_SIDE),) * 2


def allocate(shape: tuple[int, ...], dtype: str, options: Options) -> np.ndarray:
    """An array in memory; or, if it is too large, mapped from a file that has no name.

    The file ends with the process, however that ends. Its space is taken now, because a disk that
    is full later would kill the process.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size <= options.memory * memory_bytes() or not size:
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile(dir=options.folder) as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            where = options.folder or tempfile.gettempdir()
            raise DataError(f"{where}: {size / 2**30:.1f} GiB are needed for the images: "
                            f"{error.strerror}; choose a folder on another disk, a smaller --size, "
                            f"or a larger --memory") from error  # fmt: skip
        return np.memmap(file, dtype, "r+", shape=shape)


def memory_bytes() -> int:
    """Size of the computer's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


# --- Arrays ---------------------------------------------------------------------------------------


def _load_arrays(path, options, progress):
    """Read an ``.npz`` file; its images block by block."""
    if options.group is not None:
        raise DataError("--group: for the names of files; in an .npz the array groups has them")
    try:
        with zipfile.ZipFile(path) as packed:
            header = _image_header(path, packed)
            texts = _read_texts(path, packed, header.shape[0])
            preparation = header.preparation(options)
            images = _read_images(path, packed, header, preparation, options, progress)
    except (DataError, MemoryError):
        raise
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except Exception as error:  # whatever NumPy and zipfile raise on broken files
        raise DataError(f"{path}: not an .npz file, or truncated: {error}") from error
    split = None
    if "split" in texts:
        split = [split_number(v, f"{path}: split[{n}]") for n, v in enumerate(texts["split"])]
    names = [f"images[{number}]" for number in range(len(images))]
    listing = Listing(path.parent, names, texts["labels"], split, texts.get("groups"))
    return _divided(images, listing, preparation, options, [], [])


class _Header(NamedTuple):
    """What the header of an array in an ``.npz`` file says."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype

    def preparation(self, options):
        """How these images are prepared."""
        dtype = _STORED.get(self.dtype.str[1:], "float32")
        height, width = options.size or self.shape[1:3]
        channels = options.channels or (*self.shape, 1)[3]
        return Preparation(height, width, channels, options.fit, options.ground, dtype)


def _image_header(path, packed):
    """The header of the array ``images``, which can be prepared."""
    names = packed.namelist()
    if missing := [name for name in ("images", "labels") if f"{name}.npy" not in names]:
        raise DataError(f"{path}: expected the arrays images and labels, found no "
                        f"{' and no '.join(missing)} among {', '.join(names)[:80]}")  # fmt: skip
    with packed.open("images.npy") as file:
        header = _read_header(file, path, packed, "images")
    if len(header.shape) not in (3, 4) or 0 in header.shape:
        raise DataError(f"{path}: images: expected (N, H, W) or (N, H, W, C), got {header.shape}")
    if header.dtype.kind not in "biuf":
        raise DataError(f"{path}: images: expected numbers, got {header.dtype}")
    return header


def _read_header(file, path, packed, name):
    """Read an array's header; raises if its length is another: it could ask for any memory."""
    version = np.lib.format.read_magic(file)
    header = _Header(*getattr(np.lib.format, f"read_array_header_{version[0]}_0")(file))
    expected = file.tell() + math.prod(header.shape) * header.dtype.itemsize
    if header.dtype.hasobject or expected != packed.getinfo(f"{name}.npy").file_size:
        raise DataError(f"{path}: {name}: truncated, or not an array of numbers or texts")
    return header


def _read_texts(path, packed, count):
    """The other arrays, one text for each image."""
    texts = {}
    for name in ("labels", "split", "groups"):
        if f"{name}.npy" not in packed.namelist():
            continue
        with packed.open(f"{name}.npy") as file:
            header = _read_header(file, path, packed, name)
            if header.shape != (count,) or header.dtype.kind not in "iuUS":
                raise DataError(f"{path}: {name}: expected {count} texts or whole numbers, one for "
                                f"each image, got {header.shape} of {header.dtype}")  # fmt: skip
            texts[name] = np.frombuffer(file.read(), header.dtype).astype(str).tolist()
    return texts


def _read_images(path, packed, header, preparation, options, progress):
    """Read and prepare the images."""
    count = header.shape[0]
    sides = preparation.height, preparation.width, preparation.channels
    images = allocate((count, *sides), preparation.dtype, options)

    def prepare(item):
        number, image = item
        try:
            images[number] = preparation(image)
        except (ValueError, TypeError) as error:
            raise DataError(f"{path}: images[{number}]: {error}") from error

    with packed.open("images.npy") as file, progress(count, "image") as done:
        _read_header(file, path, packed, "images")
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            for first, block in _blocks(file, header):
                for _ in pool.map(prepare, enumerate(block, first)):
                    done(1)
    return images


def _blocks(file, header):
    """Yield the number of an image, and a block of images from this one on."""
    shape, fortran, dtype = header
    if fortran:
        yield 0, np.frombuffer(file.read(), dtype).reshape(shape[::-1]).T
        return
    size = math.prod(shape[1:]) * dtype.itemsize
    rows = max(1, _BLOCK // size)
    for first in range(0, shape[0], rows):
        count = min(rows, shape[0] - first)
        yield first, np.frombuffer(file.read(count * size), dtype).reshape(count, *shape[1:])


# --- Labels and parts -----------------------------------------------------------------------------


def _divided(images, listing, preparation, options, broken, notes):
    """The set of prepared images, with classes and parts."""
    classes = sorted_classes(listing.labels)
    if len(classes) < 2:
        raise DataError(f"expected at least two classes, found only {classes[0]!r}; a class is a "
                        f"subfolder, or a label")  # fmt: skip
    numbers = {name: number for number, name in enumerate(classes)}
    labels = np.array([numbers[label] for label in listing.labels], np.int64)
    groups = listing.groups
    keys = range(len(labels)) if groups is None else groups
    if groups is not None and not options.group_across:
        pairs = list(zip(groups, listing.labels, strict=True))
        keys = [f"{group} of {label}" for group, label in pairs]
        named = Counter(group for group, _ in set(pairs))
        if across := sum(count for count in named.values() if count > 1):
            text = "groups with a name that another class has too, which count as different groups"
            notes = [*notes, f"{text} unless --group-across is given: {across}"]
    given = None if listing.split is None else np.array(listing.split, np.int8)
    split = split_groups(labels, keys, options.split, options.seed, given)
    _check_split(labels, split, classes, groups is not None, given is not None)
    return ImageSet(images, labels, tuple(classes), split, listing.names, groups, preparation,
                    broken, notes)  # fmt: skip


def _check_split(labels, split, classes, grouped, given):
    """Raise unless each class has images to train on, and some images are there to test."""
    unit = "group" if grouped else "image"
    counts = np.zeros((len(classes), len(SPLITS)), int)
    np.add.at(counts, (labels, split), 1)
    if lacking := [name for name, row in zip(classes, counts, strict=True) if not row[TRAIN]]:
        raise DataError(f"no training images of {counted(lacking, 'label')}; expected some of "
                        f"every label that the other parts have")  # fmt: skip
    if given:
        return
    if lacking := [name for name, row in zip(classes, counts, strict=True) if not row[TEST]]:
        raise DataError(
            f"only one {unit} of {counted(lacking, 'class')}; a class needs at least two, one to "
            f"train on and one to test: add images, or remove the class"
        )
