"""Image files as people have them: what is read, kept and written, against Pillow and tifffile."""

import io
import os
import pathlib

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin

import numba_stn as stn
from numba_stn import cli
from numba_stn.images import files, pictures

tifffile = pytest.importorskip("tifffile")

RNG = np.random.default_rng(0)
RAMP = np.arange(48, dtype="u2").reshape(6, 8) * 997
PROFILE = b"an ICC profile, of which nothing is read " * 5


def warp(*args):
    return cli.main(["warp", *map(str, args)])


@pytest.fixture
def photo():
    """A smooth picture of 60 x 40 pixels."""
    small = np.random.default_rng(1).integers(70, 190, (6, 8, 3), np.uint8)
    return Image.fromarray(small).resize((60, 40), Image.Resampling.BICUBIC)


def read(path):
    with Image.open(path) as picture:
        picture.load()
        return picture


# --- TIFF -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("order", "<>")
def test_16_bits_of_either_byte_order(order, compression, tmp_path):
    """Pillow's conversion of big-endian numbers made every value above 255 a 255."""
    source, out = tmp_path / "a.tif", tmp_path / "o.npy"
    tifffile.imwrite(source, RAMP, byteorder=order, compression=compression)
    assert warp(source, out, "--rotate", 0) == 0
    found = np.load(out)
    np.testing.assert_array_equal(found, RAMP)
    assert found.dtype == np.uint16
    assert found.flat[:3].tolist() == [0, 997, 1994]


def test_16_bits_of_either_byte_order_without_tifffile(tmp_path, monkeypatch):
    """Pillow reads grey; colour would lose bits."""
    paths = {order: tmp_path / f"{ord(order)}.tif" for order in "<>"}
    for order, path in paths.items():
        tifffile.imwrite(path, RAMP, byteorder=order)
    tifffile.imwrite(tmp_path / "rgb.tif", np.dstack([RAMP] * 3), photometric="rgb")
    tifffile.imwrite(tmp_path / "white.tif", RAMP, photometric="miniswhite")
    monkeypatch.setitem(__import__("sys").modules, "tifffile", None)
    for path in paths.values():
        np.testing.assert_array_equal(files.read_image(path), RAMP)
    for name in ("rgb.tif", "white.tif"):
        with pytest.raises(files.FileError, match="16 bits per channel; to read them install tiff"):
            files.read_image(tmp_path / name)
    with pytest.raises(files.FileError, match="to write int16 install tifffile"):
        files.write_image(tmp_path / "o.tif", RAMP.astype(np.int16))


DTYPES = ["u1", "u2", "i1", "i2", "i4", "u4", "f2", "f4", "f8"]


@pytest.mark.parametrize("channels", [(), (2,), (3,), (4,), (5,)])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("dtype", DTYPES)
def test_tiff_of_all_numbers_keeps_each(dtype, order, channels, tmp_path):
    image = RNG.integers(0, 120, (6, 8, *channels)).astype(dtype)
    if image.dtype.kind in "if":
        image -= 60
    if channels == (4,):
        image[..., 3] = np.abs(image[..., 3]) + 1  # alpha, of which nothing is transparent
    source, out = tmp_path / "a.tif", tmp_path / "o.tif"
    kind = {"photometric": "rgb" if channels in [(3,), (4,)] else "minisblack"}
    kind |= {"planarconfig": "contig"} if channels else {}
    tifffile.imwrite(source, image, byteorder=order, **kind)
    assert warp(source, out, "--rotate", 180) == 0
    found = tifffile.imread(out)
    exact = channels != (4,) or image.dtype.kind != "f"  # alpha is multiplied and divided
    np.testing.assert_allclose(found, image[::-1, ::-1], 0 if exact else 1e-6)
    assert found.dtype == image.dtype


def test_numbers_between_pixels_are_rounded_half_to_even_and_saturated(tmp_path):
    source, out = tmp_path / "a.tif", tmp_path / "o.tif"
    for dtype in (np.int16, np.int32):
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        image = np.array([[-3, -2, -1, 0, 7, low, high, high]], dtype)
        tifffile.imwrite(source, image)
        assert warp(source, out, "--translate", -0.5, 0, "--padding", "border", "--force") == 0
        expected = [-2, -2, 0, 4, (7 + low) / 2, -0.5, high, high]
        np.testing.assert_array_equal(tifffile.imread(out)[0], np.rint(expected).astype(dtype))
        assert warp(source, out, "--mode", "bicubic", "--translate", -0.4, 0, "--force") == 0
        assert tifffile.imread(out)[0, 5] >= low  # where a cubic overshoots


def test_tiff_of_every_layout(tmp_path):
    """Planes apart, tiles, white as 0, every orientation, colours multiplied by alpha."""
    path = tmp_path / "a.tif"
    rgb = RNG.integers(0, 65536, (6, 8, 3), np.uint16)
    tifffile.imwrite(path, np.moveaxis(rgb, 2, 0), photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(files.read_image(path), rgb)
    tifffile.imwrite(path, np.tile(rgb, (9, 9, 1)), photometric="rgb", tile=(16, 32))
    np.testing.assert_array_equal(files.read_image(path), np.tile(rgb, (9, 9, 1)))
    for dtype in (np.uint8, np.uint16):
        grey = RAMP.astype(dtype)
        tifffile.imwrite(path, grey, photometric="miniswhite")
        np.testing.assert_array_equal(files.read_image(path), np.iinfo(dtype).max - grey)
        for orientation in range(1, 9):
            tifffile.imwrite(path, grey, extratags=[(274, 3, 1, orientation, True)])
            stored = Image.fromarray(grey.astype(np.uint8))
            stored.getexif()[274] = orientation
            upright = np.array(Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8)))
            exif = Image.Exif()
            exif[274] = orientation
            file = io.BytesIO()
            Image.fromarray(upright).save(file, "PNG", exif=exif)
            (tmp_path / "index.png").write_bytes(file.getvalue())
            index = files.read_image(tmp_path / "index.png")
            np.testing.assert_array_equal(files.read_image(path), grey.ravel()[index])
    alpha = np.array([[0, 1000, 65535]], np.uint16)
    stored = np.dstack([alpha // 2] * 3 + [alpha])
    tifffile.imwrite(path, stored, photometric="rgb", extrasamples=["assocalpha"])
    found = files.read_image(path)
    assert found[0, :, 0].tolist() == [0, 32768, 32767]
    np.testing.assert_array_equal(found[..., 3], alpha)


def test_compressed_grey_is_read_by_pillow_where_tifffile_needs_more(tmp_path):
    for name, image in {"16": RAMP, "float": RAMP.astype(np.float32)}.items():
        Image.fromarray(image).save(tmp_path / f"{name}.tif", compression="tiff_lzw")
        np.testing.assert_array_equal(files.read_image(tmp_path / f"{name}.tif"), image)


def test_a_tiff_without_all_of_its_pixels_is_an_error(tmp_path):
    path = tmp_path / "a.tif"
    for compression in (None, "zlib"):
        tifffile.imwrite(path, np.dstack([RAMP] * 3), photometric="rgb", compression=compression)
        os.truncate(path, path.stat().st_size - 20)
        with pytest.raises(files.FileError, match="a.tif: "):
            files.read_image(path)


# --- Metadata -------------------------------------------------------------------------------------


def exif_with(orientation):
    exif = Image.Exif()
    exif[0x0112], exif[0x013B], exif[0x8298] = orientation, "Ada", "CC0"
    folder = exif.get_ifd(0x8769)
    folder[0xA002], folder[0xA003], folder[0x9003] = 40, 60, "2020:02:29 12:00:00"
    exif[0x8769] = folder
    return exif


@pytest.mark.parametrize("target", [".jpg", ".png", ".tif", ".webp", ".bmp"])
@pytest.mark.parametrize("source", [".jpg", ".png", ".tif"])
def test_profile_resolution_and_exif_are_kept(source, target, photo, tmp_path, capsys):
    """The orientation is applied and no longer in the file; the size is the output's."""
    path, out = tmp_path / f"a{source}", tmp_path / f"o{target}"
    upright = photo
    stored = photo.transpose(Image.Transpose.ROTATE_90)  # which orientation 6 undoes
    stored.save(path, exif=exif_with(6), icc_profile=PROFILE, dpi=(300, 200), quality=95)
    assert warp(path, out, "--size", "30x20") == 0
    found, line = read(out), capsys.readouterr().out
    assert line.startswith(f"wrote {out}: 30 x 20 pixels, RGB, uint8")
    expected = stn.resize(np.array(upright), (20, 30)).astype(int)
    assert np.abs(np.array(found) - expected).mean() < 6
    exif = found.getexif()
    assert 0x0112 not in exif or exif[0x0112] == 1
    if target == ".bmp":
        assert "without ICC profile, EXIF" in line
    else:
        assert found.info["icc_profile"] == PROFILE
        assert (exif[0x013B], exif[0x8298]) == ("Ada", "CC0")
        folder = exif.get_ifd(0x8769)
        assert folder[0x9003] == "2020:02:29 12:00:00"
        assert (folder[0xA002], folder[0xA003]) == (30, 20)
    if target == ".webp":
        assert "without 300 dpi" in line
    else:
        np.testing.assert_allclose([float(each) for each in found.info["dpi"]], (300, 200), 1e-4)


def test_metadata_of_a_tiff_with_16_bits(tmp_path):
    path, out = tmp_path / "a.tif", tmp_path / "o.tif"
    image = np.dstack([RAMP] * 3)
    tags = [(315, 2, None, "Ada", True), (270, 2, None, "a ramp", True)]
    tifffile.imwrite(path, image, photometric="rgb", iccprofile=PROFILE, resolution=(40, 20),
                     resolutionunit=3, extratags=tags, metadata=None)  # fmt: skip
    assert warp(path, out, "--rotate", 0) == 0
    with tifffile.TiffFile(out) as tiff:
        tags = tiff.pages.first.tags
        assert (tags[315].value, tags[270].value) == ("Ada", "a ramp")
        assert bytes(tags[34675].value) == PROFILE
        x, y = (tags[tag].value[0] / tags[tag].value[1] for tag in (282, 283))
        np.testing.assert_allclose((x, y, tags[296].value), (40 * 2.54, 20 * 2.54, 2), 1e-6)


def test_no_resolution_is_made_up(photo, tmp_path):
    for suffix in (".tif", ".png", ".jpg"):
        photo.save(tmp_path / f"a{suffix}")
        assert files.read_file(tmp_path / f"a{suffix}").metadata.dpi is None


def test_a_description_of_planes_is_left_out(tmp_path):
    """It would be wrong after a warp, and programs read pixels by it."""
    tifffile.imwrite(tmp_path / "a.tif", RAMP, imagej=True)
    assert files.read_file(tmp_path / "a.tif").metadata.exif is None


def test_a_profile_of_other_colours_is_left_out(photo, tmp_path):
    photo.convert("CMYK").save(tmp_path / "a.jpg", icc_profile=PROFILE)
    assert files.read_file(tmp_path / "a.jpg").metadata.icc is None


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("sampling", [0, 1, 2])
@pytest.mark.parametrize("quality", [100, 80, 30])
def test_a_jpeg_keeps_its_quality(quality, sampling, mode, photo, tmp_path, capsys):
    """With 75 instead of 100 the mean change was 4.2 levels, and colours lost half their detail."""
    path, out = tmp_path / "a.jpg", tmp_path / "o.jpg"
    photo.convert(mode).save(path, quality=quality, subsampling=sampling)
    assert warp(path, out, "--rotate", 0) == 0
    assert "quality of the input" in capsys.readouterr().out
    before, after = read(path), read(out)
    assert after.quantization == before.quantization
    if mode == "RGB":
        assert JpegImagePlugin.get_sampling(after) == sampling
    kept = io.BytesIO()
    before.save(kept, "JPEG", quality="keep")
    np.testing.assert_array_equal(np.array(after), np.array(Image.open(kept)))
    most = 1 if sampling and mode == "RGB" else 0.5
    assert np.abs(np.array(before).astype(int) - np.array(after)).mean() < most


def test_quality_is_chosen(photo, tmp_path, capsys):
    photo.save(tmp_path / "a.png")
    for name, options in {"a": [], "b": ["--quality", 30]}.items():
        assert warp(tmp_path / "a.png", tmp_path / f"{name}.jpg", "--rotate", 0, *options) == 0
    lines = capsys.readouterr().out
    assert "quality 95" in lines
    assert "quality 30" in lines
    for name, quality in (("a", 95), ("b", 30)):
        file = io.BytesIO()
        photo.save(file, "JPEG", quality=quality)
        assert read(tmp_path / f"{name}.jpg").quantization == Image.open(file).quantization
    assert warp(tmp_path / "a.png", tmp_path / "o.png", "--rotate", 0, "--quality", 30) == 2
    assert "--quality: expected an output in one of .jpg" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        warp(tmp_path / "a.png", tmp_path / "c.jpg", "--rotate", 0, "--quality", 0)


def test_webp_is_lossless_unless_the_input_is_not(photo, tmp_path):
    rgba = photo.convert("RGBA")
    rgba.putalpha(Image.fromarray(np.tile(np.arange(1, 61, dtype=np.uint8), (40, 1))))
    rgba.save(tmp_path / "a.png")
    photo.save(tmp_path / "a.jpg")
    assert warp(tmp_path / "a.png", tmp_path / "a.webp", "--rotate", 0) == 0
    assert warp(tmp_path / "a.webp", tmp_path / "b.webp", "--rotate", 0) == 0
    assert warp(tmp_path / "a.jpg", tmp_path / "c.webp", "--rotate", 0) == 0
    assert warp(tmp_path / "c.webp", tmp_path / "d.webp", "--rotate", 0) == 0
    for name in "ab":
        np.testing.assert_array_equal(np.array(read(tmp_path / f"{name}.webp")), np.array(rgba))
    for name in "cd":
        assert b"VP8 " in (tmp_path / f"{name}.webp").read_bytes()


def test_transparency_without_an_alpha_channel(photo, tmp_path):
    """A colour that means transparent; it was dropped."""
    grey = photo.convert("L")
    grey.putpixel((0, 0), 7)
    grey.save(tmp_path / "grey.png", transparency=7)
    found = files.read_image(tmp_path / "grey.png")
    assert found.shape == (40, 60, 2)
    assert found[0, 0, 1] == 0
    np.testing.assert_array_equal(found[..., 1] == 0, np.array(grey) == 7)
    photo.save(tmp_path / "rgb.png", transparency=photo.getpixel((5, 5)))
    assert files.read_image(tmp_path / "rgb.png")[5, 5, 3] == 0


def test_exif_that_a_format_cannot_store_is_reported(photo, tmp_path, capsys):
    exif = exif_with(1)
    exif[0x010E] = "x" * 70_000
    photo.save(tmp_path / "a.png", exif=exif)
    assert warp(tmp_path / "a.png", tmp_path / "o.jpg", "--rotate", 0) == 0
    assert "without EXIF" in capsys.readouterr().out
    assert read(tmp_path / "o.jpg").size == (60, 40)


# --- Large images, archives, several pictures -----------------------------------------------------


def test_large_images_are_read_when_asked_for(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(pictures, "MOST_PIXELS", 40)
    Image.fromarray(RAMP.astype(np.uint8)).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a.tif", np.dstack([RAMP] * 3), photometric="rgb")
    for name in ("a.png", "a.tif"):
        command = [tmp_path / name, tmp_path / f"{name}.npy", "--rotate", 0]
        assert warp(*command) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line == (f"numba-stn: {tmp_path / name}: 8 x 6 pixels exceed the limit of 40; "
                        f"--allow-large (allow_large=True) reads them")  # fmt: skip
        assert warp(*command, "--allow-large") == 0


def test_200_megapixels_are_read_when_asked_for(tmp_path):
    """Their header, and Pillow's own limit."""
    before = Image.MAX_IMAGE_PIXELS
    Image.new("1", (16_320, 12_240)).save(tmp_path / "a.png")
    with pytest.raises(files.FileError, match="16320 x 12240 pixels exceed"):
        files.read_image(tmp_path / "a.png")
    assert files.read_image(tmp_path / "a.png", allow_large=True).shape == (12_240, 16_320)
    assert Image.MAX_IMAGE_PIXELS == before


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("dtype", ["u1", ">u2", "f4", "i2"])
def test_npz(dtype, order, tmp_path):
    image = np.asarray(RNG.integers(0, 99, (6, 8, 3)), dtype, order=order)
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", some_name=image)
        assert warp(tmp_path / "a.npz", tmp_path / "o.npz", "--rotate", 180, "--force") == 0
        with np.load(tmp_path / "o.npz") as found:
            np.testing.assert_array_equal(found["image"], image[::-1, ::-1])


def test_bad_npz_are_named(tmp_path, capsys):
    path = tmp_path / "a.npz"
    objects, several = io.BytesIO(), io.BytesIO()
    np.savez(objects, a=np.array([None]), allow_pickle=True)
    np.savez(several, left=RAMP, right=RAMP)
    whole = io.BytesIO()
    np.savez(whole, RAMP)
    variants = {"object": objects.getvalue(), "expected one array, got 2: left, right":
                several.getvalue(), "": whole.getvalue()[:-30], "not a zip": b"PK no",
                "crc": whole.getvalue().replace(RAMP.tobytes()[:9], b"x" * 9)}  # fmt: skip
    for message, content in variants.items():
        path.write_bytes(content)
        assert warp(path, tmp_path / "o.npy", "--rotate", 0) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"numba-stn: {path}: ")
        assert message.split()[0] in line.lower() if message else True
    assert [found.name for found in tmp_path.iterdir()] == ["a.npz"]


def test_the_image_of_a_file_with_previews(photo, tmp_path):
    """Phones write MPO, a JPEG followed by others."""
    photo.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[photo], quality=95)
    assert read(tmp_path / "a.jpg").format == "MPO"
    found = files.read_image(tmp_path / "a.jpg")
    assert np.abs(found.astype(int) - np.array(photo)).mean() < 6


# --- The line about what was written --------------------------------------------------------------


def test_each_output_is_named(photo, tmp_path, capsys):
    for name in "ab":
        photo.save(tmp_path / f"{name}.png")
    assert warp(tmp_path / "*.png", tmp_path / "out", "--size", "7x5") == 0
    assert capsys.readouterr().out.splitlines() == [
        f"wrote {tmp_path / 'out' / name}: 7 x 5 pixels, RGB, uint8" for name in ("a.png", "b.png")
    ]


@pytest.mark.skipif(not pathlib.Path("/dev/stdout").exists(), reason="no /dev")
def test_nothing_is_printed_into_an_output_stream(photo, tmp_path, capsys):
    photo.save(tmp_path / "a.png")
    (tmp_path / "sink.npy").symlink_to("/dev/null")
    assert warp(tmp_path / "a.png", tmp_path / "sink.npy", "--size", "7x5") == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "wrote " in err


# --- Several pages --------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [(), (3,), (4,), (2,)])
@pytest.mark.parametrize("dtype", ["u1", ">u2", "<i2", "f4"])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"tile": (16, 16)}], ids=str)
def test_pages_are_warped_like_images(options, dtype, channels, tmp_path, capsys):
    pages = RNG.integers(0, 120, (5, 20, 30, *channels)).astype(dtype)
    kind = {"photometric": "rgb" if channels in [(3,), (4,)] else "minisblack",
            "byteorder": ">" if dtype[0] == ">" else "<"}  # fmt: skip
    kind |= {"planarconfig": "contig"} if channels else {}
    tifffile.imwrite(tmp_path / "a.tif", pages, resolution=(300, 300), resolutionunit=2,
                     **kind, **options)  # fmt: skip
    native = pages.astype(pages.dtype.newbyteorder("="))
    for out in (tmp_path / "o.tif", tmp_path / "o.npy"):
        assert warp(tmp_path / "a.tif", out, "--rotate", 90, "--size", "20x30") == 0
        found = tifffile.imread(out) if out.suffix == ".tif" else np.load(out)
        np.testing.assert_array_equal(found, np.rot90(native, axes=(1, 2)))
        assert found.dtype == native.dtype
    with tifffile.TiffFile(tmp_path / "o.tif") as tiff:
        assert len(tiff.pages) == 5
        assert tiff.pages.first.tags[282].value == (300, 1)
    assert "a stack NHW" in capsys.readouterr().out


def test_pages_of_programs(tmp_path):
    """ImageJ's, also where one header describes all pages, and OME's."""
    pages = RNG.integers(0, 65536, (2, 3, 20, 30), np.uint16)
    axes = {"metadata": {"axes": "TZYX"}, "photometric": "minisblack"}
    tifffile.imwrite(tmp_path / "imagej.tif", pages, imagej=True, metadata={"axes": "TZYX"})
    tifffile.imwrite(tmp_path / "ome.tif", pages, ome=True, **axes)
    content = bytearray((tmp_path / "imagej.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "imagej.tif") as tiff:
        first = tiff.pages.first
        at = first.offset + 2 + 12 * len(first.tags)  # where the offset of the second page is
    content[at : at + 4] = bytes(4)
    (tmp_path / "one header.tif").write_bytes(content)
    for name in ("imagej", "ome", "one header"):
        assert warp(tmp_path / f"{name}.tif", tmp_path / "o.npy", "--rotate", 180, "--force") == 0
        expected = pages.reshape(6, 20, 30)[:, ::-1, ::-1]
        np.testing.assert_array_equal(np.load(tmp_path / "o.npy"), expected)


def test_pages_of_a_folder_and_from_arrays(photo, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    photo.save(folder / "a.png")
    pages = RNG.integers(0, 256, (3, 20, 30), np.uint8)
    tifffile.imwrite(folder / "b.tif", pages, photometric="minisblack")
    assert warp(folder, tmp_path / "out", "--rotate", 180) == 0
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out" / "b.tif"), pages[:, ::-1, ::-1])
    np.save(tmp_path / "c.npy", pages[..., None].repeat(3, -1))
    assert warp(tmp_path / "c.npy", tmp_path / "c.tif", "--rotate", 180) == 0
    found = tifffile.imread(tmp_path / "c.tif")
    np.testing.assert_array_equal(found, pages[..., None].repeat(3, -1)[:, ::-1, ::-1])


def test_bad_pages_are_named(tmp_path, capsys):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        for side in (20, 30):
            writer.write(np.zeros((side, 20), np.uint16))
    assert warp(path, tmp_path / "o.tif", "--rotate", 5) == 2
    assert "expected pages of one size and dtype, got (20, 20) of uint16, (30" in (
        capsys.readouterr().err
    )
    tifffile.imwrite(path, np.zeros((5, 20, 20), np.uint16), photometric="minisblack")
    os.truncate(path, path.stat().st_size - 999)
    assert warp(path, tmp_path / "o.tif", "--rotate", 5) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"numba-stn: {path}: ")
    with pytest.raises(files.FileError, match="a.tif: "):
        files.read_image(path)
    assert [found.name for found in tmp_path.iterdir()] == ["a.tif"]
