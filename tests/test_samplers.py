"""Every sampler: against the oracle, gradient checks, and properties of all samplers."""

import itertools

import numpy as np
import pytest
import reference
from gradcheck import check_vjp
from samplers import (
    ALL,
    EXACT,
    FUNCTIONS,
    MODES,
    PADDINGS,
    STORED,
    Sampler,
    expected,
    found,
    problem,
)

import numba_stn as stn
from numba_stn.transforms import parametrisations

exact = pytest.mark.parametrize("sampler", EXACT, ids=str)
every = pytest.mark.parametrize("sampler", ALL, ids=str)
corners = pytest.mark.parametrize("align_corners", [False, True])


@pytest.fixture(autouse=True)
def _serial(monkeypatch):
    """One variant of each kernel is enough; other tests compare the serial and parallel ones."""
    monkeypatch.setattr("numba_stn.kernels.cpu_launch.PARALLEL_WORK", 10**12)


def test_any_two_choices_occur_together():
    """In the tables, so that tests find errors that need two choices at once."""
    fields = {name: k for k, name in enumerate(Sampler._fields)}
    for one, two in itertools.combinations(("source", "mode", "padding", "dims", "layout"), 2):
        pairs = {(row[fields[one]], row[fields[two]]) for row in EXACT}
        values = ({row[fields[name]] for row in EXACT} for name in (one, two))
        assert pairs == set(itertools.product(*values)), (one, two)
    triples = {(row.mode, row.padding, row.dims) for row in EXACT}
    assert triples >= set(itertools.product(MODES, PADDINGS, (2, 3)))
    for name in ("mode", "layout", "dims", "coords"):
        pairs = {(row.dtype, row[fields[name]]) for row in STORED}
        values = ({row[fields[field]] for row in STORED} for field in ("dtype", name))
        assert pairs == set(itertools.product(*values)), name


# --- The oracle -----------------------------------------------------------------------------------


def check(sampler, got, want, contrast, side=7):
    """Compare within the rounding errors of computing, and then of storing."""
    eps = np.finfo(sampler.compute_dtype).eps
    samples, dimages, dcoords = got
    slack = 64 * eps * contrast * side
    low, high = (reference.stored(want[0] + step, sampler.dtype) for step in (-slack, slack))
    assert samples.dtype == low.dtype
    assert ((low <= samples) & (samples <= high)).all()
    stores = np.finfo(sampler.dsamples).eps
    for ours, theirs, rounding in ((dimages, want[1], stores), (dcoords, want[2], 0)):
        scale = max(1.0, np.abs(theirs).max(initial=0)) * side
        np.testing.assert_allclose(ours, theirs, rtol=rounding, atol=64 * eps * scale)


@every
@corners
def test_samples_and_gradients_against_the_oracle(sampler, align_corners):
    given = problem(np.random.default_rng(1), sampler, align=align_corners)
    want, got = expected(sampler, given, align_corners), found(sampler, given, align_corners)
    check(sampler, got, want, np.abs(given.images.astype(float)).max())
    assert (got[1].dtype, got[2].dtype) == (sampler.dsamples, sampler.coords)
    assert np.abs(got[0].astype(float)).max() > 0.1 < np.abs(got[1]).max()
    assert got[2].any() == (sampler.mode != "nearest")


@exact
@corners
@pytest.mark.parametrize("sides", [(1, 1, 1), (2, 1, 3), (1, 2, 1)])
def test_narrow_images(sampler, align_corners, sides):
    given = problem(np.random.default_rng(2), sampler, sides, (2, 1, 5), align=align_corners)
    want, got = expected(sampler, given, align_corners), found(sampler, given, align_corners)
    check(sampler, got, want, np.abs(given.images).max())


@every
@corners
def test_coverage_is_the_weight_of_taps_inside(sampler, align_corners):
    given = problem(np.random.default_rng(3), sampler, align=align_corners)
    samples, covered = sampler.sample(
        given.images, given.coords, given.size, align_corners, fill=given.fill, coverage=True
    )
    np.testing.assert_array_equal(samples, found(sampler, given, align_corners)[0])
    grid, shape = sampler.grid(given.coords, given.size, align_corners), given.images.shape[2:]
    want = reference.coverage(grid, shape, sampler.padding, align_corners, sampler.mode)
    assert covered.dtype == sampler.coords
    np.testing.assert_allclose(covered, want, atol=2e-5 if sampler.coords == "float32" else 1e-11)
    assert 0 < np.mean(covered != 0) < 1 or sampler.source != "grid"


WHOLE = [row for row in STORED if row.dtype.startswith("u") and row.mode != "nearest"]


@pytest.mark.parametrize("sampler", WHOLE, ids=str)
def test_integers_round_half_to_even_and_saturate(sampler):
    """Halfway between two integers, the sample is exactly an integer or a half."""
    most = np.iinfo(sampler.dtype).max
    line = [7, 8, 9, 12, 14, 15, 17, 17, 18, 20, most, 0, most, most, 0, 0]
    images = np.tile(line, (1, 1, *(2,) * (sampler.dims - 1), 1)).astype(sampler.dtype)
    theta = np.eye(sampler.dims + (sampler.source == "projective"), sampler.dims + 1)[None]
    theta[:, 0, -1] = 1 / 16  # half a pixel
    coords = theta.astype(sampler.coords)
    if sampler.source == "grid":
        coords = stn.affine_grid(coords, images.shape[2:])
    got = sampler.sample(images, coords, images.shape[2:])
    fine = images.astype(float)
    grid = sampler.grid(coords, images.shape[2:])
    want = reference.grid_sample(fine, grid, **sampler.options())
    halves = np.abs(want - np.floor(want) - 0.5) < 1e-9
    assert halves.sum() >= 4
    np.testing.assert_array_equal(got, reference.stored(want, sampler.dtype))
    if sampler.mode == "bicubic":
        assert want.min() < -1 < most + 1 < want.max()


@pytest.mark.parametrize("source", ["affine", "grid"])
def test_channels_of_the_common_kind_have_fills_of_their_own(source):
    """It has kernels of its own, for one fill; the general kernels take several."""
    sampler = Sampler(source, "bilinear", "zeros", 2, "NCHW")
    given = problem(np.random.default_rng(13), sampler)._replace(fill=np.array([3.0, -5.0]))
    check(sampler, found(sampler, given), expected(sampler, given), 5.0)


def test_blocks_of_channels_have_fills_of_their_own():
    images = np.random.default_rng(13).standard_normal((2, 2, 9, 24))
    theta, fill = np.tile([[[1.2, 0.3, 0.4], [-0.3, 1.1, -0.5]]], (2, 1, 1)), (3.0, -5.0)
    got = stn.warp_affine(images, theta, fill=fill)
    for c, number in enumerate(fill):
        want = stn.warp_affine(images[:, c : c + 1], theta, fill=number)
        np.testing.assert_allclose(got[:, c], want[:, 0], rtol=0, atol=1e-12)


def test_an_infinite_fill_is_not_where_it_has_no_weight():
    """At the pixels' centres, the taps outside have a weight of 0 along an axis."""
    rng = np.random.default_rng(14)
    images = rng.standard_normal((1, 2, 4, 5))
    grid = reference.affine_grid(np.eye(2, 3)[None], (4, 5))
    for mode, layout in (("bicubic", "NCHW"), ("bilinear", "NHWC")):
        sampler = Sampler("grid", mode, "zeros", 2, layout)
        for fill in (np.inf, np.nan):
            got = sampler.sample(images, grid, (4, 5), fill=fill)
            np.testing.assert_allclose(got, images, atol=1e-12)


# --- Gradients ------------------------------------------------------------------------------------


@exact
@corners
def test_gradients_by_differences(sampler, align_corners):
    rng = np.random.default_rng(4)
    given = problem(rng, sampler, align=align_corners)

    def gradients(d):
        return sampler.vjp(d, given.images, given.coords, align_corners, fill=given.fill)

    def sample(x):
        return sampler.sample(*x, given.size, align_corners, fill=given.fill)

    start = (given.images, given.coords)
    if sampler.mode == "nearest":  # small steps do not change the nearest pixels
        check_vjp(
            lambda images: sample((images, given.coords)), lambda d: gradients(d)[0],
            given.images, rng,
        )  # fmt: skip
        return
    check_vjp(sample, gradients, start, rng, step=1e-8, rtol=1e-5)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    "transform", [t for t in parametrisations.TRANSFORMS.values() if t.kind in FUNCTIONS], ids=repr
)
def test_gradients_of_parameters(transform, mode):
    """From the samples through theta to the parameters, a localisation network's output."""
    rng = np.random.default_rng(5)
    sampler = Sampler(transform.kind, mode, "reflection", 2, "NCHW")
    given = problem(rng, sampler)
    params = np.array([transform.identity] * 2) + 0.2 * rng.standard_normal((2, transform.size))

    def gradient(d):
        theta = transform.theta(params)
        return transform.vjp(sampler.vjp(d, given.images, theta)[1], params)

    check_vjp(
        lambda p: sampler.sample(given.images, transform.theta(p), given.size), gradient,
        params, rng, step=1e-8, rtol=1e-5,
    )  # fmt: skip


def test_gradients_of_a_composition_of_transforms():
    rng = np.random.default_rng(6)
    both = parametrisations.compose(
        parametrisations.restricted_affine, parametrisations.rotation, parametrisations.affine
    )
    params = rng.standard_normal((3, both.size))
    check_vjp(both.theta, lambda d: both.vjp(d, params), params, rng)


def with_headroom(sampler, given):
    """The problem with integers whose weighted sums do not saturate.

    Magnitudes of Keys's weights add up to 121 / 64 at most in the plane, so integers are in the
    middle half of their range.
    """
    if not sampler.dtype.startswith("u"):
        return given
    most = np.iinfo(sampler.dtype).max
    shrunk = given.images // 2 + (most // 4 + 1)
    return given._replace(images=shrunk.astype(sampler.dtype))


@every
@corners
def test_the_image_gradient_is_the_adjoint_of_sampling(sampler, align_corners):
    """<A x, y> = <x, A^T y>, with 0 outside; samples of integers are rounded to integers first."""
    given = with_headroom(sampler, problem(np.random.default_rng(7), sampler, align=align_corners))
    samples = sampler.sample(given.images, given.coords, given.size, align_corners).astype(float)
    dimages, _ = sampler.vjp(
        given.dsamples, given.images, given.coords, align_corners, wrt=("images",)
    )
    forward = np.sum(samples * given.dsamples)
    backward = np.sum(dimages.astype(float) * given.images.astype(float))
    rounding = {"float64": 1e-13, "float16": 2e-3}.get(sampler.dtype, 1e-5)
    scale = np.sum(np.abs(samples * given.dsamples))
    assert scale > 1
    slack = rounding * scale
    if sampler.dtype.startswith("u"):
        assert samples.max() < np.iinfo(sampler.dtype).max
        slack += np.abs(given.dsamples[samples != 0]).sum() / 2
        assert slack < 0.01 * scale
    assert abs(forward - backward) <= slack


# --- Equivalent calls -----------------------------------------------------------------------------


@every
def test_one_image_for_many_maps(sampler):
    given = problem(np.random.default_rng(8), sampler, batch=3)
    one = given._replace(images=given.images[:1])
    many = given._replace(images=np.repeat(given.images[:1], 3, axis=0))
    (ours, dimages, dcoords), (repeated, dmany, dexpected) = (
        found(sampler, each) for each in (one, many)
    )
    np.testing.assert_array_equal(ours, repeated)
    np.testing.assert_array_equal(dcoords, dexpected)
    rounding = 8 * np.finfo(sampler.dsamples).eps * (1 + np.abs(dmany).max())
    np.testing.assert_allclose(dimages, dmany.sum(0, keepdims=True), rtol=0, atol=4 * rounding)
    assert np.abs(dimages).max() > 0.1


@pytest.mark.parametrize("sampler", [row for row in ALL if row.source != "grid"], ids=str)
@corners
def test_an_identity_returns_its_images_bit_for_bit(sampler, align_corners):
    rng = np.random.default_rng(9)
    for side in (1, 2, 3, 28, 41):
        given = problem(rng, sampler, (2, side, side + 2), (2, side, side + 2))
        shape = given.coords.shape[1:]
        identity = np.tile(np.eye(*shape, dtype=sampler.coords), (2, 1, 1))
        got = sampler.sample(given.images, identity, given.size, align_corners)
        assert got.tobytes() == np.ascontiguousarray(given.images).tobytes()


def check_equal(first, second, given, exactly=True, rtol=1e-12):
    for ours, theirs in zip(found(first, given), found(second, given), strict=True):
        if exactly:
            np.testing.assert_array_equal(ours, theirs)
        scale = max(1.0, np.abs(theirs).max())
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=rtol * scale)
        assert np.abs(ours).max() > 0.1 or first.mode == "nearest"


LAYOUTS = [
    (Sampler("grid", "bilinear", "zeros", 2, "NHWC"), False),  # the other has kernels of its own
    (Sampler("affine", "bicubic", "reflection", 2, "NCHW"), False),  # planes have a frame
    (Sampler("projective", "bicubic", "reflection", 2, "NCHW"), True),
    (Sampler("affine", "nearest", "border", 3, "NCHW"), True),
]


@pytest.mark.parametrize(("sampler", "exactly"), LAYOUTS, ids=str)
def test_channels_last_are_channels_first_transposed(sampler, exactly):
    other = sampler._replace(layout="NCHW" if sampler.layout == "NHWC" else "NHWC")
    given = problem(np.random.default_rng(10), sampler, (4, 24, 33), (3, 20, 35), channels=3)
    check_equal(sampler, other, given, exactly)


UNFUSED = [
    Sampler("projective", "bilinear", "reflection", 2, "NCHW"),
    Sampler("affine", "bilinear", "border", 2, "NCHW"),
    Sampler("affine", "bicubic", "reflection", 2, "NCHW"),
    Sampler("affine", "nearest", "wrap", 3, "NHWC"),
]


@pytest.mark.parametrize("sampler", UNFUSED, ids=str)
def test_fused_and_unfused_agree(sampler):
    given = problem(np.random.default_rng(11), sampler)
    grid = sampler.grid(given.coords, given.size)
    if sampler.source == "affine":
        np.testing.assert_allclose(stn.affine_grid(given.coords, given.size), grid, atol=1e-14)
    unfused = sampler._replace(source="grid")
    fused = found(sampler, given)
    samples, dimages, dgrid = found(unfused, given._replace(coords=grid))
    dcoords = sampler.grid_vjp(dgrid, given.coords)
    for ours, theirs in zip(fused, (samples, dimages, dcoords), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    "affine",
    [
        Sampler("affine", "bilinear", "reflection", 2, "NCHW"),
        Sampler("affine", "nearest", "reflection", 2, "NCHW"),
        Sampler("affine", "bicubic", "fill", 2, "NCHW"),
    ],
    ids=str,
)
def test_a_projective_map_whose_divisor_is_one_is_affine(affine):
    given = problem(np.random.default_rng(12), affine)
    below = np.tile([[[0.0, 0, 1]]], (2, 1, 1))
    theta = np.concatenate([given.coords, below], axis=1)
    ours = found(affine, given)
    theirs = found(affine._replace(source="projective"), given._replace(coords=theta))
    theirs = (*theirs[:2], theirs[2][:, :2])
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-11)
    # A multiple of the matrix is the same map.
    scaled = affine._replace(source="projective").sample(
        given.images, 2 * theta, given.size, fill=given.fill
    )
    np.testing.assert_allclose(scaled, theirs[0], rtol=0, atol=1e-11)
