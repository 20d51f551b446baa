"""The error of image files, and how long its texts may be."""

import textwrap


class FileError(ValueError):
    """A file cannot be read or written as an image; the message names file and reason."""


def shorten(error: object) -> str:
    """The message of an error about a file's content, which may be long, in a part of a line."""
    return textwrap.shorten(str(error), 200) or type(error).__name__
