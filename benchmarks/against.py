"""Test whether this checkout is slower than another commit.

``python -m benchmarks.against [COMMIT] [ROW...]`` times each row in two processes, one with the
commit's numba_stn and one with the checkout's, including changes that are not committed. The
processes alternate, so that other work on the machine affects both alike. The result is the median
ratio of two measurements that follow each other: above 1 the checkout is slower. One pair of
processes may differ because of their memory addresses. So a row above the limit is measured again
by new pairs, and is slower only if every pair is above it. The exit code is then 1; it is 2 if
nothing could be measured.
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

# The rows that CI measures: a large image, a batch of small ones, many channels, a grid, a training
# step.
SHORT = (
    "warp_affine 1x3x1080x1920",
    "warp_affine 256x1x42x42",
    "both ways 64x32x28x28",
    "both ways 256x1x42x42",
    "grid_sample 1x1x2048x2048",
    "Adam step, tutorial's STN, batch 64",
)

# A row is slower if its ratio is above the limit in this number of pairs of processes.
PAIRS = 3


class NothingToCompareError(Exception):
    """The commit or the row does not exist, or a process failed."""


def main(argv: Sequence[str] | None = None, root: pathlib.Path = ROOT) -> int:
    """Compare the checkout at ``root``; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.against",
                                     description=__doc__.split("\n")[0])  # fmt: skip
    add = parser.add_argument
    add("commit", nargs="?", help="default: the newest commit of the committed history")
    add("rows", nargs="*", metavar="ROW", help="only rows whose name contains this; default: a "
        "short list")  # fmt: skip
    add("--rounds", type=int, default=25, help="measurements of each process; default: 25")
    add("--limit", type=float, default=1.2, help="a row is slower above this ratio; default: 1.2")
    args = parser.parse_args(argv)
    try:
        commit = resolve(root, args.commit or newest(root / "benchmarks/results/asv"))
        rows = choose(args.rows)
        with tempfile.TemporaryDirectory() as folder:
            extract(root, commit, folder)
            print(f"this checkout's time, divided by that of {commit[:8]}; median of {args.rounds}")
            slower = [row for row in rows if is_slower(row, folder, root, args.rounds, args.limit)]
    except NothingToCompareError as error:
        print(f"benchmarks.against: error: {error}", file=sys.stderr)
        return 2
    for row in slower:
        print(f"slower than {commit[:8]} by more than {args.limit}: {row}")
    return int(bool(slower))


# --- Commits and rows -----------------------------------------------------------------------------


def newest(history: pathlib.Path) -> str:
    """Find the newest commit that has results in the history."""
    found = [json.loads(path.read_text()) for path in history.glob("*/*.json")]
    dates = {each["date"]: each["commit_hash"] for each in found if "commit_hash" in each}
    if not dates:
        raise NothingToCompareError(f"{history} has no results; name a commit")
    return dates[max(dates)]


def resolve(root: pathlib.Path, commit: str) -> str:
    """Find the full hash of a commit."""
    command = ["git", "-C", str(root), "rev-parse", "--verify", "--quiet", commit + "^{commit}"]
    found = subprocess.run(command, capture_output=True, text=True)
    if found.returncode:
        raise NothingToCompareError(
            f"no commit {commit!r} here; a clone made with --depth has only the last commits"
        )
    return found.stdout.strip()


def extract(
    root: pathlib.Path, commit: str, folder: str, paths: Sequence[str] = ("numba_stn",)
) -> None:
    """Write the commit's numba_stn, or these paths of it, into a folder."""
    archive = subprocess.run(["git", "-C", str(root), "archive", commit, *paths],
                             capture_output=True, check=True)  # fmt: skip
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as file:
        file.extractall(folder, filter="data")


def choose(words: Sequence[str]) -> list[str]:
    """List the rows whose name contains one of these words, or the short list."""
    if not words:
        return list(SHORT)
    from numba_stn.bench.report import ROWS

    for word in words:
        if not any(word in name for name in ROWS):
            raise NothingToCompareError(
                f"no row's name contains {word!r}; numba-stn bench --list prints the names"
            )
    return [name for name in ROWS if any(word in name for word in words)]


# --- Measurements ---------------------------------------------------------------------------------


class Stopwatch:
    """A process that times the numba_stn of one tree: see :mod:`.stopwatch`.

    It uses the checkout's rows, and has a kernel cache of its own.
    """

    def __init__(self, tree: str, root: pathlib.Path) -> None:
        cache = {} if tree == str(root) else {"NUMBA_CACHE_DIR": f"{tree}/kernels"}
        command = [sys.executable, str(HERE / "stopwatch.py"), tree, str(root / "numba_stn/bench")]
        self.process = subprocess.Popen(command, env=os.environ | cache, text=True, bufsize=1,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.communicate()

    def send(self, line: str) -> None:
        """Send a line to the process."""
        self.process.stdin.write(line + "\n")

    def receive(self) -> str:
        """Read a line from the process."""
        if line := self.process.stdout.readline():
            return line.strip()
        raise NothingToCompareError("a measuring process ended; see its message above")

    def seconds(self) -> float:
        """Measure the seconds of a call."""
        self.send("time")
        return float(self.receive())


def is_slower(row: str, base: str, root: pathlib.Path, rounds: int, limit: float) -> bool:
    """Measure a row, and test whether every pair of processes finds a ratio above the limit."""
    ratios: list[float] = []
    while len(ratios) < PAIRS and (not ratios or ratios[-1] > limit):
        with ExitStack() as stack:
            pair = [stack.enter_context(Stopwatch(tree, root)) for tree in (base, str(root))]
            for each in pair:
                each.send(f"prepare {row}")
            for each in pair:  # both compile at the same time
                if (answer := each.receive()) != "ready":
                    print(f"{row:42s} skipped: {answer}", flush=True)
                    return False
            ratios.append(ratio(*pair, rounds))
    print(f"{row:42s} {' '.join(f'{each:.2f}' for each in ratios)}", flush=True)
    return ratios[-1] > limit


def ratio(base: Stopwatch, checkout: Stopwatch, rounds: int) -> float:
    """Median of the checkout's time divided by the commit's; the first of a round alternates."""
    ratios = []
    for k in range(rounds):
        order = (base, checkout) if k % 2 else (checkout, base)
        times = {each: each.seconds() for each in order}
        ratios.append(times[checkout] / times[base])
    return statistics.median(ratios)


if __name__ == "__main__":
    sys.exit(main())
