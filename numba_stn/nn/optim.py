"""Optimisers: a rule for one array, lifted over the parameter tree; and learning-rate schedules.

``optimiser.init(params) -> state`` and ``optimiser.update(params, grads, state) -> params, state``.
Nothing is changed in place.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .tree import Tree, flatten, leaves, tree_map

Schedule = Callable[[int], float]  # step, from 0, -> learning rate


# --- Rules for one array --------------------------------------------------------------------------


@dataclass(frozen=True)
class SgdRule:
    """``v <- momentum v + g``; ``p <- p - rate v``."""

    momentum: float = 0.9
    weight_decay: float = 0.0

    def init(self, p):
        """The velocity."""
        return (np.zeros_like(p),)

    def update(self, p, g, slots, rate, step):
        """New array and velocity."""
        g = g + self.weight_decay * p if self.weight_decay else g
        velocity = self.momentum * slots[0] + g
        return p - rate * velocity, (velocity,)


@dataclass(frozen=True)
class AdamRule:
    """Adam (Kingma, Ba 2015), with decoupled weight decay (Loshchilov, Hutter 2019)."""

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0

    def init(self, p):
        """First and second moment."""
        return (np.zeros_like(p), np.zeros_like(p))

    def update(self, p, g, slots, rate, step):
        """New array and moments; the moments' bias towards 0 is corrected in the rate."""
        first = self.beta1 * slots[0] + (1 - self.beta1) * g
        second = self.beta2 * slots[1] + (1 - self.beta2) * (g * g)
        unbias = math.sqrt(1 - self.beta2 ** (step + 1))
        scaled = rate * unbias / (1 - self.beta1 ** (step + 1))
        moved = p - scaled * first / (np.sqrt(second) + self.epsilon * unbias)
        if self.weight_decay:
            moved -= rate * self.weight_decay * p
        return moved, (first, second)


# --- Lifted over the tree -------------------------------------------------------------------------


@dataclass(frozen=True)
class Optimiser:
    """A rule, a schedule, and factors of the rate for subtrees.

    ``factors={"localisation": 0.1}`` trains everything below a key ``localisation``, wherever in
    the tree, at a tenth of the rate.
    """

    rule: Any
    schedule: Schedule
    factors: Mapping[str, float] = field(default_factory=dict)

    def init(self, params: Tree) -> dict:
        """State before the first step, its arrays where the parameters are."""
        keys = {key for path, _ in leaves(params) for key in path}
        if unknown := self.factors.keys() - keys:
            raise ValueError(
                f"factors: no parameters below {sorted(unknown)}; keys: {sorted(keys)}"
            )
        return {"step": 0, "slots": [self.rule.init(p) for _, p in leaves(params)]}

    def update(self, params: Tree, grads: Tree, state: dict) -> tuple[Tree, dict]:
        """One step against the gradients."""
        rate = float(self.schedule(state["step"]))  # a float64 scalar would turn float32 into it
        gradients = flatten(grads)
        moved, slots = [], []
        for (path, p), past in zip(leaves(params), state["slots"], strict=True):
            g = gradients[".".join(path)].astype(p.dtype, copy=False)
            factor = math.prod(self.factors.get(key, 1.0) for key in path)
            new, own = self.rule.update(p, g, past, rate * factor, state["step"])
            moved.append(new)
            slots.append(own)
        each = iter(moved)
        return tree_map(lambda _: next(each), params), {"step": state["step"] + 1, "slots": slots}


def sgd(
    rate: float | Schedule,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    factors: Mapping[str, float] | None = None,
) -> Optimiser:
    """Stochastic gradient descent with momentum.

    Parameters
    ----------
    rate : float or schedule
        Learning rate, or a function from the step, counted from 0, to it.
    momentum, weight_decay : float
    factors : mapping, optional
        Factor of the rate below a key of the parameter tree.

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
    return Optimiser(SgdRule(momentum, weight_decay), _schedule(rate), factors or {})


def adam(
    rate: float | Schedule = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    weight_decay: float = 0.0,
    factors: Mapping[str, float] | None = None,
) -> Optimiser:
    """Adam; with ``weight_decay``, AdamW.

    Parameters
    ----------
    rate : float or schedule
        Learning rate, or a function from the step, counted from 0, to it.
    beta1, beta2, epsilon, weight_decay : float
    factors : mapping, optional
        Factor of the rate below a key of the parameter tree.

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
    rule = AdamRule(beta1, beta2, epsilon, weight_decay)
    return Optimiser(rule, _schedule(rate), factors or {})


# --- Schedules ------------------------------------------------------------------------------------


def _schedule(rate: float | Schedule) -> Schedule:
    return rate if callable(rate) else constant(rate)


def constant(rate: float) -> Schedule:
    """The same rate always."""
    return lambda step: rate


def step_decay(rate: float, every: int, factor: float = 0.1) -> Schedule:
    """The rate times ``factor`` after every ``every`` steps."""
    return lambda step: rate * factor ** (step // every)


def cosine(rate: float, steps: int) -> Schedule:
    """Half a cosine from ``rate`` to 0 over ``steps`` (Loshchilov, Hutter 2017)."""
    return lambda step: rate * 0.5 * (1 + math.cos(math.pi * min(step / steps, 1.0)))


def one_cycle(rate: float, steps: int, warm: float = 0.25, start: float = 0.04) -> Schedule:
    """Up from ``start * rate`` to ``rate`` in a share ``warm`` of the steps, then down to 0.

    Both halves are cosines (Smith, Topin 2018).
    """
    top = max(1.0, warm * steps)

    def schedule(step: int) -> float:
        if step < top:
            return rate * (start + (1 - start) * 0.5 * (1 - math.cos(math.pi * step / top)))
        left = min((step - top) / max(steps - top, 1), 1.0)
        return rate * 0.5 * (1 + math.cos(math.pi * left))

    return schedule
