"""Agreement with PyTorch of every sampler that both have. Needs ``peers``.

Samples and both gradients are compared; SciPy and OpenCV are compared forward.
"""

import itertools

import numpy as np
import pytest
import reference
from samplers import EXACT, STORED, normalised, problem

import numba_stn as stn

torch = pytest.importorskip("torch")

SHARED = ("zeros", "border", "reflection")
COMMON, COMMON_STORED = (
    [row for row in rows if row.padding in SHARED and (row.mode, row.dims) != ("bicubic", 3)]
    for rows in (EXACT, STORED)
)
corners = pytest.mark.parametrize("align_corners", [False, True])


@pytest.fixture(autouse=True)
def _serial(monkeypatch):
    monkeypatch.setattr("numba_stn.kernels.cpu_launch.PARALLEL_WORK", 10**12)


def base(size, align_corners):
    """Homogeneous coordinates of the output's pixels, (..., 3 or 4), in the order x, y[, z], 1."""
    lines = [
        (2 * np.arange(side) - (side - 1)) / max(side - align_corners, 1) for side in size
    ]  # fmt: skip
    axes = np.meshgrid(*lines, indexing="ij")[::-1]
    return torch.tensor(np.stack([*axes, np.ones(size)], -1))


def torch_grid(sampler, coords, size, align_corners):
    if sampler.source == "grid":
        return coords
    points = torch.einsum("nkl,...l->n...k", coords, base(size, align_corners))
    if sampler.source == "affine":
        return points
    return points[..., :-1] / points[..., -1:]


def theirs(sampler, given, align_corners):
    """PyTorch's samples and gradients, in float64."""
    images, coords = (
        torch.tensor(np.asarray(array, float), requires_grad=True)
        for array in (given.images, given.coords)
    )
    samples = torch.nn.functional.grid_sample(
        images, torch_grid(sampler, coords, given.size, align_corners),
        mode=sampler.mode, padding_mode=sampler.padding, align_corners=align_corners,
    )  # fmt: skip
    samples.backward(torch.tensor(np.asarray(given.dsamples, float)))
    zeros = torch.zeros_like(coords)
    slopes = coords.grad if coords.grad is not None else zeros
    return [samples.detach().numpy(), images.grad.numpy(), slopes.numpy()]


def ours(sampler, given, align_corners):
    arrays = (given.images, given.coords)
    samples = sampler.sample(*arrays, given.size, align_corners)
    return [samples, *sampler.vjp(given.dsamples, *arrays, align_corners)]


def test_every_sampler_of_pytorch_is_compared():
    assert {(row.mode, row.padding, row.dims) for row in COMMON} == {
        (mode, padding, dims)
        for mode, padding, dims in itertools.product(
            ("nearest", "bilinear", "bicubic"), SHARED, (2, 3)
        )
        if (mode, dims) != ("bicubic", 3)
    }


@corners
@pytest.mark.parametrize("sampler", COMMON, ids=str)
def test_random_problems(sampler, align_corners):
    """Coordinates inside, near the edges and far outside."""
    for seed, (sides, size) in enumerate([
        ((4, 5, 7), (3, 4, 6)), ((1, 3, 2), (2, 5, 4)),
        ((3, 1, 9), (4, 1, 33)), ((2, 9, 1), (1, 7, 3)),
    ]):  # fmt: skip
        given = problem(np.random.default_rng(seed), sampler, sides, size, align=align_corners)
        if sampler.source != "grid":
            given.coords[:, : sampler.dims] *= 3.0  # some far outside
        got, want = (each(sampler, given, align_corners) for each in (ours, theirs))
        for a, b in zip(got, want, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10 * max(1, np.abs(b).max()))


def on_the_edges(sampler, align_corners):
    """Coordinates exactly at whole and half pixels, some far outside; sides are powers of two."""
    rng = np.random.default_rng(0)
    sides = ((2, 4, 8) if not align_corners else (3, 5, 9))[-sampler.dims :]
    size = ((2, 4, 16) if not align_corners else (3, 5, 17))[-sampler.dims :]
    given = problem(rng, sampler, sides, size)
    if sampler.source == "grid":
        pixel = rng.integers(-20, 20, given.coords.shape) / 2
        return given._replace(coords=normalised(pixel, sides, align_corners))
    # Steps of a quarter of a pixel or more, some mirrored, with shifts by half pixels.
    theta = np.zeros_like(given.coords)
    for axis in range(sampler.dims):
        theta[:, axis, axis] = rng.choice([1, -1, 2, -4, 0.5], len(theta))
        span = sides[::-1][axis] - align_corners
        theta[:, axis, -1] = rng.integers(-4, 5, len(theta)) / span
    if sampler.source == "projective":
        theta[:, -1, -1] = 1
    return given._replace(coords=theta)


@corners
@pytest.mark.parametrize("sampler", COMMON, ids=str)
def test_whole_and_half_pixels(sampler, align_corners):
    """PyTorch's rules at ties of two pixels, at jumps of slopes, and on the edges."""
    given = on_the_edges(sampler, align_corners)
    got, want = (each(sampler, given, align_corners) for each in (ours, theirs))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


@corners
@pytest.mark.parametrize("sampler", COMMON_STORED, ids=str)
def test_other_dtypes(sampler, align_corners):
    """float32, float16 and integers, against PyTorch in float64 on the same numbers."""
    given = problem(np.random.default_rng(1), sampler, align=align_corners)
    got, want = (each(sampler, given, align_corners) for each in (ours, theirs))
    slack = 1e-4 * np.abs(given.images.astype(float)).max()
    low, high = (reference.stored(want[0] + way, sampler.dtype) for way in (-slack, slack))
    assert ((low <= got[0]) & (got[0] <= high)).all()
    rounding = 2e-3 if sampler.dtype == "float16" else 1e-5
    for a, b in zip(got[1:], want[1:], strict=True):
        np.testing.assert_allclose(a, b, rtol=rounding, atol=1e-4 * max(1, np.abs(b).max()))


@corners
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [(3, 4, 5), (1, 2, 1)])
@pytest.mark.filterwarnings("ignore:Since version 1.3.0, affine_grid behavior has changed")
def test_grids_of_volumes(size, dtype, align_corners):
    rng = np.random.default_rng(2)
    theta = rng.standard_normal((2, 3, 4)).astype(dtype)
    dgrid = rng.standard_normal((2, *size, 3)).astype(dtype)
    tensor = torch.tensor(theta, requires_grad=True)
    grid = torch.nn.functional.affine_grid(tensor, (2, 1, *size), align_corners=align_corners)
    grid.backward(torch.tensor(dgrid))
    tolerance = 1e-12 if dtype == "float64" else 1e-5
    np.testing.assert_allclose(
        stn.affine_grid(theta, size, align_corners=align_corners), grid.detach().numpy(),
        atol=tolerance,
    )  # fmt: skip
    np.testing.assert_allclose(
        stn.affine_grid_vjp(dgrid, align_corners=align_corners), tensor.grad.numpy(),
        atol=20 * tolerance,
    )  # fmt: skip


# --- Deliberate differences from PyTorch: docs/semantics.md has the table -------------------------

ODD = [np.nan, np.inf, -np.inf, 1e30, -1e30]


@pytest.mark.parametrize("padding_mode", SHARED)
@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
def test_odd_coordinates(mode, padding_mode):
    """Where PyTorch gives NaN, we give the padding or the edge; otherwise the results agree.

    Only forward: PyTorch's gradient reads memory outside the image there.
    """
    image = np.arange(1.0, 13).reshape(1, 1, 3, 4)
    grid = np.zeros((1, 1, len(ODD), 2))
    grid[..., 0] = ODD
    chosen = {"mode": mode, "padding_mode": padding_mode, "align_corners": False}
    want = torch.nn.functional.grid_sample(*map(torch.tensor, (image, grid)), **chosen).numpy()
    got = stn.grid_sample(image, grid, **chosen)[0, 0, 0]
    is_nan = np.isnan(want[0, 0, 0])
    gives_nan = mode == "bicubic" or (mode, padding_mode) == ("bilinear", "zeros")
    np.testing.assert_array_equal(is_nan, [gives_nan, gives_nan, gives_nan, False, False])
    np.testing.assert_allclose(got[~is_nan], want[0, 0, 0][~is_nan])
    low, high = 5.0, 8.0  # the ends of the middle row
    ours = {"zeros": [0.0] * 3, "border": [low, high, low], "reflection": [low] * 3}[padding_mode]
    np.testing.assert_array_equal(got[:3], ours)


def test_the_gradient_at_nan_is_zero():
    image, grid = np.arange(1.0, 13).reshape(1, 1, 3, 4), np.zeros((1, 1, 3, 2))
    grid[..., 0] = ODD[:3]
    for padding_mode in ("border", "reflection"):
        chosen = {"padding_mode": padding_mode}
        _, dgrid = stn.grid_sample_vjp(np.ones((1, 1, 1, 3)), image, grid, **chosen)
        assert not dgrid[..., 0].any()


# --- SciPy and OpenCV, with coordinates in pixels -------------------------------------------------

SCIPY = {"zeros": "grid-constant", "border": "nearest", "wrap": "grid-wrap"}
LINEAR = [row for row in EXACT if row.mode == "bilinear" and row.padding != "fill"]
OPENCV = {"zeros": "CONSTANT", "border": "REPLICATE", "wrap": "WRAP"}
PLANES = [row for row in LINEAR if row.dims == 2]


def pixel_coordinates(sampler, given, align_corners):
    """The oracle's grid in pixels, in the order x, y[, z]."""
    grid, sides = sampler.grid(given.coords, given.size, align_corners), given.images.shape[:1:-1]
    axes = [
        reference.pixel_of(grid[..., k], side, align_corners)[0] for k, side in enumerate(sides)
    ]  # fmt: skip
    return np.stack(axes)


@corners
@pytest.mark.parametrize("sampler", LINEAR, ids=str)
def test_scipy(sampler, align_corners):
    """SciPy's "reflect" mirrors at the outer edges of the pixels, "mirror" at their centres."""
    from scipy import ndimage

    given = problem(np.random.default_rng(3), sampler, align=align_corners)
    pixel = pixel_coordinates(sampler, given, align_corners)
    mode = SCIPY.get(sampler.padding) or ("mirror" if align_corners else "reflect")
    got = sampler.sample(given.images, given.coords, given.size, align_corners, fill=given.fill)
    for n, c in np.ndindex(2, 2):
        want = ndimage.map_coordinates(
            given.images[n, c], pixel[::-1, n], order=1, mode=mode, cval=given.fill[c]
        )
        np.testing.assert_allclose(got[n, c], want, atol=1e-10)


@corners
@pytest.mark.parametrize("sampler", PLANES, ids=str)
def test_opencv(sampler, align_corners):
    """OpenCV rounds its maps to 1/32 of a pixel, so the errors are small but not rare."""
    cv2 = pytest.importorskip("cv2")
    given = problem(np.random.default_rng(4), sampler, align=align_corners)
    x, y = pixel_coordinates(sampler, given, align_corners).astype(np.float32)
    border = OPENCV.get(sampler.padding) or ("REFLECT_101" if align_corners else "REFLECT")
    got = sampler.sample(given.images, given.coords, given.size, align_corners, fill=given.fill)
    error = np.zeros(got.shape)
    for n, c in np.ndindex(2, 2):
        want = cv2.remap(
            given.images[n, c], x[n], y[n],
            cv2.INTER_LINEAR,
            borderMode=getattr(cv2, f"BORDER_{border}"), borderValue=given.fill[c],
        )  # fmt: skip
        error[n, c] = np.abs(got[n, c] - want)
    assert error.max() < 0.2
    assert error.mean() < 0.03
