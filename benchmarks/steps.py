"""Rows of :mod:`.compare`: one Adam step of two spatial transformer networks."""

from functools import partial

import numpy as np

from numba_stn.nn import (
    adam,
    conv2d,
    flatten,
    linear,
    max_pool,
    relu,
    serial,
    spatial_transformer,
    train,
    tree,
)

from .warps import installed


def tutorial():
    """The network of PyTorch's tutorial."""
    look = serial(
        conv2d(8, 7), max_pool(2), relu(), conv2d(10, 5), max_pool(2), relu(),
        flatten(), linear(32), relu(),
    )  # fmt: skip
    return serial(
        spatial_transformer(look),
        conv2d(10, 5), max_pool(2), relu(), conv2d(20, 5), max_pool(2), relu(),
        flatten(), linear(50), relu(), linear(10),
    )  # fmt: skip


def st_cnn():
    """The paper's ST-CNN (Jaderberg et al. 2015, appendix A.4)."""
    look = serial(
        conv2d(20, 5), max_pool(2), relu(), conv2d(20, 5), relu(), flatten(), linear(20), relu()
    )
    return serial(
        spatial_transformer(look),
        conv2d(32, 9), relu(), max_pool(2), conv2d(32, 7), relu(), max_pool(2),
        flatten(), linear(10),
    )  # fmt: skip


def step(build, batch):
    """Forward, backward and update, here and in PyTorch, from the same weights."""
    rng = np.random.default_rng(0)
    images = rng.random((batch, 1, 28, 28), np.float32)
    labels = rng.integers(0, 10, batch)
    net, optimiser = build(), adam(1e-3)
    learner = train.start(net, optimiser, (1, 28, 28), rng)
    runners = {"ours": partial(train.step, net, optimiser, learner, images, labels)}
    if torch := installed("torch"):
        weights = tree.tree_map(lambda p: torch.tensor(p, requires_grad=True), learner.params)
        theirs = torch.optim.Adam([leaf for _, leaf in tree.leaves(weights)], 1e-3)
        ti, tl = torch.from_numpy(images), torch.from_numpy(labels)

        def run_torch():
            theirs.zero_grad()
            loss = torch.nn.functional.cross_entropy(run_layers(torch, net, weights, ti), tl)
            loss.backward()
            theirs.step()
            return float(loss)

        ours, expected = runners["ours"]()[1], run_torch()
        if abs(ours - expected) > 1e-4 * abs(expected):
            raise AssertionError(f"the losses differ: {ours} and {expected}")
        runners["torch"] = run_torch
    return runners


def run_layers(torch, net, weights, x):
    """The network's layers, by PyTorch's functions."""
    f = torch.nn.functional
    for layer, own in zip(net.layers, weights, strict=True):
        kind = type(layer).__name__
        if kind == "SpatialTransformer":
            parts = own["localisation"]
            features = run_layers(torch, layer.localisation, parts["features"], x)
            theta = f.linear(features, parts["head"]["weight"], parts["head"]["bias"])
            grid = f.affine_grid(theta.reshape(-1, 2, 3), x.shape, align_corners=False)
            x = f.grid_sample(x, grid, align_corners=False)
        elif kind == "Conv2d":
            x = f.conv2d(x, own["weight"], own["bias"])
        elif kind == "Linear":
            x = f.linear(x, own["weight"], own["bias"])
        else:
            x = {"MaxPool": lambda x: f.max_pool2d(x, 2), "Relu": f.relu,
                 "Flatten": lambda x: x.flatten(1)}[kind](x)  # fmt: skip
    return x


ROWS = {
    "Adam step, tutorial's STN, batch 64": partial(step, tutorial, 64),
    "Adam step, paper's ST-CNN, batch 256": partial(step, st_cnn, 256),
}
