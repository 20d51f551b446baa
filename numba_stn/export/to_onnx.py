"""Export of a network as an ONNX model of opset 20 or newer."""

from typing import Any

import numpy as np

from .. import __version__
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

# The first opset that has AffineGrid and GridSample as they are used here.
OPSET = 20

# ONNX's operators for the operations of expressions, where the name is not the same.
OPERATORS = {
    "add": "Add", "subtract": "Sub", "multiply": "Mul", "divide": "Div", "negative": "Neg",
    "absolute": "Abs", "power": "Pow", "arcsin": "Asin", "arccos": "Acos", "arctan": "Atan",
}  # fmt: skip


def to_onnx(
    net: Layer,
    params: Tree,
    state: Tree,
    shape: tuple[int, ...],
    opset: int = OPSET,
    preprocessing: Preprocessing | None = None,
    activation: str | None = None,
) -> Any:
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
    opset : int
        Version of ONNX's operators, at least 20.
    preprocessing : Preprocessing, optional
        The input is then ``(N, H, W, C)``, of its dtype, and is standardised in the model.
    activation : {"softmax", "sigmoid"}, optional
        The output is then ``probabilities``: this function of the logits.

    Returns
    -------
    onnx.ModelProto

    Raises
    ------
    ExportError
        If a layer or a transform has no counterpart in ONNX.
    ValueError
        If the installed onnx does not know the opset, or another argument does not fit.
    ImportError
        If the package onnx is missing.
    """
    import onnx
    from onnx import TensorProto, helper

    check_exportable(net)
    check_activation(activation)
    newest = onnx.defs.onnx_opset_version()
    if isinstance(opset, bool) or not isinstance(opset, int) or not OPSET <= opset <= newest:
        raise ValueError(f"opset: expected a whole number from {OPSET} to {newest}, got {opset!r}")
    graph = _Graph(state_dict(net, params, state))
    kind, sides, x = "float32", list(shape), "images"
    if preprocessing is not None:
        preprocessing = preprocessing.checked(shape)
        kind, sides = preprocessing.dtype, [*shape[1:], shape[0]]
        x = graph.preprocessing(x, preprocessing)
    last = graph.layer(net, x, "", shape)
    name = "probabilities" if activation else "logits"
    graph.node(activation.capitalize() if activation else "Identity", [last], name,
               **{"axis": 1} if activation == "softmax" else {})  # fmt: skip
    element = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    images = helper.make_tensor_value_info("images", element, ["N", *sides])
    output = helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *net.output_shape(shape)])
    body = helper.make_graph(graph.nodes, "network", [images], [output], graph.initializers())
    opsets = [helper.make_opsetid("", opset)]
    model = helper.make_model(
        body, opset_imports=opsets, ir_version=helper.find_min_ir_version_for(opsets),
        producer_name="numba_stn", producer_version=__version__,
    )  # fmt: skip
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

    def reshape(self, x, name, shape):
        """``x`` reshaped to ``(N, *shape)``."""
        sides = self.constant(f"{name}_shape", np.array([-1, *shape], np.int64))
        return self.node("Reshape", [x, sides], name)

    def preprocessing(self, x, preprocessing):
        """Images (N, H, W, C) as the network takes them."""
        from onnx import TensorProto

        floats = self.node("Cast", [x], "floats", to=TensorProto.FLOAT)
        for kind, name, numbers in (("Sub", "mean", preprocessing.mean),
                                    ("Div", "deviation", preprocessing.deviation)):  # fmt: skip
            constant = self.constant(f"preprocessing.{name}", numbers.astype(np.float32))
            floats = self.node(kind, [floats, constant], f"by_{name}")
        return self.node("Transpose", [floats], "standardised", perm=[0, 3, 1, 2])

    # --- Layers: each method adds the operators and returns the name of the output ---

    def layer(self, layer, x, path, shape):
        """A layer with the input ``x``; the names of its arrays begin with ``path``."""
        return _METHODS[type(layer)](self, layer, x, path, shape)

    def serial(self, layer, x, path, shape):
        """One layer after another."""
        for n, part in enumerate(layer.layers):
            x = self.layer(part, x, f"{path}{n}.", shape)
            shape = part.output_shape(shape)
        return x

    def branches(self, layer, x, path, shape):
        """Several layers on the same input."""
        parts = [self.layer(part, x, f"{path}{n}.", shape) for n, part in enumerate(layer.layers)]
        if isinstance(layer, Sum):
            return self.node("Sum", parts, f"{path}y")
        return self.node("Concat", parts, f"{path}y", axis=1)

    def mean_of_views(self, layer, x, path, shape):
        """The layer on each view as an image of its own, and the mean of its outputs."""
        view_shape = layer.view_shape(shape)
        x = self.reshape(x, f"{path}views", view_shape)
        y = self.layer(layer.layer, x, f"{path}layer.", view_shape)
        outputs = self.reshape(y, f"{path}outputs", (layer.views, *layer.output_shape(shape)))
        axis = self.constant(f"{path}axis", np.array([1], np.int64))
        return self.node("ReduceMean", [outputs, axis], f"{path}mean", keepdims=0)

    def with_theta(self, layer, x, path, shape):
        """The layer on the first channels, and one pixel of the others."""
        images = layer.image_shape(shape)
        own = self.slice(x, f"{path}images", {1: (0, images[0])})
        first = dict.fromkeys(range(2, len(shape) + 1), (0, 1))
        pixel = self.slice(x, f"{path}pixel", {1: (images[0], shape[0]), **first})
        theta = self.reshape(pixel, f"{path}entries", (layer.entries,))
        features = self.layer(layer.layer, own, f"{path}layer.", images)
        return self.node("Concat", [features, theta], f"{path}y", axis=1)

    def linear(self, layer, x, path, shape):
        """Weights (features, inputs), and a bias."""
        return self.node("Gemm", [x, f"{path}weight", f"{path}bias"], f"{path}y", transB=1)

    def convolution(self, layer, x, path, shape):
        """With the zeros around the images in numbers, whatever the padding is called."""
        top, bottom, left, right = layer.margins(shape[1:])
        window = {"strides": [layer.stride] * 2, "pads": [top, left, bottom, right]}
        return self.node("Conv", [x, f"{path}weight", f"{path}bias"], f"{path}y", **window)

    def convolution_3d(self, layer, x, path, shape):
        """The same for volumes."""
        before, after = zip(*layer.margins(shape[1:]), strict=True)
        window = {"strides": [layer.stride] * 3, "pads": [*before, *after]}
        return self.node("Conv", [x, f"{path}weight", f"{path}bias"], f"{path}y", **window)

    def batch_norm(self, layer, x, path, shape):
        """With the running statistics."""
        names = [path + name for name in ("weight", "bias", "running_mean", "running_var")]
        return self.node("BatchNormalization", [x, *names], f"{path}y", epsilon=layer.epsilon)

    def pooling(self, layer, x, path, shape):
        """The largest value or the mean of each window."""
        kind = "MaxPool" if isinstance(layer, (MaxPool, MaxPool3d)) else "AveragePool"
        sides = [layer.kernel] * (len(shape) - 1)
        window = {"kernel_shape": sides, "strides": sides}
        return self.node(kind, [x], f"{path}y", **window)

    def global_pooling(self, layer, x, path, shape):
        """The mean of each channel."""
        means = self.node("GlobalAveragePool", [x], f"{path}means")
        return self.node("Flatten", [means], f"{path}y")

    def function(self, layer, x, path, shape):
        """A function without arrays of its own."""
        attributes: dict[str, float] = {}
        if isinstance(layer, Softmax):
            attributes["axis"] = 1
        if isinstance(layer, LeakyRelu):
            attributes["alpha"] = float(layer.slope)
        return self.node(type(layer).__name__, [x], f"{path}y", **attributes)

    def dropout(self, layer, x, path, shape):
        """Nothing: the model does not train."""
        return x

    def transformer(self, layer, x, path, shape):
        """Localisation, theta, grid and samples; in each round the localisation sees samples."""
        theta, seen = None, x
        for number, name in enumerate(localisation_names(layer)):
            here = f"{path}{name}." if number else path
            features = self.layer(layer.localisation, seen, f"{path}{name}.", shape)
            raw = self.node("Gemm", [features, f"{path}head.weight", f"{path}head.bias"],
                            f"{here}raw", transB=1)  # fmt: skip
            step = self.theta(layer, raw, here)
            theta = self.node("MatMul", [theta, step], f"{here}composed") if number else step
            if number + 1 < layer.rounds:
                zoom = self.constant(f"{here}zoom", zoom_matrix(layer))
                theta = self.node("MatMul", [theta, zoom], f"{here}through")
                rows = self.rows(layer, theta, f"{here}seen.")
                seen = self.samples(layer, rows, x, f"{here}seen.", shape[1:])
        if layer.view_angles:  # one theta and one image for each view
            theta = self.views(layer, theta, path)
            copies = self.node("Concat", [x] * layer.views, f"{path}copies", axis=1)
            x = self.reshape(copies, f"{path}repeated", shape)
        theta = self.rows(layer, theta, path)
        y = self.samples(layer, theta, x, path, layer.size or shape[1:])
        if layer.return_theta:  # as constant channels
            sides = layer.output_shape(shape)[1:]
            flat = self.reshape(theta, f"{path}entries", (layer.theta_channels, *[1] * len(sides)))
            ones = self.constant(f"{path}ones", np.ones((1, *sides), np.float32))
            entries = self.node("Mul", [flat, ones], f"{path}theta_channels")
            y = self.node("Concat", [y, entries], f"{path}with_theta", axis=1)
        if not layer.view_angles:
            return y
        return self.reshape(y, f"{path}channels", layer.output_shape(shape))

    def rows(self, layer, theta, path):
        """Theta without the last row that products of affine maps have."""
        if not is_composed(layer) or layer.transform.kind == "projective":
            return theta
        return self.slice(theta, f"{path}affine", {1: (0, layer.transform.shape[0])})

    def slice(self, x, name, limits):
        """The part of ``x`` between the limits of some axes."""
        parts = {"starts": [low for low, _ in limits.values()],
                 "ends": [high for _, high in limits.values()], "axes": list(limits)}  # fmt: skip
        inputs = [self.constant(f"{name}_{k}", np.array(v, np.int64)) for k, v in parts.items()]
        return self.node("Slice", [x, *inputs], name)

    def samples(self, layer, theta, x, path, size):
        """The images x at theta."""
        grids = {"affine": self.affine_grid, "affine 3-D": self.affine_grid,
                 "projective": self.projective_grid, "tps": self.tps_grid}  # fmt: skip
        grid = grids[layer.transform.kind](layer, theta, x, path, size)
        return self.node(
            "GridSample", [x, grid], f"{path}y", mode="linear", padding_mode=layer.padding_mode,
            align_corners=int(layer.align_corners),
        )  # fmt: skip

    # --- Theta ---

    def theta(self, layer, raw, path):
        """Theta of the transform's parameters: a linear function of expressions of them."""
        formula = theta_formula(layer)
        weight = self.constant(f"{path}to_theta", formula.weight)
        bias = self.constant(f"{path}to_theta_bias", formula.bias)
        terms = raw
        if any(term.operation != "parameter" for term in formula.terms):
            columns = formula.compute_terms(*self.operations(raw, path))
            terms = self.node("Concat", columns, f"{path}terms", axis=1)
        flat = self.node("Gemm", [terms, weight, bias], f"{path}flat", transB=1)
        rows, columns = layer.transform.shape
        sides = (columns, columns) if is_composed(layer) else (rows, columns)
        return self.reshape(flat, f"{path}theta", sides)

    def views(self, layer, theta, path):
        """Theta of each view: the product with its rotation."""
        rotations = view_matrices(layer)
        one = self.reshape(theta, f"{path}one", (1, *rotations.shape[1:]))
        each = self.constant(f"{path}rotations", rotations)
        product = self.node("MatMul", [one, each], f"{path}rotated")
        return self.reshape(product, f"{path}views", rotations.shape[1:])

    def operations(self, raw, path):
        """The two functions with which expressions are computed, on columns (N, 1)."""

        def leaf(index):
            which = self.constant(f"{path}number{index}", np.array([index], np.int64))
            return self.node("Gather", [raw, which], f"{path}parameter{index}", axis=1)

        def apply(operation, *operands):
            name = f"{path}{operation}{len(self.nodes)}"
            inputs = [
                self.constant(f"{name}_{k}", np.array([[operand]], np.float32))
                if isinstance(operand, float) else operand
                for k, operand in enumerate(operands)
            ]  # fmt: skip
            return self.node(OPERATORS.get(operation, operation.capitalize()), inputs, name)

        return leaf, apply

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


_METHODS: dict[type[Layer], Any] = {
    Serial: _Graph.serial,
    Parallel: _Graph.branches,
    Sum: _Graph.branches,
    Apart: _Graph.branches,
    MeanOfViews: _Graph.mean_of_views,
    WithTheta: _Graph.with_theta,
    SpatialTransformer: _Graph.transformer,
    Linear: _Graph.linear,
    Conv2d: _Graph.convolution,
    Conv3d: _Graph.convolution_3d,
    BatchNorm: _Graph.batch_norm,
    MaxPool: _Graph.pooling,
    AvgPool: _Graph.pooling,
    MaxPool3d: _Graph.pooling,
    AvgPool3d: _Graph.pooling,
    GlobalAvgPool: _Graph.global_pooling,
    Dropout: _Graph.dropout,
    **dict.fromkeys((Relu, LeakyRelu, Tanh, Sigmoid, Softmax, Flatten), _Graph.function),
}
