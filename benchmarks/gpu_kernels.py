"""What can be known of the CUDA kernels without a GPU: ``python -m benchmarks.gpu_kernels``.

Every kernel that the calls of :mod:`.gpu_calls` launch is compiled to PTX, and ``ptxas -v``, which
comes with NVIDIA's package of its compiler, says how many registers it takes, what it spills, and
how much local memory it uses. From the sizes of the arrays follow the bytes that must be moved, and
from these the least time on a GPU: predictions for the first measurement.
"""

import argparse
import contextlib
import importlib
import importlib.util
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from numba_stn.kernels.cuda import device
from numba_stn.utils.atomic_write import write_atomically
from numba_stn.utils.commit import current_commit
from numba_stn.utils.progress import progress

from . import gpu_calls
from .gpu_launches import Launch, launches, name_of, types_of
from .ptx_machine import Kernel


class Chip(NamedTuple):
    """What limits kernels on a GPU."""

    name: str
    capability: tuple[int, int]
    processors: int
    registers: int  # of a multiprocessor
    threads: int  # the most that a multiprocessor has at a time
    shared: int  # bytes of shared memory of a multiprocessor
    copy: float  # bytes per second that a copy reads and writes
    issue: float  # instructions of threads per second: four warps a cycle on each multiprocessor


H200 = Chip("H200", (9, 0), 132, 65_536, 2048, 233_472, 4.3e12, 132 * 4 * 32 * 1.98e9)

Found = dict[str, Any]


# --- Compile --------------------------------------------------------------------------------------


def ptx_of(launch: Launch, capability: tuple[int, int] = H200.capability) -> str:
    """The kernel as PTX, for the types of a launch."""
    kernel = launch.kernel
    bounds = kernel.targetoptions.get("launch_bounds")
    with without_device(capability):
        text, _ = device.cuda.compile_ptx(
            kernel.py_func, launch.types, cc=capability, launch_bounds=bounds
        )
    return text


@contextlib.contextmanager
def without_device(capability: tuple[int, int]) -> Iterator[None]:
    """Context in which kernels are compiled for a GPU of this capability, which need not be there.

    Device functions ask for the current device.
    """
    if device.PACKAGE == "numba-cuda":
        module, name = importlib.import_module("numba.cuda.dispatcher"), "get_current_device"
        value: Any = lambda: SimpleNamespace(compute_capability=capability)  # noqa: E731
    else:
        module, name = importlib.import_module("numba_cuda_mlir.tools"), "_cached_cc"
        value = capability
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


def assembler() -> str | None:
    """The path of ``ptxas``: NVIDIA's package for pip has it, or a CUDA toolkit."""
    for package in ("nvidia.cuda_nvcc", "nvidia.cu13"):
        with contextlib.suppress(ModuleNotFoundError):
            spec = importlib.util.find_spec(package)
            for folder in spec.submodule_search_locations if spec else ():
                file = pathlib.Path(folder) / "bin" / "ptxas"
                if file.exists():
                    return str(file)
    return shutil.which("ptxas")


def assembled(text: str, ptxas: str, capability: tuple[int, int] = H200.capability) -> Found:
    """What ``ptxas -v`` says of a kernel in PTX: its registers and bytes of memory."""
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder) / "kernel.ptx"
        source.write_text(text)
        command = [ptxas, "-v", f"-arch=sm_{capability[0]}{capability[1]}", str(source)]
        command += ["-o", f"{folder}/kernel.cubin"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {what: _number(pattern, done.stderr) for what, pattern in _SAID.items()}


_SAID = {
    "registers": r"Used (\d+) registers",
    "stack": r"(\d+) bytes stack frame",
    "spill_stores": r"(\d+) bytes spill stores",
    "spill_loads": r"(\d+) bytes spill loads",
    "shared": r"(\d+) bytes smem",
}


def _number(pattern, text):
    found = re.search(pattern, text)
    return int(found[1]) if found else 0


# --- Predict --------------------------------------------------------------------------------------


def warps_at_once(registers: int, threads: int, shared: int, chip: Chip = H200) -> int:
    """The warps of a kernel that a multiprocessor has at a time, as its registers allow."""
    of_warp = -(-registers * 32 // 256) * 256  # a warp's registers come in units of 256
    blocks = min(chip.registers // (of_warp * (threads // 32)), chip.threads // threads)
    if shared:
        blocks = min(blocks, chip.shared // (shared + 1024))
    return blocks * threads // 32


def look_at(launch: Launch, text: str, ptxas: str) -> Found:
    """All that is known of a kernel in PTX."""
    said = assembled(text, ptxas)
    return {
        "kernel": name_of(launch.kernel),
        "types": types_of(launch.types),
        **said,
        "warps": warps_at_once(said["registers"], launch.threads, said["shared"]),
        "double": bool(re.search(r"\.f64\b", text)),
        "local": bool(re.search(r"\.local\b|\bcall\b", text)),
        "length": len(lines_of(text)),
    }


# Kernels whose arrays have fewer bytes run as a whole, because others read what they find.
SMALL = 1 << 16


def count(kernel: Kernel, launch: Launch) -> int:
    """The instructions that a thread in the middle of a launch runs."""
    counts: Counter = Counter()
    middle = tuple(each // 2 for each in launch.blocks), tuple(each // 2 for each in launch.block)
    where = middle[1], middle[0], launch.blocks, launch.block
    with np.errstate(all="ignore"):
        for _ in kernel.thread(*where, launch.args, counts):
            pass  # it does not wait for others: only what it runs counts, not what it computes
    if sum(launch.sizes) < SMALL:
        kernel.launch(launch.blocks, launch.block, launch.args)
    return sum(counts.values())


def lines_of(text: str) -> list[str]:
    """The instructions of a kernel."""
    body = map(str.strip, text[text.index("\n{") :].splitlines())
    return [line for line in body if line.endswith(";") and not line.startswith(".")]


def main(argv: Sequence[str] | None = None) -> int:
    """Look at all kernels, and write what is found."""
    args, words = parser().parse_args(argv), sys.argv[1:] if argv is None else argv
    ptxas = assembler()
    if ptxas is None:
        print("python -m benchmarks.gpu_kernels: ptxas was not found", file=sys.stderr)
        return 2
    kernels: dict[Any, Found] = {}
    calls: dict[str, Found] = {}
    named = {name: call for name, call in gpu_calls.calls().items()
             if not args.calls or any(word in name for word in args.calls)}  # fmt: skip
    machines: dict[Any, Kernel] = {}
    for name in progress(list(named), str):
        call, pixels = named[name]
        calls[name] = {"pixels": pixels, "launches": []}
        for launch in launches(call):
            key = launch.kernel, launch.types
            if key not in kernels:
                text = ptx_of(launch)
                kernels[key], machines[key] = look_at(launch, text, ptxas), Kernel(text)
            threads = int(np.prod(launch.blocks)) * launch.threads
            calls[name]["launches"].append({
                "kernel": list(kernels).index(key), "bytes": sum(launch.sizes),
                "instructions": round(count(machines[key], launch) * threads / pixels, 1),
            })  # fmt: skip
    version = subprocess.run([ptxas, "--version"], capture_output=True, text=True).stdout.split()
    found = {
        "command": " ".join(["python -m benchmarks.gpu_kernels", *words]),
        "commit": args.commit or current_commit(),
        "ptxas": version[-1], "chip": H200._asdict(),
        "kernels": list(kernels.values()), "calls": calls,
    }  # fmt: skip
    if args.json:
        write_atomically(pathlib.Path(args.json), (json.dumps(found, indent=1) + "\n").encode())
    print(report(found))
    return 0


def report(found: Found) -> str:
    """All kernels in lines, and what is suspicious."""
    lines = []
    for each in found["kernels"]:
        marks = [what for what in ("spill_stores", "stack", "local", "double") if each[what]]
        lines.append(
            f"{each['registers']:4} registers {each['warps']:3} warps {each['length']:5} "
            f"instructions  {each['kernel']} [{each['types']}] {' '.join(marks)}"
        )
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    result = argparse.ArgumentParser(
        "python -m benchmarks.gpu_kernels", description=__doc__.split("\n")[0]
    )
    add = result.add_argument
    add("--calls", nargs="+", default=[], metavar="WORD", help="only calls whose name contains one "
        "of these; default: all")  # fmt: skip
    add("--json", metavar="FILE", help="write what is found to this file")
    add("--commit", metavar="HASH", help="the commit that is looked at, if there is no .git")
    return result


if __name__ == "__main__":
    sys.exit(main())
