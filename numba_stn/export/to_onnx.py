"""Export of a network as an ONNX model of opset 20."""

from typing import Any

import numpy as np

from .. import __version__
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

OPSET = 20


def to_onnx(net: Layer, params: Tree, state: Tree, shape: tuple[int, ...]) -> Any:
    """Export a network as an ``onnx.ModelProto``, checked by the onnx package.

    The model has one input, ``images`` ``(N, *shape)`` of float32 with any N, and one output,
    ``logits``. Weights have the names of :func:`state_dict`.

    Parameters
    ----------
    net : Layer
    params, state : trees
        The network's.
    shape : (C, H, W)
        Of one input image.

    Returns
    -------
    onnx.ModelProto

    Raises
    ------
    ExportError
        If a layer or a transform has no counterpart in ONNX.
    ImportError
        If the package onnx is missing.
    """
    import onnx
    from onnx import TensorProto, helper

    graph = _Graph(state_dict(net, params, state))
    last = graph.layer(net, "images", "", shape)
    graph.node("Identity", [last], "logits")
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", *shape])
    logits = helper.make_tensor_value_info(
        "logits", TensorProto.FLOAT, ["N", *net.output_shape(shape)]
    )
    body = helper.make_graph(graph.nodes, "network", [images], [logits], graph.initializers())
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(body, opset_imports=[opset], ir_version=9,
                              producer_name="numba_stn", producer_version=__version__)  # fmt: skip
    onnx.checker.check_model(model, full_check=True)
    return model


class _Graph:
    """The nodes and constants of a graph, to which the layers are added."""

    def __init__(self, arrays):
        self.arrays = dict(arrays)
        self.nodes = []

    def node(self, kind, inputs, output, **attributes):
        """Add an operator; returns the name of its output."""
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def constant(self, name, value):
        """Add a constant; returns its name."""
        self.arrays[name] = value
        return name

    def initializers(self):
        """All constants, as ONNX has them."""
        from onnx import numpy_helper

        return [numpy_helper.from_array(value, name) for name, value in self.arrays.items()]

    # --- Layers: each method adds the operators and returns the name of the output ---

    def layer(self, layer, x, path, shape):
        """A layer with the input ``x``; the names of its arrays begin with ``path``."""
        y, window = f"{path}y", {}
        if isinstance(layer, Serial):
            for n, part in enumerate(layer.layers):
                x = self.layer(part, x, f"{path}{n}.", shape)
                shape = part.output_shape(shape)
            return x
        if isinstance(layer, Parallel):
            parts = [self.layer(p, x, f"{path}{n}.", shape) for n, p in enumerate(layer.layers)]
            return self.node("Concat", parts, y, axis=1)
        if isinstance(layer, MeanOfViews):
            return self.mean_of_views(layer, x, path, shape)
        if isinstance(layer, SpatialTransformer):
            return self.transformer(layer, x, path, shape)
        if isinstance(layer, Linear):
            return self.node("Gemm", [x, f"{path}weight", f"{path}bias"], y, transB=1)
        if isinstance(layer, Conv2d):
            window = {"strides": [layer.stride] * 2, "pads": [layer.padding] * 4}
            return self.node("Conv", [x, f"{path}weight", f"{path}bias"], y, **window)
        if isinstance(layer, BatchNorm):
            names = [path + name for name in ("weight", "bias", "running_mean", "running_var")]
            return self.node("BatchNormalization", [x, *names], y, epsilon=layer.epsilon)
        if isinstance(layer, (MaxPool, AvgPool)):
            kind = "MaxPool" if isinstance(layer, MaxPool) else "AveragePool"
            window = {"kernel_shape": [layer.kernel] * 2, "strides": [layer.kernel] * 2}
            return self.node(kind, [x], y, **window)
        if isinstance(layer, Relu):
            return self.node("Relu", [x], y)
        if isinstance(layer, Flatten):
            return self.node("Flatten", [x], y)
        if isinstance(layer, Dropout):
            return x
        raise ExportError(f"{layer!r} has no counterpart in ONNX")

    def mean_of_views(self, layer, x, path, shape):
        """The layer on each view as an image of its own, and the mean of its outputs."""
        view_shape = layer.view_shape(shape)
        x = self.reshape(x, f"{path}views", view_shape)
        y = self.layer(layer.layer, x, f"{path}layer.", view_shape)
        outputs = self.reshape(y, f"{path}outputs", (layer.views, *layer.output_shape(shape)))
        axis = self.constant(f"{path}axis", np.array([1], np.int64))
        return self.node("ReduceMean", [outputs, axis], f"{path}mean", keepdims=0)

    def transformer(self, layer, x, path, shape):
        """Localisation, theta, grid and samples."""
        transform = layer.transform
        check_sampler(layer)
        features = self.layer(layer.localisation, x, f"{path}localisation.", shape)
        raw = self.node("Gemm", [features, f"{path}head.weight", f"{path}head.bias"],
                        f"{path}raw", transB=1)  # fmt: skip
        weight, bias = theta_matrix(layer)
        flat = self.node("Gemm", [raw, self.constant(f"{path}to_theta", weight),
                                  self.constant(f"{path}to_theta_bias", bias)],
                         f"{path}flat", transB=1)  # fmt: skip
        theta = self.reshape(flat, f"{path}theta", transform.shape)
        if layer.view_angles:  # one image for each theta
            copies = self.node("Concat", [x] * layer.views, f"{path}copies", axis=1)
            x = self.reshape(copies, f"{path}repeated", shape)
        size = layer.size or shape[1:]
        grids = {"affine": self.affine_grid, "projective": self.projective_grid,
                 "tps": self.tps_grid}  # fmt: skip
        grid = grids[transform.kind](layer, theta, x, path, size)
        y = self.node(
            "GridSample", [x, grid], f"{path}y", mode="linear", padding_mode=layer.padding_mode,
            align_corners=int(layer.align_corners),
        )  # fmt: skip
        if not layer.view_angles:
            return y
        return self.reshape(y, f"{path}channels", layer.output_shape(shape))

    def reshape(self, x, name, shape):
        """``x`` reshaped to ``(N, *shape)``."""
        sides = self.constant(f"{name}_shape", np.array([-1, *shape], np.int64))
        return self.node("Reshape", [x, sides], name)

    # --- Grids ---

    def affine_grid(self, layer, theta, x, path, size):
        """ONNX's own operator, whose second input is the output's shape (N, C, H, W)."""
        sides = self.node("Shape", [x], f"{path}sides")
        begin = self.node("Slice", [
            sides, self.constant(f"{path}from", np.array([0], np.int64)),
            self.constant(f"{path}to", np.array([2], np.int64)),
        ], f"{path}begin")  # fmt: skip
        end = self.constant(f"{path}size", np.array(size, np.int64))
        out_shape = self.node("Concat", [begin, end], f"{path}out_shape", axis=0)
        return self.node("AffineGrid", [theta, out_shape], f"{path}grid",
                         align_corners=int(layer.align_corners))  # fmt: skip

    def projective_grid(self, layer, theta, x, path, size):
        """``(u / w, v / w)`` with ``(u, v, w) = theta @ (x, y, 1)``."""
        points = self.constant(f"{path}points", output_points(size, layer.align_corners))
        product = self.node("MatMul", [theta, points], f"{path}product")
        ends = self.constant(f"{path}ends", np.array([2, 1], np.int64))
        self.nodes.append(self._split(product, ends, path))
        ratio = self.node("Div", [f"{path}uv", f"{path}w"], f"{path}ratio")
        last = self.node("Transpose", [ratio], f"{path}pairs", perm=[0, 2, 1])
        return self.reshape(last, f"{path}grid", (*size, 2))

    @staticmethod
    def _split(product, ends, path):
        from onnx import helper

        return helper.make_node("Split", [product, ends], [f"{path}uv", f"{path}w"], axis=1)

    def tps_grid(self, layer, theta, x, path, size):
        """The product of a constant matrix and the control points."""
        matrix = tps_grid_matrix(layer.transform, size, layer.align_corners)
        pairs = self.node("MatMul", [self.constant(f"{path}spline", matrix), theta],
                          f"{path}pairs")  # fmt: skip
        return self.reshape(pairs, f"{path}grid", (*size, 2))
