"""A network as an ONNX model of opset 20."""

from typing import Any

import numpy as np

from .. import __version__
from ..nn.images import AvgPool, Conv2d, MaxPool
from ..nn.layer import Layer
from ..nn.layers import Averaged, BatchNorm, Flatten, Linear, Parallel, Relu, Serial
from ..nn.noise import Dropout
from ..nn.transformer import SpatialTransformer
from ..nn.tree import Tree
from .maps import ExportError, base_points, check, linear_map, spline_matrix
from .names import state_dict

OPSET = 20


def to_onnx(net: Layer, params: Tree, state: Tree, shape: tuple[int, ...]) -> Any:
    """The network as an ``onnx.ModelProto``, checked by the onnx package.

    It has one input, ``images`` ``(N, *shape)`` of float32 with any N, and one output, ``logits``.
    Weights have :func:`state_dict`'s names.

    Parameters
    ----------
    net : Layer
    params, state : trees
        The network's.
    shape : (C, H, W)
        Of what it reads.

    Raises
    ------
    ExportError
        If a layer or a transform has no counterpart.
    ImportError
        Without the package onnx.
    """
    import onnx
    from onnx import TensorProto, helper

    graph = _Graph(state_dict(net, params, state))
    last = graph.layer(net, "images", "", shape)
    graph.node("Identity", [last], "logits")
    given = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", *shape])
    made = helper.make_tensor_value_info(
        "logits", TensorProto.FLOAT, ["N", *net.output_shape(shape)]
    )
    body = helper.make_graph(graph.nodes, "network", [given], [made], graph.constants())
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(body, opset_imports=[opset], ir_version=9,
                              producer_name="numba_stn", producer_version=__version__)  # fmt: skip
    onnx.checker.check_model(model, full_check=True)
    return model


class _Graph:
    """Nodes and constants, as they are added."""

    def __init__(self, numbers):
        self.numbers = dict(numbers)
        self.nodes = []

    def node(self, kind, inputs, output, **attributes):
        """One operator; its output's name."""
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def constant(self, name, value):
        """One constant; its name."""
        self.numbers[name] = value
        return name

    def constants(self):
        from onnx import numpy_helper

        return [numpy_helper.from_array(value, name) for name, value in self.numbers.items()]

    # --- Layers: each adds its operators and names its output ---

    def layer(self, layer, x, path, shape):
        """Operators of a layer that reads ``x``, whose numbers' names begin with ``path``."""
        y, window = f"{path}y", {}
        if isinstance(layer, Serial):
            for n, part in enumerate(layer.layers):
                x = self.layer(part, x, f"{path}{n}.", shape)
                shape = part.output_shape(shape)
            return x
        if isinstance(layer, Parallel):
            parts = [self.layer(p, x, f"{path}{n}.", shape) for n, p in enumerate(layer.layers)]
            return self.node("Concat", parts, y, axis=1)
        if isinstance(layer, Averaged):
            return self.averaged(layer, x, path, shape)
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

    def averaged(self, layer, x, path, shape):
        """Each reading as an image of its own, and the mean of what is said of an image's."""
        each = layer.each(shape)
        x = self.reshaped(x, f"{path}apart", each)
        y = self.layer(layer.layer, x, f"{path}each.", each)
        said = (layer.readings, *layer.output_shape(shape))
        axis = self.constant(f"{path}axis", np.array([1], np.int64))
        return self.node("ReduceMean", [self.reshaped(y, f"{path}said", said), axis],
                         f"{path}mean", keepdims=0)  # fmt: skip

    def transformer(self, layer, x, path, shape):
        """Localisation, theta, the grid, and the samples."""
        transform = layer.transform
        check(layer)
        features = self.layer(layer.localisation, x, f"{path}localisation.", shape)
        raw = self.node("Gemm", [features, f"{path}head.weight", f"{path}head.bias"],
                        f"{path}raw", transB=1)  # fmt: skip
        weight, bias = linear_map(layer)
        flat = self.node("Gemm", [raw, self.constant(f"{path}to_theta", weight),
                                  self.constant(f"{path}to_theta_bias", bias)],
                         f"{path}flat", transB=1)  # fmt: skip
        theta = self.reshaped(flat, f"{path}theta", transform.shape)
        if layer.turns:  # as many images as maps
            copies = self.node("Concat", [x] * layer.readings, f"{path}copies", axis=1)
            x = self.reshaped(copies, f"{path}apart", shape)
        size = layer.size or shape[1:]
        grid = {"affine": self.affine, "projective": self.projective, "tps": self.spline}[
            transform.kind
        ](layer, theta, x, path, size)
        y = self.node(
            "GridSample", [x, grid], f"{path}y", mode="linear", padding_mode=layer.padding_mode,
            align_corners=int(layer.align_corners),
        )  # fmt: skip
        return self.reshaped(y, f"{path}readings", layer.output_shape(shape)) if layer.turns else y

    def reshaped(self, x, name, shape):
        """``(N, *shape)``."""
        sides = self.constant(f"{name}_shape", np.array([-1, *shape], np.int64))
        return self.node("Reshape", [x, sides], name)

    # --- Grids ---

    def affine(self, layer, theta, x, path, size):
        """By ONNX's own operator, which is told N, C and the sides."""
        sides = self.node("Shape", [x], f"{path}sides")
        begin = self.node("Slice", [
            sides, self.constant(f"{path}from", np.array([0], np.int64)),
            self.constant(f"{path}to", np.array([2], np.int64)),
        ], f"{path}begin")  # fmt: skip
        end = self.constant(f"{path}size", np.array(size, np.int64))
        whole = self.node("Concat", [begin, end], f"{path}whole", axis=0)
        return self.node("AffineGrid", [theta, whole], f"{path}grid",
                         align_corners=int(layer.align_corners))  # fmt: skip

    def projective(self, layer, theta, x, path, size):
        """``(u / w, v / w)`` with ``(u, v, w) = theta @ (x, y, 1)``."""
        points = self.constant(f"{path}points", base_points(size, layer.align_corners))
        product = self.node("MatMul", [theta, points], f"{path}product")
        ends = self.constant(f"{path}ends", np.array([2, 1], np.int64))
        self.nodes.append(self._split(product, ends, path))
        ratio = self.node("Div", [f"{path}uv", f"{path}w"], f"{path}ratio")
        last = self.node("Transpose", [ratio], f"{path}pairs", perm=[0, 2, 1])
        return self.reshaped(last, f"{path}grid", (*size, 2))

    @staticmethod
    def _split(product, ends, path):
        from onnx import helper

        return helper.make_node("Split", [product, ends], [f"{path}uv", f"{path}w"], axis=1)

    def spline(self, layer, theta, x, path, size):
        """A matrix by the control points."""
        matrix = spline_matrix(layer.transform, size, layer.align_corners)
        pairs = self.node("MatMul", [self.constant(f"{path}spline", matrix), theta],
                          f"{path}pairs")  # fmt: skip
        return self.reshaped(pairs, f"{path}grid", (*size, 2))
