"""Parametrisations of theta: known maps, identities, gradients, bad input."""

import numpy as np
import pytest
from gradcheck import check_vjp
from scipy.spatial.transform import Rotation

import numba_stn as stn
from numba_stn import nn
from numba_stn.ops.tps_grid import control_points
from numba_stn.training import experiment
from numba_stn.transforms import composition, parametrisations

ALL = list(parametrisations.TRANSFORMS.values())


@pytest.mark.parametrize("transform", ALL, ids=repr)
def test_identity_and_gradient(transform):
    identity = transform.theta(np.array([transform.identity]))
    expected = control_points(4) if transform.kind == "tps" else np.eye(*transform.shape)
    np.testing.assert_array_equal(identity, expected[None])
    rng = np.random.default_rng(0)
    params = rng.standard_normal((4, transform.size))
    check_vjp(transform.theta, lambda d: transform.vjp(d, params), params, rng)


@pytest.mark.parametrize("transform", ALL, ids=repr)
def test_dtype_is_kept_and_nothing_is_shared(transform):
    params = np.array([transform.identity] * 2, np.float32)
    theta = transform.theta(params)
    dparams = transform.vjp(theta, params)
    assert theta.dtype == dparams.dtype == np.float32
    assert not np.shares_memory(theta, params)
    assert not np.shares_memory(dparams, theta)
    assert transform.theta(params[:0]).shape == (0, *transform.shape)


ZOOMS = [transform for transform in ALL if transform.scales] + [
    parametrisations.compose("translation", "similarity", "scale"), parametrisations.tps(3)
]  # fmt: skip


@pytest.mark.parametrize("transform", ZOOMS, ids=repr)
def test_a_zoom_samples_the_centre(transform):
    theta = transform.theta(np.array([transform.zoomed(0.25)]))
    if transform.kind == "tps":
        expected = 0.25 * transform.theta(np.array([transform.identity]))[0]
    else:
        expected = np.eye(*transform.shape)
        rows = transform.shape[0] - (transform.kind == "projective")
        expected[:rows] *= 0.25
    np.testing.assert_allclose(theta[0], expected, rtol=0, atol=1e-15)
    assert transform.zoomed(1) == transform.identity


def test_invalid_zooms():
    assert [t.name for t in ALL if not t.scales] == [
        "translation", "rotation", "shear", "rigid", "rigid_3d",
    ]  # fmt: skip
    assert parametrisations.rotation.zoomed(1) == (0.0,)
    with pytest.raises(ValueError, match=r"zoom: rigid cannot zoom, expected 1, got 0\.5"):
        parametrisations.rigid.zoomed(0.5)
    for share in (0, -1.0, np.inf, np.nan, "2", None, True):
        with pytest.raises(ValueError, match="zoom: expected a positive number, got"):
            parametrisations.affine.zoomed(share)


KNOWN = {
    "translation": ([3.0, 4.0], [[1, 0, 3], [0, 1, 4]]),
    "scale": ([3.0, 4.0], [[3, 0, 0], [0, 4, 0]]),
    "rotation": ([np.pi / 2], [[0, -1, 0], [1, 0, 0]]),
    "shear": ([3.0, 4.0], [[1, 3, 0], [4, 1, 0]]),
    "attention": ([2.0, 3.0, 4.0], [[2, 0, 3], [0, 2, 4]]),
    "affine": ([1.0, 2, 3, 4, 5, 6], [[1, 2, 3], [4, 5, 6]]),
    "rigid": ([np.pi / 2, 3.0, 4.0], [[0, -1, 3], [1, 0, 4]]),
    "similarity": ([np.pi / 2, 2.0, 3.0, 4.0], [[0, -2, 3], [2, 0, 4]]),
    "projective": ([1.0, 2, 3, 4, 5, 6, 7, 8], [[1, 2, 3], [4, 5, 6], [7, 8, 1]]),
    # Scaled to (2, 0), not sheared, rotated to (0, 2), translated to (1, 2).
    "restricted_affine": ([1.0, 0, np.pi / 2, 0, 0, 2, 3], [[0, -3, 1], [2, 0, 0]]),
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_maps(name):
    params, theta = KNOWN[name]
    found = parametrisations.by_name(name).theta(np.array([params]))
    np.testing.assert_allclose(found[0], theta, atol=1e-15)


def test_volumes_rotate_as_scipys_do():
    """Also by tiny angles, where the formula's factors are computed by series."""
    rng = np.random.default_rng(5)
    sizes = np.array([[3.0, 1.0, 0.02, 0.009, 0.004, 0.003, 1e-9, 0.0]]).T
    rotation, shift = sizes * rng.standard_normal((8, 3)), rng.standard_normal((8, 3))
    assert (np.abs((rotation**2).sum(1)[4:6] - 5e-5) < 4.9e-5).all()  # the series begin at 1e-4
    params = np.concatenate([rotation, shift], axis=1)
    theta = parametrisations.rigid_3d.theta(params)
    expected = Rotation.from_rotvec(rotation).as_matrix()
    np.testing.assert_allclose(theta[:, :, :3], expected, atol=1e-11)
    np.testing.assert_array_equal(theta[:, :, 3], shift)
    check_vjp(
        parametrisations.rigid_3d.theta,
        lambda d: parametrisations.rigid_3d.vjp(d, params),
        params,
        rng,
    )


def test_a_transformer_of_volumes():
    rng = np.random.default_rng(6)
    x, dy = rng.standard_normal((2, 1, 4, 5, 6)), rng.standard_normal((2, 1, 3, 3, 3))
    layer = nn.spatial_transformer(nn.serial(nn.flatten(), nn.linear(4)), "rigid_3d", (3, 3, 3))
    params = layer.init(rng, x.shape[1:])
    params["localisation"]["head"]["bias"] += 0.3 * rng.standard_normal(6).astype(np.float32)
    assert layer.output_shape(x.shape[1:]) == (1, 3, 3, 3)
    y, pullback, _ = layer.apply(params, x)
    raw = np.tile(params["localisation"]["head"]["bias"].astype(float), (2, 1))
    theta = parametrisations.rigid_3d.theta(raw)
    np.testing.assert_allclose(y, stn.warp_affine(x, theta, (3, 3, 3)), atol=1e-6)
    _, dtheta = stn.warp_affine_vjp(dy, x, theta)
    dbias = pullback(dy)[0]["localisation"]["head"]["bias"]
    np.testing.assert_allclose(dbias, parametrisations.rigid_3d.vjp(dtheta, raw).sum(0), atol=1e-5)


def test_composition_is_the_matrix_product():
    rng = np.random.default_rng(1)
    parts = (parametrisations.affine, parametrisations.rotation, parametrisations.attention)
    params = [rng.standard_normal((5, part.size)) for part in parts]

    def square(theta):
        return np.concatenate([theta, np.tile([[[0.0, 0, 1]]], (5, 1, 1))], axis=1)

    product = np.tile(np.eye(3), (5, 1, 1))
    for part, values in zip(parts, params, strict=True):
        product = product @ square(part.theta(values))
    both = parametrisations.compose(*parts)
    np.testing.assert_allclose(
        both.theta(np.concatenate(params, axis=1)), product[:, :2], atol=1e-12
    )
    assert repr(both) == "affine * rotation * attention"
    assert parametrisations.compose(parametrisations.scale).size == 2


def test_composition_with_a_projective_map():
    rng = np.random.default_rng(2)
    both = parametrisations.compose("similarity", "projective", "shear")
    assert both.kind == "projective"
    params = rng.standard_normal((3, both.size))
    parts = [
        composition.with_last_row(part.theta(values))
        for part, values in (
            (parametrisations.similarity, params[:, :4]),
            (parametrisations.projective, params[:, 4:12]),
            (parametrisations.shear, params[:, 12:]),
        )
    ]
    np.testing.assert_allclose(both.theta(params), parts[0] @ parts[1] @ parts[2], atol=1e-12)
    check_vjp(both.theta, lambda d: both.vjp(d, params), params, rng)
    identity = np.eye(3)[None]
    np.testing.assert_array_equal(both.theta(np.array([both.identity])), identity)


def test_splines_of_any_size():
    bent = parametrisations.tps(3, regularisation=0.5)
    assert repr(bent) == "tps(k=3, regularisation=0.5)"
    assert (bent.size, bent.shape, bent.kind) == (18, (9, 2), "tps")
    assert repr(parametrisations.tps()) == "tps"
    rng = np.random.default_rng(3)
    x, dy = rng.standard_normal((2, 1, 7, 7)), rng.standard_normal((2, 1, 7, 7))
    layer = nn.spatial_transformer(nn.serial(nn.flatten(), nn.linear(4)), bent)
    params = layer.init(rng, x.shape[1:])
    bias = params["localisation"]["head"]["bias"]
    bias += 0.1 * rng.standard_normal(18).astype(np.float32)
    y, pullback, _ = layer.apply(params, x)
    control = np.tile(bias.reshape(1, 9, 2), (2, 1, 1)).astype(y.dtype)
    np.testing.assert_allclose(y, stn.warp_tps(x, control, regularisation=0.5), atol=1e-12)
    _, dcontrol = stn.warp_tps_vjp(dy, x, control, regularisation=0.5)
    dbias = pullback(dy)[0]["localisation"]["head"]["bias"]
    np.testing.assert_allclose(dbias, dcontrol.sum(axis=0).ravel(), atol=1e-9)


@pytest.mark.parametrize("name", ["projective", "tps"])
def test_a_bent_transformer_learns_digits(name):
    """One epoch learns some of the digits, and changes the transformer."""
    config = experiment.Config(model="st-fcn", transform=name, epochs=1)
    learner, metrics = experiment.run(experiment.prepare(config))
    head = learner.params[0]["localisation"]["head"]
    assert metrics["test_error"] < 60
    assert np.abs(head["weight"]).max() > 1e-5
    assert np.isfinite(head["bias"]).all()


@pytest.mark.parametrize("padding_mode", ["zeros", "reflection"])
def test_gradients_are_finite_where_the_divisor_is_near_zero(padding_mode):
    """w is 0 on a line through the output, at pixel centres and near them."""
    rng = np.random.default_rng(4)
    images, dsamples = rng.standard_normal((4, 1, 9, 9)), rng.standard_normal((4, 1, 9, 9))
    params = np.array([parametrisations.projective.identity] * 4)
    params[:, 6] = 9 / 4, 9 / 4 + 1e-15, 9 / 4 - 1e-9, 1e300
    theta = parametrisations.projective.theta(params)
    samples = stn.warp_perspective(images, theta, padding_mode=padding_mode)
    dimages, dtheta = stn.warp_perspective_vjp(dsamples, images, theta, padding_mode=padding_mode)
    for array in (samples, dimages, parametrisations.projective.vjp(dtheta, params)):
        assert np.isfinite(array).all()


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"params.*rotation.*\(N, 1\).*\(2, 3\)"):
        parametrisations.rotation.theta(np.zeros((2, 3)))
    with pytest.raises(TypeError, match="params.*int64"):
        parametrisations.rotation.theta(np.zeros((2, 1), int))
    with pytest.raises(ValueError, match=r"dtheta.*\(2, 2, 3\).*\(2, 3\)"):
        parametrisations.rotation.vjp(np.zeros((2, 3)), np.zeros((2, 1)))
    with pytest.raises(ValueError, match="transform.*affine.*'swirl'"):
        parametrisations.by_name("swirl")
    with pytest.raises(ValueError, match="compose"):
        parametrisations.compose()
    with pytest.raises(ValueError, match="compose.*plane, got tps"):
        parametrisations.compose("affine", "tps")
    with pytest.raises(ValueError, match=r"dtheta.*\(2, 16, 2\).*\(2, 2, 3\)"):
        parametrisations.by_name("tps").vjp(np.zeros((2, 2, 3)), np.zeros((2, 32)))
