"""What ``python -m benchmarks.gpu_kernels`` finds: launches, registers, and the least times."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="needs the extra cuda12 or cuda13")
from numba import config

if config.ENABLE_CUDASIM:
    pytest.skip("the simulator compiles nothing", allow_module_level=True)

import numba_stn as stn

ROOT = pathlib.Path(stn.__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import gpu_calls, gpu_kernels, gpu_launches, tables  # noqa: E402

PREDICTED = ROOT / "benchmarks" / "results" / "gpu" / "predicted.json"


def test_a_call_is_written_down_and_not_run():
    images, theta = gpu_launches.empty((64, 3, 1024, 1024)), gpu_calls.thetas(64)
    dsamples = gpu_launches.empty(images.shape)
    found = gpu_launches.launches(lambda: stn.warp_affine_vjp(dsamples, images, theta))
    names = [gpu_launches.name_of(each.kernel) for each in found]
    assert [name.partition(" ")[0] for name in names] == [
        "images_gradient.gather", "bilinear.theta_gradient", "sums.theta_sum",
    ]  # fmt: skip
    assert "padding=0" in names[1]
    gather, theta_gradient, _ = found
    assert (gather.blocks, gather.block, gather.threads) == ((32, 16, 64), (32, 8), 256)
    assert gather.sizes == (dsamples.nbytes, theta.nbytes, images.nbytes)
    assert theta_gradient.blocks == (64 * 128,)
    assert gpu_launches.types_of(gather.types) == "float32"
    assert [str(each) for each in gather.types[:2]] == ["array(float32, 1d, C)"] * 2


def test_afterwards_calls_are_what_they_were():
    from numba_stn.kernels.cuda import device

    before = device.cuda, device._configured

    def fail():
        assert device.cuda is not before[0]
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        gpu_launches.launches(fail)
    assert (device.cuda, device._configured) == before
    images = np.ones((1, 1, 2, 2), np.float32)
    assert stn.warp_affine(images, np.eye(2, 3, dtype=np.float32)[None]).tolist() == [
        [[[1, 1]] * 2]
    ]


def test_every_mode_and_padding_is_among_the_calls():
    names = list(gpu_calls.calls())
    for mode in gpu_calls.MODES:
        assert {f"warp_affine {mode}", f"grid_sample {mode}"} <= set(names)
    for padding in set(gpu_calls.PADDINGS) - {"zeros"}:
        assert f"warp_affine {padding}" in names


@pytest.mark.parametrize(
    ("registers", "shared", "warps"),
    [(32, 0, 64), (33, 0, 48), (40, 0, 48), (48, 0, 40), (64, 0, 32), (65, 0, 24), (128, 0, 16),
     (129, 0, 8), (32, 100_000, 16)],
)  # fmt: skip
def test_registers_and_shared_memory_limit_the_warps_at_once(registers, shared, warps):
    """The figures of NVIDIA's table of occupancy, for blocks of 256 threads."""
    assert gpu_kernels.warps_at_once(registers, 256, shared) == warps


def test_what_the_assembler_says(tmp_path):
    said = tmp_path / "ptxas"
    said.write_text(
        "#!/bin/sh\ncat >&2 <<EOF\nptxas info    : Compiling entry function 'k' for 'sm_90'\n"
        "    32 bytes stack frame, 28 bytes spill stores, 24 bytes spill loads\n"
        "ptxas info    : Used 128 registers, used 1 barriers, 6144 bytes smem\nEOF\n"
    )
    said.chmod(0o755)
    assert gpu_kernels.assembled("", str(said)) == {
        "registers": 128, "stack": 32, "spill_stores": 28, "spill_loads": 24, "shared": 6144,
    }  # fmt: skip
    said.write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(subprocess.CalledProcessError):
        gpu_kernels.assembled("", str(said))


def test_without_the_assembler_the_command_is_an_error_of_one_line(monkeypatch, capsys):
    monkeypatch.setattr(gpu_kernels, "assembler", lambda: None)
    assert gpu_kernels.main([]) == 2
    assert capsys.readouterr().err == "python -m benchmarks.gpu_kernels: ptxas was not found\n"


def test_the_least_time_is_that_of_bytes_or_instructions():
    chip = {"copy": 1e12, "issue": 1e13}
    kernels = [{"kernel": "a.copy (x=1)", "registers": 40, "warps": 48, "spill_stores": 0,
                "spill_loads": 0, "length": 90},
               {"kernel": "b.think", "registers": 128, "warps": 16, "spill_stores": 8,
                "spill_loads": 4, "length": 1000}]  # fmt: skip
    found = {"chip": chip, "kernels": kernels, "calls": {
        "first": {"pixels": 10**9, "launches": [
            {"kernel": 0, "bytes": 2 * 10**9, "instructions": 1.0},
            {"kernel": 1, "bytes": 10**9, "instructions": 50.0}]},
        "second": {"pixels": 10**9, "launches": [
            {"kernel": 0, "bytes": 4 * 10**9, "instructions": 1.0}]}}}  # fmt: skip
    assert tables.predicted(found).splitlines()[2:] == [
        "| `first` | 2 | 3.00 | 51 | 3 | 7 |", "| `second` | 1 | 4.00 | 1 | 4 | 4 |",
    ]  # fmt: skip
    assert tables.kernels(found).splitlines()[2:] == [
        "| `first` | `a.copy` | 40 | 48 |  | 90 | 1 | 2.00 | 2 |",
        "| `first` | `b.think` | 128 | 16 | 12 | 1000 | 50 | 1.00 | 5 |",
    ]  # fmt: skip
    assert tables.predicted({}) == tables.kernels({}) == ""


def test_no_kernel_of_float32_is_wide_or_takes_too_many_registers():
    """What was found last; a kernel that changes is looked at again by the command."""
    found = json.loads(PREDICTED.read_text())
    assert set(found["calls"]) == set(gpu_calls.calls())
    for kernel in found["kernels"]:
        if "float64" in kernel["types"]:
            continue
        assert not kernel["double"], kernel
        assert not kernel["local"], kernel
        assert kernel["registers"] <= 128, kernel
        assert kernel["spill_stores"] <= 32, kernel
