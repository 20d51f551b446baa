"""Warps by the maps of continuous piecewise-affine velocity fields, for the transformer."""

from .cpab import cpab_velocity, cpab_velocity_vjp
from .deformations import integrate_velocity, integrate_velocity_vjp
from .grid_sample import grid_sample, grid_sample_vjp
from .grids import grid_from_displacement, grid_from_displacement_vjp

# Squarings of a map.
STEPS = 7


def cpab_grid(theta, size, cells, align_corners):
    """The grid of theta's map, for images of any sides."""
    velocity = cpab_velocity(theta, size, cells, align_corners=align_corners)
    displacement = integrate_velocity(velocity, STEPS)
    return grid_from_displacement(displacement, align_corners=align_corners)


def cpab_grid_vjp(dgrid, theta, cells, align_corners):
    """Gradient of :func:`cpab_grid` with respect to theta."""
    velocity = cpab_velocity(theta, dgrid.shape[1:3], cells, align_corners=align_corners)
    ddisplacement = grid_from_displacement_vjp(dgrid, align_corners=align_corners)
    dvelocity = integrate_velocity_vjp(ddisplacement, velocity, STEPS)
    return cpab_velocity_vjp(dvelocity, cells, align_corners=align_corners)


def warp_cpab(images, theta, size=None, *, cells, **options):
    """The images (N, C, H, W) at theta's map; the options are those of ``grid_sample``."""
    grid = cpab_grid(theta, size or images.shape[2:], cells, options["align_corners"])
    return grid_sample(images, grid, **options)


def warp_cpab_vjp(dsamples, images, theta, *, cells, wrt, **options):
    """Gradients of :func:`warp_cpab` with respect to the images, or None, and theta."""
    corners = options["align_corners"]
    grid = cpab_grid(theta, dsamples.shape[2:], cells, corners)
    wanted = ("images", "grid") if "images" in wrt else ("grid",)
    dimages, dgrid = grid_sample_vjp(dsamples, images, grid, wrt=wanted, **options)
    return dimages, cpab_grid_vjp(dgrid, theta, cells, corners)
