"""Convolution, pooling and ReLU of whole batches (N, C, H, W): what layers of images do on a GPU.

The names are those of :mod:`numba_stn.kernels.layers.batch_blocks` and
:mod:`numba_stn.kernels.layers.convolution`, and so are the results, ties and NaN too. There it is
one loop for each; here it is few operations on whole arrays, for each is a launch, and the products
are BLAS's. Nothing is scattered: sums are matrix products, reductions, or additions in a fixed
order, so that the same inputs give the same bits.

What is unfolded has the images innermost, (C k k, N H W): neighbours in memory are neighbours on
a row, which a GPU's threads read together.
"""

from math import prod

import numpy as np

from ..kernels.layers.convolution import output_side
from ..utils.namespace import namespace

# --- To bundles and back: a whole batch is one bundle ---------------------------------------------


def bundle(images):
    """The images as they are."""
    return images


def unbundle(images, batch):
    """The images as they are."""
    return images


def padded(images, margin):
    """Images with ``margin`` zeros around each channel."""
    if margin == 0:
        return images
    *outer, height, width = images.shape
    sides = (height + 2 * margin, width + 2 * margin)
    wider = namespace(images).zeros((*outer, *sides), images.dtype)
    cropped(wider, margin)[...] = images
    return wider


def cropped(images, margin):
    """Images without ``margin`` pixels around each channel."""
    height, width = images.shape[2:]
    return images[:, :, margin : height - margin, margin : width - margin]


# --- ReLU -----------------------------------------------------------------------------------------


def rectify(x):
    """max(x, 0)."""
    return np.maximum(x, 0)


def rectify_vjp(dy, y):
    """Adjoint of :func:`rectify` where it gave y."""
    return np.where(y > 0, dy, dy.dtype.type(0))


# --- Batch normalisation, of (N, C) too -----------------------------------------------------------


def moments(x, batch):
    """Mean and variance of each channel."""
    return x.mean(_outer(x)), x.var(_outer(x))


def pixels(x):
    """Pixels of an image; 1 where there are only features."""
    return prod(x.shape[2:])


def normalize(x, batch, mean, factor, shift):
    """``(x - mean) * factor + shift``, with a number of each for each channel."""
    mean, factor, shift = _beside_channels(x, mean, factor, shift)
    return (x - mean) * factor + shift


def normalize_sums(dy, x, batch, mean):
    """For each channel the sums of dy and of dy (x - mean)."""
    (middle,) = _beside_channels(x, mean)
    return dy.sum(_outer(x)), (dy * (x - middle)).sum(_outer(x))


def combine(dy, x, batch, mean, of_dy, of_x, constant):
    """``of_dy * dy + of_x * (x - mean) + constant``, with a number of each for each channel."""
    mean, of_dy, of_x, constant = _beside_channels(x, mean, of_dy, of_x, constant)
    return of_dy * dy + (of_x * (x - mean) + constant)


def _outer(x):
    """All axes but the channels'."""
    return (0, *range(2, x.ndim))


def _beside_channels(x, *each):
    """The channels' numbers, to be combined with x."""
    shape = (1, -1) + (1,) * (x.ndim - 2)
    return [numbers.astype(x.dtype, copy=False).reshape(shape) for numbers in each]


# --- Max pooling ----------------------------------------------------------------------------------


def max_pool(x, kernel):
    """Largest value of each window, the first of equals, and its element's number in it."""
    largest, *rest = _elements(x, kernel)
    number = np.uint8 if kernel <= 16 else np.int64
    which = namespace(x).zeros(largest.shape, number)
    for k, value in enumerate(rest, 1):
        larger = (value > largest) | np.isnan(value)
        largest = np.where(larger, value, largest)
        which = np.where(larger, number(k), which)
    return largest, which


def max_pool_vjp(dlargest, which, shape, kernel):
    """Adjoint of :func:`max_pool` at images of ``shape`` whose elements ``which`` names."""
    dx = namespace(dlargest).zeros(shape, dlargest.dtype)
    for k, element in enumerate(_elements(dx, kernel)):
        element[...] = np.where(which == k, dlargest, dlargest.dtype.type(0))
    return dx


def _elements(x, kernel):
    """Views of x: the first element of every window, the second, and so on."""
    h, w = (side // kernel * kernel for side in x.shape[2:])
    return [x[:, :, i:h:kernel, j:w:kernel] for i in range(kernel) for j in range(kernel)]


# --- Convolution ----------------------------------------------------------------------------------


def convolve(x, weight, bias, stride):
    """Cross-correlation: images (N, C, H, W) and weight (F, C, k, k) -> (N, F, ...)."""
    features, _, kernel, _ = weight.shape
    flat = weight.reshape(features, -1).astype(x.dtype, copy=False)
    y = flat @ _unfolded(x, kernel, stride) + bias.astype(x.dtype, copy=False)[:, None]
    return _batch_first(y.reshape(features, len(x), *_sides(x.shape, kernel, stride)))


def convolve_vjp_x(dy, weight, shape, stride):
    """Gradient with respect to images of ``shape``: what each tap read is added up there.

    First along rows, then along columns, 2 k additions and not k k.
    """
    features, channels, kernel, _ = weight.shape
    batch, _, rows, columns = dy.shape
    flat = weight.reshape(features, -1).astype(dy.dtype, copy=False)
    taps = (flat.T @ _features_first(dy)).reshape(channels, kernel, kernel, batch, rows, columns)
    zeros = namespace(dy).zeros
    along = zeros((channels, kernel, batch, rows, shape[3]), dy.dtype)
    for j in range(kernel):
        part = along[..., j : j + stride * (columns - 1) + 1 : stride]
        part += taps[:, :, j]
    dx = zeros((channels, batch, *shape[2:]), dy.dtype)
    for i in range(kernel):
        part = dx[:, :, i : i + stride * (rows - 1) + 1 : stride]
        part += along[:, i]
    return _batch_first(dx)


def convolve_vjp_weight(dy, x, shape, stride):
    """Gradients with respect to the weight, of ``shape``, and the bias."""
    flat = _features_first(dy)
    dweight = flat @ _unfolded(x, shape[2], stride).T
    return dweight.reshape(shape), flat.sum(1)


def _unfolded(x, kernel, stride):
    """What each tap reads: (C k k, N rows columns)."""
    batch, channels = x.shape[:2]
    rows, columns = _sides(x.shape, kernel, stride)
    n, c, i, j = x.strides
    windows = namespace(x).lib.stride_tricks.as_strided(
        x, (channels, kernel, kernel, batch, rows, columns), (c, i, j, n, i * stride, j * stride)
    )
    return windows.reshape(channels * kernel**2, batch * rows * columns)


def _sides(shape, kernel, stride):
    return tuple(output_side(side, kernel, stride) for side in shape[2:])


def _features_first(y):
    """(N, F, rows, columns) -> (F, N rows columns)."""
    return y.swapaxes(0, 1).reshape(y.shape[1], len(y) * y.shape[2] * y.shape[3])


def _batch_first(y):
    """(F, N, rows, columns) -> (N, F, rows, columns)."""
    return namespace(y).ascontiguousarray(y.swapaxes(0, 1))
