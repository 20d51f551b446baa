"""Is this checkout slower than another commit? ``python -m benchmarks.against [COMMIT] [ROW...]``.

Each row is timed in two processes, one with the commit's numba_stn and one with the checkout's,
what is not committed included, and in turn, so that whatever else the machine does strikes both
alike. The figure is the median ratio of neighbouring turns: above 1 the checkout is slower. One
pair of processes may differ by where its memory happens to lie; so a row above the limit is
measured again by fresh pairs, and is called slower only if every pair says so. The exit code is
then 1; it is 2 if nothing could be measured.
"""

import argparse
import io
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent

# What CI measures: a large image, a batch of small ones, many channels, a grid, a training step.
SHORT = (
    "warp_affine 1x3x1080x1920",
    "warp_affine 256x1x42x42",
    "both ways 64x32x28x28",
    "both ways 256x1x42x42",
    "grid_sample 1x1x2048x2048",
    "Adam step, tutorial's STN, batch 64",
)

# A checkout is slower if every one of so many pairs of processes says so.
PAIRS = 3


class NothingToCompareError(Exception):
    """There is no such commit, or no such row."""


def main(argv: Sequence[str] | None = None, root: pathlib.Path = ROOT) -> int:
    """Compare the checkout at ``root``; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.against",
                                     description=__doc__.split("\n")[0])  # fmt: skip
    add = parser.add_argument
    add("commit", nargs="?", help="default: the newest one of the committed history")
    add("rows", nargs="*", metavar="ROW", help="rows whose name holds this; default: a short list")
    add("--rounds", type=int, default=25, help="turns of each process; default: 25")
    add("--limit", type=float, default=1.2, help="a ratio above it is slower; default: 1.2")
    args = parser.parse_args(argv)
    try:
        commit = resolved(root, args.commit or newest(root / "benchmarks/results/asv"))
        rows = chosen(root, args.rows)
        with tempfile.TemporaryDirectory() as folder:
            extract(root, commit, folder)
            print(f"this checkout's time by that of {commit[:8]}, {args.rounds} turns each")
            slower = [row for row in rows if is_slower(row, folder, root, args.rounds, args.limit)]
    except NothingToCompareError as error:
        print(f"benchmarks.against: error: {error}", file=sys.stderr)
        return 2
    for row in slower:
        print(f"slower than {commit[:8]} by more than {args.limit}: {row}")
    return int(bool(slower))


# --- What is compared -----------------------------------------------------------------------------


def newest(history: pathlib.Path) -> str:
    """The newest commit that the history has results of."""
    found = [json.loads(path.read_text()) for path in history.glob("*/*.json")]
    dates = {each["date"]: each["commit_hash"] for each in found if "commit_hash" in each}
    if not dates:
        raise NothingToCompareError(f"no results in {history}; name a commit")
    return dates[max(dates)]


def resolved(root: pathlib.Path, commit: str) -> str:
    """The commit's whole name."""
    asked = ["git", "-C", str(root), "rev-parse", "--verify", "--quiet", commit + "^{commit}"]
    found = subprocess.run(asked, capture_output=True, text=True)
    if found.returncode:
        raise NothingToCompareError(
            f"no commit {commit!r} here; a clone made with --depth has only its last ones"
        )
    return found.stdout.strip()


def extract(root: pathlib.Path, commit: str, folder: str) -> None:
    """Put the commit's numba_stn into a folder."""
    packed = subprocess.run(["git", "-C", str(root), "archive", commit, "numba_stn"],
                            capture_output=True, check=True)  # fmt: skip
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as file:
        file.extractall(folder, filter="data")


def chosen(root: pathlib.Path, words: Sequence[str]) -> list[str]:
    """Names of rows that hold one of these words, or the short list."""
    if not words:
        return list(SHORT)
    from numba_stn.bench.report import ROWS

    for word in words:
        if not any(word in name for name in ROWS):
            raise NothingToCompareError(
                f"no row's name holds {word!r}; numba-stn bench --list shows the names"
            )
    return [name for name in ROWS if any(word in name for word in words)]


# --- Measuring ------------------------------------------------------------------------------------


class Stopwatch:
    """A process with the numba_stn of one tree, the suites of the checkout, and its own kernels."""

    def __init__(self, tree: str, root: pathlib.Path) -> None:
        own_kernels = {} if tree == str(root) else {"NUMBA_CACHE_DIR": f"{tree}/kernels"}
        command = [sys.executable, str(HERE / "stopwatch.py"), tree, str(root / "numba_stn/bench")]
        self.process = subprocess.Popen(command, env=os.environ | own_kernels, text=True, bufsize=1,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.communicate()

    def say(self, line: str) -> None:
        """Tell it something."""
        self.process.stdin.write(line + "\n")

    def answer(self) -> str:
        """What it answers."""
        if line := self.process.stdout.readline():
            return line.strip()
        raise NothingToCompareError("a process that measures ended; its message is above")

    def turn(self) -> float:
        """Seconds of one turn."""
        self.say("turn")
        return float(self.answer())


def is_slower(row: str, base: str, root: pathlib.Path, rounds: int, limit: float) -> bool:
    """Whether every pair of processes finds the row's ratio above the limit; says what they do."""
    ratios: list[float] = []
    while len(ratios) < PAIRS and (not ratios or ratios[-1] > limit):
        with ExitStack() as stack:
            pair = [stack.enter_context(Stopwatch(tree, root)) for tree in (base, str(root))]
            for each in pair:
                each.say(f"prepare {row}")
            for each in pair:  # both compile meanwhile
                if (answer := each.answer()) != "ready":
                    print(f"{row:42s} left out: {answer}", flush=True)
                    return False
            ratios.append(ratio(*pair, rounds))
    print(f"{row:42s} {' '.join(f'{each:.2f}' for each in ratios)}", flush=True)
    return ratios[-1] > limit


def ratio(base, own, rounds: int) -> float:
    """Median of the checkout's time by the commit's, who goes first by turns."""
    found = []
    for k in range(rounds):
        order = (base, own) if k % 2 else (own, base)
        times = {each: each.turn() for each in order}
        found.append(times[own] / times[base])
    return statistics.median(found)


if __name__ == "__main__":
    sys.exit(main())
