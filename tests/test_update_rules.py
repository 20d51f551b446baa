"""Optimisers against their papers' formulas, number by number in Python."""

import math

import numpy as np
import pytest

from numba_stn import nn
from numba_stn.nn import optim

RATES = [0.3, 0.1, 0.2, 0.05, 0.4]


def problem(count=3):
    rng = np.random.default_rng(0)
    return rng.standard_normal(count), rng.standard_normal((len(RATES), count))


def run(optimiser, start, gradients):
    """The parameters after each step."""
    params, state = {"a": start}, optimiser.init({"a": start})
    for gradient in gradients:
        params, state = optimiser.update(params, {"a": gradient}, state)
        yield params["a"]


@pytest.mark.parametrize("decay", [0.0, 0.25])
@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_sgd(momentum, decay):
    start, gradients = problem()
    steps = run(nn.sgd(RATES.__getitem__, momentum, decay), start, gradients)
    p, velocity = list(start), [0.0] * len(start)
    for rate, gradient, found in zip(RATES, gradients, steps, strict=True):
        for k, g in enumerate(gradient):
            velocity[k] = momentum * velocity[k] + g + decay * p[k]
            p[k] -= rate * velocity[k]
        np.testing.assert_allclose(found, p, rtol=1e-13)


@pytest.mark.parametrize("decay", [0.0, 0.25])
@pytest.mark.parametrize("epsilon", [1e-8, 0.5])
def test_adam(epsilon, decay):
    """Kingma and Ba 2015, algorithm 1; Loshchilov and Hutter 2019, algorithm 2."""
    start, gradients = problem()
    steps = run(nn.adam(RATES.__getitem__, 0.7, 0.9, epsilon, decay), start, gradients)
    p, m, v = list(start), [0.0] * len(start), [0.0] * len(start)
    for t, (rate, gradient, found) in enumerate(zip(RATES, gradients, steps, strict=True), 1):
        for k, g in enumerate(gradient):
            m[k], v[k] = 0.7 * m[k] + 0.3 * g, 0.9 * v[k] + 0.1 * g * g
            first, second = m[k] / (1 - 0.7**t), v[k] / (1 - 0.9**t)
            p[k] -= rate * first / (math.sqrt(second) + epsilon) + rate * decay * p[k]
        np.testing.assert_allclose(found, p, rtol=1e-12)


def test_the_defaults_are_those_of_the_documentation():
    start, gradients = problem()
    assert nn.sgd(0.1).rule == optim.SgdRule() == optim.SgdRule(0.9, 0.0)
    assert nn.adam().rule == optim.AdamRule() == optim.AdamRule(0.9, 0.999, 1e-8, 0.0)
    for optimiser, same in (
        (nn.sgd(0.1), nn.sgd(0.1, 0.9, 0.0)),
        (nn.adam(), nn.adam(1e-3, 0.9, 0.999, 1e-8, 0.0)),
    ):
        pairs = zip(run(optimiser, start, gradients), run(same, start, gradients), strict=True)
        for one, other in pairs:
            np.testing.assert_array_equal(one, other)


# --- Schedules ------------------------------------------------------------------------------------


def test_a_schedule_is_called_with_the_number_of_the_step():
    called = []
    optimiser = nn.sgd(lambda step: called.append(step) or 0.1)
    list(run(optimiser, *problem()))
    assert called == [0, 1, 2, 3, 4]


def test_step_decay_and_cosine():
    decay, wave = nn.step_decay(2.0, 3, 0.5), nn.cosine(2.0, 8)
    assert [decay(step) for step in range(8)] == [2, 2, 2, 1, 1, 1, 0.5, 0.5]
    for step in range(12):
        part = min(step, 8) / 8
        assert wave(step) == pytest.approx(1 + math.cos(math.pi * part), abs=1e-15)


@pytest.mark.parametrize(("steps", "warm"), [(100, 0.25), (40, 0.5), (3, 0.1), (1, 0.25)])
def test_one_cycle(steps, warm):
    """Half a cosine up to ``rate`` in the share ``warm``, at least one step; then down to 0."""
    cycle = nn.one_cycle(3.0, steps, warm, start=0.1)
    top = max(1.0, warm * steps)
    for step in range(steps + 3):
        if step < top:
            share = 0.1 + 0.9 * (1 - math.cos(math.pi * step / top)) / 2
        else:
            left = min(1.0, (step - top) / (steps - top) if steps > top else step - top)
            share = (1 + math.cos(math.pi * left)) / 2
        assert cycle(step) == pytest.approx(3.0 * share, abs=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weight_decay", [0.0, 0.02])
def test_the_kernel_of_adam_gives_the_bits_of_the_formula(dtype, weight_decay):
    """Those of NumPy, which computes with a subclass by the formula; with several tasks too."""

    class OwnArray(np.ndarray):
        pass

    rng = np.random.default_rng(0)
    rule = optim.AdamRule(weight_decay=weight_decay)
    found = expected = rng.standard_normal((150, 121)).astype(dtype)
    slots = own_slots = rule.init(found)
    for step in range(3):
        g = rng.standard_normal(found.shape).astype(dtype)
        found, slots = rule.update(found, g, slots, 0.01, step)
        plain = expected.view(OwnArray)
        expected, own_slots = rule.update(plain, g, own_slots, 0.01, step)
        for a, b in zip((found, *slots), (expected, *own_slots), strict=True):
            assert a.dtype == dtype
            np.testing.assert_array_equal(a, b)
