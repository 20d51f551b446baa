"""Colours with alpha: the public functions and the command line, against Pillow and a formula."""

import numpy as np
import pytest
from PIL import Image

import numba_stn as stn
from numba_stn import cli

RNG = np.random.default_rng(0)


def plate():
    """A yellow plate on transparent black ground."""
    image = np.zeros((80, 120, 4), np.uint8)
    image[20:60, 30:90] = 250, 200, 10, 255
    return image


def darkened(image):
    """How many visible pixels are not of the plate's colour."""
    visible = image[..., 3] > 0
    return int((np.abs(image[visible][:, :3].astype(int) - [250, 200, 10]).max(1) > 1).sum())


CALLS = {
    "rotate": lambda image, **options: stn.rotate(image, 4, expand=True, **options),
    "resize": lambda image, **options: stn.resize(image, (111, 77), **options),
    "warp_image": lambda image, **options: stn.warp_image(
        image, [[0.9, 0.1, -2.5], [0.05, 1.1, 0.3], [1e-4, 0, 1]], **options),
    "crop": lambda image, **options: stn.crop_and_resize(
        image, (10.5, 5, 110, 75), (90, 91), **options),
    "crops": lambda image, **options: stn.crop_and_resize(
        image, [(10.5, 5, 110, 75), (0, 0, 50, 50)], (90, 91), **options),
}  # fmt: skip


@pytest.mark.parametrize(("mode", "name"), [
    *(("bilinear", name) for name in CALLS), ("bicubic", "rotate"), ("nearest", "rotate"),
])  # fmt: skip
def test_no_visible_pixel_is_darkened(mode, name):
    """Without ``alpha``, 510 pixels of a rotated plate were darker, down to [5, 5, 0, 5]."""
    image = plate()
    found = CALLS[name](image, alpha=True, mode=mode)
    assert found.dtype == np.uint8
    assert darkened(found) == 0
    np.testing.assert_array_equal(found[..., 3], CALLS[name](image, mode=mode)[..., 3])
    if mode == "bilinear":
        assert darkened(CALLS[name](image, mode=mode)) > 0


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
def test_colours_are_means_weighted_by_alpha(dtype, channels):
    """Half way between two pixels: colour (c0 a0 + c1 a1) / (a0 + a1)."""
    whole = 1.0 if dtype in (np.float32, np.float64) else np.iinfo(dtype).max
    image = (RNG.random((1, 40, channels)) * whole).astype(dtype)
    image[0, 5:8, -1] = 0
    found = stn.warp_image(image, [[1, 0, 0.5], [0, 1, 0]], (1, 39), alpha=True)
    first, second = image[:, :-1].astype(float), image[:, 1:].astype(float)
    alpha = first[..., -1:] + second[..., -1:]
    with np.errstate(invalid="ignore"):
        colours = (first * first[..., -1:] + second * second[..., -1:])[..., :-1] / alpha
    expected = np.concatenate([np.nan_to_num(colours), alpha / 2], -1)
    if whole == 1:
        np.testing.assert_allclose(found, expected, atol=1e-6)
    else:
        assert np.abs(found - expected).max() <= 0.5 + 1e-3 * (dtype == np.uint8) + 0.02


def test_against_pillow():
    """Pillow multiplies 8-bit colours, so that those of nearly transparent pixels are rough."""
    noise = RNG.integers(0, 256, (9, 12, 4), np.uint8)
    image = stn.resize(noise, (80, 120), mode="bicubic")
    expected = np.array(Image.fromarray(image).rotate(20, Image.Resampling.BILINEAR))
    found = stn.rotate(image, 20, center=(59.5, 39.5), alpha=True)
    inside = np.s_[30:50, 40:80]
    solid = expected[inside][..., 3] > 60
    differ = np.abs(found[inside].astype(int) - expected[inside])[solid]
    assert np.quantile(differ, 0.99) <= 4


def test_fills_and_outputs():
    image = plate()
    out = np.zeros((80, 120, 4), np.uint8)
    found = stn.rotate(image, 10, alpha=True, fill=(10, 20, 30, 128), out=out)
    assert found is out
    assert out[0, 0].tolist() == [10, 20, 30, 128]
    rotated, matrix = stn.rotate(image, 10, alpha=True, return_matrix=True)
    assert (rotated.shape, matrix.shape) == ((80, 120, 4), (3, 3))
    with pytest.raises(ValueError, match="fill: expected 1 or 4 numbers"):
        stn.rotate(image, 10, alpha=True, fill=(1, 2))


@pytest.mark.parametrize("shape", [(5, 5), (5, 5, 3), (5, 5, 1), (5, 5, 5)])
def test_other_images_have_no_alpha(shape):
    with pytest.raises(ValueError, match="alpha: expected an image of 2 or 4 channels"):
        stn.rotate(np.zeros(shape, np.uint8), 5, alpha=True)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_the_command_line_knows_alpha(mode, suffix, tmp_path):
    if (mode, suffix) in (("P", ".webp"), ("LA", ".webp"), ("P", ".tif")):
        pytest.skip("not such files")
    picture = Image.fromarray(plate())
    picture = picture.quantize(4) if mode == "P" else picture.convert(mode)
    picture.save(tmp_path / f"a{suffix}", **({"lossless": True} if suffix == ".webp" else {}))
    assert cli.main(["warp", str(tmp_path / f"a{suffix}"), str(tmp_path / "o.png"), "--rotate",
                     "4", "--expand"]) == 0  # fmt: skip
    found = np.array(Image.open(tmp_path / "o.png").convert("RGBA"))
    visible = found[found[..., 3] > 0]
    colour = np.array(picture.convert("RGBA"))[40, 60, :3].astype(int)
    assert len(visible) > 2000
    assert np.abs(visible[:, :3] - colour).max() <= 1


def test_arrays_of_four_channels_are_not_colours_with_alpha_to_the_command_line(tmp_path):
    np.save(tmp_path / "a.npy", plate())
    assert (
        cli.main(["warp", str(tmp_path / "a.npy"), str(tmp_path / "o.npy"), "--rotate", "4"]) == 0
    )
    np.testing.assert_array_equal(np.load(tmp_path / "o.npy"), stn.rotate(plate(), 4))
