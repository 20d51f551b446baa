"""``numba-stn predict`` on image files, and ``numba-stn doctor``."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from numba_stn import cli, data
from numba_stn.cli import environment
from numba_stn.images import files
from numba_stn.nn import train
from numba_stn.training import experiment, prediction, runs


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A short run, and ten of its test digits as image files of 64 x 64 pixels."""
    folder = tmp_path_factory.mktemp("run")
    assert cli.main(["train", "--model", "fcn", "--task", "none", "--epochs", "8",
                     "--out", str(folder)]) == 0  # fmt: skip
    split = data.digits().test.take(slice(10))
    pictures = []
    for n, image in enumerate(split.images):
        large = np.kron(image[0], np.ones((4, 4)))
        pictures.append(folder / f"{n}.png")
        files.write_image(pictures[-1], np.rint(255 * large).astype(np.uint8))
    return folder, pictures, split


def test_predict_classifies_image_files(run, capsys):
    folder, pictures, split = run
    assert cli.main(["predict", str(folder), *map(str, pictures), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["image"] for line in lines] == [str(path) for path in pictures]
    config, net, learner = runs.load_trained(folder)
    assert config == experiment.Config(model="fcn", task="none", epochs=8)
    assert [line["label"] for line in lines] == train.predict(net, learner, split.images).tolist()
    for line in lines:
        assert sum(line["probabilities"]) == pytest.approx(1)
    assert (np.array([line["label"] for line in lines]) == split.labels).mean() > 0.8
    assert cli.main(["predict", str(folder), str(pictures[0])]) == 0
    assert capsys.readouterr().out.startswith(f"{pictures[0]}: {lines[0]['label']} (")


def test_images_of_any_kind_become_inputs_of_the_network(run):
    config, image = experiment.Config(), data.digits().test.images[0, 0]
    (expected,) = prediction.network_input(config, image)[0]
    np.testing.assert_allclose(expected, image, atol=1e-6)
    eight, sixteen = (np.rint(image * most).astype(kind)
                      for most, kind in ((255, np.uint8), (65535, np.uint16)))  # fmt: skip
    alpha = np.full_like(eight, 7)
    for kind in (eight, sixteen, 255 - eight, np.dstack([eight, alpha]), np.dstack([eight] * 3),
                 np.dstack([eight, eight, eight, alpha]), eight[:, :, None]):  # fmt: skip
        invert = kind is not eight and kind[0, 0].max() > 250
        (found,) = prediction.network_input(config, kind, invert)[0]
        np.testing.assert_allclose(found, image, atol=3e-3)


def with_margin(image, ground):
    """The digit in the corner of a large image."""
    large = np.full((300, 400), ground, image.dtype)
    large[150 : 150 + len(image), 30 : 30 + len(image)] = image
    return large


DIGITS = {
    "a wide margin, enlarged": lambda digit: with_margin(digit, 0),
    "dark on a bright ground, inverted": lambda digit: 255 - digit,
    "a grey ground, darkened": lambda digit: (with_margin(255 - digit, 255) * 0.7).astype("u1"),
    "the transparent ground is taken as white": lambda digit: np.dstack(
        [np.zeros((300, 400, 3), np.uint8), with_margin(digit, 0)]
    ),
    "the transparent ground is taken as black": lambda digit: np.dstack(
        [np.full((300, 400), 255, np.uint8), with_margin(digit, 0)]
    ),
}


@pytest.mark.parametrize("note", DIGITS)
def test_digits_on_any_ground_are_recognised(run, note):
    """The network was trained on bright digits on black, which fill the image."""
    folder, _, _ = run
    config, net, learner = runs.load_trained(folder)
    split = data.digits().test.take(slice(100))
    expected = train.predict(net, learner, split.images)
    same = 0
    for image, label in zip(split.images, expected, strict=True):
        digit = np.rint(255 * np.kron(image[0], np.ones((6, 6)))).astype(np.uint8)
        prepared = prediction.prepare_image(config, DIGITS[note](digit))
        assert note in prepared.notes
        found = prediction.probabilities(net, learner, prepared.planes)
        same += int(found.argmax() == label)
    assert same >= 90


def test_digits_like_those_of_the_training_are_left_alone():
    config, split = experiment.Config(), data.digits().test.take(slice(200))
    for image in split.images:
        prepared = prediction.prepare_image(config, image[0])
        assert not prepared.notes
        np.testing.assert_array_equal(
            prepared.planes[0], prediction.network_input(config, image[0])[0]
        )


def test_where_the_input_is_in_the_image(run):
    config = experiment.Config(task="none")
    large = with_margin(np.full((60, 60), 255, np.uint8), 0)
    prepared = prediction.prepare_image(config, large)
    assert prepared.planes.min() > 0.9
    found = prepared.locate(np.array([[-1.0, -1.0], [1.0, 1.0]]))
    np.testing.assert_allclose(found, [[29.5, 149.5], [89.5, 209.5]], atol=1e-5)


def test_colours_become_grey_by_their_luma():
    """The weights are ITU-R BT.601's, for red, green and blue."""
    pixels = np.zeros((8, 8, 3), np.uint8)
    for channel, weight in enumerate((0.299, 0.587, 0.114)):
        colour = pixels.copy()
        colour[:, :, channel] = 255
        found = prediction.network_input(experiment.Config(), colour)
        np.testing.assert_allclose(found, weight, atol=1e-6)


def test_predict_reports_bad_images_and_runs(run, tmp_path, capsys):
    folder, pictures, _ = run
    bad = tmp_path / "bad.png"
    bad.write_text("no picture")
    assert cli.main(["predict", str(folder), str(bad), str(pictures[0])]) == 1
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 1
    assert "1 of 2 images could not be classified" in captured.err
    assert f"{bad}: no image" in captured.err
    np.save(tmp_path / "nan.npy", np.full((9, 9), np.nan, np.float32))
    assert cli.main(["predict", str(folder), str(tmp_path / "nan.npy")]) == 1
    captured = capsys.readouterr()
    assert not captured.out
    assert f"{tmp_path / 'nan.npy'}: expected finite numbers" in captured.err
    for name in (runs.WEIGHTS, "metrics.json"):
        copy = tmp_path / name.partition(".")[0]
        copy.mkdir()
        for file in (runs.WEIGHTS, "metrics.json"):
            if file != name:
                (copy / file).write_bytes((folder / file).read_bytes())
        assert cli.main(["predict", str(copy), str(pictures[0])]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "not a run: " in line
        (copy / name).write_bytes((folder / name).read_bytes()[:90])
        assert cli.main(["predict", str(copy), str(pictures[0])]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"{copy / name}: " in line
        assert "damaged" in line or "truncated" in line
    with pytest.raises(ValueError, match="2 digits at once"):
        prediction.network_input(experiment.Config(task="addition"), np.zeros((9, 9), np.uint8))


# --- doctor ---------------------------------------------------------------------------------------


def test_doctor_passes_here(capsys):
    assert cli.main(["doctor"]) == 0
    text = capsys.readouterr().out
    for name in (
        "python",
        "numba",
        "numpy",
        "processor",
        "kernel cache",
        "a warp",
        "threads",
        "CUDA",
    ):
        assert f"  {name} " in text
    assert "FAILS" not in text


def test_doctor_reports_missing_packages():
    code = "import sys; sys.modules['tqdm'] = None; from numba_stn import cli; cli.main(['doctor'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          env=os.environ)  # fmt: skip
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    (where,) = [n for n, line in enumerate(lines) if line.split()[1] == "tqdm"]
    assert lines[where].startswith("-")
    assert 'pip install "numba-stn[train]"' in lines[where + 1]


def test_doctor_reports_a_wrong_warp(monkeypatch, capsys):
    import numba_stn

    monkeypatch.setattr(numba_stn, "warp_affine", lambda image, *_: image)
    assert not environment._warp().ok
    assert cli.main(["doctor"]) == 1
    assert "FAILS" in capsys.readouterr().out
