"""One's own images: read, prepared, labelled and divided, from a folder, a CSV or an ``.npz`` file.

Nothing here knows of networks. :func:`load` returns arrays.
"""

import hashlib
import math
import pathlib
from collections import Counter
from typing import Any, NamedTuple

import numpy as np

from ..images.files import FileError, open_npy, read_image
from ..images.pnm import open_image
from .dataset import DataError
from .image_store import DEFAULTS, Options, Progress, allocate, no_progress, on_threads
from .listing import counted, groups_by, list_csv, list_folder, sorted_classes
from .npz_sets import STORED, load_arrays
from .preparation import Preparation
from .splitting import SPLITS, TEST, TRAIN, split_groups

# Default sides are a multiple of SIDE_STEP, from LEAST_SIDE to MOST_SIDE.
SIDE_STEP, LEAST_SIDE, MOST_SIDE = 16, 32, 96

_BLOCK = 2**24  # bytes that are hashed at a time


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
    source: pathlib.Path, options: Options = DEFAULTS, progress: Progress = no_progress
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
        return _divided(*load_arrays(source, options, progress), options, [], [])
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
        dtype = STORED.get(array.dtype.str[1:], "float32")
        height, width, *channels = array.shape
        return height, width, channels[0] >= 3 if channels else False, dtype
    from PIL import Image, UnidentifiedImageError

    try:
        with open_image(path) as file, Image.open(file) as picture:
            width, height = picture.size
            mode = picture.mode
            colours = mode not in ("1", "L", "LA", "La", "F") and not mode.startswith("I")
    except UnidentifiedImageError:
        if not path.stat().st_size:
            raise FileError(f"{path}: an empty file") from None
        return _header_of(read_image(path))  # which reads some files that Pillow does not
    except Exception:  # whatever Pillow's plugins raise on broken files
        return _header_of(read_image(path))
    dtype = "float32" if mode == "F" else "uint16" if mode.startswith("I") else "uint8"
    return height, width, colours, dtype


def _header_of(image):
    """:func:`read_header` of an image that had to be read."""
    colours = image.ndim == 3 and image.shape[2] >= 3
    return *image.shape[:2], colours, STORED.get(image.dtype.str[1:], "float32")


def default_size(sides: list[tuple[int, int]]) -> tuple[int, int]:
    """A square whose side is the median of the images' mean sides, rounded up to a multiple of 16.

    It has at least 32 and at most 96 pixels.
    """
    median = float(np.median([math.sqrt(height * width) for height, width in sides]))
    side = math.ceil(median / SIDE_STEP) * SIDE_STEP
    return (min(max(side, LEAST_SIDE), MOST_SIDE),) * 2


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
