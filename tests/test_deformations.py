"""Displacement and velocity fields: beside SciPy's interpolation, exact maps and differences."""

import numpy as np
import pytest
from gradcheck import check_vjp
from scipy.ndimage import gaussian_filter, map_coordinates

from numba_stn import deformations, grid_from_displacement, grid_sample

SHAPES = {"planes": (2, 7, 9, 2), "volumes": (2, 5, 6, 4, 3), "a row": (1, 1, 6, 2)}


def composed(first, second):
    """second(x) + first(x + second(x)), by SciPy."""
    out = np.empty(second.shape)
    for n in range(len(second)):
        positions = np.indices(second.shape[1:-1]) + np.moveaxis(second[n], -1, 0)[::-1]
        for c in range(second.shape[-1]):
            moved = map_coordinates(first[n, ..., c], positions, order=1, mode="nearest")
            out[n, ..., c] = second[n, ..., c] + moved
    return out


def integrated(velocity, steps):
    field = velocity / 2**steps
    for _ in range(steps):
        field = composed(field, field)
    return field


def smooth(shape, pixels, sigma=6, seed=0):
    """A smooth field whose largest number is ``pixels``."""
    noise = np.random.default_rng(seed).standard_normal(shape)
    field = gaussian_filter(noise, (0, *[sigma] * (len(shape) - 2), 0))
    return field * pixels / np.abs(field).max()


@pytest.mark.parametrize("name", SHAPES)
def test_fields_are_those_of_scipy(name):
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((2, *SHAPES[name]))
    found = deformations.compose_displacements(first, second)
    np.testing.assert_allclose(found, composed(first, second), rtol=0, atol=1e-12)
    for steps in (0, 1, 5):
        found = deformations.integrate_velocity(first, steps)
        np.testing.assert_allclose(found, integrated(first, steps), rtol=0, atol=1e-11)
    small = deformations.integrate_velocity(smooth(SHAPES[name], 2.0).astype(np.float32))
    assert small.dtype == np.float32
    np.testing.assert_allclose(small, integrated(smooth(SHAPES[name], 2.0), 7), atol=1e-5)


@pytest.mark.parametrize("name", SHAPES)
def test_gradients(name):
    rng, shape = np.random.default_rng(1), SHAPES[name]
    first, second = rng.standard_normal((2, *shape))
    check_vjp(
        lambda fields: deformations.compose_displacements(*fields),
        lambda d: deformations.compose_displacements_vjp(d, first, second),
        (first, second), rng, step=1e-7,
    )  # fmt: skip
    check_vjp(
        lambda v: deformations.integrate_velocity(v, 4),
        lambda d: deformations.integrate_velocity_vjp(d, first, 4), first, rng, step=1e-7,
    )  # fmt: skip
    d = rng.standard_normal(shape)
    np.testing.assert_array_equal(deformations.integrate_velocity_vjp(d, first, 0), d)
    if name != "a row":
        check_vjp(
            deformations.jacobian_determinant,
            lambda d: deformations.jacobian_determinant_vjp(d, first), first, rng,
        )  # fmt: skip


def test_a_large_gradient_is_the_same_in_parallel_and_serially():
    """Several bands and tasks; a field that sends many pixels to the same rows."""
    from numba_stn.kernels import cpu_launch

    for shape in ((1, 150, 90, 2), (1, 18, 40, 41, 3)):
        velocity, d = smooth(shape, 9.0), np.random.default_rng(0).standard_normal(shape)
        found = deformations.integrate_velocity_vjp(d, velocity, 3)
        with cpu_launch.one_thread():
            np.testing.assert_array_equal(
                found, deformations.integrate_velocity_vjp(d, velocity, 3)
            )
        way = np.random.default_rng(1).standard_normal(shape)
        after, before = (
            deformations.integrate_velocity(velocity + sign * 1e-7 * way, 3) for sign in (1, -1)
        )
        numeric = np.vdot(d, after - before) / 2e-7
        assert np.vdot(found, way) == pytest.approx(numeric, rel=1e-6)


@pytest.mark.parametrize("shape", [(1, 80, 90, 2), (1, 40, 42, 44, 3)])
def test_smooth_velocities_have_inverses_and_do_not_fold(shape):
    velocity = smooth(shape, 6.0)
    forth = deformations.integrate_velocity(velocity)
    back = deformations.integrate_velocity(-velocity)
    for first, second in ((forth, back), (back, forth)):
        off = deformations.compose_displacements(first, second)
        inner = (slice(None), *[slice(8, -8)] * (len(shape) - 2))
        assert np.abs(off[inner]).max() < 0.05
    assert np.abs(forth).max() > 4
    assert deformations.count_folds(forth).tolist() == [0]
    assert deformations.jacobian_determinant(forth).min() > 0
    assert deformations.count_folds(3 * forth)[0] > 0  # the displacement itself, enlarged, folds


def test_a_linear_velocity_gives_its_exponential():
    y, x = np.mgrid[-30:31, -30:31].astype(float)
    angle, rate = np.pi / 3, np.log(1.2)
    velocity = np.stack([rate * x - angle * y, angle * x + rate * y], -1)[None]
    found = deformations.integrate_velocity(velocity, 12)[0, 20:41, 20:41]
    turn = 1.2 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = np.stack([x, y], -1)[20:41, 20:41]
    np.testing.assert_allclose(found, points @ turn.T - points, rtol=0, atol=0.01)


def test_determinants_are_those_of_numpys_gradient():
    for shape in ((2, 6, 7, 2), (2, 5, 4, 6, 3)):
        u, dims = np.random.default_rng(0).standard_normal(shape), shape[-1]
        axes = tuple(range(dims, 0, -1))  # x first
        columns = [np.stack(np.gradient(u[..., c], axis=axes), -1) for c in range(dims)]
        expected = np.linalg.det(np.eye(dims) + np.stack(columns, -2))
        np.testing.assert_allclose(deformations.jacobian_determinant(u), expected, atol=1e-12)


def test_folds_that_central_differences_miss_are_counted():
    u = np.zeros((2, 5, 9, 2))
    u[1, :, 4, 0] = 1.5  # a column that jumps over its neighbour
    assert deformations.count_folds(u).tolist() == [0, 10]
    assert (deformations.jacobian_determinant(u) > 0).all()


def test_composing_is_warping_twice_where_images_are_linear():
    y, x = np.mgrid[:30, :30].astype(float)
    image = (2 * x - y)[None, None]
    first, second = smooth((1, 30, 30, 2), 1.0), smooth((1, 30, 30, 2), 1.0, seed=1)

    def warped(image, field):
        return grid_sample(image, grid_from_displacement(field), padding_mode="border")

    once = warped(image, deformations.compose_displacements(first, second))
    twice = warped(warped(image, first), second)
    np.testing.assert_allclose(once[..., 3:-3, 3:-3], twice[..., 3:-3, 3:-3], atol=1e-10)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_numbers_that_are_not_finite_crash_nothing():
    for shape in SHAPES.values():
        field = np.zeros(shape)
        field.reshape(-1)[:5] = np.nan, np.inf, -np.inf, 1e300, -1e300
        assert deformations.integrate_velocity(field).shape == shape
        assert deformations.integrate_velocity_vjp(field, field).shape == shape
        empty = field[:0]
        assert deformations.integrate_velocity(empty).shape == empty.shape
        assert deformations.integrate_velocity_vjp(empty, empty).shape == empty.shape
        assert deformations.count_folds(empty).shape == (0,)


def test_dask_arrays_stay_lazy():
    da = pytest.importorskip("dask.array")
    velocity = np.random.default_rng(0).standard_normal((4, 6, 7, 2))
    lazy = deformations.integrate_velocity(da.from_array(velocity, chunks=(2, 6, 7, 2)), 3)
    assert isinstance(lazy, da.Array)
    np.testing.assert_array_equal(lazy.compute(), deformations.integrate_velocity(velocity, 3))


def test_bad_fields_are_refused():
    field = np.zeros((1, 3, 3, 2))
    with pytest.raises(
        ValueError, match=r"velocity: expected shape \(N, H, W, 2\) or .* got \(1, "
    ):
        deformations.integrate_velocity(np.zeros((1, 2, 3, 3)))
    with pytest.raises(TypeError, match="velocity: expected float32 or float64, got int64"):
        deformations.integrate_velocity(field.astype(np.int64))
    with pytest.raises((TypeError, ValueError), match="steps: expected"):
        deformations.integrate_velocity(field, -1)
    with pytest.raises((TypeError, ValueError), match="steps: expected"):
        deformations.integrate_velocity(field, 2.5)
    with pytest.raises(ValueError, match="second: expected shape .* and dtype float64, got"):
        deformations.compose_displacements(field, field.astype(np.float32))
    with pytest.raises(ValueError, match="ddisplacement: expected shape"):
        deformations.integrate_velocity_vjp(field[:, 1:], field)
    with pytest.raises(ValueError, match="ddeterminant: expected shape"):
        deformations.jacobian_determinant_vjp(field, field)
    with pytest.raises(ValueError, match="velocity"):
        deformations.integrate_velocity(np.zeros((1, 0, 3, 2)))
