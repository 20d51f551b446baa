"""The comparison of a checkout with another commit, on a small project made for it."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from benchmarks import against

HERE = pathlib.Path(against.__file__).parents[1]

# Rows with the names that the comparison uses; the work is a number of additions.
ROWS = """
import numba_stn
class MissingError(Exception):
    pass
class Row:
    def problem(self):
        return self
def prepared(name, who, problem):
    if not hasattr(numba_stn, "work"):
        raise MissingError("this commit has no work")
    problem.run = numba_stn.work
    return problem
ROWS = {row: Row() for row in ("small", "large")}
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A checkout, and a function that changes the amount of its work and commits that."""
    monkeypatch.setattr(against, "SHORT", ("small", "large"))
    rows = tmp_path / "numba_stn" / "bench"
    rows.mkdir(parents=True)
    (rows / "__init__.py").write_text("")
    (rows / "report.py").write_text(ROWS)
    shutil.copy(HERE / "numba_stn" / "bench" / "clock.py", rows)

    def git(*words):
        who = {f"GIT_{one}_{part}": "a@b" for one in ("AUTHOR", "COMMITTER")
               for part in ("NAME", "EMAIL")}  # fmt: skip
        subprocess.run(["git", "-C", tmp_path, *words], check=True, env=os.environ | who)

    def write(code, commit=True):
        (tmp_path / "numba_stn" / "__init__.py").write_text(code + "\n")
        if commit:
            git("add", "numba_stn")
            git("commit", "--quiet", "--message", "change")

    git("init", "--quiet")
    write.path = tmp_path
    return write


def adds(count):
    return f"work = lambda: sum(range({count}))"


def test_a_slower_checkout_is_detected(project, capsys):
    project(adds(20_000))
    project(adds(1_000_000), commit=False)
    assert against.main(["HEAD", "--rounds", "3"], project.path) == 1
    _, small, large, *slower = capsys.readouterr().out.splitlines()
    for line in (small, large):
        ratios = [float(word) for word in line.split()[1:]]
        assert len(ratios) == against.PAIRS
        assert min(ratios) > 5  # of 50, with a margin for other work on the machine
    assert [line.rpartition(": ")[2] for line in slower] == ["small", "large"]


def test_a_faster_or_equal_checkout_passes_after_one_pair(project, capsys):
    project(adds(1_000_000))
    project(adds(20_000))
    for commit, least, most in (("HEAD~1", 0, 0.2), ("HEAD", 0.2, 5)):
        assert against.main([commit, "--rounds", "5", "--limit", "5"], project.path) == 0
        for line in capsys.readouterr().out.splitlines()[1:]:
            assert len(line.split()) == 2
            assert least < float(line.split()[1]) < most


def test_a_row_that_a_commit_lacks_is_skipped(project, capsys):
    project("")
    project(adds(1))
    assert against.main(["HEAD~1", "--rounds", "1"], project.path) == 0
    assert capsys.readouterr().out.count("skipped: missing: this commit has no work") == 2


def test_a_commit_that_does_not_import_is_an_error(project, capsys):
    project("raise SystemError('broken')")
    project(adds(1))
    assert against.main(["HEAD~1"], project.path) == 2
    assert "a measuring process ended" in capsys.readouterr().err


def test_errors_name_an_unknown_commit_or_row(project, capsys):
    project(adds(1))
    for words, message in (
        (["elsewhere"], "no commit 'elsewhere' here"),
        ([], "name a commit"),
        (["HEAD", "an unknown row"], "no row's name contains 'an unknown row'"),
    ):
        assert against.main(words, project.path) == 2
        assert message in capsys.readouterr().err


def test_the_command_returns_the_exit_code():
    command = [sys.executable, "-m", "benchmarks.against", "elsewhere"]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True)
    assert done.returncode == 2
    assert "no commit 'elsewhere' here" in done.stderr


def test_the_short_list_names_rows():
    from numba_stn.bench.report import ROWS

    assert set(against.SHORT) <= set(ROWS)


def test_the_history_names_commits_of_this_repository():
    results = HERE / "benchmarks" / "results" / "asv"
    measured = [path.name.split("-")[0] for path in results.glob("*/*-env-*.json")]
    listed = (HERE / "benchmarks" / "history.txt").read_text().split()
    assert against.newest(results) in listed
    assert set(measured) <= {commit[:8] for commit in listed}  # measuring can be stopped
    command = ["git", "-C", HERE, "rev-parse", "--is-shallow-repository"]
    if subprocess.run(command, capture_output=True, text=True).stdout.strip() == "false":
        assert [against.resolve(HERE, commit) for commit in listed] == listed
