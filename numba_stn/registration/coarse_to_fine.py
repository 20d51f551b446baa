"""The estimation of a map, from the coarsest level of the images' pyramids to the finest."""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ..ops.tps_grid import control_points
from .arguments import Problem
from .candidates import start_candidates
from .gauss_newton import Descent, Metric, descend, evaluate
from .models import MatrixMap, SplineMap, basis_functions, theta_from_matrix
from .outliers import at_other_levels, changed, find_outliers
from .pyramid import Frame, Level

# The smallest share of the fixed image that must be sampled inside the moving one; if this has a
# mask, multiplied by the mask's share of the moving image.
LEAST_OVERLAP = 0.25

# At the coarsest level, a correlation that makes start candidates unnecessary, the number of
# candidates, and the number of steps from each.
HIGH_CORRELATION, CANDIDATES, CANDIDATE_STEPS = 0.95, 12, 5

# At every level except the finest, a step shorter than this share of the level's pixels is the
# last.
COARSE_TOLERANCE = 0.1

# How often outliers are searched, and a correlation that makes this unnecessary.
OUTLIER_ROUNDS, CORRELATION_WITHOUT_OUTLIERS = 4, 0.99

# The number of the coarsest level at which a spline is estimated, and at which steps are repeated
# without outliers.
COARSEST_AGAIN = 2


class CoarseToFine(NamedTuple):
    """The estimation of a map: the problem, and the levels from fine to coarse."""

    problem: Problem
    start: np.ndarray
    levels: list[Level]
    moving: Frame
    fixed: Frame
    metric: Metric

    def run(self) -> tuple[Descent, tuple[int, ...]]:
        """Estimate the map, and again without outliers; also give the steps at each level."""
        found, counts = self.coarse_to_fine()
        number, known = min(1, len(self.levels) - 1), None
        for _ in range(OUTLIER_ROUNDS):
            if found.evaluation is None or found.reason == "overlap":
                break
            if known is None and found.evaluation.correlation > CORRELATION_WITHOUT_OUTLIERS:
                break
            outliers = find_outliers(
                found.model, self.levels[number], self.moving, self.metric, known
            )
            if outliers is None or (known is not None and not changed(outliers, known)):
                break
            known = outliers
            left = at_other_levels(outliers, number, self.levels)
            for k in range(min(COARSEST_AGAIN, len(self.levels) - 1), -1, -1):
                found = self.descend(found.model, self.levels[k].without(left[k]), finest=k == 0)
                counts[len(self.levels) - 1 - k] += found.iterations
        return (found if known is None else self.with_outliers(found)), tuple(counts)

    def with_outliers(self, found: Descent) -> Descent:
        """Evaluate a map that was estimated without outliers on all pixels."""
        here, everywhere = found.evaluation, evaluate(found.model, self.levels[0], self.metric)
        if here is None or everywhere is None:
            return found._replace(evaluation=None)
        # The gain and the bias stay those without outliers.
        evaluation = everywhere._replace(gain=here.gain, bias=here.bias)
        return found._replace(evaluation=evaluation)

    def coarse_to_fine(self) -> tuple[Descent, list[int]]:
        """Estimate the map at all levels; also give the number of steps at each level."""
        found, count = self.coarsest_level()
        group = self.problem.group
        counts = [count]
        for level in self.levels[-2::-1]:
            found = self.descend(found.model, level, "affine" if group == "tps" else group)
            counts.append(found.iterations)
        if group != "tps" or found.evaluation is None:
            return found, counts
        return self.spline_levels(found, counts)

    def descend(
        self,
        model: Any,
        level: Level,
        group: str | None = None,
        most_steps: int | None = None,
        finest: bool | None = None,
    ) -> Descent:
        """Take steps at one level."""
        if group:
            model = replace(model, group=group)
        finest = level is self.levels[0] if finest is None else finest
        tolerance = self.problem.tolerance if finest else COARSE_TOLERANCE
        tolerance *= 2.0**level.moving_halvings
        steps = min(most_steps or self.problem.iterations, self.problem.iterations)
        least_overlap = LEAST_OVERLAP * level.moving_share
        return descend(model, level, self.metric, steps, tolerance, least_overlap)

    def coarsest_level(self) -> tuple[Descent, int]:
        """Start at the coarsest level: from groups of few parameters to the group asked for.

        If the correlation stays low, repeat this from the best of several start candidates.
        """
        level, group = self.levels[-1], self.problem.group
        middle = "rigid" if group == "rigid" else "similarity"
        group = "affine" if group == "tps" else group
        chain = list(dict.fromkeys(["translation", middle, group]))
        groups = chain[: chain.index(group) + 1]
        start = np.linalg.inv(self.moving.to_pixels()) @ self.start @ self.fixed.to_pixels()
        initial = MatrixMap(group, start, self.fixed)
        found, count = self.through_groups(initial, level, groups)
        if _correlates_well(found) or self.problem.images.moving.ndim == 3:
            return found, count
        best = None
        for candidate in start_candidates(initial, level, self.moving, group, CANDIDATES):
            other = self.descend(candidate, level, groups[-2:][0], CANDIDATE_STEPS)
            count += other.iterations
            best = max(best or other, other, key=_score)
            if _correlates_well(best):
                break
        if best and _score(best) > _score(found):
            found, more = self.through_groups(best.model, level, groups[-2:])
            count += more
        return found, count

    def through_groups(
        self, model: MatrixMap, level: Level, groups: list[str]
    ) -> tuple[Descent, int]:
        """Take steps in one group after the other, at one level."""
        count = 0
        for group in groups:
            found = self.descend(model, level, group)
            model, count = found.model, count + found.iterations
        return found, count

    def spline_levels(self, found: Descent, counts: list[int]) -> tuple[Descent, list[int]]:
        """Estimate a spline, starting from an affine map."""
        sides, target = self.problem.images.moving.shape, self.problem.images.fixed.shape
        theta = theta_from_matrix(found.model.pixel_matrix(None, self.moving), target, sides)
        lattice = np.c_[control_points(self.problem.control), np.ones(self.problem.control**2)]
        coarsest = min(COARSEST_AGAIN, len(self.levels) - 1)
        basis = basis_functions(self.problem.control, target, self.levels[coarsest].halvings + 1)
        control = lattice @ theta[:2].T
        model: Any = SplineMap(control, sides, target, self.problem.stiffness, basis)
        for k in range(coarsest, -1, -1):
            found = self.descend(model, self.levels[k])
            model = found.model
            counts[len(self.levels) - 1 - k] += found.iterations
        return found, counts


def _score(found):
    """The correlation times the root of the overlap: few pixels correlate by chance more easily."""
    here = found.evaluation
    return here.correlation * min(here.overlap, 1.0) ** 0.5 if here else -1.0


def _correlates_well(found):
    """True if start candidates are unnecessary."""
    return found.evaluation is not None and found.evaluation.correlation >= HIGH_CORRELATION
