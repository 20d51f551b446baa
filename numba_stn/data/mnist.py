"""MNIST (LeCun, Cortes, Burges) from its four IDX files, in a folder or downloaded once."""

import gzip
import hashlib
import os
import pathlib

import numpy as np

from .dataset import DataError, Dataset, Split

# The original files and their SHA-256.
FILES = {
    "train-images-idx3-ubyte.gz": (
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
    ),
    "train-labels-idx1-ubyte.gz": (
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"
    ),
    "t10k-images-idx3-ubyte.gz": (
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"
    ),
    "t10k-labels-idx1-ubyte.gz": (
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"
    ),
}
MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist/"
VALIDATION = 5_000


def mnist(folder: str | None = None) -> Dataset:
    """Load MNIST, 28 x 28 pixels.

    Parameters
    ----------
    folder : str, optional
        A folder that has the four files under ``mnist/``; by default the environment variable
        ``NUMBA_STN_DATA``. If that is not set either, the files are downloaded once, to the user's
        cache.

    Returns
    -------
    Dataset
        55,000 training images (1, 28, 28), 5,000 validation images, which are the last of the
        original training images, and the 10,000 test images.

    Raises
    ------
    DataError
        If a file is missing, truncated or altered, or cannot be downloaded.
    """
    folder = folder or os.environ.get("NUMBA_STN_DATA")
    paths = [_local_file(folder, name) if folder else _download(name) for name in FILES]
    train_images, train_labels, test_images, test_labels = [
        read_idx(path, FILES[path.name]) for path in paths
    ]
    train = Split(_scaled(train_images), train_labels.astype(np.int64))
    test = Split(_scaled(test_images), test_labels.astype(np.int64))
    return Dataset(train.take(slice(-VALIDATION)), train.take(slice(-VALIDATION, None)), test)


def read_idx(path: pathlib.Path, sha256: str) -> np.ndarray:
    """Read a gzipped IDX file of bytes as an array, after checking its SHA-256."""
    try:
        packed = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    found = hashlib.sha256(packed).hexdigest()
    if found != sha256:
        raise DataError(
            f"{path}: truncated or altered: {len(packed)} bytes with SHA-256 {found}, "
            f"expected {sha256}"
        )
    raw = gzip.decompress(packed)
    sides = np.frombuffer(raw, ">u4", raw[3], 4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * len(sides)).reshape(sides)


def _local_file(folder: str, name: str) -> pathlib.Path:
    path = pathlib.Path(folder) / "mnist" / name
    if not path.is_file():
        raise DataError(f"{path}: missing; --data-dir or NUMBA_STN_DATA must name a folder with "
                        f"MNIST's files {', '.join(FILES)} under mnist/")  # fmt: skip
    return path


def _download(name: str) -> pathlib.Path:
    try:
        import pooch
    except ImportError as error:
        raise DataError(
            f'the download of MNIST needs pooch ({error}); pip install "numba-stn[train]"'
        ) from error
    cache = pathlib.Path(pooch.os_cache("numba_stn")) / "mnist"
    try:
        path = pooch.retrieve(MIRROR + name, f"sha256:{FILES[name]}", fname=name, path=cache)
    except Exception as error:  # of the network, the disk or the checksum
        raise DataError(
            f"cannot download {MIRROR}{name}: {error}; put MNIST's files under mnist/ in a "
            f"folder and name it with --data-dir or NUMBA_STN_DATA"
        ) from error
    return pathlib.Path(path)


def _scaled(images: np.ndarray) -> np.ndarray:
    return (images[:, None] / np.float32(255)).astype(np.float32)
