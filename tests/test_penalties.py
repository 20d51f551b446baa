"""Penalties on theta: values by hand, gradients by differences, and their part in training."""

import numpy as np
import pytest
from gradcheck import check_vjp, dot, like, moved

from numba_stn import control_points, nn

PENALTIES = {
    "identity": nn.identity_penalty(0.7),
    "scale": nn.scale_penalty(0.7, 0.8, 1.1),
    "area": nn.area_penalty(0.7, 0.9, 1.05),
}
THETAS = {"affine": (2, 3), "volumes": (3, 4), "projective": (3, 3), "spline": (9, 2),
          "projective volumes": (4, 4)}  # fmt: skip


def thetas(kind, seed=0, count=5):
    """Random maps near the identity."""
    rng, shape = np.random.default_rng(seed), THETAS[kind]
    one = control_points(3) if kind == "spline" else np.eye(*shape)
    return one + 0.3 * rng.standard_normal((count, *shape))


def middle(theta):
    """The middle and the Jacobian matrix there, by differences of the map itself."""

    def at(point):
        mapped = theta @ np.array([*point, 1.0])
        return mapped[:-1] / mapped[-1] if len(mapped) > len(point) else mapped

    dims, step = theta.shape[1] - 1, 1e-6
    columns = [(at(way) - at(-way)) / (2 * step) for way in step * np.eye(dims)]
    return at(np.zeros(dims)), np.stack(columns, 1)


def beyond(number, low, high):
    return max(number - high, 0) + max(low - number, 0)


@pytest.mark.parametrize("kind", ["affine", "volumes", "projective", "projective volumes"])
def test_values_are_those_of_the_definitions(kind):
    maps = thetas(kind)
    inner = [middle(theta)[1] for theta in maps]
    ends = [theta / theta[-1, -1] if "projective" in kind else theta for theta in maps]
    expected = {
        "identity": [((theta - np.eye(*theta.shape)) ** 2).sum() for theta in ends],
        "scale": [
            sum(beyond(s, 0.8, 1.1) ** 2 for s in np.sqrt(np.linalg.eigvalsh(j.T @ j)))
            for j in inner
        ],
        "area": [beyond(abs(np.linalg.det(j)), 0.9, 1.05) ** 2 for j in inner],
    }
    for name, penalty in PENALTIES.items():
        assert penalty(maps)[0] == pytest.approx(0.7 * np.mean(expected[name]), rel=1e-6), name


@pytest.mark.parametrize("kind", THETAS)
@pytest.mark.parametrize("name", PENALTIES)
def test_gradients(name, kind):
    penalty, maps, rng = PENALTIES[name], thetas(kind), np.random.default_rng(3)
    if kind == "spline" and name != "identity":
        with pytest.raises(ValueError, match="expected affine or projective maps, got shape"):
            penalty(maps)
        return
    value, dtheta = penalty(maps)
    assert value > 0
    check_vjp(lambda x: np.array(penalty(x)[0]), lambda dy: dy * dtheta, maps, rng)
    small, dsmall = penalty(maps.astype(np.float32))
    assert (dsmall.dtype, small) == (np.float32, pytest.approx(value, rel=1e-5))
    assert penalty(maps[:0])[0] == 0


def test_maps_within_the_limits_cost_nothing():
    for penalty in (nn.identity_penalty(1), nn.scale_penalty(1), nn.area_penalty(1)):
        value, dtheta = penalty(np.eye(2, 3)[None])
        assert (value, np.abs(dtheta).max()) == (0, 0)


# --- Apart ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["affine", "volumes", "projective", "projective volumes"])
def test_overlaps_and_their_gradients(kind):
    rng = np.random.default_rng(7)
    maps = [thetas(kind, seed) for seed in range(3)]
    penalty = nn.overlap_penalty(0.3)
    expected = 0
    for n in range(5):
        parts = [middle(theta[n]) for theta in maps]
        for k, (t, a) in enumerate(parts):
            for u, b in parts[:k]:
                moments = (a @ a.T + b @ b.T) / 3
                expected += 0.3 / 5 * np.exp(-(t - u) @ np.linalg.inv(moments) @ (t - u) / 2)
    value, dthetas = penalty(maps)
    assert value == pytest.approx(expected, rel=1e-4)
    check_vjp(
        lambda x: np.array(penalty(x)[0]), lambda dy: tuple(dy * d for d in dthetas),
        tuple(maps), rng,
    )  # fmt: skip
    assert penalty([maps[0], maps[0]])[0] == pytest.approx(0.3)
    value, (only,) = penalty(maps[:1])
    assert (value, np.abs(only).max()) == (0, 0)


def test_training_moves_transformers_apart():
    """With no other loss, the middles of two transformers that begin at one place separate."""
    localisation = nn.serial(nn.flatten(), nn.linear(4))
    layer = nn.apart(*[nn.spatial_transformer(localisation, "translation")] * 2, weight=1.0)
    rng = np.random.default_rng(0)
    images = rng.random((4, 1, 6, 6)).astype(np.float32)
    params = layer.init(rng, (1, 6, 6))
    params[1]["localisation"]["head"]["bias"] += np.array([0.05, 0], np.float32)
    for train in (False, True):
        y, pullback, _ = layer.apply(params, images, train=train)
        dparams, _ = pullback(np.zeros_like(y))
        biases = [one["localisation"]["head"]["bias"] for one in dparams]
        if train:
            assert biases[0][0] > 0 > biases[1][0]  # a step against it moves them apart
            np.testing.assert_allclose(biases[0], -biases[1], atol=1e-7)
        else:
            assert not np.any(biases)


# --- In the transformer ---------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"rounds": 2}, {"view_angles": (0, 30)}])
def test_training_adds_the_gradients_of_the_penalties(options):
    localisation = nn.serial(nn.flatten(), nn.linear(3), nn.tanh())
    penalties = (nn.identity_penalty(0.5), nn.area_penalty(0.3, 1.2, 3))
    layer = nn.spatial_transformer(
        localisation, "affine", (4, 4), "border", penalties=penalties, **options
    )
    plain = nn.spatial_transformer(localisation, "affine", (4, 4), "border", **options)
    assert layer != plain
    assert hash(layer) == hash(layer)
    rng = np.random.default_rng(0)
    params = layer.init(rng, (1, 5, 5))
    params = moved(params, like(rng, params), 0.2)
    images = rng.standard_normal((3, 1, 5, 5))
    dy = rng.standard_normal((3, *layer.output_shape((1, 5, 5))))

    def loss(at):
        y, _, _ = plain.apply(*at)
        theta, _, _ = plain.theta(*at)
        own = theta[:: plain.views]
        return np.array(np.vdot(dy, y) + sum(penalty(own)[0] for penalty in penalties))

    pullback = layer.apply(params, images, train=True)[1]
    gradient, way, step = pullback(dy), (like(rng, params), like(rng, images)), 1e-6
    numeric = loss(moved((params, images), way, step)) - loss(moved((params, images), way, -step))
    assert dot(gradient, way) == pytest.approx(numeric / (2 * step), rel=1e-6)
    without = layer.apply(params, images)[1](dy)[0]["localisation"]["head"]["bias"]
    assert np.abs(without - gradient[0]["localisation"]["head"]["bias"]).max() > 1e-2


def test_theta_is_handed_on_with_its_gradient():
    localisation = nn.serial(nn.flatten(), nn.linear(3), nn.tanh())
    rng = np.random.default_rng(0)
    images = rng.standard_normal((3, 2, 5, 5))
    layer = nn.spatial_transformer(localisation, "affine", (4, 3), "border", return_theta=True)
    params = layer.init(rng, (2, 5, 5))
    params = moved(params, like(rng, params), 0.2)
    (y, theta), pullback, _ = layer.apply_with_theta(params, images)
    assert y.shape == (3, 2 + 6, 4, 3) == (3, *layer.output_shape((2, 5, 5)))
    np.testing.assert_array_equal(y[:, 2:], np.tile(theta.reshape(3, 6, 1, 1), (1, 1, 4, 3)))
    np.testing.assert_array_equal(layer.apply_with_coverage(params, images)[0], y)

    def both(at):
        (y, theta), _, _ = layer.apply_with_theta(*at)
        return np.concatenate([y.ravel(), theta.ravel()])

    def back(d):
        return pullback((d[: y.size].reshape(y.shape), d[y.size :].reshape(theta.shape)))

    check_vjp(both, back, (params, images), rng)
    with pytest.raises(ValueError, match="spatial_transformer: dy: expected the output's shape"):
        pullback((y[:, :2], theta))


def test_bad_penalties_are_refused():
    with pytest.raises(TypeError, match="penalties: expected penalties, got 0.1"):
        nn.spatial_transformer(nn.flatten(), penalties=(0.1,))
    with pytest.raises(TypeError, match="penalties: expected a sequence of penalties, got 'x'"):
        nn.spatial_transformer(nn.flatten(), penalties="x")
    with pytest.raises(TypeError, match="return_theta: expected True or False, got 1"):
        nn.spatial_transformer(nn.flatten(), return_theta=1)
    with pytest.raises(ValueError, match="weight must be a finite number of at least 0.0, got -1"):
        nn.identity_penalty(-1)
    with pytest.raises(ValueError, match="most must be a finite number of at least 2.0"):
        nn.scale_penalty(1, 2.0, 1.0)
    with pytest.raises(ValueError, match=r"theta: expected shape .* got \(2, 3\)"):
        nn.identity_penalty(1)(np.eye(2, 3))
    with pytest.raises(TypeError, match="theta: expected float32 or float64, got int64"):
        nn.identity_penalty(1)(np.ones((1, 2, 3), np.int64))
    with pytest.raises(ValueError, match="thetas: expected arrays of one shape"):
        nn.overlap_penalty(1)([np.ones((1, 2, 3)), np.ones((2, 2, 3))])
    with pytest.raises(TypeError, match="apart: expected spatial transformers, got Flatten"):
        nn.apart(nn.flatten())
    with pytest.raises(ValueError, match="apart: expected affine or projective maps"):
        nn.apart(nn.spatial_transformer(nn.flatten(), "tps"))
    with pytest.raises(
        ValueError, match="with_theta: x: expected images with more than 6 channels"
    ):
        nn.with_theta(6, nn.flatten()).output_shape((6, 2, 2))
