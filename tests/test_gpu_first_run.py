"""``benchmarks/gpu_first_run.sh``: no step that fails, hangs or lacks something stops another."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest

import numba_stn

ROOT = pathlib.Path(numba_stn.__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import gpu_first_run, gpu_training  # noqa: E402
from benchmarks.gpu_first_run import Session, Step  # noqa: E402


def step(name, *codes, seconds=30):
    """A step whose processes run these pieces of Python."""
    return Step(name, seconds, lambda session: [[sys.executable, "-c", code] for code in codes])


def run(folder, *groups, seconds=60):
    """Run steps, and give the exit code and the summary's entries by name."""
    code = gpu_first_run.main([str(folder), "--seconds", str(seconds)], list(groups))
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["done"]
    return code, {each["step"]: each for each in summary["steps"]}


# --- Steps that end in every way ------------------------------------------------------------------


def test_no_step_stops_the_others(tmp_path, capsys):
    code, found = run(
        tmp_path / "new" / "folder",
        [step("good", "print('fine')")],
        [step("bad", "print('well'); raise ZeroDivisionError('no pixel')"), step("beside", "0")],
        [step("hangs", "print('began', flush=True); import time; time.sleep(600)", seconds=1)],
        [step("lacks", "print('no CuPy here'); raise SystemExit(3)")],
        [Step("no tool", 9, lambda session: "ncu was not found")],
        [Step("no file", 9, lambda session: [["/no/such/program"]])],
        [Step("no rows", 9, lambda session: 1 / 0)],
        [step("half", "0", "raise SystemExit(1)"), step("last", "print('end')")],
    )
    assert code == 1
    assert {name: each["state"] for name, each in found.items()} == {
        "good": "ok", "bad": "failed", "beside": "ok", "hangs": "timed out", "lacks": "skipped",
        "no tool": "skipped", "no file": "skipped", "no rows": "skipped", "half": "failed",
        "last": "ok",
    }  # fmt: skip
    assert found["bad"]["tail"].splitlines()[0] == "well"
    assert found["bad"]["tail"].endswith("ZeroDivisionError: no pixel")
    assert found["hangs"]["tail"] == "began"
    assert 1 <= found["hangs"]["took"] < 10
    assert found["lacks"]["tail"] == "no CuPy here"
    assert found["no tool"]["tail"] == "ncu was not found"
    assert "No such file" in found["no file"]["tail"]
    assert found["no rows"]["tail"] == "ZeroDivisionError: division by zero"
    assert found["half"]["exit_codes"] == [0, 1]
    log = (tmp_path / "new" / "folder" / found["good"]["log"]).read_text()
    order = [log.index(f"== {name}:") for name in found]
    assert order == sorted(order)
    assert "fine\n" in log
    assert "end\n" in log
    # Few enough files to be collected from anywhere, and none of them unfinished.
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == [
        "gpu.json", "log.txt", "summary.json",
    ]  # fmt: skip
    assert "timed out" in capsys.readouterr().out


def test_success_is_exit_code_0(tmp_path):
    assert run(tmp_path, [step("good", "0")], [step("lacks", "raise SystemExit(3)")])[0] == 0


def test_everything_ends_in_time_and_what_was_not_reached_is_listed(tmp_path):
    began = time.monotonic()
    sleep = "import time; time.sleep(600)"
    code, found = run(
        tmp_path,
        [step("long", sleep, seconds=500), step("also long", sleep, seconds=500)],
        [step("never", "0")],
        seconds=1.5,
    )
    assert code == 1
    assert time.monotonic() - began < 15
    assert [each["state"] for each in found.values()] == ["timed out", "timed out", "not reached"]
    assert found["never"]["limit"] == 30


def test_a_step_that_ignores_sigterm_ends_with_its_children(tmp_path):
    """So do those of a profiler, which runs the program as its child."""
    file = tmp_path / "child"
    code = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(file)!r}, 'w').write(str(child.pid))\n"
        "time.sleep(600)\n"
    )
    _, found = run(tmp_path / "out", [step("stubborn", code, seconds=3)])
    assert found["stubborn"]["state"] == "timed out"
    status = pathlib.Path(f"/proc/{file.read_text()}/status")
    for _ in range(100):
        # Its end may not have been seen by its new parent yet.
        if not status.exists() or "State:\tZ" in status.read_text():
            return
        time.sleep(0.1)
    pytest.fail("the child still runs")


def test_steps_of_a_group_run_at_the_same_time(tmp_path):
    wait = (
        "import pathlib, time\npathlib.Path({own!r}).touch()\n"
        "while not pathlib.Path({other!r}).exists(): time.sleep(0.01)\n"
    )
    one, other = str(tmp_path / "one"), str(tmp_path / "other")
    codes = [wait.format(own=a, other=b) for a, b in ((one, other), (other, one))]
    _, found = run(tmp_path / "out", [step("a", codes[0]), step("b", codes[1])])
    assert [each["state"] for each in found.values()] == ["ok", "ok"]


def test_sigterm_ends_all_and_keeps_what_was_found(tmp_path):
    code = (
        "import sys\nsys.path.insert(0, 'tests')\n"
        "from test_gpu_first_run import gpu_first_run, step\n"
        "steps = [[step('good', '0')], [step('long', 'import time; time.sleep(600)')]]\n"
        "gpu_first_run.main(sys.argv[1:], steps)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stderr=subprocess.DEVNULL
    )
    while '"ok"' not in (text := _text(tmp_path / "summary.json")):
        time.sleep(0.05)
        assert process.poll() is None, text
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=60)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert not summary["done"]
    assert summary["steps"][0]["state"] == "ok"


def _text(path):
    return path.read_text() if path.exists() else ""


def test_an_unknown_step_is_an_error_of_one_line(tmp_path, capsys):
    assert gpu_first_run.main([str(tmp_path / "out"), "--steps", "warp drive"]) == 2
    assert "no step 'warp drive'; there are first kernel, checks" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# --- The steps themselves -------------------------------------------------------------------------


def test_the_limits_fit_into_eight_minutes():
    assert sum(max(each.seconds for each in group) for group in gpu_first_run.STEPS) < 490
    assert (
        gpu_first_run.parser().parse_args([]).seconds < 480 - 12
    )  # what the last step takes to end
    names = [each.name for group in gpu_first_run.STEPS for each in group]
    assert len(set(names)) == len(names)


def test_results_of_several_processes_are_merged(tmp_path):
    session = Session(tmp_path, tmp_path, True, 2)
    parts = [{"commit": "abc", "done": True, "checks": [{"check": "a"}], "rows": []},
             {"commit": "abc", "done": False, "checks": [{"check": "a"}, {"check": "b"}]},
             {"copy": {"gb_per_s": 4300.0}, "rows": [{"row": "c"}], "done": True}]  # fmt: skip
    for number, part in enumerate(parts):
        (tmp_path / f"{number}.json").write_text(json.dumps(part))
    (tmp_path / "9.json").write_text('{"checks": [')  # one that was being written
    assert gpu_first_run.merged(session) == {
        "commit": "abc", "done": False, "checks": [{"check": "a"}, {"check": "b"}],
        "rows": [{"row": "c"}], "copy": {"gb_per_s": 4300.0},
    }  # fmt: skip


def test_the_rows_furthest_from_their_targets_are_profiled():
    def row(name, ratios, share, bars):
        return {"row": name, "ratios": ratios, "share_of_copy": share, "bars": bars}

    rows = [row("good", {"torch": 3.0}, 0.9, {"torch": 2.0, "copy": 0.7}),
            row("slow", {"torch": 3.0}, 0.35, {"torch": 2.0, "copy": 0.7}),
            row("slower than torch", {"torch": 0.4}, None, {"torch": 1.0}),
            row("no target", {}, None, {}), row("no peer", {}, None, {"torch": 2.0})]  # fmt: skip
    assert gpu_first_run.worst_rows({"rows": rows}) == ["slower than torch", "slow"]
    assert gpu_first_run.worst_rows({}) == []


def test_every_word_of_a_step_names_a_check_or_row():
    from benchmarks import gpu_checks, gpu_derived, gpu_derived_rows, gpu_rows

    rows = {**gpu_rows.rows(None, False), **gpu_derived_rows.rows(None, False)}
    for word in gpu_first_run.ROWS:
        assert any(word in name for name in rows), word
    for quick, words in (
        (False, [": ", gpu_first_run.FIRST + " 3x2"]),
        (True, [*gpu_first_run.SANITIZED, *gpu_first_run.SHARED, gpu_first_run.FIRST + " 2x2"]),
    ):
        checks = {**gpu_checks.checks(None, quick), **gpu_derived.checks(None, quick)}
        assert all(": " in name for name in checks)
        for word in words:
            assert any(word in name for name in checks), word
    assert not any(": " in name for name in rows)


def test_tools_are_found_beside_the_path(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(gpu_first_run, "TOOLS", (f"{tmp_path}/cuda*/bin",))
    assert gpu_first_run.tool_path("ncu") is None
    file = tmp_path / "cuda-13" / "bin" / "ncu"
    file.parent.mkdir(parents=True)
    file.touch()
    assert gpu_first_run.tool_path("ncu") == str(file)


def test_a_training_without_a_gpu_is_skipped(capsys):
    assert gpu_training.main(["cuda"]) == gpu_first_run.SKIPPED
    assert "CuPy" in capsys.readouterr().out


def test_both_trainings_write_to_one_file(tmp_path):
    path = tmp_path / "new" / "training.json"
    gpu_training.add(path, "cpu", {"test_error": 1.0, "long": "x" * 99})
    gpu_training.add(path, "cuda", {"test_error": 1.5})
    gpu_training.add(path, "cpu", {"test_error": 2.0})
    assert json.loads(path.read_text()) == {"cpu": {"test_error": 2.0}, "cuda": {"test_error": 1.5}}


def test_a_rehearsal_in_the_simulator(tmp_path):
    """Without CuPy, compute-sanitizer and ncu, and with PyTorch on the CPU only."""
    pytest.importorskip("numba_cuda", reason="needs the extra cuda12 or cuda13")
    bash = shutil.which("bash")
    steps = ["first kernel", "checks", "tests on the device", "memcheck", "racecheck", "rows",
             "training on the GPU", "ncu"]  # fmt: skip
    done = subprocess.run(
        [bash, str(ROOT / "benchmarks" / "gpu_first_run.sh"), str(tmp_path), "--small",
         "--seconds", "540", "--processes", "2", "--steps", *steps],
        env={**os.environ, "PYTHON": sys.executable, "NUMBA_ENABLE_CUDASIM": "1"},
        capture_output=True, text=True, timeout=590,
    )  # fmt: skip
    summary = json.loads((tmp_path / "summary.json").read_text())
    states = {each["step"]: each["state"] for each in summary["steps"]}
    expected = dict.fromkeys(steps, "ok") | dict.fromkeys(
        ["memcheck", "racecheck", "training on the GPU", "ncu"], "skipped"
    )
    # The simulator is not for this step, which runs without it: no GPU, no test.
    expected["tests on the device"] = "failed"
    assert states == expected, f"{done.stdout}\n{(tmp_path / 'log.txt').read_text()[-3000:]}"
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["copy"]["bytes"] == 1 << 24
    checked = [each["check"] for each in found["checks"]]
    assert any("warp_affine float32" in name for name in checked)
    assert sum("affine_grid" in name for name in checked) == 8
    assert not found["failed"]
