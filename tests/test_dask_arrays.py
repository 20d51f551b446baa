"""Dask arrays: the same results as NumPy's, chunk by chunk, and computed lazily."""

import inspect

import numpy as np
import pytest

import numba_stn as stn

da = pytest.importorskip("dask.array")

RNG = np.random.default_rng(0)
IMAGES = RNG.random((7, 2, 9, 8), np.float32)
AFFINE = np.eye(2, 3) + 0.2 * RNG.standard_normal((7, 2, 3))
COORDS = {
    "warp_affine": AFFINE,
    "warp_perspective": np.eye(3) + 0.1 * RNG.standard_normal((7, 3, 3)),
    "warp_tps": stn.control_points(3)[None] + 0.1 * RNG.standard_normal((7, 9, 2)),
    "grid_sample": RNG.uniform(-1.1, 1.1, (7, 5, 6, 2)),
}


def dask(array, chunk=3):
    return da.from_array(array, chunks=(chunk, *array.shape[1:]))


def same(found, expected):
    assert isinstance(found, da.Array)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    assert isinstance(found._meta, np.ndarray)
    computed = found.compute(scheduler="threads", num_workers=2)
    np.testing.assert_array_equal(computed, expected)


@pytest.mark.parametrize("name", COORDS)
def test_forward_and_backward(name):
    function, vjp = getattr(stn, name), getattr(stn, f"{name}_vjp")
    coords, options = COORDS[name], {"padding_mode": "reflection", "align_corners": True}
    size = {} if name == "grid_sample" else {"size": (5, 6)}
    expected = function(IMAGES, coords, **size, **options)
    given = [
        (dask(IMAGES), dask(coords)),
        (dask(IMAGES), coords),
        (IMAGES, dask(coords, 2)),
        (dask(IMAGES, 7), dask(coords, 2)),
    ]
    for images, theta in given:
        same(function(images, theta, **size, **options), expected)
    gradients = vjp(expected, IMAGES, coords, **options)
    found = vjp(dask(expected), dask(IMAGES), coords, **options)
    for one, other in zip(found, gradients, strict=True):
        same(one, other)
    of_coords = list(inspect.signature(vjp).parameters)[2]
    nothing, only = vjp(dask(expected), IMAGES, coords, **options, wrt=(of_coords,))
    assert nothing is None
    same(only, gradients[1])


def test_one_image_for_many_thetas():
    one = IMAGES[:1]
    expected = stn.warp_affine(one, AFFINE)
    same(stn.warp_affine(one, dask(AFFINE)), expected)
    same(stn.warp_affine(dask(one), dask(AFFINE)), expected)
    dimages, dtheta = stn.warp_affine_vjp(dask(expected), one, AFFINE)
    wanted = stn.warp_affine_vjp(expected, one, AFFINE)
    same(dtheta, wanted[1])
    assert dimages.shape == one.shape
    np.testing.assert_allclose(dimages.compute(), wanted[0], rtol=1e-5, atol=1e-6)


def test_coverage_is_a_second_array():
    found = stn.warp_affine(dask(IMAGES), AFFINE, coverage=True)
    for one, other in zip(found, stn.warp_affine(IMAGES, AFFINE, coverage=True), strict=True):
        same(one, other)


def test_chunks_of_other_axes_are_merged():
    images = da.from_array(IMAGES, chunks=(4, 1, 5, 3))
    found = stn.warp_affine(images, AFFINE)
    assert found.chunks[0] == (4, 3)
    same(found, stn.warp_affine(IMAGES, AFFINE))


def test_nothing_is_computed_before_compute():
    def boom(block):
        raise RuntimeError("computed")

    images = da.from_array(IMAGES, chunks=(3, 2, 9, 8)).map_blocks(boom, meta=IMAGES[:0])
    found = stn.warp_affine(images, AFFINE, (5, 6))
    assert found.shape == (7, 2, 5, 6)
    with pytest.raises(RuntimeError, match="computed"):
        found.compute(scheduler="synchronous")


def test_tasks_run_on_one_thread(monkeypatch):
    from numba_stn.kernels import cpu_launch

    seen = []
    monkeypatch.setattr(cpu_launch, "PARALLEL_WORK", 1)
    whole = cpu_launch.parallel

    def parallel(work):
        seen.append(whole(work))
        return seen[-1]

    monkeypatch.setattr(cpu_launch, "parallel", parallel)
    stn.warp_affine(dask(IMAGES), AFFINE).compute(scheduler="threads")
    assert seen
    assert not any(seen)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: stn.warp_affine(x, AFFINE[:, :1]), r"theta: .*\(7, 1, 3\)"),
        (lambda x: stn.warp_affine(x, AFFINE[:4]), "theta: expected 7 examples, got 4"),
        (lambda x: stn.warp_affine(x, AFFINE[:1]), "theta: expected 7 examples, got 1"),
        (lambda x: stn.warp_affine(x[:4], dask(AFFINE)), "images: expected 7 examples, or one"),
        (lambda x: stn.warp_affine(x, AFFINE, mode="cubic"), "mode"),
        (lambda x: stn.warp_affine(x.astype(int), AFFINE), "images: .*int64"),
        (lambda x: stn.warp_affine(x, AFFINE, out=np.zeros(3)), "out: expected None"),
        (lambda x: stn.warp_affine(x[x[:, 0, 0, 0] > 0.5], AFFINE), "images: expected a known"),
        (lambda x: stn.warp_affine(x), "theta"),
    ],
)
def test_wrong_arguments_are_named_at_once(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call(dask(IMAGES))
