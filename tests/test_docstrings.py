"""Docstrings of the public functions: complete, and the shared entries in their places."""

import inspect
import re

import pytest

import numba_stn
from numba_stn.ops.docstrings import ENTRIES, documented


def public_functions():
    """The functions of the package root, and of the public modules that work on arrays."""
    for name in numba_stn.__all__:
        value = getattr(numba_stn, name)
        if callable(value) and not inspect.isclass(value):
            yield f"numba_stn.{name}", value
    for module in ("deformations", "inline", "matrices", "transforms"):
        names = getattr(numba_stn, module)
        for name in names.__all__:
            value = getattr(names, name)
            if callable(value) and not inspect.isclass(value):
                yield f"numba_stn.{module}.{name}", value


FUNCTIONS = dict(public_functions())


def section(doc, title):
    """The text below a section's title, up to the next one."""
    _, found, rest = inspect.cleandoc(doc).partition(f"\n{title}\n{'-' * len(title)}\n")
    assert found, f"no section {title}"
    return re.split(r"\n\n[A-Z][A-Za-z ]+\n-+\n", rest)[0]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_docstring_is_complete(name):
    doc = FUNCTIONS[name].__doc__
    assert not re.search(r"^ *\{[\w, ]+\}$", doc, re.MULTILINE), "an entry that is not inserted"
    assert max(map(len, doc.split("\n"))) <= 100
    function = inspect.unwrap(getattr(FUNCTIONS[name], "py_func", FUNCTIONS[name]))
    if isinstance(function, numba_stn.transforms.Transform):
        return
    listed = {
        part.strip().lstrip("*")
        for line in section(doc, "Parameters").split("\n")
        if line and not line.startswith(" ")
        for part in line.split(" : ")[0].split(",")
    }
    assert listed == set(inspect.signature(function).parameters)
    for title in ("Returns", "Raises", "Examples"):
        if title != "Raises" or name != "numba_stn.inline.unnormalize":
            assert section(doc, title)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_docstring_shows_the_shapes(name):
    if not name.startswith("numba_stn.register"):
        assert re.search(r"^ *``[^\n]+ -> [^\n]+", FUNCTIONS[name].__doc__, re.MULTILINE)


def test_shared_entries_keep_the_indentation_of_their_line():
    @documented
    def function(stream, errors):
        """Do nothing.

        Parameters
        ----------
        {stream, errors}
        """

    lines = inspect.cleandoc(function.__doc__).split("\n")
    expected = [*ENTRIES["stream"].split("\n"), *ENTRIES["errors"].split("\n")]
    assert lines[4:] == expected


def test_an_unknown_entry_is_refused():
    def function():
        """Do nothing.

        {nothing}
        """

    with pytest.raises(KeyError, match="nothing"):
        documented(function)
    function.__doc__ = None  # as under python -OO
    assert documented(function) is function
