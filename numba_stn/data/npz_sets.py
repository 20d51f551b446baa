"""Sets of images in ``.npz`` files, whose images are read block by block."""

import math
import os
import pathlib
import zipfile
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from .dataset import DataError
from .image_store import Options, Progress, allocate
from .listing import Listing, split_number
from .preparation import Preparation

_BLOCK = 2**24  # bytes that are read at a time

# The dtype in which the numbers of an array are stored, which otherwise are floats.
STORED = {"u1": "uint8", "b1": "uint8", "u2": "uint16"}


def load_arrays(
    path: pathlib.Path, options: Options, progress: Progress
) -> tuple[np.ndarray, Listing, Preparation]:
    """Read the prepared images of an ``.npz`` file, what it says of them, and the preparation.

    Raises
    ------
    DataError
        If an array is missing, truncated or of another kind, or has NaN or infinity.
    """
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
    return images, listing, preparation


class _Header(NamedTuple):
    """What the header of an array in an ``.npz`` file says."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype

    def preparation(self, options):
        """How these images are prepared."""
        dtype = STORED.get(self.dtype.str[1:], "float32")
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
