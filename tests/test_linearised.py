"""Linearised multi-sampling: its slopes, and digits that the exact gradient does not find."""

import numpy as np
import pytest
from gradcheck import like, moved
from scipy.ndimage import gaussian_filter, map_coordinates

import numba_stn as stn
from numba_stn import data, nn, transforms
from numba_stn.ops.linearised import draw_offsets


def test_slopes_are_those_of_least_squares():
    """The plane through the samples around a position, found by NumPy from SciPy's samples."""
    rng = np.random.default_rng(0)
    image = gaussian_filter(rng.random((12, 15)), 1.0)
    position = np.array([6.3, 4.6])  # x, y
    grid = stn.grid_from_pixels(position[None, None, None], (12, 15))
    found = stn.grid_sample_linearised_vjp(
        np.ones((1, 1, 1, 1)), image[None, None], grid, spread=1.5, count=10, seed=3,
        padding_mode="border",
    )  # fmt: skip
    around = position + draw_offsets(2, 1.5, 10, 3)
    values = map_coordinates(image, around.T[::-1], order=1, mode="nearest")
    (slope_x, slope_y, _), *_ = np.linalg.lstsq(
        np.column_stack([around, np.ones(10)]), values, rcond=None
    )
    np.testing.assert_allclose(found[0, 0, 0], [slope_x * 7.5, slope_y * 6], rtol=1e-9)


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("name", ["similarity", "affine_3d", "tps", "cpab"])
def test_on_a_linear_image_it_is_the_exact_gradient(name, align):
    transform = transforms.cpab(2) if name == "cpab" else transforms.by_name(name)
    sides = (7, 8, 9) if name == "affine_3d" else (18, 17)
    ramps = np.meshgrid(*map(np.arange, sides), indexing="ij")
    images = sum((k + 1.5) * ramp for k, ramp in enumerate(ramps))[None, None].astype(float)
    localisation = nn.serial(nn.flatten(), nn.linear(2), nn.tanh())
    zoom = 0.3 if transform.scales else 1.0
    exact, linear = (
        nn.spatial_transformer(
            localisation, transform, (2,) * len(sides), "border", align, zoom, gradient=gradient
        )
        for gradient in ("exact", nn.linearised(0.2))
    )
    rng = np.random.default_rng(0)
    params = exact.init(rng, (1, *sides))
    params = moved(params, like(rng, params), 1e-4)
    y, pullback, _ = exact.apply(params, images)
    samples, other, _ = linear.apply(params, images)
    np.testing.assert_array_equal(samples, y)
    dy = rng.standard_normal(y.shape)
    (dparams, dx), (found, same) = pullback(dy), other(dy)
    np.testing.assert_allclose(same, dx, atol=1e-6)
    for (_, a), (_, b) in zip(nn.tree.leaves(found), nn.tree.leaves(dparams), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def descended(gradient, start, steps=60):
    """The translation that moves a digit to the middle, by steps against the gradient."""
    digit = data.digits().train.images[3, 0]
    image, wanted = np.zeros((2, 1, 1, 56, 56))
    image[0, 0, 20:36, 20:36] = digit
    wanted[0, 0] = image[0, 0]
    params = np.array([start]) * 2 / 56
    layer = nn.spatial_transformer(nn.flatten(), "translation", gradient=gradient)
    for step in range(steps):
        theta = transforms.translation.theta(params)
        samples = layer.warp(image, theta, None)
        _, dsamples = nn.mean_squared_error(samples, wanted)
        _, dtheta = layer.warp_vjp(dsamples, image, theta, False)
        dparams = transforms.translation.vjp(dtheta, params)
        length = np.linalg.norm(dparams)
        if length > 1e-12:
            params = params - (1.0 - step / steps) * 2 / 56 * dparams / length
    return np.linalg.norm(params) * 56 / 2


@pytest.mark.parametrize("start", [(17.0, 0.0), (-12.0, 13.0), (3.0, -17.0)])
def test_a_digit_far_away_is_found(start):
    """Nothing of the digit is where it should be: by how many pixels its place is missed."""
    assert descended("exact", start) > 8
    assert descended(nn.linearised(spread=6.0, count=32), start) < 1.5


def test_the_same_seed_gives_the_same_bits_and_bad_numbers_are_refused():
    rng = np.random.default_rng(0)
    images, grid = rng.random((1, 2, 6, 7)), rng.uniform(-1, 1, (1, 3, 4, 2))
    d = rng.standard_normal((1, 2, 3, 4))
    one, two, other = (
        stn.grid_sample_linearised_vjp(d, images, grid, seed=seed) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, two)
    assert np.abs(one - other).max() > 1e-3
    for options, message in (
        ({"spread": 0}, "spread: expected a positive number, got 0"),
        ({"spread": np.nan}, "spread: expected a positive number, got nan"),
        ({"count": 5}, "count: expected an even number, got 5"),
        ({"count": 2}, "count: expected"),
        ({"seed": -1}, "seed: expected"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            stn.grid_sample_linearised_vjp(d, images, grid, **options)
    with pytest.raises(ValueError, match=r"dsamples: expected shape \(1, 2, 3, 4\), got"):
        stn.grid_sample_linearised_vjp(d[:, :1], images, grid)
    with pytest.raises(ValueError, match='gradient: expected "exact", "linearised" or'):
        nn.spatial_transformer(nn.flatten(), gradient="blurred")
    with pytest.raises(ValueError, match="gradient: expected exact for projective"):
        nn.spatial_transformer(nn.flatten(), "projective", gradient="linearised")
