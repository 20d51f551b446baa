"""The package: imports, the kernel cache, layers of modules, and the commit of results."""

import ast
import graphlib
import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys

import numpy
import pytest

import numba_stn
from numba_stn.ops import grid_sample

ROOT = pathlib.Path(numba_stn.__file__).parents[1]


def python(code, cwd=None, **env):
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env=os.environ | env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_loads_neither_numba_nor_scipy_nor_numpy():
    code = "import sys, numba_stn; print({'numba', 'scipy', 'numpy'} & set(sys.modules))"
    assert python(code) == "set()"


def test_help_loads_no_numba():
    code = (
        "import sys, contextlib, io\nfrom numba_stn import cli\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
        "    cli.main(['train', '--help'])\n"
        "print({'numba', 'scipy', 'numpy', 'matplotlib', 'tqdm'} & set(sys.modules))"
    )
    assert python(code) == "set()"


def test_every_public_name_is_there():
    for name in numba_stn.__all__:
        assert getattr(numba_stn, name) is not None
    assert set(grid_sample.__all__) <= set(dir(numba_stn))
    with pytest.raises(AttributeError, match="no attribute 'warp_drive'"):
        numba_stn.warp_drive  # noqa: B018


def test_cuda_is_not_imported_for_arrays_on_the_cpu():
    code = (
        "import sys, numpy, numba_stn\n"
        "numba_stn.affine_grid(numpy.zeros((1, 2, 3)), (2, 2))\n"
        "print('numba.cuda' in sys.modules)"
    )
    assert python(code) == "False"


KERNEL = (
    "import numpy, numba_stn; "
    "print(numba_stn.affine_grid(numpy.array([[[1.0, 0, 0], [0, 1, 0]]]), (1, 2))[0, 0, 0, 0])"
)


def test_an_edited_helper_is_never_served_stale(tmp_path):
    """Numba's cache does not notice an edit in another file; the hash of all sources does."""
    copy = tmp_path / "numba_stn"
    shutil.copytree(ROOT / "numba_stn", copy, ignore=shutil.ignore_patterns("__pycache__"))
    env = {"PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    assert python(KERNEL, tmp_path, **env) == "-0.5"
    files = set((tmp_path / "cache").rglob("*.nbc"))
    assert files
    assert python(KERNEL, tmp_path, **env) == "-0.5"
    assert set((tmp_path / "cache").rglob("*.nbc")) == files
    pixel = copy / "kernels" / "math" / "coordinates.py"
    old = "return real(from_middle(j, size)) / length"
    assert old in pixel.read_text()
    pixel.write_text(pixel.read_text().replace(old, "return real(7)"))
    assert python(KERNEL, tmp_path, **env) == "7.0"


def test_serial_and_parallel_variants_are_cached_apart(tmp_path):
    code = """
import numba, numpy, numba_stn
from numba_stn.kernels import cpu_launch as launch
launch.PARALLEL_WORK = {}
numba_stn.affine_grid(numpy.zeros((1, 2, 3)), (2, 2))
try:
    print(numba.threading_layer() and "parallel")
except ValueError:
    print("serial")
"""
    cache = {"NUMBA_CACHE_DIR": str(tmp_path)}
    for _ in range(2):  # first compiled, then loaded from the cache
        assert python(code.format(10**9), **cache) == "serial"
        assert python(code.format(0), **cache) == "parallel"


TWO = """
import numpy, numba_stn
image, grid = numpy.arange(12.0).reshape(1, 1, 3, 4), numpy.full((1, 1, 1, 2), 0.25)
for mode in ("nearest", "bicubic"):
    print(numba_stn.grid_sample(image, grid, mode=mode, padding_mode="wrap").item())
"""


@pytest.mark.slow
def test_kernels_made_by_factories_are_found_again(tmp_path):
    """Another process loads them; each has its own files, so two processes may write at once."""
    cache = {"NUMBA_CACHE_DIR": str(tmp_path)}
    first = python(TWO, **cache)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nb?")}
    assert len(files) == 2  # without an index
    assert python(TWO, **cache) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nb?")} == files


SAME = """
import sys, numpy, numba_stn
rng = numpy.random.default_rng(0)
images, eye = rng.random((1, 1, 5, 6)), numpy.eye(3)[None]
def affine():
    return numba_stn.warp_affine(images, 0.7 * eye[:, :2], mode="nearest", padding_mode="wrap")
def projective():
    theta = 0.7 * eye + [[0, 0, 0], [0, 0, 0], [0.2, 0.3, 0.4]]
    return numba_stn.warp_perspective(images, theta, mode="nearest")
print([eval(name)().tolist() for name in sys.argv[1].split()])
"""


@pytest.mark.slow
def test_kernels_that_two_processes_compiled_keep_their_own_helpers(tmp_path):
    """Numba numbers functions per process; a third process must not link two by the same name."""
    env = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    found = []
    for names in ("affine", "projective", "affine projective", "projective affine"):
        command = [sys.executable, "-c", SAME, names]
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found.append(eval(done.stdout))
    (first,), (second,), both, swapped = found
    assert first != second
    assert (both, swapped) == ([first, second], [second, first])


def test_a_kernel_is_named_after_its_arguments():
    from numba_stn.kernels.cache import described
    from numba_stn.kernels.cpu import sample_2d
    from numba_stn.kernels.math.sampler_kind import Kind

    names = set()
    for mode in range(3):
        for padding in range(5):
            kind = Kind(0, mode, padding, 2, True)
            for dtype, channels in (("uint8", 0), ("float32", 0), ("float32", 3)):
                kernel = sample_2d.make_sample_plane(kind, numpy.dtype(dtype), channels, False)
                names.add(repr(described(kernel)))
    assert len(names) == 45
    assert not any(" at 0x" in name for name in names)  # an address differs in every process


FIRST = {
    "our own kernel": "work()",
    "a count of threads": "numba_stn.warp_affine_vjp(images[:, :, :2, :2], images, theta)",
    "somebody else's kernel": "numba.njit(lambda x: x + 1, parallel=True)(images)",
}


@pytest.mark.slow
@pytest.mark.parametrize("first", FIRST)
def test_a_forked_child_computes_serially(first):
    code = """
import multiprocessing, numba, numpy, numba_stn
images = numpy.random.default_rng(0).random((4, 3, 200, 200))
theta = numpy.tile(numpy.array([[[0.9, 0.1, 0.0], [-0.1, 0.9, 0.1]]]), (4, 1, 1))
def work(_=None):
    return numba_stn.warp_affine(images, theta)
FIRST
expected = work()
with multiprocessing.get_context("fork").Pool(2) as pool:
    results = pool.map_async(work, range(4)).get(60)
assert expected.any()
print(all((result == expected).all() for result in results))
"""
    assert python(code.replace("FIRST", FIRST[first])) == "True"


# From the bottom up: a package imports only from those before it.
PACKAGES = ("kernels", "utils", "ops", "transforms", "images", "data", "nn", "registration",
            "export", "training", "distributed", "bench", "warmup", "cli")  # fmt: skip
KERNELS = ("cache", "linked_code", "cpu_launch", "math", "cpu/simd", "cpu",
           "cuda", "layers", "registration")  # fmt: skip


def imports():
    """Each import of the package: the importing module and the imported one, as tuples of names."""
    package = ROOT / "numba_stn"
    modules = {path.relative_to(package).with_suffix("").parts for path in package.rglob("*.py")}
    for path in sorted(package.rglob("*.py")):
        here = path.relative_to(package).with_suffix("").parts
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ImportFrom) or not node.level:
                continue
            base = here[: len(here) - node.level] + tuple((node.module or "").split("."))
            base = tuple(filter(None, base))
            for alias in node.names:
                found = (*base, alias.name)
                if not base and alias.name in numba_stn._MODULE_OF:
                    found = tuple(numba_stn._MODULE_OF[alias.name].split("."))
                elif found not in modules:
                    found = base if base in modules else (*base, "__init__")
                yield here, found


def floor(module):
    """The rank of a module's package, and within the kernels that of its part."""
    rank = PACKAGES.index(module[0]) if module[0] in PACKAGES else len(PACKAGES)
    part = "/".join(module[1:]) if module[0] == "kernels" else ""
    return rank, next((k for k, name in enumerate(KERNELS) if part.startswith(name)), -1)


def test_imports_between_packages_point_down():
    upward = [(a, b) for a, b in imports() if b != ("__init__",) and floor(a) < floor(b)]
    assert not upward


def test_imports_within_a_package_run_in_no_circle():
    below = {}
    for a, b in imports():
        if a[:-1] == b[:-1] and "__init__" not in (a[-1], b[-1]):
            below.setdefault(a, set()).add(b)
    list(graphlib.TopologicalSorter(below).static_order())  # raises CycleError


def test_a_changed_package_is_no_longer_its_commit(tmp_path):
    package = tmp_path / "numba_stn"
    (package / "utils").mkdir(parents=True)
    shutil.copy(ROOT / "numba_stn" / "utils" / "commit.py", package / "utils")
    (package / "other.py").write_text("")
    (tmp_path / "results.json").write_text("{}")
    spec = importlib.util.spec_from_file_location("its_commit", package / "utils" / "commit.py")
    commit = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(commit)
    who = {f"GIT_{one}_{part}": "a@b" for one in ("AUTHOR", "COMMITTER")
           for part in ("NAME", "EMAIL")}  # fmt: skip

    def git(*words):
        done = subprocess.run(["git", "-C", tmp_path, *words], check=True, env=os.environ | who,
                              capture_output=True, text=True)  # fmt: skip
        return done.stdout.strip()

    git("init", "--quiet")
    assert commit.current_commit() is None
    git("add", ".")
    git("commit", "--quiet", "--message", "all")
    (tmp_path / "results.json").write_text("[]")
    assert commit.current_commit() == git("rev-parse", "HEAD")
    (package / "other.py").write_text("\n")
    assert commit.current_commit() == git("rev-parse", "HEAD") + "-dirty"
