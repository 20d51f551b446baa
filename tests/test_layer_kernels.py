"""Kernels of layers: convolution, pooling, batch normalisation on batch blocks."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numba_stn import nn
from numba_stn.kernels.cpu.simd.vectors import LANES
from numba_stn.kernels.layers import batch_blocks, convolution
from numba_stn.nn.tree import leaves, tree_map


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 3), st.integers(0, 4))
def test_convolution_agrees_with_einsum(seed, kernel, stride, padding):
    """So do its gradients: random shapes need tiles of 4, 2 and 1 rows and columns."""
    rng = np.random.default_rng(seed)
    channels, features, batch = rng.integers(1, 20), rng.integers(1, 9), rng.integers(1, 40)
    sides = rng.integers(kernel, kernel + 9, 2)
    layer = nn.conv2d(int(features), kernel, stride, padding)
    x = rng.standard_normal((batch, channels, *sides))
    params = tree_map(
        lambda p: rng.standard_normal(p.shape), layer.init(rng, (int(channels), *map(int, sides)))
    )
    y, pullback, _ = layer.apply(params, x)
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    view = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), axis=(2, 3))
    windows = view[:, :, ::stride, ::stride]
    expected = np.einsum("ncijkl,fckl->nfij", windows, params["weight"])
    np.testing.assert_allclose(y, expected + params["bias"][:, None, None], atol=1e-10)
    d = rng.standard_normal(y.shape)
    dparams, dx = pullback(d)
    dweight = np.einsum("ncijkl,nfij->fckl", windows, d)
    np.testing.assert_allclose(dparams["weight"], dweight, atol=1e-9)
    np.testing.assert_allclose(dparams["bias"], d.sum((0, 2, 3)), atol=1e-10)
    # y is linear in x, and dx its transpose.
    assert abs((expected * d).sum() - (x * dx).sum()) < 1e-8


def test_max_pool_chooses_the_first_of_equal_values_and_propagates_nan():
    x = np.zeros((1, 1, 2, 6))
    x[0, 0, 0, 2], x[0, 0, 1, 3] = np.nan, 5
    x[0, 0, 0, 5], x[0, 0, 1, 4] = 5, np.nan
    y, pullback, _ = nn.max_pool(2).apply((), x)
    np.testing.assert_array_equal(y, [[[[0, np.nan, np.nan]]]])
    _, dx = pullback(np.ones_like(y))
    np.testing.assert_array_equal(dx, [[[[1, 0, 1, 0, 0, 0], [0, 0, 0, 0, 1, 0]]]])


def test_consecutive_layers_give_the_same_bits_as_single_layers():
    """One conversion to batch blocks for all of them, or one for each."""
    rng = np.random.default_rng(0)
    layers = (
        nn.max_pool(2), nn.conv2d(4, 3, padding=1), nn.avg_pool(2), nn.conv2d(3, 3, 2, 1),
        nn.relu(), nn.conv2d(2, 1), nn.max_pool(3),
    )  # fmt: skip
    net, x = nn.serial(*layers), rng.standard_normal((17, 2, 25, 27))
    params = net.init(rng, x.shape[1:])
    y, pullback, _ = net.apply(params, x)
    (dparams, dx), (_, none) = pullback(y), net.apply(params, x, wrt_x=False)[1](y)
    backs, expected = [], x
    for layer, layer_params in zip(layers, params, strict=True):
        expected, back, _ = layer.apply(layer_params, expected)
        backs.append(back)
    np.testing.assert_array_equal(y, expected)
    expected_dx = y
    for back, layer_dparams in zip(reversed(backs), reversed(dparams), strict=True):
        expected_dparams, expected_dx = back(expected_dx)
        for (_, a), (_, b) in zip(leaves(layer_dparams), leaves(expected_dparams), strict=True):
            np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(dx, expected_dx)
    assert none is None


def test_layers_of_different_dtypes_work_together():
    net = nn.serial(nn.conv2d(2, 3), nn.conv2d(2, 3))
    first, second = net.init(np.random.default_rng(0), (1, 8, 8))
    params = first, tree_map(lambda weight: weight.astype(np.float64), second)
    y, pullback, _ = net.apply(params, np.ones((3, 1, 8, 8), np.float32))
    (dfirst, dsecond), dx = pullback(y)
    assert (y.dtype, dfirst["weight"].dtype, dsecond["weight"].dtype) == ("f8", "f4", "f8")
    assert np.isfinite(dx).all()


def test_batch_blocks_convert_back_to_the_same_images():
    rng = np.random.default_rng(0)
    for batch in (0, 1, LANES, LANES + 1):
        x = rng.standard_normal((batch, 2, 3, 5)).astype(np.float32)
        blocks = batch_blocks.to_batch_blocks(x)
        padded = batch_blocks.to_batch_blocks(x, 2)
        assert blocks.shape == (-(-batch // LANES), 2, 3, 5, LANES)
        np.testing.assert_array_equal(batch_blocks.from_batch_blocks(blocks, batch), x)
        np.testing.assert_array_equal(batch_blocks.cropped(padded, (2,) * 4), blocks)
        np.testing.assert_array_equal(batch_blocks.padded(blocks, (2,) * 4), padded)


def test_serial_and_parallel_kernels_give_the_same_bits(monkeypatch):
    from numba_stn.kernels import cpu_launch
    from numba_stn.kernels.layers import batch_norm

    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 3, 8, 9)).astype(np.float32)
    weight, bias = rng.standard_normal((7, 3, 3, 3)), rng.standard_normal(7)
    results = []
    for work in (0, 10**12):
        monkeypatch.setattr(cpu_launch, "PARALLEL_WORK", work)
        padded = batch_blocks.to_batch_blocks(x, 1)
        y = convolution.convolve(padded, weight, bias, 2)
        pooled, index = batch_blocks.max_pool(y, 2)
        dy = batch_blocks.max_pool_vjp(pooled, index, y.shape, 2)
        dx = convolution.convolve_vjp_x(dy, weight, padded.shape, 2)
        dparams = convolution.convolve_vjp_weight(dy, padded, weight.shape, 2)
        others = (
            batch_blocks.relu(y),
            batch_blocks.relu_vjp(dy, y),
            batch_blocks.from_batch_blocks(y, 40),
        )
        norm, (mean, var) = batch_norm.Pooled(2), batch_norm.moments(y, 40)
        normal = norm.normalize(y, 40, mean, bias, var)
        sums = norm.normalize_sums(pooled, y, 40, mean)
        numbers = batch_norm.InputGradient(mean, bias, *sums)
        norm_dx = norm.normalize_vjp_x(pooled, y, 40, numbers)
        results.append(
            (padded, y, pooled, index, dy, dx, *dparams, *others, normal, *sums, norm_dx)
        )
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("batch", [1, 16, 21])
@pytest.mark.parametrize("train", [False, True])
def test_batch_norm_of_batch_blocks_agrees_with_that_of_images(batch, train):
    """Also if the batch does not fill the last block."""
    rng = np.random.default_rng(batch)
    x, dy = 3 + rng.standard_normal((2, batch, 3, 4, 6))
    norm, net = nn.batch_norm(), nn.serial(nn.max_pool(1), nn.batch_norm(), nn.relu())
    params = {"scale": rng.random(3) + 1, "shift": rng.standard_normal(3) + 1}
    state = {"mean": rng.standard_normal(3), "var": rng.random(3) + 1}
    normal, back, moved = norm.apply(params, x, state, train)
    y, net_back, states = net.apply(((), params, ()), x, ((), state, ()), train)
    np.testing.assert_allclose(y, np.maximum(normal, 0), atol=1e-12)
    (_, dparams, _), dx = net_back(dy)
    want, want_dx = back(np.where(normal > 0, dy, 0))
    np.testing.assert_allclose(dx, want_dx, atol=1e-12)
    for key in want:
        np.testing.assert_allclose(dparams[key], want[key], rtol=1e-11)
    for key in state:
        np.testing.assert_allclose(states[1][key], moved[key], rtol=1e-6)


@pytest.mark.parametrize("batch", [1, 16, 21])
@pytest.mark.parametrize("train", [False, True])
def test_batch_norm_fused_with_max_pool_agrees_with_both(batch, train):
    """With scales of both signs and 0, and sides that are not multiples of the window."""
    rng = np.random.default_rng(batch)
    x, scale = 3 + rng.standard_normal((batch, 3, 7, 9)), np.array([1.5, -0.7, 0])
    dy = rng.standard_normal((batch, 3, 3, 4))
    norm, pool = nn.batch_norm(), nn.max_pool(2)
    state = norm.init_state((3, 7, 9))
    params = {"scale": scale, "shift": rng.standard_normal(3)}
    normal, norm_back, moved = norm.apply(params, x, state, train)
    expected, pool_back, _ = pool.apply((), normal)
    fused, back, states = nn.serial(norm, pool).apply((params, ()), x, (state, ()), train)
    np.testing.assert_allclose(fused, expected, atol=1e-12)
    (dparams, none), dx = back(dy)
    want, want_dx = norm_back(pool_back(dy)[1])
    assert none == states[1] == ()
    np.testing.assert_allclose(dx, want_dx, atol=1e-12)
    np.testing.assert_allclose(dparams["shift"], want["shift"], rtol=1e-11)
    # With a scale of 0 all elements are equal, and any of them may be chosen.
    np.testing.assert_allclose(dparams["scale"][:2], want["scale"][:2], rtol=1e-11)
    for key in state:
        np.testing.assert_allclose(states[0][key], moved[key], rtol=1e-6)


def test_unused_lanes_have_no_gradient(monkeypatch):
    """The lanes of the last block without an image are 0, whatever the memory contained."""
    from numba_stn.kernels.layers import batch_norm

    def garbage(shape, dtype=float):
        return np.full(shape, 7, dtype)

    monkeypatch.setattr(np, "empty", garbage)
    monkeypatch.setattr(np, "empty_like", lambda array: garbage(array.shape, array.dtype))
    rng, batch = np.random.default_rng(0), LANES + 5
    blocks = batch_blocks.to_batch_blocks(rng.standard_normal((batch, 2, 4, 4)))
    mean, factor, shift, more = rng.standard_normal((4, 2))
    numbers = batch_norm.InputGradient(mean, factor, shift, more)
    pooled = batch_norm.Pooled(2)
    results = [
        blocks,
        batch_norm.normalize(blocks, batch, mean, factor, shift),
        batch_norm.normalize_vjp_x(blocks, blocks, batch, numbers),
        (pool := pooled.normalize(blocks, batch, mean, factor, shift)),
        pooled.normalize_vjp_x(pool, blocks, batch, numbers),
    ]
    for result in results:
        assert result[0].all()
        assert result[1, ..., :5].all()
        assert not result[1, ..., 5:].any()


def test_moments_are_those_of_float64():
    """Also of float32 values whose mean is far from 0 and is not a float32."""
    from numba_stn.kernels.layers import batch_norm

    x = (1e6 + np.random.default_rng(0).integers(0, 2, (41, 3, 1, 1)) / 16).astype(np.float32)
    mean, var = batch_norm.moments(batch_blocks.to_batch_blocks(x), 41)
    exact = x.astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(var, exact.var((0, 2, 3)), rtol=1e-3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_vectors_are_not_divided_between_cache_lines(dtype):
    for shape in ((3, 5, LANES), (0, LANES)):
        array = batch_blocks.empty(shape, dtype)
        assert (array.shape, array.dtype) == (shape, dtype)
        assert array.flags.c_contiguous
        assert array.flags.writeable
        assert not array.size or array.__array_interface__["data"][0] % batch_blocks.LINE == 0


def test_relu_has_no_slope_at_0_and_keeps_nan():
    x = np.zeros((1, 1, 1, 1, LANES))
    x[..., :3] = -2, np.nan, 3
    y = batch_blocks.relu(x)
    np.testing.assert_array_equal(y[..., :4], [[[[[0, np.nan, 3, 0]]]]])
    np.testing.assert_array_equal(batch_blocks.relu_vjp(x + 1, y)[..., :4], [[[[[0, 0, 4, 0]]]]])


CONVOLUTION = """
import hashlib, numpy as np
from numba_stn.nn import conv2d
rng = np.random.default_rng(0)
layer, x = conv2d(64, 7), rng.standard_normal((64, 32, 10, 10)).astype(np.float32)
params = layer.init(rng, x.shape[1:])
y, pullback, _ = layer.apply(params, x)
dparams, dx = pullback(y)
print(hashlib.sha256(b"".join(a.tobytes() for a in (y, dparams["weight"], dx))).hexdigest())
"""


def test_convolution_gives_the_same_bits_with_any_number_of_threads():
    found = []
    for threads in ("1", "2", "3"):
        env = os.environ | {"NUMBA_NUM_THREADS": threads}
        command = [sys.executable, "-c", CONVOLUTION]
        found.append(subprocess.run(command, env=env, capture_output=True, text=True, check=True))
    assert found[0].stdout == found[1].stdout == found[2].stdout


def test_max_pool_with_a_large_window():
    layer, x = nn.max_pool(300), np.zeros((1, 1, 300, 300), np.float32)
    x[0, 0, 299, 298] = 1
    _, pullback, _ = layer.apply((), x)
    _, dx = pullback(np.ones((1, 1, 1, 1), np.float32))
    np.testing.assert_array_equal(dx, x)


def test_limits_on_blas_may_overlap():
    threadpoolctl = pytest.importorskip("threadpoolctl")
    from numba_stn.kernels.cpu_launch import _blas, one_blas_thread

    _blas.cache_clear()  # it does not know libraries that were loaded later, for instance SciPy's

    def counts():
        found = threadpoolctl.threadpool_info()
        return [pool["num_threads"] for pool in found if pool["user_api"] == "blas"]

    before = counts()
    first, second = one_blas_thread(), one_blas_thread()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert set(counts()) == {1}
    second.__exit__(None, None, None)
    assert counts() == before


def test_limits_on_blas_of_several_threads_may_overlap():
    """Those of a thread hold, and those that it leaves behind are removed by another one."""
    threadpoolctl = pytest.importorskip("threadpoolctl")
    from numba_stn.kernels.cpu_launch import _blas, one_blas_thread

    _blas.cache_clear()

    def counts():
        found = threadpoolctl.threadpool_info()
        return [pool["num_threads"] for pool in found if pool["user_api"] == "blas"]

    with one_blas_thread():  # threadpoolctl remembers who set a limit first
        pass
    before, found = counts(), []
    inside, leave = threading.Event(), threading.Event()

    def hold():
        with one_blas_thread():
            found.append(counts())
            inside.set()
            leave.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait()
    with one_blas_thread():
        leave.set()
        thread.join()
        found.append(counts())
    assert {number for each in found for number in each} == {1}
    assert counts() == before
