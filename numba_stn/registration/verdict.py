"""The verdict of a registration: whether the images match, and if not, why."""

from typing import Any, NamedTuple

from .coarse_to_fine import LEAST_OVERLAP, CoarseToFine
from .details import Details, compare_details
from .gauss_newton import Descent
from .pyramid import Frame, Level

CONVERGED = "converged: the last step was shorter than the tolerance"

# The largest factor by which a map may shrink or enlarge an area or a volume.
LARGEST_AREA_RATIO = 9.0

# The smallest correlation of images that match.
LEAST_CORRELATION = 0.4

# The least correlations of the details of images that match: of the whole images, and of the parts'
# lower quartile. Images with fewer than MANY_PARTS parts need higher ones, because few parts
# correlate by chance more easily: with one part, almost the second number of each pair.
LEAST_DETAILS, LEAST_PARTS, MANY_PARTS = (0.5, 0.8), (0.2, 0.8), 8

# The largest displacement of most parts, in pixels of the level; or, if that is more, as a share of
# the fixed image's longest side.
LARGEST_DISPLACEMENT, LARGEST_SHARE = 0.25, 0.002


class Verdict(NamedTuple):
    """Why a registration ended, which is :data:`CONVERGED` if the images match; and the details."""

    reason: str
    details: Details = Details()


def judge(search: CoarseToFine, found: Descent) -> Verdict:
    """Give the verdict on the map that was found."""
    here = found.evaluation
    if here is None or found.reason == "overlap":
        least = LEAST_OVERLAP * search.levels[0].moving_share
        return Verdict(f"lost overlap: less than {least:.0%} of the fixed image is covered")
    finest = search.levels[0]
    dims = search.problem.images.fixed.ndim
    ratio = found.model.area_ratio() * 2.0 ** (dims * (finest.halvings - finest.moving_halvings))
    if not 1 / LARGEST_AREA_RATIO < ratio < LARGEST_AREA_RATIO:
        return Verdict(f"no match: the map multiplies areas by {ratio:.3g}")
    details, level = compare(found.model, search.levels, search.moving)
    if here.correlation < LEAST_CORRELATION:
        why = f"the correlation of the images is {here.correlation:.2f}, below {LEAST_CORRELATION}"
        return Verdict(f"no match: {why}", details)
    why = disagreement(details, level)
    if why:
        return Verdict(f"no match: {why}", details)
    if found.reason == "iterations":
        return Verdict(f"not converged after {search.problem.iterations} steps", details)
    if found.reason == "texture":
        return Verdict("no texture: the images do not determine all parameters", details)
    return Verdict(CONVERGED, details)


def compare(model: Any, levels: list[Level], moving: Frame) -> tuple[Details, Level]:
    """Compare the details at the second level, or at the third if those of the second are noise.

    Noise is strongest at the finest level, which is used only if there is no other.
    """
    for level in levels[1:3] or levels:
        details = compare_details(model, level, moving)
        if details.parts >= LEAST_PARTS[0]:
            break
    return details, level


def disagreement(details: Details, level: Level) -> str:
    """Say which of a level's details show that the images do not match; empty if none does."""
    few = max(0.0, 1 - details.number / MANY_PARTS)
    if not details.number:
        return "too few pixels with details are compared"
    for (least, least_of_one), value, name in (
        (LEAST_DETAILS, details.whole, "the details of the images"),
        (LEAST_PARTS, details.parts, "the details in a quarter of the parts"),
    ):
        least += few * (least_of_one - least)
        if value < least:
            return f"the correlation of {name} is {value:.2f}, below {least:.2f}"
    largest = max(LARGEST_DISPLACEMENT, LARGEST_SHARE * max(level.fixed.shape))
    largest *= 2.0**level.halvings  # in pixels of the fixed image
    if details.displacement > largest:
        return (
            f"half of the parts are displaced by {details.displacement:.2f} pixels or more, above "
            f"{largest:.2f}"
        )
    return ""
