"""Networks without a framework: layers with pullbacks, losses, optimisers, and training.

Everything here takes NumPy or CuPy arrays. CuPy's stay on the GPU. Parameters, state and images
must then be there, for instance by ``tree.tree_map(cupy.asarray, params)``.
"""

from . import train, tree
from .activations import leaky_relu, sigmoid, softmax, tanh
from .base import Layer
from .containers import mean_of_views, parallel, residual, serial, sum_of
from .convolution import conv2d
from .dense import flatten, linear, relu
from .dropout import dropout
from .files import load, save
from .gradients import linearised
from .image_losses import cross_correlation, dice, smoothness
from .losses import (
    binary_cross_entropy,
    huber,
    mean_squared_error,
    softmax_cross_entropy,
)
from .normalisation import batch_norm
from .optim import Optimiser, adam, constant, cosine, one_cycle, sgd, step_decay
from .penalties import area_penalty, identity_penalty, overlap_penalty, scale_penalty
from .pooling import avg_pool, global_avg_pool, max_pool
from .poses import apart, with_theta
from .transformer import SpatialTransformer, spatial_transformer
from .volumes import avg_pool3d, conv3d, max_pool3d

__all__ = [
    "Layer",
    "Optimiser",
    "SpatialTransformer",
    "adam",
    "apart",
    "area_penalty",
    "avg_pool",
    "avg_pool3d",
    "batch_norm",
    "binary_cross_entropy",
    "constant",
    "conv2d",
    "conv3d",
    "cosine",
    "cross_correlation",
    "dice",
    "dropout",
    "flatten",
    "global_avg_pool",
    "huber",
    "identity_penalty",
    "leaky_relu",
    "linear",
    "linearised",
    "load",
    "max_pool",
    "max_pool3d",
    "mean_of_views",
    "mean_squared_error",
    "one_cycle",
    "overlap_penalty",
    "parallel",
    "relu",
    "residual",
    "save",
    "scale_penalty",
    "serial",
    "sgd",
    "sigmoid",
    "smoothness",
    "softmax",
    "softmax_cross_entropy",
    "spatial_transformer",
    "step_decay",
    "sum_of",
    "tanh",
    "train",
    "tree",
    "with_theta",
]
