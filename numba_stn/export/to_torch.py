"""A network as a PyTorch module."""

from typing import Any

from ..nn.images import AvgPool, Conv2d, MaxPool
from ..nn.layer import Layer
from ..nn.layers import Averaged, BatchNorm, Flatten, Linear, Parallel, Relu, Serial
from ..nn.noise import Dropout
from ..nn.transformer import SpatialTransformer
from ..nn.tree import Tree
from .maps import ExportError, base_points, check, linear_map, spline_matrix
from .names import state_dict


def to_torch(net: Layer, params: Tree, state: Tree, shape: tuple[int, ...]) -> Any:
    """The network as a ``torch.nn.Module`` with the same numbers, ready to go on learning.

    Parameters
    ----------
    net : Layer
    params, state : trees
        The network's.
    shape : (C, H, W)
        Of what it reads.

    Returns
    -------
    torch.nn.Module
        Whose ``state_dict`` has :func:`state_dict`'s names, in evaluation mode.

    Raises
    ------
    ExportError
        If a layer or a transform has no counterpart.
    ImportError
        Without PyTorch.
    """
    import torch

    module = _module(net, shape)
    numbers = state_dict(net, params, state)
    loaded = module.load_state_dict(
        {name: torch.from_numpy(array.copy()) for name, array in numbers.items()}, strict=False
    )
    left = [n for n in loaded.missing_keys if not n.endswith("num_batches_tracked")]
    if left or loaded.unexpected_keys:
        raise ExportError(f"expected the same names, got {left} and {loaded.unexpected_keys}")
    return module.eval()


def _module(layer, shape):
    """The module of one layer, its numbers not yet set."""
    from torch import nn

    if isinstance(layer, Serial):
        parts = []
        for part in layer.layers:
            parts.append(_module(part, shape))
            shape = part.output_shape(shape)
        return nn.Sequential(*parts)
    if isinstance(layer, Parallel):
        return _joined([_module(part, shape) for part in layer.layers])
    if isinstance(layer, Averaged):
        return _averaged(layer, shape)
    if isinstance(layer, SpatialTransformer):
        return _transformer(layer, shape)
    if isinstance(layer, Linear):
        return nn.Linear(shape[0], layer.features)
    if isinstance(layer, Conv2d):
        return nn.Conv2d(shape[0], layer.features, layer.kernel, layer.stride, layer.padding)
    if isinstance(layer, BatchNorm):
        kind = nn.BatchNorm1d if len(shape) == 1 else nn.BatchNorm2d
        return kind(shape[0], layer.epsilon, 1 - layer.momentum)
    if isinstance(layer, MaxPool):
        return nn.MaxPool2d(layer.kernel)
    if isinstance(layer, AvgPool):
        return nn.AvgPool2d(layer.kernel)
    if isinstance(layer, Relu):
        return nn.ReLU()
    if isinstance(layer, Flatten):
        return nn.Flatten()
    if isinstance(layer, Dropout):
        return nn.Dropout(layer.share)
    raise ExportError(f"{layer!r} has no counterpart in PyTorch")


def _joined(modules):
    import torch

    class Parallel(torch.nn.ModuleList):
        def forward(self, x):
            return torch.cat([module(x) for module in self], 1)

    return Parallel(modules)


def _averaged(layer, shape):
    import torch

    each = layer.each(shape)

    class Averaged(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.each = _module(layer.layer, each)

        def forward(self, x):
            said = self.each(x.reshape(-1, *each))
            return said.reshape(-1, layer.readings, *said.shape[1:]).mean(1)

    return Averaged()


def _transformer(layer, shape):
    """localisation, head, and the warp that follows from their result."""
    import torch
    from torch.nn import functional

    check(layer)
    transform = layer.transform
    options = {"padding_mode": layer.padding_mode, "align_corners": layer.align_corners}
    size = layer.size or shape[1:]
    (features,) = layer.localisation.output_shape(shape)

    class SpatialTransformer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.localisation = _module(layer.localisation, shape)
            self.head = torch.nn.Linear(features, transform.size)

        def forward(self, x):
            raw = self.head(self.localisation(x))
            each = x.repeat_interleave(layer.readings, 0) if layer.turns else x
            samples = functional.grid_sample(each, grid_of(raw), **options)
            return samples.reshape(-1, *layer.output_shape(shape))

    weight, bias = map(torch.from_numpy, linear_map(layer))

    def grid_of(raw):
        theta = (raw @ weight.to(raw).T + bias.to(raw)).reshape(-1, *transform.shape)
        if transform.kind == "affine":
            whole = [len(theta), shape[0], *size]
            return functional.affine_grid(theta, whole, align_corners=layer.align_corners)
        if transform.kind == "tps":
            matrix = torch.from_numpy(spline_matrix(transform, size, layer.align_corners))
            return (matrix.to(raw) @ theta).reshape(-1, *size, 2)
        points = torch.from_numpy(base_points(size, layer.align_corners))
        u, v, w = (theta @ points.to(raw)).unbind(1)
        return torch.stack([u / w, v / w], -1).reshape(-1, *size, 2)

    return SpatialTransformer()
