"""The comparison with the peers: all do the same work, and the report holds the results."""

import itertools
import json
import os
import pathlib
import re
import subprocess
import sys
import time
import types

import numpy as np
import pytest

import numba_stn
import numba_stn as stn
from numba_stn.bench import (
    cells,
    clock,
    grids,
    images,
    memory,
    report,
    resizes,
    rows,
    splines,
    sweep,
    training_steps,
    warps,
)
from numba_stn.cli import main

ROOT = pathlib.Path(numba_stn.__file__).parents[1]

SMALL = {
    "warp_affine": warps.forward(1, 3, 20, 33),
    "a batch": warps.forward(3, 2, 7, 9, angle=5, zoom=2),
    "both ways": warps.both_ways(2, 3, 12, 17),
    "theta": warps.both_ways(1, 1, 9, 8, wrt=("theta",)),
    "theta alone": warps.to_theta_alone(1, 2, 9, 8),
    "grid_sample": grids.row(40),
    "tps": splines.row(2, 3, 20, 33),
    "warp_image": images.row("uint8", 200, 300, 3),
    "resize": resizes.row("float32", (13, 30), sides=(20, 33)),
    "resize area": resizes.row("uint8", (7, 11), 3, "area", sides=(20, 33)),
    "resize cubic": resizes.row("float32", (7, 11), 3, "cubic", sides=(20, 33)),
    "training": training_steps.row(training_steps.tutorial, 3),
}


def libraries(row):
    return set(rows.runners(row, row.problem()))


# --- Rows -----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_every_library_does_the_same_work(name):
    found = report.measure(name, SMALL[name], 1)
    assert found["ours_ms"] > 0
    assert not found["disagree"]
    assert set(found["ratios"]) == libraries(SMALL[name]) - {"ours"}
    for part, error in found["errors"].items():
        assert error["ours"] < 1e-5, part


@pytest.mark.slow
def test_our_errors_are_no_larger_than_those_of_pytorch():
    pytest.importorskip("torch")
    for row in (warps.forward(1, 1, 300, 500), warps.both_ways(1, 1, 200, 300), grids.row(300)):
        found = report.measure("row", row, 1)["errors"]
        assert found
        assert all(0 < error["ours"] <= error["torch"] for error in found.values())


def test_the_peers_agree_with_a_slow_warp_image(monkeypatch):
    """A slow and obvious warp_image replaces ours, for uint8 and float32."""
    pytest.importorskip("scipy")

    def warp_image(image, matrix, out):
        from scipy.ndimage import affine_transform

        linear, shift = matrix[::-1, [1, 0]], matrix[::-1, 2]
        for channel in range(image.shape[2]):
            values = affine_transform(image[..., channel].astype(float), linear, shift,
                                      order=1, mode="grid-constant")  # fmt: skip
            out[..., channel] = values if image.dtype.kind == "f" else np.rint(values)
        return out

    monkeypatch.setattr(numba_stn, "warp_image", warp_image, raising=False)
    for dtype in ("uint8", "float32"):
        row = images.row(dtype, 50, 70, 3)
        small = rows.Row(row.op, lambda dtype=dtype: images.problem(dtype, 50, 70), row.makers)
        assert "scipy" in report.measure("row", small, 1)["ratios"]


def test_results_that_differ_are_not_timed():
    row = SMALL["warp_affine"]

    def other(p):
        runner = row.makers["ours"](p)
        return runner._replace(read=lambda samples: {"samples": samples * 1.01})

    wrong = rows.Row(row.op, row.problem, {"ours": row.makers["ours"], "other": other})
    found = report.measure("row", wrong, 1)
    assert found["ratios"] == {}
    assert found["disagree"]["other"].startswith("samples differs by up to 0.01 in")
    assert "NOT other: samples differs" in report.ratios(found)
    with pytest.raises(ValueError, match="zeros"):
        rows.relative_difference(np.zeros(3), np.zeros(3))


def test_a_disagreement_is_the_exit_code(monkeypatch, capsys):
    row = report.ROWS["warp_affine 1x1x28x28"]

    def other(p):
        return row.makers["ours"](p)._replace(read=lambda samples: {"samples": samples * 2})

    wrong = rows.Row(row.op, row.problem, {"ours": row.makers["ours"], "other": other})
    monkeypatch.setitem(report.ROWS, "warp_affine 1x1x28x28", wrong)
    assert main(["bench", "1x1x28x28", "--rounds", "1"]) == 1
    assert "NOT other" in capsys.readouterr().out


def test_missing_libraries_and_functions_are_left_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert "torch" not in libraries(SMALL["warp_affine"])
    assert report.measure("row", SMALL["warp_affine"], 1)["errors"] == {}
    monkeypatch.setattr(numba_stn, "warp_affine", None)  # as in a commit that has no such function
    assert report.measure("row", SMALL["warp_affine"], 1) == {}


def test_a_slow_library_is_timed_less_often():
    runs = {"slow": lambda: time.sleep(0.03), "quick": lambda: None}
    times = clock.interleaved_times(runs, rounds=5, patience=0.05)
    assert {who: len(each) for who, each in times.items()} == {"slow": 1, "quick": 5}
    assert times["slow"][0] >= 0.03


def test_every_point_of_a_sweep_has_a_name():
    points = sweep.points()
    assert len({sweep.name(point) for point in points}) == len(points)
    small = [{**point, "shape": (1, 1, 9, 11)} for point in points[:1]]
    found = sweep.table(iter(small), 1)
    assert found[0]["ns_per_sample"] > 0
    assert "angle 0" in sweep.line(found[0])


def test_every_cell_has_a_name_and_there_are_as_many_as_the_docs_say():
    families = cells.families()
    assert {op: len(every) for op, every in families.items()} == {
        "warp_image": 324, "resize": 60, "warp_affine": 162, "warp_affine both ways": 162,
    }  # fmt: skip
    names = [cells.name(cell) for every in families.values() for cell in every]
    assert len(set(names)) == len(names)


def test_cells_are_measured_and_the_slowest_named(monkeypatch):
    small = [
        cells.Cell("warp_image", (9, 8, 3), "uint8", "bilinear", "border", cells.MAPS[1]),
        cells.Cell("resize", (9, 8), "float32", "bilinear", "border", cells.RESIZES[3]),
        cells.Cell("warp_affine", (1, 1, 9, 8), "float32", "nearest", "zeros", cells.MAPS[0]),
        cells.Cell("warp_affine both ways", (1, 1, 9, 8), "float32", "bilinear", "zeros",
                   cells.MAPS[0]),
    ]  # fmt: skip
    monkeypatch.setattr(clock, "LEAST_SECONDS", 1e-4)
    found = cells.measure(small, 1)
    assert [each["cell"] for each in found] == [cells.name(cell) for cell in small]
    assert all(each["ratio"] > 0 and not each["disagree"] for each in found)
    lines = cells.summary(found)
    assert sum("1 cells, times" in line for line in lines) == 4
    assert any(line.endswith(cells.name(small[0])) for line in lines)


def test_a_cell_below_the_limit_is_an_error(monkeypatch, capsys):
    cell = cells.Cell("resize", (9, 8), "float32", "bilinear", "border", cells.RESIZES[3])
    monkeypatch.setattr(cells, "families", lambda: {"resize": [cell]})
    ratios = iter([0.4, 0.6])
    monkeypatch.setattr(
        clock, "interleaved_times", lambda runs, *_: {"ours": [1.0], "cv2": [next(ratios)]}
    )
    assert main(["bench", "--cells", "--least", "0.5"]) == 1
    assert "below 0.5: resize, 9x8 float32" in capsys.readouterr().err
    assert main(["bench", "--cells", "--least", "0.5"]) == 0


def test_a_peer_whose_cell_differs_is_named_and_not_timed(monkeypatch):
    cell = cells.Cell("resize", (9, 8), "float32", "bilinear", "border", cells.RESIZES[3])
    right = cells.libraries(cell)
    wrong = right | {"cv2": lambda: right["cv2"]() + 1}
    monkeypatch.setattr(cells, "libraries", lambda cell: wrong)
    (found,) = cells.measure([cell], 1)
    assert found["ratio"] is None
    assert "on average" in found["disagree"]
    assert "NOT cv2" in cells.summary([found])[0]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can reset peak memory")
def test_forward_and_backward_need_memory_only_for_their_results():
    needed, ratio = memory._in_new_process("ours", (1, 3, 1080, 1920))
    assert needed == 4 * 3 * 1080 * 1920 * 4 + 2 * 24
    assert 0.99 < ratio < 1.1


# --- The command ----------------------------------------------------------------------------------


def test_the_command_writes_its_results(tmp_path, capsys):
    path = tmp_path / "new" / "figures.json"
    assert main(["bench", "1x1x28x28", "--rounds", "2", "--json", str(path)]) == 0
    assert capsys.readouterr().out.startswith("warp_affine 1x1x28x28")
    found = json.loads(path.read_text())
    assert [row["row"] for row in found["rows"]] == ["warp_affine 1x1x28x28"]
    assert found["rounds"] == found["rows"][0]["rounds"]["ours"] == 2
    assert found["machine"]["threads"]["numba"] >= 1
    speedup = found["machine"]["threads_worth"]
    assert 0 < speedup["least"] <= speedup["median"] <= speedup["most"]
    assert {"numba", "numpy"} <= set(found["machine"]["versions"])
    assert [each.name for each in path.parent.iterdir()] == ["figures.json"]


def test_the_command_lists_its_rows(capsys):
    assert main(["bench", "--list", "grid_sample", "memory"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert listed == [*(name for name in report.ROWS if "grid_sample" in name), "memory"]
    assert {*grids.ROWS} < {*listed}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["warp_drive"], "no row's name contains 'warp_drive'"),
        (["28x28", "--sweep"], "--sweep: expected no row names"),
        (["--cells", "--sweep"], "--cells: expected no --sweep"),
        (["--least", "0.5"], "--least: expected --cells"),
        (["--cells", "warp_drive"], "no operation with cells contains 'warp_drive'"),
        (["1x1x28x28", "--json", f"{__file__}/figures.json"], "cannot be written to"),
        (["1x1x28x28", "--json", str(ROOT)], "expected a file name, got a folder"),
    ],
)
def test_a_wrong_option_is_one_line(options, message, capsys):
    assert main(["bench", *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_the_module_is_the_same_command():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.compare", "--list"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.splitlines() == report.choose([])


# --- The docs' tables -----------------------------------------------------------------------------


def test_the_docs_hold_the_committed_results():
    command = [sys.executable, "-m", "benchmarks.tables", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_tables_are_filled_from_files(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks import tables

    row = {"row": "this", "ours_ms": 2.0, "ratios": {"cv2": 0.5, "torch": 3.0},
           "errors": {"samples": {"ours": 1e-7, "torch": 2e-6}}}  # fmt: skip
    point = {"what": "forward", "sweep": "size", "value": 64, "ns_per_sample": 0.5, "ratios": {}}
    peak = {"row": "this", "needed_mib": 9.5, "peaks": {"torch": 2.5, "ours": 1.0}}
    found = {"rows": [row], "sweep": [point], "memory": [peak],
             "startup": [{"what": "python", "seconds": 0.0404}]}  # fmt: skip
    (tmp_path / "new.json").write_text(json.dumps(found))
    kinds = ("rows", "losses", "errors", "memory", "startup", "sweep size", "sweep angle")
    page = "".join(f"<!-- new.json: {kind} -->\nold\n<!-- end -->\n" for kind in kinds)
    filled = tables.filled(page + "<!-- absent.json: rows -->\n<!-- end -->\n", tmp_path)
    assert "old" not in filled
    for line in (
        "|  | numba_stn, ms | PyTorch, times ours | OpenCV, times ours |",
        "| `this` | 2 | 3.00 | 0.50 |",
        "Losses: `this` (OpenCV, 0.50).",
        "| `this` | samples | 1.0e-07 | 2.0e-06 |",
        "| `this` | 9.5 | 1.0 | 2.5 |",
        "| `python` | 0.0404 |",
        "| forward | 64 | 0.5 |",
    ):
        assert line in filled
    assert filled.count(tables.ABSENT) == 2
    assert tables.filled(filled, tmp_path) == filled


def test_the_papers_table_takes_the_means_of_seeds(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks import tables

    run = {"task": "R", "model": "st-cnn", "transform": "affine", "transformers": 1, "epochs": 36,
           "views": 3, "parameters": 191464, "validation_error": 0.4, "test_error": 0.5,
           "seconds": 540, "commit": "7d83dd48eb"}  # fmt: skip
    other = run | {"validation_error": 0.5, "test_error": 0.6, "seconds": 660}
    assert "| R | ST-CNN affine | 2 | 36 | 3 | 191,464 | 0.45 | 0.55 | 10 | 7d83dd4 |" in (
        tables.trained({"runs": [run, other]}).splitlines()
    )
    assert "| ST-CNN affine | **0.55** ± 0.07 (0.7) |" in tables.paper({"runs": [run, other]})
    assert tables.paper({}) == tables.trained({}) == ""


# --- asv ------------------------------------------------------------------------------------------


def test_every_public_operation_has_a_suite():
    """asv finds benchmarks by these names; asv check in .ci/run does the rest."""
    suites = ROOT / "benchmarks" / "benchmarks"
    text = "".join(path.read_text() for path in suites.glob("*.py"))
    timed = set(re.findall(r"def time_(\w+)", text))
    # Derivatives are timed with their operation ("both ways"), or in a few of their own.
    derivative = re.compile(r"\w+_(vjp|jvp|gauss_newton)")
    functions = {
        name for name in stn.__all__ if isinstance(getattr(stn, name), types.FunctionType)
        and not derivative.fullmatch(name)
    }  # fmt: skip
    # A remap at polar positions; the same kernels; the same call prepared; arithmetic.
    polar, plan = {"warp_polar", "unwarp_polar", "polar_grid"}, {"plan_warp"}
    plan |= {"crop_and_resize_volume"}
    arithmetic = {"compose_theta", "invert_theta", "identity_theta", "control_points",
                  "transform_points", "transform_boxes", "grid_from_pixels",
                  "grid_from_displacement", "pixels_from_grid"}  # fmt: skip
    assert functions - polar - plan - arithmetic <= timed


def test_every_suite_prepares_a_row_for_each_of_its_cases(monkeypatch):
    from benchmarks.benchmarks import common

    monkeypatch.setattr(common.Operation, "prepare", lambda self, row: setattr(self, "row", row))
    monkeypatch.setattr(common.Operation, "ratio", lambda self, who: who in self.row.makers)
    suites = [suite for suite in common.suites() if suite.__name__ != "DigitsEpoch"]
    assert len(suites) > 20
    for suite in suites:
        compared: dict[str, list] = {}
        for case in itertools.product(*getattr(suite, "params", [])):
            prepared = suite()
            prepared.setup(*case)
            assert "ours" in prepared.row.makers, (suite, case)
            for name in vars(suite):
                if name.startswith("track_"):
                    compared.setdefault(name, []).append(getattr(prepared, name)(*case))
        assert all(map(any, compared.values())), (suite, compared)  # a peer for one case at least


def test_suites_are_imported_by_themselves(tmp_path):
    """As asv does: the folder is a package by itself, next to any installed numba_stn."""
    code = (
        "import sys, os; sys.path.insert(0, FOLDER)\n"
        "import benchmarks.warps, benchmarks.processes, benchmarks.common as common\n"
        "common.bench('report')\n"
        "print(os.environ['NUMBA_CACHE_DIR'], 'numba_stn.bench' in sys.modules)"
    ).replace("FOLDER", repr(str(ROOT / "benchmarks")))
    env = os.environ | {"ASV_ENV_DIR": str(tmp_path), "ASV_COMMIT": "abc"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.stdout == f"{tmp_path / 'numba' / 'abc'} False\n", done.stderr
