"""Put small faults into the package, one at a time, and record which of them the tests notice.

``python tests/mutations.py`` applies the mutations of ``mutations.txt``, each of which names the
tests that should notice it.
``python tests/mutations.py --module numba_stn/nn/optim.py --tests test_losses_and_optimisers.py``
makes mutations of a module by itself (:mod:`mutation_operators`): use it for modules of plain
Python whose tests take seconds.

The mutations are applied to a clone of the checkout's last commit. A mutation is noticed if one of
its tests fails, crashes, or does not end. The results are in ``benchmarks/results/mutations.json``,
which is written after each mutation. A mutation is skipped if the file has its result already, and
neither the mutated file nor its tests, nor what is beside these in their file, have changed since.
Before any mutation, all tests that are named must pass. The exit code is 1 if a mutation survives
that is not explained, and 2 if the list is stale or a test fails without a mutation.
"""

import argparse
import ast
import hashlib
import json
import os
import pathlib
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib import metadata
from typing import NamedTuple

import mutation_operators
from test_cuda_simulator import SUITES

from numba_stn.utils.atomic_write import write_atomically

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "mutations.json"
LIST = ROOT / "tests" / "mutations.txt"

# Test files whose changes make a result invalid, besides the tests that a mutation names.
HELPERS = ("reference.py", "samplers.py", "gradcheck.py", "plain_images.py")

# Seconds after which a test that does not end counts as one that fails.
LIMIT = 400

# All sources of kernels get this time of modification, which Numba's cache compares, so that each
# run finds the kernels that an earlier one compiled.
TIME = 1_000_000_000


class StaleError(Exception):
    """The list does not fit the sources, or a test fails without a mutation."""


class Mutant(NamedTuple):
    """A changed source, and the tests that should notice it.

    ``tests`` are arguments of pytest, with paths relative to ``tests``. ``explained`` says why no
    test can notice it, or is empty.
    """

    name: str
    file: str
    source: str
    tests: tuple[str, ...]
    explained: str = ""


# --- The mutations --------------------------------------------------------------------------------


class Row(NamedTuple):
    """A mutation of the list, or an explanation of one that is made by operators."""

    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    explained: str

    @property
    def name(self) -> str:
        """The file and the change, in one line."""
        if not self.tests:
            return f"{self.file}: {self.old}"
        return f"{self.file}: {' '.join(self.old.split())} -> {' '.join(self.new.split())}"


def rows(path: pathlib.Path = LIST) -> list[Row]:
    """Read the list, whose format its first lines describe."""
    found, file = [], ""
    for block in path.read_text().split("\n\n"):
        texts: dict[str, list[str]] = {mark: [] for mark in "@-+?!~#"}
        for line in block.strip("\n").split("\n"):
            if line and line[:2].strip() not in texts:
                raise StaleError(f"{path.name}: a line begins with none of {list(texts)}: {line}")
            if line:
                texts[line[0]].append(line[2:])
        file = texts["@"][0] if texts["@"] else file
        old, new, explained = ("\n".join(texts[mark]) for mark in "-+!")
        if old or texts["~"]:
            old = old or texts["~"][0]
            found.append(Row(file, old, new, tuple(texts["?"]), explained.replace("\n", " ")))
    return found


def listed(path: pathlib.Path = LIST) -> list[Mutant]:
    """The mutants of the list; each old text must occur once in its file."""
    found, stale = [], []
    for row in rows(path):
        if not row.tests:
            continue
        source = (ROOT / row.file).read_text()
        if source.count(row.old) != 1 or row.old == row.new:
            stale.append(f"{row.name}: the old text occurs {source.count(row.old)} times")
        changed = source.replace(row.old, row.new, 1)
        found.append(Mutant(row.name, row.file, changed, row.tests, row.explained))
    if stale:
        raise StaleError("\n".join(stale))
    return found


def generated(file: str, tests: Sequence[str], sample: int, seed: int) -> list[Mutant]:
    """A sample of the mutants that :mod:`mutation_operators` makes of a module."""
    explained = {row.name: row.explained for row in rows() if not row.tests}
    source, found = (ROOT / file).read_text(), []
    for edit in mutation_operators.sampled(source, sample, seed):
        name = f"{file}: {edit.name}"
        changed = edit.applied(source)
        found.append(Mutant(name, file, changed, tuple(tests), explained.get(name, "")))
    return found


# --- Running tests --------------------------------------------------------------------------------


class Outcome(NamedTuple):
    """How a run of tests ended: whether they passed, and if not, the first failure."""

    passed: bool
    by: str = ""


class Workshop:
    """A clone of the checkout in which tests run, with folders for Numba's cache.

    A change of a kernel's source gives all kernels other names. So the kernels that a mutant
    compiles are of no use to others, and have a folder of their own that is removed.
    """

    def __init__(self, folder: pathlib.Path):
        self.clone, self.cache = folder / "clone", folder / "cache"
        self.other_cache = folder / "cache-of-a-mutant"
        shutil.rmtree(self.clone, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        git("clone", "--quiet", "--shared", str(ROOT), str(self.clone))
        for path in (self.clone / "numba_stn").rglob("*.py"):
            os.utime(path, (TIME, TIME))

    def try_mutant(self, mutant: Mutant) -> Outcome:
        """Run the tests of a mutant, up to the first that fails."""
        path = self.clone / mutant.file
        original, cache = path.read_bytes(), self.cache
        if mutant.file.startswith("numba_stn/kernels/"):
            cache = self.other_cache
            shutil.rmtree(cache, ignore_errors=True)
        try:
            path.write_text(mutant.source)
            outcomes = (self.run(test, cache) for test in mutant.tests)
            return next((each for each in outcomes if not each.passed), Outcome(True))
        finally:
            path.write_bytes(original)
            os.utime(path, (TIME, TIME))

    def run(self, test: str, cache: pathlib.Path | None = None) -> Outcome:
        """Run one of a mutant's tests; ``test`` is a node of pytest, and may have options."""
        node, *options = shlex.split(test)
        command = [sys.executable, "-m", "pytest", "-x", "-rfE", "--tb=no", "-p",
                   "no:cacheprovider", *options, f"tests/{node}"]  # fmt: skip
        folders = {"PYTHONPATH": str(self.clone), "NUMBA_CACHE_DIR": str(cache or self.cache)}
        with subprocess.Popen(
            command, cwd=self.clone, env=environment(node) | folders, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, start_new_session=True,
        ) as process:  # fmt: skip
            try:
                output, _ = process.communicate(timeout=LIMIT)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                return Outcome(False, f"{test}: did not end in {LIMIT} s")
            except KeyboardInterrupt:
                os.killpg(process.pid, signal.SIGKILL)
                raise
        return judged(process.returncode, output, test)


def environment(node: str) -> dict[str, str]:
    """The environment in which a file of tests runs: some run in Numba's simulator."""
    chosen = ("NUMBA_ENABLE_CUDASIM", "NUMBA_DISABLE_JIT")
    env = {key: value for key, value in os.environ.items() if key not in chosen}
    env["PYTHONDONTWRITEBYTECODE"] = "1"
    file = node.partition("::")[0]
    if file in SUITES:
        env |= {"NUMBA_ENABLE_CUDASIM": "1", **SUITES[file]}
    return env


def judged(code: int, output: str, test: str) -> Outcome:
    """What pytest's exit code and its output mean."""
    if code == 0 and re.search(r"\d+ passed", output):
        return Outcome(True)
    if code in (0, 4, 5):
        raise StaleError(f"{test}: pytest ran no test\n{output[-2000:]}")
    if code < 0:
        return Outcome(False, f"{test}: ended by {signal.Signals(-code).name}")
    lines = [line for line in output.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    return Outcome(False, lines[0].partition(" ")[2][:160] if lines else f"{test}: exit {code}")


def check_tests(workshop: Workshop, mutants: Sequence[Mutant]) -> None:
    """Raise unless all named tests pass without a mutation."""
    for test in sorted({test for mutant in mutants for test in mutant.tests}):
        began = time.perf_counter()
        outcome = workshop.run(test)
        print(f"{'passes' if outcome.passed else 'FAILS'} {time.perf_counter() - began:5.1f} s  "
              f"{test}", flush=True)  # fmt: skip
        if not outcome.passed:
            raise StaleError(f"{test}: fails without a mutation: {outcome.by}")


# --- Results --------------------------------------------------------------------------------------


def fingerprint(mutant: Mutant) -> str:
    """A hash of the mutant's source, of its tests, and of what these tests use."""
    named: dict[str, set[str]] = {name: set() for name in HELPERS}
    for test in mutant.tests:
        file, _, function = test.split()[0].partition("::")
        named.setdefault(file, set()).add(function)
    digest = hashlib.sha256(mutant.source.encode())
    for file, functions in sorted(named.items()):
        digest.update(without_other_tests((ROOT / "tests" / file).read_text(), functions).encode())
    return digest.hexdigest()[:16]


def without_other_tests(source: str, functions: set[str]) -> str:
    """The lines of a file of tests that are not blank, and not of tests other than these.

    If one of the functions is the empty name, all tests are meant.
    """
    lines = source.split("\n")
    for node in ast.parse(source).body:
        is_test = isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
        if is_test and not functions & {"", node.name}:
            first = min(part.lineno for part in (node, *node.decorator_list))
            lines[first - 1 : node.end_lineno] = [""] * (node.end_lineno - first + 1)
    return "\n".join(line for line in lines if line)


def load(path: pathlib.Path) -> dict:
    """The results so far."""
    return json.loads(path.read_text()) if path.exists() else {"mutations": {}}


def save(path: pathlib.Path, results: dict) -> None:
    """Write the results, with the versions that they depend on."""
    names = ("numba", "numpy", "pytest")
    results["versions"] = {"python": platform.python_version()} | {
        name: metadata.version(name) for name in names
    }
    results["summary"] = summary(results["mutations"].values())
    ordered = results | {"mutations": dict(sorted(results["mutations"].items()))}
    write_atomically(path, (json.dumps(ordered, indent=1) + "\n").encode())


def summary(entries) -> dict[str, int]:
    """How many mutations there are, by kind and result."""
    found: dict[str, int] = {}
    for entry in entries:
        key = f"{entry['kind']}, {entry['result']}"
        found[key] = found.get(key, 0) + 1
    return dict(sorted(found.items()))


def survival(mutant: Mutant) -> str:
    """The result of a mutant that no test notices."""
    return "explained" if mutant.explained else "survived"


def report(mutant: Mutant, entry: dict) -> str:
    """One line about a mutant."""
    tail = f"by {entry['by']}" if entry["result"] == "noticed" else mutant.explained
    return f"{entry['result']:9} {entry['seconds']:5.1f} s  {mutant.name}  {tail}"


def git(*words: str) -> str:
    """Run git in the checkout, and return its output."""
    done = subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


# --- The command ----------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """Try the mutants that are asked for; return the exit code."""
    args = parsed(argv)
    try:
        mutants = (
            generated(args.module, args.tests, args.sample, args.seed) if args.module else listed()
        )
        mutants = [mutant for mutant in mutants if args.only in mutant.name]
        results = load(args.out)
        if not args.module and not args.only:  # forget mutations that the list no longer has
            names = {mutant.name for mutant in mutants}
            results["mutations"] = {
                name: entry for name, entry in results["mutations"].items()
                if entry["kind"] != "listed" or name in names
            }  # fmt: skip
        return try_all(mutants, results, args)
    except StaleError as error:
        print(error, file=sys.stderr)
        return 2


def try_all(mutants: Sequence[Mutant], results: dict, args: argparse.Namespace) -> int:
    """Try the mutants without a valid result, and report those that survive."""
    done, commit = results["mutations"], git("rev-parse", "HEAD")
    of = {mutant.name: fingerprint(mutant) for mutant in mutants}  # the tests may change meanwhile
    known = {name for name, mark in of.items() if done.get(name, {}).get("of") == mark}
    for mutant in mutants:  # it may have been explained since
        if mutant.name in known and done[mutant.name]["result"] != "noticed":
            done[mutant.name] |= {"result": survival(mutant), "by": mutant.explained}
            save(args.out, results)
    wanted = [mutant for mutant in mutants if mutant.name not in known or args.again]
    wanted.sort(key=lambda mutant: mutant.name in done)  # those that never ran come first
    if wanted:
        workshop = Workshop(args.work)
        if not args.unchecked:
            check_tests(workshop, wanted)
    for mutant in wanted:
        began = time.perf_counter()
        outcome = workshop.try_mutant(mutant)
        entry = {
            "kind": "generated" if args.module else "listed",
            "result": survival(mutant) if outcome.passed else "noticed",
            "by": outcome.by or mutant.explained,
            "seconds": round(time.perf_counter() - began, 1),
            "commit": commit[:12],
            "of": of[mutant.name],
        }  # fmt: skip
        done[mutant.name] = entry
        print(report(mutant, entry), flush=True)
        save(args.out, results)
    found = [done[mutant.name]["result"] for mutant in mutants]
    print(f"{len(found)} mutations: {found.count('noticed')} noticed, "
          f"{found.count('explained')} explained, {found.count('survived')} survived")  # fmt: skip
    return int("survived" in found)


def parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--module", help="make mutations of this file instead of those that are listed")
    add("--tests", nargs="+", default=(), help="with --module: the tests that should notice them")
    add("--sample", type=int, default=40, help="with --module: how many mutations; default: 40")
    add("--seed", type=int, default=0, help="with --module: chooses the sample; default: 0")
    add("--only", default="", metavar="TEXT", help="only mutations whose name contains this")
    add("--again", action="store_true", help="also those that have a valid result")
    add("--unchecked", action="store_true", help="the suite passed: do not run the tests first")
    add("--out", type=pathlib.Path, default=RESULTS, help="the file of the results")
    add("--work", type=pathlib.Path, help="the folder of the clone and of Numba's cache",
        default=pathlib.Path(tempfile.gettempdir()) / "numba_stn-mutations")  # fmt: skip
    args = parser.parse_args(argv)
    if bool(args.module) != bool(args.tests):
        parser.error("expected both --module and --tests, or neither")
    return args


if __name__ == "__main__":
    sys.exit(main())
