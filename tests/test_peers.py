"""Agreement with PyTorch 2.13 on random shapes, forward and both gradients. Needs ``peers``."""

import itertools

import numpy as np
import pytest

import numba_stn as stn

torch = pytest.importorskip("torch")

PADDINGS = ("zeros", "border", "reflection")
EPSILON = np.finfo(np.float32).eps
CASES = list(itertools.product(range(5), PADDINGS, (False, True)))


def torch_grid_sample(dsamples, images, grid, **chosen):
    images, grid = (torch.tensor(array, requires_grad=True) for array in (images, grid))
    samples = torch.nn.functional.grid_sample(images, grid, **chosen)
    samples.backward(torch.tensor(dsamples))
    return [samples.detach().numpy(), images.grad.numpy(), grid.grad.numpy()]


def torch_warp_affine(dsamples, images, theta, size, align_corners, **chosen):
    images, theta = (torch.tensor(array, requires_grad=True) for array in (images, theta))
    shape = (len(theta), images.shape[1], *size)
    grid = torch.nn.functional.affine_grid(theta, shape, align_corners=align_corners)
    samples = torch.nn.functional.grid_sample(images, grid, align_corners=align_corners, **chosen)
    samples.backward(torch.tensor(dsamples))
    return [samples.detach().numpy(), images.grad.numpy(), theta.grad.numpy()]


def random_problem(seed, align_corners):
    """Random shapes; coordinates inside, at the edges and far outside, not at jumps of slopes."""
    rng = np.random.default_rng(seed)
    batch, channels, height, width, rows, columns = rng.integers(1, 12, 6)
    pixel = rng.integers(-30, 40, (batch, rows, columns, 2)).astype(float)
    pixel += rng.choice([0.25, 0.75], pixel.shape) + rng.uniform(-0.2, 0.2, pixel.shape)
    sides = np.array([width, height], float)
    grid = (
        2 * pixel / np.maximum(sides - 1, 1) - 1 if align_corners else (2 * pixel + 1) / sides - 1
    )
    images = rng.standard_normal((batch, channels, height, width))
    theta = np.eye(2, 3) + rng.standard_normal((batch, 2, 3))
    dsamples = rng.standard_normal((batch, channels, rows, columns))
    return images, theta, grid, dsamples


@pytest.mark.parametrize(("seed", "padding_mode", "align_corners"), CASES)
@pytest.mark.filterwarnings("ignore:Since version 1.3.0, affine_grid behavior has changed")
def test_float64(seed, padding_mode, align_corners):
    images, theta, grid, dsamples = random_problem(seed, align_corners)
    chosen = {"padding_mode": padding_mode, "align_corners": align_corners}
    size = dsamples.shape[2:]
    sampled = stn.grid_sample(images, grid, **chosen)
    warped = stn.warp_affine(images, theta, size, **chosen)
    pairs = [
        ([sampled, *stn.grid_sample_vjp(dsamples, images, grid, **chosen)],
         torch_grid_sample(dsamples, images, grid, **chosen)),
        ([warped, *stn.warp_affine_vjp(dsamples, images, theta, **chosen)],
         torch_warp_affine(dsamples, images, theta, size, **chosen)),
    ]  # fmt: skip
    for ours, theirs in pairs:
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("seed", "padding_mode", "align_corners"), CASES)
def test_float32(seed, padding_mode, align_corners):
    """The error is at most a few float32 roundings of a coordinate, a value and a sum."""
    images, _, grid, dsamples = (
        array.astype(np.float32) for array in random_problem(seed, align_corners)
    )
    chosen = {"padding_mode": padding_mode, "align_corners": align_corners}
    ours = [
        stn.grid_sample(images, grid, **chosen),
        *stn.grid_sample_vjp(dsamples, images, grid, **chosen),
    ]
    theirs = torch_grid_sample(dsamples, images, grid, **chosen)
    side, channels = max(images.shape[2:]), images.shape[1]
    coordinate = EPSILON * np.abs(grid).max() * side  # a few roundings of the largest coordinate
    contrast = 4 * np.abs(images).max()
    samples = np.prod(dsamples.shape[2:])
    bounds = [
        coordinate * contrast,
        coordinate * np.abs(dsamples).max() * max(samples / 4, 8),
        coordinate * contrast * np.abs(dsamples).max() * channels * side,
    ]
    for a, b, bound in zip(ours, theirs, bounds, strict=True):
        np.testing.assert_allclose(a, b, rtol=4 * EPSILON, atol=bound)


def test_a_network_of_layers():
    """Convolution, pooling, batch normalisation, linear and the transformer agree with PyTorch."""
    from numba_stn import nn

    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 2, 12, 13))
    net = nn.serial(
        nn.spatial_transformer(nn.serial(nn.avg_pool(2), nn.flatten(), nn.linear(5), nn.relu())),
        nn.conv2d(3, 3, stride=2, padding=1), nn.batch_norm(), nn.relu(), nn.max_pool(2),
        nn.flatten(), nn.linear(4),
    )  # fmt: skip
    params = nn.tree.tree_map(
        lambda p: p + 0.1 * rng.standard_normal(p.shape), net.init(rng, x.shape[1:])
    )
    dy = rng.standard_normal((4, 4))
    y, pullback, _ = net.apply(params, x, net.init_state(x.shape[1:]), train=True)
    dparams, dx = pullback(dy)

    tree = nn.tree.tree_map(lambda p: torch.tensor(p, requires_grad=True), params)
    tx = torch.tensor(x, requires_grad=True)
    f = torch.nn.functional
    localisation = tree[0]["localisation"]
    features = localisation["features"][2].values()
    hidden = f.linear(f.avg_pool2d(tx, 2).flatten(1), *features).relu()
    theta = f.linear(hidden, *localisation["head"].values()).reshape(-1, 2, 3)
    grid = f.affine_grid(theta, tx.shape, align_corners=False)
    t = f.grid_sample(tx, grid, align_corners=False)
    t = f.conv2d(t, *tree[1].values(), stride=2, padding=1)
    t = f.batch_norm(t, None, None, *tree[2].values(), training=True)
    t = f.linear(f.max_pool2d(t.relu(), 2).flatten(1), *tree[6].values())
    t.backward(torch.tensor(dy))
    np.testing.assert_allclose(y, t.detach().numpy(), atol=1e-10)
    np.testing.assert_allclose(dx, tx.grad.numpy(), atol=1e-9)
    ours, theirs = nn.tree.flatten(dparams), nn.tree.flatten(tree)
    for name, got in ours.items():
        np.testing.assert_allclose(got, theirs[name].grad.numpy(), atol=1e-9, err_msg=name)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 1.0])
def test_cross_entropy(label_smoothing):
    from numba_stn import nn

    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((7, 5)), rng.integers(0, 5, 7)
    theirs = torch.tensor(logits, requires_grad=True)
    expected = torch.nn.functional.cross_entropy(
        theirs, torch.tensor(labels), label_smoothing=label_smoothing
    )
    expected.backward()
    loss, dlogits = nn.softmax_cross_entropy(logits, labels, label_smoothing)
    np.testing.assert_allclose(loss, expected.item(), rtol=1e-12)
    np.testing.assert_allclose(dlogits, theirs.grad.numpy(), atol=1e-14)


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw"])
def test_optimisers(kind):
    from numba_stn import nn

    rng = np.random.default_rng(0)
    start, grads = rng.standard_normal(5), rng.standard_normal((6, 5))
    ours = {
        "sgd": nn.sgd(0.1, momentum=0.8, weight_decay=0.01),
        "adam": nn.adam(0.1),
        "adamw": nn.adam(0.1, weight_decay=0.2),
    }[kind]
    theta = torch.tensor(start, requires_grad=True)
    theirs = {
        "sgd": lambda p: torch.optim.SGD(p, 0.1, momentum=0.8, weight_decay=0.01),
        "adam": lambda p: torch.optim.Adam(p, 0.1),
        "adamw": lambda p: torch.optim.AdamW(p, 0.1, weight_decay=0.2),
    }[kind]([theta])
    params, state = start, ours.init(start)
    for grad in grads:
        params, state = ours.update(params, grad, state)
        theta.grad = torch.tensor(grad)
        theirs.step()
    np.testing.assert_allclose(params, theta.detach().numpy(), rtol=1e-12)
