"""The division of a set into training, validation and test images."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from ..utils.schema import list_of, number, short
from .dataset import DataError

# The numbers that stand for the parts, and for an image that is in none yet.
SPLITS = ("train", "val", "test")
TRAIN, VALIDATION, TEST, OPEN = 0, 1, 2, -1


def three_shares(value: Any, name: str) -> list[float]:
    """The rule of the shares of the training, validation and test images.

    Raises
    ------
    ValueError
        Unless there are three, and only that of the validation images may be 0.
    """
    found = list_of(number(0))(value, name)
    if len(found) != len(SPLITS) or not found[TRAIN] or not found[TEST]:
        raise ValueError(f"{name}: expected shares of the training, validation and test images, "
                         f"as in 0.7, 0.15, 0.15, got {short(value)}")  # fmt: skip
    return found


def split_groups(
    labels: np.ndarray,
    groups: Sequence[Hashable],
    shares: Sequence[float] = (0.7, 0.15, 0.15),
    seed: int = 0,
    given: np.ndarray | None = None,
) -> np.ndarray:
    """Divide images into training, validation and test images, and never a group.

    Every class is divided by the shares, as far as its groups allow. Each class with two groups has
    images to train on and to test; each class with three groups has some for validation too.

    Parameters
    ----------
    labels : (N,) integer array
    groups : sequence of N
        Images with equal groups stay together. A group may have several classes.
    shares : three floats
        Of the training, validation and test images; they are divided by their sum.
    seed : int
    given : (N,) integer array, optional
        0, 1 or 2 for an image that is already a training, validation or test image, -1 for one to
        be divided, together with the training images, if there are no others of a part.

    Returns
    -------
    (N,) array of int8
        0 for training, 1 for validation, 2 for test.

    Raises
    ------
    DataError
        If a group has images of several parts in ``given``.
    ValueError
        If the shares are not three numbers; only that of validation may be 0.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_stn.data.splitting import split_groups
    >>> labels = np.repeat([0, 1], 20)
    >>> np.bincount(split_groups(labels, range(40), (0.7, 0.2, 0.1)))
    array([28,  8,  4])
    """
    shares = tuple(three_shares(shares, "split"))
    result = np.full(len(labels), OPEN, np.int8) if given is None else given.astype(np.int8)
    members = defaultdict(list)
    for member, group in enumerate(groups):
        members[group].append(member)
    if given is not None:
        _check_given(members, result)
    missing = [part for part in (VALIDATION, TEST) if not (result == part).any() and shares[part]]
    divided = np.isin(result, (TRAIN, OPEN)) if missing else result == OPEN
    parts = (TRAIN, *missing)
    total = sum(shares[part] for part in parts)
    # How many images of each class each part still wants.
    wanted = {
        label: {part: shares[part] / total * count for part in parts}
        for label, count in Counter(labels[divided].tolist()).items()
    }
    lacking = {label: [p for p in (TRAIN, TEST, VALIDATION) if p in parts] for label in wanted}
    keys = [group for group, index in members.items() if divided[index[0]]]
    rng = np.random.default_rng(seed)
    for position in rng.permutation(len(keys)):
        index = members[keys[position]]
        found = Counter(labels[index].tolist())
        part = _choose(found, wanted, lacking, parts)
        result[index] = part
        for label, count in found.items():
            wanted[label][part] -= count
            if part in lacking[label]:
                lacking[label].remove(part)
    return result


def _choose(found, wanted, lacking, parts):
    """The part for a group: one that a class of it lacks, or the one that wants it most."""
    for label in found:
        if lacking[label]:
            return lacking[label][0]
    return max(parts, key=lambda p: sum(n * wanted[label][p] for label, n in found.items()))


def _check_given(members, given):
    """Raise if a group has images of several parts."""
    for group, numbers in members.items():
        if len(found := sorted({int(part) for part in given[numbers]})) > 1:
            names = " and ".join("none" if part == OPEN else SPLITS[part] for part in found)
            raise DataError(f"the group {group!r} has images in {names}; a group belongs to one "
                            f"part: change the split, or leave out the groups")  # fmt: skip
