"""The checks of ``numba-stn doctor``: what works, what is missing, and how to install it."""

import importlib
import os
import platform
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from .. import __version__


class Finding(NamedTuple):
    """One line of the report.

    ``ok`` is None for an optional part that is missing. ``required`` is true if warps on the CPU
    need the part. ``warns`` is true if the part works, but something should be done about it.
    """

    name: str
    ok: bool | None
    text: str
    advice: str = ""
    required: bool = False
    warns: bool = False


# Optional packages: the package, its module, the extra that installs it, and its use.
OPTIONAL = (
    ("pillow", "PIL", "images", "numba-stn warp"),
    ("matplotlib", "matplotlib", "train", "pictures of training"),
    ("safetensors", "safetensors", "train", "weights"),
    ("scikit-learn", "sklearn", "train", "the digits"),
    ("threadpoolctl", "threadpoolctl", "train", "BLAS threads next to kernels"),
    ("tqdm", "tqdm", "train", "progress bars"),
    ("zarr", "zarr", "scale", "stacks larger than memory"),
    ("distributed", "distributed", "scale", "--scheduler"),
)


def findings() -> Iterator[Finding]:
    """Check one part of the environment after the other; this compiles some kernels."""
    yield from _versions()
    yield _processor()
    yield from _cache()
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
            yield Finding(name, False, "not installed", f"pip install {name}", required=True)


def _processor():
    """Report LLVM's name of the processor, its widest vectors and its cores."""
    import llvmlite.binding as llvm

    features = llvm.get_host_cpu_features()
    vectors = next((name for name in ("avx512f", "avx2", "avx", "neon", "sse2")
                    if features.get(name)), "no vectors known to LLVM")  # fmt: skip
    fused = ", fused multiply-add" if features.get("fma") else ""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    text = f"{llvm.get_host_cpu_name()}, {vectors}{fused}; {usable} of {os.cpu_count()} cores"
    return Finding("processor", True, text)


def _cache():
    """Read all compiled kernels, and check who else could write some."""
    from ..kernels import cache

    folders = cache.folders()
    if not folders:
        advice = "set NUMBA_CACHE_DIR to a writable folder"
        yield Finding("kernel cache", None, "no writable folder: every process compiles its "
                      "kernels again", advice)  # fmt: skip
        return
    files = [str(path) for folder in folders for path in sorted(Path(folder).glob("*"))
             if path.suffix in (cache.SUFFIX, cache.UNFINISHED)]  # fmt: skip
    text = f"{len(files)} files in {folders[0]} and {len(folders) - 1} more folders"
    yield Finding("kernel cache", True, text, "numba-stn warmup fills it")
    damaged = [f"{path}: {reason}" for path in files if (reason := _damage(path))]
    yield from _few(damaged, "delete it; the kernel is compiled again when it is needed")
    others = dict.fromkeys(path for folder in folders for path in cache.open_to_others(folder))
    yield from _few(
        [f"{path}: others can write to it, and so run their code as you" for path in others],
        "let only yourself write to it (chmod go-w), or set NUMBA_CACHE_DIR to another folder",
    )


def _damage(path):
    """Why a file of the cache is of no use; empty if it is not."""
    from ..kernels import cache

    if not path.endswith(cache.UNFINISHED):
        return cache.damage(path)
    old = time.time() - os.stat(path).st_mtime > 3600
    return "left by a process that ended while it wrote it" if old else ""


def _few(texts, advice, most=5):
    """Findings for what works but should be mended: the first few, and how many more there are."""
    for text in texts[:most]:
        yield Finding("kernel cache", True, text, advice, warns=True)
    if texts[most:]:
        yield Finding("kernel cache", True, f"and {len(texts) - most} more", warns=True)


def _warp():
    """Mirror a small image and check the result."""
    import numpy as np

    from .. import warp_affine

    image, began = np.arange(12.0, dtype=np.float32).reshape(1, 1, 3, 4), time.perf_counter()
    mirrored = np.array([[[-1.0, 0, 0], [0, 1, 0]]], np.float32)
    try:
        correct = np.array_equal(warp_affine(image, mirrored), image[..., ::-1])
    except Exception as error:
        return Finding("a warp", False, f"{type(error).__name__}: {error}", required=True)
    seconds = time.perf_counter() - began
    if not correct:
        return Finding("a warp", False, "a mirrored image has wrong values", required=True)
    return Finding("a warp", True, f"correct, after {seconds:.1f} s")


def _threads():
    """Run a parallel kernel, then report the threading layer that Numba chose."""
    import numba
    import numpy as np

    from .. import warp_affine

    identity = np.eye(2, 3, dtype=np.float32)[None]
    try:
        warp_affine(np.zeros((1, 1, 700, 700), np.float32), identity)
    except Exception as error:
        text = str(error).split("\n")[0]
        return Finding("threads", False, f"{type(error).__name__}: {text}", required=True)
    try:
        layer = numba.threading_layer()
    except ValueError:
        return Finding("threads", None, "no parallel kernel has run")
    threads = f"{numba.get_num_threads()} threads, threading layer {layer}"
    if layer == "workqueue":
        advice = "pip install tbb: kernels of several Python threads can then run at the same time"
        return Finding("threads", True, threads, advice)
    return Finding("threads", True, threads)


def _extras():
    for package, module, extra, use in OPTIONAL:
        try:
            importlib.import_module(module)
            yield Finding(package, True, f"{metadata.version(package)} ({use})")
        except ImportError as error:
            advice = f'pip install "numba-stn[{extra}]"'
            yield Finding(package, None, f"missing (for {use}): {error}", advice)


def _cuda():
    """Check that kernels can run on a GPU."""
    from ..kernels.cuda import device

    try:
        device._require_driver()
        gpu = device.cuda.get_current_device()
        name = gpu.name.decode() if isinstance(gpu.name, bytes) else gpu.name
        major, minor = gpu.compute_capability
        version = f"{device.PACKAGE} {metadata.version(device.PACKAGE)}"
        return Finding("CUDA", True, f"{name}, sm_{major}{minor}; {version}")
    except Exception as error:  # an incompatible driver can raise anything
        return Finding("CUDA", None, str(error).split("\n")[0] or type(error).__name__)


def _cupy():
    from ..utils.namespace import array_library

    try:
        cupy = array_library("cuda")
        return Finding("training on a GPU", True, f"CuPy {cupy.__version__}")
    except RuntimeError as error:
        return Finding("training on a GPU", None, str(error))
