"""The oracle for layers: forward and backward in plain float64 NumPy, from the definitions alone.

``apply(layer, params, x, state, train)`` returns the output, the pullback and the new state, as a
layer does. It reads a layer's attributes, and nothing else is shared with the package.
"""

import numpy as np
import reference

FUNCTIONS = {}  # from the name of a layer's class


def apply(layer, params, x, state=(), train=False):
    """Output, pullback and new state."""
    return FUNCTIONS[type(layer).__name__](layer, params, np.asarray(x, float), state, train)


def of(name):
    """Register the function for a class."""

    def register(function):
        FUNCTIONS[name] = function
        return function

    return register


# --- Features -------------------------------------------------------------------------------------


@of("Linear")
def linear(layer, params, x, state, train):
    weight = np.asarray(params["weight"], float)
    y = np.einsum("ni,fi->nf", x, weight) + params["bias"]

    def pullback(dy):
        dparams = {"weight": np.einsum("nf,ni->fi", dy, x), "bias": np.einsum("nf->f", dy)}
        return dparams, np.einsum("nf,fi->ni", dy, weight)

    return y, pullback, state


@of("Relu")
def relu(layer, params, x, state, train):
    return np.where(x > 0, x, 0), lambda dy: ((), np.where(x > 0, dy, 0)), state


@of("Tanh")
def tanh(layer, params, x, state, train):
    plus, minus = np.exp(x), np.exp(-x)
    y = (plus - minus) / (plus + minus)
    return y, lambda dy: ((), dy * 4 / (plus + minus) ** 2), state


@of("Sigmoid")
def sigmoid(layer, params, x, state, train):
    y = 1 / (1 + np.exp(-x))
    return y, lambda dy: ((), dy * np.exp(-x) * y**2), state


@of("LeakyRelu")
def leaky_relu(layer, params, x, state, train):
    slope = np.where(x > 0, 1, layer.slope)
    return x * slope, lambda dy: ((), dy * slope), state


@of("Softmax")
def softmax(layer, params, x, state, train):
    powers = np.exp(x)
    y = powers / powers.sum(1, keepdims=True)

    def pullback(dy):
        slopes = -np.einsum("nk...,nj...->nkj...", y, y)
        for k in range(y.shape[1]):
            slopes[:, k, k] += y[:, k]
        return (), np.einsum("nk...,nkj...->nj...", dy, slopes)

    return y, pullback, state


@of("Flatten")
def flatten(layer, params, x, state, train):
    y = x.reshape(len(x), int(np.prod(x.shape[1:])))
    return y, lambda dy: ((), dy.reshape(x.shape)), state


@of("Dropout")
def dropout(layer, params, x, state, train):
    if not train or not layer.share:
        return x, lambda dy: ((), dy), state
    steps = int(state["steps"][0])
    key = lowbias32((steps + layer.seed * 0x9E3779B9) % 2**32)
    kept = np.array([lowbias32(n ^ key) >= int(layer.share * 2**32) for n in range(x.size)])
    factor = kept.reshape(x.shape) / (1 - layer.share)
    return x * factor, lambda dy: ((), dy * factor), {"steps": np.array([steps + 1])}


def lowbias32(number):
    """The hash of Wellons 2018, on Python's integers."""
    number = (number ^ (number >> 16)) * 0x21F0AAAD % 2**32
    number = (number ^ (number >> 15)) * 0x735A2D97 % 2**32
    return number ^ (number >> 15)


# --- Images ---------------------------------------------------------------------------------------


@of("Conv2d")
def conv2d(layer, params, x, state, train):
    weight, k, s, p = np.asarray(params["weight"], float), layer.kernel, layer.stride, layer.padding
    margins = [(p, p)] * 2
    if p == "same":  # the fewest zeros with which there is a window for each s-th pixel
        total = [max(0, (side - 1) // s * s + k - side) for side in x.shape[2:]]
        margins = [(number // 2, number - number // 2) for number in total]
    padded = np.pad(x, ((0, 0), (0, 0), *margins))
    rows, columns = ((side - k) // s + 1 for side in padded.shape[2:])
    y = np.zeros((len(x), len(weight), rows, columns)) + np.reshape(params["bias"], (-1, 1, 1))
    taps = [
        (i, j, (slice(None), slice(None), slice(i, i + s * rows, s), slice(j, j + s * columns, s)))
        for i in range(k) for j in range(k)
    ]  # fmt: skip
    for i, j, tap in taps:
        y += np.einsum("nchw,fc->nfhw", padded[tap], weight[:, :, i, j])

    def pullback(dy):
        dweight, dpadded = np.zeros(weight.shape), np.zeros(padded.shape)
        for i, j, tap in taps:
            dweight[:, :, i, j] = np.einsum("nfhw,nchw->fc", dy, padded[tap])
            dpadded[tap] += np.einsum("nfhw,fc->nchw", dy, weight[:, :, i, j])
        (top, _), (left, _) = margins
        dx = dpadded[:, :, top : top + x.shape[2], left : left + x.shape[3]]
        return {"weight": dweight, "bias": dy.sum((0, 2, 3))}, dx

    return y, pullback, state


@of("Conv3d")
def conv3d(layer, params, x, state, train):
    """One output voxel after another."""
    weight, k, s, p = np.asarray(params["weight"], float), layer.kernel, layer.stride, layer.padding
    margins = [(p, p)] * 3
    if p == "same":
        total = [max(0, (side - 1) // s * s + k - side) for side in x.shape[2:]]
        margins = [(number // 2, number - number // 2) for number in total]
    padded = np.pad(x, ((0, 0), (0, 0), *margins))
    sides = [(side - k) // s + 1 for side in padded.shape[2:]]
    y = np.zeros((len(x), len(weight), *sides)) + np.reshape(params["bias"], (-1, 1, 1, 1))
    cubes = [
        (at, (..., *(slice(i * s, i * s + k) for i in at))) for at in np.ndindex(*sides)
    ]  # fmt: skip
    for at, cube in cubes:
        y[(..., *at)] += np.einsum("ncijk,fcijk->nf", padded[cube], weight)

    def pullback(dy):
        dweight, dpadded = np.zeros(weight.shape), np.zeros(padded.shape)
        for at, cube in cubes:
            dweight += np.einsum("nf,ncijk->fcijk", dy[(..., *at)], padded[cube])
            dpadded[cube] += np.einsum("nf,fcijk->ncijk", dy[(..., *at)], weight)
        inner = (slice(m[0], m[0] + side) for m, side in zip(margins, x.shape[2:], strict=True))
        return {"weight": dweight, "bias": dy.sum((0, 2, 3, 4))}, dpadded[(..., *inner)]

    return y, pullback, state


def cubes(x, k):
    """(index, window (N, C, k, k, k)) of each complete window of volumes."""
    for at in np.ndindex(*(side // k for side in x.shape[2:])):
        yield at, x[(..., *(slice(i * k, i * k + k) for i in at))]


@of("MaxPool3d")
def max_pool3d(layer, params, x, state, train):
    k, (n, c, *sides) = layer.kernel, x.shape
    y = np.zeros((n, c, *(side // k for side in sides)))
    for at, cube in cubes(x, k):
        y[(..., *at)] = cube.reshape(n, c, k**3).max(2)

    def pullback(dy):
        dx = np.zeros(x.shape)
        for (at, cube), (_, dcube) in zip(cubes(x, k), cubes(dx, k), strict=True):
            chosen = cube.reshape(n, c, k**3).argmax(2)[..., None] == np.arange(k**3)
            dcube[...] = (chosen * dy[(..., *at)][..., None]).reshape(n, c, k, k, k)
        return (), dx

    return y, pullback, state


@of("AvgPool3d")
def avg_pool3d(layer, params, x, state, train):
    k, (n, c, *sides) = layer.kernel, x.shape
    y = np.zeros((n, c, *(side // k for side in sides)))
    for at, cube in cubes(x, k):
        y[(..., *at)] = cube.mean((2, 3, 4))

    def pullback(dy):
        dx = np.zeros(x.shape)
        for at, cube in cubes(dx, k):
            cube[...] = dy[(..., *at)][..., None, None, None] / k**3
        return (), dx

    return y, pullback, state


def windows(x, k):
    """(index, window (N, C, k k)) of each complete window."""
    for i in range(x.shape[2] // k):
        for j in range(x.shape[3] // k):
            yield (i, j), x[:, :, i * k : i * k + k, j * k : j * k + k]


@of("MaxPool")
def max_pool(layer, params, x, state, train):
    k, (n, c, h, w) = layer.kernel, x.shape
    y = np.zeros((n, c, h // k, w // k))
    for (i, j), window in windows(x, k):
        y[:, :, i, j] = window.reshape(n, c, k * k).max(2)

    def pullback(dy):
        dx = np.zeros(x.shape)
        for (i, j), window in windows(x, k):
            chosen = window.reshape(n, c, k * k).argmax(2)[..., None] == np.arange(k * k)
            part = (chosen * dy[:, :, i, j, None]).reshape(n, c, k, k)
            dx[:, :, i * k : i * k + k, j * k : j * k + k] = part
        return (), dx

    return y, pullback, state


@of("AvgPool")
def avg_pool(layer, params, x, state, train):
    k, (n, c, h, w) = layer.kernel, x.shape
    y = np.zeros((n, c, h // k, w // k))
    for (i, j), window in windows(x, k):
        y[:, :, i, j] = window.mean((2, 3))

    def pullback(dy):
        dx = np.zeros(x.shape)
        for (i, j), window in windows(dx, k):
            window[...] = dy[:, :, i, j, None, None] / (k * k)
        return (), dx

    return y, pullback, state


@of("GlobalAvgPool")
def global_avg_pool(layer, params, x, state, train):
    axes = tuple(range(2, x.ndim))
    pixels = np.prod(x.shape[2:])
    y = x.sum(axes) / pixels
    return y, lambda dy: ((), np.zeros(x.shape) + np.expand_dims(dy, axes) / pixels), state


@of("BatchNorm")
def batch_norm(layer, params, x, state, train):
    axes, sides = (0, *range(2, x.ndim)), (-1, *[1] * (x.ndim - 2))
    scale, shift = (np.reshape(params[key], sides) for key in ("scale", "shift"))
    mean, var, count = state["mean"], state["var"], x.size // x.shape[1] if x.shape[1] else 0
    if train:
        mean, var = x.mean(axes), x.var(axes)
        unbiased = ((x - x.mean(axes, keepdims=True)) ** 2).sum(axes) / max(count - 1, 1)
        state = {
            "mean": layer.momentum * state["mean"] + (1 - layer.momentum) * mean,
            "var": layer.momentum * state["var"] + (1 - layer.momentum) * unbiased,
        }
    inverse = 1 / np.sqrt(np.reshape(var, sides) + layer.epsilon)
    normal = (x - np.reshape(mean, sides)) * inverse

    def pullback(dy):
        dnormal = dy * scale
        if train:
            dnormal = dnormal - dnormal.mean(axes, keepdims=True)
            dnormal = dnormal - normal * (dy * scale * normal).mean(axes, keepdims=True)
        return {"scale": (dy * normal).sum(axes), "shift": dy.sum(axes)}, dnormal * inverse

    return normal * scale + shift, pullback, state


# --- Containers -----------------------------------------------------------------------------------


def in_parts(layer, params, state):
    """Each layer with its parameters and state."""
    return zip(layer.layers, params, state or [()] * len(layer.layers), strict=True)


@of("Serial")
def serial(layer, params, x, state, train):
    backs, states = [], []
    for part, own, part_state in zip(
        layer.layers, params, state or [()] * len(layer.layers), strict=True
    ):
        x, back, new = apply(part, own, x, part_state, train)
        backs.append(back)
        states.append(new)

    def pullback(dy):
        dparams = []
        for back in reversed(backs):
            own, dy = back(dy)
            dparams.insert(0, own)
        return tuple(dparams), dy

    return x, pullback, tuple(states)


@of("Parallel")
def parallel(layer, params, x, state, train):
    parts = [
        apply(part, own, x, part_state, train)
        for part, own, part_state in zip(
            layer.layers, params, state or [()] * len(layer.layers), strict=True
        )
    ]

    def pullback(dy):
        dparams, dx, first = [], 0, 0
        for y, back, _ in parts:
            own, part_dx = back(dy[:, first : first + y.shape[1]])
            first += y.shape[1]
            dparams.append(own)
            dx = dx + part_dx
        return tuple(dparams), dx

    y = np.concatenate([y for y, _, _ in parts], 1)
    return y, pullback, tuple(new for _, _, new in parts)


@of("Sum")
def sum_of(layer, params, x, state, train):
    parts = [
        apply(part, own, x, part_state, train)
        for part, own, part_state in zip(
            layer.layers, params, state or [()] * len(layer.layers), strict=True
        )
    ]

    def pullback(dy):
        backs = [back(dy) for _, back, _ in parts]
        return tuple(own for own, _ in backs), np.sum([dx for _, dx in backs], axis=0)

    return np.sum([y for y, _, _ in parts], axis=0), pullback, tuple(new for _, _, new in parts)


@of("MeanOfViews")
def mean_of_views(layer, params, x, state, train):
    channels = x.shape[1] // layer.views
    views = np.concatenate(  # the views of the first image, those of the second, and so on
        [x[n : n + 1, k * channels : (k + 1) * channels] for n in range(len(x))
         for k in range(layer.views)] or [x.reshape(0, channels, *x.shape[2:])],
    )  # fmt: skip
    y, back, state = apply(layer.layer, params, views, state, train)
    mean = np.zeros((len(x), *y.shape[1:]))
    for n in range(len(y)):
        mean[n // layer.views] += y[n] / layer.views

    def pullback(dy):
        spread = np.zeros(y.shape)
        for n in range(len(y)):
            spread[n] = dy[n // layer.views] / layer.views
        dparams, dviews = back(spread)
        return dparams, dviews.reshape(x.shape)

    return mean, pullback, state


@of("SpatialTransformer")
def spatial_transformer(layer, params, x, state, train):
    """With an affine theta, whose six numbers are the parameters, and one view."""
    if (layer.transform.name, layer.view_angles) != ("affine", ()):
        raise NotImplementedError(layer)
    own, options = params["localisation"], {"padding_mode": layer.padding_mode}
    features, back, state = apply(layer.localisation, own["features"], x, state, train)
    raw, head_back, _ = linear(None, own["head"], features, (), train)
    theta = raw.reshape(-1, 2, 3)
    samples = reference.warp_affine(x, theta, layer.size, layer.align_corners, **options)

    def pullback(dy):
        dx, dtheta = reference.warp_affine_vjp(dy, x, theta, layer.align_corners, **options)
        dhead, dfeatures = head_back(dtheta.reshape(raw.shape))
        dlocalisation, dimages = back(dfeatures)
        return {"localisation": {"features": dlocalisation, "head": dhead}}, dx + dimages

    return samples, pullback, state
