"""Export of a network as a PyTorch module."""

from typing import Any

from ..nn.base import Layer
from ..nn.containers import MeanOfViews, Parallel, Serial
from ..nn.convolution import Conv2d
from ..nn.dense import Flatten, Linear, Relu
from ..nn.dropout import Dropout
from ..nn.normalisation import BatchNorm
from ..nn.pooling import AvgPool, MaxPool
from ..nn.transformer import SpatialTransformer
from ..nn.tree import Tree
from .constants import ExportError, check_sampler, output_points, theta_matrix, tps_grid_matrix
from .state_dict import state_dict


def to_torch(net: Layer, params: Tree, state: Tree, shape: tuple[int, ...]) -> Any:
    """Export a network as a ``torch.nn.Module``, which can be trained further.

    Parameters
    ----------
    net : Layer
    params, state : trees
        The network's.
    shape : (C, H, W)
        Of one input image.

    Returns
    -------
    torch.nn.Module
        In evaluation mode. Its ``state_dict`` has the names of :func:`state_dict`.

    Raises
    ------
    ExportError
        If a layer or a transform has no counterpart in PyTorch.
    ImportError
        If PyTorch is missing.
    """
    import torch

    module = _module(net, shape)
    arrays = state_dict(net, params, state)
    loaded = module.load_state_dict(
        {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}, strict=False
    )
    missing = [n for n in loaded.missing_keys if not n.endswith("num_batches_tracked")]
    if missing or loaded.unexpected_keys:
        raise ExportError(
            f"expected the same names in both, got {missing} in PyTorch's module only and "
            f"{loaded.unexpected_keys} in the network only"
        )
    return module.eval()


def _module(layer, shape):
    """The module of a layer, with initial parameters."""
    from torch import nn

    if isinstance(layer, Serial):
        parts = []
        for part in layer.layers:
            parts.append(_module(part, shape))
            shape = part.output_shape(shape)
        return nn.Sequential(*parts)
    if isinstance(layer, Parallel):
        return _parallel([_module(part, shape) for part in layer.layers])
    if isinstance(layer, MeanOfViews):
        return _mean_of_views(layer, shape)
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


def _parallel(modules):
    import torch

    class Parallel(torch.nn.ModuleList):
        def forward(self, x):
            return torch.cat([module(x) for module in self], 1)

    return Parallel(modules)


def _mean_of_views(layer, shape):
    import torch

    view_shape = layer.view_shape(shape)

    class MeanOfViews(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = _module(layer.layer, view_shape)

        def forward(self, x):
            y = self.layer(x.reshape(-1, *view_shape))
            return y.reshape(-1, layer.views, *y.shape[1:]).mean(1)

    return MeanOfViews()


def _transformer(layer, shape):
    """Localisation and head, and the warp by their theta."""
    import torch
    from torch.nn import functional

    check_sampler(layer)
    options = {"padding_mode": layer.padding_mode, "align_corners": layer.align_corners}
    (features,) = layer.localisation.output_shape(shape)
    grid_of = _grid_function(layer, shape)

    class SpatialTransformer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.localisation = _module(layer.localisation, shape)
            self.head = torch.nn.Linear(features, layer.transform.size)

        def forward(self, x):
            raw = self.head(self.localisation(x))
            images = x.repeat_interleave(layer.views, 0) if layer.view_angles else x
            samples = functional.grid_sample(images, grid_of(raw), **options)
            return samples.reshape(-1, *layer.output_shape(shape))

    return SpatialTransformer()


def _grid_function(layer, shape):
    """The function from the transform's parameters (N, P) to the grid (N K, H_out, W_out, 2)."""
    import torch
    from torch.nn import functional

    transform, size, align = layer.transform, layer.size or shape[1:], layer.align_corners
    weight, bias = map(torch.from_numpy, theta_matrix(layer))

    def grid_of(raw):
        theta = (raw @ weight.to(raw).T + bias.to(raw)).reshape(-1, *transform.shape)
        if transform.kind == "affine":
            out_shape = [len(theta), shape[0], *size]
            return functional.affine_grid(theta, out_shape, align_corners=align)
        if transform.kind == "tps":
            matrix = torch.from_numpy(tps_grid_matrix(transform, size, align))
            return (matrix.to(raw) @ theta).reshape(-1, *size, 2)
        points = torch.from_numpy(output_points(size, align))
        u, v, w = (theta @ points.to(raw)).unbind(1)
        return torch.stack([u / w, v / w], -1).reshape(-1, *size, 2)

    return grid_of
