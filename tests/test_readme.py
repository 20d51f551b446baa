"""The Python of the README and of some docs runs as it stands; their links lead somewhere."""

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


@pytest.mark.parametrize("code", BLOCKS, ids=range(len(BLOCKS)))
def test_python_blocks_run(code):
    for name in ("torch", "zarr"):
        if f"import {name}\n" in code:
            pytest.importorskip(name)
    exec(compile(code, "a page", "exec"), {})


def test_the_first_two_bash_blocks_are_one_line_each():
    blocks = re.findall(r"^```bash\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    assert [block.count("\n") for block in blocks[:2]] == [1, 1]
    assert "numba-stn train" in blocks[0]
    assert "pytest" in blocks[1]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target
