"""What Numba's CUDA simulator needs, to be quick and to be right."""

import sys
import threading

import numpy as np
from numba import config

_one_at_a_time = threading.Lock()


def prepare():
    """Called by each suite that may run in the simulator."""
    # The simulator waits for its threads in a loop, and each turn costs one of these.
    sys.setswitchinterval(1e-5)
    if config.ENABLE_CUDASIM:
        from numba.cuda.simulator.kernelapi import FakeCUDAShared

        FakeCUDAShared.array = _shared_array


def _shared_array(self, shape, dtype):
    """The block's array for this line of a kernel, the same for all its threads.

    The simulator's own function looks whether it is there already, and makes it if not, without a
    lock: two threads that do so at once get one each, and what one writes the other never sees, a
    wrong sum now and then.
    """
    frame = sys._getframe(1)
    caller = frame.f_code.co_filename, frame.f_lineno
    with _one_at_a_time:
        if caller not in self._allocations:
            self._allocations[caller] = np.empty(shape, dtype)
        return self._allocations[caller]
