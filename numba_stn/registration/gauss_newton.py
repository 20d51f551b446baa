"""Levenberg-Marquardt steps of one pyramid level.

With the samples s of the moving image and the fixed image f, the cost is

- for "intensity", half the mean of ``(s - f)^2``;
- for "correlation", ``1 - rho``, with Pearson's correlation rho of s and f, which no gain and no
  bias changes. Its step is that of the least squares ``|a s + b - f|^2`` in the map, the gain a and
  the bias b, with a and b eliminated. Evangelidis and Psarakis (2008) maximise the same quantity
  by the same linear system.
"""

from typing import Any, NamedTuple

import numpy as np

from .pyramid import Level

# The smallest gain that a step assumes, as a share of the ratio of the standard deviations. It
# keeps steps short where the images hardly correlate.
LEAST_GAIN = 0.3

# With fewer pixels, or a smaller variance, a level cannot be evaluated.
LEAST_PIXELS, LEAST_VARIANCE = 16, 1e-8

# The smallest and the largest damping, as a share of the diagonal of J^T J. A level ends if a step
# fails at the largest.
DAMPING = (1e-4, 1e4)

# The longest step, in pixels of a level, as a share of the fixed image's longest side.
LONGEST_STEP = 0.1


class Metric(NamedTuple):
    """The gain and bias between the images; a gain of None means that they are estimated."""

    gain: float | None = None
    bias: float = 0.0


class Evaluation(NamedTuple):
    """The cost of a map at a level, its derivatives, and statistics of the samples."""

    cost: float
    normal: np.ndarray  # (P, P), the Gauss-Newton approximation of the Hessian
    gradient: np.ndarray  # (P,); a step solves normal @ step = -gradient
    correlation: float
    overlap: float  # the share of the fixed image's pixels that are sampled inside the moving one
    gain: float
    bias: float
    residual: float  # root mean square, in standard deviations of the fixed image


def evaluate(model: Any, level: Level, metric: Metric) -> Evaluation | None:
    """Evaluate a map at a level; None if too few pixels or too little variance are left."""
    normal, mixed, values = model.sums(level)
    count = values[5]
    if count < LEAST_PIXELS or not np.isfinite(normal).all():
        return None
    ss, sf, ff, s, f, _ = (values / count).tolist()
    var_s, var_f, covariance = ss - s * s, ff - f * f, sf - s * f
    if not (var_s > LEAST_VARIANCE and var_f > LEAST_VARIANCE):
        return None
    rho = covariance / (var_s * var_f) ** 0.5
    normal, (js, jf, j1) = normal / count, mixed.T / count
    if metric.gain is None:
        gain = max(rho, LEAST_GAIN) * (var_f / var_s) ** 0.5
        bias, cost = f - gain * s, 1.0 - rho
        # Project J on the complement of 1 and s, which the gain and the bias fit.
        j_s = js - s * j1
        normal = normal - np.outer(j1, j1) - np.outer(j_s, j_s) / var_s
        gradient = -gain * (jf - f * j1 - j_s * (covariance / var_s))
        residual = max(var_f * (1 - rho * rho), 0.0) ** 0.5
    else:
        gain, bias = metric.gain, metric.bias
        square = gain * gain * ss + ff + 2 * (gain * (bias * s - sf) - bias * f) + bias * bias
        cost, residual = square / 2, max(square, 0.0) ** 0.5
        gradient = gain * (gain * js + bias * j1 - jf)
    penalty, penalty_gradient, penalty_hessian = model.penalty()
    return Evaluation(
        cost + penalty, gain * gain * normal + penalty_hessian, gradient + penalty_gradient, rho,
        count / level.pixels, gain, bias, residual,
    )  # fmt: skip


def damped_step(here: Evaluation, damping: float) -> np.ndarray | None:
    """Solve for a damped step; None if the system is singular: an image without texture."""
    diagonal = np.diagonal(here.normal)
    if not diagonal.max() > 0:
        return None
    damped = here.normal + np.diag(damping * diagonal + 1e-9 * diagonal.max())
    try:
        step = -np.linalg.solve(damped, here.gradient)
    except np.linalg.LinAlgError:
        return None
    return step if np.isfinite(step).all() else None


class Descent(NamedTuple):
    """The map at which the steps of a level end, and why they end."""

    model: Any
    evaluation: Evaluation | None
    iterations: int
    reason: str  # "step", "cost", "iterations", "texture" or "overlap"


def descend(
    model: Any, level: Level, metric: Metric, iterations: int, tolerance: float,
    least_overlap: float,
) -> Descent:  # fmt: skip
    """Take steps at one level until one moves no corner by ``tolerance`` pixels of the image."""
    here, damping = evaluate(model, level, metric), 1e-3
    if here is None or here.overlap < least_overlap:
        return Descent(model, here, 0, "overlap")
    longest = LONGEST_STEP * max(level.fixed.shape) * 2.0**level.moving_halvings
    for iteration in range(1, iterations + 1):
        step = damped_step(here, damping)
        if step is None:
            return Descent(model, here, iteration, "texture")
        trial = model.updated(step)
        length = model.distance(trial)
        if length < tolerance and damping <= 1:
            # The change is too small to be worth another evaluation.
            return Descent(trial, here, iteration, "step")
        if length > longest:
            trial = model.updated(step * (longest / length))
        there = evaluate(trial, level, metric)
        better = there is not None and there.overlap >= least_overlap and there.cost < here.cost
        if there is not None and better:
            model, here, damping = trial, there, max(damping / 10, DAMPING[0])
        if not better:
            damping = max(damping * 10, 1e-2)
            if damping > DAMPING[1]:
                return Descent(model, here, iteration, "cost")
    return Descent(model, here, iterations, "iterations")
