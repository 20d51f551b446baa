"""The two calls of every table row in docs/coming-from.md give the same result."""

import pathlib
import re

import numpy as np
import pytest

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "coming-from.md"
MODULES = {
    "PyTorch": "torch",
    "OpenCV": "cv2",
    "scikit-image": "skimage",
    "SciPy": "scipy",
    "kornia": "kornia",
    "Pillow": "PIL",
}
CODE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
ROW = re.compile(r"^\| `(.*)` \| `(.*)` \| .*\|$", re.MULTILINE)


def sections():
    """Return the text before the first heading, and the section of each library."""
    first, *rest = re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)
    return first, {part.split("\n")[0]: part for part in rest}


def lines():
    for library, text in sections()[1].items():
        for theirs, ours in ROW.findall(text):
            yield library, theirs.replace(r"\|", "|"), ours


def prepared(library):
    """Return the names that a library's rows use, from the page's beginning and its own code."""
    before, parts = sections()
    wanted = ["PyTorch", "OpenCV", library] if library == "kornia" else [library]
    names = {}
    for text in (before, *(parts[name] for name in wanted)):
        for code in CODE.findall(text):
            exec(compile(code, PAGE.name, "exec"), names)
    return names


def array(result):
    return result.detach().numpy() if hasattr(result, "detach") else np.asarray(result)


def test_every_library_has_its_table():
    counts = dict.fromkeys(MODULES, 0)
    for library, _, _ in lines():
        counts[library] += 1
    assert min(counts.values()) > 5
    assert sum(text.count("\n| `") for text in sections()[1].values()) == sum(counts.values())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("library", MODULES)
def test_both_sides_of_each_line_agree(library):
    wanted = ["torch", "cv2", "kornia"] if library == "kornia" else [MODULES[library]]
    for module in wanted:
        pytest.importorskip(module)
    names = prepared(library)
    for theirs, ours in [line[1:] for line in lines() if line[0] == library]:
        there, here = array(eval(theirs, names)), array(eval(ours, names))
        assert there.shape == here.shape, theirs
        atol = 1 if here.dtype == np.uint8 else 1e-4 * max(1, np.abs(here).max())
        error = np.abs(there.astype(float) - here).max()
        assert error <= atol, (theirs, error)
        assert np.abs(here).max() > 0.1, ours
