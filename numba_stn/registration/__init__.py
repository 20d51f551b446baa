"""Registration: the map that lays one image on another.

:func:`register` finds it, from coarse to fine (:mod:`.pyramid`), by damped Gauss-Newton steps
(:mod:`.steps`) of a group of maps or a spline (:mod:`.models`), and says whether the images match
(:mod:`.verdict`).
"""

from .alignment import Registration, Report, register

__all__ = ["Registration", "Report", "register"]
