"""Settings and a fix for Numba's CUDA simulator."""

import sys
import threading

import numpy as np
from numba import config

_one_at_a_time = threading.Lock()


def prepare():
    """Prepare Numba's simulator, if it is enabled; each suite that may run in it calls this."""
    # The simulator polls its threads in a loop, and each iteration costs one switch interval.
    sys.setswitchinterval(1e-5)
    if config.ENABLE_CUDASIM:
        from numba.cuda.simulator.kernelapi import FakeCUDAShared

        FakeCUDAShared.array = _shared_array


def _shared_array(self, shape, dtype):
    """The block's array for this line of a kernel, the same for all its threads.

    The simulator's own function creates the array if it does not exist yet, without a lock. Two
    threads that do so at once get an array each, and some sums are then wrong.
    """
    frame = sys._getframe(1)
    caller = frame.f_code.co_filename, frame.f_lineno
    with _one_at_a_time:
        if caller not in self._allocations:
            self._allocations[caller] = np.empty(shape, dtype)
        return self._allocations[caller]
