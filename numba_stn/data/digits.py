"""The 1,797 handwritten digits of scikit-learn (UCI, Alpaydin and Kaynak 1998)."""

import numpy as np

from ..ops.warps import warp_affine
from .dataset import DataError, Dataset, Split

# The seed of the division into splits, which is the same for every seed of the training, and the
# number of images in the splits.
SPLIT_SEED = 1797
VALIDATION, TEST = 197, 800


def digits(folder: str | None = None) -> Dataset:
    """Load scikit-learn's digits, enlarged from 8 x 8 to 16 x 16 pixels.

    The larger size leaves pixels for convolution and pooling.

    Parameters
    ----------
    folder : str, optional
        Ignored: the images come with scikit-learn.

    Returns
    -------
    Dataset
        800 training, 197 validation and 800 test images (1, 16, 16).

    Raises
    ------
    DataError
        If scikit-learn is not installed.

    Examples
    --------
    >>> from numba_stn import data
    >>> data.digits().train.images.shape
    (800, 1, 16, 16)
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError(
            f"the digits come with scikit-learn, which cannot be imported ({error}); "
            f'pip install "numba-stn[train]"'
        ) from error
    raw, labels = load_digits(return_X_y=True)
    small = (raw / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    identity = np.eye(2, 3, dtype=np.float32)[None].repeat(len(small), 0)
    images = warp_affine(small, identity, (16, 16), padding_mode="border")
    order = np.random.default_rng(SPLIT_SEED).permutation(len(images))
    shuffled = Split(images, labels.astype(np.int64)).take(order)
    return Dataset(
        shuffled.take(slice(TEST + VALIDATION, None)),
        shuffled.take(slice(TEST, TEST + VALIDATION)),
        shuffled.take(slice(0, TEST)),
    )
