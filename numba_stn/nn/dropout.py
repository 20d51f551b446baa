"""The dropout layer, whose random numbers are the same on the CPU and the GPU."""

from dataclasses import dataclass

import numpy as np

from ..utils.namespace import namespace
from .base import Layer
from .checks import check_number, check_whole


@dataclass(frozen=True)
class Dropout(Layer):
    """In training, set a random share of the features to 0 and scale the others by 1 / (1 - share).

    Srivastava et al. 2014. A hash (:func:`hash32`) of ``seed`` and of the number of steps so far,
    which is the layer's state, decides which features are set to 0. So the choice is the same on a
    GPU and on the CPU, and a resumed run continues as if it had never stopped.
    """

    name = "dropout"

    share: float
    seed: int = 0

    def __post_init__(self):
        """Check the arguments."""
        check_number(self.name, below=1, share=self.share)
        check_whole(self.name, 0, seed=self.seed)

    def init_state(self, shape):
        """No steps so far."""
        return {"steps": np.zeros(1, np.uint32)}

    def apply(self, params, x, state=(), train=False, wrt_x=True):
        """See the class."""
        if not train or not self.share:
            return x, lambda dy: ((), dy), state
        xp, steps = namespace(x), state["steps"]
        numbers = xp.arange(x.size, dtype=np.uint32)
        random = hash32(numbers ^ hash32(steps + np.uint32(int(self.seed) * 0x9E3779B9 % 2**32)))
        factor = (random >= np.uint32(self.share * 2**32)).astype(x.dtype).reshape(x.shape)
        factor *= x.dtype.type(1 / (1 - self.share))
        return x * factor, lambda dy: ((), dy * factor), {"steps": steps + np.uint32(1)}


def hash32(numbers):
    """Hash 32-bit integers to 32-bit integers, by multiplications and shifts.

    The constants are those of "lowbias32" (Wellons 2018): changing one bit of a number changes each
    bit of its hash with a probability of nearly one half.
    """
    numbers = (numbers ^ (numbers >> np.uint32(16))) * np.uint32(0x21F0AAAD)
    numbers = (numbers ^ (numbers >> np.uint32(15))) * np.uint32(0x735A2D97)
    return numbers ^ (numbers >> np.uint32(15))


def dropout(share: float, seed: int = 0) -> Dropout:
    """Dropout layer, for arrays of any shape (Srivastava et al. 2014).

    In training, a random share of the features is set to 0, and the others are divided by
    ``1 - share``. Otherwise the layer does nothing.

    Parameters
    ----------
    share : float
        From 0 to less than 1.
    seed : int
        Layers with different seeds drop different features.

    Returns
    -------
    Dropout

    Raises
    ------
    ValueError
        If ``share`` is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_stn import nn
    >>> layer = nn.dropout(0.5)
    >>> y, _, _ = layer.apply((), np.ones((1, 1000)), layer.init_state((1000,)), train=True)
    >>> np.unique(y)
    array([0., 2.])
    """
    return Dropout(share, seed)
