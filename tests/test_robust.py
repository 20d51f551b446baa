"""Accesses beyond arrays, indices out of bounds, Python threads, and read-only folders."""

import ast
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import llvmlite.binding as llvm
import numpy as np
import pytest

import numba_stn

ROOT = pathlib.Path(numba_stn.__file__).parents[1]
TESTS = pathlib.Path(__file__).parent


def run(*arguments, cwd=None, **env):
    """Run a Python process."""
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=cwd, env=os.environ | env, capture_output=True, text=True)


def python(code, cwd=None, **env):
    """The output of a Python program."""
    done = run("-c", code, cwd=cwd, **env)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# --- Memory ---------------------------------------------------------------------------------------

posix = pytest.mark.skipif(os.name != "posix", reason="pages are protected by mprotect")


@posix
def test_no_access_beyond_an_array():
    done = run(str(TESTS / "guarded.py"))
    assert done.stdout == "no access beyond an array\n", (done.returncode, done.stderr[-400:])


@posix
def test_the_guard_stops_an_overrun():
    done = run(str(TESTS / "guarded.py"), "overrun")
    assert -done.returncode in (signal.SIGSEGV, signal.SIGBUS)
    assert done.stderr.splitlines()[-1].endswith("overrun at the end")


EVERYTHING = """
import sys; sys.path.insert(0, TESTS)
import everything, gc, hashlib, itertools, numba, numpy
from numba.core.registry import CPUDispatcher
from numba_stn.kernels.cache import KernelCache
def compiled():
    kernels = [each for each in gc.get_objects() if type(each) is CPUDispatcher]
    kernels = [each for each in kernels if isinstance(each._cache, KernelCache)]
    assert len(kernels) > 4
    return sum(sum(each.stats.cache_misses.values()) for each in kernels)
def checked():
    try:
        numba.njit(lambda a, i: a[i])(numpy.zeros(1), 5)
    except IndexError:
        return True
    return False
calls = itertools.chain(CALLS)
digest = hashlib.sha256()
for name, call in calls:
    for result in call():
        digest.update(numpy.ascontiguousarray(result).tobytes())
print(checked(), digest.hexdigest(), compiled())
""".replace("TESTS", repr(str(TESTS)))


# Two parts that share few kernels, so that two processes can compile them at the same time.
CALLS = {
    "usual": 'everything.samplers("float32", everything.SERIAL), everything.layers(), '
    'everything.registrations(), everything.pictures(("uint8", "float64"))',
    "kinds": "everything.kinds(everything.FEW), everything.kinds(everything.FEW, everything.THIN), "
    "everything.derived(), everything.derived(shapes=everything.THIN)",
}


@pytest.mark.parametrize("part", CALLS)
def test_no_index_is_out_of_bounds(part, tmp_path):
    """Numba's check raises IndexError.

    And the same inputs give the same bits with the check and without, in a process that compiles
    what no other has compiled, and in one that loads everything.
    """
    code = EVERYTHING.replace("CALLS", CALLS[part])
    checked, found, _ = python(code, NUMBA_BOUNDSCHECK="1", NUMBA_CACHE_DIR=str(tmp_path)).split()
    unchecked, expected, _ = python(code).split()
    assert (checked, unchecked) == ("True", "False")
    assert found == expected
    assert python(code).split() == ["False", expected, "0"]


# Forward and both gradients, with a grid: its coordinates need fused multiply-adds.
OF_A_GRID = "itertools.islice(everything.samplers('float32', everything.SERIAL[5:6]), 1, 2)"


def test_another_processor_gives_the_same_bits(tmp_path):
    """One without vectors wider than SSE2 and without fused multiply-adds.

    ``python -m benchmarks.bits --processor generic`` does the same for every public operation.
    """
    code = EVERYTHING.replace("CALLS", OF_A_GRID)
    other = {"NUMBA_CPU_NAME": "generic", "NUMBA_CACHE_DIR": str(tmp_path)}
    _, found, compiled = python(code, **other).split()
    assert int(compiled) > 4
    assert found == python(code).split()[1]


CONVOLUTION = """
import numpy
from numba_stn import nn
rng, net = numpy.random.default_rng(0), nn.conv2d(3, 3)
x = rng.standard_normal((2, 2, 9, 9)).astype(numpy.float32)
print(net.apply(net.init(rng, x.shape[1:]), x)[0].tolist())
"""


def test_a_convolution_on_another_processor_differs_in_its_last_bits_only(tmp_path):
    other = {"NUMBA_CPU_NAME": "generic", "NUMBA_CACHE_DIR": str(tmp_path)}
    found, expected = (np.float32(ast.literal_eval(python(CONVOLUTION, **env)))
                       for env in (other, {}))  # fmt: skip
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    fused = llvm.get_host_cpu_features().get("fma", False)  # x86; generic ARM has the operation
    assert np.array_equal(found, expected) != fused


# --- Threads --------------------------------------------------------------------------------------

TOGETHER = """
import concurrent.futures, numba, numpy, numba_stn
rng = numpy.random.default_rng(0)
images = rng.random((4, 3, 200, 200))
theta = numpy.tile(numpy.array([[[0.9, 0.1, 0.0], [-0.1, 0.9, 0.1]]]), (4, 1, 1))
def work(_=None):
    samples = numba_stn.warp_affine(images, theta)
    return samples, *numba_stn.warp_affine_vjp(samples, images, theta)
with concurrent.futures.ThreadPoolExecutor(4) as pool:  # one of them is the first launch
    try:
        results = list(pool.map(work, range(40)))
    except ValueError as error:
        assert "threading layer" in str(error)
        print("absent")
        raise SystemExit
expected = work()
assert all(part.any() for part in expected)
same = all((a == b).all() for result in results for a, b in zip(result, expected))
print(numba.threading_layer(), same)
"""


@pytest.mark.parametrize("layer", ["tbb", "omp", "workqueue"])
def test_python_threads_call_at_the_same_time_under_every_layer(layer):
    found = python(TOGETHER, NUMBA_THREADING_LAYER=layer)
    if found == "absent":
        pytest.skip(f"{layer} is not installed")
    assert found == f"{layer} True"


def test_the_same_bits_with_any_number_of_threads_in_one_process():
    code = """
import numba, numpy, numba_stn
rng = numpy.random.default_rng(0)
images = rng.random((2, 3, 210, 190), numpy.float32)
theta = (numpy.eye(2, 3) + 0.3 * rng.standard_normal((2, 2, 3))).astype(numpy.float32)
def work():
    samples = numba_stn.warp_affine(images, theta)
    return (samples, *numba_stn.warp_affine_vjp(samples, images, theta),
            *numba_stn.warp_affine_vjp(samples, images[:1], theta))
results = [work()]
for threads in (1, 2, 4):
    numba.set_num_threads(threads)
    results.append(work())
assert all(numpy.abs(part).max() > 0.1 for part in results[0])
print(all((a == b).all() for result in results for a, b in zip(result, results[0])))
"""
    assert python(code, NUMBA_NUM_THREADS="4") == "True"


# --- Read-only folders ----------------------------------------------------------------------------

WARN = """
import warnings, numpy, numba_stn
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    numba_stn.affine_grid(numpy.zeros((1, 2, 3)), (2, 2))
    numba_stn.affine_grid_vjp(numpy.ones((1, 2, 2, 2)))
print(numba_stn.__file__, [str(w.message)[:16] for w in seen])
"""


def read_only_install(folder):
    """A copy of the package in which nothing can be cached: a file has the cache folder's name."""
    copy = folder / "numba_stn"
    shutil.copytree(ROOT / "numba_stn", copy, ignore=shutil.ignore_patterns("__pycache__"))
    for inside in (copy, *(path for path in copy.rglob("*") if path.is_dir())):
        (inside / "__pycache__").touch()
    return copy


def test_a_read_only_install_works_and_warns_once(tmp_path):
    """No folder can be the cache, not even for root: all of them are below a file."""
    copy = read_only_install(tmp_path)
    nowhere = str(copy / "__init__.py" / "cache")
    env = {"PYTHONPATH": str(tmp_path), "HOME": nowhere, "XDG_CACHE_HOME": nowhere}
    for given in ("", nowhere):
        found = python(WARN, tmp_path, NUMBA_CACHE_DIR=given, **env)
        assert found == f"{copy / '__init__.py'} ['numba_stn compil']"


def test_a_read_only_cache_folder_is_skipped(tmp_path):
    """Numba uses the next folder that it can write to, without a warning."""
    cache = tmp_path / "cache"
    cache.touch()  # a file: read-only for root, too
    home = tmp_path / "home"
    copy = read_only_install(tmp_path / "install")
    env = {"PYTHONPATH": str(copy.parent), "XDG_CACHE_HOME": str(home), "HOME": str(home)}
    assert python(WARN, tmp_path, NUMBA_CACHE_DIR=str(cache), **env).endswith("[]")
    assert list(home.rglob("*.nbc"))


def test_folders_without_permission_do_no_harm(tmp_path):
    copy = tmp_path / "numba_stn"
    shutil.copytree(ROOT / "numba_stn", copy, ignore=shutil.ignore_patterns("__pycache__"))
    locked = tmp_path / "locked"
    locked.mkdir()
    folders = [locked, copy, *(path for path in copy.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    if os.access(locked, os.W_OK):
        pytest.skip("permissions do not restrict this user, such as root")
    env = {"PYTHONPATH": str(tmp_path), "HOME": str(locked), "XDG_CACHE_HOME": str(locked)}
    try:
        found = python(WARN, tmp_path, NUMBA_CACHE_DIR=str(locked), **env)
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert found.endswith("['numba_stn compil']")
