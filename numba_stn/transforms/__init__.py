"""Transforms: parameters -> theta and back, compose and invert theta, matrices of other libraries.

Begin with :mod:`.parametrisations`; the formulas and their gradients are in :mod:`.formulas`.
"""

from .parametrisations import (
    SHAPES,
    TRANSFORMS,
    Transform,
    affine,
    affine_3d,
    attention,
    by_name,
    compose,
    cpab,
    projective,
    restricted_affine,
    rigid,
    rigid_3d,
    rotation,
    scale,
    shear,
    similarity,
    tps,
    translation,
)

__all__ = [
    "SHAPES",
    "TRANSFORMS",
    "Transform",
    "affine",
    "affine_3d",
    "attention",
    "by_name",
    "compose",
    "cpab",
    "projective",
    "restricted_affine",
    "rigid",
    "rigid_3d",
    "rotation",
    "scale",
    "shear",
    "similarity",
    "tps",
    "translation",
]
