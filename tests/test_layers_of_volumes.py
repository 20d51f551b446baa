"""Convolution and pooling of volumes, beside PyTorch and the oracle; memory, threads, messages."""

import tracemalloc

import numpy as np
import plain_layers
import pytest

from numba_stn import nn
from numba_stn.nn import volumes

RNG = np.random.default_rng(0)

CONVOLUTIONS = [
    (nn.conv3d(4, 3), (2, 6, 7, 5)),
    (nn.conv3d(3, 3, 2, "same"), (2, 5, 8, 7)),
    (nn.conv3d(3, 4, 1, "same"), (1, 4, 5, 6)),
    (nn.conv3d(2, 2, 3, 2), (3, 5, 4, 6)),
    (nn.conv3d(2, 1, 2), (2, 1, 1, 3)),
    (nn.conv3d(2, 3, 1, 1), (0, 3, 2, 2)),
]


def run(layer, params, x, dy):
    """The output and all gradients."""
    y, back, _ = layer.apply(params, x)
    dparams, dx = back(dy)
    return [y, dx, *(dparams[key] for key in sorted(dparams))] if params else [y, dx]


@pytest.mark.parametrize("most", [volumes.MOST_UNFOLDED, 2000, 1])
@pytest.mark.parametrize(("layer", "shape"), CONVOLUTIONS, ids=str)
def test_convolutions_are_the_oracle_however_they_are_divided(monkeypatch, layer, shape, most):
    monkeypatch.setattr(volumes, "MOST_UNFOLDED", most)
    rng = np.random.default_rng(1)
    params = {key: rng.standard_normal(a.shape) for key, a in layer.init(rng, shape).items()}
    x = rng.standard_normal((3, *shape))
    dy = rng.standard_normal((3, *layer.output_shape(shape)))
    want = plain_layers.apply(layer, params, x)
    dparams, dx = want[1](dy)
    expected = [want[0], dx, dparams["bias"], dparams["weight"]]
    for have, correct in zip(run(layer, params, x, dy), expected, strict=True):
        np.testing.assert_allclose(have, correct, atol=1e-11)
    assert layer.apply(params, x, wrt_x=False)[1](dy)[1] is None


@pytest.mark.parametrize("layer", [nn.max_pool3d(2), nn.max_pool3d(3), nn.avg_pool3d(2),
                                   nn.avg_pool3d(1)], ids=str)  # fmt: skip
def test_pooling_is_the_oracle(layer):
    for shape in ((2, 5, 4, 7), (1, 3, 3, 3), (0, 3, 4, 5)):
        x = RNG.standard_normal((2, *shape)).round(1)  # with equal values
        dy = RNG.standard_normal((2, *layer.output_shape(shape)))
        y, back, _ = plain_layers.apply(layer, (), x)
        got = run(layer, (), x, dy)
        np.testing.assert_allclose(got[0], y, atol=1e-14)
        np.testing.assert_allclose(got[1], back(dy)[1], atol=1e-14)


def test_pytorch_gives_the_same_numbers():
    torch = pytest.importorskip("torch")
    x, functional = RNG.standard_normal((2, 3, 7, 6, 9)), torch.nn.functional
    layer = nn.conv3d(4, 3, 2, 1)
    weight, bias = RNG.standard_normal((4, 3, 3, 3, 3)), RNG.standard_normal(4)
    functions = {
        layer: lambda x, w, b: functional.conv3d(x, w, b, 2, 1),
        nn.max_pool3d(2): lambda x: functional.max_pool3d(x, 2),
        nn.avg_pool3d(3): lambda x: functional.avg_pool3d(x, 3),
    }
    for each, function in functions.items():
        own = {"weight": weight, "bias": bias} if each is layer else {}
        given = [torch.tensor(a, requires_grad=True) for a in (x, *own.values())]
        want = function(*given)
        dy = RNG.standard_normal(want.shape)
        want.backward(torch.from_numpy(dy))
        got = run(each, own or (), x, dy)
        expected = [want.detach(), given[0].grad, *(t.grad for t in given[:0:-1])]
        for have, correct in zip(got, expected, strict=True):
            np.testing.assert_allclose(have, correct.numpy(), atol=1e-12)


def test_the_largest_is_the_first_of_equals_and_nan_wins():
    x = np.zeros((1, 1, 2, 2, 4), np.float32)
    x[0, 0, 1, 1, 3] = np.nan
    y, back, _ = nn.max_pool3d(2).apply((), x)
    np.testing.assert_array_equal(y.ravel(), [0, np.nan])
    dx = back(np.ones_like(y))[1]
    assert (dx[0, 0, 0, 0, 0], dx[0, 0, 1, 1, 3], dx.sum()) == (1, 1, 2)
    wide = np.zeros((1, 1, 7, 7, 7), np.float32)
    wide[0, 0, 6, 6, 6] = 1  # beyond what a byte counts
    _, back, _ = nn.max_pool3d(7).apply((), wide)
    assert back(np.ones((1, 1, 1, 1, 1), np.float32))[1][0, 0, 6, 6, 6] == 1


def test_unfolded_volumes_take_little_memory():
    """Those of all taps would take 27 * 16 * 48^3 * 4 bytes, 191 MB, for each example."""
    layer, x = nn.conv3d(1, 3, padding="same"), np.zeros((2, 16, 48, 48, 48), np.float32)
    params = layer.init(np.random.default_rng(0), x.shape[1:])
    tracemalloc.start()
    y, back, _ = layer.apply(params, x)
    back(y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * x.nbytes + 3 * 4 * volumes.MOST_UNFOLDED


BAD = [
    (lambda: nn.conv3d(0, 3), "conv3d: features must be a whole number of at least 1, got 0"),
    (lambda: nn.conv3d(1, 3, padding="valid"), 'conv3d: padding must be .*"same", got .valid.'),
    (lambda: nn.conv3d(1, 3, padding=-1), "conv3d: padding must be a whole number of at least 0"),
    (lambda: nn.conv3d(1, 2).output_shape((1, 4, 4)),
     r"conv3d: x: expected shape \(N, C, D, H, W\), got \(N, 1, 4, 4\)"),
    (lambda: nn.conv3d(1, 5).output_shape((1, 8, 4, 8)),
     "conv3d: x: .*a window of 5 x 5 x 5 fits, got .N, 1, 8, 4, 8."),
    (lambda: nn.conv3d(1, 1, padding=2).output_shape((1, 0, 4, 8)), "conv3d: x: expected volumes"),
    (lambda: nn.max_pool3d(1.5), "max_pool3d: kernel must be a whole number"),
    (lambda: nn.max_pool3d().output_shape((1, 1, 4, 4)), "max_pool3d: x: expected volumes"),
    (lambda: nn.avg_pool3d().output_shape((1, 4, 4)), "avg_pool3d: x: expected shape"),
    (lambda: nn.conv3d(1, 2).apply({"weight": np.ones((1, 1, 2, 2)), "bias": np.ones(1)},
                                   np.ones((1, 1, 2, 2, 2))),
     r"conv3d: weight: expected shape \(1, 1, 2, 2, 2\)|conv3d: params.weight: expected shape"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_input_is_named(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()
