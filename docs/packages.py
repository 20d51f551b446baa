"""Draw the packages of docs/design.md from their real imports: ``python docs/packages.py``."""

import ast
import graphlib
import pathlib

from matplotlib import pyplot as plt
from picture_style import BLUE, GREY, STYLE

import numba_stn

PICTURE = pathlib.Path(__file__).parent / "images" / "design-packages.png"
PACKAGE = pathlib.Path(numba_stn.__file__).parent

# Each package: the middle of its box, (x, y), and what it has. Imports point down.
BOXES = {
    "cli": (4.4, 11.0, "the command line"),
    "bench": (0.0, 9.8, "speed comparisons"),
    "distributed": (4.4, 9.8, "stacks, clusters"),
    "warmup": (8.6, 9.8, "compile in advance"),
    "export": (2.2, 8.4, "to PyTorch and ONNX"),
    "training": (4.1, 8.8, "runs, checkpoints"),
    "registration": (8.6, 8.4, "align two images"),
    "nn": (2.2, 7.0, "layers, optimisers"),
    "data": (4.4, 7.0, "data sets, distortions"),
    "images": (6.6, 6.3, "one image, files"),
    "transforms": (4.4, 5.6, "parameters to theta"),
    "ops": (4.4, 4.4, "grids, warps, checks"),
    "utils": (4.4, 3.2, "array namespaces"),
    "kernels/cuda": (4.4, 1.6, "GPU kernels"),
    "kernels/cpu": (4.4, 0.5, "CPU loops"),
    "kernels/layers": (2.2, 0.5, "layers of networks"),
    "kernels/registration": (6.8, 0.5, "alignment sums"),
    "kernels/cpu/simd": (4.4, -0.6, "LLVM vector code"),
    "kernels/math": (4.4, -1.7, "scalar formulas"),
    "kernels": (4.4, -2.8, "compile, start, cache"),
}
WIDTH, HEIGHT = 1.95, 0.62


def package_of(module):
    """Return the box of a module, given as a tuple of names below ``numba_stn``."""
    found = [name for name in BOXES if tuple(name.split("/")) == module[: name.count("/") + 1]]
    return max(found, key=len, default="/".join(module[:1]))


def imported(path, node):
    """Yield the modules below ``numba_stn``, as tuples of names, that an import names."""
    here = path.relative_to(PACKAGE).with_suffix("").parts
    if node.level:
        base = here[: len(here) - node.level] + tuple(filter(None, (node.module or "").split(".")))
    elif (node.module or "").partition(".")[0] == "numba_stn":
        base = tuple(node.module.split("."))[1:]
    else:
        return
    for alias in node.names:
        name = alias.name
        if not base:  # a public name of the package, or one of its modules
            yield tuple(
                numba_stn._MODULE_OF.get(name, numba_stn._MODULES.get(name, name)).split(".")
            )
        else:
            yield (*base, name)


def imports():
    """Return the packages that each package imports."""
    found = {name: set() for name in BOXES}
    for path in sorted(PACKAGE.rglob("*.py")):
        here = path.relative_to(PACKAGE).with_suffix("").parts
        if len(here) == 1 and here[0].startswith("__"):
            continue  # the package's own names, and ``python -m numba_stn``
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                for module in imported(path, node):
                    if not module[0].startswith("__"):
                        found.setdefault(package_of(here), set()).add(package_of(module))
    return {name: below - {name} for name, below in found.items()}


def reduced(graph):
    """Return the graph without the arrows that follow from others."""
    below = {}
    for name in graphlib.TopologicalSorter(graph).static_order():
        below[name] = set().union(*(below[other] | {other} for other in graph.get(name, ())))
    return {
        name: {one for one in direct if not any(one in below[other] for other in direct)}
        for name, direct in graph.items()
    }


def description():
    """Return the arrows as text, which the picture carries so that a test can compare them."""
    lines = (
        f"{name} -> {', '.join(sorted(below))}"
        for name, below in sorted(reduced(imports()).items())
    )
    return "; ".join(lines)


def draw():
    """Draw a box for each package, and an arrow for each import that others do not imply."""
    figure, axes = plt.subplots(figsize=(9, 10.6), layout="constrained")
    axes.add_patch(
        plt.Rectangle((0.9, -3.3), 7.0, 5.5, facecolor="#f2f2f2", edgecolor=GREY, lw=0.8)
    )
    axes.text(1.0, 2.05, "kernels", color=GREY, fontsize=10, style="italic", va="top")
    for name, below in reduced(imports()).items():
        for other in sorted(below):
            arrow(axes, BOXES[name][:2], BOXES[other][:2])
    for name, (x, y, text) in BOXES.items():
        corner = (x - WIDTH / 2, y - HEIGHT / 2)
        axes.add_patch(
            plt.Rectangle(
                corner, WIDTH, HEIGHT, facecolor="white", edgecolor=BLUE, lw=1.2, zorder=3
            )
        )
        label = "launch, cache" if name == "kernels" else name.removeprefix("kernels/")
        axes.text(x, y + 0.12, label, ha="center", va="center", weight="bold", zorder=4)
        axes.text(x, y - 0.15, text, ha="center", va="center", fontsize=8, zorder=4)
    axes.set(xlim=(-1.1, 9.7), ylim=(-3.5, 11.5), aspect="equal")
    axes.axis("off")
    return figure


def arrow(axes, start, end):
    """Draw an arrow from the lower edge of one box to the upper edge of another."""
    (x, y), (to_x, to_y) = start, end
    shift = 0.85 * max(-1, min(1, (to_x - x) / 2))
    style = {"arrowstyle": "-|>", "color": GREY, "lw": 1, "shrinkA": 0, "shrinkB": 1}
    begin, tip = (x + shift, y - HEIGHT / 2), (to_x - shift, to_y + HEIGHT / 2)
    axes.annotate("", tip, begin, arrowprops=style)


def main():
    """Write images/design-packages.png."""
    plt.switch_backend("agg")
    with plt.rc_context(STYLE):
        draw().savefig(PICTURE, dpi=110, metadata={"Description": description()})


if __name__ == "__main__":
    main()
