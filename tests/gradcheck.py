"""Gradient checks: a random direction, a random cotangent, one inner product each way."""

import numpy as np


def dot(a, b):
    """Inner product of two trees of arrays of the same structure."""
    if isinstance(a, dict):
        return sum(dot(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return sum(dot(x, y) for x, y in zip(a, b, strict=True))
    return float(np.sum(np.asarray(a, float) * np.asarray(b, float)))


def moved(tree, direction, step):
    """``tree + step * direction``, leaf by leaf."""
    if isinstance(tree, dict):
        return {key: moved(tree[key], direction[key], step) for key in tree}
    if isinstance(tree, (list, tuple)):
        pairs = zip(tree, direction, strict=True)
        return tuple(moved(x, y, step) for x, y in pairs)
    return tree + step * direction


def like(rng, tree):
    """A random tree of the same structure."""
    if isinstance(tree, dict):
        return {key: like(rng, value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return tuple(like(rng, value) for value in tree)
    return rng.standard_normal(np.shape(tree))


def check_vjp(function, vjp, x, rng, step=1e-6, rtol=1e-6):
    """Compare <dy, J v> from central differences with <vjp(dy), v>.

    ``function`` maps a tree of float64 arrays to an array; ``vjp(dy)`` returns a tree like ``x``.
    The inner product must not be near zero, so that a gradient of zeros cannot pass.
    """
    v = like(rng, x)
    plus, minus = function(moved(x, v, step)), function(moved(x, v, -step))
    dy = rng.standard_normal(np.shape(plus))
    numeric = dot(dy, (plus - minus) / (2 * step))
    analytic = dot(vjp(dy), v)
    assert abs(numeric) > 1e-3, "the inner product is near zero; choose another seed"
    assert abs(analytic - numeric) <= rtol * max(1.0, abs(numeric)), (analytic, numeric)
