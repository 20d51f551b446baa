"""Sweeps over angle, zoom, size and channels, forward, and forward and backward."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from . import clock, report, warps
from .rows import Row

ANGLES = (0, 5, 30, 45, 90)
ZOOMS = (0.25, 0.5, 0.8, 1, 2, 4)
SIDES = tuple(2**k for k in range(6, 14))
CHANNELS = (1, 3, 8, 32)

PEERS = ("torch", "cv2")
_WORK = {"forward": warps.forward, "both ways": warps.both_ways}


def points() -> list[dict[str, Any]]:
    """All points: the work, the quantity that varies and its value, the shape, angle or zoom."""
    side = (1, 1, 2048, 2048)
    varied: list[dict[str, Any]] = [
        *({"sweep": "angle", "value": a, "shape": side, "angle": a} for a in ANGLES),
        *({"sweep": "zoom", "value": z, "shape": side, "zoom": z} for z in ZOOMS),
        *({"sweep": "size", "value": s, "shape": (1, 1, s, s)} for s in SIDES),
        *({"sweep": "channels", "value": c, "shape": (1, c, 512, 512)} for c in CHANNELS),
    ]
    return [{"what": what, **point} for what in _WORK for point in varied]


def name(point: dict[str, Any]) -> str:
    """Name a point."""
    return f"{point['what']}, {point['sweep']} {point['value']}"


def line(point: dict[str, Any]) -> str:
    """Format a point's results as a line of text."""
    return f"{name(point):30s} {point['ns_per_sample']:9.3f} ns/sample   {report.ratios(point)}"


def table(points: Iterator[dict[str, Any]], rounds: int) -> list[dict[str, Any]]:
    """For each point, nanoseconds per sample, and each peer's time divided by ours.

    A sample is one channel of one output pixel.
    """
    return [_measure(point, rounds) for point in points]


def _measure(point, rounds):
    options = {key: point[key] for key in ("angle", "zoom") if key in point}
    full = _WORK[point["what"]](*point["shape"], **options)
    row = Row(full.op, full.problem, {who: full.makers[who] for who in ("ours", *PEERS)
                                      if who in full.makers})  # fmt: skip
    found = report.measure(name(point), row, rounds, clock.PATIENCE / 3)
    nanoseconds = 1e6 * found["ours_ms"] / np.prod(point["shape"])
    return {
        "what": point["what"], "sweep": point["sweep"], "value": point["value"],
        "shape": list(point["shape"]), "ns_per_sample": round(float(nanoseconds), 4),
        "ratios": found["ratios"], "disagree": found["disagree"],
    }  # fmt: skip
