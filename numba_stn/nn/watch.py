"""What the transformers inside a network do: their inputs, their samples, and the coverage.

A transformer that is thrown off its image reads zeros everywhere, gets no gradient, and never
returns. Its coverage, the share of its samples that lies inside the image, says so at once.
"""

from typing import Any, NamedTuple

from ..utils.namespace import to_device_of, to_host
from .layer import Layer
from .layers import Averaged, Parallel, Serial
from .train import Learner
from .transformer import SpatialTransformer
from .tree import Tree, leaves


class Seen(NamedTuple):
    """One transformer at work, in NumPy's arrays.

    ``before`` (N, C, H, W) is what it was given, ``after`` (N, C, H_out, W_out) what it made of
    that, and ``covered`` (N, H_out, W_out) how much of each sample came from inside. With K turns
    ``after`` is (N, K C, H_out, W_out), and ``covered`` their mean; what is averaged over readings
    is seen at the first of them.
    """

    before: Any
    after: Any
    covered: Any

    @property
    def coverage(self) -> float:
        """Mean share of the samples that comes from inside, in percent."""
        return 100 * float(self.covered.mean())


def watch(net: Layer, learner: Learner, images: Any) -> list[Seen]:
    """Each transformer of the network, in the order in which it meets them; none without one.

    Parameters
    ----------
    net : Layer
    learner : Learner
    images : (N, C, H, W) array
        Of NumPy; they are copied to where the learner is.
    """
    if not _has_transformer(net):
        return []
    there = to_device_of(images, *(leaf for _, leaf in leaves(learner.params)))
    seen: list[Seen] = []
    _output(_needed(net), learner.params, there, learner.state, seen)
    return seen


def _needed(net: Layer) -> Layer:
    """The network without what comes behind its last transformer."""
    if not isinstance(net, Serial):
        return net
    last = max(n for n, part in enumerate(net.layers) if _has_transformer(part))
    return Serial(net.layers[: last + 1])


def _output(layer: Layer, params: Tree, x: Any, state: Tree, seen: list[Seen]) -> Any:
    """The layer's output; the transformers that are met are added to ``seen``."""
    if isinstance(layer, SpatialTransformer):
        samples, covered = layer.covered(params, x, state)
        seen.append(Seen(to_host(x), to_host(samples), to_host(covered)))
        return samples
    if isinstance(layer, Averaged) and _has_transformer(layer):  # of several readings, the first
        _output(layer.layer, params, x[:, : x.shape[1] // layer.readings], state, seen)
    if not isinstance(layer, (Serial, Parallel)) or not _has_transformer(layer):
        return layer.apply(params, x, state)[0]
    parts = zip(layer.layers, params, state, strict=False)
    if isinstance(layer, Parallel):
        return layer.joined([_output(part, own, x, past, seen) for part, own, past in parts])
    for part, own, past in parts:
        x = _output(part, own, x, past, seen)
    return x


def _has_transformer(layer: Layer) -> bool:
    if isinstance(layer, (Serial, Parallel)):
        return any(_has_transformer(part) for part in layer.layers)
    if isinstance(layer, Averaged):
        return _has_transformer(layer.layer)
    return isinstance(layer, SpatialTransformer)
