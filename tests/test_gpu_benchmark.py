"""``python -m benchmarks.gpu`` without a GPU.

The checks run in a process with Numba's simulator; the rows run on the CPU, with a mock of the
device and of the clock.
"""

import json
import os
import pathlib
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import numba_stn
from numba_stn.bench.rows import disagreement, to_float64
from numba_stn.kernels import cpu_launch

ROOT = pathlib.Path(numba_stn.__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import gpu, gpu_arrays, gpu_checks, gpu_derived_rows, gpu_rows, tables  # noqa: E402

# --- The checks, in the simulator -----------------------------------------------------------------

# As in tests/cuda_simulator_suite.py: one thread at a time, and few of them.
SIMULATED = """
import sys
sys.path.insert(0, "tests")
import simulator
from numba_stn.kernels.cuda import bilinear as cuda, device
import numba_stn as stn
from benchmarks import gpu, gpu_checks
simulator.prepare()
device.MOST_LINE_BLOCKS = 2
BREAK
sys.exit(gpu.main(["--quick", *sys.argv[1:]]))
"""

WRONG_VALUES = """
right = cuda.bilinear
cuda.bilinear = lambda nw, ne, sw, se, weights: right(ne, nw, sw, se, weights)
"""

WRONG_GRADIENTS = """
right = cuda.moments
cuda.moments = lambda gx, gy, x, y: right(gx, gy, y, x)
"""

NAN = """
import math
cuda.bilinear = lambda nw, ne, sw, se, weights: type(nw)(math.nan)
"""

OTHER_BITS = """
import itertools
right, count = cuda.bilinear, itertools.count()
cuda.bilinear = lambda *args: right(*args) + type(args[0])(next(count) * 1e-9)
"""

OTHER_GRADIENTS_DURING_OTHER_WORK = """
import contextlib
from benchmarks.gpu_arrays import Gpu
@contextlib.contextmanager
def busy(gpu):
    right = cuda.moments
    cuda.moments = lambda gx, gy, x, y: right(gx, gy * type(gy)(1 + 1e-6), x, y)
    yield
    cuda.moments = right
Gpu.busy = busy
"""

WRONG_SPLINES = """
from numba_stn.kernels.cuda import tps as cuda_spline
right = cuda_spline.energy_by_log
cuda_spline.energy_by_log = lambda square: right(square) * type(square)(1.01)
"""

RAISES = """
def fail(*args):
    raise ZeroDivisionError("no such pixel")
cuda.moments = fail
"""


def simulated(*words, broken="", **env):
    pytest.importorskip("numba_cuda", reason="needs the extra cuda12 or cuda13")
    return subprocess.run(
        [sys.executable, "-c", SIMULATED.replace("BREAK", broken), *words],
        cwd=ROOT,
        env=os.environ | {"NUMBA_ENABLE_CUDASIM": "1"} | env,
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_the_checks_pass_in_the_simulator(tmp_path):
    path = tmp_path / "new" / "gpu.json"
    words = "edges 2x2x4x5", "same bits: warp_affine float32", "tps_grid float"
    done = simulated("--rows", *words, "--json", path)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "17 of 17 checks passed" in done.stdout
    assert "`warp_affine float32` | dimages |" in done.stdout
    assert "`tps_grid float64` | dcontrol |" in done.stdout
    found = json.loads(path.read_text())
    assert found["done"]
    assert not found["failed"]
    assert found["gpu"]["arrays"] == "numba"
    errors = {part: error for check in found["checks"] if check.get("op") == "warp_affine float64"
              for part, error in check["errors"].items()}  # fmt: skip
    assert set(errors) == {"samples", "dimages", "dtheta"}
    assert all(0 <= error["ours"] <= error["tolerance"] < 1e-12 for error in errors.values())


@pytest.mark.parametrize(
    ("broken", "row", "why"),
    [
        (WRONG_VALUES, "correct: warp_affine float32 border edges 2x2x4x5", "samples is off by"),
        (WRONG_GRADIENTS, "correct: warp_affine float32 zeros edges 1x1x3x1", "dtheta is off by"),
        (NAN, "correct: grid_sample float64 zeros corners 2x2x4x5", "samples is off by nan"),
        (OTHER_BITS, "same bits: grid_sample float64", "samples has other bits the second time"),
        (OTHER_GRADIENTS_DURING_OTHER_WORK, "same bits: warp_affine float64",
         "dtheta has other bits the second time, during other work"),
        (WRONG_SPLINES, "correct: tps_grid float32", "grid is off by"),
        (RAISES, "correct: warp_affine float64 reflection corners 1x1x3x1", "no such pixel"),
    ],
    ids=["values", "gradients", "NaN", "bits", "bits during other work", "splines", "an error"],
)  # fmt: skip
def test_a_broken_kernel_fails_and_names_the_row(broken, row, why, tmp_path):
    path = tmp_path / "gpu.json"
    done = simulated("--rows", row, "--json", path, broken=broken)
    assert done.returncode == 1, f"{done.stdout}\n{done.stderr}"
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    assert row in line
    assert why in line
    (failed,) = json.loads(path.read_text(), parse_constant=pytest.fail)["failed"]
    assert failed["row"].startswith(row)


def test_gradients_are_not_compared_near_a_jump_of_slopes():
    pixels = np.array([2.0, 2.001, 2.25, 2.499, 6.0, 6.3])  # of 8; slopes jump at halves, too
    grid = np.zeros((1, 6, 1, 2))
    grid[0, :, 0, 0] = (2 * pixels + 1) / 8 - 1
    grid[0, :, 0, 1] = 0.3
    far = gpu_checks._far_from_jumps(grid, (1, 8), False)
    assert far.ravel().tolist() == [False, False, True, False, False, True]
    # A side of one pixel with aligned corners has no jumps.
    assert gpu_checks._far_from_jumps(grid, (1, 8), True)[0, 2, 0]


# --- The command without a GPU --------------------------------------------------------------------


@pytest.fixture
def no_driver(monkeypatch):
    pytest.importorskip("numba_cuda", reason="needs the extra cuda12 or cuda13")
    from numba_stn.kernels.cuda import device

    device._require_driver.cache_clear()
    monkeypatch.setattr(device.cuda, "is_available", lambda: False)
    monkeypatch.setattr(device.cuda, "cuda_error", lambda: "no libcuda\nhere")
    yield
    device._require_driver.cache_clear()


def test_a_missing_driver_is_an_error_of_one_line(no_driver, capsys, tmp_path):
    assert gpu.main(["--json", str(tmp_path / "gpu.json")]) == 2
    output, error = capsys.readouterr()
    assert output == ""
    assert error.startswith("python -m benchmarks.gpu: arrays on a GPU need an NVIDIA driver")
    assert 'numba-stn[cuda12]"' in error
    assert error.endswith("no libcuda here\n")
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_missing_numba_cuda_is_an_error_of_one_line():
    hide = ("import sys; sys.modules['numba.cuda'] = None\n"
            "from benchmarks import gpu; sys.exit(gpu.main([]))")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", hide], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert 'numba-stn[cuda12]"' in done.stderr
    assert done.stderr.count("\n") == 1


# --- A mock of the device -------------------------------------------------------------------------


class Events:
    """The time of a device on which each call takes a given number of milliseconds."""

    def __init__(self):
        self.now, self.waited = 0.0, 0

    def event(self):
        def record():
            made.at = self.now

        def synchronize():
            self.waited += 1

        made = SimpleNamespace(record=record, synchronize=synchronize,
                               elapsed_time=lambda later: later.at - made.at)  # fmt: skip
        return made

    def call(self, milliseconds):
        def run():
            run.calls += 1
            self.now += next(each) if each else milliseconds

        each = iter(milliseconds) if isinstance(milliseconds, list) else None
        run.calls = 0
        return run


def test_a_measurement_is_the_mean_of_enough_calls_after_a_warm_up():
    events = Events()
    timer = gpu.Clock(events.event, lambda: None)
    run = events.call([90.0, 60.0])  # the first compiles
    assert timer.call(run) == 60.0
    run = events.call([20.0, 7.0, 9.0])
    assert timer.call(run) == 8.0
    assert events.waited == 4
    short = events.call(0.001)
    timer.call(short)
    assert short.calls == 1 + gpu.MOST_CALLS


def test_measurements_alternate_and_the_median_is_taken():
    order = []
    times = {"ours": iter([1.0, 9.0, 2.0]), "torch": iter([4.0, 5.0, 30.0])}

    def measure(run):
        order.append(run())
        return next(times[order[-1]])

    found = gpu.medians({who: lambda who=who: who for who in times}, 3, measure)
    assert order == ["ours", "torch"] * 3
    assert found == {"ours": 2.0, "torch": 5.0}


def test_launches_are_timed_without_the_device(monkeypatch):
    now, waits = [0.0], []

    def run():
        now[0] += 2e-5

    def synchronize():
        waits.append(now[0])
        now[0] += 1.0

    monkeypatch.setattr(gpu.time, "perf_counter", lambda: now[0])
    timer = gpu.Clock(None, synchronize)
    assert timer.launch(run) == pytest.approx(0.02)
    assert len(waits) == 2  # after the warm-up, and after the last call


class OnCPU:
    """A mock of the device: the CPU."""

    arrays = "numba"

    def __init__(self, cupy=None):
        self.events = Events()
        self.cupy, self.torch = cupy, sys.modules.get("torch")
        copied = SimpleNamespace(copy_to_device=lambda source: self.events.call(2.0)())
        self.cuda = SimpleNamespace(
            event=self.events.event,
            synchronize=lambda: None,
            to_device=lambda array: array,
            device_array=lambda *kind: copied,
        )

    def put(self, array):
        return array

    def tensor(self, array):
        return None if array is None else self.torch.as_tensor(array).detach()

    def l2(self):
        return 1 << 20

    def free(self):
        pass

    def about(self):
        return {"name": "a mock", "compute_capability": "0.0", "runtime": "0.0",
                "arrays": self.arrays}  # fmt: skip


@pytest.fixture
def on_cpu(monkeypatch):
    """The benchmark with a mock of the device; SciPy's ndimage takes the place of cupyx."""
    pytest.importorskip("torch")
    monkeypatch.setitem(sys.modules, "cupyx.scipy.ndimage", pytest.importorskip("scipy.ndimage"))
    device = OnCPU(cupy=np)
    monkeypatch.setattr(gpu, "Gpu", lambda arrays: device)

    def call(self, run):
        run()
        device.events.call(0.5)()
        return 0.5

    monkeypatch.setattr(gpu.Clock, "call", call)
    monkeypatch.setattr(gpu, "LAUNCHES", 1)
    return device


def test_every_library_does_the_same_work_in_every_row(on_cpu):
    timer = gpu.Clock(on_cpu.cuda.event, on_cpu.cuda.synchronize)
    for name, row in gpu_rows.rows(on_cpu, quick=True).items():
        found = gpu.measure(name, row, on_cpu, timer, 1, 100.0)
        assert not found["disagree"], name
        assert not found["absent"], name
        assert set(found["ratios"]) == set(row.makers) - {"ours"}
        assert set(row.targets) - {"copy"} <= set(found["ratios"])
        json.dumps(found)


def test_rows_of_functions_built_on_the_sampler(on_cpu, monkeypatch):
    """In float64, whose kernels other tests have compiled; two of them have no peer."""
    monkeypatch.setattr(cpu_launch, "PARALLEL_WORK", 10**9)
    peers = []
    for name, row in gpu_derived_rows.rows(on_cpu, quick=True).items():
        problem = to_float64(row.problem())
        runners = {who: make(problem) for who, make in row.makers.items()}
        results = {who: runner.read(runner.run()) for who, runner in runners.items()}
        for result in results.values():
            # PyTorch's basis functions are rounded to float32.
            assert not disagreement(result, results["ours"], 1e-6), name
        peers.append(set(results) - {"ours"})
    assert peers == [set(), set(), {"torch"}, {"torch"}]


def test_targets_are_those_of_the_project():
    targets = {name: dict(row.targets) for name, row in gpu_rows.rows(OnCPU(), quick=False).items()}
    large = {"copy": 0.7, "torch": 2.0, "cupyx": 3.0}
    assert targets == {
        "warp_affine 64x3x1024x1024": large,
        "warp_affine 16x1x4096x4096": large,
        "both ways 64x3x1024x1024": {"torch": 2.0},
        "both ways 16x1x4096x4096": {"torch": 2.0},
        "both ways 256x1x42x42": {"torch": 2.0},
        "grid_sample 16x1x2048x2048": {"torch": 1.0},
        "grid_sample backward 16x1x2048x2048": {"torch": 1.0},
        "Adam step, paper's ST-CNN, batch 256": {"torch": 1.0},
        "launch of warp_affine 1x1x28x28": {},
    }
    row = gpu_rows.rows(OnCPU(), quick=False)["warp_affine 64x3x1024x1024"]
    assert row.moved_bytes == 2 * 4 * 64 * 3 * 1024**2


def test_small_inputs_come_in_enough_sets_to_exceed_the_cache():
    p = gpu_rows.GridProblem(*[np.zeros(1 << 18, np.float32)] * 3)
    assert gpu.copies(p, 50 << 20) == 64
    assert gpu.copies(p, 6 << 20) == 8
    assert gpu.copies(p, 1 << 10) == 1
    each = gpu.cycle([lambda: 1, lambda: 2])
    assert [each() for _ in range(3)] == [1, 2, 1]


def test_the_command_writes_its_results(on_cpu, tmp_path, monkeypatch, capsys):
    path, states = tmp_path / "new" / "gpu.json", []
    whole = gpu.write_atomically
    monkeypatch.setattr(
        gpu, "write_atomically", lambda *args: (whole(*args), states.append(path.read_text()))
    )
    words = ["--quick", "--rounds", "2", "--commit", "abc", "--json", str(path),
             "--rows", "copy", "warp_affine 4x3", "Adam"]  # fmt: skip
    assert gpu.main(words) == 0
    output, found = capsys.readouterr().out, json.loads(path.read_text())
    assert found["done"]
    assert found["command"] == " ".join(["python -m benchmarks.gpu", *words])
    assert (found["commit"], found["rounds"], found["quick"]) == ("abc", 2, True)
    assert found["gpu"]["name"] == "a mock"
    assert found["copy"] == {"bytes": 1 << 24, "gb_per_s": round(2 * (1 << 24) / 0.5 / 1e6, 1)}
    row, step = found["rows"]
    share = row["share_of_copy"]
    moved = 2 * 4 * 4 * 3 * 64 * 80
    assert share == round(moved / 0.5 / 1e6 / found["copy"]["gb_per_s"], 3)
    assert row["ratios"] == {"torch": 1.0, "cupyx": 1.0}
    assert step["row"] == "Adam step, paper's ST-CNN, batch 8"
    assert [each.name for each in path.parent.iterdir()] == ["gpu.json"]
    # The file is written after every part, and is complete each time.
    assert [len(json.loads(state)["rows"]) for state in states] == [0, 0, 1, 2, 2]
    assert "70 % of copy: MISSED; 2 x PyTorch: MISSED; 3 x CuPy: MISSED" in output
    assert "1 x PyTorch: reached" in output


def test_a_result_that_differs_is_named_and_fails(on_cpu, monkeypatch, capsys):
    right = gpu_rows.warps.torch_forward

    def wrong(p):
        runner = right(p)
        return runner._replace(run=lambda: runner.run() * 1.01)

    monkeypatch.setattr(gpu_rows.warps, "torch_forward", wrong)
    assert gpu.main(["--quick", "--rows", "warp_affine 4x3x64x80"]) == 1
    output = capsys.readouterr().out
    assert "FAILED: warp_affine 4x3x64x80: NOT torch: samples differs" in output
    assert "2 x PyTorch: not measured" in output


def test_impossible_rows_are_skipped_with_a_reason(on_cpu, monkeypatch, capsys):
    on_cpu.cupy = None
    assert gpu.main(["--quick", "--rows", "Adam", "warp_affine 4x3"]) == 0
    output = capsys.readouterr().out
    assert "skipped: Adam step, paper's ST-CNN, batch 8: numba_stn.nn needs CuPy" in output
    assert "warp_affine 4x3x64x80: without cupyx: CuPy is not installed" in output

    def full(*args, **options):
        raise RuntimeError("[2] Call to cuMemAlloc results in CUDA_ERROR_OUT_OF_MEMORY")

    monkeypatch.setattr(numba_stn, "warp_affine", full)
    assert gpu.main(["--quick", "--rows", "warp_affine 4x3"]) == 0
    assert "skipped: warp_affine 4x3x64x80: RuntimeError: [2]" in capsys.readouterr().out
    monkeypatch.setattr(numba_stn, "warp_affine", lambda *args, **options: 1 / 0)
    assert gpu.main(["--quick", "--rows", "warp_affine 4x3"]) == 1
    assert "FAILED: warp_affine 4x3x64x80: ZeroDivisionError" in capsys.readouterr().out


def test_a_wrong_row_or_file_is_an_error_of_one_line(on_cpu, capsys):
    for words, why in ((["--rows", "warp_drive"], "no row's name contains 'warp_drive'"),
                       (["--json", f"{__file__}/gpu.json"], "cannot write to")):  # fmt: skip
        assert gpu.main(["--quick", *words]) == 2
        error = capsys.readouterr().err
        assert why in error
        assert error.count("\n") == 1


def test_arrays_of_every_library_are_copied_to_the_host():
    array = np.arange(3.0)
    for kind in ({"copy_to_host": lambda: array}, {"get": lambda: array}):
        assert gpu_arrays.host(SimpleNamespace(**kind)) is array
    torch = pytest.importorskip("torch")
    tensor = torch.tensor(array, requires_grad=True)
    np.testing.assert_array_equal(gpu_arrays.host(tensor), array)


def test_the_table_of_errors_has_the_largest():
    kinds = [{"ours": 1e-8, "torch": 3e-7, "tolerance": 1e-6},
             {"ours": 1e-7, "torch": 2e-7, "tolerance": 1e-3},
             {"ours": None, "tolerance": 1e-6}]  # fmt: skip
    listed = [{"op": "warp", "errors": {"samples": kind}} for kind in kinds]
    assert "| `warp` | samples | 1.0e-08 | 3.0e-07 | 1.0e-06 |" in tables.gpu_errors(
        {"checks": listed[:2]}
    )
    assert "| NaN |  | 1.0e-06 |" in tables.gpu_errors({"checks": listed})
