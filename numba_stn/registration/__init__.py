"""Registration: estimate the map that aligns one image with another.

:func:`register` (:mod:`.alignment`) works from coarse to fine (:mod:`.pyramid`,
:mod:`.coarse_to_fine`). At each level it takes damped Gauss-Newton steps (:mod:`.gauss_newton`) in
a group of maps or a spline (:mod:`.models`), from several start candidates if necessary
(:mod:`.candidates`), and again without pixels that do not follow the map (:mod:`.outliers`).
Finally it compares the details of the images (:mod:`.details`), and decides whether they match
(:mod:`.verdict`).
"""

from .alignment import Registration, Report, register

__all__ = ["Registration", "Report", "register"]
