"""What a data set is."""

from typing import NamedTuple

import numpy as np


class DataError(Exception):
    """The data are not there, or are not what they should be; the message says which and why."""


class Split(NamedTuple):
    """Images (N, 1, H, W), float32 in [0, 1], and labels (N,), int64."""

    images: np.ndarray
    labels: np.ndarray

    def take(self, index: slice | np.ndarray) -> "Split":
        """The examples at ``index``."""
        return Split(self.images[index], self.labels[index])


class Dataset(NamedTuple):
    """Examples to learn from, to choose by, and to report once at the end."""

    train: Split
    validation: Split
    test: Split
