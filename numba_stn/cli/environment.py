"""What works in this environment, what is missing, and how to get it."""

import importlib
import os
import platform
from collections.abc import Iterator
from importlib import metadata
from typing import NamedTuple

from .. import __version__


class Finding(NamedTuple):
    """One line of the report.

    ``well`` is None for what may be missing; ``needed`` says whether warps on the CPU need it.
    """

    name: str
    well: bool | None
    text: str
    advice: str = ""
    needed: bool = False


# What the extras bring: the package, its module, and what it is for.
OPTIONAL = (
    ("pillow", "PIL", "images", "numba-stn warp"),
    ("matplotlib", "matplotlib", "train", "pictures of training"),
    ("safetensors", "safetensors", "train", "weights"),
    ("scikit-learn", "sklearn", "train", "the digits"),
    ("threadpoolctl", "threadpoolctl", "train", "BLAS beside the kernels"),
    ("tqdm", "tqdm", "train", "progress bars"),
    ("zarr", "zarr", "scale", "stacks larger than memory"),
    ("distributed", "distributed", "scale", "--scheduler"),
)


def findings() -> Iterator[Finding]:
    """Each part of the environment, as it is looked at; kernels are compiled on the way."""
    yield from _versions()
    yield _processor()
    yield _cache()
    yield _warp()
    yield _threads()
    yield from _extras()
    yield _cuda()
    yield _cupy()


def _versions():
    python = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    yield Finding("python", True, python)
    yield Finding("numba-stn", True, __version__)
    for name in ("numba", "llvmlite", "numpy", "scipy"):
        try:
            yield Finding(name, True, metadata.version(name))
        except metadata.PackageNotFoundError:
            yield Finding(name, False, "not installed", f"pip install {name}", needed=True)


def _processor():
    """Its name for LLVM, its widest vectors, and its cores."""
    import llvmlite.binding as llvm

    features = llvm.get_host_cpu_features()
    widest = next((name for name in ("avx512f", "avx2", "avx", "neon", "sse2")
                   if features.get(name)), "no vectors that LLVM knows")  # fmt: skip
    fused = ", fused multiply-add" if features.get("fma") else ""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    text = f"{llvm.get_host_cpu_name()}, {widest}{fused}; {usable} of {os.cpu_count()} cores to use"
    return Finding("processor", True, text)


def _cache():
    from ..warmup import cache_folder

    folder = cache_folder()
    if folder is None:
        advice = "set NUMBA_CACHE_DIR to a folder that can be written"
        return Finding("kernel cache", None, "no folder can be written: kernels are compiled anew "
                       "in every process", advice)  # fmt: skip
    return Finding("kernel cache", True, str(folder), "numba-stn warmup fills it")


def _warp():
    """Whether a warp gives what it should."""
    import time

    import numpy as np

    from .. import warp_affine

    image, began = np.arange(12.0, dtype=np.float32).reshape(1, 1, 3, 4), time.perf_counter()
    mirrored = np.array([[[-1.0, 0, 0], [0, 1, 0]]], np.float32)
    try:
        right = np.array_equal(warp_affine(image, mirrored), image[..., ::-1])
    except Exception as error:
        return Finding("a warp", False, f"{type(error).__name__}: {error}", needed=True)
    seconds = time.perf_counter() - began
    if not right:
        return Finding("a warp", False, "a mirrored image came out wrong", needed=True)
    return Finding("a warp", True, f"right, after {seconds:.1f} s")


def _threads():
    """The layer that Numba takes, found out by a kernel that is run in parallel."""
    import numba
    import numpy as np

    from .. import warp_affine

    identity = np.eye(2, 3, dtype=np.float32)[None]
    warp_affine(np.zeros((1, 1, 700, 700), np.float32), identity)
    try:
        layer = numba.threading_layer()
    except ValueError:
        return Finding("threads", None, "no parallel kernel was run")
    threads = f"{numba.get_num_threads()} threads of the layer {layer}"
    if layer == "workqueue":
        advice = "pip install tbb: Python threads then need not wait for one another"
        return Finding("threads", True, threads, advice)
    return Finding("threads", True, threads)


def _extras():
    for package, module, extra, use in OPTIONAL:
        try:
            importlib.import_module(module)
            yield Finding(package, True, f"{metadata.version(package)} ({use})")
        except ImportError as error:
            advice = f'pip install "numba-stn[{extra}]"'
            yield Finding(package, None, f"missing, for {use}: {error}", advice)


def _cuda():
    """Whether kernels can run on a GPU."""
    from ..kernels.cuda import device

    try:
        device._require_driver()
        gpu = device.cuda.get_current_device()
        name = gpu.name.decode() if isinstance(gpu.name, bytes) else gpu.name
        major, minor = gpu.compute_capability
        version = metadata.version("numba-cuda")
        return Finding("CUDA", True, f"{name}, sm_{major}{minor}; numba-cuda {version}")
    except Exception as error:  # a driver that does not fit fails in ways of its own
        return Finding("CUDA", None, str(error).split("\n")[0] or type(error).__name__)


def _cupy():
    from ..utils.namespace import library

    try:
        cupy = library("cuda")
        return Finding("training on a GPU", True, f"CuPy {cupy.__version__}")
    except RuntimeError as error:
        return Finding("training on a GPU", None, str(error))
