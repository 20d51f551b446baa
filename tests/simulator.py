"""Another way for Numba's CUDA simulator to run the threads of a block, which takes less time.

The simulator starts a Python thread for each CUDA thread, and polls them all the time. Here the
threads of a block run one at a time, each until it ends or waits for the others, in a random order
that is the same in every run. Most need no Python thread of their own: when one ends, the next one
runs in its Python thread.

A kernel that lacks a barrier is found more often, because a thread gets further ahead of the others
than it would if all ran at the same time.
"""

import random
import threading

import numpy as np
from numba import config


def prepare():
    """Prepare Numba's simulator, if it is enabled; each suite that may run in it calls this."""
    if not config.ENABLE_CUDASIM:
        return
    from numba.cuda.simulator import kernel

    kernel.BlockManager = Block


class Block:
    """A block of CUDA threads; takes the place of the simulator's ``BlockManager``."""

    def __init__(self, function, grid_dim, block_dim, debug):
        from numba.cuda.simulator.kernelapi import Dim3

        self.function, self.dim3 = function, Dim3
        self.points = list(np.ndindex(*block_dim))
        self.strides = 1, block_dim[0], block_dim[0] * block_dim[1]
        self.block_state = np.zeros(block_dim, dtype=np.bool_)  # for the votes of its threads
        self.error = None

    def run(self, grid_point, *args):
        """Run all threads; an error in one of them ends the others, and is raised."""
        self.blockIdx, self.args = self.dim3(*grid_point), args
        self.random = random.Random(repr(grid_point))
        self.random.shuffle(self.points)
        self.waiting, self.ready, self.done = [], [], threading.Semaphore(0)
        _idle_worker().take(self)
        self.done.acquire()
        if self.error:
            raise self.error

    def wait(self, worker):
        """Let others run, until all threads that have not ended wait."""
        self.waiting.append(worker)
        self.go_on()
        worker.go.acquire()
        if self.error:
            raise _EndedError

    def go_on(self):
        """Let another worker run: one for threads that have not begun, or one that waits."""
        if self.points and not self.error:
            _idle_worker().take(self)
            return
        if not self.ready:
            self.ready, self.waiting = self.waiting, []
            self.random.shuffle(self.ready)
        if self.ready:
            self.ready.pop().go.release()
        else:
            self.done.release()


class _EndedError(Exception):
    """Ends a thread because another one raised an error."""


_idle = []


def _idle_worker():
    if _idle:
        return _idle.pop()
    from numba.cuda.simulator.kernel import BlockThread

    class Worker(_Work, BlockThread):
        pass

    worker = Worker()
    worker.start()
    return worker


class _Work:
    """A Python thread that runs CUDA threads of any block, one after the other."""

    def __init__(self):
        threading.Thread.__init__(self, daemon=True)
        self.go = threading.Semaphore(0)

    def take(self, block):
        """Begin to run a block's threads."""
        self._manager = block  # the name that the simulator's own votes use
        self.go.release()

    def run(self):
        while True:
            self.go.acquire()
            block = self._manager
            self.blockIdx = block.blockIdx
            while block.points and not block.error:
                self.run_thread(block, block.points.pop())
            _idle.append(self)
            block.go_on()

    def run_thread(self, block, point):
        self.threadIdx = block.dim3(*point)
        self.thread_id = sum(k * stride for k, stride in zip(point, block.strides, strict=True))
        try:
            block.function(*block.args)
        except _EndedError:
            pass
        except BaseException as error:
            where = f"tid={list(self.threadIdx)} ctaid={list(self.blockIdx)}"
            block.error = type(error)(f"{where}: {error}").with_traceback(error.__traceback__)

    def syncthreads(self):
        self._manager.wait(self)
