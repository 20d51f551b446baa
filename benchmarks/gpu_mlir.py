"""Compile every kernel with numba-cuda-mlir, the successor of numba-cuda: no GPU is needed.

Run ``python -m benchmarks.gpu_mlir`` in a checkout, with numba-cuda-mlir; numba-cuda is hidden if
it is installed as well. The exit code is 1 if a kernel does not compile, and 2 without the package.
"""

import argparse
import importlib.util
import re
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Compile the kernels of the calls, and name those that do not compile."""
    parser = argparse.ArgumentParser("python -m benchmarks.gpu_mlir", description=__doc__)
    parser.add_argument("--calls", nargs="+", default=[], metavar="WORD")
    args = parser.parse_args(argv)
    hide("numba_cuda")
    if importlib.util.find_spec("numba_cuda_mlir") is None:
        print("python -m benchmarks.gpu_mlir: numba-cuda-mlir is not installed", file=sys.stderr)
        return 2
    from numba_stn.kernels.cuda import device

    from . import gpu_calls, gpu_kernels
    from .gpu_launches import launches, name_of

    assert device.PACKAGE == "numba-cuda-mlir"
    found: dict = {}
    for name, (call, _) in gpu_calls.calls().items():
        if args.calls and not any(word in name for word in args.calls):
            continue
        for launch in launches(call):
            key = launch.kernel, launch.types
            if key in found:
                continue
            try:
                found[key] = wrong_in(gpu_kernels.ptx_of(launch), str(launch.types))
            except Exception as error:  # an error of the compiler can be of any kind
                found[key] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            print(f"{found[key] or 'ok'}: {name_of(launch.kernel)}", flush=True)
    failed = sum(map(bool, found.values()))
    print(f"{len(found) - failed} of {len(found)} kernels compiled")
    return int(failed > 0)


def wrong_in(text: str, types: str) -> str:
    """What is wrong with a kernel in PTX: double precision, or sums that depend on the order."""
    if ".visible .entry" not in text:
        return "no kernel"
    if "float64" not in types and re.search(r"\.f64\b", text):
        return "float64 in a kernel of float32"
    return "a float is added atomically" if re.search(r"\b(atom|red)\.\S*\.f(32|64)", text) else ""


def hide(package: str) -> None:
    """Let a package look as if it were not installed."""
    find = importlib.util.find_spec
    importlib.util.find_spec = (  # type: ignore[assignment]
        lambda name, *args: None if name == package else find(name, *args)
    )


if __name__ == "__main__":
    sys.exit(main())
