"""``numba-stn reproduce table1``, on digits that are read in seconds."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from numba_stn import cli
from numba_stn.cli import options
from numba_stn.nn import zoo
from numba_stn.training import runs, table1

TRIAL = ["reproduce", "table1", "--dataset", "digits", "--epochs", "2", "--tasks", "R,E"]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Two tasks, two networks."""
    out = tmp_path_factory.mktemp("table")
    assert cli.main([*TRIAL, "--models", "fcn,st-fcn", "--seeds", "5", "--out", str(out)]) == 0
    return out


def test_each_run_has_a_folder_and_the_table_has_them_all(table):
    folders = sorted(path.name for path in table.iterdir() if path.is_dir())
    assert folders == sorted(
        f"{task}-{kind}-seed5" for task in "RE"
        for kind in ("fcn", "st-fcn-affine", "st-fcn-projective", "st-fcn-tps")
    )  # fmt: skip
    found = json.loads((table / "table1.json").read_text())["runs"]
    assert len(found) == 8
    for each in found:
        run = table1.Run(each["task"], table1.Kind(each["model"], each["transform"]), 5)
        metrics = json.loads((table / run.folder / "metrics.json").read_text())
        assert each["test_error"] == metrics["test_error"]
        assert {"seed", "epochs", "seconds", "parameters", "commit", "versions"} <= each.keys()
        assert {"curves.png", "classes.png"} <= {p.name for p in (table / run.folder).iterdir()}


def test_the_markdown_stands_beside_the_paper(table):
    lines = (table / "table1.md").read_text().splitlines()
    assert lines[0] == "| model | R | RTS | P | E | TC | addition |"
    found = json.loads((table / "table1.json").read_text())["runs"]
    error = next(x["test_error"] for x in found if (x["model"], x["task"]) == ("fcn", "R"))
    cells = [cell.strip() for cell in lines[2].split("|")]
    assert cells[1:5] == ["FCN", f"**{error:.2f}** (2.1)", "(5.2)", "(3.1)"]  # not run: empty
    assert len(lines) == 2 + len(table1.PAPER)


def test_what_is_complete_is_not_run_again(table, capsys, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in table.rglob("metrics.json")}
    monkeypatch.setattr(runs, "execute", lambda *_: pytest.fail("ran again"))
    code = cli.main([*TRIAL, "--models", "fcn,st-fcn", "--seeds", "5", "--out", str(table)])
    assert code == 0
    assert before == {path: path.stat().st_mtime_ns for path in table.rglob("metrics.json")}
    assert "8 of 8 runs are complete" in capsys.readouterr().out


def test_runs_of_before_there_were_readings_are_complete(table, tmp_path, capsys, monkeypatch):
    out = tmp_path / "earlier"
    shutil.copytree(table, out)
    for path in out.rglob("metrics.json"):
        metrics = json.loads(path.read_text())
        assert metrics.pop("readings") == 1
        path.write_text(json.dumps(metrics))
    monkeypatch.setattr(runs, "execute", lambda *_: pytest.fail("ran again"))
    assert cli.main([*TRIAL, "--models", "fcn,st-fcn", "--seeds", "5", "--out", str(out)]) == 0
    assert "8 of 8 runs are complete" in capsys.readouterr().out
    found = json.loads((out / "table1.json").read_text())["runs"]
    assert {run["readings"] for run in found} == {1}
    config, _, _ = runs.trained(out / "R-fcn-seed5")
    assert config.readings == 1


def test_st_fcn_reads_rts_three_times():
    found = {
        (task, transform): table1.Run(task, table1.Kind("st-fcn", transform), 0).config()
        for task in ("R", "RTS") for transform in ("affine", "projective", "tps")
    }  # fmt: skip
    three = {cell for cell, config in found.items() if config.readings == 3}
    assert three == {("RTS", "affine"), ("RTS", "projective")}
    assert found["RTS", "affine"].epochs * 2 == found["RTS", "tps"].epochs


def test_runs_of_another_recipe_are_not_mixed_in(table, capsys):
    trial = [*TRIAL[:4], "--epochs", "3", "--tasks", "R", "--models", "fcn", "--seeds", "5"]
    assert cli.main([*trial, "--out", str(table)]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "holds a run with epochs 2, expected 3" in line


def test_runs_of_an_earlier_network_are_not_taken_for_this_one(table, capsys, monkeypatch):
    monkeypatch.setattr(zoo, "fcn_localisation", lambda *_, **__: zoo.serial(zoo.flatten()))
    trial = [*TRIAL[:6], "--tasks", "R", "--models", "st-fcn", "--transforms", "affine"]
    assert cli.main([*trial, "--seeds", "5", "--out", str(table)]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "holds a run of another version's network, with" in line


def test_a_table_that_is_stopped_goes_on(tmp_path):
    """Ctrl-C in the second of two runs; the same command then ends with the same numbers."""
    command = [*TRIAL, "--models", "fcn", "--seeds", "0"]
    script = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells' background jobs ignore it
from numba_stn import cli, experiment
original, count = experiment.train.step, 0
def step(*args):
    global count
    count += 1
    if count == 18:  # 6 steps an epoch, two epochs a run
        os.kill(os.getpid(), signal.SIGINT)
    return original(*args)
experiment.train.step = step
sys.exit(cli.main(sys.argv[1:]))
"""
    out = tmp_path / "stopped"
    done = subprocess.run([sys.executable, "-c", script, *command, "--out", str(out)],
                          capture_output=True, text=True, env=dict(os.environ))  # fmt: skip
    assert done.returncode == 128 + signal.SIGINT, done.stderr
    assert "the same command goes on" in done.stderr
    assert len(json.loads((out / "table1.json").read_text())["runs"]) == 1
    assert cli.main([*command, "--out", str(out)]) == 0
    assert cli.main([*command, "--out", str(tmp_path / "whole")]) == 0
    errors = [
        [run["test_error"] for run in json.loads((folder / "table1.json").read_text())["runs"]]
        for folder in (out, tmp_path / "whole")
    ]
    assert errors[0] == errors[1]
    assert len(errors[0]) == 2


def test_missing_data_leave_nothing_behind(tmp_path, capsys):
    out = tmp_path / "new"
    command = ["reproduce", "table1", "--data-dir", str(tmp_path), "--out", str(out)]
    assert cli.main(command) == 2
    assert "is missing" in capsys.readouterr().err
    assert not out.exists()


def test_the_table_is_the_papers():
    runs_of_it = table1.planned(
        options.TABLE_TASKS, options.TABLE_MODELS, options.TABLE_TRANSFORMS, (0, 1, 2)
    )
    assert options.TABLE_TASKS == table1.TASKS
    main = [run for run in runs_of_it if run.kind == table1.Kind("st-cnn")]
    assert len(main) == 15
    assert len(runs_of_it) == 15 + 6 + 6 + 6 + 4 * 4 + 1
    assert len({run.folder for run in runs_of_it}) == len(runs_of_it)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["reproduce", "table2"], "table2"),
        (["reproduce", "table1", "--tasks", "R,Q"], "'Q'"),
        (["reproduce", "table1", "--tasks", "TC", "--transforms", "tps"], "no cell"),
        (["reproduce", "table1", "--seeds", "0,x"], "whole number from 0 on, got 'x'"),
    ],
)
def test_bad_options_are_named(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    try:
        code = cli.main(arguments)
    except SystemExit as error:
        code = error.code
    assert code == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
