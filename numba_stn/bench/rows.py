"""What a row of the comparison is: the same work by several libraries."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

import numba_stn

# Single precision's in a coordinate of some thousands, as a share of the largest value.
ROUNDING = 1e-3

# OpenCV rounds coordinates to 1/32 of a pixel for some shapes.
COARSE = 1 / 32

# The gradient of theta is a sum over all samples, most of which cancels: of 16 million added in
# float32, as PyTorch does, a digit is left.
CANCELLED = 0.2


class MissingError(NotImplementedError):
    """A library is not there, or cannot do a row's work; asv skips the benchmark."""


class Runner(NamedTuple):
    """One library's way to do a row's work, its inputs at hand in its own layout."""

    run: Callable[[], Any]
    read: Callable[[Any], dict[str, Any]]  # what ``run`` gave, by name and in our layout
    tolerance: float = ROUNDING  # may differ from ours by this share of the largest value


@dataclass(frozen=True)
class Row:
    """Some work: how to draw its inputs, and how each library prepares for it, ours first."""

    op: str
    problem: Callable[[], Any]
    makers: Mapping[str, Callable[[Any], Runner]]


def installed(name: str) -> ModuleType:
    """A peer."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingError(f"{name} is not installed") from error


def own(name: str) -> Callable[..., Any]:
    """A public function of ours."""
    function = getattr(numba_stn, name, None)
    if function is None:
        raise MissingError(f"this commit has no {name}")
    return function


def runners(row: Row, problem: Any) -> dict[str, Runner]:
    """Those libraries that can do the row's work here; none if we cannot."""
    found = {}
    for who, make in row.makers.items():
        try:
            found[who] = make(problem)
        except MissingError:
            continue
    return found if "ours" in found else {}


def widened(problem: Any) -> Any:
    """The same inputs in float64."""
    return type(problem)(
        *(
            part.astype(np.float64)
            if isinstance(part, np.ndarray) and part.dtype == np.float32
            else part
            for part in problem
        )
    )


def difference(found: Any, expected: Any) -> Any:
    """Where two results differ, in units of the largest value expected."""
    largest = np.abs(expected).max()
    if not largest > 0:
        raise ValueError("a result that is all zeros shows nothing")
    return np.abs(np.asarray(found, float) - np.asarray(expected, float)) / float(largest)


def disagreement(found: Mapping[str, Any], expected: Mapping[str, Any], tolerance: float) -> str:
    """How results differ by more than rounding, in more than a hundredth; empty if they agree.

    A hundredth, for what lies beyond an image's rim is not the same pixel for pixel everywhere.
    """
    for name in sorted(found.keys() & expected.keys()):
        apart = difference(found[name], expected[name])
        share = float((apart > (CANCELLED if name == "dtheta" else tolerance)).mean())
        if share > 0.01:
            return f"{name} differs by up to {apart.max():.2g} in {share:.1%}"
    return ""
