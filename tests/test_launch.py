"""Forks and signal handlers in the middle of something, and unusual environments."""

import importlib.metadata
import os
import subprocess
import sys

import numpy as np
import pytest

from numba_stn.kernels import cpu_launch


def python(code, *options, cwd=None, timeout=120, **env):
    """The output of a Python program that must end."""
    done = subprocess.run([sys.executable, *options, "-c", code], cwd=cwd, env=os.environ | env,
                          capture_output=True, text=True, timeout=timeout)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# --- Forks ----------------------------------------------------------------------------------------

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")

# Each holds something until ``go`` is set; ``inside`` is set when it does.
HOLDS = {
    "the limit of BLAS's threads": """
def hold():
    with cpu_launch.one_blas_thread():
        inside.set()
        go.wait()
""",
    "the lock of that limit": """
def hold():
    with cpu_launch._blas_lock:
        inside.set()
        go.wait(1)
""",
    "a launch": """
def hold():
    with cpu_launch._launch():
        inside.set()
        go.wait(1)
""",
    "the compiler": """
from numba.core.compiler_lock import global_compiler_lock
def hold():
    with global_compiler_lock:
        inside.set()
        go.wait(1)
""",
}

FORK = """
import os, signal, sys, threading, warnings, numpy, numba_stn
from numba_stn.kernels import cpu_launch
warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
inside, go = threading.Event(), threading.Event()
images, theta = numpy.ones((1, 1, 700, 700), numpy.float32), numpy.eye(2, 3)[None]
matrix = numpy.random.default_rng(0).random((400, 400))
def limits():
    return [pool["num_threads"] for pool in cpu_launch._blas().info()]
def work():
    with cpu_launch.one_blas_thread():
        return numba_stn.warp_affine(images, theta).sum() + (matrix @ matrix).sum()
HOLD
(matrix @ matrix).sum()  # starts BLAS's threads
expected, before = work(), limits()
thread = threading.Thread(target=hold)
thread.start()
inside.wait()
child = os.fork()
if not child:
    signal.alarm(60)
    fresh = cpu_launch.jit(lambda: 5)()
    same = limits() == before and work() == expected and limits() == before
    os._exit(0 if same and fresh == 5 else 1)
print(os.waitpid(child, 0)[1])
go.set()
thread.join()
print(limits() == before)
"""


@needs_fork
@pytest.mark.parametrize("what", HOLDS)
def test_a_fork_while_a_thread_holds_something(what):
    pytest.importorskip("threadpoolctl")
    assert python(FORK.replace("HOLD", HOLDS[what])).split() == ["0", "True"]


INSIDE = """
import os, numpy
from numba_stn.kernels import cpu_launch
def limits():
    return {pool["num_threads"] for pool in cpu_launch._blas().info()}
before = limits()
with cpu_launch.one_blas_thread():
    with cpu_launch._launch():
        child = os.fork()
        within = limits()
if not child:
    os._exit(0 if within == {1} and limits() == before else 1)
print(os.waitpid(child, 0)[1], limits() == before)
"""


@needs_fork
def test_a_fork_inside_a_limit_keeps_it_until_it_is_left():
    pytest.importorskip("threadpoolctl")
    assert python(INSIDE) == "0 True"


# --- Signal handlers ------------------------------------------------------------------------------

SIGNAL = """
import signal, numba, numpy, numba_stn
from numba_stn.kernels import cpu_launch
rng = numpy.random.default_rng(0)
images = rng.random((1, 1, 500, 500), numpy.float32)
theta = numpy.array([[[0.9, 0.1, 0.0], [-0.1, 0.9, 0.1]]])
def work():
    with cpu_launch.one_blas_thread(), cpu_launch.at_most(2):
        return numba_stn.warp_affine(images, theta)
seen, found, expected = [], [], work()
def handle(*_):
    seen.append(work())
    signal.setitimer(signal.ITIMER_REAL, 0.001)
signal.signal(signal.SIGALRM, handle)
signal.setitimer(signal.ITIMER_REAL, 0.001)
while len(seen) < 30 or len(found) < 30:
    found.append(work())
signal.signal(signal.SIGALRM, signal.SIG_IGN)
print(numba.threading_layer(), all((each == expected).all() for each in seen + found))
"""

IN_A_LAUNCH = """
import signal, numba, numpy, numba_stn
from numba_stn.kernels import cpu_launch
images, theta = numpy.ones((1, 1, 500, 500), numpy.float32), numpy.eye(2, 3)[None]
def work(*_):
    found.append(numba_stn.warp_affine(images, theta))
    with cpu_launch.at_most(2):
        found.append(numba_stn.warp_affine(images, theta))
found = []
signal.signal(signal.SIGALRM, work)
work()
with cpu_launch._launch():
    signal.raise_signal(signal.SIGALRM)
with cpu_launch._blas_lock:
    signal.raise_signal(signal.SIGALRM)
print(len(found), all((each == images).all() for each in found))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX's timers")
@pytest.mark.parametrize("layer", ["tbb", "omp", "workqueue"])
def test_a_signal_handler_may_warp(layer):
    assert python(SIGNAL, NUMBA_THREADING_LAYER=layer) == f"{layer} True"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX's signals")
def test_a_signal_handler_may_warp_in_the_middle_of_a_launch():
    assert python(IN_A_LAUNCH, NUMBA_THREADING_LAYER="workqueue") == "6 True"


# --- TBB ------------------------------------------------------------------------------------------

LAYER = """
import numba, numpy, numba_stn
numba_stn.warp_affine(numpy.ones((1, 1, 700, 700)), numpy.eye(2, 3)[None])
print(numba.threading_layer())
"""


def test_the_threads_are_those_of_tbb_where_pip_has_installed_it():
    pytest.importorskip("numba.np.ufunc.omppool")  # or Numba's own threads are all there are
    try:
        files = importlib.metadata.files("tbb")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("there is no package of TBB for this system")
    assert any(file.name in cpu_launch._TBB for file in files)
    assert python(LAYER) == "tbb"
    assert python(LAYER, NUMBA_THREADING_LAYER="omp") == "omp"


# --- Environments ---------------------------------------------------------------------------------

FIRST_CALL = """
import numpy, numba_stn
image = numpy.arange(6.0).reshape(1, 1, 2, 3)
print(numba_stn.warp_affine(image, numpy.array([[[-1.0, 0, 0], [0, 1, 0]]])).tolist())
"""
MIRRORED = "[[[[2.0, 1.0, 0.0], [5.0, 4.0, 3.0]]]]"


@pytest.mark.parametrize(
    "options", [["-OO"], ["-X", "dev", "-W", "error"]], ids=["no docstrings", "warnings are errors"]
)
def test_the_interpreters_options(options):
    assert python(FIRST_CALL, *options) == MIRRORED


def test_without_a_home_and_a_folder_for_temporary_files(tmp_path):
    nowhere = str(tmp_path / "a file" / "folder")
    (tmp_path / "a file").touch()
    homeless = f"import os; del os.environ['HOME']{FIRST_CALL}"
    for code in (FIRST_CALL, homeless):
        env = {"HOME": nowhere, "TMPDIR": nowhere, "XDG_CACHE_HOME": nowhere}
        assert python(code, "-W", "error", cwd=tmp_path, **env) == MIRRORED
    assert [path.name for path in tmp_path.iterdir()] == ["a file"]


NOT_COMPILED = """
import numpy, numba_stn
image, theta = numpy.ones((1, 1, 4, 5)), numpy.eye(2, 3)[None]
from numba_stn import nn
net = nn.conv2d(1, 3)
calls = [
    lambda: numba_stn.warp_affine(image, theta),
    lambda: numba_stn.warp_image(image[0, 0], 2 * theta[0], mode="bicubic"),
    lambda: numba_stn.affine_grid(theta, (2, 2)),
    lambda: numba_stn.register(numpy.eye(40), numpy.eye(40)),
    lambda: net.apply(net.init(numpy.random.default_rng(0), (1, 4, 5)), image),
]
for call in calls * 2:
    try:
        call()
    except RuntimeError as error:
        print(error)
print(numba_stn.inline.sampler()(image[0, 0], 1.0, 1.0, 0.0))
"""


def test_without_compilation_every_call_says_so():
    lines = python(NOT_COMPILED, NUMBA_DISABLE_JIT="1").splitlines()
    assert lines[-1] == "1.0"  # scalar functions are Python functions then
    message = (
        "numba_stn computes with compiled kernels only, and NUMBA_DISABLE_JIT is set: unset it"
    )
    assert lines[:-1] == [message] * 10


@pytest.mark.parametrize("command", ["warp a.npy b.npy --rotate 3", "warmup affine_grid", "doctor"])
def test_commands_say_so_in_one_line(command, tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((4, 5), np.float32))
    done = subprocess.run(
        [sys.executable, "-m", "numba_stn", *command.split()], cwd=tmp_path,
        env=os.environ | {"NUMBA_DISABLE_JIT": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode in (1, 2)
    text = done.stdout if command == "doctor" else done.stderr
    assert "Traceback" not in done.stderr
    assert "NUMBA_DISABLE_JIT is set" in text
    if command != "doctor":
        assert text.splitlines()[-1].startswith("numba-stn: numba_stn computes with")
