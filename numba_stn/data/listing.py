"""The images of a folder or a CSV file: their files, labels, and the parts they are in already."""

import csv
import io
import os
import pathlib
import re
from collections.abc import Iterable
from typing import NamedTuple

from .dataset import DataError
from .splitting import OPEN, SPLITS

# Names of the folders, or of the values in a column ``split``, that divide a set already.
SPLIT_NAMES = {"train": 0, "training": 0, "val": 1, "valid": 1, "validation": 1, "test": 2}

_SHOWN = 10  # files or labels that a message names


class Listing(NamedTuple):
    """The images of a set, before any is read.

    Attributes
    ----------
    root : pathlib.Path
        The folder that ``names`` are relative to.
    names : list of str
    labels : list of str
        The name of each image's class.
    split : list of int or None
        0, 1 or 2 where an image is in a part already, otherwise -1; None if there are no parts.
    groups : list of str or None
        What the images' groups are called, if the source says it.
    ignored : int
        Number of files that are no images, by their names.
    """

    root: pathlib.Path
    names: list[str]
    labels: list[str]
    split: list[int] | None = None
    groups: list[str] | None = None
    ignored: int = 0

    def take(self, numbers: list[int]) -> "Listing":
        """The listing of some of the images."""

        def some(values: list) -> list:
            return [values[number] for number in numbers]

        return self._replace(
            names=some(self.names),
            labels=some(self.labels),
            split=None if self.split is None else some(self.split),
            groups=None if self.groups is None else some(self.groups),
        )


def list_folder(folder: pathlib.Path) -> Listing:
    """List a folder with one subfolder for each class, or with ``train``, ``val`` and ``test``.

    All files below the folder of a class are its images, if their names end as those of images do.
    Hidden files and folders are skipped.

    Raises
    ------
    DataError
        If there are no images, or the folder cannot be read.
    """
    folders = _subfolders(folder)
    if not folders:
        raise DataError(f"{folder}: expected one subfolder for each class, with its images, found "
                        f"none")  # fmt: skip
    known = {name.lower() in SPLIT_NAMES for name in folders}
    divided = known == {True} and 0 in {SPLIT_NAMES[name.lower()] for name in folders}
    if divided:
        classes = [
            (f"{part}/{name}", name, SPLIT_NAMES[part.lower()])
            for part in folders
            for name in _subfolders(folder / part)
        ]
    else:
        classes = [(name, name, OPEN) for name in folders]
    names, labels, splits, ignored = [], [], [], 0
    for path, label, split in classes:
        found, others = images_below(folder, path)
        ignored += others
        names += found
        labels += [label] * len(found)
        splits += [split] * len(found)
        if not found and not divided:
            raise DataError(f"{folder / path}: expected the images of the class {label!r}, found "
                            f"none; add some, or remove the folder")  # fmt: skip
    if not names:
        raise DataError(f"{folder}: found no images")
    return Listing(folder, names, labels, splits if divided else None, None, ignored)


def _subfolders(folder):
    """Names of the subfolders, except for hidden ones."""
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder}: {error.strerror or error}") from error


def images_below(root: pathlib.Path, path: str) -> tuple[list[str], int]:
    """Names of all image files below a folder, relative to the root, and the number of others.

    Hidden files and folders are skipped.

    Raises
    ------
    DataError
        If a folder cannot be read.
    """
    suffixes, found, ignored = image_suffixes(), [], 0

    def fail(error):
        raise DataError(f"{error.filename}: {error.strerror or error}") from error

    for place, folders, files in os.walk(root / path, onerror=fail):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        relative = pathlib.PurePath(place).relative_to(root)
        for name in sorted(files):
            if name.startswith("."):
                continue
            if pathlib.PurePath(name).suffix.lower() in suffixes:
                found.append(str(relative / name))
            else:
                ignored += 1
    return found, ignored


def image_suffixes() -> set[str]:
    """Endings of names of files that Pillow, or NumPy, reads as images."""
    from PIL import Image

    Image.init()
    readable = {suffix for suffix, kind in Image.EXTENSION.items() if kind in Image.OPEN}
    return readable - {".pdf", ".mpg", ".mpeg", ".h5", ".hdf"} | {".npy"}


def list_csv(path: pathlib.Path) -> Listing:
    """List the images of a CSV file with the columns ``path``, ``label``, and perhaps others.

    Paths are relative to the file's folder. A column ``split`` says train, val, test, or nothing; a
    column ``group`` has the groups.

    Raises
    ------
    DataError
        If the file cannot be read, lacks a column or an entry, or has an unknown split.
    """
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected a CSV file in UTF-8: {error}") from error
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        rows = list(reader)
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.reader.line_num}: {error}") from error
    columns = reader.fieldnames or []
    if missing := [name for name in ("path", "label") if name not in columns]:
        raise DataError(f"{path}: expected the columns path and label in the first line, and "
                        f"perhaps split and group; found no {' and no '.join(missing)} in "
                        f"{','.join(columns)[:80]!r}")  # fmt: skip
    if not rows:
        raise DataError(f"{path}: found no images")
    wanted = [name for name in ("path", "label", "split", "group") if name in columns]
    first: dict[str, int] = {}
    for number, row in enumerate(rows, 2):
        if lacking := [name for name in wanted if not row[name] and name != "split"]:
            raise DataError(f"{path}: row {number}: lacks its {lacking[0]}")
        if (other := first.setdefault(row["path"], number)) != number:
            raise DataError(f"{path}: row {number}: the same path as in row {other}: {row['path']}")
    split = None
    if "split" in columns:
        split = [split_number(row["split"] or "", f"{path}: row {n}")
                 for n, row in enumerate(rows, 2)]  # fmt: skip
    groups = [row["group"] for row in rows] if "group" in columns else None
    names, labels = [row["path"] for row in rows], [row["label"] for row in rows]
    return Listing(path.parent, names, labels, split, groups)


def split_number(name: str, where: str) -> int:
    """The number of a part by its name; -1 for no name."""
    if name and name.lower() not in SPLIT_NAMES:
        raise DataError(f"{where}: split: expected one of {list(SPLITS)}, or nothing, got {name!r}")
    return SPLIT_NAMES[name.lower()] if name else OPEN


def sorted_classes(labels: Iterable[str]) -> list[str]:
    """The different labels in order; by number, if all are numbers."""
    found = set(labels)
    if all(label.isascii() and label.isdecimal() for label in found):
        return sorted(found, key=lambda label: (int(label), label))
    return sorted(found)


def groups_by(pattern: str, names: list[str]) -> list[str]:
    """The group of each file: what a regular expression finds in its name.

    The expression is searched in the file's name without its folders, or, if it has a ``/``, in
    the path relative to the set's folder. The group is what its first pair of parentheses matched,
    or all that it matched.

    Raises
    ------
    DataError
        If it is no regular expression, or some name does not match.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise DataError(f"--group {pattern!r}: not a regular expression: {error}") from error
    found, without = [], []
    for name in names:
        path = pathlib.PurePath(name)
        match = expression.search(path.as_posix() if "/" in pattern else path.name)
        group = (match.group(1) if expression.groups else match.group()) if match else None
        if group is None:
            without.append(name)
        found.append(group or "")
    if without:
        raise DataError(f"--group {pattern!r}: does not match {counted(without, 'name')}")
    return found


def counted(names: list[str], unit: str) -> str:
    """The number of things and the first of them, in words."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    plural = ("es" if unit.endswith("s") else "s") if len(names) != 1 else ""
    return f"{len(names)} {unit}{plural}: {', '.join(names[:_SHOWN])}{more}"
