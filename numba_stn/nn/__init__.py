"""Networks without a framework: layers with pullbacks, losses, optimisers, and a trainer.

Everything here takes NumPy's arrays, or CuPy's, which stay on the GPU: parameters, state and images
must then be there, for instance by ``tree.tree_map(cupy.asarray, params)``.
"""

from . import tree
from .layer import Layer
from .layers import (
    averaged,
    avg_pool,
    batch_norm,
    conv2d,
    flatten,
    linear,
    max_pool,
    parallel,
    relu,
    serial,
)
from .losses import mean_squared_error, softmax_cross_entropy
from .noise import dropout
from .optim import Optimiser, adam, constant, cosine, one_cycle, sgd, step_decay
from .transformer import SpatialTransformer, spatial_transformer

__all__ = [
    "Layer",
    "Optimiser",
    "SpatialTransformer",
    "adam",
    "averaged",
    "avg_pool",
    "batch_norm",
    "constant",
    "conv2d",
    "cosine",
    "dropout",
    "flatten",
    "linear",
    "max_pool",
    "mean_squared_error",
    "one_cycle",
    "parallel",
    "relu",
    "serial",
    "sgd",
    "softmax_cross_entropy",
    "spatial_transformer",
    "step_decay",
    "tree",
]
