"""A network's numbers under PyTorch's names."""

from typing import Any

import numpy as np

from ..nn.layer import Layer
from ..nn.layers import Averaged, BatchNorm, Parallel, Serial
from ..nn.transformer import SpatialTransformer
from ..nn.tree import Tree
from ..utils.namespace import to_host


def state_dict(net: Layer, params: Tree, state: Tree = ()) -> dict[str, Any]:
    """The network's numbers as a PyTorch ``state_dict``, of NumPy's arrays.

    Names are PyTorch's for the same modules in a ``torch.nn.Sequential``: "3.weight",
    "4.running_mean". A transformer's are "localisation.0.weight" and so on, and "head.weight",
    "head.bias" for the layer that gives its parameters; those of what is averaged over readings
    begin with "each.". Layouts are PyTorch's too: (out, in) for linear layers, (out, in, height,
    width) for convolutions.

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
    return {
        name: np.ascontiguousarray(to_host(a)) for name, a in _named(net, params, state).items()
    }


def _named(layer, params, state):
    """The layer's arrays under their names within it."""
    if isinstance(layer, (Serial, Parallel)):
        found: dict[str, Any] = {}
        for n, part in enumerate(layer.layers):
            own = _named(part, params[n], state[n] if state else ())
            found |= {f"{n}.{name}": array for name, array in own.items()}
        return found
    if isinstance(layer, Averaged):
        found = _named(layer.layer, params, state)
        return {f"each.{name}": array for name, array in found.items()}
    if isinstance(layer, SpatialTransformer):
        own = params["localisation"]
        features = _named(layer.localisation, own["features"], state)
        found = {f"localisation.{name}": array for name, array in features.items()}
        return found | {f"head.{name}": array for name, array in own["head"].items()}
    if isinstance(layer, BatchNorm):
        return {
            "weight": params["scale"],
            "bias": params["shift"],
            "running_mean": state["mean"],
            "running_var": state["var"],
        }
    return dict(params) if params else {}
