"""Parametrisations of theta: known maps, identities, gradients, bad input."""

import numpy as np
import pytest
from gradcheck import check_vjp

from numba_stn import transforms

ALL = list(transforms.TRANSFORMS.values())


@pytest.mark.parametrize("transform", ALL, ids=repr)
def test_identity_and_gradient(transform):
    identity = transform.theta(np.array([transform.identity]))
    np.testing.assert_array_equal(identity, np.eye(2, 3)[None])
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


KNOWN = {
    "translation": ([3.0, 4.0], [[1, 0, 3], [0, 1, 4]]),
    "scale": ([3.0, 4.0], [[3, 0, 0], [0, 4, 0]]),
    "rotation": ([np.pi / 2], [[0, -1, 0], [1, 0, 0]]),
    "shear": ([3.0, 4.0], [[1, 3, 0], [4, 1, 0]]),
    "attention": ([2.0, 3.0, 4.0], [[2, 0, 3], [0, 2, 4]]),
    "affine": ([1.0, 2, 3, 4, 5, 6], [[1, 2, 3], [4, 5, 6]]),
    # Scaled to (2, 0), not sheared, turned to (0, 2), moved to (1, 2).
    "restricted_affine": ([1.0, 0, np.pi / 2, 0, 0, 2, 3], [[0, -3, 1], [2, 0, 0]]),
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_maps(name):
    params, theta = KNOWN[name]
    found = transforms.by_name(name).theta(np.array([params]))
    np.testing.assert_allclose(found[0], theta, atol=1e-15)


def test_composition_is_the_matrix_product():
    rng = np.random.default_rng(1)
    parts = (transforms.affine, transforms.rotation, transforms.attention)
    params = [rng.standard_normal((5, part.size)) for part in parts]

    def square(theta):
        return np.concatenate([theta, np.tile([[[0.0, 0, 1]]], (5, 1, 1))], axis=1)

    product = np.tile(np.eye(3), (5, 1, 1))
    for part, own in zip(parts, params, strict=True):
        product = product @ square(part.theta(own))
    both = transforms.compose(*parts)
    np.testing.assert_allclose(
        both.theta(np.concatenate(params, axis=1)), product[:, :2], atol=1e-12
    )
    assert repr(both) == "affine * rotation * attention"
    assert transforms.compose(transforms.scale).size == 2


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"params.*rotation.*\(N, 1\).*\(2, 3\)"):
        transforms.rotation.theta(np.zeros((2, 3)))
    with pytest.raises(TypeError, match="params.*int64"):
        transforms.rotation.theta(np.zeros((2, 1), int))
    with pytest.raises(ValueError, match=r"dtheta.*\(2, 2, 3\).*\(2, 3\)"):
        transforms.rotation.vjp(np.zeros((2, 3)), np.zeros((2, 1)))
    with pytest.raises(ValueError, match="transform.*affine.*'swirl'"):
        transforms.by_name("swirl")
    with pytest.raises(ValueError, match="compose"):
        transforms.compose()
