"""The rows of the comparison: the same work done by several libraries."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

import numba_stn

# All tolerances are shares of the largest value expected.

# float32 rounds a coordinate of some thousands by about this much of a pixel.
ROUNDING = 1e-3

# OpenCV rounds coordinates to 1/32 of a pixel for some shapes.
COARSE = 1 / 32

# The gradient of theta is a sum over all samples, most of which cancels. Where 16 million terms are
# added in float32, as PyTorch does, one digit is left.
DTHETA_TOLERANCE = 0.2

# Results may differ by more than the tolerance in this share of the values, because the libraries'
# rules for pixels outside the image differ at its border.
LARGEST_SHARE = 0.01


class MissingError(NotImplementedError):
    """A library is not installed or cannot do the work of a row; asv skips the benchmark."""


class Runner(NamedTuple):
    """A library's function for a row, with its inputs prepared in its own layout."""

    run: Callable[[], Any]
    read: Callable[[Any], dict[str, Any]]  # converts what ``run`` returns: by name, in our layout
    tolerance: float = ROUNDING  # may differ from numba_stn by this share of the largest value


@dataclass(frozen=True)
class Row:
    """The work of a row: a function that draws its inputs, and one that prepares each library.

    ``makers["ours"]`` is numba_stn; the other keys are peers.
    """

    op: str
    problem: Callable[[], Any]
    makers: Mapping[str, Callable[[Any], Runner]]


def peer_module(name: str) -> ModuleType:
    """Import a module of a peer."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingError(f"{name} is not installed") from error


def kornia_rs_function(name: str) -> Callable[..., Any]:
    """Look up an image function of kornia-rs, whose earlier versions have others."""
    function = getattr(getattr(peer_module("kornia_rs"), "imgproc", None), name, None)
    if function is None:
        raise MissingError(f"this version of kornia_rs has no imgproc.{name}")
    return function


def stn_function(name: str) -> Callable[..., Any]:
    """Look up a public function of numba_stn."""
    return _stn_attribute(name)


def stn_module(name: str) -> ModuleType:
    """Look up a public module of numba_stn."""
    return _stn_attribute(name)


def _stn_attribute(name):
    found = getattr(numba_stn, name, None)
    if found is None:
        raise MissingError(f"this commit has no {name}")
    return found


def runners(row: Row, problem: Any) -> dict[str, Runner]:
    """Prepare the libraries that can do the row's work; none if numba_stn cannot."""
    found = {}
    for who, make in row.makers.items():
        try:
            found[who] = make(problem)
        except MissingError:
            continue
    return found if "ours" in found else {}


def to_float64(problem: Any) -> Any:
    """Convert the float32 arrays of a problem to float64."""
    return type(problem)(
        *(
            part.astype(np.float64)
            if isinstance(part, np.ndarray) and part.dtype == np.float32
            else part
            for part in problem
        )
    )


def relative_difference(found: Any, expected: Any) -> Any:
    """Absolute difference of two results, divided by the largest value expected."""
    largest = np.abs(expected).max()
    if not largest > 0:
        raise ValueError("expected: a result that is all zeros cannot be compared")
    return np.abs(np.asarray(found, float) - np.asarray(expected, float)) / float(largest)


def disagreement(found: Mapping[str, Any], expected: Mapping[str, Any], tolerance: float) -> str:
    """Describe how results differ by more than the tolerance; empty if they agree."""
    for name in sorted(found.keys() & expected.keys()):
        differences = relative_difference(found[name], expected[name])
        above = differences > (DTHETA_TOLERANCE if name == "dtheta" else tolerance)
        share = float(above.mean())
        if share > LARGEST_SHARE:
            return f"{name} differs by up to {differences.max():.2g} in {share:.1%}"
    return ""
