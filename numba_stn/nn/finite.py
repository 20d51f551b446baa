"""Numbers of a training step that are not finite: where they are, and the error that says so.

One NaN pixel is enough to make the weights of a localisation NaN, while the loss stays finite: a
theta of NaN samples nothing but zeros. So a step looks at theta, the loss, the gradients and the
weights after it.
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
        Indices in the batch of the images with pixels or targets that are not finite.
    """

    def __init__(self, message: str, images: Iterable[int] = ()):
        super().__init__(message)
        self.images = tuple(images)


def check_arrays(net: Layer, what: str, tree: Tree) -> None:
    """Raise if an array of the tree is not finite; ``what`` says what the arrays are.

    The error names the last such layer: backward, it was the first.
    """
    floats = [(path, leaf) for path, leaf in leaves(tree) if leaf.dtype in FLOATS]
    if all_finite(*(leaf for _, leaf in floats)):
        return
    *_, last = bad = [path for path, leaf in floats if not all_finite(leaf)]
    others = f" and of {len(bad) - 1} other arrays" if bad[1:] else ""
    raise NonFiniteError(f"the {what} of {_named(net, last)}{others} is not finite")


def all_finite(*arrays: Any) -> bool:
    """Whether all elements of all arrays are finite; on the GPU this waits once for the answer."""
    if arrays and is_cupy(arrays[0]):
        return math.isfinite(float(sum((array * 0).sum() for array in arrays)))
    for array in arrays:
        # One pass without a temporary array; but the sum of squares may overflow.
        if not math.isfinite(np.vdot(array, array)) and not np.isfinite(array).all():
            return False
    return True


def check_loss(net: Layer, params: Tree, images: Any, state: Tree, loss: float) -> None:
    """Raise if the loss of a training step is not finite."""
    if not math.isfinite(loss):
        path, _ = _first_non_finite(net, params, images, state, ())
        where = f": the first output that is not finite is that of {_named(net, path)}"
        raise NonFiniteError(f"the loss is {loss}{where if path else ''}")


def check_theta(name: str, theta: np.ndarray) -> None:
    """Raise if a theta of a batch is not finite."""
    if not all_finite(theta):
        finite = np.isfinite(theta.reshape(len(theta), -1)).all(1)
        raise NonFiniteError(
            f"{name}: theta is not finite for {np.count_nonzero(~finite)} of {len(theta)} inputs"
        )


def explained(error: NonFiniteError, images: np.ndarray, targets: Any = ()) -> NonFiniteError:
    """The error, with the images of the batch that have pixels or targets that are not finite."""
    for array, what in ((images, "pixels"), (targets, "targets")):
        array = np.asarray(array)
        if array.shape[:1] != (len(images),) or array.dtype.kind != "f":
            continue
        finite = np.isfinite(array.reshape(len(array), math.prod(array.shape[1:]))).all(1)
        if bad := np.flatnonzero(~finite).tolist():
            shown = ", ".join(map(str, bad[:5])) + (", ..." if bad[5:] else "")
            return NonFiniteError(
                f"{error}; {len(bad)} of {len(images)} images of the batch have {what} that are "
                f"not finite: {shown}", bad,
            )  # fmt: skip
    return error


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
