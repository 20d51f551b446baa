"""Spatial transformer networks for NumPy.

Warp functions with analytic gradients, and small networks trained without a framework, on Numba
kernels for the CPU and for CUDA. The public names load what they need when they are first used,
so that ``import numba_stn`` itself costs nothing.
"""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_HOME = {
    "functional": (
        "affine_grid",
        "affine_grid_vjp",
        "grid_sample",
        "grid_sample_vjp",
    ),
    "grids": (
        "grid_from_displacement",
        "grid_from_displacement_vjp",
        "grid_from_pixels",
        "grid_from_pixels_vjp",
        "pixels_from_grid",
        "pixels_from_grid_vjp",
    ),
    "images": ("crop_and_resize", "resize", "rotate"),
    "pixels": ("warp_image",),
    "points": ("sample_points", "sample_points_vjp", "splat", "splat_vjp"),
    "polar": ("polar_grid", "polar_grid_vjp"),
    "registration": ("Registration", "Report", "register"),
    "splines": ("control_points", "tps_grid", "tps_grid_vjp"),
    "tangents": (
        "grid_sample_jvp",
        "warp_affine_gauss_newton",
        "warp_affine_jvp",
        "warp_perspective_jvp",
    ),
    "tps": ("warp_tps", "warp_tps_jvp", "warp_tps_vjp"),
    "warps": ("warp_affine", "warp_affine_vjp", "warp_perspective", "warp_perspective_vjp"),
}
_MODULES = (
    "data",
    "export",
    "functional",
    "grids",
    "groups",
    "images",
    "loops",
    "matrices",
    "nn",
    "pixels",
    "points",
    "polar",
    "registration",
    "splines",
    "tangents",
    "tps",
    "transforms",
    "warps",
)
_WHERE = {name: module for module, names in _HOME.items() for name in names}

__all__ = ["__version__", *_MODULES, *_WHERE]

if TYPE_CHECKING:
    from . import data as data
    from . import export as export
    from . import functional as functional
    from . import grids as grids
    from . import groups as groups
    from . import images as images
    from . import loops as loops
    from . import matrices as matrices
    from . import nn as nn
    from . import pixels as pixels
    from . import points as points
    from . import polar as polar
    from . import registration as registration
    from . import splines as splines
    from . import tangents as tangents
    from . import tps as tps
    from . import transforms as transforms
    from . import warps as warps
    from .functional import affine_grid as affine_grid
    from .functional import affine_grid_vjp as affine_grid_vjp
    from .functional import grid_sample as grid_sample
    from .functional import grid_sample_vjp as grid_sample_vjp
    from .grids import grid_from_displacement as grid_from_displacement
    from .grids import grid_from_displacement_vjp as grid_from_displacement_vjp
    from .grids import grid_from_pixels as grid_from_pixels
    from .grids import grid_from_pixels_vjp as grid_from_pixels_vjp
    from .grids import pixels_from_grid as pixels_from_grid
    from .grids import pixels_from_grid_vjp as pixels_from_grid_vjp
    from .images import crop_and_resize as crop_and_resize
    from .images import resize as resize
    from .images import rotate as rotate
    from .pixels import warp_image as warp_image
    from .points import sample_points as sample_points
    from .points import sample_points_vjp as sample_points_vjp
    from .points import splat as splat
    from .points import splat_vjp as splat_vjp
    from .polar import polar_grid as polar_grid
    from .polar import polar_grid_vjp as polar_grid_vjp
    from .registration import Registration as Registration
    from .registration import Report as Report
    from .registration import register as register
    from .splines import control_points as control_points
    from .splines import tps_grid as tps_grid
    from .splines import tps_grid_vjp as tps_grid_vjp
    from .tangents import grid_sample_jvp as grid_sample_jvp
    from .tangents import warp_affine_gauss_newton as warp_affine_gauss_newton
    from .tangents import warp_affine_jvp as warp_affine_jvp
    from .tangents import warp_perspective_jvp as warp_perspective_jvp
    from .tps import warp_tps as warp_tps
    from .tps import warp_tps_jvp as warp_tps_jvp
    from .tps import warp_tps_vjp as warp_tps_vjp
    from .warps import warp_affine as warp_affine
    from .warps import warp_affine_vjp as warp_affine_vjp
    from .warps import warp_perspective as warp_perspective
    from .warps import warp_perspective_vjp as warp_perspective_vjp


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_WHERE[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
