"""Continuous piecewise-affine velocities: continuity, the exact flow, inverses and gradients."""

import numpy as np
import pytest
from gradcheck import check_vjp, like, moved
from scipy.integrate import solve_ivp
from scipy.linalg import null_space

from numba_stn import deformations, export, nn, transforms
from numba_stn.nn.train import init_learner
from numba_stn.ops.cpab import mesh, velocity_basis
from numba_stn.training.frames import frames


def constraints(cells, fixed_border):
    """The matrix whose null space has the continuous fields: both triangles of an edge agree at
    its ends, and nothing flows across the border."""
    vertices, triangles = mesh(cells)
    rows = []

    def at(t, c, vertex):
        row = np.zeros((len(triangles), 2, 3))
        row[t, c] = *vertices[vertex], 1
        return row.ravel()

    for t, own in enumerate(triangles):
        for other in range(t):
            shared = set(own) & set(triangles[other])
            if len(shared) == 2:
                rows += [at(t, c, v) - at(other, c, v) for v in shared for c in range(2)]
        for v in own if fixed_border else ():
            rows += [at(t, c, v) for c in range(2) if abs(vertices[v, c]) == 1]
    return np.array(rows)


@pytest.mark.parametrize("fixed_border", [True, False])
@pytest.mark.parametrize("cells", [(1, 1), (1, 2), (3, 2)])
def test_parameters_span_the_null_space_of_the_constraints(cells, fixed_border):
    basis, matrix = velocity_basis(cells, fixed_border), constraints(cells, fixed_border)
    np.testing.assert_allclose(matrix @ basis, 0, atol=1e-12)
    space = null_space(matrix)  # by a singular value decomposition
    assert space.shape == basis.shape
    assert np.linalg.matrix_rank(basis) == basis.shape[1]
    np.testing.assert_allclose(space @ (space.T @ basis), basis, atol=1e-10)


def velocity_at(point, theta, cells):
    """By a search of the triangle that has the point."""
    vertices, triangles = mesh(cells)
    for t, own in enumerate(triangles):
        corners = np.vstack([vertices[own].T, np.ones(3)])
        if (np.linalg.solve(corners, [*point, 1]) > -1e-12).all():
            return theta[t] @ [*point, 1]
    return np.zeros(2)


@pytest.mark.parametrize("align", [True, False])
def test_velocities_and_their_gradient(align):
    cells, size, rng = (2, 3), (7, 10), np.random.default_rng(0)
    assert transforms.cpab(2) == transforms.cpab([2, 2])
    assert transforms.cpab(2) != transforms.cpab(2, fixed_border=False)
    transform = transforms.cpab(cells, fixed_border=False)
    params = rng.standard_normal((2, transform.size))
    theta = transform.theta(params)
    found = deformations.cpab_velocity(theta, size, cells, align_corners=align)
    for i, j in np.ndindex(*size):
        steps = (10 - 1, 7 - 1) if align else (10, 7)
        point = (2 * j - 9) / steps[0], (2 * i - 6) / steps[1]
        expected = velocity_at(point, theta[1], cells) * steps / 2
        np.testing.assert_allclose(found[1, i, j], expected, atol=1e-12)
    check_vjp(
        lambda p: deformations.cpab_velocity(
            transform.theta(p), size, cells, align_corners=align),
        lambda d: transform.vjp(
            deformations.cpab_velocity_vjp(d, cells, align_corners=align), params),
        params, rng,
    )  # fmt: skip


def test_the_map_is_that_of_the_flow_and_has_an_inverse():
    cells, size = (2, 2), (64, 64)
    transform = transforms.cpab(cells)
    params = 0.1 * np.random.default_rng(1).standard_normal((1, transform.size))
    theta = transform.theta(params)
    forth, back = (
        deformations.integrate_velocity(deformations.cpab_velocity(sign * theta, size, cells), 9)
        for sign in (1, -1)
    )
    for i, j in ((5, 9), (20, 33), (32, 31), (50, 12), (60, 60)):
        start = (2 * j - 63) / 64, (2 * i - 63) / 64
        flow = solve_ivp(lambda _, p: velocity_at(p, theta[0], cells), (0, 1), start, rtol=1e-8,
                         atol=1e-10)  # fmt: skip
        expected = 32 * (flow.y[:, -1] - start)
        assert np.abs(forth[0, i, j] - expected).max() < 0.1
    assert np.abs(forth).max() > 3
    assert np.abs(deformations.compose_displacements(forth, back)).max() < 0.05
    assert deformations.count_folds(forth).tolist() == [0]


@pytest.mark.parametrize("align", [True, False])
def test_the_transformer(align):
    localisation = nn.serial(nn.flatten(), nn.linear(3), nn.tanh())
    layer = nn.spatial_transformer(
        localisation, transforms.cpab(2), (6, 5), "border", align_corners=align
    )
    rng = np.random.default_rng(0)
    images = rng.standard_normal((3, 1, 8, 9))
    params = layer.init(rng, (1, 8, 9))
    params = moved(params, like(rng, params), 0.2)
    samples, pullback, _ = layer.apply(params, images)
    assert samples.shape == (3, 1, 6, 5)
    check_vjp(lambda at: layer.apply(*at)[0], pullback, (params, images), rng, step=1e-7)
    np.testing.assert_array_equal(layer.apply_with_coverage(params, images)[0], samples)
    still = nn.spatial_transformer(localisation, transforms.cpab((2, 1)), align_corners=align)
    y, _, _ = still.apply(still.init(rng, (1, 8, 9)), images)
    np.testing.assert_allclose(y, images, atol=1e-12)


def test_frames_of_a_map_that_keeps_the_border_are_squares():
    localisation = nn.serial(nn.flatten(), nn.linear(3), nn.tanh())
    net = nn.serial(nn.spatial_transformer(localisation, transforms.cpab(2)), nn.flatten())
    learner = init_learner(net, nn.sgd(0.1), (1, 8, 8), np.random.default_rng(0))
    learner.params[0]["localisation"]["head"]["bias"] += np.float32(0.2)
    (outline,) = frames(net, learner, np.ones((2, 1, 8, 8), np.float32))
    assert np.abs(np.abs(outline).max(2) - 1).max() < 1e-5


def test_what_it_cannot_do_is_said():
    localisation = nn.serial(nn.flatten(), nn.linear(3))
    for options, message in (
        ({"rounds": 2}, r"rounds: expected 1 for cpab\(2, 2\)"),
        ({"zoom": 0.5}, r"zoom: cpab\(2, 2\) cannot zoom"),
        ({"view_angles": (0, 9)}, "view_angles: expected an affine or projective transform"),
    ):
        with pytest.raises(ValueError, match=message):
            nn.spatial_transformer(localisation, transforms.cpab(2), **options)
    with pytest.raises(export.ExportError, match=r"the transform cpab\(2, 2\) has no counterpart"):
        export.check_exportable(nn.spatial_transformer(localisation, transforms.cpab(2)))
    for cells in (0, -1, 2.5, True, (1,), (2, 0), "3"):
        with pytest.raises(ValueError, match="cells: expected a positive integer, or two of them"):
            transforms.cpab(cells)
    with pytest.raises(ValueError, match=r"theta: expected shape \(N, 16, 2, 3\), got"):
        deformations.cpab_velocity(np.zeros((1, 4, 2, 3)), (4, 4), 2)
    with pytest.raises(TypeError, match="theta: expected an array of NumPy, got list"):
        deformations.cpab_velocity([0], (4, 4), 2)
