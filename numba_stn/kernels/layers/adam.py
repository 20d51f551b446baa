"""CPU kernel of an Adam step: one pass over an array, where NumPy makes fifteen."""

import functools
from typing import NamedTuple

import numpy as np
from numba import prange

from .. import cpu_launch

# Number of elements of a task, and the time that one takes, in nanoseconds, is about 1.
ELEMENTS_PER_TASK = 8192


class AdamNumbers(NamedTuple):
    """The numbers of a step, which are the same for all elements."""

    keep_first: float
    keep_second: float
    rate: float
    epsilon: float
    decay: float


@functools.cache
def make_adam(parallel):
    """Kernel: p, g and both moments -> p and both moments after a step.

    The operations and their order are those of ``AdamRule.update`` in :mod:`numba_stn.nn.optim`, so
    the bits are the same. ``numbers`` are those of :class:`AdamNumbers`, with what is new of each
    moment after what is kept.
    """
    stamp = cpu_launch.stamp(parallel)

    def adam(p, g, first, second, numbers, new_p, new_first, new_second):
        keep_first, more_first, keep_second, more_second, rate, epsilon, decay = numbers
        for task in prange((len(p) + ELEMENTS_PER_TASK - 1) // ELEMENTS_PER_TASK):
            begin = task * ELEMENTS_PER_TASK
            for k in range(begin, min(begin + ELEMENTS_PER_TASK, len(p))):
                one = keep_first * first[k] + more_first * g[k]
                two = keep_second * second[k] + more_second * (g[k] * g[k])
                new = p[k] - rate * one / (np.sqrt(two) + epsilon)
                new_p[k] = new - decay * p[k]
                new_first[k], new_second[k] = one, two
        return stamp

    return cpu_launch.jit(adam, parallel)


def adam(p, g, first, second, numbers):
    """The array p and both moments after a step, given the gradient and :class:`AdamNumbers`."""
    results = [np.empty(p.shape, p.dtype) for _ in range(3)]
    keep_first, keep_second, *others = numbers
    kind = p.dtype.type
    of_kernel = (keep_first, 1 - keep_first, keep_second, 1 - keep_second, *others)
    flat = (np.ascontiguousarray(array).reshape(-1) for array in (p, g, first, second))
    cpu_launch.run(
        make_adam, (), p.size, *flat, tuple(map(kind, of_kernel)),
        *(result.reshape(-1) for result in results),
    )  # fmt: skip
    return results
