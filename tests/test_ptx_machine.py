"""The compiled kernels, run on the CPU instruction by instruction, compute what the CPU's do.

The simulator runs a kernel's Python source. Here its PTX runs (:mod:`benchmarks.ptx_machine`):
types, widths of integers, barriers and addresses are those of the compiled code.
"""

import pathlib
import sys

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="needs the extra cuda12 or cuda13")
from numba import config

if config.ENABLE_CUDASIM:
    pytest.skip("the simulator compiles nothing", allow_module_level=True)

import numba_stn as stn

sys.path.insert(0, str(pathlib.Path(stn.__file__).parents[1]))

import reference

from benchmarks import gpu_kernels, gpu_launches, ptx_machine
from numba_stn.kernels.cuda import device


def on_machine(call, *arrays):
    """The results of a call whose kernels run on the machine, as NumPy's arrays."""
    arrays = [gpu_launches.pretended(array) for array in arrays]
    with gpu_launches.recording() as found:
        results = call(*arrays)
        for launch in found:
            kernel = ptx_machine.Kernel(gpu_kernels.ptx_of(launch))
            kernel.launch(launch.blocks, launch.block, launch.args)
    results = results if isinstance(results, tuple) else (results,)
    return [np.asarray(result) for result in results]


@pytest.fixture
def few_threads(monkeypatch):
    """Few threads in all, but several blocks."""
    monkeypatch.setattr(device, "MOST_LINE_BLOCKS", 2)


def draw(real=np.float32):
    rng = np.random.default_rng(0)
    images = rng.standard_normal((2, 2, 4, 5)).astype(real)
    theta = (np.eye(2, 3) + 0.4 * rng.standard_normal((2, 2, 3))).astype(real)
    return images, theta, rng.standard_normal((2, 2, 3, 7)).astype(real)


@pytest.mark.parametrize("padding", ["zeros", "reflection"])
def test_an_affine_warp_and_its_gradients(padding, few_threads):
    images, theta, dsamples = draw()

    def call(images, theta, dsamples):
        samples = stn.warp_affine(images, theta, (3, 7), padding_mode=padding)
        return samples, *stn.warp_affine_vjp(dsamples, images, theta, padding_mode=padding)

    got = on_machine(call, images, theta, dsamples)
    want = [reference.warp_affine(images, theta, (3, 7), padding_mode=padding)]
    want += reference.warp_affine_vjp(dsamples, images, theta, padding_mode=padding)
    for one, other in zip(got, want, strict=True):
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, other, atol=2e-5 * np.abs(other).max())


def test_samples_by_a_grid_and_their_gradients(few_threads):
    images, _, dsamples = draw(np.float64)
    grid = np.random.default_rng(1).uniform(-1.6, 1.6, (2, 3, 7, 2))

    def call(images, grid, dsamples):
        return stn.grid_sample(images, grid), *stn.grid_sample_vjp(dsamples, images, grid)

    got = on_machine(call, images, grid, dsamples)
    want = [reference.grid_sample(images, grid, "zeros")]
    want += reference.grid_sample_vjp(dsamples, images, grid, padding_mode="zeros")
    for one, other in zip(got, want, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12 * np.abs(other).max())


# --- The machine itself ---------------------------------------------------------------------------

HEAD = ".visible .entry kernel(\n.param .u64 a,\n.param .u64 b\n)\n{\n"


def one_line(instruction, value, kind):
    """The result of an instruction with one operand, given as the bits of a register."""
    kernel = ptx_machine.Kernel(f".entry k(\n.param .{kind} a\n)\n{{\n{instruction};\nret;\n}}")
    state = ptx_machine._State(kernel, [value], None, (0,), (0,), (1,), (1,))
    state.registers["%x"] = value
    with np.errstate(all="ignore"):
        state.run(kernel.code[0])
    return state.registers["%y"]


@pytest.mark.parametrize(
    ("instruction", "value", "result"),
    [
        ("cvt.rzi.s32.f32 %y, %x", np.float32(-2.7), -2),
        ("cvt.rmi.f32.f32 %y, %x", np.float32(-2.2), -3),
        ("cvt.rzi.s32.f32 %y, %x", np.float32(np.nan), 0),
        ("cvt.rzi.s32.f32 %y, %x", np.float32(1e30), 2**31 - 1),
        ("cvt.u32.u64 %y, %x", 2**32 + 5, 5),
        ("cvt.s64.s32 %y, %x", 2**32 - 1, -1),
        ("add.s32 %y, %x, 1", 2**31 - 1, -(2**31)),
        ("shr.u32 %y, %x, 4", -16, 2**28 - 1),
        ("shr.s32 %y, %x, 4", -16, -1),
        ("div.s32 %y, %x, 2", -7, -3),
        ("rem.s32 %y, %x, 4", -7, -3),
        ("mul.wide.s32 %y, %x, -2", 2**30, -(2**31)),
        ("mul.hi.s64 %y, %x, 4", 2**62, 1),
        ("setp.neu.f32 %y, %x, 0f00000000", np.float32(np.nan), True),
        ("setp.ne.f32 %y, %x, 0f00000000", np.float32(np.nan), False),
        ("setp.lt.u32 %y, %x, 1", -1, False),
        ("not.pred %y, %x", True, False),
        ("max.f32 %y, %x, 0f3F800000", np.float32(np.nan), 1),
        ("mad.lo.s32 %y, %x, 3, 4", 5, 19),
        ("selp.b32 %y, 7, 8, %x", True, 7),
    ],
)
def test_instructions(instruction, value, result):
    kind = "f32" if isinstance(value, np.floating) else "s64"
    assert one_line(instruction, value, kind) == result


def test_registers_are_split_and_joined():
    text = (
        ".entry k(\n.param .u64 a\n)\n{\nmov.b64 {%r1, %r2}, %x;\nmov.b64 %fd1, {%r1, %r2};\n"
        "add.f64 %y, %fd1, 0d3FF0000000000000;\nret;\n}"
    )
    kernel = ptx_machine.Kernel(text)
    state = ptx_machine._State(kernel, [0], None, (0,), (0,), (1,), (1,))
    state.registers["%x"] = int(np.float64(-2.75).view(np.uint64))
    for instruction in kernel.code[:3]:
        state.run(instruction)
    assert state.registers["%y"] == -1.75


def test_an_address_outside_all_arrays_is_an_error():
    names = ",\n".join(f".param .u64 {name}" for name in "abcdefg")  # of an array; e is its address
    body = "ld.param.u64 %r, [e];\nst.global.f32 [%r+AT], 0f3F800000;\nret;\n"
    text = f".entry k(\n{names}\n)\n{{\n{body}}}"
    array = np.zeros(3, np.float32)
    ptx_machine.Kernel(text.replace("AT", "8")).launch((1,), (1,), [array])
    assert array.tolist() == [0, 0, 1]
    for at in ("12", "10", "-4"):
        with pytest.raises(IndexError, match="outside all arrays"):
            ptx_machine.Kernel(text.replace("AT", at)).launch((1,), (1,), [array])


def test_an_unknown_instruction_is_refused():
    with pytest.raises(NotImplementedError, match="wgmma"):
        ptx_machine.Kernel(f"{HEAD}wgmma.mma.f32 %a, %b;\nret;\n}}")
