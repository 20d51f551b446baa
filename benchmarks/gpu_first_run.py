"""Check and measure the CUDA half on a GPU that is lent for a few minutes.

Run ``bash benchmarks/gpu_first_run.sh FOLDER`` in a plain checkout, with Python, NumPy, SciPy,
Numba, numba-cuda and pytest; PyTorch, CuPy, compute-sanitizer and ncu are used if they are there.
Nothing is downloaded. It does the following, each step in processes of its own with a time limit,
the most valuable first:

1. one kernel, compared with the CPU;
2. at the same time: every operation beside its oracle and its bits when repeated
   (:mod:`.gpu`), the simulator's tests on the device, and the CPU's half of step 5;
3. compute-sanitizer's memcheck and racecheck on small shapes;
4. the copy bandwidth and the rows of the benchmark, with PyTorch and CuPy;
5. a training of 200 steps (:mod:`.gpu_training`);
6. ncu on the two rows that are furthest from their targets.

A step that fails, hangs or lacks something does not stop the others, and all ends after
``--seconds`` in any case. The folder then has three files, which are renewed after every step:
``summary.json`` says of each step whether it was ok, failed, timed out, was skipped or not reached,
how long it took, and the last lines of its output; ``gpu.json`` has what was measured, in the form
of ``python -m benchmarks.gpu``; ``log.txt`` has all output.
"""

import argparse
import contextlib
import glob
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[1]

# A step ends with this exit code, and the reason as its last line, if it cannot be done here.
SKIPPED = 3

# The last lines of a step's output that the summary shows.
LINES = 12

# Where the CUDA toolkit and its profiler are, if they are not on the PATH.
TOOLS = ("/usr/local/cuda*/bin", "/opt/nvidia/nsight-compute/*")

Found = dict[str, Any]


class Step(NamedTuple):
    """A step: its processes run at the same time, and have to end within some seconds.

    ``commands`` makes their command lines when the step begins, or says what is missing.
    """

    name: str
    seconds: float
    commands: Callable[["Session"], list[list[str]] | str]
    env: dict[str, str] = {}  # noqa: RUF012 - a step's own


class Session(NamedTuple):
    """What the steps share: the folder of results, one for their work, and the sizes."""

    out: pathlib.Path
    work: pathlib.Path
    small: bool  # small sizes, for a rehearsal
    processes: int
    commit: str | None = None

    def python(self, *words: str) -> list[str]:
        """The command line of a module of this package."""
        return [sys.executable, "-m", *words]

    def gpu(self, name: str, *words: str) -> list[str]:
        """The command line of :mod:`.gpu`, whose results are one part of all."""
        quick = ["--quick"] if self.small else []
        quick += ["--commit", self.commit] if self.commit else []
        return self.python(
            "benchmarks.gpu", "--json", str(self.work / f"{name}.json"), *quick, *words
        )


# --- The steps ------------------------------------------------------------------------------------

FIRST = "correct: warp_affine float32 zeros edges"


def first_kernel(session):
    """One kernel; the smallest case of its check."""
    return [session.gpu("first", "--rows", FIRST + (" 2x2" if session.small else " 3x2"))]


def checks(session):
    """Every operation beside its oracle, and the same bits twice."""
    count = session.processes
    words = ["--rows", "affine_grid float" if session.small else ": "]
    return [session.gpu(f"checks-{k}", *words, "--part", f"{k}/{count}")
            for k in range(1, count + 1)]  # fmt: skip


def device_tests(session):
    """The tests that the simulator runs, on the device."""
    files = sorted(str(path) for path in (ROOT / "tests").glob("cuda_simulator_*.py"))
    words = ["-k", "affine_grid"] if session.small else []
    # Warnings of the libraries that happen to be installed are no errors here.
    options = ["-q", "-p", "no:cacheprovider", "-o", "filterwarnings=default"]
    command = session.python("pytest", *options, *files, *words)
    if has_module("xdist") and not session.small:
        command += ["-n", str(session.processes)]
    return [command]


def cpu_training(session):
    """The training on the CPU."""
    return [training(session, "cpu")]


def gpu_training(session):
    """The training on the GPU."""
    return [training(session, "cuda")]


def training(session, device):
    """The command line of a training."""
    steps = "4" if session.small else "200"
    file = str(session.out / "training.json")
    return session.python("benchmarks.gpu_training", device, "--steps", steps, "--json", file)


# The checks that are run under compute-sanitizer: all kernels, on arrays of Numba, whose allocator
# hides no access beyond an array. They are small, and compiled by then.
SANITIZED = ("same bits",)
SHARED = ("same bits: warp_affine", "same bits: warp_perspective", "same bits: tps_grid")


def sanitizer(tool, rows):
    """A step under one of the tools of compute-sanitizer."""

    def commands(session):
        found = tool_path("compute-sanitizer")
        if found is None:
            return "compute-sanitizer was not found"
        return [[found, "--tool", tool, "--error-exitcode", "9", *session.python(
            "benchmarks.gpu", "--quick", "--arrays", "numba", "--rows", *rows)]]  # fmt: skip

    return commands


def rows(session):
    """The copy bandwidth and the rows."""
    names = ["copy"] if session.small else ["copy", *ROWS]
    return [session.gpu("rows", "--rounds", "2" if session.small else "5", "--rows", *names)]


# The rows, by what begins their names; the checks' names begin otherwise.
ROWS = ("warp_affine 64x", "warp_affine 16x", "both ways", "grid_sample 16x",
        "grid_sample backward", "Adam", "launch", "antialias to", "warp_affine_jvp 64x",
        "warp_affine_gauss_newton 64x")  # fmt: skip


def profile(session):
    """The two rows that are furthest from their targets, under ncu."""
    found = tool_path("ncu")
    if found is None:
        return "ncu was not found"
    names = worst_rows(merged(session))
    if not names:
        return "no row was measured"
    options = ["--clock-control", "none", "--profile-from-start", "off", "--launch-count", "12"]
    run = session.gpu("profile", "--profile", "--rows", *names)
    return [[found, *options, "--set", "detailed", *run]]


def worst_rows(found: Found, count: int = 2) -> list[str]:
    """The rows whose worst ratio to a target is least."""
    shares = {}
    for row in found.get("rows", []):
        values = {**row["ratios"], "copy": row["share_of_copy"]}
        reached = [values[who] / target for who, target in row["bars"].items() if values.get(who)]
        if reached:
            shares[row["row"]] = min(reached)
    return sorted(shares, key=lambda name: shares[name])[:count]


# Steps in the same inner list run at the same time. What is timed runs alone.
STEPS = [
    [Step("first kernel", 70, first_kernel)],
    [
        Step("checks", 130, checks),
        Step("tests on the device", 130, device_tests, {"NUMBA_ENABLE_CUDASIM": "0"}),
        Step("training on the CPU", 130, cpu_training),
    ],
    [
        Step("memcheck", 50, sanitizer("memcheck", SANITIZED)),
        Step("racecheck", 50, sanitizer("racecheck", SHARED)),
    ],
    [Step("rows", 140, rows)],
    [Step("training on the GPU", 45, gpu_training)],
    [Step("ncu", 45, profile)],
]


# --- Run them -------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None, steps: list[list[Step]] | None = None) -> int:
    """Run all steps; the exit code is 1 if one of them failed or timed out."""
    args = parser().parse_args(argv)
    steps = STEPS if steps is None else steps
    known = [step.name for group in steps for step in group]
    if unknown := [name for name in args.steps if name not in known]:
        print(
            f"gpu_first_run: no step {unknown[0]!r}; there are {', '.join(known)}", file=sys.stderr
        )
        return 2
    steps = [[step for step in group if not args.steps or step.name in args.steps]
             for group in steps]  # fmt: skip
    end = time.monotonic() + args.seconds
    args.folder.mkdir(parents=True, exist_ok=True)
    (args.folder / "log.txt").write_text("")
    summary: Found = {"command": " ".join(sys.argv), "seconds": args.seconds, "done": False,
                      "steps": [describe(step) for group in steps for step in group]}  # fmt: skip
    by_name = {each["step"]: each for each in summary["steps"]}
    with tempfile.TemporaryDirectory() as folder, ended_by_signals():
        session = Session(
            args.folder, pathlib.Path(folder), args.small, args.processes, args.commit
        )
        began = time.monotonic()
        try:
            for group in steps:
                save(session, summary)
                run_group(group, session, by_name, end)
                summary["took"] = round(time.monotonic() - began, 1)
            summary["done"] = True
        finally:
            save(session, summary)
    print(report(summary))
    return int(any(each["state"] in ("failed", "timed out") for each in summary["steps"]))


def describe(step: Step) -> Found:
    """A step that has not begun."""
    return {"step": step.name, "state": "not reached", "limit": step.seconds, "log": "log.txt"}


def run_group(group: list[Step], session: Session, by_name: dict[str, Found], end: float) -> None:
    """Run steps at the same time, each until it ends or its time is over."""
    running = []
    try:
        for step in group:
            if time.monotonic() < end:
                running.append(Running(step, session, by_name[step.name], end))
        while any(each.goes_on() for each in running):
            time.sleep(0.05)
    finally:
        for each in running:
            each.stop()
            each.conclude()


class Running:
    """A step that has begun: its processes, and what is known of it."""

    def __init__(self, step: Step, session: Session, found: Found, end: float) -> None:
        self.step, self.session, self.found = step, session, found
        self.began = time.monotonic()
        # A rehearsal may have few and busy cores.
        self.limit = min(self.began + step.seconds * (6 if session.small else 1), end)
        self.logs: list[pathlib.Path] = []
        self.processes: list[subprocess.Popen] = []
        self.timed_out = False
        self.missing = ""
        try:
            commands = step.commands(session)
        except Exception as error:  # what an earlier step should have left is not there
            commands = f"{type(error).__name__}: {error}"
        if isinstance(commands, str):
            self.missing = commands
            return
        for command in commands:
            self.start(command)

    def start(self, command: list[str]) -> None:
        """Start a process, in a group of its own so that all its children can be ended."""
        log = self.session.work / f"{len(list(self.session.work.glob('*.log')))}.log"
        self.logs.append(log)
        env = {
            **os.environ, "PYTHONUNBUFFERED": "1",
            "NUMBA_CACHE_DIR": str(self.session.work / "cache"), **self.step.env,
        }  # fmt: skip
        with log.open("wb") as file:
            file.write(f"$ {' '.join(command)}\n".encode())
            file.flush()
            try:
                self.processes.append(
                    subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL,
                                     stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
                )  # fmt: skip
            except OSError as error:
                self.missing = f"{command[0]}: {error.strerror}"

    def goes_on(self) -> bool:
        """Whether a process still runs; it is stopped when its time is over."""
        if all(process.poll() is not None for process in self.processes):
            self.found.setdefault("took", round(time.monotonic() - self.began, 1))
            return False
        if time.monotonic() >= self.limit:
            self.timed_out = True
            self.stop()
            return False
        return True

    def stop(self) -> None:
        """End all processes and their children: politely, then at once."""
        for number, patience in ((signal.SIGTERM, 1.0), (signal.SIGKILL, 5.0)):
            for process in self.processes:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
            last = time.monotonic() + patience
            while time.monotonic() < last and any(p.poll() is None for p in self.processes):
                time.sleep(0.02)

    def conclude(self) -> None:
        """Say how the step ended, and add its output to the log."""
        codes = [process.poll() for process in self.processes]
        texts = [log.read_text(errors="replace") for log in self.logs]
        self.found["took"] = self.found.get("took", round(time.monotonic() - self.began, 1))
        self.found["exit_codes"] = codes
        self.found["state"] = (
            "skipped" if self.missing
            else "timed out" if self.timed_out
            else "skipped" if codes and set(codes) <= {0, SKIPPED} and SKIPPED in codes
            else "failed" if any(codes)
            else "ok"
        )  # fmt: skip
        wrong = [text for text, code in zip(texts, codes, strict=False) if code] or texts[:1]
        lines = self.missing or "\n".join(wrong[0].splitlines()[1:][-LINES:] if wrong else [])
        self.found["tail"] = lines
        with (self.session.out / "log.txt").open("a") as log:
            log.write(f"\n== {self.step.name}: {self.found['state']}\n" + "\n".join(texts))


def save(session: Session, summary: Found) -> None:
    """Write the summary and what was measured so far."""
    for name, content in (("summary", summary), ("gpu", merged(session))):
        write(session.out / f"{name}.json", content)


def merged(session: Session) -> Found:
    """The results of all processes of :mod:`.gpu` as if they were those of one."""
    found: Found = {}
    for path in sorted(session.work.glob("*.json")):
        with contextlib.suppress(ValueError):
            part = json.loads(path.read_text())
            for key, value in part.items():
                if isinstance(value, list):
                    known = found.setdefault(key, [])
                    known += [each for each in value if each not in known]
                elif key == "done":
                    found[key] = found.get(key, True) and value
                else:
                    found.setdefault(key, value)
    return found


def write(path: pathlib.Path, content: Found) -> None:
    """Write a file as a whole, so that one that is read meanwhile is complete."""
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(content, indent=1) + "\n")
    unfinished.replace(path)


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Context in which SIGTERM ends the run as Ctrl-C does: processes end, the summary is kept."""

    def end(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def tool_path(name: str) -> str | None:
    """The path of one of the CUDA toolkit's programs."""
    if found := shutil.which(name):
        return found
    paths = [path for folder in TOOLS for path in sorted(glob.glob(f"{folder}/{name}"))]
    return next(filter(os.path.isfile, paths), None)


def has_module(name: str) -> bool:
    """Whether a module can be imported."""
    import importlib.util

    return importlib.util.find_spec(name) is not None


def report(summary: Found) -> str:
    """A line for each step."""
    return "\n".join(f"{each['state']:12}{each.get('took', ''):>7}  {each['step']}"
                     for each in summary["steps"])  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    result = argparse.ArgumentParser(
        "benchmarks/gpu_first_run.sh", description=__doc__.split("\n")[0]
    )
    add = result.add_argument
    add("folder", nargs="?", type=pathlib.Path, default=os.environ.get("OUT", "gpu_run"),
        help="the folder of the results; default: $OUT, or gpu_run")  # fmt: skip
    add("--seconds", type=float, default=460, help="when everything ends; default: 460")
    add("--processes", type=int, default=max(1, min(8, (os.cpu_count() or 2) // 2)), metavar="N",
        help="processes that check at the same time")  # fmt: skip
    add("--steps", nargs="+", default=[], metavar="STEP", help="only these; default: all")
    add("--commit", metavar="HASH", help="the commit that is measured, if there is no .git")
    add("--small", action="store_true", help="a few small problems, for a rehearsal")
    return result


if __name__ == "__main__":
    sys.exit(main())
