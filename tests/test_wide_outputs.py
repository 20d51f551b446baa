"""Outputs with blocks of pixels, against the oracle: interior, border, and a last one moved back.

The outputs of most tests are narrower than a block, and have pixels only. Here rows have 41
columns: two blocks, and one that shares 7 columns with the second. The maps lead inside the image,
across its edges, and outside.
"""

import numpy as np
import pytest
import reference
from samplers import EXACT, STORED, Sampler, expected, found, pixels, problem
from test_samplers import check

import numba_stn as stn

# The common kinds, which have kernels of their own, and the other kinds of planes.
COMMON = [
    Sampler(source, "bilinear", padding, 2, "NCHW", "float32", "float32")
    for source, padding in (
        ("affine", "zeros"), ("affine", "border"), ("affine", "reflection"), ("grid", "zeros"),
        ("grid", "border"),
    )
]  # fmt: skip
PLANES = COMMON + [row for row in EXACT + STORED if row.dims == 2]

MAPS = np.array([
    [[0.9, 0.1, 0.02], [-0.05, 0.8, 0.03]],  # inside
    [[-1.3, 0.2, 0.31], [0.1, -1.1, 0.2]],  # mirrored, across all edges
    [[0.7, 0.3, -0.9], [0.4, 0.5, 0.6]],  # half outside
    [[0.1, 0.0, 1.7], [0.0, 0.2, 0.0]],  # outside
    [[1.0, 0.0, 0.01], [0.0, 0.9, 0.0]],  # the last column is beyond the last pixel's centre
    [[1.0, 0.0, -0.01], [0.0, 0.9, 0.0]],  # the first one is before the first pixel's
    [[0.91, 0.0, -1.36], [0.0, 0.8, 0.0]],  # the last block is outside at first, then inside
])  # fmt: skip


@pytest.fixture(autouse=True)
def _serial(monkeypatch):
    """One variant of each kernel is enough; other tests compare the serial and parallel ones."""
    monkeypatch.setattr("numba_stn.kernels.cpu_launch.PARALLEL_WORK", 10**12)


def wide(sampler, sides, size, seed=0):
    """A problem whose maps are MAPS, or a grid of these."""
    rng = np.random.default_rng(seed)
    given = problem(rng, sampler, sides, size, len(MAPS))
    coords = MAPS + 0.01 * rng.standard_normal(MAPS.shape)
    if sampler.source == "projective":
        divisors = [0, 0, 1] + rng.uniform(-0.2, 0.2, (len(MAPS), 3)) * [1, 1, 0]
        coords = np.concatenate([coords, divisors[:, None]], axis=1)
    if sampler.source == "grid":
        coords = reference.affine_grid(coords, size)
    # The kernels of the common kinds take one fill; with several, the general ones are called.
    fill = np.full_like(given.fill, 0.3) if sampler in COMMON else given.fill
    return given._replace(coords=coords.astype(sampler.coords), fill=fill)


@pytest.mark.parametrize("sampler", PLANES, ids=str)
def test_blocks_against_the_oracle(sampler):
    given = wide(sampler, (21, 45), (2, 41))
    want, got = expected(sampler, given), found(sampler, given)
    check(sampler, got, want, np.abs(given.images.astype(float)).max(), side=45)


@pytest.mark.parametrize("sides", [(9, 1), (1, 40), (2, 2), (33, 17)], ids=str)
@pytest.mark.parametrize("sampler", COMMON[:3], ids=str)
def test_blocks_of_narrow_images(sampler, sides):
    given = wide(sampler, sides, (3, 33))
    want, got = expected(sampler, given), found(sampler, given)
    check(sampler, got, want, np.abs(given.images).max(), side=max(sides))


@pytest.mark.parametrize("columns", [5, 41])
@pytest.mark.parametrize("sampler", COMMON[:3], ids=str)
def test_large_images_have_no_quads(sampler, columns):
    """The gradient of an image that is too large for quads is added to its pixels."""
    given = wide(sampler, (70, 80), (3, columns))
    want, got = expected(sampler, given), found(sampler, given)
    check(sampler, got, want, np.abs(given.images).max(), side=80)


@pytest.mark.parametrize("columns", [8, 24], ids=["pixels", "blocks"])
@pytest.mark.parametrize("sides", [(9, 12), (70, 80)], ids=["quads", "large"])
def test_positions_beyond_each_edge_and_corner(sides, columns):
    """With no tap inside, one, two, or all."""
    sampler = COMMON[3]
    y, x = (np.array([-1.4, -0.7, -0.2, 0.3, side - 1.7, side - 0.8, side - 0.3, side + 0.3])
            for side in sides)  # fmt: skip
    pixels = np.stack(np.meshgrid(np.resize(x, columns), y), -1)
    coords = (2 * pixels + 1) / np.array(sides[::-1]) - 1
    given = problem(np.random.default_rng(4), sampler, sides, (8, columns), 1)
    given = given._replace(coords=coords[None].astype(sampler.coords), fill=np.full(2, 0.3))
    want, got = expected(sampler, given), found(sampler, given)
    check(sampler, got, want, np.abs(given.images).max(), side=max(sides))


def test_rows_of_many_blocks():
    """More blocks than a workspace has slots, in rows that begin and end outside."""
    sampler = COMMON[0]
    given = wide(sampler, (9, 40), (2, 1050))._replace(fill=np.float32([3, -5]))
    got = sampler.sample(given.images, given.coords, given.size, fill=given.fill)
    some = np.r_[0:20, 255:275, 500:520, 1030:1050]
    grid = sampler.grid(given.coords, given.size)[:, :, some]
    want = reference.grid_sample(given.images.astype(float), grid, fill=given.fill)
    np.testing.assert_allclose(got[..., some], want, atol=2e-3)


def test_a_coordinate_at_an_edge_has_no_slope_in_a_block():
    image = np.arange(1.0, 121).reshape(1, 1, 3, 40)
    options = {"padding_mode": "border", "align_corners": True}
    grid = stn.affine_grid(np.eye(2, 3)[None], (3, 40), align_corners=True)
    _, dgrid = stn.grid_sample_vjp(np.ones_like(image), image, grid, **options)
    assert not dgrid[0, :, [0, -1], 0].any()
    assert dgrid[0, :, 1:-1, 0].all()


# --- Rounding -------------------------------------------------------------------------------------

WHOLE = [row for row in STORED if row.dtype.startswith("u") and row[1] != "nearest" and row[3] == 2]


@pytest.mark.parametrize("sampler", WHOLE, ids=str)
def test_blocks_of_integers_are_rounded_half_to_even_and_saturated(sampler):
    """Halfway between pixels all taps and weights are exact in float32."""
    rng, most = np.random.default_rng(0), np.iinfo(sampler.dtype).max
    images = pixels(rng, (1, 2, 7, 70), sampler.dtype)
    images[0, 1] = rng.choice([0, most], (7, 70))
    theta = np.eye(2 + (sampler.source == "projective"), 3)[None]
    theta[:, 0, -1] = 1 / 70  # half a pixel
    coords = reference.affine_grid(theta, (7, 70)) if sampler.source == "grid" else theta
    coords = coords.astype(sampler.coords)
    got = sampler.sample(images, coords, (7, 70))
    left = images.astype(float)
    if sampler.mode == "bilinear":
        want = (left[..., 1:-2] + left[..., 2:-1]) / 2
    else:  # Keys's weights at a half, with the parameter -3/4
        taps = np.stack([left[..., k : k + 67] for k in range(4)], -1)
        want = taps @ [-3 / 32, 19 / 32, 19 / 32, -3 / 32]
        assert want.min() < -1 < most + 1 < want.max()
    assert (want % 1 == 0.5).mean() > 0.05
    np.testing.assert_array_equal(got[..., 1:68], reference.stored(want, sampler.dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
def test_halfway_between_two_pixels_the_even_one_is_nearest(dtype):
    image = (np.arange(5 * 70) % 251).astype(dtype).reshape(1, 1, 5, 70)
    theta = np.array([[[1, 0, 3 / 70], [0, 1, 0]]])  # a pixel and a half
    got = stn.warp_affine(image, theta, mode="nearest", padding_mode="border")
    columns = np.minimum(np.rint(np.arange(70) + 1.5).astype(int), 69)
    np.testing.assert_array_equal(got, image[..., columns])
