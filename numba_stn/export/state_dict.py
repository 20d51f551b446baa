"""A network's arrays under PyTorch's names."""

from typing import Any

import numpy as np

from ..nn.base import Layer
from ..nn.containers import Branches, MeanOfViews, Serial
from ..nn.normalisation import BatchNorm
from ..nn.poses import WithTheta
from ..nn.rounds import round_states
from ..nn.transformer import SpatialTransformer
from ..nn.tree import Tree
from ..utils.namespace import to_host


def state_dict(net: Layer, params: Tree, state: Tree = ()) -> dict[str, Any]:
    """Export a network's parameters and state as a PyTorch ``state_dict`` of NumPy arrays.

    Names are PyTorch's for the same modules in a ``torch.nn.Sequential``: "3.weight",
    "4.running_mean". A transformer has "localisation.0.weight" and so on, and "head.weight" and
    "head.bias" for the layer that gives its parameters. With several rounds it has
    "localisation_2.0.weight" and so on, with the same weights and each round's own statistics of
    batch normalisation. The names in a mean of views, and after ``with_theta``, begin with
    "layer.". Shapes are PyTorch's too: (out, in) for linear layers, (out, in, height, width) for
    convolutions.

    Parameters
    ----------
    net : Layer
    params, state : trees
        The network's.

    Returns
    -------
    dict of str to array

    Examples
    --------
    >>> import numpy as np
    >>> from numba_stn import export, nn
    >>> net = nn.serial(nn.conv2d(4, 3), nn.batch_norm(), nn.flatten(), nn.linear(2))
    >>> params = net.init(np.random.default_rng(0), (1, 5, 5))
    >>> list(export.state_dict(net, params, net.init_state((1, 5, 5))))[:4]
    ['0.weight', '0.bias', '1.weight', '1.bias']
    """
    arrays = _named_arrays(net, params, state)
    return {name: np.ascontiguousarray(to_host(array)) for name, array in arrays.items()}


def _named_arrays(layer, params, state):
    """The layer's arrays, with their names in the layer."""
    if isinstance(layer, (Serial, Branches)):
        found: dict[str, Any] = {}
        for n, part in enumerate(layer.layers):
            arrays = _named_arrays(part, params[n], state[n] if state else ())
            found |= _prefixed(str(n), arrays)
        return found
    if isinstance(layer, (MeanOfViews, WithTheta)):
        return _prefixed("layer", _named_arrays(layer.layer, params, state))
    if isinstance(layer, SpatialTransformer):
        own = params["localisation"]
        arrays = {}
        for name, its in zip(localisation_names(layer), round_states(layer, state), strict=True):
            arrays |= _prefixed(name, _named_arrays(layer.localisation, own["features"], its))
        return arrays | _prefixed("head", own["head"])
    if isinstance(layer, BatchNorm):
        return {
            "weight": params["scale"],
            "bias": params["shift"],
            "running_mean": state["mean"],
            "running_var": state["var"],
        }
    return dict(params) if params else {}


def localisation_names(layer: SpatialTransformer) -> list[str]:
    """The names of a transformer's localisation in each of its rounds."""
    return ["localisation", *(f"localisation_{k}" for k in range(2, layer.rounds + 1))]


def _prefixed(prefix, arrays):
    return {f"{prefix}.{name}": array for name, array in arrays.items()}
