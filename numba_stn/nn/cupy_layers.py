"""The layers' computations with array operations on whole batches (N, C, H, W), for a GPU.

The functions have the names and results of those in :mod:`numba_stn.kernels.layers`, for ties and
NaN too. Those are compiled loops. These are few operations on whole arrays, because each of them
launches a kernel on a GPU, and matrix products are BLAS's. Sums are matrix products, reductions, or
additions in a fixed order, never atomic, so that the same inputs give the same bits.

Unfolded images (im2col) have the images innermost, (C k k, N H W). Neighbours in memory are then
neighbours on a row, which a GPU's threads read together.
"""

from itertools import product
from math import prod

import numpy as np

from ..kernels.layers.convolution import output_side
from ..utils.namespace import namespace

# --- Layout: a whole batch is not divided into blocks ---------------------------------------------


def to_batch_blocks(images):
    """The images themselves."""
    return images


def from_batch_blocks(images, batch):
    """The images themselves."""
    return images


def padded(images, margins):
    """Images with zeros around each channel; margins are (top, bottom, left, right)."""
    if not any(margins):
        return images
    *outer, height, width = images.shape
    sides = (height + sum(margins[:2]), width + sum(margins[2:]))
    result = namespace(images).zeros((*outer, *sides), images.dtype)
    cropped(result, margins)[...] = images
    return result


def cropped(images, margins):
    """Images without the margins of each channel."""
    (top, bottom, left, right), (height, width) = margins, images.shape[2:]
    return images[:, :, top : height - bottom, left : width - right]


# --- ReLU -----------------------------------------------------------------------------------------


def relu(x):
    """max(x, 0)."""
    return np.maximum(x, 0)


def relu_vjp(dy, y):
    """Gradient of :func:`relu`'s input, where ``y`` is its output."""
    return np.where(y > 0, dy, dy.dtype.type(0))


# --- Batch normalisation, of (N, C) or (N, C, H, W) -----------------------------------------------


def moments(x, batch):
    """Mean and variance of each channel."""
    axes = _all_axes_but_channels(x)
    return x.mean(axes), x.var(axes)


def pixels(x):
    """Number of pixels of an image; 1 for (N, C)."""
    return prod(x.shape[2:])


def normalize(x, batch, mean, factor, shift):
    """``(x - mean) * factor + shift``, with per-channel ``mean``, ``factor`` and ``shift`` (C,)."""
    mean, factor, shift = _broadcastable(x, mean, factor, shift)
    return (x - mean) * factor + shift


def normalize_sums(dy, x, batch, mean):
    """The sums of dy and of dy (x - mean) in each channel."""
    axes = _all_axes_but_channels(x)
    (middle,) = _broadcastable(x, mean)
    return dy.sum(axes), (dy * (x - middle)).sum(axes)


def normalize_vjp_x(dy, x, batch, numbers):
    """``dy_factor * dy + x_factor * (x - mean) + constant`` with such per-channel ``numbers``."""
    mean, dy_factor, x_factor, constant = _broadcastable(x, *numbers)
    return dy_factor * dy + (x_factor * (x - mean) + constant)


def _all_axes_but_channels(x):
    """(0, 2, 3) for (N, C, H, W)."""
    return (0, *range(2, x.ndim))


def _broadcastable(x, *arrays):
    """Per-channel arrays (C,) in x's dtype, reshaped to broadcast with x."""
    shape = (1, -1) + (1,) * (x.ndim - 2)
    return [numbers.astype(x.dtype, copy=False).reshape(shape) for numbers in arrays]


# --- Max pooling ----------------------------------------------------------------------------------


def max_pool(x, kernel):
    """Largest value of each window, and the index of the first such element in the window.

    x is (N, C, H, W) or (N, C, D, H, W).
    """
    largest, *others = window_elements(x, kernel)
    integer = np.uint8 if len(others) < 256 else np.int64
    index = namespace(x).zeros(largest.shape, integer)
    for k, value in enumerate(others, 1):
        larger = (value > largest) | np.isnan(value)
        largest = np.where(larger, value, largest)
        index = np.where(larger, integer(k), index)
    return largest, index


def max_pool_vjp(dlargest, index, shape, kernel):
    """Gradient of the input of :func:`max_pool`, of ``shape``, given the indices that it gave."""
    dx = namespace(dlargest).zeros(shape, dlargest.dtype)
    for k, element in enumerate(window_elements(dx, kernel)):
        element[...] = np.where(index == k, dlargest, dlargest.dtype.type(0))
    return dx


def window_elements(x, kernel):
    """Views of x: the first element of every window, the second, and so on."""
    ends = [side // kernel * kernel for side in x.shape[2:]]
    return [
        x[(..., *(slice(i, end, kernel) for i, end in zip(first, ends, strict=True)))]
        for first in product(range(kernel), repeat=len(ends))
    ]


# --- Convolution ----------------------------------------------------------------------------------


def convolve(x, weight, bias, stride):
    """Cross-correlation: images (N, C, H, W) and weight (F, C, k, k) -> (N, F, ...)."""
    features, _, kernel, _ = weight.shape
    flat = weight.reshape(features, -1).astype(x.dtype, copy=False)
    y = flat @ _unfolded(x, kernel, stride) + bias.astype(x.dtype, copy=False)[:, None]
    return _batch_first(y.reshape(features, len(x), *_output_sides(x.shape, kernel, stride)))


def convolve_vjp_x(dy, weight, shape, stride):
    """Gradient with respect to images of ``shape``: each tap's gradients, added where it reads.

    They are added along rows first, then along columns, in 2 k additions instead of k k.
    """
    features, channels, kernel, _ = weight.shape
    batch, _, rows, columns = dy.shape
    flat = weight.reshape(features, -1).astype(dy.dtype, copy=False)
    taps = (flat.T @ _features_first(dy)).reshape(channels, kernel, kernel, batch, rows, columns)
    zeros = namespace(dy).zeros
    along = zeros((channels, kernel, batch, rows, shape[3]), dy.dtype)
    for j in range(kernel):
        view = along[..., j : j + stride * (columns - 1) + 1 : stride]
        view += taps[:, :, j]
    dx = zeros((channels, batch, *shape[2:]), dy.dtype)
    for i in range(kernel):
        view = dx[:, :, i : i + stride * (rows - 1) + 1 : stride]
        view += along[:, i]
    return _batch_first(dx)


def convolve_vjp_weight(dy, x, shape, stride):
    """Gradients with respect to the weight, of ``shape``, and the bias."""
    flat = _features_first(dy)
    dweight = flat @ _unfolded(x, shape[2], stride).T
    return dweight.reshape(shape), flat.sum(1)


def _unfolded(x, kernel, stride):
    """The pixels that each tap reads, (C k k, N rows columns): im2col."""
    batch, channels = x.shape[:2]
    rows, columns = _output_sides(x.shape, kernel, stride)
    n, c, i, j = x.strides
    windows = namespace(x).lib.stride_tricks.as_strided(
        x, (channels, kernel, kernel, batch, rows, columns), (c, i, j, n, i * stride, j * stride)
    )
    return windows.reshape(channels * kernel**2, batch * rows * columns)


def _output_sides(shape, kernel, stride):
    return tuple(output_side(side, kernel, stride) for side in shape[2:])


def _features_first(y):
    """(N, F, rows, columns) -> (F, N rows columns)."""
    return y.swapaxes(0, 1).reshape(y.shape[1], len(y) * y.shape[2] * y.shape[3])


def _batch_first(y):
    """(F, N, rows, columns) -> (N, F, rows, columns)."""
    return namespace(y).ascontiguousarray(y.swapaxes(0, 1))
