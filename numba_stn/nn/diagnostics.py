"""Diagnostics of the transformers in a network: their inputs, samples and coverage.

A transformer that samples outside its image reads zeros, gets no gradient, and never returns. Its
coverage, the share of its samples inside the image, shows this at once.
"""

from typing import Any, NamedTuple

from ..utils.namespace import to_device_of, to_host
from .base import Layer
from .containers import Branches, MeanOfViews, Serial
from .train import Learner
from .transformer import SpatialTransformer
from .tree import Tree, leaves


class TransformerOutput(NamedTuple):
    """What one transformer did with a batch, as NumPy arrays.

    Attributes
    ----------
    before : (N, C, H, W) array
        Its input.
    after : (N, C, H_out, W_out) array
        Its output; with K views (N, K C, H_out, W_out).
    covered : (N, H_out, W_out) array
        The share of each sample that comes from inside the image; with K views, the mean over
        them.
    theta : (N, ...) array
        The maps that it predicts, see :mod:`numba_stn.transforms`; with K views (N K, ...).

    A transformer inside :func:`numba_stn.nn.mean_of_views` is observed on the first view.
    """

    before: Any
    after: Any
    covered: Any
    theta: Any

    @property
    def coverage(self) -> float:
        """Mean share of the samples that comes from inside the image, in percent."""
        return 100 * float(self.covered.mean())


def observe_transformers(net: Layer, learner: Learner, images: Any) -> list[TransformerOutput]:
    """Apply a network and record the input, output and coverage of each of its transformers.

    Parameters
    ----------
    net : Layer
    learner : Learner
    images : (N, C, H, W) array
        Of NumPy. They are copied to the GPU if the learner is there.

    Returns
    -------
    list of TransformerOutput
        In the order in which the network applies them; empty if it has none.
    """
    if not _has_transformer(net):
        return []
    x = to_device_of(images, *(leaf for _, leaf in leaves(learner.params)))
    outputs: list[TransformerOutput] = []
    _apply(_up_to_last_transformer(net), learner.params, x, learner.state, outputs)
    return outputs


def _up_to_last_transformer(net: Layer) -> Layer:
    """The network without the layers after its last transformer."""
    if not isinstance(net, Serial):
        return net
    last = max(n for n, layer in enumerate(net.layers) if _has_transformer(layer))
    return Serial(net.layers[: last + 1])


def _apply(
    layer: Layer, params: Tree, x: Any, state: Tree, outputs: list[TransformerOutput]
) -> Any:
    """The layer's output; appends those of its transformers to ``outputs``."""
    if isinstance(layer, SpatialTransformer):
        samples, covered, theta = layer.apply_with_coverage(params, x, state)
        outputs.append(TransformerOutput(*map(to_host, (x, samples, covered, theta))))
        return samples
    if isinstance(layer, MeanOfViews) and _has_transformer(layer):  # observed on the first view
        _apply(layer.layer, params, x[:, : x.shape[1] // layer.views], state, outputs)
    if not isinstance(layer, (Serial, Branches)) or not _has_transformer(layer):
        return layer.apply(params, x, state)[0]
    states = state or ((),) * len(params)  # an empty state means that no layer has any
    parts = zip(layer.layers, params, states, strict=False)
    if isinstance(layer, Branches):
        return layer.combined([_apply(part, p, x, s, outputs) for part, p, s in parts])
    for part, part_params, part_state in parts:
        x = _apply(part, part_params, x, part_state, outputs)
    return x


def _has_transformer(layer: Layer) -> bool:
    if isinstance(layer, (Serial, Branches)):
        return any(_has_transformer(part) for part in layer.layers)
    if isinstance(layer, MeanOfViews):
        return _has_transformer(layer.layer)
    return isinstance(layer, SpatialTransformer)
