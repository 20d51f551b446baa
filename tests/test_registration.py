"""Registration: known maps are recovered, and images that do not match never converge."""

import pathlib

import numpy as np
import pytest
from scipy import ndimage

import numba_stn as stn
from numba_stn.registration import coarse_to_fine, gauss_newton, models, pyramid

ROOT = pathlib.Path(stn.__file__).parents[1]
SIDES = (72, 88)


def scene(seed=0, sides=SIDES, grain=3.0):
    """A smooth random image between 0 and 1, in 2-D or 3-D."""
    noise = np.random.default_rng(seed).normal(size=sides)
    image = ndimage.gaussian_filter(noise, grain, mode="wrap")
    image += 2 * ndimage.gaussian_filter(noise, 3 * grain, mode="wrap")
    return ((image - image.min()) / np.ptp(image)).astype(np.float32)


def about_center(linear, shift, sides=SIDES):
    """Matrix between pixels: a linear map about the centre, and a shift (x, y[, z])."""
    dims = len(sides)
    center = (np.array(sides[::-1]) - 1) / 2
    matrix = np.eye(dims + 1)
    matrix[:dims, :dims] = linear
    matrix[:dims, dims] = center + shift - np.asarray(linear) @ center
    return matrix


def rotation(degrees, zoom=1.0):
    angle = np.deg2rad(degrees)
    return zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


PROJECTIVE = about_center(rotation(3, 1.02), (1, -1.5))
PROJECTIVE[2, :2] = 4e-4, -3e-4
KNOWN = {
    "translation": about_center(np.eye(2), (3.3, -2.6)),
    "rigid": about_center(rotation(8), (2.4, 1.7)),
    "similarity": about_center(rotation(-7, 1.06), (-2.0, 3.1)),
    "affine": about_center([[1.05, 0.08], [-0.04, 0.93]], (1.5, -2.5)),
    "projective": PROJECTIVE,
}


def warped(image, matrix):
    """Warp an image by SciPy's cubic splines."""
    sides = image.shape
    mesh = np.meshgrid(*(np.arange(side) for side in sides), indexing="ij")
    points = np.stack([*(axis.ravel() for axis in mesh[::-1]), np.ones(image.size)])
    positions = matrix @ points
    positions = (positions[:-1] / positions[-1])[::-1].reshape(len(sides), *sides)
    return ndimage.map_coordinates(image, positions, order=3, mode="mirror").astype(np.float32)


def corner_error(found, expected, sides=SIDES):
    """The largest distance between both matrices' positions of a corner."""
    ends = np.meshgrid(*([0, side - 1] for side in sides[::-1]), [1.0], indexing="ij")
    corners = np.stack([axis.ravel() for axis in ends])
    found = np.vstack([found, np.eye(len(sides) + 1)[len(found) :]])
    one, two = found @ corners, expected @ corners
    return np.linalg.norm(one[:-1] / one[-1] - two[:-1] / two[-1], axis=0).max()


# --- Known maps are recovered ---------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["correlation", "intensity"])
@pytest.mark.parametrize("transform", KNOWN)
def test_known_maps_are_recovered(transform, metric):
    moving = scene()
    found = stn.register(moving, warped(moving, KNOWN[transform]), transform, metric=metric)
    assert found.report.converged, found.report
    assert corner_error(found.matrix, KNOWN[transform]) < 0.1
    assert found.report.correlation > 0.99
    assert found.report.overlap > 0.7
    assert len(found.report.iterations) == 2


@pytest.mark.parametrize("transform", KNOWN)
def test_a_map_stays_in_its_group(transform):
    moving = scene()
    matrix = stn.register(moving, warped(moving, KNOWN["similarity"]), transform).matrix
    linear = matrix[:2, :2]
    assert matrix.shape == ((3, 3) if transform == "projective" else (2, 3))
    if transform == "translation":
        np.testing.assert_array_equal(linear, np.eye(2))
    if transform in ("rigid", "similarity"):
        square = linear @ linear.T
        np.testing.assert_allclose(square, np.eye(2) * square[0, 0], atol=1e-12)
    if transform == "rigid":
        np.testing.assert_allclose(np.linalg.det(linear), 1, atol=1e-12)


def test_the_identity_is_recovered():
    image = scene()
    found = stn.register(image, image)
    assert found.report.converged
    assert corner_error(found.matrix, np.eye(3)) < 1e-3
    assert found.report.residual < 1e-3


def test_exchanged_images_give_the_inverse():
    one = scene()
    other = warped(one, KNOWN["affine"])
    forward, backward = (stn.register(*pair).matrix for pair in ((one, other), (other, one)))
    product = np.vstack([forward, [0, 0, 1]]) @ np.vstack([backward, [0, 0, 1]])
    assert corner_error(product, np.eye(3)) < 0.1


def test_gain_and_bias_are_ignored():
    moving = scene()
    fixed = warped(moving, KNOWN["affine"])
    plain = stn.register(moving, fixed)
    changed = stn.register(moving, 40 * fixed + 100)
    assert changed.report.converged
    np.testing.assert_allclose(changed.matrix, plain.matrix, atol=1e-3)
    assert changed.report.gain == pytest.approx(40, rel=0.01)
    assert changed.report.bias == pytest.approx(100, rel=0.01)


def test_noise_is_tolerated():
    rng, moving = np.random.default_rng(3), scene()
    fixed = warped(moving, KNOWN["similarity"])
    noisy = [image + rng.normal(0, 0.03, image.shape).astype(np.float32)
             for image in (moving, fixed)]  # fmt: skip
    found = stn.register(*noisy, "similarity")
    assert found.report.converged
    assert corner_error(found.matrix, KNOWN["similarity"]) < 0.3


def test_pixels_outside_the_mask_are_ignored():
    moving = scene()
    fixed = warped(moving, KNOWN["rigid"])
    fixed[10:45, 20:60] = scene(9)[10:45, 20:60]
    mask = np.ones(SIDES, bool)
    mask[8:47, 18:62] = False
    found = stn.register(moving, fixed, "rigid", mask=mask)
    assert found.report.converged
    assert corner_error(found.matrix, KNOWN["rigid"]) < 0.1
    unmasked = stn.register(moving, fixed, "rigid")
    assert unmasked.report.correlation < found.report.correlation - 0.05


def test_images_of_other_sides_and_a_start():
    moving = scene(sides=(120, 100))
    shift = np.array([[1.0, 0, 30], [0, 1, 45], [0, 0, 1]])
    fixed = moving[45:109, 30:94].copy()
    found = stn.register(moving, fixed, "rigid", start=[[1, 0, 28], [0, 1, 48]])
    assert found.report.converged
    assert corner_error(found.matrix, shift, fixed.shape) < 0.02
    assert found.aligned.shape == fixed.shape
    np.testing.assert_allclose(found.aligned[2:-2, 2:-2], fixed[2:-2, 2:-2], atol=0.01)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float64"])
def test_dtypes_and_channels(dtype):
    rng = np.random.default_rng(0)
    grey = scene()
    scale = 1 if dtype == "float64" else np.iinfo(dtype).max
    both = [np.stack([image, image**2, rng.permutation(image.T).T], -1) for image in
            (grey, warped(grey, KNOWN["translation"]))]  # fmt: skip
    for image in both:
        image[..., 2] = image[..., 0]
    moving, fixed = ((image.clip(0, 1) * scale).astype(dtype) for image in both)
    found = stn.register(moving, fixed, "translation")
    assert found.report.converged
    assert corner_error(found.matrix, KNOWN["translation"]) < 0.1
    assert found.aligned.dtype == dtype
    assert found.aligned.shape == fixed.shape


def test_theta_is_the_matrix_in_normalised_coordinates():
    moving = scene()
    for transform, warp in (("affine", stn.warp_affine), ("projective", stn.warp_perspective)):
        found = stn.register(moving, warped(moving, KNOWN[transform]), transform)
        back = stn.matrices.from_theta(found.theta, SIDES, SIDES)
        np.testing.assert_allclose(back, found.matrix, atol=1e-9)
        aligned = warp(moving[None, None], found.theta[None])[0, 0]
        np.testing.assert_allclose(found.aligned, aligned, atol=1e-4)


def test_start_candidates_recover_large_maps_of_fine_texture(monkeypatch):
    moving = scene(sides=(160, 160), grain=0.7)
    known = about_center(rotation(14, 1.08), (8, -7), (160, 160))
    found = stn.register(moving, warped(moving, known), "similarity")
    assert found.report.converged
    assert corner_error(found.matrix, known, (160, 160)) < 0.2
    monkeypatch.setattr(coarse_to_fine, "start_candidates", lambda *args: [])
    assert not stn.register(moving, warped(moving, known), "similarity").report.converged


# --- Splines and volumes --------------------------------------------------------------------------


def test_a_spline_is_recovered():
    sides = (96, 96)
    moving = scene(4, sides)
    control = stn.control_points(3)[None]
    control[0, 4] += [0.06, -0.05]
    control[0, 1] += [0.0, 0.05]
    fixed = stn.warp_tps(moving[None, None], control, mode="bicubic", padding_mode="reflection")
    found = stn.register(moving, fixed[0, 0], "tps", control=3, stiffness=1e-4)
    assert found.report.converged, found.report
    assert found.matrix is None
    pixels = np.abs(found.theta - control[0]) * 48
    assert pixels[4].max() < 0.25
    assert pixels.max() < 1
    affine = stn.register(moving, fixed[0, 0], "affine")
    assert found.report.residual < 0.5 * affine.report.residual


@pytest.mark.parametrize("group", ["translation", "rigid", "similarity", "affine"])
def test_volumes(group):
    transform = f"{group} 3-D"
    sides = (26, 30, 34)
    volume = scene(5, sides, 2.0)
    angle = 0.0 if transform.startswith("translation") else 0.1
    linear = np.eye(3)
    linear[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    if transform == "affine 3-D":
        linear = linear @ np.diag([1.05, 0.96, 1.0])
    known = about_center(linear, (1.4, -1.1, 0.8), sides)
    found = stn.register(volume, warped(volume, known), transform)
    assert found.report.converged, found.report
    assert found.matrix.shape == found.theta.shape == (3, 4)
    assert corner_error(found.matrix, known, sides) < 0.15
    inner = (slice(4, -4),) * 3
    np.testing.assert_allclose(
        found.aligned[inner], warped(volume, known)[inner], atol=0.05
    )  # fmt: skip


# --- Images that do not match ---------------------------------------------------------------------


@pytest.mark.parametrize("transform", [*KNOWN, "tps"])
@pytest.mark.parametrize("seed", range(3))
def test_unrelated_images_never_match(transform, seed):
    report = stn.register(scene(10 + seed), scene(20 + seed), transform).report
    assert not report.converged
    assert report.reason


@pytest.mark.parametrize("metric", ["correlation", "intensity"])
def test_noise_never_matches(metric):
    rng = np.random.default_rng(0)
    for _ in range(3):
        one, other = rng.integers(0, 256, (2, 64, 64), dtype=np.uint8)
        report = stn.register(one, other, metric=metric).report
        assert not report.converged
        assert "match" in report.reason or "overlap" in report.reason


def test_unrelated_volumes_never_match():
    volumes = [scene(seed, (20, 24, 28), 1.5) for seed in (1, 2)]
    assert not stn.register(*volumes, "affine 3-D").report.converged


def test_a_negative_does_not_match():
    image = scene()
    assert not stn.register(image, 1 - image).report.converged


def test_parts_that_do_not_overlap_do_not_match():
    whole = scene(7, (80, 200), 2.0)
    assert not stn.register(whole[:, :80].copy(), whole[:, 110:190].copy()).report.converged
    far = [[1, 0, 500], [0, 1, 0]]
    report = stn.register(whole, whole, "rigid", start=far, levels=1).report
    assert not report.converged or abs(report.correlation) > 0.99


def test_too_few_steps_do_not_converge():
    moving = scene()
    report = stn.register(moving, warped(moving, KNOWN["affine"]), iterations=1, levels=1).report
    assert not report.converged


def photograph(name):
    skimage, data = pytest.importorskip("skimage"), pytest.importorskip("skimage.data")
    if not (pathlib.Path(skimage.__file__).parent / "data" / f"{name}.png").exists():
        pytest.skip(f"this scikit-image comes without {name}")
    return getattr(data, name)()


def test_photographs_match_only_themselves():
    camera, coins = photograph("camera")[100:260, 150:310], photograph("coins")[60:220, 60:220]
    assert not stn.register(camera, coins).report.converged
    assert not stn.register(coins, camera).report.converged
    known = about_center(rotation(12, 0.95), (6, -5), camera.shape)
    fixed = stn.warp_image(photograph("camera").astype(np.float32), np.array(
        [[1, 0, 150], [0, 1, 100], [0, 0, 1.0]]) @ known, camera.shape, mode="bicubic")  # fmt: skip
    found = stn.register(camera, (0.8 * fixed + 20).clip(0, 255).astype(np.uint8))
    assert found.report.converged
    assert corner_error(found.matrix, known, camera.shape) < 0.1


# --- The gradient of the cost ---------------------------------------------------------------------


@pytest.mark.parametrize("group", ["affine", "projective", "tps"])
@pytest.mark.parametrize(
    "metric", [gauss_newton.Metric(), gauss_newton.Metric(1.1, 0.2)], ids=["rho", "known"]
)
def test_the_gradient_is_that_of_the_cost(group, metric):
    """Against central differences; all pixels of the mask stay inside the moving image."""
    moving = scene()
    fixed = warped(moving, KNOWN["rigid"]) + 0.3 * scene(8)
    mask = np.zeros(SIDES, bool)
    mask[20:50, 20:60] = True
    (level,), *_ = pyramid.pyramid(pyramid.Images(moving, fixed, None, mask), 1)
    _, frame = pyramid.frames(moving, fixed)
    matrix = np.eye(3)
    matrix[:2, 2] = 0.013, 0.017
    model = models.MatrixMap(group, matrix, frame)
    if group == "tps":
        basis = models.basis_functions(3, SIDES, 1)
        model = models.SplineMap(stn.control_points(3) * 0.97, SIDES, SIDES, 1e-2, basis)
    size = 18 if group == "tps" else len(models.generators(group, 2))
    here = gauss_newton.evaluate(model, level, metric)
    scale = 1.0 if metric.gain is not None else max(here.correlation, gauss_newton.LEAST_GAIN)
    for k in range(size):
        step = np.zeros(size)
        step[k] = 2e-3
        plus, minus = (
            gauss_newton.evaluate(model.updated(sign * step), level, metric).cost
            for sign in (1, -1)
        )
        slope = (plus - minus) / 4e-3 * scale
        assert here.gradient[k] == pytest.approx(slope, abs=0.05 * np.abs(here.gradient).max())


def test_the_number_of_threads_does_not_change_the_result():
    import numba

    moving = scene(sides=(300, 300))
    fixed = warped(moving, about_center(rotation(3), (2, 2), (300, 300)))
    before = numba.get_num_threads()
    found = []
    try:
        for count in (1, before):
            numba.set_num_threads(count)
            found.append(stn.register(moving, fixed).matrix)
    finally:
        numba.set_num_threads(before)
    np.testing.assert_array_equal(*found)


# --- The comparison with peers --------------------------------------------------------------------


def test_the_benchmark_counts_solved_trials(monkeypatch):
    photograph("astronaut")
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks import register as benchmark
    from benchmarks import tables

    def lost(moving, fixed):
        return np.eye(3)

    monkeypatch.setattr(benchmark, "LIBRARIES", {
        "ours": (lambda: benchmark.stn_register("similarity"), 1),
        "lost": (lambda: lost, 1),
        "failed": (lambda: lambda moving, fixed: None, 1),
    })  # fmt: skip
    found = benchmark.compare(1, lambda line: None)
    summary = found["summary"]
    assert summary["ours"]["solved"] == 1
    assert summary["ours"]["ratio"] == 1
    assert summary["lost"]["errors_above_1"] == summary["failed"]["failures_reported"] == 1
    assert summary["lost"]["solved"] == summary["failed"]["solved"] == 0
    assert "| `lost` | 1 | 0 % |  | 0 | 1 |" in tables.registration(found)
    assert "| astronaut | 1 of 1 | 0 of 1 | 0 of 1 |" in tables.by_photograph(found)


# --- Bad input ------------------------------------------------------------------------------------


GOOD = np.random.default_rng(0).random((20, 24))
NAN = GOOD.copy()
NAN[3, 4] = np.nan
BAD = {
    "a list": ((GOOD.tolist(), GOOD), {}, TypeError, "moving: expected a NumPy array"),
    "a dtype": ((GOOD, GOOD.astype(np.int64)), {}, TypeError, "fixed: expected"),
    "a shape": ((GOOD[0], GOOD), {}, ValueError, r"moving: expected shape \(H, W\)"),
    "too small": ((GOOD[:5], GOOD), {}, ValueError, "moving: expected sides of at least 16"),
    "a plane in 3-D": ((GOOD, GOOD), {"transform": "rigid 3-D"}, ValueError, r"\(D, H, W\)"),
    "not finite": ((GOOD, NAN), {}, ValueError, "fixed: expected finite numbers"),
    "constant": ((GOOD, np.full((20, 24), 7.0)), {}, ValueError, "fixed: .* constant"),
    "a transform": ((GOOD, GOOD), {"transform": "elastic"}, ValueError, "transform: expected one"),
    "a metric": ((GOOD, GOOD), {"metric": "mutual"}, ValueError, "metric: expected one of"),
    "a mask's shape": ((GOOD, GOOD), {"mask": np.ones((3, 3), bool)}, ValueError, "mask: expected"),
    "a mask's dtype": ((GOOD, GOOD), {"mask": np.ones((20, 24))}, TypeError, "mask: expected bool"),
    "an empty mask": ((GOOD, GOOD), {"mask": np.zeros((20, 24), bool)}, ValueError, "mask: expec"),
    "a start": ((GOOD, GOOD), {"start": np.eye(4)}, ValueError, "start: expected"),
    "a singular start": ((GOOD, GOOD), {"start": np.zeros((2, 3))}, ValueError, "start: .*invert"),
    "levels": ((GOOD, GOOD), {"levels": 0}, ValueError, "levels: expected at least 1"),
    "iterations": ((GOOD, GOOD), {"iterations": 1.5}, TypeError, "iterations: expected an integer"),
    "a tolerance": ((GOOD, GOOD), {"tolerance": -1.0}, ValueError, "tolerance: expected a finite"),
    "stiffness": ((GOOD, GOOD), {"transform": "tps", "stiffness": -1.0}, ValueError, "stiffness"),
    "control": ((GOOD, GOOD), {"transform": "tps", "control": 1}, ValueError, "control: expected"),
}


@pytest.mark.parametrize("case", BAD)
def test_errors_name_the_wrong_argument(case):
    args, options, error, message = BAD[case]
    with pytest.raises(error, match=message):
        stn.register(*args, **options)
