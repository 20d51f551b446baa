"""Registration gives the same bits in every process and on every model of processor."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]

# Every kind of map, with and without a mask, from the start and from candidates; a line for each.
CODE = """
import dataclasses, hashlib, sys
import numpy as np
import numba_stn as stn
from numba_stn.kernels import cpu_launch

cpu_launch.PARALLEL_WORK = int(sys.argv[1])
rng = np.random.default_rng(0)
coarse = stn.resize(rng.random((12, 13)).astype(np.float32), (90, 101), mode="bicubic")
fine = stn.resize(rng.random((60, 60)).astype(np.float32), (120, 120), mode="bicubic")
mask = rng.random(coarse.shape) > 0.02
volume = np.float32(sum(np.sin(0.4 * k * axis + k) for k, axis in
                        enumerate(np.ogrid[:20, :22, :25], 1)))
for fixed, transform, options in (
    (coarse, "similarity", {}), (coarse, "affine", {}), (coarse, "projective", {"mask": mask}),
    (coarse, "affine", {"metric": "intensity"}), (coarse, "tps", {}), (fine, "similarity", {}),
    (volume, "affine 3-D", {}),
):
    angle = 12 if fixed is fine else 3.5
    moving = (stn.rotate(fixed, angle, zoom=1.03, padding_mode="border") if fixed.ndim == 2 else
              fixed[1:])
    found = stn.register(moving, fixed, transform, **options)
    digest = hashlib.sha256()
    for array in (found.theta, found.aligned, np.array(dataclasses.astuple(found.report)[3:])):
        digest.update(np.ascontiguousarray(array).tobytes())
    print(transform, found.report.converged, sum(found.report.iterations), digest.hexdigest()[:12])
"""


def lines(cache, work=10**9, **env):
    """Register in a new process; kernels with at least ``work`` elements to do are parallel."""
    env = os.environ | {"NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": str(ROOT)} | env
    command = [sys.executable, "-c", CODE, str(work)]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """A cache folder, and what the process that filled it printed."""
    cache = tmp_path_factory.mktemp("cache")
    found = lines(cache)
    assert list(cache.rglob("*.nbc"))
    assert all(" True " in line for line in found)
    return cache, found


def test_a_process_that_loads_the_kernels_gives_the_same_bits(compiled):
    cache, found = compiled
    assert lines(cache) == found


def test_parallel_kernels_give_the_same_bits(compiled):
    cache, found = compiled
    assert lines(cache, 0) == found


def test_kernels_for_a_generic_processor_give_the_same_bits(compiled, tmp_path):
    assert lines(tmp_path, NUMBA_CPU_NAME="generic") == compiled[1]
