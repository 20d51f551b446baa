"""Prepared warps: the bits of the ordinary calls, and what does not fit a plan."""

import re

import numpy as np
import pytest

import numba_stn as stn

THETA = np.array([[0.8, -0.3, 0.1], [0.2, 0.9, -0.2]])
SQUARE = np.vstack([THETA, [0.1, 0.05, 1.0]])
VOLUME = np.array([[0.8, -0.3, 0.1, 0.0], [0.2, 0.9, -0.2, 0.1], [0.1, 0.0, 0.7, 0.0]])

# One kind of each: images' dtype, theta, batch of images, layout, options.
KINDS = [
    ("float32", THETA, 2, "NCHW", {}),
    ("float32", THETA, 1, "NCHW", {"align_corners": True}),
    ("float32", SQUARE, 2, "NHWC", {"padding_mode": "reflection"}),
    ("uint8", THETA, 2, "NCHW", {"padding_mode": "fill", "fill": (1, 2, 3)}),
    ("float32", VOLUME, 2, "NCDHW", {}),
]


def arrays(dtype, theta, count, layout):
    """Images with three channels, and two maps close to theta."""
    rng = np.random.default_rng(0)
    sides = (4, 6, 7) if theta.shape == (3, 4) else (6, 7)
    shape = (count, *sides, 3) if layout[-1] == "C" else (count, 3, *sides)
    maps = theta + 0.1 * rng.standard_normal((2, *theta.shape))
    return (rng.random(shape) * 9).astype(dtype), maps, tuple(side + 1 for side in sides)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_plan_has_the_bits_of_the_ordinary_calls(kind):
    dtype, theta, count, layout, chosen = kind
    images, maps, size = arrays(dtype, theta, count, layout)
    options = {"layout": layout, **chosen}
    name = "warp_perspective" if theta.shape == (3, 3) else "warp_affine"
    warp, vjp = getattr(stn, name), getattr(stn, f"{name}_vjp")
    plan = stn.plan_warp(images, maps, size, **options)
    for given in (images, images[..., ::-1]):  # the second is not contiguous
        expected = warp(given, maps, size, **options)
        assert plan.shape == expected.shape
        found, out = plan(given, maps), np.empty_like(expected)
        assert plan(given, maps, out=out) is out
        assert found.dtype == expected.dtype
        assert found.tobytes() == out.tobytes() == expected.tobytes()
        dsamples = expected.astype("float32" if dtype == "uint8" else dtype)
        gradients = zip(plan.vjp(dsamples, given, maps), vjp(dsamples, given, maps, **options),
                        strict=True)  # fmt: skip
        assert all(a.tobytes() == b.tobytes() for a, b in gradients)
    assert plan.vjp(dsamples, images, maps, wrt=["theta"])[0] is None


def test_what_does_not_fit_a_plan_is_named():
    images, theta = np.ones((2, 1, 5, 6), np.float32), np.tile(THETA, (2, 1, 1))
    plan = stn.plan_warp(images, theta, (3, 4))
    samples = plan(images, theta)
    cases = {
        "images: expected shape (2, 1, 5, 6), got (1, 1, 5, 6)": (images[:1], theta),
        "images: expected float32, got float64": (images.astype(float), theta),
        "theta: expected shape (2, 2, 3), got (2, 3, 3)": (images, np.tile(SQUARE, (2, 1, 1))),
        "theta: expected float64, got float32": (images, theta.astype(np.float32)),
        "out: expected shape (2, 1, 3, 4)": (images, theta, images),
        "images: expected an array": ([[1, 2], [3]], theta),
    }
    for message, given in cases.items():
        with pytest.raises((ValueError, TypeError), match=re.escape(message)):
            plan(*given)
        with pytest.raises((ValueError, TypeError)):
            plan.vjp(samples, *given[:2]) if len(given) == 2 else plan.vjp(images, *given[:2])
    with pytest.raises(TypeError, match="stream: expected None for arrays on the CPU"):
        plan(images, theta, stream=1)
    with pytest.raises(ValueError, match="size: expected two positive integers"):
        stn.plan_warp(images, theta, (3, 0))
    assert repr(plan) == (
        "WarpPlan(images (2, 1, 5, 6) float32, theta (2, 2, 3) float64 -> samples (2, 1, 3, 4))"
    )
