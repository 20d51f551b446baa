"""The command that measures the history of the speed: what it refuses, says, and leaves alone."""

import json
import subprocess

import pytest

pytest.importorskip("asv")

from benchmarks import history

NEWEST = subprocess.run(["git", "-C", str(history.ROOT), "rev-parse", "HEAD"],
                        capture_output=True, text=True).stdout.strip()  # fmt: skip
pytestmark = pytest.mark.skipif(not NEWEST, reason="not a clone")


@pytest.fixture
def results(tmp_path):
    """A folder with the results of one commit on this machine."""
    from asv.machine import Machine

    own = tmp_path / "results" / "mine"
    own.mkdir(parents=True)
    (own / "machine.json").write_text(json.dumps(Machine.get_defaults() | {"machine": "mine"}))
    result = {"commit_hash": NEWEST, "result_columns": ["result", "duration"],
              "results": {"one": [[0.1], 90.0], "two": [[0.1], 60.0]},
              "durations": {"<build>": 30.0}}  # fmt: skip
    (own / f"{NEWEST[:8]}-env.json").write_text(json.dumps(result))
    return tmp_path / "results"


def listed(capsys, *words):
    code = history.main(["--machine", "mine", "--list", *words])
    told = capsys.readouterr()
    return code, told.out, told.err


def test_it_goes_on_with_what_is_not_measured_and_says_how_long_that_takes(
    tmp_path, results, capsys
):
    older = history.git("rev-list", "-3", "HEAD").split()[1:]
    file = tmp_path / "commits.txt"
    file.write_text("\n".join([*older, NEWEST]) + "\n")
    code, said, _ = listed(capsys, "--results", str(results), "--commits", str(file))
    assert code == 0
    assert said.startswith("3 commits, 1 measured on mine; the other 2 take about 6 minutes, 3.0")
    assert [line.startswith("measured ") for line in said.splitlines()[1:]] == [False, False, True]


def test_a_machine_s_name_stands_for_one_machine(results, capsys):
    path = results / "mine" / "machine.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"cpu": "another"}))
    before = {file: file.read_bytes() for file in results.rglob("*.json")}
    code, _, said = listed(capsys, "--results", str(results), "--last", "1")
    assert code == 2
    assert "mine is another machine" in said
    assert "cpu 'another'" in said
    assert {file: file.read_bytes() for file in results.rglob("*.json")} == before


def test_the_committed_results_are_not_of_this_command_unless_told():
    chosen = history._arguments().parse_args(["--machine", "mine"])
    assert history.COMMITTED not in history.pathlib.Path(chosen.results).parents
    assert subprocess.run(["git", "-C", str(history.ROOT), "check-ignore", "-q", chosen.results],
                          check=False).returncode == 0  # fmt: skip


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--last", "0"], "--last: expected at least 1, got 0"),
        (["--commits", "no/such.txt"], "--commits: No such file or directory: no/such.txt"),
    ],
)
def test_what_cannot_be_measured_is_named(results, capsys, words, said):
    code, _, told = listed(capsys, "--results", str(results), *words)
    assert (code, told) == (2, f"benchmarks.history: error: {said}\n")


def test_a_commit_that_is_not_here_is_named(tmp_path, results, capsys):
    (tmp_path / "commits.txt").write_text("0" * 40)
    code, _, told = listed(capsys, "--results", str(results), "--commits",
                           str(tmp_path / "commits.txt"))  # fmt: skip
    assert code == 2
    assert told.startswith("benchmarks.history: error: git rev-parse: ")


def test_asv_gets_the_folders_of_this_checkout(tmp_path):
    path = history.configuration(tmp_path / "own", tmp_path / "results")
    found = json.loads(path.read_text())
    assert found["results_dir"] == str(tmp_path / "results")
    assert (history.pathlib.Path(found["benchmark_dir"]) / "common.py").exists()
