"""Spatial transformer networks for NumPy.

Warp functions with analytic gradients, and small networks trained without a framework, on Numba
kernels for the CPU and for CUDA. Each public name is imported on first use, so that
``import numba_stn`` itself imports no other module, not even NumPy.
"""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

# The public names, by the module that defines them.
_NAMES = {
    "data.augment": ("augment",),
    "data.augmentation": ("Augmentation",),
    "images.resize_rotate_crop": ("crop_and_resize", "resize", "rotate"),
    "images.remap": ("remap", "unwarp_polar", "warp_polar"),
    "images.resize_volume": ("crop_and_resize_volume", "resize_volume"),
    "images.warp_image": ("warp_image",),
    "ops.grid_sample": ("affine_grid", "affine_grid_vjp", "grid_sample", "grid_sample_vjp"),
    "ops.grids": (
        "grid_from_displacement",
        "grid_from_displacement_vjp",
        "grid_from_pixels",
        "grid_from_pixels_vjp",
        "pixels_from_grid",
        "pixels_from_grid_vjp",
    ),
    "ops.jvp": (
        "grid_sample_jvp",
        "warp_affine_gauss_newton",
        "warp_affine_jvp",
        "warp_perspective_jvp",
    ),
    "ops.linearised": ("grid_sample_linearised_vjp",),
    "ops.plans": ("plan_warp",),
    "ops.points": ("sample_points", "sample_points_vjp", "splat", "splat_vjp"),
    "ops.polar_grid": ("polar_grid", "polar_grid_vjp"),
    "ops.tps_grid": ("control_points", "tps_grid", "tps_grid_vjp"),
    "ops.vjp_jvp": (
        "grid_sample_vjp_jvp",
        "warp_affine_vjp_jvp",
        "warp_perspective_vjp_jvp",
        "warp_tps_vjp_jvp",
    ),
    "ops.vjp_vjp": (
        "grid_sample_vjp_vjp",
        "warp_affine_vjp_vjp",
        "warp_perspective_vjp_vjp",
        "warp_tps_vjp_vjp",
    ),
    "ops.warp_tps": ("warp_tps", "warp_tps_jvp", "warp_tps_vjp"),
    "ops.warps": ("warp_affine", "warp_affine_vjp", "warp_perspective", "warp_perspective_vjp"),
    "registration": ("Registration", "Report", "register"),
    "transforms.estimation": ("Estimate", "estimate"),
    "transforms.moved_points": ("transform_boxes", "transform_points", "transform_points_vjp"),
    "training.estimators": ("STNClassifier", "STNRegressor"),
    "transforms.composition": (
        "compose_theta",
        "compose_theta_vjp",
        "identity_theta",
        "invert_theta",
        "invert_theta_vjp",
    ),
}
# The public modules, by name.
_MODULES = {
    "data": "data",
    "deformations": "ops.deformations",
    "export": "export",
    "inline": "ops.inline",
    "maps": "transforms.maps",
    "matrices": "transforms.matrices",
    "matrices_3d": "transforms.matrices_3d",
    "nn": "nn",
    "registration": "registration",
    "transforms": "transforms",
}
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names}

# Names that need an extra; `from numba_stn import *` works without it.
_EXTRAS = {"STNClassifier", "STNRegressor"}

__all__ = ["__version__", *_MODULES, *(name for name in _MODULE_OF if name not in _EXTRAS)]

if TYPE_CHECKING:
    from . import data as data
    from . import export as export
    from . import nn as nn
    from . import registration as registration
    from . import transforms as transforms
    from .data.augment import augment as augment
    from .data.augmentation import Augmentation as Augmentation
    from .images.remap import remap as remap
    from .images.remap import unwarp_polar as unwarp_polar
    from .images.remap import warp_polar as warp_polar
    from .images.resize_rotate_crop import crop_and_resize as crop_and_resize
    from .images.resize_rotate_crop import resize as resize
    from .images.resize_rotate_crop import rotate as rotate
    from .images.resize_volume import crop_and_resize_volume as crop_and_resize_volume
    from .images.resize_volume import resize_volume as resize_volume
    from .images.warp_image import warp_image as warp_image
    from .ops import deformations as deformations
    from .ops import inline as inline
    from .ops.grid_sample import affine_grid as affine_grid
    from .ops.grid_sample import affine_grid_vjp as affine_grid_vjp
    from .ops.grid_sample import grid_sample as grid_sample
    from .ops.grid_sample import grid_sample_vjp as grid_sample_vjp
    from .ops.grids import grid_from_displacement as grid_from_displacement
    from .ops.grids import grid_from_displacement_vjp as grid_from_displacement_vjp
    from .ops.grids import grid_from_pixels as grid_from_pixels
    from .ops.grids import grid_from_pixels_vjp as grid_from_pixels_vjp
    from .ops.grids import pixels_from_grid as pixels_from_grid
    from .ops.grids import pixels_from_grid_vjp as pixels_from_grid_vjp
    from .ops.jvp import grid_sample_jvp as grid_sample_jvp
    from .ops.jvp import warp_affine_gauss_newton as warp_affine_gauss_newton
    from .ops.jvp import warp_affine_jvp as warp_affine_jvp
    from .ops.jvp import warp_perspective_jvp as warp_perspective_jvp
    from .ops.linearised import grid_sample_linearised_vjp as grid_sample_linearised_vjp
    from .ops.plans import plan_warp as plan_warp
    from .ops.points import sample_points as sample_points
    from .ops.points import sample_points_vjp as sample_points_vjp
    from .ops.points import splat as splat
    from .ops.points import splat_vjp as splat_vjp
    from .ops.polar_grid import polar_grid as polar_grid
    from .ops.polar_grid import polar_grid_vjp as polar_grid_vjp
    from .ops.tps_grid import control_points as control_points
    from .ops.tps_grid import tps_grid as tps_grid
    from .ops.tps_grid import tps_grid_vjp as tps_grid_vjp
    from .ops.vjp_jvp import grid_sample_vjp_jvp as grid_sample_vjp_jvp
    from .ops.vjp_jvp import warp_affine_vjp_jvp as warp_affine_vjp_jvp
    from .ops.vjp_jvp import warp_perspective_vjp_jvp as warp_perspective_vjp_jvp
    from .ops.vjp_jvp import warp_tps_vjp_jvp as warp_tps_vjp_jvp
    from .ops.vjp_vjp import grid_sample_vjp_vjp as grid_sample_vjp_vjp
    from .ops.vjp_vjp import warp_affine_vjp_vjp as warp_affine_vjp_vjp
    from .ops.vjp_vjp import warp_perspective_vjp_vjp as warp_perspective_vjp_vjp
    from .ops.vjp_vjp import warp_tps_vjp_vjp as warp_tps_vjp_vjp
    from .ops.warp_tps import warp_tps as warp_tps
    from .ops.warp_tps import warp_tps_jvp as warp_tps_jvp
    from .ops.warp_tps import warp_tps_vjp as warp_tps_vjp
    from .ops.warps import warp_affine as warp_affine
    from .ops.warps import warp_affine_vjp as warp_affine_vjp
    from .ops.warps import warp_perspective as warp_perspective
    from .ops.warps import warp_perspective_vjp as warp_perspective_vjp
    from .registration import Registration as Registration
    from .registration import Report as Report
    from .registration import register as register
    from .training.estimators import STNClassifier as STNClassifier
    from .training.estimators import STNRegressor as STNRegressor
    from .transforms import maps as maps
    from .transforms import matrices as matrices
    from .transforms import matrices_3d as matrices_3d
    from .transforms.composition import compose_theta as compose_theta
    from .transforms.composition import compose_theta_vjp as compose_theta_vjp
    from .transforms.composition import identity_theta as identity_theta
    from .transforms.composition import invert_theta as invert_theta
    from .transforms.composition import invert_theta_vjp as invert_theta_vjp
    from .transforms.estimation import Estimate as Estimate
    from .transforms.estimation import estimate as estimate
    from .transforms.moved_points import transform_boxes as transform_boxes
    from .transforms.moved_points import transform_points as transform_points
    from .transforms.moved_points import transform_points_vjp as transform_points_vjp


def __getattr__(name: str) -> object:
    if name in _MODULES:
        value: object = importlib.import_module(f".{_MODULES[name]}", __name__)
    elif name in _MODULE_OF:
        value = getattr(importlib.import_module(f".{_MODULE_OF[name]}", __name__), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, *_EXTRAS})
