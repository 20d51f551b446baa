"""Lists of points: sampling, splatting, and their gradients."""

import itertools

import numpy as np
import pytest
from gradcheck import check_vjp
from samplers import EXACT, MODES, PADDINGS

import numba_stn as stn

LAYOUTS = ("NCHW", "NHWC")
kinds = pytest.mark.parametrize(("mode", "padding_mode"), [*itertools.product(MODES, PADDINGS)])


def lists(rng, dims=2, count=11, dtype=np.float64):
    """Images, points in and around them, and values at the points."""
    images = rng.standard_normal((2, 3, *(5, 6, 7)[:dims])).astype(dtype)
    points = rng.uniform(-1.3, 1.3, (2, count, dims)).astype(dtype)
    return images, points, rng.standard_normal((2, 3, count)).astype(dtype)


def to_layout(array, layout):
    return np.ascontiguousarray(np.moveaxis(array, 1, -1)) if layout == "NHWC" else array


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dims", [2, 3])
def test_points_are_a_grid_of_one_row(dims, layout):
    images, points, _ = lists(np.random.default_rng(0), dims)
    grid = points.reshape(2, *[1] * (dims - 1), 11, dims)
    expected = stn.grid_sample(images, grid, fill=0.5).reshape(2, 3, 11)
    got = stn.sample_points(to_layout(images, layout), points, fill=0.5, layout=layout)
    np.testing.assert_allclose(got, to_layout(expected, layout), atol=1e-13)


def test_a_long_list_in_rows_has_the_same_samples():
    images, points, values = lists(np.random.default_rng(1), count=64 * 100, dtype=np.float32)
    one = stn.grid_sample(images, points[:, None])[:, :, 0]
    np.testing.assert_array_equal(stn.sample_points(images, points), one)
    np.testing.assert_array_equal(stn.sample_points(images, points[:, :6399]), one[:, :, :6399])
    splatted = stn.grid_sample_vjp(values[:, :, None], images, points[:, None])[0]
    np.testing.assert_allclose(stn.splat(values, points, (5, 6)), splatted, atol=1e-3)


def check_transpose(images, points, values, **chosen):
    """Compare <values, sample_points(images)> with <splat(values), images>."""
    forward = values * stn.sample_points(images, points, **chosen)
    size = images.shape[1:-1] if chosen.get("layout") == "NHWC" else images.shape[2:]
    backward = images * stn.splat(values, points, size, **chosen)
    assert np.abs(forward).sum() > 1
    assert abs(forward.sum() - backward.sum()) < 1e-13 * np.abs(forward).sum()


@kinds
def test_splat_is_the_transpose_of_sampling(mode, padding_mode):
    given = lists(np.random.default_rng(2))
    for align_corners in (False, True):
        check_transpose(
            *given, mode=mode, padding_mode=padding_mode, align_corners=align_corners
        )  # fmt: skip


@pytest.mark.parametrize(
    "sampler", [row for row in EXACT if row.source == "grid" and row[3:5] != (2, "NCHW")], ids=str
)
def test_splat_is_the_transpose_in_volumes_and_with_channels_last(sampler):
    images, points, values = lists(np.random.default_rng(3), sampler.dims)
    if sampler.layout == "NHWC":
        images, values = to_layout(images, "NHWC"), to_layout(values, "NHWC")
    check_transpose(images, points, values, layout=sampler.layout, **sampler.options())


@kinds
def test_gradients(mode, padding_mode):
    rng = np.random.default_rng(4)
    images, points, values = lists(rng)
    chosen = {"mode": mode, "padding_mode": padding_mode}
    for forward, vjp, first in (
        (stn.sample_points, stn.sample_points_vjp, images),
        (lambda *x, **chosen: stn.splat(*x, (5, 6), **chosen), stn.splat_vjp, values),
    ):
        if mode == "nearest":  # small steps do not change the nearest pixel
            check_vjp(
                lambda x, f=forward: f(x, points, **chosen),
                lambda d, vjp=vjp, x=first: vjp(d, x, points, **chosen)[0], first, rng,
            )  # fmt: skip
            assert not vjp(forward(first, points, **chosen), first, points, **chosen)[1].any()
            continue
        check_vjp(
            lambda x, f=forward: f(*x, **chosen),
            lambda d, vjp=vjp, x=first: vjp(d, x, points, **chosen), (first, points), rng,
            step=1e-7, rtol=1e-5,
        )  # fmt: skip


def test_only_the_wanted_gradients():
    images, points, values = lists(np.random.default_rng(5))
    assert stn.sample_points_vjp(values, images, points, wrt=("points",))[0] is None
    assert stn.sample_points_vjp(values, images, points, wrt=("images",))[1] is None
    dvalues, none = stn.splat_vjp(images, values, points, wrt=("values",))
    assert dvalues.shape == values.shape
    assert none is None
    none, dpoints = stn.splat_vjp(images, values, points, wrt=("points",))
    assert dpoints.shape == points.shape
    assert none is None


BAD = {
    "points.*N, P, 2.*got .2, 2, 11, 2": lambda i, p, v: stn.sample_points(i, np.stack([p, p], 1)),
    "points.*at least one.*2, 0, 2": lambda i, p, v: stn.sample_points(i, p[:, :0]),
    "points.*got int64": lambda i, p, v: stn.sample_points(i, p.astype(int)),
    "wrt.*images.*points.*'grid'": lambda i, p, v: stn.sample_points_vjp(v, i, p, wrt=("grid",)),
    "wrt.*'values'.*'x'": lambda i, p, v: stn.splat_vjp(i, v, p, wrt="x"),
    "size.*two positive.*5": lambda i, p, v: stn.splat(v, p, (5, 6, 7, 8, 9)),
    "values.*N, C, P": lambda i, p, v: stn.splat(v[0], p, (5, 6)),
    "layout.*NCHW.*'HWC'": lambda i, p, v: stn.sample_points(i, p, layout="HWC"),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_named(message):
    with pytest.raises((ValueError, TypeError), match=message):
        BAD[message](*lists(np.random.default_rng(7)))
