"""Dropout: noise while training, which no step waits for, and which is the same everywhere."""

from dataclasses import dataclass

import numpy as np

from ..utils.namespace import namespace
from .layer import Layer


@dataclass(frozen=True)
class Dropout(Layer):
    """While training, sets a share of the features to 0 and enlarges the others to make up for it.

    Srivastava et al. 2014. Which ones follows from ``seed`` and from the number of steps so far,
    which is the layer's state, by a hash (:func:`hashed`): the same on a GPU and on the CPU, in a
    run that goes on as in one that never stopped.
    """

    share: float
    seed: int = 0

    def __post_init__(self):
        """Check the share."""
        if not 0 <= self.share < 1:
            raise ValueError(f"dropout: expected a share from 0 to below 1, got {self.share!r}")

    def init_state(self, shape):
        """No steps so far."""
        return {"steps": np.zeros(1, np.uint32)}

    def apply(self, params, x, state=(), train=False, wrt_x=True):
        """See the class."""
        if not train or not self.share:
            return x, lambda dy: ((), dy), state
        xp, steps = namespace(x), state["steps"]
        numbers = xp.arange(x.size, dtype=np.uint32)
        drawn = hashed(numbers ^ hashed(steps + np.uint32(self.seed * 0x9E3779B9 % 2**32)))
        kept = (drawn >= np.uint32(self.share * 2**32)).astype(x.dtype).reshape(x.shape)
        kept *= x.dtype.type(1 / (1 - self.share))
        return x * kept, lambda dy: ((), dy * kept), {"steps": steps + np.uint32(1)}


def hashed(numbers):
    """32 bits for 32 bits, each of which depends on all: multiplications and shifted copies.

    The constants are those of "lowbias32" (Wellons 2018), chosen so that changing one bit changes
    every other with a probability near a half.
    """
    numbers = (numbers ^ (numbers >> np.uint32(16))) * np.uint32(0x21F0AAAD)
    numbers = (numbers ^ (numbers >> np.uint32(15))) * np.uint32(0x735A2D97)
    return numbers ^ (numbers >> np.uint32(15))


def dropout(share: float, seed: int = 0) -> Dropout:
    """A share of the features set to 0 while training."""
    return Dropout(share, seed)
