"""Numbers of a training step that are not finite: where they are, and the error that says so.

One NaN pixel is enough to make the weights of a localisation NaN, while the loss stays finite: a
theta of NaN samples nothing but zeros. So a step looks at theta, the loss, the gradients and the
new weights, by one dot product for each array.
"""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..utils.namespace import is_cupy
from .base import Layer, name_of
from .checks import FLOATS
from .containers import Serial
from .tree import Tree, leaves


class NonFiniteError(FloatingPointError):
    """A number in training is not finite; the message names the layer and the array.

    Attributes
    ----------
    images : tuple of int
        Indices in the batch of the images with pixels that are not finite.
    """

    def __init__(self, message: str, images: Iterable[int] = ()):
        super().__init__(message)
        self.images = tuple(images)


def is_finite(array: Any) -> bool:
    """Whether all elements are finite, and so small that the sum of their squares is finite.

    Adam squares gradients. On the GPU this waits for the result.
    """
    if is_cupy(array):
        return math.isfinite(float((array * array).sum()))
    return math.isfinite(np.vdot(array, array))


def check_arrays(net: Layer, what: str, tree: Tree) -> None:
    """Raise if an array of the tree is not finite; ``what`` says what the arrays are.

    The error names the last such layer: backward, it was the first.
    """
    bad = [path for path, leaf in leaves(tree) if leaf.dtype in FLOATS and not is_finite(leaf)]
    if bad:
        others = f" and of {len(bad) - 1} other arrays" if bad[1:] else ""
        raise NonFiniteError(
            f"the {what} of {_named(net, bad[-1])}{others} is not finite, or too large to square"
        )


def check_loss(net: Layer, params: Tree, images: Any, state: Tree, loss: float) -> None:
    """Raise if the loss of a training step is not finite."""
    if not math.isfinite(loss):
        path, _ = _first_non_finite(net, params, images, state, ())
        where = f": the first output that is not finite is that of {_named(net, path)}"
        raise NonFiniteError(f"the loss is {loss}{where if path else ''}")


def check_theta(name: str, theta: np.ndarray) -> None:
    """Raise if a theta of a batch is not finite."""
    if not is_finite(theta):
        finite = np.isfinite(theta.reshape(len(theta), -1)).all(1)
        if not finite.all():  # a large number is not wrong here: it samples outside
            count = len(theta) - np.count_nonzero(finite)
            raise NonFiniteError(f"{name}: theta is not finite for {count} of {len(theta)} inputs")


def explained(error: NonFiniteError, images: np.ndarray) -> NonFiniteError:
    """The error, with the images of the batch that have pixels that are not finite."""
    bad = np.flatnonzero(~np.isfinite(images.reshape(len(images), -1)).all(1)).tolist()
    if not bad:
        return error
    shown = ", ".join(map(str, bad[:5])) + (", ..." if bad[5:] else "")
    return NonFiniteError(
        f"{error}; {len(bad)} of {len(images)} images of the batch have pixels that are not "
        f"finite: {shown}", bad,
    )  # fmt: skip


# --- Where it is ----------------------------------------------------------------------------------


def _named(net, path):
    """An array or a layer by its path in the tree of parameters, and the kind of its layer."""
    layer = net
    for key in path:
        layer = layer.part(key)
    return f"{'.'.join(path)} ({name_of(layer)})"


def _first_non_finite(layer, params, x, state, path):
    """Path of the first layer in series whose output is not finite, or (); and the output."""
    if not isinstance(layer, Serial):
        y, _, _ = layer.apply(params, x, state, train=True, wrt_x=False)
        return (() if np.isfinite(y).all() else path), y
    for n, part in enumerate(layer.layers):
        part_state = state[n] if state else ()
        found, x = _first_non_finite(part, params[n], x, part_state, (*path, str(n)))
        if found:
            return found, x
    return (), x
