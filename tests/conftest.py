"""Settings of the whole suite."""

import os

# Run in processes of their own, under Numba's CUDA simulator: see test_cuda_simulator.py.
collect_ignore = []
if "NUMBA_ENABLE_CUDASIM" not in os.environ:
    collect_ignore += ["cuda_simulator_suite.py", "train_simulator_suite.py"]
