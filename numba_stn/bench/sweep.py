"""Sweeps over angle, zoom, size and channels, forward and both ways."""

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
    """Every point: what is done, what varies, its value, the shape, and angle or zoom."""
    side = (1, 1, 2048, 2048)
    varied: list[dict[str, Any]] = [
        *({"sweep": "angle", "value": a, "shape": side, "angle": a} for a in ANGLES),
        *({"sweep": "zoom", "value": z, "shape": side, "zoom": z} for z in ZOOMS),
        *({"sweep": "size", "value": s, "shape": (1, 1, s, s)} for s in SIDES),
        *({"sweep": "channels", "value": c, "shape": (1, c, 512, 512)} for c in CHANNELS),
    ]
    return [{"what": what, **point} for what in _WORK for point in varied]


def name(point: dict[str, Any]) -> str:
    """A point in a few words."""
    return f"{point['what']}, {point['sweep']} {point['value']}"


def line(point: dict[str, Any]) -> str:
    """A point's figures."""
    return f"{name(point):30s} {point['ns_per_sample']:9.3f} ns a sample   {report.ratios(point)}"


def table(points: Iterator[dict[str, Any]], rounds: int) -> list[dict[str, Any]]:
    """Of each point: nanoseconds that a sample takes us, and each peer's ratio to it.

    A sample is one channel of one output pixel.
    """
    return [_measure(point, rounds) for point in points]


def _measure(point, rounds):
    kind = {key: point[key] for key in ("angle", "zoom") if key in point}
    full = _WORK[point["what"]](*point["shape"], **kind)
    row = Row(full.op, full.problem, {who: full.makers[who] for who in ("ours", *PEERS)
                                      if who in full.makers})  # fmt: skip
    found = report.measure(name(point), row, rounds, clock.PATIENCE / 3)
    nanoseconds = 1e6 * found["ours_ms"] / np.prod(point["shape"])
    return {
        "what": point["what"], "sweep": point["sweep"], "value": point["value"],
        "shape": list(point["shape"]), "ns_per_sample": round(float(nanoseconds), 4),
        "ratios": found["ratios"], "disagree": found["disagree"],
    }  # fmt: skip
