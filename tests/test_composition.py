"""Compose and invert theta: the laws of a group, warps of warps, gradients."""

import sys

import fake_cupy
import numpy as np
import pytest
from gradcheck import check_vjp
from hypothesis import given, settings
from hypothesis import strategies as st

import numba_stn as stn
from numba_stn.transforms import composition, parametrisations

# Transforms that are closed under composition.
FAMILIES = ("translation", "scale", "rotation", "rigid", "similarity", "affine", "projective")


def maps(name, seed, count=3, size=0.2):
    transform = parametrisations.by_name(name)
    noise = np.random.default_rng(seed).standard_normal((count, transform.size))
    return transform.theta(np.array(transform.identity) + size * np.clip(noise, -2, 2))


def volumes(seed):
    return np.eye(3, 4) + 0.2 * np.random.default_rng(seed).standard_normal((3, 3, 4))


def drawn(name, seed):
    return volumes(seed) if name == "affine 3-D" else maps(name, seed)


def kind(name):
    return name if name in ("projective", "affine 3-D") else "affine"


each = st.sampled_from((*FAMILIES, "affine 3-D"))
seeds = st.integers(0, 2**32 - 1)


@given(each, seeds)
@settings(deadline=None)
def test_laws_of_a_group(name, seed):
    first, second, third = (drawn(name, seed + k) for k in range(3))
    one = composition.identity_theta(3, kind(name))
    product, inverse = composition.compose_theta, composition.invert_theta
    np.testing.assert_array_equal(product(one, first), first)
    np.testing.assert_array_equal(product(first, one), first)
    left, right = product(product(first, second), third), product(first, product(second, third))
    np.testing.assert_allclose(left, right, atol=1e-12)
    back = inverse(first)
    scale = max(1.0, np.abs(back).max())
    np.testing.assert_allclose(product(first, back), one, atol=1e-12 * scale)
    np.testing.assert_allclose(product(back, first), one, atol=1e-12 * scale)
    both = inverse(product(first, second))
    expected = product(inverse(second), inverse(first))
    np.testing.assert_allclose(both, expected, atol=1e-10 * max(1.0, np.abs(both).max()) ** 2)


@pytest.mark.parametrize("name", FAMILIES[:-2])
def test_compositions_are_of_the_same_kind(name):
    """Compositions and inverses keep the transform's properties."""
    first, second = maps(name, 0), maps(name, 1)
    for theta in (composition.compose_theta(first, second), composition.invert_theta(first)):
        linear = theta[:, :, :2]
        square = linear @ linear.swapaxes(1, 2)
        if name in ("translation", "scale"):
            assert not linear[:, 0, 1].any()
            assert not linear[:, 1, 0].any()
        if name in ("translation", "rotation", "rigid"):
            np.testing.assert_allclose(square, np.tile(np.eye(2), (3, 1, 1)), atol=1e-14)
        if name == "similarity":
            np.testing.assert_allclose(square, square[:, :1, :1] * np.eye(2), atol=1e-14)
        if name in ("scale", "rotation"):
            assert not theta[:, :, 2].any()


@pytest.mark.parametrize("name", FAMILIES)
def test_a_warp_by_the_composition_is_a_warp_of_a_warp(name):
    y, x = np.mgrid[-1:1:128j, -1:1:128j]
    images = np.exp(-8 * ((x - 0.1) ** 2 + 0.6 * y**2 + 0.4 * x * y))[None, None]
    first, second = maps(name, 2, 1, 0.1), maps(name, 3, 1, 0.1)
    warp = stn.warp_perspective if name == "projective" else stn.warp_affine
    once = warp(images, composition.compose_theta(first, second))
    twice, other = warp(warp(images, first), second), warp(warp(images, second), first)
    inner = (..., slice(24, -24), slice(24, -24))
    np.testing.assert_allclose(twice[inner], once[inner], atol=2e-3)
    if name in ("rigid", "similarity", "affine", "projective"):
        assert np.abs(other[inner] - once[inner]).max() > 1e-2


@pytest.mark.parametrize("name", ["affine", "projective", "affine 3-D"])
def test_gradients(name):
    rng = np.random.default_rng(5)
    first, second = drawn(name, 6), drawn(name, 7)
    check_vjp(
        lambda pair: composition.compose_theta(*pair),
        lambda d: composition.compose_theta_vjp(d, first, second), (first, second), rng,
    )  # fmt: skip
    back = composition.invert_theta(first)
    check_vjp(composition.invert_theta, lambda d: composition.invert_theta_vjp(d, back), first, rng)


def test_float32_is_kept():
    theta = maps("affine", 8).astype(np.float32)
    assert composition.identity_theta(2, dtype=np.float32).dtype == np.float32
    found = [
        composition.compose_theta(theta, theta),
        composition.invert_theta(theta),
        composition.invert_theta_vjp(theta, theta),
    ]
    found += composition.compose_theta_vjp(theta, theta, theta)
    assert {array.dtype for array in found} == {np.dtype(np.float32)}
    assert composition.invert_theta(theta[:0]).shape == (0, 2, 3)


@pytest.mark.parametrize("name", ["affine", "projective"])
def test_arrays_of_cupy_stay_on_the_gpu(monkeypatch, name):
    cupy = fake_cupy.module()
    monkeypatch.setitem(sys.modules, "cupy", cupy)

    def everything(first, second):
        back = composition.invert_theta(first)
        yield composition.compose_theta(first, second)
        yield from composition.compose_theta_vjp(second, first, second)
        yield from (back, composition.invert_theta_vjp(second, back))

    on_cpu = maps(name, 9), maps(name, 10)
    on_gpu = map(cupy.asarray, on_cpu)
    for got, want in zip(everything(*on_gpu), everything(*on_cpu), strict=True):
        assert isinstance(got, fake_cupy.ndarray)
        np.testing.assert_allclose(got.get(), want, atol=1e-14)


class OnGpu:
    """An array on a GPU that is not CuPy's, which NumPy would copy to the host."""

    __cuda_array_interface__ = None

    def __array__(self, dtype=None, copy=None):
        pytest.fail("copied to the host")


AFFINE, SQUARE = np.eye(2, 3)[None], np.eye(3)[None]
BAD = {
    "kind.*projective.*'tps'": lambda: composition.identity_theta(1, "tps"),
    "first.*float64.*int64": lambda: composition.compose_theta(AFFINE.astype(int), AFFINE),
    "first.*2, 3.*got .1, 2, 2": lambda: composition.compose_theta(AFFINE[..., :2], AFFINE),
    "second.*1, 2, 3.*1, 3, 3": lambda: composition.compose_theta(AFFINE, SQUARE),
    "dtheta.*1, 2, 3.*1, 3, 3": lambda: composition.compose_theta_vjp(SQUARE, AFFINE, AFFINE),
    "dinverse.*float64.*float32": lambda: composition.invert_theta_vjp(AFFINE.astype("f"), AFFINE),
    "theta.*inverse.*without": lambda: composition.invert_theta(0 * AFFINE),
    "NumPy or CuPy.*OnGpu": lambda: composition.invert_theta(OnGpu()),
    "theta.*inverse, got one": lambda: composition.invert_theta(np.nan * SQUARE),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_named(message):
    with pytest.raises((ValueError, TypeError), match=message):
        BAD[message]()
