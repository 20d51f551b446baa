"""Registration gives the same bits in every process and on every model of processor."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]

# Planes and a volume, with and without a mask, for every kind of map; large enough for the parallel
# kernels where ``PARALLEL_WORK`` says so.
CODE = """
import hashlib, sys
import numpy as np
import numba_stn as stn
from numba_stn.kernels import cpu_launch

cpu_launch.PARALLEL_WORK = int(sys.argv[1])
rng = np.random.default_rng(0)
fixed = stn.resize(rng.random((12, 13)).astype(np.float32), (90, 101), mode="bicubic")
moving = stn.rotate(fixed, 3.5, zoom=1.03, padding_mode="border")
mask = rng.random(fixed.shape) > 0.02
axes = np.ogrid[:20, :22, :25]
volume = np.float32(sum(np.sin(0.4 * k * axis + k) for k, axis in enumerate(axes, 1)))
calls = [
    (moving, fixed, transform, {"mask": mask} if transform != "affine" else {})
    for transform in ("translation", "affine", "projective", "tps")
]
calls.append((volume[1:], volume[:-1], "affine 3-D", {}))
digest = hashlib.sha256()
for *images, transform, options in calls:
    found = stn.register(*images, transform, **options)
    assert found.report.overlap > 0.5
    for array in (found.theta, found.aligned, np.array([
        found.report.correlation, found.report.details, found.report.gain])):
        digest.update(np.ascontiguousarray(array).tobytes())
print(digest.hexdigest())
"""


def digest(cache, work, **env):
    env = os.environ | {"NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": str(ROOT)} | env
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(work)], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_process_that_compiles_and_one_that_loads_give_the_same_bits(tmp_path):
    """The kernels are compiled serially, loaded, compiled in parallel, and for a generic CPU."""
    compiled = digest(tmp_path / "one", 10**9)
    assert list((tmp_path / "one").rglob("*.nbc"))
    assert digest(tmp_path / "one", 10**9) == compiled
    assert (
        digest(tmp_path / "two", 10**9, NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="") == compiled
    )
    assert digest(tmp_path / "one", 0) == compiled
