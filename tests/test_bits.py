"""The bit-for-bit comparison with another commit: its digests, its report and its exit codes."""

import json
import pathlib
import sys

import numpy as np
import pytest

import numba_stn
from benchmarks import against, bits

ROOT = pathlib.Path(numba_stn.__file__).parents[1]
ARRAY = np.arange(6.0)


# --- Digests --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        ARRAY.astype(np.float32),
        ARRAY.reshape(2, 3),
        np.nextafter(ARRAY, 9.0),
        np.where(ARRAY == 0, -0.0, ARRAY),
        ARRAY[:5],
        (ARRAY, ARRAY),
        None,
    ],
    ids=["dtype", "shape", "last bit", "sign of zero", "length", "another array", "nothing"],
)
def test_digests_of_different_results_differ(other):
    assert bits.digest(other) != bits.digest(ARRAY)


def test_digests_of_equal_results_agree():
    columns = np.asfortranarray(ARRAY.reshape(2, 3))
    assert bits.digest(columns) == bits.digest(ARRAY.reshape(2, 3))
    nan = np.full(3, np.nan)
    assert bits.digest(nan) == bits.digest(nan.copy())
    assert bits.digest(2.5) == bits.digest(np.float64(2.5))
    assert bits.digest({"b": [1.0, None], "a": (ARRAY,)}) == bits.digest((ARRAY, 1.0))


def calls():
    yield "good one", lambda: ARRAY
    yield "good two", lambda: {"a": ARRAY, "b": None}
    yield "bad", lambda: (_ for _ in ()).throw(ValueError("size: expected 2 numbers, got 3"))


def test_digests_are_printed_as_json(monkeypatch, capsys):
    monkeypatch.setattr(bits, "calls", calls)
    monkeypatch.setattr(sys, "path", list(sys.path))
    bits.print_digests(str(ROOT), "")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["good one", bits.digest(ARRAY)],
        ["good two", bits.digest(ARRAY)],
        ["bad", "ValueError: size: expected 2 numbers, got 3"],
    ]
    bits.print_digests(str(ROOT), "two")
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_the_numba_stn_of_another_tree_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(ImportError, match="numba_stn: expected the one in"):
        bits.print_digests(str(tmp_path), "")


# --- The report -----------------------------------------------------------------------------------


def test_equal_digests_are_code_0(capsys):
    base = {"a": "0123", "b": "ValueError: old words"}
    assert bits.report(base, {"a": "0123", "b": "ValueError: new words"}) == 0
    assert capsys.readouterr().out == "2 calls, 0 different, 1 raised an error\n"


@pytest.mark.parametrize(
    ("checkout", "line"),
    [
        ({"a": "4567"}, "a: 0123 -> 4567"),
        ({"a": "TypeError: no"}, "a: 0123 -> TypeError: no"),
        ({}, "a: 0123 -> missing"),
        ({"a": "0123", "b": "89ab"}, "b: missing -> 89ab"),
    ],
    ids=["other bits", "an error", "a call less", "a call more"],
)
def test_different_digests_are_code_1(checkout, line, capsys):
    assert bits.report({"a": "0123"}, checkout) == 1
    assert capsys.readouterr().out.splitlines()[0] == line


# --- The command ----------------------------------------------------------------------------------


@pytest.fixture
def digests(monkeypatch):
    """The digests that each tree gives, without running a call."""
    found = {"checkout": {"warp": "0123", "nearest warp": "4567"}}
    found["commit"] = dict(found["checkout"])

    def run_digests(tree, word):
        side = found["checkout" if tree == str(bits.ROOT) else "commit"]
        return {name: result for name, result in side.items() if word in name}

    monkeypatch.setattr(bits, "run_digests", run_digests)
    monkeypatch.setattr(against, "resolve", lambda root, commit: commit)
    monkeypatch.setattr(against, "extract", lambda root, commit, folder, paths: None)
    return found


def test_a_commit_is_compared(digests, capsys):
    assert bits.main(["HEAD"]) == 0
    digests["commit"]["nearest warp"] = "89ab"
    assert bits.main(["HEAD"]) == 1
    assert "nearest warp: 89ab -> 4567" in capsys.readouterr().out


def test_saved_digests_are_compared(digests, tmp_path, capsys):
    path = tmp_path / "digests.json"
    assert bits.main(["--save", str(path)]) == 0
    assert json.loads(path.read_text()) == digests["checkout"]
    assert bits.main(["--with", str(path)]) == 0
    digests["checkout"]["warp"] = "89ab"
    assert bits.main(["--with", str(path)]) == 1
    assert bits.main(["--with", str(path), "--only", "nearest"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1 calls, 0 different, 0 raised an error"


def test_nothing_to_compare_is_code_2(digests, tmp_path, capsys):
    for words, message in (
        (["HEAD", "--only", "bicubic"], "no call's name contains 'bicubic'"),
        (["--with", str(tmp_path / "none.json")], "none.json"),
    ):
        assert bits.main(words) == 2
        assert message in capsys.readouterr().err


def test_an_unknown_commit_is_code_2(monkeypatch, capsys):
    monkeypatch.setattr(bits, "run_digests", lambda *args: pytest.fail("a call was made"))
    assert bits.main(["no-such-commit"]) == 2
    assert "no commit 'no-such-commit' here" in capsys.readouterr().err


def test_a_process_that_fails_is_code_2(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(bits, "HERE", tmp_path)
    (tmp_path / "bits.py").write_text("raise SystemExit(3)")
    assert bits.main(["--save", str(tmp_path / "digests.json")]) == 2
    assert "failed with exit code 3" in capsys.readouterr().err
    assert not (tmp_path / "digests.json").exists()


@pytest.fixture
def processes(monkeypatch):
    """The digests of a process, by what it is started with, without running a call."""
    started = []

    def digests_of_a_process(tree, word, **env):
        started.append(env)
        return {"warp": "0123"}

    monkeypatch.setattr(bits, "digests_of_a_process", digests_of_a_process)
    return started


def test_a_process_that_compiles_is_compared_with_one_that_loads(processes, monkeypatch, capsys):
    assert bits.main(["--loaded"]) == 0
    first, second = processes
    assert first == second != {}
    assert not pathlib.Path(first["NUMBA_CACHE_DIR"]).exists()  # it was new, and is removed
    numbers = iter("ab")
    monkeypatch.setattr(bits, "digests_of_a_process", lambda *_, **__: {"warp": next(numbers)})
    assert bits.main(["--loaded"]) == 1
    assert "warp: a -> b" in capsys.readouterr().out


def test_another_processor_is_compared(processes, monkeypatch, capsys):
    assert bits.main(["--processor", "generic"]) == 0
    assert processes == [{"NUMBA_CPU_NAME": "generic"}] * 2 + [{}] * 2

    def differ(tree, word, **env):
        return {"warp": env.get("NUMBA_CPU_NAME", "native")}

    monkeypatch.setattr(bits, "digests_of_a_process", differ)
    assert bits.main(["--processor", "generic"]) == 1
    assert "warp: native -> generic" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["HEAD", "--save", "a"],
        ["--save", "a", "--with", "b"],
        ["--loaded", "HEAD"],
        ["--loaded", "--processor", "generic"],
    ],
)
def test_exactly_one_source_is_expected(words, capsys):
    with pytest.raises(SystemExit) as error:
        bits.main(words)
    assert error.value.code == 2
    assert (
        "expected one of COMMIT, --save FILE, --with FILE, --loaded and --processor NAME"
        in capsys.readouterr().err
    )
