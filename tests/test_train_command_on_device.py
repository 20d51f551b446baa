"""``numba-stn train --device cuda`` where it cannot run: one line, before anything is computed.

For runs where it can, see train_simulator_suite.py.
"""

import subprocess
import sys

import pytest

from numba_stn import cli
from numba_stn.training import experiment
from numba_stn.utils import namespace

MISSING = {
    "CuPy": ("import sys; sys.modules['cupy'] = None", "import of cupy halted"),
    "its libraries": (
        "import sys, types\n"
        "def fail(): raise OSError('libcuda.so.1 is not there\\nand pages of advice')\n"
        "class Broken(types.ModuleType):\n"
        "    cuda = property(lambda self: fail())\n"
        "sys.modules['cupy'] = Broken('cupy')",
        "libcuda.so.1 is not there",
    ),
    "a GPU": (
        "import sys, fake_cupy\n"
        "sys.modules['cupy'] = cupy = fake_cupy.module()\n"
        "cupy.cuda.is_available = lambda: False",
        "CuPy finds no GPU",
    ),
    "numba-cuda": (
        "import sys, fake_cupy\n"
        "sys.modules['cupy'], sys.modules['numba.cuda'] = fake_cupy.module(), None",
        "import of numba.cuda halted",
    ),
    "a driver": (
        "import sys, fake_cupy\n"
        "sys.modules['cupy'] = fake_cupy.module()\n"
        "from numba_stn.kernels.cuda import device\n"
        "device.cuda.is_available, device.cuda.cuda_error = lambda: False, lambda: 'no libcuda'",
        "no libcuda",
    ),
}


@pytest.mark.parametrize("what", MISSING)
def test_what_the_device_lacks_is_reported_first(what, tmp_path, monkeypatch):
    before, why = MISSING[what]
    if what == "a driver":
        pytest.importorskip("numba_cuda", reason="needs the extra cuda12 or cuda13")
    monkeypatch.setenv("PYTHONPATH", ":".join(sys.path))
    code = (
        f"{before}\nfrom numba_stn import cli\n"
        f"sys.exit(cli.main(['train', '--device', 'cuda', '--out', {str(tmp_path / 'r')!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("numba-stn: --device cuda: ")
    assert why in line
    assert "numba-stn[" in line
    assert not list(tmp_path.iterdir())


def test_the_device_is_checked():
    assert cli.options.DEVICES == namespace.DEVICES == tuple(experiment.STEPS_PER_LOSS)
    with pytest.raises(ValueError, match="device: expected one of"):
        experiment.prepare(experiment.Config(device="gpu"))
