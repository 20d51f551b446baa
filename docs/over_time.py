"""The directive ``speed-history``: a graph for each operation, from the results of asv.

A section has one drawing: the time of each case at each measured commit, and where a peer was
measured, its time divided by ours. The table below it has the newest values, and says since which
commit they have been as good. The drawings are within the page, so they need neither scripts nor
other files.
"""

import ast
import datetime
import io
import itertools
import json
import math
import pathlib
import subprocess
from typing import NamedTuple

import matplotlib
from docutils import nodes
from docutils.parsers.rst import Directive
from history import BENCHMARKS, RESULTS
from matplotlib.figure import Figure
from picture_style import STYLE

SUITES = BENCHMARKS / BENCHMARKS.name
PEERS = {"track_opencv": "OpenCV", "track_pytorch": "PyTorch", "track_pillow": "Pillow"}
UNITS = {"seconds": "ms", "bytes": "MiB", "times": "times"}
FACTORS = {"seconds": 1e3, "bytes": 2**-20, "times": 1.0}

# Colours, each with three kinds of lines.
LOOKS = [f"C{colour}{line}" for line in (".-", ".--", ".:") for colour in range(6)]

# Noise of a machine with other work on it: a value is as good as the newest within this factor.
AS_GOOD = 1.15


class Commit(NamedTuple):
    """A measured commit: its short hash, day and subject."""

    hash: str
    day: str
    subject: str


class Series(NamedTuple):
    """The values of one benchmark: for each case a list with a value, or None, for each commit."""

    unit: str
    cases: dict


def setup(app):
    """Register the directive; Sphinx calls this."""
    app.add_directive("speed-history", SpeedHistory)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


class SpeedHistory(Directive):
    """Write the sections."""

    def run(self):
        """Return the nodes: a section for each suite that was measured."""
        self.state.document.settings.env.note_dependency(str(RESULTS / "benchmarks.json"))
        machine, commits, found = read(RESULTS)
        if not commits:
            return [nodes.paragraph(text="Nothing has been measured yet.")]
        docs = descriptions()
        about = (f"{len(commits)} commits, from {commits[0].day} to {commits[-1].day}, measured "
                 f"on the machine {machine['machine']}: {machine['num_cpu']} cores of "
                 f"{machine['cpu']}.")  # fmt: skip
        return [nodes.paragraph(text=about),
                *(self.section(name, docs[name], commits, found[name])
                  for name in docs if name in found)]  # fmt: skip

    def section(self, name, text, commits, benchmarks):
        """Write the graph and the table of a suite."""
        section = nodes.section(ids=[nodes.make_id(name)], names=[nodes.fully_normalize_name(name)])
        section += nodes.title(text=title(name))
        section += nodes.paragraph(text=text)
        section += nodes.raw("", graph(commits, benchmarks), format="html")
        section += nodes.raw("", table(commits, benchmarks), format="html")
        return section


# --- Results --------------------------------------------------------------------------------------


def read(folder: pathlib.Path):
    """Read the machine, the commits in order, and ``{suite: {benchmark: Series}}``.

    Where several machines were measured, the one with the most commits.
    """
    machines = {path.parent: len(list(path.parent.glob("*-*.json")))
                for path in folder.glob("*/machine.json")}  # fmt: skip
    if not any(machines.values()):
        return {}, [], {}
    own = max(machines, key=machines.get)
    machine = json.loads((own / "machine.json").read_text(encoding="utf-8"))
    about = json.loads((folder / "benchmarks.json").read_text(encoding="utf-8"))
    results = [json.loads(path.read_text(encoding="utf-8")) for path in own.glob("*-*.json")]
    results.sort(key=lambda result: result["date"])
    commits = [commit(result) for result in results]
    found: dict = {}
    for name, each in about.items():
        if name == "version" or not (series := collect(name, each, results)).cases:
            continue
        _, suite, benchmark = name.rsplit(".", 2)
        found.setdefault(suite, {})[benchmark] = series
    return machine, commits, found


def commit(result) -> Commit:
    """Look up a commit's subject, which a clone without its history lacks."""
    command = ["git", "-C", str(BENCHMARKS), "log", "-1", "--format=%s", result["commit_hash"]]
    try:
        subject = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    except OSError:
        subject = ""
    when = datetime.datetime.fromtimestamp(result["date"] / 1e3, datetime.timezone.utc)
    return Commit(result["commit_hash"][:8], f"{when:%Y-%m-%d}", subject)


def collect(name, about, results) -> Series:
    """Collect a benchmark's values by case."""
    cases = [" ".join(map(plain, values)) for values in itertools.product(*about["params"])]
    values: dict = {case: [] for case in cases}
    for result in results:
        columns = result["result_columns"]
        row = dict(zip(columns, result["results"].get(name, []), strict=False))
        measured = row.get("result") or [None] * len(cases)
        if len(measured) != len(cases):
            measured = [None] * len(cases)  # of other parameters: not comparable
        for case, value in zip(cases, measured, strict=True):
            usable = isinstance(value, (int, float)) and math.isfinite(value)
            values[case].append(value if usable else None)
    seen = {case: each for case, each in values.items() if any(x is not None for x in each)}
    return Series(about.get("unit", "seconds"), seen)


def plain(value: str) -> str:
    """Read a parameter, of which asv stores the ``repr``."""
    return str(ast.literal_eval(value))


def descriptions() -> dict[str, str]:
    """The first paragraph of each suite's docstring, in the order of the files."""
    found = {}
    for name in ("warps", "images", "operations", "training", "processes"):
        for node in ast.parse((SUITES / f"{name}.py").read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                text = (ast.get_docstring(node) or "").partition("\n\n")[0]
                found[node.name] = " ".join(text.split())
    return found


def title(name: str) -> str:
    """``"CropAndResize" -> "Crop and resize"``."""
    words = "".join(f" {c}" if c.isupper() and not name[k - 1 : k].isupper() else c
                    for k, c in enumerate(name)).split()  # fmt: skip
    return " ".join([words[0], *(word if word.isupper() else word.lower() for word in words[1:])])


# --- The drawing ----------------------------------------------------------------------------------


def graph(commits, benchmarks) -> str:
    """Draw a suite: values above, and ratios to the peers below."""
    own = {name: each for name, each in benchmarks.items() if name not in PEERS}
    peers = {name: each for name, each in benchmarks.items() if name in PEERS}
    with matplotlib.rc_context({**STYLE, "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure = Figure(figsize=(7.6, 2.9 + 2.1 * len(peers)), layout="constrained")
        all_axes = figure.subplots(1 + len(peers), 1, sharex=True, squeeze=False,
                                   height_ratios=[1.35, *[1] * len(peers)])[:, 0]  # fmt: skip
        draw_values(all_axes[0], own)
        for axes, (name, series) in zip(all_axes[1:], peers.items(), strict=True):
            draw_ratios(axes, PEERS[name], series, list(next(iter(own.values())).cases))
        ticks = range(len(commits))
        all_axes[-1].set_xticks(ticks, [f"{each.day[5:]} {each.hash[:5]}" for each in commits],
                                rotation=90, fontsize=7)  # fmt: skip
        all_axes[-1].set_xlim(-0.5, len(commits) - 0.5)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    svg = text.getvalue()
    return f'<div class="speed-history">{svg[svg.index("<svg") :]}</div>'


def draw_values(axes, own):
    """Draw the cases of the benchmarks that are not ratios."""
    looks = iter(LOOKS)
    for name, series in own.items():
        factor = FACTORS.get(series.unit, 1.0)
        for case, values in series.cases.items():
            points = [(k, factor * value) for k, value in enumerate(values) if value is not None]
            axes.plot(*zip(*points, strict=True), next(looks), label=label(name, case, own))
    units = {UNITS.get(series.unit, series.unit) for series in own.values()}
    axes.set_yscale("log")
    axes.set_ylabel(" or ".join(sorted(units)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))
    axes.grid(axis="y", alpha=0.3)


def draw_ratios(axes, peer, series, cases):
    """Draw a peer's time divided by ours, in the colours of the same cases above."""
    for case, values in series.cases.items():
        points = [(k, value) for k, value in enumerate(values) if value is not None]
        axes.plot(*zip(*points, strict=True), LOOKS[cases.index(case)])
    axes.axhline(1, color="black", lw=0.8)
    axes.set_yscale("log")
    axes.set_ylabel(f"{peer}, times ours")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.grid(axis="y", alpha=0.3)


def label(name, case, own):
    """The name of a case; of several benchmarks also theirs."""
    words = [name.partition("_")[2].replace("_", " ")] if len(own) > 1 else []
    return " ".join([*words, case]) or name.partition("_")[2]


# --- The table ------------------------------------------------------------------------------------


def table(commits, benchmarks) -> str:
    """The newest values, and since when they have been as good, as HTML."""
    peers = [name for name in PEERS if name in benchmarks]
    own = {name: each for name, each in benchmarks.items() if name not in PEERS}
    head = ["", "newest", "as good since", *(f"{PEERS[peer]}, times ours" for peer in peers)]
    body = []
    for name, series in own.items():
        unit, factor = UNITS.get(series.unit, series.unit), FACTORS.get(series.unit, 1.0)
        for case, values in series.cases.items():
            newest = next(value for value in reversed(values) if value is not None)
            since = commits[first_as_good(values)]
            body.append([
                label(name, case, own), f"{factor * newest:.3g} {unit}",
                f'<span title="{escape(since.subject)}">{since.day} {since.hash}</span>',
                *(ratio(benchmarks[peer].cases.get(case)) for peer in peers),
            ])  # fmt: skip
    rows = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in body)
    heads = "".join(f"<th>{cell}</th>" for cell in head)
    return f'<table class="table"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>'


def first_as_good(values) -> int:
    """The first commit since which no value has been worse than the newest, but for noise."""
    newest = next(value for value in reversed(values) if value is not None)
    first = len(values) - 1
    for k in reversed(range(len(values))):
        if values[k] is None:
            continue
        if values[k] > AS_GOOD * newest:
            break
        first = k
    return first


def ratio(values) -> str:
    """The newest ratio of a case, if a peer can do it."""
    found = [value for value in values or [] if value is not None]
    return f"{found[-1]:.2f}" if found else ""


def escape(text: str) -> str:
    """Escape a text for an attribute."""
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
