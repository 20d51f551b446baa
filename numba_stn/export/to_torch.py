"""Export of a network as a PyTorch module."""

from typing import Any

from ..nn.activations import LeakyRelu, Sigmoid, Softmax, Tanh
from ..nn.base import Layer
from ..nn.containers import MeanOfViews, Parallel, Serial, Sum
from ..nn.convolution import Conv2d
from ..nn.dense import Flatten, Linear, Relu
from ..nn.dropout import Dropout
from ..nn.normalisation import BatchNorm
from ..nn.pooling import AvgPool, GlobalAvgPool, MaxPool
from ..nn.poses import Apart, WithTheta
from ..nn.transformer import SpatialTransformer
from ..nn.tree import Tree
from ..nn.volumes import AvgPool3d, Conv3d, MaxPool3d
from .constants import (
    ExportError,
    Preprocessing,
    check_activation,
    check_exportable,
    is_composed,
    output_points,
    theta_formula,
    tps_grid_matrix,
    view_matrices,
    zoom_matrix,
)
from .state_dict import localisation_names, state_dict


def to_torch(
    net: Layer,
    params: Tree,
    state: Tree,
    shape: tuple[int, ...],
    preprocessing: Preprocessing | None = None,
    activation: str | None = None,
) -> Any:
    """Export a network as a ``torch.nn.Module``, which can be trained further.

    Parameters
    ----------
    net : Layer
    params, state : trees
        The network's.
    shape : (C, H, W)
        Of one input image.
    preprocessing : Preprocessing, optional
        The input is then ``(N, H, W, C)``, of its dtype, and is standardised in the module, whose
        network is its attribute ``network``.
    activation : {"softmax", "sigmoid"}, optional
        The output is then this function of the logits, and the network is the attribute
        ``network`` too.

    Returns
    -------
    torch.nn.Module
        In evaluation mode. The network's ``state_dict`` has the names of :func:`state_dict`.

    Raises
    ------
    ExportError
        If a layer or a transform has no counterpart in PyTorch.
    ValueError
        If an argument does not fit.
    ImportError
        If PyTorch is missing.
    """
    import torch

    check_exportable(net)
    check_activation(activation)
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
    if preprocessing is not None or activation:
        checked = preprocessing.checked(shape) if preprocessing else None
        module = _with_ends(module, checked, activation)
    return module.eval()


def _module(layer, shape):
    """The module of a layer, with initial parameters."""
    return _MODULES[type(layer)](layer, shape)


def _serial(layer, shape):
    from torch import nn

    parts = []
    for part in layer.layers:
        parts.append(_module(part, shape))
        shape = part.output_shape(shape)
    return nn.Sequential(*parts)


def _linear(layer, shape):
    from torch import nn

    return nn.Linear(shape[0], layer.features)


def _convolution(layer, shape):
    """PyTorch's own; if the zeros around the images differ from side to side, they are added."""
    import torch

    top, bottom, left, right = layer.margins(shape[1:])
    arguments = shape[0], layer.features, layer.kernel, layer.stride
    if (top, left) == (bottom, right):
        return torch.nn.Conv2d(*arguments, (top, left))

    class Conv2d(torch.nn.Conv2d):
        def forward(self, x):
            return super().forward(torch.nn.functional.pad(x, (left, right, top, bottom)))

    return Conv2d(*arguments)


def _convolution_3d(layer, shape):
    """The same for volumes."""
    import torch

    margins = layer.margins(shape[1:])
    arguments = shape[0], layer.features, layer.kernel, layer.stride
    if all(before == after for before, after in margins):
        return torch.nn.Conv3d(*arguments, tuple(before for before, _ in margins))
    around = [number for margin in reversed(margins) for number in margin]

    class Conv3d(torch.nn.Conv3d):
        def forward(self, x):
            return super().forward(torch.nn.functional.pad(x, around))

    return Conv3d(*arguments)


def _batch_norm(layer, shape):
    from torch import nn

    kind = {1: nn.BatchNorm1d, 3: nn.BatchNorm2d, 4: nn.BatchNorm3d}.get(len(shape))
    if kind is None:
        raise ExportError(f"{layer!r}: no counterpart in PyTorch for inputs of shape {shape}")
    return kind(shape[0], layer.epsilon, 1 - layer.momentum)


def _pooling(layer, shape):
    from torch import nn

    kinds = {MaxPool: nn.MaxPool2d, AvgPool: nn.AvgPool2d, MaxPool3d: nn.MaxPool3d,
             AvgPool3d: nn.AvgPool3d}  # fmt: skip
    return kinds[type(layer)](layer.kernel)


def _global_pooling(layer, shape):
    import torch

    class GlobalAvgPool(torch.nn.Module):
        def forward(self, x):
            return x.flatten(2).mean(2)

    return GlobalAvgPool()


def _function(layer, shape):
    """A module without arrays of its own."""
    from torch import nn

    modules: dict[type[Layer], Any] = {
        Relu: nn.ReLU, LeakyRelu: lambda: nn.LeakyReLU(layer.slope), Tanh: nn.Tanh,
        Sigmoid: nn.Sigmoid, Softmax: lambda: nn.Softmax(1), Flatten: nn.Flatten,
        Dropout: lambda: nn.Dropout(layer.share),
    }  # fmt: skip
    return modules[type(layer)]()


def _branches(layer, shape):
    """The layers' outputs, concatenated along channels or added."""
    import torch

    added = isinstance(layer, Sum)

    class Branches(torch.nn.ModuleList):
        def forward(self, x):
            outputs = [module(x) for module in self]
            return sum(outputs[1:], outputs[0]) if added else torch.cat(outputs, 1)

    return Branches([_module(part, shape) for part in layer.layers])


def _with_ends(network, preprocessing, activation):
    """The network, after the preprocessing and before a function of its outputs, if any."""
    import torch

    class Pipeline(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network
            for name in ("mean", "deviation"):
                numbers = getattr(preprocessing, name, None)
                tensor = None if numbers is None else torch.from_numpy(numbers).float()
                self.register_buffer(name, tensor)

        def forward(self, images):
            if preprocessing is not None:
                images = (images.to(self.mean) - self.mean) / self.deviation
                images = images.permute(0, 3, 1, 2)
            outputs = self.network(images)
            if activation is None:
                return outputs
            return outputs.softmax(1) if activation == "softmax" else outputs.sigmoid()

    return Pipeline()


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


def _with_theta(layer, shape):
    import torch

    images = layer.image_shape(shape)

    class WithTheta(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = _module(layer.layer, images)

        def forward(self, x):
            theta = x[:, images[0] :].flatten(2)[:, :, 0]
            return torch.cat([self.layer(x[:, : images[0]]), theta], 1)

    return WithTheta()


def _transformer(layer, shape):
    """Localisation and head, and the warp by their theta; in each round the localisation's view."""
    import torch
    from torch.nn import functional

    options = {"padding_mode": layer.padding_mode, "align_corners": layer.align_corners}
    (features,) = layer.localisation.output_shape(shape)
    theta_of, grid_of = _theta_function(layer), _grid_function(layer)
    names, zoom = localisation_names(layer), torch.from_numpy(zoom_matrix(layer))
    rotations = torch.from_numpy(view_matrices(layer))

    class SpatialTransformer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            for name in names:
                self.add_module(name, _module(layer.localisation, shape))
                _tie(self.localisation, getattr(self, name))
            self.head = torch.nn.Linear(features, layer.transform.size)

        def forward(self, x):
            theta: Any = None
            seen = x
            for number, name in enumerate(names):
                step = theta_of(self.head(getattr(self, name)(seen)))
                theta = theta @ step if number else step
                if number + 1 < layer.rounds:
                    theta = theta @ zoom.to(theta)
                    seen = functional.grid_sample(x, grid_of(theta, x, shape[1:]), **options)
            if layer.view_angles:
                theta = (theta[:, None] @ rotations.to(theta)).flatten(0, 1)
                x = x.repeat_interleave(layer.views, 0)
            grid = grid_of(theta, x, layer.size or shape[1:])
            samples = functional.grid_sample(x, grid, **options)
            if layer.return_theta:
                entries = theta[:, : layer.transform.shape[0]].flatten(1)
                entries = entries.reshape(*entries.shape, *[1] * (samples.ndim - 2))
                samples = torch.cat([samples, entries.expand(-1, -1, *samples.shape[2:])], 1)
            return samples.reshape(-1, *layer.output_shape(shape))

    return SpatialTransformer()


def _tie(first, other):
    """Let a module share the parameters, but not the buffers, of another one of its kind."""
    for name, parameter in first.named_parameters():
        owner, _, leaf = name.rpartition(".")
        setattr(other.get_submodule(owner), leaf, parameter)


def _theta_function(layer):
    """The function from the transform's parameters (N, P) to one round's theta."""
    import torch

    formula = theta_formula(layer)
    weight, bias = torch.from_numpy(formula.weight), torch.from_numpy(formula.bias)
    rows, columns = layer.transform.shape
    sides = (columns, columns) if is_composed(layer) else (rows, columns)

    def theta_of(raw):
        terms = torch.stack(formula.compute_terms(lambda k: raw[:, k], _operation), 1)
        return (terms @ weight.to(raw).T + bias.to(raw)).reshape(-1, *sides)

    return theta_of


def _grid_function(layer):
    """The function from theta (N, ...), images and a size to the grid (N, ..., dimensions)."""
    import torch
    from torch.nn import functional

    transform, align = layer.transform, layer.align_corners

    def grid_of(theta, images, size):
        if transform.kind in ("affine", "affine 3-D"):
            out_shape = [len(theta), images.shape[1], *size]
            return functional.affine_grid(theta[:, : len(size)], out_shape, align_corners=align)
        if transform.kind == "tps":
            matrix = torch.from_numpy(tps_grid_matrix(transform, size, align))
            return (matrix.to(theta) @ theta).reshape(-1, *size, 2)
        points = torch.from_numpy(output_points(size, align))
        u, v, w = (theta @ points.to(theta)).unbind(1)
        return torch.stack([u / w, v / w], -1).reshape(-1, *size, 2)

    return grid_of


def _operation(name, *operands):
    """The result of an operation of expressions; an operand may be a number."""
    import operator

    import torch

    arithmetic = {"add": operator.add, "subtract": operator.sub, "multiply": operator.mul,
                  "divide": operator.truediv, "power": operator.pow}  # fmt: skip
    return (arithmetic[name] if name in arithmetic else getattr(torch, name))(*operands)


_MODULES = {
    Serial: _serial,
    Parallel: _branches,
    Sum: _branches,
    Apart: _branches,
    MeanOfViews: _mean_of_views,
    WithTheta: _with_theta,
    SpatialTransformer: _transformer,
    Linear: _linear,
    Conv2d: _convolution,
    Conv3d: _convolution_3d,
    BatchNorm: _batch_norm,
    MaxPool: _pooling,
    AvgPool: _pooling,
    MaxPool3d: _pooling,
    AvgPool3d: _pooling,
    GlobalAvgPool: _global_pooling,
    **dict.fromkeys((Relu, LeakyRelu, Tanh, Sigmoid, Softmax, Flatten, Dropout), _function),
}
