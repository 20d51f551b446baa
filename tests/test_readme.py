"""The README's Python, and some docs', prints what its comments say; links lead somewhere."""

import doctest
import pathlib
import re

import pytest

README = pathlib.Path(__file__).parents[1] / "README.md"
DOCS = README.parent / "docs"
PAGES = [
    README,
    *(DOCS / name for name in ("images.md", "recipes.md", "scale.md", "transforms.md")),
]
BLOCKS = [
    code
    for page in PAGES
    for code in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
]


SHOWN = re.compile(r"# -> (.*)$", re.MULTILINE)


def said_otherwise(code, printed):
    """How what was printed differs from the comments ``# -> ...``; "..." stands for anything."""
    shown = "".join(f"{line}\n" for line in SHOWN.findall(code))
    example = doctest.Example(code, shown)
    checker, options = doctest.OutputChecker(), doctest.ELLIPSIS
    if checker.check_output(shown, printed, options):
        return ""
    return checker.output_difference(example, printed, options)


@pytest.mark.parametrize("code", BLOCKS, ids=range(len(BLOCKS)))
def test_python_blocks_print_what_they_show(code, capsys):
    """And show all of it."""
    for name in ("torch", "zarr"):
        if f"import {name}\n" in code:
            pytest.importorskip(name)
    exec(compile(code, "a page", "exec"), {})
    assert not said_otherwise(code, capsys.readouterr().out)


def test_a_wrong_figure_is_seen():
    code = "print(1 + 1)  # -> 2\nprint(0.5)  # -> 0.5"
    assert not said_otherwise(code, "2\n0.5\n")
    assert not said_otherwise(code.replace("0.5", "0..."), "2\n0.5\n")
    for printed in ("3\n0.5\n", "2\n", "2\n0.5\n1\n"):
        assert said_otherwise(code, printed)
    assert said_otherwise("print(2)", "2\n")


def test_the_first_two_bash_blocks_are_one_line_each():
    blocks = re.findall(r"^```bash\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    assert [block.count("\n") for block in blocks[:2]] == [1, 1]
    assert "numba-stn train" in blocks[0]
    assert "pytest" in blocks[1]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target
