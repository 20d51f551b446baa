"""Write the tables of the docs from the committed results.

Run ``python -m benchmarks.tables [--check]`` in a checkout. On the pages of PAGES, a region between
``<!-- compare.json: rows -->`` and ``<!-- end -->`` holds a table of
benchmarks/results/compare.json; ``table1.json`` is the file that ``numba-stn reproduce`` wrote to
docs/results. This module writes every such region, or tests with ``--check`` whether one is out of
date, so that no number is typed by hand.
"""

import argparse
import json
import pathlib
import re
import sys
from statistics import mean, median

from numba_stn.training import table1
from numba_stn.utils.atomic_write import write_atomically

from .register import SOLVED

HERE = pathlib.Path(__file__).parent
PAGES = [
    HERE.parent / "README.md",
    *(
        HERE.parent / "docs" / f"{name}.md"
        for name in ("performance", "gpu", "registration", "results")
    ),
]
RESULTS = HERE / "results"
ELSEWHERE = {"table1.json": HERE.parent / "docs" / "results" / "table1"}

REGION = re.compile(r"(<!-- (\S+\.json): (\w+)(?: (\w+))? -->\n).*?(<!-- end -->)", re.DOTALL)
ABSENT = "*Not measured yet.*"

PEERS = {
    "torch": "PyTorch",
    "cv2": "OpenCV",
    "cv2.remap": "OpenCV",
    "kornia": "kornia",
    "kornia_rs": "kornia-rs",
    "skimage": "scikit-image",
    "ipp": "Intel IPP",
    "pillow": "Pillow",
    "scipy": "SciPy",
    "cupyx": "CuPy",
    "both gradients": "both gradients",
}


def main(argv=None):
    """Write or check the pages, and return the exit code."""
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument(
        "--check",
        action="store_true",
        help="write nothing; the exit code is 1 if a page is out of date",
    )
    args = arguments.parse_args(argv)
    code = 0
    for page in PAGES:
        before = page.read_text()
        after = filled(before, RESULTS)
        if args.check and after != before:
            message = f"{page.name}: out of date; python -m benchmarks.tables writes it"
            print(message, file=sys.stderr)
            code = 1
        elif after != before:
            write_atomically(page, after.encode())
    return code


def filled(page, folder):
    """Fill the regions of a page from the files of a folder."""

    def region(match):
        begin, name, kind, which, end = match.groups()
        path = ELSEWHERE.get(name, folder) / name
        found = json.loads(path.read_text()) if path.exists() else {}
        table = TABLES[kind](found, *([which] if which else []))
        return f"{begin}{table or ABSENT}\n{end}"

    return REGION.sub(region, page)


# The rows of the README's table: large and small images, backward, rows in which others are faster,
# and training.
FEW = (
    "warp_affine 1x1x4096x4096",
    "warp_affine 1x3x1080x1920",
    "warp_affine 256x1x42x42",
    "both ways 1x3x1080x1920",
    "both ways 256x1x42x42",
    "warp_image uint8 1080x1920x3",
    "bicubic 1x3x1080x1920",
    "nearest 1x3x1080x1920",
    "Adam step, paper's ST-CNN, batch 256",
)

# --- The kinds of tables --------------------------------------------------------------------------


def rows(found):
    """The milliseconds of numba_stn, and each peer's ratio."""
    listed = found.get("rows", [])
    names = columns(row["ratios"] for row in listed)
    return markdown(
        ["", "numba_stn, ms", *times_ours(names)],
        [[f"`{row['row']}`", figure(row["ours_ms"]), *ratios(row, names)] for row in listed],
    )


def few(found):
    """The table of :func:`rows` with the rows of FEW only."""
    return rows({"rows": [row for row in found.get("rows", []) if row["row"] in FEW]})


def losses(found):
    """The rows in which a peer is faster."""
    lost = [
        f"`{row['row']}` ({PEERS.get(who, who)}, {ratio:.2f})"
        for row in found.get("rows", [])
        for who, ratio in row["ratios"].items()
        if ratio < 1
    ]
    if not found.get("rows"):
        return ""
    return f"Losses: {', '.join(lost)}." if lost else "Losses: none."


def errors(found):
    """The largest errors of numba_stn and PyTorch."""
    return markdown(
        ["", "of", "numba_stn", "PyTorch"],
        [
            [f"`{row['row']}`", part, f"{error['ours']:.1e}", f"{error['torch']:.1e}"]
            for row in found.get("rows", [])
            for part, error in row.get("errors", {}).items()
        ],
    )


def memory(found):
    """Peak memory, divided by that of inputs, samples and gradients."""
    listed = found.get("memory", [])
    names = columns(row["peaks"] for row in listed)
    return markdown(
        ["", "inputs, samples and gradients, MiB", "numba_stn", *names],
        [
            [f"`{row['row']}`", figure(row["needed_mib"]), row["peaks"]["ours"],
             *(row["peaks"].get(who, "") for who in peers(row["peaks"], names))]
            for row in listed
        ],
    )  # fmt: skip


def startup(found):
    """The seconds of new processes."""
    listed = [[f"`{row['what']}`", figure(row["seconds"])] for row in found.get("startup", [])]
    return markdown(["a new process", "seconds"], listed)


def sweep(found, which):
    """Nanoseconds per sample and ratios along one quantity, forward, and forward and backward."""
    listed = [point for point in found.get("sweep", []) if point["sweep"] == which]
    names = columns(point["ratios"] for point in listed)
    return markdown(
        ["", which, "numba_stn, ns per sample", *times_ours(names)],
        [
            [point["what"], point["value"], figure(point["ns_per_sample"]), *ratios(point, names)]
            for point in listed
        ],
    )


def cells(found):
    """The ratios of each operation's cells: median, tenth percentile and least."""
    head = ["", "peer", "cells", "median", "tenth percentile", "worst"]
    return markdown(head, [
        [f"`{op}`", PEERS.get(listed[0]["peer"], listed[0]["peer"]), len(listed),
         *(f"{ratio:.2f}" for ratio in (median(of(listed)), of(listed)[len(listed) // 10],
                                        of(listed)[0]))]
        for op, listed in by_operation(found).items()
    ])  # fmt: skip


def worst_cells(found):
    """The five slowest cells of each operation."""
    return markdown(
        ["", "numba_stn, microseconds", "ratio"],
        [
            [f"`{each['cell']}`", figure(each["ours_us"]), f"{each['ratio']:.2f}"]
            for listed in by_operation(found).values()
            for each in sorted(listed, key=lambda each: each["ratio"])[:5]
        ],
    )


def by_operation(found):
    """The cells that were timed, by operation."""
    timed = [each for each in found.get("cells", []) if each["ratio"] is not None]
    return {op: [each for each in timed if each["op"] == op]
            for op in dict.fromkeys(each["op"] for each in timed)}  # fmt: skip


def of(listed):
    """The ratios of cells, sorted."""
    return sorted(each["ratio"] for each in listed)


def gpu(found):
    """The table of :func:`rows`, with the share of the copy bandwidth, and the targets."""
    listed = found.get("rows", [])
    names = columns(row["ratios"] for row in listed)
    return markdown(
        ["", "numba_stn, ms", "of copy", *times_ours(names), "targets"],
        [
            [f"`{row['row']}`", figure(row["ours_ms"]), percent(row["share_of_copy"]),
             *ratios(row, names), targets(row)]
            for row in listed
        ],
    )  # fmt: skip


def gpu_errors(found):
    """The largest error of each result, with PyTorch's on the same device, and the tolerance."""
    worst = {}
    for check in found.get("checks", []):
        for part, error in check.get("errors", {}).items():
            share = float("inf") if error["ours"] is None else error["ours"] / error["tolerance"]
            key = (check["op"], part)
            if key not in worst or share > worst[key][0]:
                worst[key] = share, error
    return markdown(
        ["", "of", "numba_stn", "PyTorch", "tolerance"],
        [
            [f"`{op}`", part, *("" if who not in error else "NaN" if error[who] is None
                                else f"{error[who]:.1e}" for who in ("ours", "torch", "tolerance"))]
            for (op, part), (_, error) in worst.items()
        ],
    )  # fmt: skip


def predicted(found):
    """For each call, what its kernels move and run, and the least time that follows from these."""
    body = []
    for name, call in found.get("calls", {}).items():
        moved = sum(each["bytes"] for each in call["launches"])
        instructions = sum(each["instructions"] for each in call["launches"])
        times = [_least_ms(found["chip"], call["pixels"], each) for each in call["launches"]]
        alone = 1e3 * moved / found["chip"]["copy"]
        body.append([f"`{name}`", len(times), f"{moved / 1e9:.2f}", f"{instructions:.0f}",
                     figure(alone), figure(sum(times))])  # fmt: skip
    head = ["call", "kernels", "GB moved", "instructions a pixel", "ms to move them", "ms at least"]
    return markdown(head, body)


def kernels(found):
    """Each kernel once, in the call that launches it first."""
    body, known = [], set()
    for name, call in found.get("calls", {}).items():
        for launch in call["launches"]:
            kernel = found["kernels"][launch["kernel"]]
            if launch["kernel"] in known:
                continue
            known.add(launch["kernel"])
            spilled = kernel["spill_stores"] + kernel["spill_loads"]
            body.append([
                f"`{name}`", f"`{kernel['kernel'].partition(' ')[0]}`", kernel["registers"],
                kernel["warps"], spilled or "", kernel["length"], f"{launch['instructions']:.0f}",
                f"{launch['bytes'] / 1e9:.2f}",
                figure(_least_ms(found["chip"], call["pixels"], launch)),
            ])  # fmt: skip
    head = ["call", "kernel", "registers", "warps", "bytes spilled", "PTX instructions",
            "run a pixel", "GB", "ms at least"]  # fmt: skip
    return markdown(head, body)


def _least_ms(chip, pixels, launch):
    """The least time of a launch: to move its arrays, or to issue its instructions."""
    instructions = launch["instructions"] * pixels
    return 1e3 * max(launch["bytes"] / chip["copy"], instructions / chip["issue"])


def registration(found):
    """The trials that each library solved, its errors and its time."""
    head = ["", "trials", "solved", "median error, pixels", "failures reported",
            "errors above a pixel, not reported", "median, ms", "time ratio"]  # fmt: skip
    return markdown(
        head,
        [
            [library(who), row["trials"],
             percent(row["solved"] / row["trials"]), optional(row["median_error"]),
             row["failures_reported"], row["errors_above_1"], figure(row["median_ms"]),
             optional(row["ratio"])]
            for who, row in found.get("summary", {}).items()
        ],
    )  # fmt: skip


def by_photograph(found):
    """The trials of each photograph that each library solved."""
    trials = found.get("trials", [])
    names = list(dict.fromkeys(who for trial in trials for who in trial["found"]))
    body = []
    for photograph in dict.fromkeys(trial["photograph"] for trial in trials):
        results = [trial["found"] for trial in trials if trial["photograph"] == photograph]
        tried = [[each[who]["error"] for each in results if who in each] for who in names]
        body.append([photograph, *(
            f"{sum(e is not None and e < SOLVED for e in errors)} of {len(errors)}"
            for errors in tried
        )])  # fmt: skip
    return markdown(["", *map(library, names)], body)


def paper(found):
    """The paper's table as ``numba-stn reproduce`` writes it."""
    listed = found.get("runs")
    return table1.to_markdown(listed).rstrip() if listed else ""


def trained(found):
    """The runs of each cell of the paper's table, as means over its seeds."""
    cells = {}
    for run in found.get("runs", []):
        kind = table1.TableRow.of(run)
        cells.setdefault((run["task"], str(kind)), []).append(run)
    head = ["task", "network", "seeds", "epochs", "views", "parameters", "validation", "test",
            "minutes", "commits"]  # fmt: skip
    return markdown(
        head,
        [
            [task, kind, len(listed), listed[0]["epochs"], listed[0]["views"],
             f"{listed[0]['parameters']:,}",
             *(f"{mean(run[name] for run in listed):.2f}"
               for name in ("validation_error", "test_error")),
             f"{mean(run['seconds'] for run in listed) / 60:.0f}",
             ", ".join(dict.fromkeys(run["commit"][:7] for run in listed))]
            for (task, kind), listed in cells.items()
        ],
    )  # fmt: skip


def machine(found):
    """The machine of a measurement."""
    about = found.get("machine")
    if not about:
        return ""
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    commit = f" at commit {found['commit'][:10]}" if found.get("commit") else ""
    speedup = about.get("threads_worth")
    shared = (
        f" In pure arithmetic, {about['cores']} threads were {speedup['least']} to"
        f" {speedup['most']} times as fast as one, {speedup['median']} in the median of 40"
        " measurements." if speedup else ""
    )  # fmt: skip
    return f"Measured on {about['cores']} cores ({about['processor']}){commit}: {versions}.{shared}"


TABLES = {
    table.__name__: table
    for table in (
        rows,
        few,
        losses,
        errors,
        memory,
        startup,
        sweep,
        cells,
        worst_cells,
        gpu,
        gpu_errors,
        predicted,
        kernels,
        machine,
        registration,
        by_photograph,
        paper,
        trained,
    )
}


# --- Parts of tables ------------------------------------------------------------------------------


def columns(found):
    """List the names of the peers that occur, in the order of PEERS."""
    seen = {PEERS.get(who, who) for each in found for who in each if who != "ours"}
    return [name for name in dict.fromkeys([*PEERS.values(), *sorted(seen)]) if name in seen]


def times_ours(names):
    """Format the heads of columns of ratios."""
    return [f"{name}, times ours" for name in names]


def peers(found, names):
    """Convert the names of peers to their keys; an unknown name is its own key."""
    keys = {PEERS.get(who, who): who for who in found}
    return [keys.get(name, name) for name in names]


def ratios(row, names):
    """Format the ratios of a row."""
    cells = (row["ratios"].get(who) for who in peers(row["ratios"], names))
    return ["" if ratio is None else f"{ratio:.2f}" for ratio in cells]


def targets(row):
    """Format the targets of a row, and whether it reaches them."""
    parts = []
    for who, target in row["bars"].items():
        value = row["share_of_copy"] if who == "copy" else row["ratios"].get(who)
        name = PEERS.get(who, who)
        what = f"{percent(target)} of copy" if who == "copy" else f"{target:g} x {name}"
        result = "not measured" if value is None else "reached" if value >= target else "MISSED"
        parts.append(f"{what}: {result}")
    return "; ".join(parts)


def library(who):
    """Format the name of a library's function."""
    return who.replace("ours", "numba_stn") if who.startswith("ours") else f"`{who}`"


def percent(share):
    """Format a share in percent; None is empty."""
    return "" if share is None else f"{100 * share:.0f} %"


def optional(number):
    """Format a number with three digits; None is empty."""
    return "" if number is None else figure(number)


def figure(number):
    """Format a number with three digits."""
    return f"{number:.3g}" if abs(number) < 1000 else f"{number:.0f}"


def markdown(head, body):
    """Format a table; one without rows is empty."""
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) if body else ""


if __name__ == "__main__":
    sys.exit(main())
