"""``numba-stn train DATA`` and ``predict`` on one's own images, from the command line."""

import csv
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from picture_sets import CLASSES, arrays, write_folder
from PIL import Image
from safetensors.numpy import save_file

from numba_stn import cli
from numba_stn.images.files import read_image
from numba_stn.training import checkpoint, image_runs, runs
from numba_stn.training.prediction import prepare_image

OPTIONS = ["--size", "12", "--epochs", "2", "--batch", "4"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A set of pictures, 8 of each of three classes."""
    return write_folder(tmp_path_factory.mktemp("pictures") / "set")


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    """A complete run."""
    out = tmp_path_factory.mktemp("runs") / "complete"
    assert cli.main(["train", str(folder), *OPTIONS, "--out", str(out)]) == 0
    return out


def line_of(capsys, *command, code=2):
    """The line that a command prints which is refused."""
    assert cli.main([str(word) for word in command]) == code
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "numba-stn: " in line]
    return line


def results(folder):
    """What a run leaves, without what depends on the clock."""
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    metrics = json.loads(found.pop("metrics.json"))
    del metrics["seconds"]
    return metrics, {name: found[name] for name in ("weights.safetensors", "split.csv")}


# --- A run ----------------------------------------------------------------------------------------


def test_a_run_leaves_all_that_was_chosen(folder, trained):
    assert {path.name for path in trained.iterdir()} >= {*runs.FILES, *runs.IMAGE_FILES}
    metrics = json.loads((trained / "metrics.json").read_bytes())
    assert metrics["classes"] == list(CLASSES)
    assert metrics["data"] == str(folder)
    assert (metrics["height"], metrics["width"], metrics["channels"]) == (12, 12, 3)
    counts = [metrics[f"{part}_images"] for part in ("train", "validation", "test")]
    assert counts == [18, 3, 3]
    assert len(metrics["history"]) == 2
    assert 1 <= metrics["best_epoch"] <= 2
    for name in image_runs.ImageConfig.__dataclass_fields__:
        assert metrics[name] is not None or name in ("group", "net", "net_digest")
    with (trained / "split.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24
    assert [row["split"] for row in rows].count("train") == 18
    for name in ("classes.png", "curves.png"):
        assert read_image(trained / name).shape[1] > 100


def test_split_csv_is_a_set_again(folder, trained, tmp_path):
    (folder / "again.csv").write_bytes((trained / "split.csv").read_bytes())
    assert cli.main(["train", str(folder / "again.csv"), *OPTIONS, "--out", str(tmp_path)]) == 0
    (folder / "again.csv").unlink()
    metrics, files = results(tmp_path)
    expected, expected_files = results(trained)
    assert files == expected_files
    assert metrics["history"] == expected["history"]


def test_an_npz_in_grey_with_other_options(tmp_path):
    images, labels = arrays()
    np.savez(tmp_path / "set.npz", images=images[..., 0], labels=np.array(CLASSES)[labels])
    out = tmp_path / "run"
    assert cli.main(["train", str(tmp_path / "set.npz"), "--model", "cnn", "--epochs", "1",
                     "--augment", "rotate=5,flip", "--class-weight", "balanced", "--memory", "0",
                     "--split", "2,1,1", "--out", str(out)]) == 0  # fmt: skip
    metrics = json.loads((out / "metrics.json").read_bytes())
    assert (metrics["rotate"], metrics["scale"], metrics["flip"]) == (5, 0, True)
    assert metrics["class_weight"] == "balanced"
    assert metrics["train_images"] == 12
    assert not [
        path
        for path in out.iterdir()
        if path.name not in (*runs.FILES, *runs.IMAGE_FILES, runs.LOCK)
    ]


def test_ctrl_c_and_resume_end_as_an_uninterrupted_run(folder, trained, tmp_path, monkeypatch,
                                                       capsys):  # fmt: skip
    steps = iter(range(100))
    measured = image_runs.recipe.train.loss_step

    def interrupted(*args):
        if next(steps) == 6:
            raise KeyboardInterrupt
        return measured(*args)

    monkeypatch.setattr(image_runs.recipe.train, "loss_step", interrupted)
    assert cli.main(["train", str(folder), *OPTIONS, "--out", str(tmp_path)]) == 130
    assert "stopped after 1 of 2 epochs" in capsys.readouterr().err
    assert runs.stopped_config(tmp_path).classes == list(CLASSES)
    assert cli.main(["train", "--resume", str(tmp_path)]) == 0
    assert results(tmp_path) == results(trained)


KILLED = """
import os, signal, sys
from numba_stn import cli
from numba_stn.nn import train
step, count = train.loss_step, iter(range(100))
def killed(*args):
    if next(count) == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(*args)
train.loss_step = killed
cli.main(sys.argv[1:])
"""


def test_a_run_that_was_killed_in_mid_epoch_ends_as_one_that_was_not(folder, trained, tmp_path):
    out = tmp_path / "run"
    command = [sys.executable, "-c", KILLED, "train", str(folder), *OPTIONS, "--out", str(out)]
    done = subprocess.run(command, capture_output=True, env=os.environ, check=False)
    assert done.returncode == -9
    assert (out / runs.CHECKPOINT).exists()
    assert not (out / runs.METRICS).exists()
    assert cli.main(["train", "--resume", str(out)]) == 0
    assert results(out) == results(trained)


def test_a_run_is_not_resumed_with_other_images(tmp_path, capsys, monkeypatch):
    pictures = write_folder(tmp_path / "set")
    out = tmp_path / "run"

    def stopped(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(image_runs.recipe.train, "loss_step", stopped)
        assert cli.main(["train", str(pictures), *OPTIONS, "--out", str(out)]) == 130
    capsys.readouterr()
    kept = (out / runs.CHECKPOINT).read_bytes()
    Image.new("RGB", (12, 12), "red").save(pictures / "bar" / "000_00.png")
    line = line_of(capsys, "train", "--resume", out)
    assert f"{pictures}: the images, their labels or their division are not those" in line
    (pictures / "bar" / "000_00.png").unlink()
    assert "are not those with which the run began" in line_of(capsys, "train", "--resume", out)
    assert (out / runs.CHECKPOINT).read_bytes() == kept


NETS = """
from numba_stn import nn
def small(shape, classes):
    return nn.serial(nn.flatten(), nn.linear(8), nn.relu(), nn.linear(classes))
def wrong(shape, classes):
    return nn.serial(nn.flatten(), nn.linear(classes + 1))
"""


def test_a_network_of_ones_own_runs_only_when_it_is_named(folder, tmp_path, capsys, monkeypatch):
    nets, out = tmp_path / "nets.py", tmp_path / "run"
    nets.write_text(NETS)
    line = line_of(capsys, "train", folder, *OPTIONS, "--net", f"{nets}:wrong", "--out", out)
    assert "expected 3 outputs" in line
    assert not out.exists()
    with monkeypatch.context() as patch:
        patch.setattr(image_runs.recipe.train, "loss_step", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            cli.main(["train", str(folder), *OPTIONS, "--net", f"{nets}:small", "--out", str(out)])
    trust = f"if you trust it, give --net {nets}:small"
    assert trust in line_of(capsys, "train", "--resume", out)
    assert cli.main(["train", "--resume", str(out), "--net", f"{nets}:small"]) == 0
    image = str(folder / "bar" / "000_00.png")
    capsys.readouterr()
    assert trust in line_of(capsys, "predict", out, image)
    assert trust in line_of(capsys, "export", out, tmp_path / "net.safetensors")
    assert cli.main(["predict", str(out), image, "--net", f"{nets}:small"]) == 0
    assert capsys.readouterr().out.startswith(f"{image}: ")
    assert "no transformer" in line_of(
        capsys, "predict", out, image, "--net", f"{nets}:small", "--overlay", tmp_path / "seen"
    )
    nets.write_text(NETS + "# changed")
    line = line_of(capsys, "predict", out, image, "--net", f"{nets}:small")
    assert "not the file with which the run was trained" in line


TRANSFORMERS = """
from numba_stn import nn
def one(**options):
    return nn.spatial_transformer(nn.serial(nn.flatten(), nn.linear(4)), **options)
def views(shape, classes):
    rest = nn.serial(nn.flatten(), nn.linear(classes))
    return nn.serial(one(view_angles=[0, 20]), nn.mean_of_views(2, rest))
def side_by_side(shape, classes):
    both = nn.parallel(one(size=(6, 6)), nn.serial(one(), one(transform="tps", size=(6, 6))))
    return nn.serial(both, nn.flatten(), nn.linear(classes))
def later(shape, classes):
    return nn.serial(nn.relu(), one(), nn.conv2d(5, 3), one(), nn.flatten(), nn.linear(classes))
"""


@pytest.mark.parametrize("function", ["views", "side_by_side", "later"])
def test_runs_with_transformers_anywhere_end_with_all_files(folder, tmp_path, function):
    """What is drawn at the end of a run must not lose the run."""
    (tmp_path / "nets.py").write_text(TRANSFORMERS)
    net, out = f"{tmp_path / 'nets.py'}:{function}", tmp_path / "run"
    assert cli.main(["train", str(folder), *OPTIONS, "--epochs", "1", "--net", net,
                     "--out", str(out)]) == 0  # fmt: skip
    assert {path.name for path in out.iterdir()} >= {*runs.FILES, *runs.IMAGE_FILES}
    if function != "later":
        image, seen = str(folder / "bar" / "000_00.png"), str(tmp_path / "seen")
        assert cli.main(["predict", str(out), image, "--net", net, "--overlay", seen]) == 0


# --- What is refused ------------------------------------------------------------------------------


def test_a_finished_run_is_not_replaced_without_force(folder, trained, tmp_path, capsys):
    out = tmp_path / "run"
    out.mkdir()
    for path in trained.iterdir():
        (out / path.name).write_bytes(path.read_bytes())
    before = results(out)
    assert f"{out}: has a run; choose another --out, or train there with --force" in line_of(
        capsys, "train", folder, *OPTIONS, "--out", out
    )
    assert "this run is complete" in line_of(capsys, "train", "--resume", out)
    assert results(out) == before
    assert cli.main(["train", str(folder), *OPTIONS, "--seed", "1", "--out", str(out),
                     "--force"]) == 0  # fmt: skip
    assert results(out)[0]["seed"] == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--size", "12"], "--size: only for your own images; name their folder"),
        (["--skip-broken"], "--skip-broken: only for your own images"),
        (["DATA", "--dataset", "mnist"], "--dataset: only for the built-in data sets"),
        (["DATA", "--task", "R"], "--task: only for the built-in data sets"),
        (["DATA", "--device", "cuda"], "--device: only for the built-in data sets"),
        (["DATA", "--model", "fcn"], "--model: expected one of ['st-cnn', 'cnn']"),
        (["DATA", "--model", "cnn", "--transform", "affine"], "the model cnn has no transformer"),
        (["DATA", "--augment", "rotate=400"], "--rotate: expected a finite number from 0 to 360"),
        (["nowhere"], "nowhere: does not exist; expected a folder of images"),
        (["DATA", "--group", "("], "--group '(': not a regular expression"),
        (["DATA", "--group", "^(.)"], "only one group of 3 classes: bar, cross, dot"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit(folder, tmp_path, capsys, words, message):
    given = [str(folder) if word == "DATA" else word for word in words]
    out = tmp_path / "run"
    assert message in line_of(capsys, "train", *given, "--out", out)
    assert not out.exists()


def test_a_run_does_not_become_a_class(folder, capsys, monkeypatch):
    for out in (folder / "run", folder):
        line = line_of(capsys, "train", folder, *OPTIONS, "--out", out)
        assert f"{out}: lies in the folder of the images, {folder}; choose another --out" in line
    monkeypatch.chdir(folder)
    assert "lies in the folder of the images, ." in line_of(capsys, "train", ".", *OPTIONS)
    assert sorted(path.name for path in folder.iterdir()) == sorted(CLASSES)


@pytest.mark.parametrize(
    "words",
    [["--size", "0"], ["--size", "4x"], ["--size", "9999"], ["--memory", "2"], ["--ground", "256"],
     ["--split", "1,2"], ["--split", "1,1,0"], ["--split", "0,1,1"], ["--split", "1,nan,1"],
     ["--split", "a,b,c"], ["--augment", "spin"], ["--augment", "flip=1"], ["--augment", "rotate"],
     ["--augment", "rotate=x"], ["--fit", "tile"]],
)  # fmt: skip
def test_values_that_are_wrong(folder, capsys, words):
    with pytest.raises(SystemExit) as caught:
        cli.main(["train", str(folder), *words])
    assert caught.value.code == 2
    assert f"argument {words[0]}: " in capsys.readouterr().err


def test_broken_images_stop_a_run_or_are_skipped(tmp_path, capsys):
    pictures, out = write_folder(tmp_path / "set"), tmp_path / "run"
    (pictures / "dot" / "bad.png").write_text("no picture")
    line = line_of(capsys, "train", pictures, *OPTIONS, "--out", out)
    assert "cannot read 1 image: " in line
    assert "by --skip-broken" in line
    assert not out.exists()
    command = ["train", str(pictures), *OPTIONS, "--epochs", "1", "--skip-broken"]
    assert cli.main([*command, "--out", str(out)]) == 0
    assert "skipped images, which cannot be read, see metrics.json: 1" in capsys.readouterr().err
    metrics = json.loads((out / "metrics.json").read_bytes())
    assert metrics["broken"] == [f"{pictures / 'dot' / 'bad.png'}: no image format that Pillow "
                                 f"knows"]  # fmt: skip


def test_damaged_metrics_are_named(trained, tmp_path, capsys):
    whole = json.loads((trained / "metrics.json").read_bytes())
    wrong = [("mean", [1.0]), ("classes", "abc"), ("height", 0), ("best_epoch", None),
             ("deviation", [0.0] * 3), ("dtype", "int8"), ("classes", ["a"])]  # fmt: skip
    for name, value in wrong:
        for path in trained.iterdir():
            (tmp_path / path.name).write_bytes(path.read_bytes())
        (tmp_path / "metrics.json").write_text(json.dumps(whole | {name: value}))
        assert "numba-stn: " in line_of(capsys, "predict", tmp_path, "image.png")


@pytest.fixture(scope="module")
def stopped(folder, tmp_path_factory):
    """The checkpoint of a run that was stopped after its first epoch: arrays and metadata."""
    out = tmp_path_factory.mktemp("stopped") / "run"
    steps, step = iter(range(100)), image_runs.recipe.train.loss_step

    def interrupted(*args):
        if next(steps) == 5:
            raise KeyboardInterrupt
        return step(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_runs.recipe.train, "loss_step", interrupted)
        assert cli.main(["train", str(folder), *OPTIONS, "--out", str(out)]) == 130
    return checkpoint.read_safetensors(out / runs.CHECKPOINT)


@pytest.mark.parametrize(
    ("entry", "change"),
    [
        ("training_state", {"epoch": 2, "step": 0, "optimiser_step": 8}),
        ("training_state", {"errors": 10**6}),
        ("training_state", {"history": []}),
        ("training_state", {"optimiser_step": 0}),
        ("config", {"classes": ["a", "b"]}),
        ("config", {"mean": [1.0]}),
        ("config", {"split": [1, 2]}),
        ("config", {"split": [0.5, 0.2, 0.3]}),
        ("config", {"dtype": "uint16"}),
        ("config", {"seed": 1}),
        ("config", {"epochs": None}),
        ("config", {"deviation": [1e-30] * 3}),
        ("config", {"net": "nets.py:small"}),
        ("config", {"data": "/nowhere"}),
        ("arrays", {}),
    ],
)
def test_a_damaged_checkpoint_is_one_line(stopped, tmp_path, capsys, entry, change):
    arrays, metadata = stopped
    if entry == "arrays":
        arrays = {name: array for name, array in arrays.items() if not name.startswith("best")}
    else:
        changed = json.loads(metadata[entry]) | change
        metadata = metadata | {entry: json.dumps(changed)}
    save_file(arrays, tmp_path / runs.CHECKPOINT, metadata)
    before = (tmp_path / runs.CHECKPOINT).read_bytes()
    assert "numba-stn: " in line_of(capsys, "train", "--resume", tmp_path)
    assert (tmp_path / runs.CHECKPOINT).read_bytes() == before


# --- Prediction -----------------------------------------------------------------------------------


def test_images_are_prepared_exactly_as_in_training(folder, trained):
    config, _, _ = runs.load_trained(trained)
    setup = image_runs.prepare_again(config, None)
    for number in range(0, 24, 5):
        (expected,) = setup.job.train._replace(chosen=np.arange(24)).take(np.array([number])).images
        pixels = read_image(folder / setup.images.names[number])
        (found,) = prepare_image(config, pixels).planes
        np.testing.assert_array_equal(found, expected)


def test_predict_a_folder_in_all_forms(folder, trained, tmp_path, capsys):
    assert cli.main(["predict", str(trained), str(folder), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 24
    for line in lines:
        assert list(line["probabilities"]) == list(CLASSES)
        assert sum(line["probabilities"].values()) == pytest.approx(1)
        assert line["label"] == max(line["probabilities"], key=line["probabilities"].get)
    image = str(folder / "bar" / "000_00.png")
    assert cli.main(["predict", str(trained), image, "--top", "2"]) == 0
    (out,) = capsys.readouterr().out.splitlines()
    assert out.startswith(f"{image}: {lines[0]['label']} (")
    assert out.count("%") == 2
    assert cli.main(["predict", str(trained), str(folder / "bar"), "--csv", "--top", "9"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert len(rows) == 8
    assert sum(float(rows[0][name]) for name in ("probability", "probability_2",
                                                 "probability_3")) == pytest.approx(1)  # fmt: skip
    assert rows[0]["label"] == lines[0]["label"]


def test_overlays_show_the_frame(folder, trained, tmp_path, capsys):
    out = tmp_path / "seen"
    image = tmp_path / "large.png"
    Image.open(folder / "bar" / "000_00.png").resize((240, 120)).save(image)
    command = ["predict", str(trained), str(image), str(folder), "--overlay", str(out)]
    assert cli.main(command) == 0
    assert len(list(out.rglob("*.png"))) == 25
    drawn = np.asarray(Image.open(out / "large.png"))
    assert drawn.shape == (120, 240, 3)
    assert (drawn != np.asarray(Image.open(image))).any()
    capsys.readouterr()
    assert "the file exists; --force overwrites it" in line_of(capsys, *command)
    assert cli.main([*command, "--force"]) == 0
    capsys.readouterr()
    assert "both would be written to" in line_of(
        capsys, "predict", trained, image, image, "--overlay", out, "--force"
    )


def test_predict_says_what_it_cannot_read(trained, tmp_path, capsys):
    (tmp_path / "bad.png").write_text("no picture")
    np.save(tmp_path / "nan.npy", np.full((5, 5), np.nan, np.float32))
    Image.new("RGB", (5, 5)).save(tmp_path / "good.png")
    assert cli.main(["predict", str(trained), str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 1
    assert "bad.png: no image" in captured.err
    assert "nan.npy: expected finite numbers" in captured.err
    assert "2 of 3 images could not be classified" in captured.err
    (tmp_path / "empty").mkdir()
    assert "found no images" in line_of(capsys, "predict", trained, tmp_path / "empty")
    assert "expected one of them" in line_of(capsys, "predict", trained, "a", "--json", "--csv")
