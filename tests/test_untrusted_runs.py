"""Runs and checkpoints are untrusted: what is wrong in one is named in one line, and written never.

The files are made here; nothing is trained.
"""

import copy
import json
import math

import numpy as np
import pytest
from safetensors.numpy import load_file, save, save_file

from numba_stn import cli
from numba_stn.nn import train, tree
from numba_stn.training import checkpoint, experiment, runs, table1
from numba_stn.utils import schema

CONFIG = experiment.Config(model="st-fcn", epochs=3, batch=100)

# Values that are wrong for a field of each kind, whatever its range.
WRONG = {
    int: [-1, 1.5, "5", True, None, [1], {}, 2**200, math.nan, 1e300],
    float: [-1.0, math.nan, math.inf, -math.inf, "0.1", True, None, [0.1], {}, 10**400],
    str: ["x", "", 3, True, None, ["digits"], {"a": 1}, "\ud800"],
}


def epoch(number):
    return {"epoch": number, "train_loss": 0.5, "train_error": 1.0, "validation_error": 2.0,
            "coverage": [99.0]}  # fmt: skip


def metrics():
    config = json.loads(json.dumps(vars(CONFIG)))
    return {"test_error": 1.5, **config, "interrupted": False, "test_images": 2400,
            "parameters": experiment.parameter_count(CONFIG), "seconds": 3.5, "gpu": None,
            "versions": {"python": "3.11"}, "commit": None,
            "history": [epoch(number) for number in (1, 2, 3)]}  # fmt: skip


@pytest.fixture(scope="module")
def network():
    net, shape = experiment.network(CONFIG)
    return net.init(np.random.default_rng(0), shape), net.init_state(shape)


@pytest.fixture(scope="module")
def setup():
    return experiment.prepare(CONFIG)


@pytest.fixture
def complete(network, tmp_path):
    """The folder of a complete run."""
    folder = tmp_path / "run"
    folder.mkdir()
    params, state = network
    (folder / runs.WEIGHTS).write_bytes(checkpoint.pack({"params": params, "state": state}))
    (folder / runs.METRICS).write_text(json.dumps(metrics()))
    return folder


@pytest.fixture
def stopped(setup, tmp_path):
    """The folder of a run that was stopped in its second epoch."""
    folder = tmp_path / "run"
    folder.mkdir()
    learner = experiment.initial_state(setup).learner
    learner.optimiser_state["step"] = 11
    state = checkpoint.TrainingState(learner, 1, 3, 4.5, 30, (epoch(1),), 2.0)
    checkpoint.save_checkpoint(folder / runs.CHECKPOINT, CONFIG, state)
    return folder


def line_of(capsys, *arguments):
    """The line that a command prints which ends with exit code 2."""
    assert cli.main([str(word) for word in arguments]) == 2
    captured = capsys.readouterr()
    assert not captured.out
    (line,) = captured.err.splitlines()
    assert len(line) < 1000
    return line


# --- The configuration ----------------------------------------------------------------------------

KINDS = {name: type(value) for name, value in vars(CONFIG).items()}
WRONG_FIELDS = [(name, value) for name, kind in KINDS.items() for value in WRONG[kind]]
WRONG_FIELDS += [("batch", 0), ("epochs", 0), ("transformers", 0), ("views", 0), ("rounds", 0),
                 ("rate", 0), ("label_smoothing", 1), ("label_smoothing", 2),
                 ("transformers", 10**9), ("views", 10**9), ("transform", "affine_3d"),
                 ("epochs", 10**9)]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), WRONG_FIELDS)
def test_a_configuration_is_checked_wherever_it_comes_from(name, value):
    with pytest.raises(ValueError, match=f"^{name}: expected .*, got ") as caught:
        experiment.Config(**{name: value})
    assert "\n" not in str(caught.value)
    content = json.dumps({**vars(CONFIG), name: value})
    with pytest.raises(ValueError, match=f"^{name}: expected .*, got "):
        schema.from_json(content, schema.record(schema.field_rules(experiment.Config)))


def test_a_configuration_has_pythons_own_numbers():
    config = experiment.Config(epochs=np.int64(5), rate=np.float32(0.5), weight_decay=0)
    assert [type(value) for value in (config.epochs, config.rate, config.weight_decay)] == [
        int, float, float,
    ]  # fmt: skip
    assert (config.epochs, config.rate, config.weight_decay) == (5, 0.5, 0.0)
    json.dumps(vars(config))


# --- metrics.json ---------------------------------------------------------------------------------


def with_value(content, path, value):
    """The content with another value at a path of keys."""
    content = copy.deepcopy(content)
    *parents, last = path
    place = content
    for key in parents:
        place = place[key]
    place[last] = value
    return content


WRONG_METRICS = [
    (("test_error",), value) for value in (None, -1, 101, "1", True, [], math.nan)
] + [
    (("interrupted",), value) for value in (0, None, "false")
] + [
    (("test_images",), 0), (("parameters",), -3), (("parameters",), "many"), (("seconds",), -1),
    (("seconds",), None), (("gpu",), 7), (("versions",), []), (("versions", "python"), 3),
    (("versions",), None), (("commit",), False), (("history",), {}), (("history",), None),
    (("history",), []), (("history", 1), 7), (("history", 1, "epoch"), 5),
    (("history", 1, "epoch"), 0),
    (("history", 2, "train_loss"), "x"), (("history", 2, "train_loss"), math.inf),
    (("history", 0, "coverage"), 99), (("history", 0, "coverage"), ["99"]),
    (("history", 0, "surprise"), 1), (("surprise",), 1), (("history", 0, "validation_error"), None),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value"), WRONG_METRICS)
def test_wrong_metrics_are_named(path, value, complete, capsys):
    file = complete / runs.METRICS
    file.write_text(json.dumps(with_value(metrics(), path, value)))
    for read in (runs.complete_metrics, runs.load_trained):
        with pytest.raises(ValueError, match=str(file)) as caught:
            read(complete)
        key = next((str(key) for key in reversed(path) if isinstance(key, str)), "")
        assert key in str(caught.value)
    line = line_of(capsys, "predict", complete, "image.png")
    assert str(file) in line


@pytest.mark.parametrize("name", KINDS)
def test_metrics_without_a_field_are_of_another_version(name, complete):
    found = metrics()
    del found[name]
    (complete / runs.METRICS).write_text(json.dumps(found))
    with pytest.raises(runs.RunError, match=f"of another version of numba_stn: lacks {name}"):
        runs.load_trained(complete)


NOT_JSON = {
    "nested": "[" * 100_000,
    "nested objects": '{"a":' * 100_000,
    "empty": "",
    "a number": "7",
    "a list": "[]",
    "null": "null",
    "text": "no JSON at all",
    "a long number": '{"epochs": ' + "9" * 10_000 + "}",
    "not UTF-8": b'{"a": "\xff\xfe"}',
    "zeros": b"\0" * 1000,
    "half": json.dumps(metrics())[:300],
}


@pytest.mark.parametrize("name", NOT_JSON)
def test_what_is_not_json_is_one_line(name, complete, capsys):
    content = NOT_JSON[name]
    content = content if isinstance(content, bytes) else content.encode()
    (complete / runs.METRICS).write_bytes(content)
    assert f"{complete / runs.METRICS}: " in line_of(capsys, "predict", complete, "image.png")
    assert f"{complete / runs.METRICS}: " in line_of(capsys, "export", complete, "net.onnx")
    assert f"{complete / runs.METRICS}: " in line_of(capsys, "train", "--resume", complete)
    table = ["reproduce", "table1", "--dataset", "digits", "--out", complete.parent]
    folder = complete.rename(complete.with_name("R-fcn-seed0"))
    assert f"{folder / runs.METRICS}: " in line_of(capsys, *table)


def test_wrong_metrics_are_not_written(setup, network, tmp_path):
    params, state = network
    learner = train.Learner(params, state, None)
    found = metrics() | {"test_error": math.nan}
    with pytest.raises(ValueError, match="test_error: expected a finite number from 0 to 100"):
        runs.save_results(tmp_path, setup, learner, found)
    assert not list(tmp_path.iterdir())


def test_the_published_runs_follow_the_rules():
    results = experiment.pathlib.Path(__file__).parents[1] / "docs" / "results"
    files = [*results.glob("*.json"), *results.glob("*/*/metrics.json")]
    assert len(files) > 30
    for path in files:
        # Some were made when a transformer predicted its map in one round only.
        schema.from_json(
            path.read_bytes(), lambda value, name: runs.check_metrics({"rounds": 1} | value)
        )


# --- Checkpoints ----------------------------------------------------------------------------------

WRONG_STATES = [
    ("epoch", value) for value in (-1, 0, 2, 4, 10**9, "1", True, None, 1.0)
] + [
    ("step", value) for value in (-1, 2, 9, 10**9, "3", None)
] + [
    ("loss_sum", -1), ("loss_sum", "4"), ("loss_sum", math.nan), ("errors", -1), ("errors", 301),
    ("errors", 1.5), ("history", []), ("history", None), ("history", [7]), ("history", [epoch(2)]),
    ("history", [epoch(1)] * 2), ("history", [{**epoch(1), "coverage": []}]),
    ("history", [{**epoch(1), "coverage": [9.0, 9.0]}]), ("seconds", -1), ("seconds", "1"),
    ("optimiser_step", 10), ("optimiser_step", None), ("optimiser_step", -1), ("more", 1),
]  # fmt: skip


def rewrite(path, **changes):
    """Change entries of a checkpoint's metadata, given as text."""
    arrays, metadata = checkpoint.read_safetensors(path)
    path.write_bytes(save(arrays, metadata | changes))


@pytest.mark.parametrize(("name", "value"), WRONG_STATES)
def test_wrong_training_states_are_named(name, value, setup, stopped):
    path = stopped / runs.CHECKPOINT
    metadata = checkpoint.read_safetensors(path)[1]
    assert experiment.resumed_state(setup, path).step == 3
    state = json.loads(metadata["training_state"]) | {name: value}
    rewrite(path, training_state=json.dumps(state))
    with pytest.raises(checkpoint.CheckpointError, match=str(path)) as caught:
        experiment.resumed_state(setup, path)
    related = {"epoch": "step|history"}.get(name, name)
    assert any(word in str(caught.value) for word in (*related.split("|"), name))


@pytest.mark.parametrize(("name", "value"), WRONG_FIELDS)
def test_wrong_options_in_a_checkpoint_are_named(name, value, stopped):
    path = stopped / runs.CHECKPOINT
    rewrite(path, config=json.dumps({**vars(CONFIG), name: value}))
    message = f"^{path}: damaged: config.{name}: expected .*, got "
    with pytest.raises(checkpoint.CheckpointError, match=message):
        runs.stopped_config(stopped)


@pytest.mark.parametrize("entry", ["config", "training_state"])
@pytest.mark.parametrize("content", ["[" * 100_000, "", "7", "null", "no JSON", "{}"])
def test_a_checkpoint_with_other_json_is_one_line(entry, content, stopped, capsys):
    rewrite(stopped / runs.CHECKPOINT, **{entry: content})
    line = line_of(capsys, "train", "--resume", stopped)
    assert str(stopped / runs.CHECKPOINT) in line
    assert entry in line


def test_options_that_do_not_fit_together_are_named(stopped, capsys):
    rewrite(stopped / runs.CHECKPOINT, config=json.dumps({**vars(CONFIG), "model": "cnn",
                                                          "transformers": 2}))  # fmt: skip
    line = line_of(capsys, "train", "--resume", stopped)
    assert f"{stopped / runs.CHECKPOINT}: damaged: transformers: " in line


# --- Arrays ---------------------------------------------------------------------------------------


def spoilt(array, value):
    array = array.copy()
    array.flat[array.size // 2] = value
    return array


WRONG_ARRAYS = {
    "NaN": (lambda a: spoilt(a, np.nan), "has NaN or infinity at 1 of"),
    "infinity": (lambda a: spoilt(a, -np.inf), "has NaN or infinity at 1 of"),
    "shape": (lambda a: np.zeros((7, 7), a.dtype), "has shape (7, 7), expected"),
    "flat": (lambda a: a.ravel()[:-1], "has shape"),
    "float64": (lambda a: a.astype(np.float64), "has float64, expected float32"),
    "bool": (lambda a: a > 0, "has bool, expected float32"),
    "missing": (lambda a: None, "are missing"),
}


@pytest.mark.parametrize("kind", WRONG_ARRAYS)
@pytest.mark.parametrize("number", [0, -1])
def test_wrong_arrays_are_named(kind, number, complete, capsys):
    change, message = WRONG_ARRAYS[kind]
    path = complete / runs.WEIGHTS
    arrays = load_file(path)
    name = list(arrays)[number]
    arrays[name] = change(arrays[name])
    save_file({key: array for key, array in arrays.items() if array is not None}, path)
    with pytest.raises(runs.RunError, match=name):
        runs.load_trained(complete)
    for command in (["predict", complete, "image.png"], ["export", complete, "net.onnx"]):
        line = line_of(capsys, *command)
        assert message in line
        assert name in line


@pytest.mark.parametrize("kind", WRONG_ARRAYS)
def test_wrong_arrays_in_a_checkpoint_are_named(kind, setup, stopped):
    change, message = WRONG_ARRAYS[kind]
    path = stopped / runs.CHECKPOINT
    arrays, metadata = checkpoint.read_safetensors(path)
    name = list(arrays)[len(arrays) // 2]
    arrays[name] = change(arrays[name])
    arrays = {key: array for key, array in arrays.items() if array is not None}
    path.write_bytes(save(arrays, metadata))
    with pytest.raises(checkpoint.CheckpointError) as caught:
        experiment.resumed_state(setup, path)
    for part in (str(path), name, message):
        assert part in str(caught.value)


def test_arrays_that_are_not_finite_are_not_written(setup, stopped):
    """The checkpoint on disk stays as it was."""
    path = stopped / runs.CHECKPOINT
    before = path.read_bytes()
    state = experiment.resumed_state(setup, path)
    params = tree.tree_map(lambda a: np.full_like(a, np.nan), state.learner.params)
    state = state._replace(learner=state.learner._replace(params=params))
    with pytest.raises(ValueError, match=r"params\..* has NaN or infinity"):
        checkpoint.save_checkpoint(path, CONFIG, state)
    assert path.read_bytes() == before
    assert [entry.name for entry in stopped.iterdir()] == [path.name]


def test_damaged_weights_are_always_one_error(complete):
    """A byte changed, a part cut off, or bytes added: the array is named, or all is as before."""
    path, rng = complete / runs.WEIGHTS, np.random.default_rng(0)
    content = path.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    outcomes = set()
    for _ in range(300):
        damaged = bytearray(content)
        where = rng.integers(header if rng.random() < 0.8 else len(content))
        kind = rng.integers(3)
        if kind == 0:
            damaged[where] = rng.integers(256)
        elif kind == 1:
            del damaged[where:]
        else:
            damaged[where:where] = rng.bytes(rng.integers(1, 9))
        path.write_bytes(damaged)
        try:
            runs.load_trained(complete)
            outcomes.add("loaded")
        except runs.RunError as error:
            outcomes.add(f"refused in {len(str(error).splitlines())} line")
    assert outcomes == {"loaded", "refused in 1 line"}


def test_a_folder_or_nothing_in_place_of_a_file_is_named(complete, capsys):
    for name in (runs.WEIGHTS, runs.METRICS):
        content = (complete / name).read_bytes()
        (complete / name).unlink()
        assert "not a run" in line_of(capsys, "predict", complete, "image.png")
        (complete / name).mkdir()
        assert name in line_of(capsys, "predict", complete, "image.png")
        (complete / name).rmdir()
        (complete / name).write_bytes(content)


def test_the_networks_logits_must_be_finite(complete, tmp_path, capsys):
    """Finite weights whose products are not: the image is named, and nothing is printed for it."""
    arrays = load_file(complete / runs.WEIGHTS)
    save_file({name: np.full_like(array, 3e38) for name, array in arrays.items()},
              complete / runs.WEIGHTS)  # fmt: skip
    np.save(tmp_path / "one.npy", np.ones((16, 16), np.float32))
    assert cli.main(["predict", str(complete), str(tmp_path / "one.npy")]) == 1
    captured = capsys.readouterr()
    assert not captured.out
    assert f"{tmp_path / 'one.npy'}: the network's logits are NaN or infinite" in captured.err


# --- The table ------------------------------------------------------------------------------------


def test_a_run_in_another_cells_folder_is_named(complete, tmp_path):
    complete.rename(tmp_path / "R-st-fcn-affine-seed0")
    assert len(table1.collect_runs(tmp_path)) == 1
    (tmp_path / "R-st-fcn-affine-seed0").rename(tmp_path / "E-fcn-seed0")
    with pytest.raises(runs.RunError, match="metrics.json: task: expected 'E'.*got 'R'"):
        table1.collect_runs(tmp_path)
    (tmp_path / "E-fcn-seed0").rename(tmp_path / "E-fcn-seed0-old")
    assert table1.collect_runs(tmp_path) == []
