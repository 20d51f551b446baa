"""``numba-stn reproduce table1``, on digits that are trained in seconds."""

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
from numba_stn.training import experiment, runs, table1

TRIAL = ["reproduce", "table1", "--dataset", "digits", "--epochs", "2", "--tasks", "R,E"]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Two tasks, two networks."""
    out = tmp_path_factory.mktemp("table")
    assert cli.main([*TRIAL, "--models", "fcn,st-fcn", "--seeds", "5", "--out", str(out)]) == 0
    return out


def test_each_run_has_a_folder_and_an_entry_in_the_table(table):
    folders = sorted(path.name for path in table.iterdir() if path.is_dir())
    assert folders == sorted(
        f"{task}-{row}-seed5" for task in "RE"
        for row in ("fcn", "st-fcn-affine", "st-fcn-projective", "st-fcn-tps")
    )  # fmt: skip
    found = json.loads((table / "table1.json").read_text())["runs"]
    assert len(found) == 8
    for each in found:
        run = table1.Run(each["task"], table1.TableRow(each["model"], each["transform"]), 5)
        metrics = json.loads((table / run.folder / "metrics.json").read_text())
        assert each["test_error"] == metrics["test_error"]
        assert {"seed", "epochs", "seconds", "parameters", "commit", "versions"} <= each.keys()
        assert {"curves.png", "classes.png"} <= {p.name for p in (table / run.folder).iterdir()}


def test_the_markdown_has_the_papers_errors(table):
    lines = (table / "table1.md").read_text().splitlines()
    assert lines[0] == "| model | R | RTS | P | E | TC | addition |"
    found = json.loads((table / "table1.json").read_text())["runs"]
    error = next(x["test_error"] for x in found if (x["model"], x["task"]) == ("fcn", "R"))
    cells = [cell.strip() for cell in lines[2].split("|")]
    assert cells[1:5] == ["FCN", f"**{error:.2f}** (2.1)", "(5.2)", "(3.1)"]  # not run: empty
    assert len(lines) == 2 + len(table1.PAPER_ERRORS)


def test_complete_runs_are_not_trained_again(table, capsys, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in table.rglob("metrics.json")}
    monkeypatch.setattr(runs, "run_in_folder", lambda *_: pytest.fail("ran again"))
    code = cli.main([*TRIAL, "--models", "fcn,st-fcn", "--seeds", "5", "--out", str(table)])
    assert code == 0
    assert before == {path: path.stat().st_mtime_ns for path in table.rglob("metrics.json")}
    assert "8 of 8 runs are complete" in capsys.readouterr().out


def test_runs_of_an_earlier_version_are_refused(table, tmp_path, capsys, monkeypatch):
    """Runs whose metrics.json has "readings" where it now has "views"."""
    out = tmp_path / "earlier"
    shutil.copytree(table, out)
    for path in out.rglob("metrics.json"):
        metrics = json.loads(path.read_text())
        metrics["readings"] = metrics.pop("views")
        path.write_text(json.dumps(metrics))
    before = {path: path.read_bytes() for path in out.rglob("*.*")}
    monkeypatch.setattr(runs, "run_in_folder", lambda *_: pytest.fail("ran again"))
    for seed in ("5", "6"):  # 6: no run of this seed exists
        assert cli.main([*TRIAL, "--models", "fcn", "--seeds", seed, "--out", str(out)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "metrics.json: a run of another version of numba_stn: lacks views" in line
    assert before == {path: path.read_bytes() for path in out.rglob("*.*")}
    with pytest.raises(runs.RunError, match="of another version of numba_stn"):
        runs.load_trained(out / "R-fcn-seed5")


def test_st_fcn_has_three_views_of_rts():
    found = {
        (task, transform): table1.Run(task, table1.TableRow("st-fcn", transform), 0).config()
        for task in ("R", "RTS") for transform in ("affine", "projective", "tps")
    }  # fmt: skip
    three = {cell for cell, config in found.items() if config.views == 3}
    assert three == {("RTS", "affine"), ("RTS", "projective")}
    assert found["RTS", "affine"].epochs * 2 == found["RTS", "tps"].epochs


def test_runs_with_other_options_are_refused(table, capsys):
    trial = [*TRIAL[:4], "--epochs", "3", "--tasks", "R", "--models", "fcn", "--seeds", "5"]
    assert cli.main([*trial, "--out", str(table)]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "has a run with epochs 2, expected 3" in line


def test_runs_of_another_versions_network_are_refused(table, capsys, monkeypatch):
    monkeypatch.setattr(zoo, "fcn_localisation", lambda *_, **__: zoo.serial(zoo.flatten()))
    trial = [*TRIAL[:6], "--tasks", "R", "--models", "st-fcn", "--transforms", "affine"]
    assert cli.main([*trial, "--seeds", "5", "--out", str(table)]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "has a run of another version's network, with" in line


def test_a_run_that_fails_does_not_stop_the_others(tmp_path, capsys, monkeypatch):
    """The first diverges, and another process trains the second."""

    def run_in_folder(folder, setup, *others):
        if setup.config.task == "R":
            raise experiment.DivergedError("step 3: the loss is nan")
        return original(folder, setup, *others)

    original = runs.run_in_folder
    monkeypatch.setattr(runs, "run_in_folder", run_in_folder)
    trial = [*TRIAL, "--models", "fcn", "--seeds", "0", "--out", str(tmp_path)]
    trial[trial.index("R,E")] = "R,RTS,E"
    with runs.hold(tmp_path / "RTS-fcn-seed0"):
        assert cli.main(trial) == 1
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("numba-stn: ")]
    assert len(lines) == 3
    assert lines[0].startswith("numba-stn: R FCN, seed 0: step 3: the loss is nan")
    assert lines[1].startswith("numba-stn: RTS FCN, seed 0: ")
    assert "is at work there" in lines[1]
    assert lines[2] == "numba-stn: 2 of 3 runs failed; the same command tries them again"
    assert "E FCN, seed 0: " in captured.out
    assert len(json.loads((tmp_path / "table1.json").read_text())["runs"]) == 1


def test_a_stopped_table_is_resumed(tmp_path):
    """Ctrl-C in the second of two runs; the same command then gives the same numbers."""
    command = [*TRIAL, "--models", "fcn", "--seeds", "0"]
    script = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells' background jobs ignore it
from numba_stn import cli
from numba_stn.training import experiment
original, count = experiment.train.train_step, 0
def step(*args):
    global count
    count += 1
    if count == 18:  # 6 steps an epoch, two epochs a run
        os.kill(os.getpid(), signal.SIGINT)
    return original(*args)
experiment.train.train_step = step
sys.exit(cli.main(sys.argv[1:]))
"""
    out = tmp_path / "stopped"
    done = subprocess.run([sys.executable, "-c", script, *command, "--out", str(out)],
                          capture_output=True, text=True, env=dict(os.environ))  # fmt: skip
    assert done.returncode == 128 + signal.SIGINT, done.stderr
    assert "the same command resumes" in done.stderr
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
    assert ": missing; " in capsys.readouterr().err
    assert not out.exists()


def test_the_table_is_the_papers():
    planned = table1.planned_runs(
        options.TABLE_TASKS, options.TABLE_MODELS, options.TABLE_TRANSFORMS, (0, 1, 2)
    )
    assert options.TABLE_TASKS == table1.TASKS
    main = [run for run in planned if run.row == table1.TableRow("st-cnn")]
    assert len(main) == 15
    assert len(planned) == 15 + 6 + 6 + 6 + 4 * 4 + 1
    assert len({run.folder for run in planned}) == len(planned)


def test_the_second_table_has_rounds(tmp_path):
    names = options.TABLE_TASKS, options.TABLE_MODELS, options.TABLE_TRANSFORMS
    planned = table1.planned_runs(*names, (0, 1, 2), table1.TABLE2)
    assert len(planned) == 3 * (2 * 5 + 2)
    for run in planned:
        config = run.config()
        assert (config.rounds, config.views) == (run.row.rounds, 1)
        once = run._replace(row=run.row._replace(rounds=1)).config()
        assert config.epochs < once.epochs * once.views  # with several views, it has half of them
    assert planned[0].folder == "R-st-cnn-affine-2-rounds-seed0"
    command = ["reproduce", "table2", "--dataset", "digits", "--epochs", "1", "--tasks", "R",
               "--seeds", "4", "--models", "st-cnn", "--out", str(tmp_path)]  # fmt: skip
    assert cli.main(command) == 0
    lines = (tmp_path / "table2.md").read_text().splitlines()
    assert lines[0] == "| model | R | RTS | P | E | TC |"
    runs_of = json.loads((tmp_path / "table2.json").read_text())["runs"]
    assert [run["rounds"] for run in runs_of] == [2, 3]
    assert lines[2].startswith(f"| ST-CNN affine 2 rounds | **{runs_of[0]['test_error']:.2f}**")
    assert lines[2].endswith("(0.54) | (0.48) | (0.69) | (0.54) | (0.97) |")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["reproduce", "table3"], "table3"),
        (["reproduce", "table2", "--tasks", "addition"], "no cell"),
        (["reproduce", "table1", "--tasks", "R,Q"], "'Q'"),
        (["reproduce", "table1", "--tasks", "TC", "--transforms", "tps"], "no cell"),
        (["reproduce", "table1", "--seeds", "0,x"], "whole number of at least 0, got 'x'"),
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
