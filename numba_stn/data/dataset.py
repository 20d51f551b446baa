"""The types of a data set and its splits."""

from typing import NamedTuple

import numpy as np


class DataError(Exception):
    """The data are missing or altered; the message says which and why."""


class Split(NamedTuple):
    """Images and labels of one part of a data set.

    Attributes
    ----------
    images : (N, 1, H, W) array of float32
        From 0 to 1.
    labels : (N,) array of int64
    """

    images: np.ndarray
    labels: np.ndarray

    def take(self, index: slice | np.ndarray) -> "Split":
        """The examples at ``index``.

        Examples
        --------
        >>> import numpy as np
        >>> from numba_stn.data import Split
        >>> split = Split(np.zeros((3, 1, 2, 2), np.float32), np.array([4, 5, 6]))
        >>> split.take(slice(1, None)).labels
        array([5, 6])
        """
        return Split(self.images[index], self.labels[index])


class Dataset(NamedTuple):
    """A data set in three splits.

    Attributes
    ----------
    train : Split
        To train on.
    validation : Split
        To choose networks and options by.
    test : Split
        For the error that is reported, once.
    """

    train: Split
    validation: Split
    test: Split
