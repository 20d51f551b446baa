"""One's own images: what is found, read, prepared and divided, and what is refused."""

import csv
import os

import numpy as np
import pytest
from picture_sets import CLASSES, arrays, picture, write_folder
from PIL import Image

from numba_stn.data import DataError, own_images
from numba_stn.data.image_store import Options
from numba_stn.data.listing import groups_by, sorted_classes
from numba_stn.data.own_images import load
from numba_stn.data.preparation import Preparation
from numba_stn.data.splitting import split_groups


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three classes of eight pictures, 12 x 12 pixels."""
    return write_folder(tmp_path_factory.mktemp("pictures") / "set")


def refused(source, **options):
    """The message of the error for a source."""
    with pytest.raises(DataError) as caught:
        load(source, Options(**options))
    (line,) = str(caught.value).splitlines()
    return line


# --- What is read ---------------------------------------------------------------------------------


def test_a_folder_of_classes(folder):
    found = load(folder)
    assert found.classes == CLASSES
    assert found.images.shape == (24, 32, 32, 3)
    assert found.images.dtype == np.uint8
    for name, label, image in zip(found.names, found.labels, found.images, strict=True):
        assert name.startswith(f"{CLASSES[label]}/")
        pixels = Image.open(folder / name).resize((32, 32), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(image, pixels)
    assert load(folder).digest() == found.digest()
    assert load(folder, Options(seed=1)).digest() != found.digest()


def test_folders_that_are_divided(tmp_path):
    for part, count in (("train", 5), ("val", 2), ("test", 3)):
        write_folder(tmp_path / part, count)
    found = load(tmp_path, Options(size=(8, 8)))
    assert found.classes == CLASSES
    assert np.bincount(found.split).tolist() == [15, 6, 9]
    assert {name.split("/")[0] for name in found.names} == {"train", "val", "test"}
    for number, part in enumerate(("train", "val", "test")):
        assert {found.names[k].split("/")[0] for k in found.part(number)} == {part}


def test_a_missing_part_is_taken_from_the_training_images(tmp_path):
    for part, count in (("train", 20), ("test", 3)):
        write_folder(tmp_path / part, count)
    found = load(tmp_path, Options(size=(8, 8), split=(0.8, 0.2, 0.3)))
    assert np.bincount(found.split).tolist() == [48, 12, 9]
    assert all(found.names[k].startswith("test/") for k in found.part(2))


def test_a_csv_file(folder, tmp_path):
    rows = [("path", "label", "split", "group")]
    for label in CLASSES:
        for n, path in enumerate(sorted((folder / label).iterdir())):
            part = ("train", "train", "train", "train", "val", "val", "test", "test")[n]
            rows.append((os.path.relpath(path, tmp_path), label.upper(), part, str(n)))
    with (tmp_path / "set.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    found = load(tmp_path / "set.csv", Options(size=(8, 8)))
    assert found.classes == ("BAR", "CROSS", "DOT")
    assert np.bincount(found.split).tolist() == [12, 6, 6]
    assert found.groups == [row[3] for row in rows[1:]]


def test_an_npz_file(tmp_path):
    images, labels = arrays(10)
    np.savez(tmp_path / "set.npz", images=images, labels=labels)
    found = load(tmp_path / "set.npz")
    np.testing.assert_array_equal(found.images, images)
    assert found.classes == ("0", "1", "2")
    np.testing.assert_array_equal(found.labels, labels)
    names = np.array(CLASSES)[labels]
    np.savez_compressed(tmp_path / "set.npz", images=images[..., 0], labels=names,
                        split=np.array(["train", "test"])[labels % 2 * 0 + np.arange(30) // 3 % 2],
                        groups=np.arange(30))  # fmt: skip
    found = load(tmp_path / "set.npz")
    np.testing.assert_array_equal(found.images, images[..., :1])
    assert found.classes == CLASSES
    assert len(found.part(2)) == 15
    np.savez(tmp_path / "set.npz", images=np.asfortranarray(images), labels=names)
    np.testing.assert_array_equal(load(tmp_path / "set.npz").images, images)


def test_arrays_of_floats_keep_their_numbers(tmp_path):
    images = np.random.default_rng(0).normal(0, 1000, (20, 6, 5, 4))
    np.savez(tmp_path / "set.npz", images=images, labels=np.arange(20) % 2)
    found = load(tmp_path / "set.npz")
    assert found.preparation == Preparation(6, 5, 4, dtype="float32")
    np.testing.assert_array_equal(found.images, images.astype(np.float32))


def test_large_sets_are_mapped_from_a_file_without_a_name(folder, tmp_path):
    expected = load(folder)
    found = load(folder, Options(memory=0, folder=tmp_path))
    assert isinstance(found.images, np.memmap)
    np.testing.assert_array_equal(found.images, expected.images)
    assert found.digest() == expected.digest()
    assert not list(tmp_path.iterdir())
    images, labels = arrays()
    np.savez(tmp_path / "set.npz", images=images, labels=labels)
    found = load(tmp_path / "set.npz", Options(memory=0, folder=tmp_path))
    assert isinstance(found.images, np.memmap)
    np.testing.assert_array_equal(found.images, images)


def test_a_full_disk_is_one_error_before_anything_is_read(folder, tmp_path, monkeypatch):
    def full(file, offset, size):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    line = refused(folder, memory=0, folder=tmp_path)
    assert line.startswith(f"{tmp_path}: ")
    assert "No space left on device; choose a folder on another disk" in line


def test_the_default_size_and_channels(tmp_path):
    for label in "ab":
        (tmp_path / label).mkdir()
        for n, (width, height) in enumerate(((40, 50), (60, 40), (41, 41))):
            Image.new("L", (width, height), n).save(tmp_path / label / f"{n}.png")
    assert load(tmp_path).images.shape == (6, 48, 48, 1)
    Image.new("RGB", (9, 9), "red").save(tmp_path / "a" / "red.png")
    assert load(tmp_path).images.shape == (7, 48, 48, 3)
    assert load(tmp_path, Options(size=(5, 7), channels=1)).images.shape == (7, 5, 7, 1)
    Image.fromarray(np.full((20, 20), 40_000, np.uint16)).save(tmp_path / "a" / "deep.png")
    assert load(tmp_path).images.dtype == np.uint16


def test_other_files_are_ignored_and_counted(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "README.md").write_text("about")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "bar" / "notes.txt").write_text("about")
    (tmp_path / "bar" / ".thumbnail.png").write_text("")
    found = load(tmp_path)
    assert len(found.names) == 24
    assert found.notes == ["ignored files, which by their names are no images: 1"]


def test_numbers_as_classes_are_in_the_order_of_numbers():
    assert sorted_classes(["10", "9", "1"]) == ["1", "9", "10"]
    assert sorted_classes(["b", "10", "9"]) == ["10", "9", "b"]


# --- What is refused ------------------------------------------------------------------------------


def test_broken_files_are_named_together(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "bar" / "empty.png").write_bytes(b"")
    whole = (tmp_path / "dot" / "000_00.png").read_bytes()
    (tmp_path / "dot" / "cut.png").write_bytes(whole[:-30])
    (tmp_path / "dot" / "text.jpg").write_text("no picture")
    line = refused(tmp_path)
    assert line.startswith("cannot read 3 images: ")
    for name in ("empty.png: an empty file", "cut.png: ", "text.jpg: no image format"):
        assert name in line
    assert line.endswith("or go on without them by --skip-broken")
    found = load(tmp_path, Options(skip_broken=True))
    assert len(found.images) == len(found.labels) == len(found.names) == 24
    assert len(found.broken) == 3
    for name, image in zip(found.names, found.images, strict=True):
        pixels = Image.open(tmp_path / name).resize((32, 32), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(image, pixels)


def test_a_class_of_broken_files_is_not_forgotten(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "star").mkdir()
    (tmp_path / "star" / "a.png").write_text("no picture")
    line = refused(tmp_path, skip_broken=True)
    assert line.startswith("no image can be read of 1 class: star; repair some")


def test_folders_without_images_or_classes(tmp_path):
    assert f"{tmp_path / 'nowhere'}: does not exist; expected a folder" in refused(
        tmp_path / "nowhere"
    )
    (tmp_path / "file.txt").write_text("")
    assert "is no folder" in refused(tmp_path / "file.txt")
    assert "expected one subfolder for each class" in refused(tmp_path)
    (tmp_path / "empty").mkdir()
    assert "expected the images of the class 'empty', found none" in refused(tmp_path)
    (tmp_path / "empty").rmdir()
    write_folder(tmp_path, classes=("only",))
    assert "expected at least two classes, found only 'only'" in refused(tmp_path)
    (tmp_path / "only" / "bad.png").write_text("")
    for path in sorted((tmp_path / "only").glob("0*")):
        path.unlink()
    assert "found no images that can be read" in refused(tmp_path, skip_broken=True)


def test_a_class_with_one_image_or_one_group(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "one").mkdir()
    Image.fromarray(picture("dot", np.random.default_rng(0))).save(tmp_path / "one" / "000_00.png")
    assert "only one image of 1 class: one; a class needs at least two" in refused(tmp_path)
    Image.fromarray(picture("dot", np.random.default_rng(0))).save(tmp_path / "one" / "000_01.png")
    assert set(load(tmp_path).split[load(tmp_path).labels == 3]) == {0, 2}
    assert "only one group of 1 class: one" in refused(tmp_path, group=r"^(\d+)_")


def test_labels_without_training_images(tmp_path):
    write_folder(tmp_path / "train")
    write_folder(tmp_path / "test", classes=(*CLASSES, "star"))
    assert "no training images of 1 label: star" in refused(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected the columns path and label in the first line"),
        ("path,label\n", "found no images"),
        ("path\na.png\n", "found no label in 'path'"),
        ("path,label\nset/bar/000_00.png,\n", "row 2: lacks its label"),
        ("path,label\nset/bar/000_00.png\n", "row 2: lacks its label"),
        ("path,label\nset/bar/000_00.png,a\nnone.png,b\n", "none.png: No such file"),
        ("path,label,split\nset/bar/000_00.png,a,exam\n", "row 2: split: expected one of"),
        ("path,label,group\nset/bar/000_00.png,a,\n", "row 2: lacks its group"),
        ('path,label\n"set/bar,a\n', "unexpected end of data"),
        ("path,label\nset/bar/000_00.png,a\n", "found only 'a'"),
        ("path,label\na.png,a\nb.png,b\na.png,b\n", "row 4: the same path as in row 2: a.png"),
        ("path,label\n\xff", "expected a CSV file in UTF-8"),
    ],
)  # fmt: skip
def test_csv_files_that_are_wrong(folder, text, message):
    path = folder.parent / "wrong.csv"
    path.write_bytes(text.encode("latin-1"))
    assert message in refused(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": None}, "found no labels among images.npy"),
        ({"labels": np.arange(5)}, "labels: expected 24 texts or whole numbers"),
        ({"labels": np.arange(24) / 2}, "labels: expected 24 texts or whole numbers"),
        ({"labels": np.zeros(24, int)}, "expected at least two classes, found only '0'"),
        ({"images": np.zeros((24, 5))}, "images: expected (N, H, W) or (N, H, W, C), got (24, 5)"),
        ({"images": np.zeros((24, 0, 5))}, "got (24, 0, 5)"),
        ({"images": np.zeros((24, 4, 4), complex)}, "images: expected numbers, got complex128"),
        ({"images": np.zeros((24, 4, 4), object)}, "truncated, or not an array of numbers"),
        ({"split": np.full(24, "exam")}, "split[0]: split: expected one of"),
        ({"images": np.full((24, 4, 4), np.nan)}, "images[0]: expected finite numbers, got NaN"),
    ],
)  # fmt: skip
def test_npz_files_that_are_wrong(tmp_path, change, message):
    images, labels = arrays()
    found = {"images": images, "labels": labels} | change
    path = tmp_path / "set.npz"
    np.savez(path, **{name: value for name, value in found.items() if value is not None})
    assert message in refused(path)


def test_npz_files_that_are_cut_or_claim_too_much(tmp_path):
    images, labels = arrays()
    path = tmp_path / "set.npz"
    np.savez(path, images=images, labels=labels)
    whole = path.read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2], whole[:-5]):
        path.write_bytes(content)
        assert "not an .npz file, or truncated" in refused(path)
    claimed = whole.replace(b"(24, 12, 12, 3)", b"(24, 99, 99, 9)")
    assert claimed != whole
    path.write_bytes(claimed)
    assert "images" in refused(path)


def test_groups_that_do_not_match_are_named(folder):
    assert "not a regular expression" in refused(folder, group="(")
    line = refused(folder, group=r"^(\d+)-")
    assert line.startswith("--group '^(\\\\d+)-': does not match 24 names: bar/000_00.png")
    assert groups_by("^b", ["a/b.png"]) == ["b"]
    assert groups_by("^(.)/", ["a/b.png"]) == ["a"]


# --- The division ---------------------------------------------------------------------------------


def random_groups(rng):
    """Labels and groups of a set with groups of different sizes, each of one class."""
    sizes = rng.integers(1, 9, 120)
    group_labels = rng.integers(0, 5, 120)
    groups = np.repeat(np.arange(120), sizes)
    order = rng.permutation(len(groups))
    return np.repeat(group_labels, sizes)[order], groups[order]


@pytest.mark.parametrize("seed", range(5))
def test_groups_are_never_divided_and_classes_are_by_the_shares(seed):
    labels, groups = random_groups(np.random.default_rng(seed))
    split = split_groups(labels, groups.tolist(), (0.6, 0.2, 0.2), seed)
    for group in np.unique(groups):
        assert len(set(split[groups == group])) == 1
    for label in np.unique(labels):
        own = split[labels == label]
        for part, share in enumerate((0.6, 0.2, 0.2)):
            assert abs((own == part).sum() - share * len(own)) <= 8  # the size of a group
    again = split_groups(labels, groups.tolist(), (0.6, 0.2, 0.2), seed)
    np.testing.assert_array_equal(again, split)
    other = split_groups(labels, groups.tolist(), (0.6, 0.2, 0.2), seed + 1)
    assert (other != split).any()


def test_single_images_are_divided_exactly():
    labels = np.repeat([0, 1, 2], [100, 60, 20])
    split = split_groups(labels, range(180), (0.7, 0.15, 0.15))
    for label, expected in ((0, [70, 15, 15]), (1, [42, 9, 9]), (2, [14, 3, 3])):
        assert np.bincount(split[labels == label]).tolist() == expected


def test_small_classes_have_images_in_each_part_that_they_can():
    for count, expected in ((1, [1]), (2, [1, 0, 1]), (3, [1, 1, 1]), (4, [2, 1, 1])):
        split = split_groups(np.zeros(count, int), range(count))
        assert np.bincount(split).tolist() == expected


def test_groups_with_several_classes_stay_together():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 10)
    labels = rng.integers(0, 4, 400)
    split = split_groups(labels, groups.tolist(), (0.6, 0.2, 0.2))
    for group in range(40):
        assert len(set(split[groups == group])) == 1
    for part, share in enumerate((0.6, 0.2, 0.2)):
        assert abs((split == part).mean() - share) < 0.06


def test_groups_of_two_classes_are_two_or_one(folder):
    found = load(folder, Options(group=r"^(\d+)_"))
    assert found.notes[0].endswith("unless --group-across is given: 12")
    together = load(folder, Options(group=r"^(\d+)_", group_across=True))
    assert not together.notes
    groups = np.array(together.groups)
    for group in np.unique(groups):
        assert len(set(together.split[groups == group])) == 1


def test_a_group_on_both_sides_of_a_given_division_is_refused(tmp_path):
    write_folder(tmp_path / "train")
    write_folder(tmp_path / "test")
    line = refused(tmp_path, group=r"^(\d+)_")
    assert "the group '000 of bar' has images in train and test" in line


# --- Preparation ----------------------------------------------------------------------------------


def test_the_rules_for_other_aspect_ratios():
    image = np.zeros((40, 80, 3), np.uint8)
    image[:, :20], image[:, 60:] = 100, 200
    stretched, cropped, padded = (
        Preparation(20, 20, 3, fit)(image) for fit in ("stretch", "crop", "pad")
    )
    np.testing.assert_array_equal(stretched[:, 0], 100)
    np.testing.assert_array_equal(stretched[:, -1], 200)
    assert cropped[:, 2:-2].max() == 0
    np.testing.assert_array_equal(padded[:5], padded[5:6].repeat(5, 0))
    np.testing.assert_array_equal(padded[:, 0], 100)


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("sides", [(40, 80), (80, 40), (30, 30)])
def test_points_are_located_in_the_image(fit, sides):
    """A bright spot in the image is where ``locate`` says that it is."""
    preparation = Preparation(60, 50, 1, fit)
    image = np.zeros(sides, np.uint8)
    middle = sides[0] // 2 + 4, sides[1] // 2 - 5
    image[middle[0] - 1 : middle[0] + 2, middle[1] - 1 : middle[1] + 2] = 255
    found = preparation(image)[:, :, 0].astype(float)
    rows, columns = np.indices(found.shape)
    y, x = (found * rows).sum() / found.sum(), (found * columns).sum() / found.sum()
    point = np.array([[(2 * x + 1) / 50 - 1, (2 * y + 1) / 60 - 1]])
    np.testing.assert_allclose(
        preparation.locate(point, sides), [[middle[1], middle[0]]], atol=0.15
    )


def test_smaller_images_are_averaged():
    """A chessboard of single pixels becomes grey, not black or white."""
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    assert abs(Preparation(16, 16, 1)(board).astype(int) - 127).max() <= 4


def test_images_of_any_kind_are_prepared():
    grey = np.random.default_rng(0).integers(0, 256, (9, 7), dtype=np.uint8)
    colour = Preparation(9, 7, 3)
    expected = grey[:, :, None].repeat(3, 2)
    for image in (grey, grey[:, :, None], expected, grey.astype(np.uint16) * 257, grey / 255,
                  np.dstack([grey, np.full_like(grey, 255)]),
                  np.dstack([expected, np.full_like(grey, 255)])):  # fmt: skip
        np.testing.assert_array_equal(colour(image), expected)
    np.testing.assert_array_equal(Preparation(9, 7, 1)(expected), grey[:, :, None])
    np.testing.assert_array_equal(Preparation(9, 7, 1)(grey > 99)[..., 0], 255 * (grey > 99))
    half = np.dstack([np.zeros((9, 7, 3), np.uint8), np.full((9, 7), 51, np.uint8)])
    assert set(colour(half).ravel()) == {204}
    assert set(Preparation(9, 7, 3, ground=0)(half).ravel()) == {0}
    for wrong in (np.zeros((0, 3)), np.zeros((3, 3, 5)), np.full((3, 3), 2.0),
                  np.full((3, 3), np.inf), np.zeros((3, 3), complex)):  # fmt: skip
        with pytest.raises((ValueError, TypeError)):
            colour(wrong)


def test_read_headers_of_all_modes(tmp_path):
    for mode, expected in (("1", (False, "uint8")), ("L", (False, "uint8")), ("P", (True, "uint8")),
                           ("RGB", (True, "uint8")), ("RGBA", (True, "uint8")),
                           ("LA", (False, "uint8")), ("I;16", (False, "uint16"))):  # fmt: skip
        path = tmp_path / f"{mode.replace(';', '')}.png"
        Image.new(mode, (5, 4)).save(path)
        assert own_images.read_header(path) == (4, 5, *expected)
    np.save(tmp_path / "a.npy", np.zeros((4, 5, 3), np.float32))
    assert own_images.read_header(tmp_path / "a.npy") == (4, 5, True, "float32")
