"""``numba-stn warp`` against OpenCV and our own functions, and on invalid files."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

import numba_stn as stn
from numba_stn import cli
from numba_stn.images import canvas, files, npy_files
from numba_stn.ops import validate
from numba_stn.utils.atomic_write import PREFIX

RNG = np.random.default_rng(0)
SHAPES = {"grey": (40, 60), "grey with alpha": (40, 60, 2), "RGB": (40, 60, 3), "RGBA": (40, 60, 4)}


def warp(*args):
    return cli.main(["warp", *map(str, args)])


@pytest.fixture
def photo(tmp_path):
    """A smooth picture of 60 x 40 pixels, and its file."""
    small = RNG.integers(0, 256, (6, 8, 3), np.uint8)
    image = np.array(Image.fromarray(small).resize((60, 40), Image.Resampling.BICUBIC))
    path = tmp_path / "photo.png"
    Image.fromarray(image).save(path)
    return image, path


def read(path):
    return np.array(Image.open(path))


# --- Results --------------------------------------------------------------------------------------


def test_rotate_equals_the_function(photo, tmp_path):
    image, path = photo
    assert warp(path, tmp_path / "a.png", "--rotate", 30) == 0
    np.testing.assert_array_equal(read(tmp_path / "a.png"), stn.rotate(image, 30))
    assert warp(path, tmp_path / "b.png", "--rotate", 30, "--expand", "--fill", "9,8,7") == 0
    expected = stn.rotate(image, 30, expand=True, fill=(9, 8, 7))
    np.testing.assert_array_equal(read(tmp_path / "b.png"), expected)


def test_an_image_that_shrinks_is_averaged(tmp_path):
    """A zone plate at a fifth of its size is the mean over areas, within a grey level."""
    y, x = np.mgrid[:400, :400] - 200
    plate = np.rint(127.5 + 127.5 * np.cos(np.pi * (x * x + y * y) / 400)).astype(np.uint8)
    path, out = tmp_path / "plate.png", tmp_path / "o.png"
    Image.fromarray(plate).save(path)
    small = ("--scale", 0.2, "--expand", "--force")
    assert warp(path, out, *small) == 0
    mean = plate.reshape(80, 5, 80, 5).mean((1, 3))
    assert np.abs(read(out) - mean).max() <= 0.5
    sampled = plate[2::5, 2::5]
    for options in (("--no-antialias",), ("--mode", "nearest")):
        assert warp(path, out, *small, *options) == 0
        np.testing.assert_array_equal(read(out), sampled)
    assert warp(path, out, "--scale", 0.7, "--force") == 0  # by less than 1.5
    expected = stn.rotate(plate, 0, zoom=0.7)
    np.testing.assert_array_equal(read(out), expected)
    assert warp(path, out, "--scale", 0.7, "--antialias", "--force") == 0
    assert (read(out) != expected).any()


def test_labels_and_complex_numbers(tmp_path):
    labels = RNG.integers(-(2**63), 2**63, (9, 11), np.int64)
    waves = (RNG.normal(size=(9, 11)) + 1j).astype(np.complex64)
    for name, image in (("labels", labels), ("waves", waves)):
        path, out = tmp_path / f"{name}.npy", tmp_path / f"{name}-out.npy"
        np.save(path, image)
        assert warp(path, out, "--mode", "nearest", "--flip", "horizontal") == 0
        np.testing.assert_array_equal(np.load(out), image[:, ::-1])
    assert warp(tmp_path / "labels.npy", tmp_path / "no.npy", "--rotate", 3) != 0
    assert not (tmp_path / "no.npy").exists()


def test_size_alone_resizes(photo, tmp_path):
    image, path = photo
    assert warp(path, tmp_path / "a.png", "--size", "30x80", "--padding", "border") == 0
    found = read(tmp_path / "a.png").astype(int)
    assert found.shape == (80, 30, 3)
    matrix = [[60 / 30, 0, 0.5], [0, 40 / 80, -0.25]]
    np.testing.assert_array_equal(
        found, stn.warp_image(image, matrix, (80, 30), padding_mode="border")
    )


def test_scale_shear_rotate_translate_in_this_order(photo, tmp_path):
    image, path = photo
    arguments = ["--rotate", 90, "--scale", "2,1", "--shear", 0.5, 0, "--translate", -3, 4]
    assert warp(path, tmp_path / "a.png", *arguments, "--size", "70x130", "--mode", "nearest") == 0
    # (1, 1) from the centre: scaled (2, 1), sheared (2.5, 1), rotated counter-clockwise (1, -2.5).
    matrix = canvas.matrix_from_parts((40, 60), 90, (2, 1), (0.5, 0), (-3, 4))
    np.testing.assert_allclose(matrix @ [30.5, 20.5, 1], [29.5 + 1 - 3, 19.5 - 2.5 + 4, 1])
    centred = canvas.recentre(matrix, (40, 60), (130, 70))
    expected = stn.warp_image(
        image, stn.matrices.from_opencv(centred), (130, 70), mode="nearest"
    )  # fmt: skip
    np.testing.assert_array_equal(read(tmp_path / "a.png"), expected)


def test_corners_are_moved_to_the_given_positions(photo, tmp_path):
    cv2 = pytest.importorskip("cv2")
    image, path = photo
    corners = np.float32([[5, 3], [50, 0], [58, 39], [2, 30]])
    assert warp(path, tmp_path / "a.png", "--corners", *corners.ravel()) == 0
    outline = np.float32([[-0.5, -0.5], [59.5, -0.5], [59.5, 39.5], [-0.5, 39.5]])
    expected = cv2.warpPerspective(image, cv2.getPerspectiveTransform(outline, corners), (60, 40))
    differ = np.abs(read(tmp_path / "a.png").astype(int) - expected)
    assert np.median(differ) <= 1
    assert (differ > 12).mean() < 0.05  # on the border


@pytest.mark.parametrize("convention", ["output-to-input", "opencv", "skimage"])
@pytest.mark.parametrize("suffix", [".txt", ".npy"])
def test_matrices_from_files(convention, suffix, photo, tmp_path):
    image, path = photo
    forward = np.array([[0.9, 0.2, 3.0], [-0.1, 1.1, -2.0]])
    ours = stn.matrices.from_opencv(forward)
    given = {"opencv": forward, "skimage": stn.matrices.to_skimage(ours)}.get(convention, ours)
    file = tmp_path / f"m{suffix}"
    np.save(file, given) if suffix == ".npy" else np.savetxt(file, given)
    out = tmp_path / "a.png"
    assert warp(path, out, "--matrix", file, "--convention", convention) == 0
    differ = np.abs(read(out).astype(int) - stn.warp_image(image, ours))
    assert differ.max() <= 1  # the matrix was inverted twice


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_kinds_of_images(name, dtype, tmp_path):
    """Every kind of image as .npy, and the kinds that Pillow knows as .png too."""
    image = RNG.integers(0, 256 if dtype == np.uint8 else 65536, SHAPES[name]).astype(dtype)
    expected = stn.rotate(image, 20)
    np.save(tmp_path / "in.npy", image)
    assert warp(tmp_path / "in.npy", tmp_path / "out.npy", "--rotate", 20) == 0
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), expected)
    if dtype == np.uint8 or (dtype == np.uint16 and image.ndim == 2):
        files.write_image(tmp_path / "in.png", image)
        assert warp(tmp_path / "in.png", tmp_path / "out.png", "--rotate", 20) == 0
        if "alpha" in name or name == "RGBA":  # which the file says, and the array does not
            expected = stn.rotate(image, 20, alpha=True)
        np.testing.assert_array_equal(read(tmp_path / "out.png"), expected)
        assert read(tmp_path / "out.png").dtype == dtype


def test_palettes_and_orientation_are_applied(photo, tmp_path):
    image, path = photo
    picture = Image.open(path)
    picture.convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "p.png")
    assert files.read_image(tmp_path / "p.png").shape == (40, 60, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate clockwise by 90 degrees
    picture.save(tmp_path / "rotated.jpg", exif=exif, quality=95)
    found = files.read_image(tmp_path / "rotated.jpg")
    assert found.shape == (60, 40, 3)
    assert np.abs(np.rot90(image, -1).astype(int) - found).mean() < 6


# --- Several images -------------------------------------------------------------------------------


def test_a_folder_and_a_pattern(photo, tmp_path, capsys):
    image, _ = photo
    folder = tmp_path / "many"
    folder.mkdir()
    for n in range(3):
        Image.fromarray(image).save(folder / f"{n}.png")
    (folder / "notes.txt").write_text("not an image")
    assert warp(folder, tmp_path / "out", "--rotate", 5) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.png", "1.png", "2.png"]
    assert warp(folder / "[12].png", tmp_path / "two", "--rotate", 5) == 0
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == ["1.png", "2.png"]
    assert "2/2" in capsys.readouterr().err


def test_a_broken_image_does_not_stop_the_others(photo, tmp_path, capsys):
    folder = tmp_path / "many"
    folder.mkdir()
    content = photo[1].read_bytes()
    (folder / "a.png").write_bytes(content)
    (folder / "b.png").write_bytes(content[: len(content) // 2])
    (folder / "c.png").write_bytes(content)
    assert warp(folder, tmp_path / "out", "--rotate", 5) == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "c.png"]
    lines = capsys.readouterr().err.replace("\r", "\n").splitlines()
    assert lines[-2].startswith(f"numba-stn: {folder / 'b.png'}: ")
    assert lines[-1] == (
        f"numba-stn: 1 of 3 images could not be warped; the others are in {tmp_path / 'out'}"
    )


def test_what_is_no_image_file_is_named_and_does_not_stop_the_others(photo, tmp_path, capsys):
    folder, out = tmp_path / "many", tmp_path / "out"
    folder.mkdir()
    for name in ("a.png", "z.png"):
        (folder / name).write_bytes(photo[1].read_bytes())
    bad = {name: folder / name for name in ("folder.png", "gone.png", "loop.png", "objects.npy",
                                            "archive.npy", "huge.npy", "empty.tif")}  # fmt: skip
    bad["folder.png"].mkdir()
    bad["gone.png"].symlink_to("nowhere")
    bad["loop.png"].symlink_to("loop.png")
    np.save(bad["objects.npy"], np.array([[None]]), allow_pickle=True)
    with bad["archive.npy"].open("wb") as file:
        np.savez(file, a=photo[0])
    bad["huge.npy"].write_bytes(npy_header((4_000_000_000, 4_000_000_000)))
    empty(bad["empty.tif"])
    if os.name == "posix":
        bad["fifo.png"] = folder / "fifo.png"
        os.mkfifo(bad["fifo.png"])
    assert warp(folder, out, "--rotate", 5) == 1
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "z.png"]
    *_, last = lines = capsys.readouterr().err.replace("\r", "\n").splitlines()
    assert f"{len(bad)} of {len(bad) + 2} images" in last
    for path in bad.values():
        assert any(line.startswith(f"numba-stn: {path}: ") for line in lines)


# --- Inputs and outputs that are one file ---------------------------------------------------------


@pytest.fixture
def folders(photo, tmp_path, monkeypatch):
    """Folders ``a`` and ``b``, both with an image ``1.png``; the working directory has both."""
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(photo[1].read_bytes())
    photo[1].unlink()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def everything(folder):
    """The content of all files, links included, and all folders."""
    return {path: path.read_bytes() if path.is_file() else path.is_symlink()
            for path in folder.rglob("*")}  # fmt: skip


def link_to_a_folder(folder):
    (folder / "a" / "1.png").unlink()
    (folder / "a").rmdir()
    (folder / "a").symlink_to("b")


def links_to_one_file(folder):
    """Two outputs are links to the same file."""
    (folder / "b" / "1.png").rename(folder / "b" / "2.png")
    (folder / "out").mkdir()
    for name in ("1.png", "2.png"):
        (folder / "out" / name).symlink_to("../one.png")


def nothing_more(folder):
    pass


@pytest.mark.parametrize("force", [[], ["--force"]])
@pytest.mark.parametrize("make", [nothing_more, link_to_a_folder, links_to_one_file],
                         ids=lambda make: make.__name__)  # fmt: skip
def test_two_images_for_one_file_are_refused(make, force, folders, capsys):
    make(folders)
    before = everything(folders)
    assert warp("[ab]/*.png", "out", "--rotate", 5, *force) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "both would be written to out/" in line
    assert "a/1.png and b/" in line
    assert everything(folders) == before


def test_names_that_are_one_to_the_file_system_are_refused(folders, capsys, monkeypatch):
    """Case is ignored on some; here it is not, unless the test says so."""
    from numba_stn.cli import options

    (folders / "a" / "1.png").rename(folders / "a" / "ü.png")
    (folders / "b" / "1.png").rename(folders / "b" / "Ü.PNG")
    assert warp("[ab]/*", "out", "--size", "5x5") == 0
    assert len(list((folders / "out").iterdir())) == 2
    monkeypatch.setattr(options, "_is_one_file", lambda one, other: True)
    capsys.readouterr()
    assert warp("[ab]/*", "other", "--size", "5x5") == 2
    assert "a/ü.png and b/Ü.PNG: both would be" in capsys.readouterr().err
    assert not (folders / "other").exists()


@pytest.mark.parametrize("arguments", [["a", "a"], ["[a]/*.png", "a"], ["a", "link"],
                                       ["[ab]/*.png", "a"], ["a", "other"]], ids=str)  # fmt: skip
def test_an_output_that_is_an_input_is_refused(arguments, folders, capsys):
    """Stopped, it could not be repeated; ``other`` has a link to the input."""
    (folders / "link").symlink_to("a")
    (folders / "other").mkdir()
    (folders / "other" / "1.png").symlink_to("../a/1.png")
    (folders / "b" / "1.png").rename(folders / "b" / "2.png")
    (folders / "a" / "2.png").write_bytes(b"not among the inputs" if "b" in arguments[0] else b"")
    before = everything(folders)
    for force in ([], ["--force"]):
        assert warp(*arguments, "--rotate", 5, *force) == 2
        assert capsys.readouterr().err.count("\n") == 1
        assert everything(folders) == before


def test_the_matrix_of_a_folder_is_read_once_and_not_overwritten(folders, capsys):
    np.save("a/m.npy", np.eye(3)[:2])
    (folders / "out").mkdir()
    np.save("out/m.npy", np.eye(3)[:2])
    before = everything(folders)
    assert warp("a", "out", "--matrix", "out/m.npy", "--force") == 2
    assert "out/m.npy: would be written for a/m.npy" in capsys.readouterr().err
    assert everything(folders) == before


def test_one_image_may_replace_itself(photo):
    image, path = photo
    assert warp(path, path, "--rotate", 5, "--force") == 0
    np.testing.assert_array_equal(read(path), stn.rotate(image, 5))


# --- Errors ---------------------------------------------------------------------------------------


def test_existing_files_are_overwritten_only_with_force(photo, tmp_path, capsys):
    out = tmp_path / "out.png"
    out.write_bytes(b"mine")
    assert warp(photo[1], out, "--rotate", 5) == 2
    assert out.read_bytes() == b"mine"
    assert "--force" in capsys.readouterr().err
    assert warp(photo[1], photo[1], "--rotate", 5) == 2
    assert warp(photo[1], out, "--rotate", 5, "--force") == 0
    assert out.read_bytes() != b"mine"


@pytest.mark.skipif(os.name != "posix", reason="locks of POSIX")
@pytest.mark.parametrize("several", [False, True])
def test_what_killed_runs_left_is_named_and_removed_with_force(several, photo, tmp_path, capsys):
    """Where the files are written: a link's file may be in another folder."""
    folders = [tmp_path / name for name in ("in", "out", "there")]
    for folder in folders:
        folder.mkdir()
    (tmp_path / "in" / "photo.png").write_bytes(photo[1].read_bytes())
    (tmp_path / "out" / "photo.png").symlink_to("../there/photo.png")
    left = [folder / f"{PREFIX}{'0' * 16}" for folder in folders[1:]]
    for work in left:
        (work / "new").mkdir(parents=True)
    source, out = (folders[0], folders[1]) if several else (photo[1], folders[1] / "photo.png")
    for force in ([], ["--force"]):
        assert warp(source, out, "--size", "5x5", *force) == (0 if force else 2)
        lines = capsys.readouterr().err
        for work in left:
            assert f"numba-stn: {work}: left by a run that was killed" in lines
            assert work.exists() == (not force)
    assert read(folders[2] / "photo.png").shape == (5, 5, 3)


@pytest.mark.parametrize("arguments", [["", "out"], ["in.png", ""],
                                       ["in.png", "out.png", "--matrix", ""]])  # fmt: skip
def test_an_empty_argument_is_not_the_working_directory(arguments, photo, tmp_path, capsys,
                                                        monkeypatch):  # fmt: skip
    photo[1].rename(tmp_path / "in.png")
    monkeypatch.chdir(tmp_path)
    assert warp(*arguments, "--size", "5x5") == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["in.png"]


def truncated(path):
    path.write_bytes(path.read_bytes()[:200])


def empty(path):
    path.write_bytes(b"")


def foreign(path):
    path.write_text("this is not a picture")


def png(width, height, bits, colour, rows):
    """A PNG file, byte by byte."""

    def chunk(kind, data):
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def deep(path):
    """A PNG with 16 bits per colour."""
    path.write_bytes(png(2, 2, 16, 2, b"".join(b"\0" + bytes(12) for _ in range(2))))


def animated(path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    file = io.BytesIO()
    frames[0].save(file, "PNG", save_all=True, append_images=frames[1:])
    path.write_bytes(file.getvalue())


def enormous(path):
    """A PNG whose header declares 100,000 x 100,000 pixels."""
    path.write_bytes(png(100_000, 100_000, 8, 0, b""))


DAMAGES = {
    truncated: "truncated", empty: "no image", foreign: "no image", deep: "16 bits per channel",
    animated: "expected one image, got 2", enormous: "exceed the limit",
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_bad_files_are_named(damage, photo, tmp_path, capsys):
    _, path = photo
    damage(path)
    assert warp(path, tmp_path / "new" / "out.png", "--rotate", 5) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"numba-stn: {path}: ")
    assert DAMAGES[damage] in line
    assert not (tmp_path / "new").exists()


PICTURES = (".png", ".jpg", ".tif", ".bmp", ".webp")


@pytest.mark.parametrize("suffix", PICTURES)
def test_truncated_and_altered_pictures_never_end_in_a_traceback(suffix, photo, tmp_path):
    """Cut anywhere, or with some bytes altered: an error of one kind, or an image."""
    image, _ = photo
    path = tmp_path / f"a{suffix}"
    files.write_image(path, image)
    content, failed = path.read_bytes(), 0
    rng = np.random.default_rng(1)
    cut = np.unique(rng.integers(0, len(content), 40))
    variants = [content[:length] for length in cut]
    for _ in range(40):
        altered = np.frombuffer(content, np.uint8).copy()
        altered[rng.integers(0, min(len(content), 300), 4)] = rng.integers(0, 256, 4)
        variants.append(altered.tobytes())
    for variant in variants:
        path.write_bytes(variant)
        failed += error_of(path).startswith(f"{path}: ")
    assert failed >= 30


def error_of(path):
    """The error of reading an image; "" if it can be read."""
    try:
        assert files.read_image(path).ndim in (2, 3)
    except files.FileError as error:
        return str(error)
    return ""


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_a_file_without_permission_is_named(photo, tmp_path, capsys):
    photo[1].chmod(0)
    assert warp(photo[1], tmp_path / "out.png", "--rotate", 5) == 2
    assert capsys.readouterr().err == f"numba-stn: {photo[1]}: Permission denied\n"


ARGUMENTS = {
    "missing": (["no.png", "out.png", "--rotate", "5"], "no.png: No such file"),
    "nothing to do": (["{photo}", "out.png"], "expected at least one of"),
    "two maps": (["{photo}", "out.png", "--rotate", "5", "--matrix", "m.txt"], "one or the other"),
    "convention": (["{photo}", "out.png", "--rotate", "5", "--convention", "opencv"], "--matrix"),
    "two sizes": (["{photo}", "o.png", "--scale", "2", "--expand", "--size", "3x3"], "--expand"),
    "no matrix": (["{photo}", "out.png", "--matrix", "m.txt"], "--matrix m.txt"),
    "suffix": (["{photo}", "out.xyz", "--rotate", "5"], "expected a name that ends in"),
    "alpha in jpeg": (["{alpha}", "out.jpg", "--rotate", "5"], "RGBA as JPEG"),
    "number": (["{photo}", "out.png", "--rotate", "much"], "expected a number, got 'much'"),
    "size": (["{photo}", "out.png", "--size", "0x5"], "WIDTHxHEIGHT"),
    "scale": (["{photo}", "out.png", "--scale", "0"], "numbers other than 0"),
    "fill": (["{photo}", "out.png", "--rotate", "5", "--fill", "1,2"], "fill"),
    "big fill": (["{photo}", "out.png", "--rotate", "5", "--fill", "300"], "300"),
    "flat": (["{photo}", "o.png", "--corners", *"00112233"], "no three lie on a line"),
    "no image": (["{empty}", "out", "--rotate", "5"], "found no image"),
    "side": (["{photo}", "out.png", "--size", "3000000000x2"], "3000000000"),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_bad_arguments_are_named(name, photo, tmp_path, capsys, monkeypatch):
    image, path = photo
    alpha, nothing = tmp_path / "alpha.png", tmp_path / "nothing"
    Image.fromarray(np.dstack([image, image[:, :, 0]])).save(alpha)
    nothing.mkdir()
    monkeypatch.chdir(tmp_path)
    before = {path.name for path in tmp_path.iterdir()}
    arguments, message = ARGUMENTS[name]
    try:
        code = warp(*(a.format(photo=path, alpha=alpha, empty=nothing) for a in arguments))
    except SystemExit as error:
        code = error.code
    line = capsys.readouterr().err.splitlines()[-1]
    assert (code, message in line) == (2, True), line
    assert {path.name for path in tmp_path.iterdir()} == before


# --- Arrays ---------------------------------------------------------------------------------------


def npy_header(shape, descr="'|u1'", order="False", version=(1, 0)):
    """The header of an .npy file, byte by byte."""
    text = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}".encode()
    length = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + length + text


HEADERS = {
    "huge": npy_header((4_000_000_000, 4_000_000_000)),
    "beyond 64 bits": npy_header((99999999999999999999, 3)),
    "negative": npy_header((-1, 3)), "two negative": npy_header((-2, -3)),
    "too long": npy_header((3, 3)), "too short": npy_header((2, 2)),
    "objects": npy_header((6,), "'|O'"), "fields": npy_header((2, 3), "[('a', '|u1')]"),
    "words": npy_header((2, 3), "'<U1'"), "no bytes": npy_header((2, 3), "'|S0'"),
    "no dtype": npy_header((2, 3), "'what'"), "number": npy_header(6),
    "nested": npy_header("(" * 3000 + ")" * 3000), "deep": npy_header("-" * 9000 + "1"),
    "no end": npy_header("(2, 3")[:-9], "version": npy_header((2, 3), version=(9, 0)),
    "long": npy_header((2, 3), version=(2, 0))[:8] + b"\xff" * 4, "magic": b"\x93NUMPY",
    "empty": b"", "flat": npy_header((6,)), "four axes": npy_header((1, 1, 2, 3, 1)),
    "text": b"hello", "zip": b"PK\x03\x04 no archive",
}  # fmt: skip


@pytest.mark.parametrize("name", HEADERS)
def test_bad_arrays_are_named(name, tmp_path, capsys):
    """As an image, a stack and a matrix; nothing is allocated for what a header claims."""
    path = tmp_path / "in.npy"
    path.write_bytes(HEADERS[name] + bytes(range(6)))
    photo = tmp_path / "photo.png"
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(photo)
    for command in ([path, "out.npy", "--rotate", 5], [photo, "out.png", "--matrix", path],
                    [path, "out.npy", "--rotate", 5, "--axes", "NHW"]):  # fmt: skip
        assert warp(command[0], tmp_path / command[1], *command[2:]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert str(path) in line
        assert len(line) < 500
    assert {found.name for found in tmp_path.iterdir()} == {"in.npy", "photo.png"}
    with pytest.raises(files.FileError, match="in.npy: "):
        files.read_image(path)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(7, 5), (7, 5, 3), (0, 5), (1, 1)])
@pytest.mark.parametrize("dtype", ["<u2", ">u2", "<f8", ">f4"])
def test_arrays_of_every_order_and_version(version, order, shape, dtype, tmp_path, monkeypatch):
    array = RNG.integers(0, 999, shape).astype(dtype, order=order)
    with (tmp_path / "a.npy").open("wb") as file:
        np.lib.format.write_array(file, array, version)
    monkeypatch.setattr(npy_files, "BLOCK_BYTES", 40)  # several blocks
    found = files.read_image(tmp_path / "a.npy")
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype.newbyteorder("=")
    opened = files.open_npy(tmp_path / "a.npy")
    np.testing.assert_array_equal(opened[2:6], array[2:6])


def test_an_array_in_the_order_of_fortran_is_warped(tmp_path):
    image = np.asfortranarray(RNG.integers(0, 256, (40, 60, 3), np.uint8))
    np.save(tmp_path / "in.npy", image)
    assert warp(tmp_path / "in.npy", tmp_path / "out.npy", "--rotate", 20) == 0
    expected = stn.rotate(np.ascontiguousarray(image), 20)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), expected)


@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_that_shrinks_while_it_is_read_is_an_error(order, tmp_path):
    np.save(tmp_path / "a.npy", np.ones((100, 100), order=order))
    opened = files.open_npy(tmp_path / "a.npy")
    os.truncate(tmp_path / "a.npy", 5000)
    with pytest.raises(files.FileError, match="truncated while it is read"):
        opened[90:]


MATRICES = {
    "long": ("1 " * 10**6, "the file is too long"),
    "singular": ("0 0 0\n0 0 0", "an inverse"), "square": ("1 2\n3 4", "got (2, 2)"),
    "nan": ("nan 0 0\n0 1 0", "finite numbers"), "words": ("hello", "2 or 3 rows of 3 numbers"),
    "empty": ("", "2 or 3 rows of 3 numbers"),
}  # fmt: skip


@pytest.mark.parametrize("convention", ["output-to-input", "opencv", "skimage"])
@pytest.mark.parametrize("name", MATRICES)
def test_bad_matrices_are_named(name, convention, photo, tmp_path, capsys):
    content, message = MATRICES[name]
    (tmp_path / "m.txt").write_text(content)
    command = [photo[1], tmp_path / "o.png", "--matrix", tmp_path / "m.txt"]
    assert warp(*command, "--convention", convention) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"numba-stn: --matrix {tmp_path / 'm.txt'}: ")
    assert message in line
    assert not (tmp_path / "o.png").exists()


def test_help_names_every_choice():
    from numba_stn.cli import warp as command
    from numba_stn.ops.validate import MODES, PADDINGS

    assert set(command.MODES) == set(MODES)
    assert set(command.PADDINGS) == set(PADDINGS)


def test_the_command_offers_every_mode_and_padding():
    """It lists them itself, because importing the library would make --help slow."""
    assert cli.warp.MODES == tuple(validate.MODES)
    assert cli.warp.PADDINGS == tuple(validate.PADDINGS)


# --- Habits of other commands ---------------------------------------------------------------------


@pytest.mark.parametrize("option", ["horizontal", "vertical", "both"])
def test_flips(option, photo, tmp_path):
    image, path = photo
    expected = image[:, ::-1] if option != "vertical" else image
    expected = expected[::-1] if option != "horizontal" else expected
    assert warp(path, tmp_path / "a.png", "--flip", option) == 0
    np.testing.assert_array_equal(read(tmp_path / "a.png"), expected)
    signs = ["-1" if option in (axis, "both") else "1" for axis in ("horizontal", "vertical")]
    assert warp(path, tmp_path / "b.png", "--scale", ",".join(signs)) == 0
    np.testing.assert_array_equal(read(tmp_path / "b.png"), expected)


def test_values_that_begin_with_a_minus(photo, tmp_path, capsys):
    image, path = photo
    np.save(tmp_path / "a.npy", image.astype(np.float32))
    options = ["--scale", "-1,1", "--translate", "-1e0", "-.5", "--fill", "-1,-2.5,3"]
    assert warp(tmp_path / "a.npy", tmp_path / "b.npy", *options) == 0
    matrix = [[-1, 0, 58], [0, 1, 0.5]]
    expected = stn.warp_image(image.astype(np.float32), matrix, fill=(-1, -2.5, 3))
    np.testing.assert_allclose(np.load(tmp_path / "b.npy"), expected, atol=1e-3)
    with pytest.raises(SystemExit):
        warp(path, tmp_path / "c.png", "-x", "--rotate", 5)
    assert "unrecognized arguments: -x" in capsys.readouterr().err


@pytest.mark.parametrize("words", [
    "a.png b.png c.png out --rotate 180", "--rotate 180 a.png b.png c.png out",
    "a.png b.png --rotate 180 c.png out", "a.png --rotate 180 b.png c.png out",
    "a.png b.png c.png --rotate 180 out", "a.png --mode nearest [bc].png --rotate 180 out",
    "a.png a.png only --rotate 180 out", "only a.png out --rotate 180",
])  # fmt: skip
def test_files_without_quotes(words, photo, tmp_path, monkeypatch):
    """A shell replaces ``*.png`` by names; options may be anywhere among them."""
    image, path = photo
    monkeypatch.chdir(tmp_path)
    (tmp_path / "only").mkdir()
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.png").write_bytes(path.read_bytes())
    (tmp_path / "only" / "b.png").write_bytes(path.read_bytes())
    (tmp_path / "only" / "c.png").write_bytes(path.read_bytes())
    assert warp(*words.split()) == 0
    found = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in found] == ["a.png", "b.png", "c.png"]
    np.testing.assert_array_equal(read(found[1]), image[::-1, ::-1])


@pytest.mark.parametrize(("words", "message"), [
    ("a.png b.png c.png --rotate 5", "c.png: expected a folder for the output of 2 images"),
    ("a.png b.png c.png --rotate 5 --force", "c.png: expected a folder for the output of 2"),
    ("a.png b.png new.png --rotate 5", "new.png: expected a folder for the output of 2 images"),
    ("a.png sub/a.png out --rotate 5", "a.png and sub/a.png: both would be written to out/a.png"),
    ("a.png b.png . --rotate 5 --force", "a.png: would be written for a.png, but is the input"),
    ("a.png --rotate 5 b.png '' out", "expected names, got an empty one"),
    ("a.png no*.png out --rotate 5", "no*.png: found no image"),
])  # fmt: skip
def test_files_without_quotes_lose_nothing(words, message, photo, tmp_path, capsys, monkeypatch):
    _, path = photo
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    for name in ("a", "b", "c", "sub/a"):
        (tmp_path / f"{name}.png").write_bytes(path.read_bytes())
    before = everything(tmp_path)
    assert warp(*(word.strip("'") for word in words.split())) == 2
    assert message in capsys.readouterr().err
    assert everything(tmp_path) == before


def test_a_photographed_page_is_straightened(tmp_path):
    """The page fills the output; ``--corners`` with the same numbers shrank it to 22 %."""
    page = np.full((256, 320, 3), (250, 60, 20), np.uint8)
    corners = np.array([[80, 128], [240, 128], [319, 255], [0, 255]]) + 0.25
    outer = [[-0.5, -0.5], [319.5, -0.5], [319.5, 255.5], [-0.5, 255.5]]
    seen = stn.warp_image(page, stn.matrices.from_points(corners, outer), (300, 400))
    Image.fromarray(seen).save(tmp_path / "a.png")
    numbers = corners.ravel().tolist()
    assert warp(tmp_path / "a.png", tmp_path / "b.png", "--from-corners", *numbers) == 0
    found = read(tmp_path / "b.png")
    assert found.shape == (150, 319, 3)  # the length of the lower edge, and of both sides
    assert (found[..., 0] > 110).mean() > 0.99
    assert (np.abs(found[3:-3, 3:-3].astype(int) - page[0, 0]) <= 1).all()
    assert warp(tmp_path / "a.png", tmp_path / "c.png", "--from-corners", *numbers, "--size",
                "320x256") == 0  # fmt: skip
    matrix = stn.matrices.from_points(outer, corners)
    np.testing.assert_allclose(read(tmp_path / "c.png"), stn.warp_image(seen, matrix, (256, 320)),
                               atol=1)  # fmt: skip


@pytest.mark.parametrize("option", ["--corners", "--from-corners"])
@pytest.mark.parametrize("numbers", ["0 0 50 50 50 0 0 50", "0 0 50 0 10 10 0 50"])
def test_corners_that_are_not_in_order_are_refused(numbers, option, photo, tmp_path, capsys):
    assert warp(photo[1], tmp_path / "a.png", option, *numbers.split()) == 2
    assert "corners: expected those of a convex quadrilateral, in order" in capsys.readouterr().err


def test_corners_of_a_mirrored_page(photo, tmp_path):
    image, path = photo
    numbers = [59.5, -0.5, -0.5, -0.5, -0.5, 39.5, 59.5, 39.5]
    assert warp(path, tmp_path / "a.png", "--from-corners", *numbers) == 0
    differ = np.abs(read(tmp_path / "a.png").astype(int) - image[:, ::-1])
    assert differ.max() <= 1


@pytest.mark.parametrize("suffix", [".txt", ".npy", ".csv"])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 9])
def test_points_give_the_map(count, suffix, photo, tmp_path, capsys):
    image, path = photo
    matrix = {1: np.array([[1, 0, 4.0], [0, 1, -3], [0, 0, 1]]),
              2: np.array([[0.8, 0.3, 4.0], [-0.3, 0.8, 9], [0, 0, 1]]),
              3: np.array([[0.9, 0.2, 4.0], [-0.1, 1.1, 5], [0, 0, 1]])}.get(
        count, np.array([[0.9, 0.2, 4.0], [-0.1, 1.1, 5], [1e-3, 2e-3, 1]]))  # fmt: skip
    points = RNG.uniform(0, 40, (count, 2))
    rows = np.hstack([points, stn.transform_points(matrix, points)])
    file = tmp_path / f"pairs{suffix}"
    if suffix == ".npy":
        np.save(file, rows)
    else:
        np.savetxt(file, rows, delimiter=", " if suffix == ".csv" else " ", header="x y u v")
    assert warp(path, tmp_path / "a.png", "--points", file, "--size", "70x50") == 0
    expected = stn.warp_image(image, stn.matrices.from_opencv(matrix), (50, 70))
    assert np.abs(read(tmp_path / "a.png").astype(int) - expected).max() <= 1
    assert f"to {count} of {count} points: they are off by 0.00 pixels" in capsys.readouterr().err


def test_points_that_are_wrong_are_left_out(photo, tmp_path, capsys):
    points = RNG.uniform(0, 40, (9, 2))
    rows = np.hstack([points, points + 2])
    rows[4, 2] += 30
    np.savetxt(tmp_path / "p.txt", rows)
    arguments = ["--points", tmp_path / "p.txt", "--fit", "translation", "--robust", 1]
    assert warp(photo[1], tmp_path / "a.png", *arguments) == 0
    assert "fitted translation to 8 of 9 points" in capsys.readouterr().err
    np.testing.assert_array_equal(read(tmp_path / "a.png")[2:, 2:], photo[0][:-2, :-2])


@pytest.mark.parametrize(("text", "options", "message"), [
    ("1 2 3", [], "expected rows of 4 numbers X Y U V, got an array (1, 3)"),
    ("", [], "expected rows of 4 numbers"), ("1 2 3 x", [], "expected rows of 4 numbers"),
    ("1 2 3 4", ["--fit", "affine"], "expected at least 3 points for 'affine', got 1"),
    ("1 1 1 1\n2 2 2 2\n3 3 3 3", [], "for 'affine'"),
    ("1 2 3 nan", [], "expected finite numbers"),
    ("1 2 3 4", ["--robust", "-1"], "robust: expected a positive"),
    ("1 2 3 4", ["--rotate", "3"], "--points and --rotate: expected one or the other"),
])  # fmt: skip
def test_bad_points_are_named(text, options, message, photo, tmp_path, capsys):
    (tmp_path / "p.txt").write_text(text)
    assert warp(photo[1], tmp_path / "o.png", "--points", tmp_path / "p.txt", *options) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "o.png").exists()
    assert warp(photo[1], tmp_path / "o.png", "--rotate", 3, "--robust", 3) == 2
