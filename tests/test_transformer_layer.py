"""The spatial transformer as a layer, and the mean of its views."""

import numpy as np
import pytest

from numba_stn import nn
from numba_stn.transforms.parametrisations import TRANSFORMS


def test_view_angles_become_floats():
    one, other = (
        nn.spatial_transformer(nn.flatten(), view_angles=angles)
        for angles in ([0, 9], np.array([0, 9]))
    )
    assert one == other
    assert hash(one) == hash(other)
    assert one.view_angles == (0.0, 9.0)


def test_a_transformer_starts_at_the_identity():
    rng = np.random.default_rng(0)
    for name, transform in TRANSFORMS.items():
        sides = (5, 5, 5) if transform.kind == "affine 3-D" else (9, 9)
        x = rng.standard_normal((2, 1, *sides)).astype(np.float32)
        layer = nn.spatial_transformer(nn.serial(nn.flatten(), nn.linear(4)), name)
        y, _, _ = layer.apply(layer.init(rng, x.shape[1:]), x)
        np.testing.assert_allclose(y, x, rtol=0, atol=1e-12 if name == "tps" else 0)


def test_a_transformer_starts_at_its_zoom():
    images = np.random.default_rng(0).random((2, 1, 8, 8), np.float32)
    for name in ("affine", "projective", "tps", "similarity", "restricted_affine"):
        layer = nn.spatial_transformer(nn.flatten(), name, (4, 4), zoom=0.5)
        y, _, _ = layer.apply(layer.init(np.random.default_rng(0), (1, 8, 8)), images)
        np.testing.assert_allclose(y, images[:, :, 2:6, 2:6], rtol=0, atol=1e-6, err_msg=name)
    with pytest.raises(ValueError, match="zoom: rotation cannot zoom"):
        nn.spatial_transformer(nn.flatten(), "rotation", zoom=0.5)


@pytest.mark.parametrize("transform", ["affine", "projective"])
def test_a_view_is_rotated_about_the_middle_of_the_output(transform):
    images = np.random.default_rng(0).random((3, 2, 8, 8))
    layer = nn.spatial_transformer(
        nn.flatten(), transform, (4, 4), zoom=0.5, view_angles=(0, 90, -180)
    )
    params = layer.init(np.random.default_rng(0), (2, 8, 8))
    y, _, _ = layer.apply(params, images)
    middle = images[:, :, 2:6, 2:6]
    views = [np.rot90(middle, quarters, (2, 3)) for quarters in (0, 1, 2)]
    np.testing.assert_allclose(y, np.concatenate(views, 1), rtol=0, atol=1e-12)
    samples, covered, _ = layer.apply_with_coverage(params, images)
    np.testing.assert_array_equal(samples, y)
    np.testing.assert_allclose(covered, np.ones((3, 4, 4)))


def test_mean_of_views_is_the_mean_of_the_outputs():
    rng = np.random.default_rng(0)
    net, x = nn.serial(nn.conv2d(3, 3), nn.flatten(), nn.linear(2)), rng.random((5, 6, 4, 4))
    layer = nn.mean_of_views(3, *net.layers)
    params = layer.init(rng, (6, 4, 4))
    y, _, _ = layer.apply(params, x)
    outputs = [net.apply(params, view)[0] for view in np.split(x, 3, axis=1)]
    np.testing.assert_allclose(y, sum(outputs) / 3, rtol=1e-12)
    with pytest.raises(ValueError, match=r"mean_of_views: .* 3 equal parts, got \(N, 5, 4, 4\)"):
        layer.output_shape((5, 4, 4))
