"""Measure the speed of commits with asv.

``python -m benchmarks.history --machine NAME`` measures the commits of benchmarks/history.txt, and
``--last N`` the newest commits of main that change the package. Each commit is built and installed
in an environment of its own and has its own kernel cache. The command says beforehand how long that
takes. It may be stopped at any time; the next run goes on with the first commit without results.

Results go to ``.asv/results``, which git ignores. A folder with committed files is written to only
if ``--results`` names it, and results of another machine are never added to: NAME stands for one
machine, which you name. When it is done, the command writes asv's site to
``.asv/html``, with the committed results of other machines beside the new ones; it opens from the
file.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent
OWN = ROOT / ".asv"
COMMITTED = HERE / "results" / "asv"

# What a commit takes before one was measured here, in minutes: its build, its kernels, its rows.
MINUTES = 6.0

# asv's exit code if some benchmarks of a commit failed; it stores the results of the others.
FAILED_ROWS = 2

# What asv records of a machine and what tells two machines apart. The system's version may change.
SAME = ("arch", "cpu", "num_cpu", "ram")


class HistoryError(Exception):
    """The commits or the results do not allow to measure."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure commits; return the exit code."""
    args = _arguments().parse_args(argv)
    try:
        commits = choose(args.last, args.commits)
        folder = pathlib.Path(args.results).absolute()
        check_machine(folder, args.machine)
        todo = [commit for commit in commits if commit not in measured(folder, args.machine)]
        print(plan(commits, todo, folder, args.machine), flush=True)
        if args.list:
            print("\n".join(f"{'' if commit in todo else 'measured '}{line(commit)}"
                            for commit in commits))  # fmt: skip
            return 0
        if todo:
            measure(todo, folder, args.machine, args.bench)
        publish(folder)
    except HistoryError as error:
        print(f"benchmarks.history: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on", file=sys.stderr)
        return 130
    return 0


def _arguments():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.history",
                                     description=__doc__.split("\n\n")[1])  # fmt: skip
    add = parser.add_argument
    add("--machine", required=True, metavar="NAME", help="a name of your own for this machine; "
        "results are kept by machine")  # fmt: skip
    add("--last", type=int, metavar="N", help="the newest N commits of main that change the "
        "package; default: those that FILE lists")  # fmt: skip
    add("--commits", default=str(HERE / "history.txt"), metavar="FILE",
        help="a file with one commit a line; default: benchmarks/history.txt")  # fmt: skip
    add("--results", default=str(OWN / "results"), metavar="FOLDER",
        help="default: .asv/results")  # fmt: skip
    add("--bench", metavar="REGEX", help="only benchmarks whose name matches; default: all")
    add("--list", action="store_true", help="measure nothing: print the commits, and which are "
        "measured")  # fmt: skip
    return parser


# --- Commits --------------------------------------------------------------------------------------


def git(*words: str) -> str:
    """Run git in the checkout."""
    done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True)
    if done.returncode:
        raise HistoryError(f"git {words[0]}: {done.stderr.strip() or 'failed'}")
    return done.stdout.strip()


def choose(last: int | None, file: str) -> list[str]:
    """List full hashes, the oldest first."""
    if last is not None:
        if last < 1:
            raise HistoryError(f"--last: expected at least 1, got {last}")
        found = git("log", "--first-parent", f"-{last}", "--format=%H", "main", "--", "numba_stn")
        return found.split()[::-1]
    try:
        words = pathlib.Path(file).read_text(encoding="utf-8").split()
    except OSError as error:
        raise HistoryError(f"--commits: {error.strerror}: {file}") from error
    if not words:
        raise HistoryError(f"--commits: {file} lists no commit")
    return [git("rev-parse", "--verify", f"{word}^{{commit}}") for word in words]


def line(commit: str) -> str:
    """A commit's short hash, date and subject."""
    return git("log", "-1", "--date=short", "--format=%h %ad %s", commit)


# --- Results --------------------------------------------------------------------------------------


def check_machine(folder: pathlib.Path, name: str) -> None:
    """Refuse a name under which another machine's results are stored."""
    from asv.machine import Machine

    path = folder / name / "machine.json"
    if not path.exists():
        return
    stored, here = json.loads(path.read_text(encoding="utf-8")), Machine.get_defaults()
    different = [key for key in SAME if str(stored.get(key)) != str(here.get(key))]
    if different:
        told = ", ".join(f"{key} {stored.get(key)!r}, here {here.get(key)!r}" for key in different)
        raise HistoryError(f"--machine: {name} is another machine in {folder}: {told}; choose a "
                           "name of your own")  # fmt: skip


def measured(folder: pathlib.Path, name: str) -> dict[str, float]:
    """The commits that this machine has results of, and the minutes that each took."""
    found = {}
    for path in (folder / name).glob("*-*.json"):
        result = json.loads(path.read_text(encoding="utf-8"))
        column = result["result_columns"].index("duration")
        seconds = [row[column] for row in result["results"].values()
                   if len(row) > column and row[column]]  # fmt: skip
        seconds += result.get("durations", {}).values()
        found[result["commit_hash"]] = sum(seconds) / 60
    return found


def plan(commits: Sequence[str], todo: Sequence[str], folder: pathlib.Path, name: str) -> str:
    """Say what is measured already, and how long the remainder takes."""
    known = [minutes for minutes in measured(folder, name).values() if minutes]
    each = statistics.median(known) if known else MINUTES
    guess = "as those before" if known else "a guess, before the first"
    if not todo:
        return f"{len(commits)} commits, all measured on {name}"
    return (f"{len(commits)} commits, {len(commits) - len(todo)} measured on {name}; the other "
            f"{len(todo)} take about {max(1, round(each * len(todo)))} minutes, {each:.1f} each "
            f"({guess})")  # fmt: skip


# --- asv ------------------------------------------------------------------------------------------


def configuration(folder: pathlib.Path, results: pathlib.Path) -> pathlib.Path:
    """Write asv's configuration with these results, and return its path."""
    config = json.loads((HERE / "asv.conf.json").read_text(encoding="utf-8"))
    config |= {"repo": str(ROOT), "benchmark_dir": str(HERE / config["benchmark_dir"]),
               "env_dir": str(OWN / "env"), "results_dir": str(results),
               "html_dir": str(OWN / "html")}  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "asv.conf.json"
    path.write_text(json.dumps(config, indent=4), encoding="utf-8")
    return path


def asv(config: pathlib.Path, *words: str) -> None:
    """Run asv, whose output is seen as it comes."""
    command = [sys.executable, "-m", "asv", words[0], "--config", str(config), *words[1:]]
    code = subprocess.run(command, cwd=HERE).returncode
    if code not in (0, FAILED_ROWS):
        raise HistoryError(f"asv {words[0]} failed; what it printed says why")


def measure(commits, folder, machine, bench):
    """Measure commits one after the other, so that a stop loses the results of one at most."""
    config = configuration(OWN, folder)
    asv(config, "machine", "--yes", "--machine", machine)
    for k, commit in enumerate(commits):
        print(f"\n== {k + 1} of {len(commits)}: {line(commit)}", flush=True)
        chosen = ["--bench", bench] if bench else []
        if not bench:
            compile_kernels(config, commit, machine)
        asv(config, "run", f"{commit}^!", "--machine", machine, "--skip-existing-commits", *chosen)
        for cache in (OWN / "env").glob("*/numba"):
            shutil.rmtree(cache, ignore_errors=True)
        if commit not in measured(folder, machine):
            raise HistoryError(f"asv gave no results for {commit[:8]}; what it printed says why")
        print(plan(commits, commits[k + 1 :], folder, machine), flush=True)


def compile_kernels(config, commit, machine):
    """Install a commit and compile its kernels, by a process for each core, before asv times it."""
    asv(config, "run", f"{commit}^!", "--machine", machine, "--dry-run", "--quick",
        "--bench", "Estimate.time_estimate")  # fmt: skip
    environments = [path.parents[1] for path in (OWN / "env").glob("*/bin/python")]
    env = max(environments, key=lambda path: (path / "project").stat().st_mtime)
    parts, own = os.cpu_count() or 1, os.environ | {"ASV_ENV_DIR": str(env), "ASV_COMMIT": commit}
    code = "from benchmarks.common import compile_all; compile_all({}, {})"
    commands = [[env / "bin" / "python", "-c", code.format(part, parts)] for part in range(parts)]
    for process in [subprocess.Popen(command, cwd=HERE, env=own) for command in commands]:
        process.wait()


def publish(folder: pathlib.Path) -> None:
    """Write the site of these results, with the committed ones of other machines."""
    sys.path.insert(0, str(ROOT / "docs"))
    import history as site

    shown = OWN / "shown"
    shutil.rmtree(shown, ignore_errors=True)
    shutil.copytree(COMMITTED, shown)
    shutil.copytree(folder, shown, dirs_exist_ok=True)
    if reason := site.write(OWN / "html", shown):
        raise HistoryError(f"the site was not written: {reason}")
    print(f"open {OWN / 'html' / 'index.html'}")


if __name__ == "__main__":
    sys.exit(main())
