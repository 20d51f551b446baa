"""Rows of training: one Adam step of two spatial transformer networks."""

from functools import partial
from typing import Any, NamedTuple

import numpy as np

from .rows import MissingError, Row, Runner, peer_module


class Batch(NamedTuple):
    """A network, its weights, and a batch of labelled images."""

    net: Any
    params: Any
    images: Any
    labels: Any


def tutorial(nn):
    """The network of PyTorch's tutorial."""
    localisation = nn.serial(
        nn.conv2d(8, 7), nn.max_pool(2), nn.relu(), nn.conv2d(10, 5), nn.max_pool(2), nn.relu(),
        nn.flatten(), nn.linear(32), nn.relu(),
    )  # fmt: skip
    return nn.serial(
        nn.spatial_transformer(localisation),
        nn.conv2d(10, 5), nn.max_pool(2), nn.relu(), nn.conv2d(20, 5), nn.max_pool(2), nn.relu(),
        nn.flatten(), nn.linear(50), nn.relu(), nn.linear(10),
    )  # fmt: skip


def st_cnn(nn):
    """The paper's ST-CNN (Jaderberg et al. 2015, appendix A.4)."""
    localisation = nn.serial(
        nn.conv2d(20, 5), nn.max_pool(2), nn.relu(), nn.conv2d(20, 5), nn.relu(),
        nn.flatten(), nn.linear(20), nn.relu(),
    )  # fmt: skip
    return nn.serial(
        nn.spatial_transformer(localisation),
        nn.conv2d(32, 9), nn.relu(), nn.max_pool(2), nn.conv2d(32, 7), nn.relu(), nn.max_pool(2),
        nn.flatten(), nn.linear(10),
    )  # fmt: skip


def batch(build, size):
    """Random images and labels, and the network's initial weights."""
    try:
        from numba_stn import nn
    except ImportError as error:
        raise MissingError("this commit has no networks") from error
    rng = np.random.default_rng(0)
    images = rng.random((size, 1, 28, 28), np.float32)
    labels = rng.integers(0, 10, size)
    net = build(nn)
    return Batch(net, net.init(rng, (1, 28, 28)), images, labels)


def stn_step(p):
    """One step of numba_stn: forward, backward and update."""
    from numba_stn.nn import adam, train

    optimiser = adam(1e-3)
    learner = train.Learner(p.params, p.net.init_state((1, 28, 28)), optimiser.init(p.params))
    return Runner(partial(_step(train), p.net, optimiser, learner, p.images, p.labels), _loss)


def _step(train):
    # "step" is its name in older commits, which the history of speed measures too.
    return getattr(train, "train_step", None) or getattr(train, "step")  # noqa: B009


def epoch(build, images, labels, size):
    """Prepare an epoch: a step for each batch of the images (N, 1, 28, 28), in order."""
    p = batch(build, size)
    from numba_stn.nn import adam, train

    optimiser = adam(1e-3)
    start = train.Learner(p.params, p.net.init_state((1, 28, 28)), optimiser.init(p.params))
    step = _step(train)

    def run():
        learner = start
        for k in range(0, len(images) - size + 1, size):
            learner = step(p.net, optimiser, learner, images[k : k + size], labels[k : k + size])[0]
        return learner

    return run


def torch_step(p):
    """The same step in PyTorch, from the same weights."""
    from numba_stn.nn import tree

    torch = peer_module("torch")
    images, labels = torch.as_tensor(p.images), torch.as_tensor(p.labels)
    weights = tree.tree_map(  # copies, because a step changes them in place
        lambda w: torch.as_tensor(w).to(images.dtype, copy=True).requires_grad_(), p.params
    )
    optimiser = torch.optim.Adam([leaf for _, leaf in tree.leaves(weights)], 1e-3)

    def run():
        optimiser.zero_grad()
        logits = run_layers(torch, p.net, weights, images)
        loss = torch.nn.functional.cross_entropy(logits, labels)
        loss.backward()
        optimiser.step()
        return None, loss.item(), None

    return Runner(run, _loss)


def _loss(result):
    return {"loss": np.array([float(result[1])])}


def run_layers(torch, net, weights, x):
    """Apply the network's layers by PyTorch's functions."""
    f = torch.nn.functional
    for layer, params in zip(net.layers, weights, strict=True):
        kind = type(layer).__name__
        if kind == "SpatialTransformer":
            parts = params["localisation"]
            features = run_layers(torch, layer.localisation, parts["features"], x)
            theta = f.linear(features, parts["head"]["weight"], parts["head"]["bias"])
            grid = f.affine_grid(theta.reshape(-1, 2, 3), x.shape, align_corners=False)
            x = f.grid_sample(x, grid, align_corners=False)
        elif kind == "Conv2d":
            x = f.conv2d(x, params["weight"], params["bias"])
        elif kind == "Linear":
            x = f.linear(x, params["weight"], params["bias"])
        else:
            x = {"MaxPool": lambda x: f.max_pool2d(x, 2), "Relu": f.relu,
                 "Flatten": lambda x: x.flatten(1)}[kind](x)  # fmt: skip
    return x


def row(build, size):
    """Row: one Adam step, from the same weights."""
    return Row("training", partial(batch, build, size), {"ours": stn_step, "torch": torch_step})


ROWS = {
    "Adam step, tutorial's STN, batch 64": row(tutorial, 64),
    "Adam step, paper's ST-CNN, batch 256": row(st_cnn, 256),
}
