"""Batches made in another thread while earlier ones are used."""

import threading

import pytest

from numba_stn.kernels import cpu_launch
from numba_stn.nn import train


def test_prefetched_batches_are_the_same_in_the_same_order():
    found = []

    def batches():
        for k in range(7):
            found.append((threading.current_thread(), cpu_launch.parallel(10**9)))
            yield k

    assert list(train.prefetch(batches())) == list(range(7))
    assert {threads for _, threads in found} == {False}  # kernels there run serially
    assert threading.current_thread() not in {thread for thread, _ in found}
    assert cpu_launch.parallel(10**9)


def test_two_batches_are_made_in_advance():
    made, third = [], threading.Event()

    def batches():
        for k in range(5):
            made.append(k)
            if k == 2:
                third.set()
            yield k

    batch = train.prefetch(batches(), depth=2)
    assert next(batch) == 0
    assert third.wait(10)
    batch.close()
    assert len(made) < 5


def test_an_error_in_the_other_thread_is_raised():
    def batches():
        yield 1
        raise ValueError("no more")

    batch = train.prefetch(batches())
    assert next(batch) == 1
    with pytest.raises(ValueError, match="no more"):
        next(batch)
