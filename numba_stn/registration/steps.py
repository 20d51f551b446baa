"""Levenberg and Marquardt's steps towards the map that makes two images alike.

The samples s of the moving image are held against the fixed image f. Of "intensity" the cost is
the mean of ``(s - f)^2``. Of "correlation" it is ``1 - rho``, with Pearson's rho of s and f, which
no gain and bias changes: its step is that of the least squares ``|a s + b - f|^2`` in the map, the
gain a and the bias b at once, with a and b eliminated (Evangelidis and Psarakis 2008 maximise the
same quantity, by the same linear system).
"""

from typing import Any, NamedTuple

import numpy as np

from .pyramid import Level

# Where the images hardly correlate a least gain is taken, so that steps stay short.
LEAST_GAIN = 0.3

# Fewer pixels, or a smaller variance among them, say nothing.
LEAST_PIXELS, FLAT = 16, 1e-8

# Steps are damped by a share of J^T J's diagonal between these; beyond the last nothing moves.
DAMPING = (1e-4, 1e4)

# The longest step, as a share of the fixed image's longest side.
LONGEST = 0.1


class Metric(NamedTuple):
    """What is compared: a gain and bias that are known, or None, where they are looked for."""

    gain: float | None = None
    bias: float = 0.0


class Measured(NamedTuple):
    """What is known of a map at a level."""

    cost: float  # what a step should lower
    normal: np.ndarray  # (P, P)
    slope: np.ndarray  # (P,): a step solves normal step = -slope
    correlation: float
    overlap: float  # the share of pixels that read inside
    gain: float
    bias: float
    residual: float  # the root of the mean of squares, of the fixed image's deviations


def measure(model: Any, level: Level, metric: Metric) -> Measured | None:
    """What a map is worth at a level; None where too little is left to say so."""
    normal, mixed, values = model.sums(level)
    count = values[5]
    if count < LEAST_PIXELS or not np.isfinite(normal).all():
        return None
    ss, sf, ff, s, f, _ = (values / count).tolist()
    var_s, var_f, both = ss - s * s, ff - f * f, sf - s * f
    if not (var_s > FLAT and var_f > FLAT):
        return None
    rho = both / (var_s * var_f) ** 0.5
    normal, (js, jf, j1) = normal / count, mixed.T / count
    if metric.gain is None:
        gain = max(rho, LEAST_GAIN) * (var_f / var_s) ** 0.5
        bias, cost = f - gain * s, 1.0 - rho
        # J without what the gain and the bias would do: of mean 0, and at right angles to s.
        along = js - s * j1
        normal = normal - np.outer(j1, j1) - np.outer(along, along) / var_s
        slope = -gain * (jf - f * j1 - along * (both / var_s))
        residual = max(var_f * (1 - rho * rho), 0.0) ** 0.5
    else:
        gain, bias = metric.gain, metric.bias
        square = gain * gain * ss + ff + 2 * (gain * (bias * s - sf) - bias * f) + bias * bias
        cost, residual = square / 2, max(square, 0.0) ** 0.5
        slope = gain * (gain * js + bias * j1 - jf)
    value, bent, stiff = model.penalty()
    return Measured(
        cost + value, gain * gain * normal + stiff, slope + bent, rho, count / level.pixels,
        gain, bias, residual,
    )  # fmt: skip


def step_from(measured: Measured, damping: float) -> np.ndarray | None:
    """The damped step; None where the system has no solution: an image without texture."""
    diagonal = np.diagonal(measured.normal)
    if not diagonal.max() > 0:
        return None
    damped = measured.normal + np.diag(damping * diagonal + 1e-9 * diagonal.max())
    try:
        step = -np.linalg.solve(damped, measured.slope)
    except np.linalg.LinAlgError:
        return None
    return step if np.isfinite(step).all() else None


class Climbed(NamedTuple):
    """Where a level's steps led, and why they ended."""

    model: Any
    measured: Measured | None
    iterations: int
    reason: str  # "step", "cost", "iterations", "texture" or "overlap"


def climb(
    model: Any, level: Level, metric: Metric, iterations: int, tolerance: float,
    least_overlap: float,
) -> Climbed:  # fmt: skip
    """Steps at one level, until one moves no corner by ``tolerance`` pixels of the full image."""
    here, damping = measure(model, level, metric), 1e-3
    if here is None or here.overlap < least_overlap:
        return Climbed(model, here, 0, "overlap")
    longest = LONGEST * max(level.fixed.shape) * 2.0**level.halvings
    for iteration in range(1, iterations + 1):
        step = step_from(here, damping)
        if step is None:
            return Climbed(model, here, iteration, "texture")
        trial = model.moved(step)
        length = model.apart(trial)
        if length < tolerance and damping <= 1:
            # So little changes that it is not measured again.
            return Climbed(trial, here, iteration, "step")
        if length > longest:
            trial = model.moved(step * (longest / length))
        there = measure(trial, level, metric)
        better = there is not None and there.overlap >= least_overlap and there.cost < here.cost
        if there is not None and better:
            model, here, damping = trial, there, max(damping / 10, DAMPING[0])
        if not better:
            damping = max(damping * 10, 1e-2)
            if damping > DAMPING[1]:
                return Climbed(model, here, iteration, "cost")
    return Climbed(model, here, iterations, "iterations")
