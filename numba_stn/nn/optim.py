"""Optimisers, each a rule for one array that is applied to a parameter tree, and schedules.

``optimiser.init(params) -> state`` and ``optimiser.update(params, grads, state) -> params, state``.
No array is changed in place.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..kernels.layers.adam import AdamNumbers
from ..kernels.layers.adam import adam as adam_step
from .checks import FLOATS, check_number, check_positive, check_whole
from .finite import NonFiniteError, all_finite
from .tree import Tree, flatten, leaves, tree_map

Schedule = Callable[[int], float]  # from the number of the step, from 0, to the learning rate


# --- Rules for one array --------------------------------------------------------------------------


@dataclass(frozen=True)
class SgdRule:
    """SGD with momentum: ``v <- momentum v + g``; ``p <- p - rate v``."""

    momentum: float = 0.9
    weight_decay: float = 0.0

    def __post_init__(self):
        """Check the numbers."""
        check_number("sgd", below=1, momentum=self.momentum)
        check_number("sgd", weight_decay=self.weight_decay)

    def init(self, p):
        """The velocity, 0."""
        return (np.zeros_like(p),)

    def update(self, p, g, slots, rate, step):
        """The array and the velocity after a step."""
        g = g + self.weight_decay * p if self.weight_decay else g
        velocity = self.momentum * slots[0] + g
        return p - rate * velocity, (velocity,)


@dataclass(frozen=True)
class AdamRule:
    """Adam (Kingma, Ba 2015) with decoupled weight decay (Loshchilov, Hutter 2019)."""

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self):
        """Check the numbers."""
        check_number("adam", below=1, beta1=self.beta1, beta2=self.beta2)
        check_positive("adam", epsilon=self.epsilon)
        check_number("adam", weight_decay=self.weight_decay)

    def init(self, p):
        """The first and second moments, 0."""
        return (np.zeros_like(p), np.zeros_like(p))

    def update(self, p, g, slots, rate, step):
        """The array and the moments after a step.

        The rate corrects the moments' bias towards 0. A kernel does the same for NumPy's arrays.
        """
        correction = math.sqrt(1 - self.beta2 ** (step + 1))
        corrected_rate = rate * correction / (1 - self.beta1 ** (step + 1))
        epsilon, decay = self.epsilon * correction, rate * self.weight_decay
        if type(p) is np.ndarray and p.dtype in FLOATS:
            numbers = AdamNumbers(self.beta1, self.beta2, corrected_rate, epsilon, decay)
            new, first, second = adam_step(p, g, slots[0], slots[1], numbers)
            return new, (first, second)
        first = self.beta1 * slots[0] + (1 - self.beta1) * g
        second = self.beta2 * slots[1] + (1 - self.beta2) * (g * g)
        new = p - corrected_rate * first / (np.sqrt(second) + epsilon)
        return new - decay * p, (first, second)


# --- Applied to the tree --------------------------------------------------------------------------


@dataclass(frozen=True)
class Optimiser:
    """A rule for one array, a learning-rate schedule, and learning-rate factors for subtrees.

    ``factors={"localisation": 0.1}`` trains all parameters below a key ``localisation``, anywhere
    in the tree, at a tenth of the learning rate.
    """

    rule: Any
    schedule: Schedule
    factors: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self):
        """Check the factors."""
        if not isinstance(self.factors, Mapping):
            raise TypeError(
                f"factors: expected a mapping from keys of the parameter tree to numbers, "
                f"got {self.factors!r}"
            )
        for key, factor in self.factors.items():
            check_number("factors", **{str(key): factor})

    def init(self, params: Tree) -> dict:
        """State before the first step; its arrays are where the parameters are."""
        keys = {key for path, _ in leaves(params) for key in path}
        if unknown := self.factors.keys() - keys:
            raise ValueError(
                f"factors: expected keys of the parameter tree {sorted(keys)}, "
                f"got {sorted(unknown)}"
            )
        return {"step": 0, "slots": [self.rule.init(p) for _, p in leaves(params)]}

    def update(self, params: Tree, grads: Tree, state: dict) -> tuple[Tree, dict]:
        """Parameters and state after one step against the gradients.

        Parameters
        ----------
        params, grads : trees of the same structure
        state : dict
            As :meth:`init` or the step before gave it.

        Returns
        -------
        params : tree
        state : dict

        Raises
        ------
        ValueError
            If the gradients do not have the parameters' names and shapes, or the schedule gives no
            finite rate of at least 0.
        NonFiniteError
            If a parameter would no longer be finite, because its gradient is not or because the
            step is too large. On the GPU this is not checked.
        """
        rate = float(self.schedule(state["step"]))  # a float64 scalar would make float32 float64
        check_number("schedule", **{f"the rate of step {state['step']}": rate})
        gradients, named = flatten(grads), flatten(params)
        if gradients.keys() != named.keys():
            raise ValueError(
                f"grads: expected the names of the parameters {list(named)}, got {list(gradients)}"
            )
        new_params, slots = [], []
        for (path, p), old_slots in zip(leaves(params), state["slots"], strict=True):
            name = ".".join(path)
            g = gradients[name].astype(p.dtype, copy=False)
            if g.shape != p.shape:  # it would be broadcast
                raise ValueError(f"grads: {name}: expected shape {p.shape}, got {g.shape}")
            factor = math.prod(self.factors.get(key, 1.0) for key in path)
            new, new_slots = self.rule.update(p, g, old_slots, rate * factor, state["step"])
            if type(new) is np.ndarray and not all_finite(new):  # for CuPy's one would have to wait
                what = "weight" if all_finite(g) else "gradient"
                raise NonFiniteError(f"{name}: the {what} is not finite in step {state['step']}")
            new_params.append(new)
            slots.append(new_slots)
        following = iter(new_params)
        new_state = {"step": state["step"] + 1, "slots": slots}
        return tree_map(lambda _: next(following), params), new_state


def sgd(
    rate: float | Schedule,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    factors: Mapping[str, float] | None = None,
) -> Optimiser:
    """Stochastic gradient descent with momentum.

    ``v <- momentum v + g``; ``p <- p - rate v``, where ``g`` is the gradient plus
    ``weight_decay * p``.

    Parameters
    ----------
    rate : float or schedule
        Learning rate, or a function from the number of the step, from 0, to the learning rate.
    momentum : float
        From 0 to less than 1.
    weight_decay : float
        L2 penalty: each gradient grows by this times the parameter.
    factors : mapping, optional
        From a key of the parameter tree to the learning-rate factor of all parameters below it.

    Returns
    -------
    Optimiser

    Raises
    ------
    ValueError, TypeError
        If a number is negative, not finite or out of range; from :meth:`Optimiser.init`, if a
        factor's key is not in the parameter tree.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_stn.nn import sgd
    >>> optimiser = sgd(0.1)
    >>> params = {"weight": np.ones(2)}
    >>> params, _ = optimiser.update(params, {"weight": np.ones(2)}, optimiser.init(params))
    >>> params["weight"]
    array([0.9, 0.9])
    """
    return _optimiser(SgdRule(momentum, weight_decay), rate, factors)


def adam(
    rate: float | Schedule = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    weight_decay: float = 0.0,
    factors: Mapping[str, float] | None = None,
) -> Optimiser:
    """Adam (Kingma, Ba 2015); with ``weight_decay``, AdamW (Loshchilov, Hutter 2019).

    ``p <- p - rate * m / (sqrt(v) + epsilon) - rate * weight_decay * p``, where m and v are the
    running means of the gradient and of its square, corrected for their bias.

    Parameters
    ----------
    rate : float or schedule
        Learning rate, or a function from the number of the step, from 0, to the learning rate.
    beta1, beta2 : float
        Share of the running means that a step keeps, from 0 to less than 1.
    epsilon : float
        Added to the denominator; positive.
    weight_decay : float
        Decoupled weight decay: each step subtracts this times the learning rate times the
        parameter.
    factors : mapping, optional
        From a key of the parameter tree to the learning-rate factor of all parameters below it.

    Returns
    -------
    Optimiser

    Raises
    ------
    ValueError, TypeError
        If a number is negative, not finite or out of range; from :meth:`Optimiser.init`, if a
        factor's key is not in the parameter tree.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_stn.nn import adam
    >>> optimiser = adam(0.1)
    >>> params = {"weight": np.ones(1)}
    >>> params, _ = optimiser.update(params, {"weight": np.ones(1)}, optimiser.init(params))
    >>> params["weight"].round(6)
    array([0.9])
    """
    return _optimiser(AdamRule(beta1, beta2, epsilon, weight_decay), rate, factors)


def _optimiser(rule, rate, factors):
    """The optimiser of a rule, with a constant rate or a schedule."""
    schedule = rate if callable(rate) else constant(rate)
    return Optimiser(rule, schedule, {} if factors is None else factors)


# --- Schedules ------------------------------------------------------------------------------------


def constant(rate: float) -> Schedule:
    """Constant learning rate.

    Examples
    --------
    >>> from numba_stn.nn import constant
    >>> constant(0.1)(1000)
    0.1
    """
    check_number("constant", rate=rate)
    return lambda step: rate


def step_decay(rate: float, every: int, factor: float = 0.1) -> Schedule:
    """Learning rate that is multiplied by ``factor`` after every ``every`` steps.

    Examples
    --------
    >>> from numba_stn.nn import step_decay
    >>> schedule = step_decay(1.0, every=10, factor=0.5)
    >>> schedule(9), schedule(10), schedule(20)
    (1.0, 0.5, 0.25)
    """
    check_number("step_decay", rate=rate, factor=factor)
    check_whole("step_decay", every=every)
    return lambda step: rate * factor ** (step // every)


def cosine(rate: float, steps: int) -> Schedule:
    """Learning rate that falls from ``rate`` to 0 over ``steps``, along half a cosine.

    Loshchilov, Hutter 2017, without restarts.

    Examples
    --------
    >>> from numba_stn.nn import cosine
    >>> schedule = cosine(1.0, steps=10)
    >>> round(schedule(0), 3), round(schedule(5), 3), round(schedule(10), 3)
    (1.0, 0.5, 0.0)
    """
    check_number("cosine", rate=rate)
    check_whole("cosine", steps=steps)
    return lambda step: rate * 0.5 * (1 + math.cos(math.pi * min(step / steps, 1.0)))


def one_cycle(rate: float, steps: int, warm: float = 0.25, start: float = 0.04) -> Schedule:
    """One-cycle learning rate: a rise from ``start * rate`` to ``rate``, then a fall to 0.

    Both follow half a cosine (Smith, Topin 2018).

    Parameters
    ----------
    rate : float
        The highest learning rate.
    steps : int
        Number of steps of the training.
    warm : float
        Share of the steps in which the rate rises.
    start : float
        The first rate, as a share of ``rate``.

    Examples
    --------
    >>> from numba_stn.nn import one_cycle
    >>> schedule = one_cycle(1.0, steps=100)
    >>> round(schedule(0), 3), round(schedule(25), 3), round(schedule(100), 3)
    (0.04, 1.0, 0.0)
    """
    check_number("one_cycle", rate=rate)
    check_number("one_cycle", at_most=1, warm=warm, start=start)
    check_whole("one_cycle", steps=steps)
    top = max(1.0, warm * steps)

    def schedule(step: int) -> float:
        if step < top:
            return rate * (start + (1 - start) * 0.5 * (1 - math.cos(math.pi * step / top)))
        left = min((step - top) / max(steps - top, 1), 1.0)
        return rate * 0.5 * (1 + math.cos(math.pi * left))

    return schedule
