"""Theta in several rounds: the iterated spatial transformer (Lin and Lucey 2017).

Each round sees the *original* images through the map that the rounds before it have found, and
predicts a further map. The maps are composed, so nothing is interpolated twice:

    theta_1 = T(raw_1),    theta_k = theta_{k-1} Z T(raw_k),    seen_k = images at theta_{k-1} Z

T is the transform, raw_k what localisation and head predict for seen_k, and Z undoes the zoom with
which every T starts, so that a network that has learned nothing sees the whole image in each round.
"""

from typing import Any, NamedTuple

import numpy as np

from ..transforms.composition import compose_unchecked, compose_unchecked_vjp
from ..utils.namespace import namespace
from .base import Pullback, name_of
from .checks import check_tree
from .tree import Tree, tree_map


class Predicted(NamedTuple):
    """What one round found: a map T(raw), and the pullback to the parameters and what it saw."""

    step: Any
    pullback: Pullback
    state: Tree


class Round(NamedTuple):
    """A round, with the map through which it saw the images; None in the first."""

    through: Any
    found: Predicted


def round_states(layer: Any, state: Tree) -> tuple[Tree, ...]:
    """The state of each round; an empty one means that no layer has any.

    The rounds share parameters but not running statistics, because they see different images
    (Cooijmans et al. 2016).
    """
    if layer.rounds == 1:
        return (state,)
    if isinstance(state, (tuple, list)) and not state:
        return ((),) * layer.rounds
    check_tree(name_of(layer), "state", state, (None,) * layer.rounds)
    return tuple(state)


def composed_rounds(
    layer: Any, params: Tree, images: Any, state: Tree, train: bool, wrt_x: bool
) -> tuple[Any, Pullback, Tree]:
    """Theta of all rounds together, its pullback, and the new state.

    ``layer`` is the transformer, which predicts a step (``predict``) and warps (``warp``).
    """
    states, rounds = round_states(layer, state), []
    through, theta = None, None
    for number, its_state in enumerate(states):
        seen = images
        if number:
            through = zoomed_out(theta, layer.zoom)
            seen = layer.warp(images, through, images.shape[2:])
        found = layer.predict(params, seen, its_state, train, wrt_x or number > 0)
        theta = found.step if through is None else compose_unchecked(through, found.step)
        rounds.append(Round(through, found))

    def pullback(dtheta):
        dparams, dimages = None, None
        for one in reversed(rounds):
            dthrough, dstep = None, dtheta
            if one.through is not None:
                dthrough, dstep = compose_unchecked_vjp(dtheta, one.through, one.found.step)
            own, dseen = one.found.pullback(dstep)
            dparams = own if dparams is None else tree_map(np.add, dparams, own)
            if one.through is not None:
                dseen, further = layer.warp_vjp(dseen, images, one.through, wrt_x)
                dtheta = zoomed_out(dthrough + further, layer.zoom)
            if wrt_x:
                dimages = dseen if dimages is None else dimages + dseen
        return dparams, dimages

    new = tuple(one.found.state for one in rounds)
    return theta, pullback, new if layer.rounds > 1 else new[0]


def zoomed_out(theta: Any, zoom: float) -> Any:
    """``theta Z`` with ``Z = diag(1 / zoom, ..., 1)``; as Z is diagonal, this is its vjp too."""
    factors = np.ones(theta.shape[2])
    factors[:-1] = 1 / zoom
    return theta * namespace(theta).asarray(factors, theta.dtype)
