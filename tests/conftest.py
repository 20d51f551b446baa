"""Settings of the whole suite."""

import os

# Runs in a process of its own, under Numba's CUDA simulator: see test_cuda_simulator.py.
collect_ignore = []
if "NUMBA_ENABLE_CUDASIM" not in os.environ:
    collect_ignore.append("cuda_simulator_suite.py")
