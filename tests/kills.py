"""Kill commands at random moments, look at what they leave, resume, and compare the final bits.

``python tests/kills.py --count 100 --seed 0 train reproduce warp stack stack-onto-itself``

Each time a command is killed with SIGKILL, SIGTERM or SIGINT: at a random moment of its usual
duration, or right after a random one of the changes that it makes to its folder, when a file is
perhaps half-written. Then

- every file that it left under an expected name is whole,
- the next run of the command succeeds, and its messages name every hidden file that was left,
- after it the folder has nothing hidden, and the same bits as after an undisturbed run.

The commands are forked from this process, which has run each of them once: they need not import
and load kernels, and take about a second. They run their kernels serially, because threads do not
survive a fork, and draw small pictures. ``--processes`` starts new interpreters instead, which do
all that a user's command does. The data are scikit-learn's digits, and generated images.
"""

import argparse
import contextlib
import io
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tqdm
from PIL import Image

from numba_stn import cli
from numba_stn.distributed import image_stacks
from numba_stn.kernels.cpu_launch import one_thread
from numba_stn.training import checkpoint, pictures, runs

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)

# How a killed command may end: as if nothing had happened, by the signal, or after it, in order.
ENDS = (0, *(-number for number in SIGNALS), *(128 + number for number in SIGNALS))

# A killed command must have ended after this time, in seconds.
PATIENCE = 120


class Case(NamedTuple):
    """A command to kill.

    ``prepare(home)`` makes its input, and ``warm(home)`` loads all kernels into this process.
    ``command(home)`` is the command, and ``again(home)`` the one that continues after a kill, None
    if there is nothing left to do. ``check(home, final)`` raises unless what a killed command left
    is whole; ``final`` has the bits of an undisturbed run. ``bits(home)`` are the bits to compare:
    from a file's name to its content.
    """

    prepare: Callable
    warm: Callable
    command: Callable
    again: Callable
    check: Callable
    bits: Callable


# --- Training -------------------------------------------------------------------------------------


def train(home):
    return ["train", "--model", "st-fcn", "--epochs", "3", "--batch", "200",
            "--out", f"{home}/out/run"]  # fmt: skip


def train_again(home):
    folder = home / "out" / "run"
    if (folder / runs.CHECKPOINT).exists():
        return ["train", "--resume", str(folder)]
    return None if (folder / runs.METRICS).exists() else train(home)


def reproduce(home):
    return ["reproduce", "table1", "--dataset", "digits", "--epochs", "2", "--tasks", "R",
            "--models", "fcn", "--seeds", "0,1", "--out", f"{home}/out"]  # fmt: skip


def check_runs(home, final):
    """Every file of a run or a table loads; a complete run has the final bits."""
    for path in visible(home / "out"):
        if path.name == runs.CHECKPOINT:
            checkpoint.load_config(path, runs.Config)
        elif path.name == runs.METRICS:
            runs.load_trained(path.parent)
        elif path.suffix == ".png":
            with Image.open(path) as image:
                image.load()
        elif path.suffix == ".safetensors":
            checkpoint.read_safetensors(path)
        elif path.name == "table1.json":
            json.loads(path.read_bytes())
        elif path.name == runs.REPORT:
            assert path.read_text().endswith("</html>\n")
        elif path.name not in (runs.LOCK, "table1.md"):
            raise AssertionError(f"{path}: not expected here")


def bits_of_runs(home):
    """All files, without what depends on the time and the command line."""
    found = files(home / "out")
    found = {name: found[name] for name in found if pathlib.Path(name).name != runs.LOCK}
    for name in found:
        if name.endswith(".json"):
            content = json.loads(found[name])
            for each in (content, *content.get("runs", ())):
                each.pop("seconds", None)
                each.pop("command", None)
            found[name] = json.dumps(content).encode()
    return found


# --- Images and stacks ----------------------------------------------------------------------------


def make_images(home):
    rng = np.random.default_rng(0)
    (home / "in").mkdir()
    for number in range(12):
        image = rng.integers(0, 256, (200, 300, 3), np.uint8)
        Image.fromarray(image).save(home / "in" / f"{number}.png")


def make_stack(home):
    import zarr

    images = np.random.default_rng(0).integers(0, 256, (24, 100, 120), np.uint8)
    zarr.create_array(home / "out" / "in.zarr", data=images, chunks=(2, 100, 120))


def warp(home):
    return ["warp", f"{home}/in", f"{home}/out", "--rotate", "7"]


def warp_stack(home):
    return ["warp", f"{home}/out/in.zarr", f"{home}/out/out.zarr", "--rotate", "7"]


def warp_stack_onto_itself(home):
    return ["warp", f"{home}/out/in.zarr", f"{home}/out/in.zarr", "--rotate", "7", "--force"]


def forced(command):
    """The command with ``--force``, whatever is there already."""
    return lambda home: [*command(home), "--force"]


def again_onto_itself(home):
    """Warp the stack, or rotate it by 0 degrees, which keeps its bits, if it is the warped one."""
    command = warp_stack_onto_itself(home)
    done = files(home / "out") == files(home / "final")
    return ["0" if word == "7" else word for word in command] if done else command


def check_files(home, final):
    """Every file of the output is the final one."""
    for name, content in files(home / "out").items():
        assert content == final.get(name), f"{name}: not the bits of an undisturbed run"


def check_stack_onto_itself(home, final):
    """The stack under its name, if there is one, is the old one or the new one."""
    found = files(home / "out")
    before = {f"in.zarr/{name}": content for name, content in files(home / "before").items()}
    assert found in ({}, before, final), "neither the old stack nor the new one"


def keep_before(home):
    make_stack(home)
    shutil.copytree(home / "out" / "in.zarr", home / "before")


def output(home):
    """All files of the output."""
    return files(home / "out")


def warp_one_stack(home):
    """Load the kernels without Zarr, whose thread does not survive a fork."""
    images = np.zeros((2, 100, 120), np.uint8)
    image_stacks.warp_images(images, "NHW", np.eye(2, 3) * 0.9, (100, 120))


CASES = {
    "train": Case(lambda home: None, lambda home: call(train(home)), train, train_again,
                  check_runs, bits_of_runs),
    "reproduce": Case(lambda home: None, lambda home: call(reproduce(home)), reproduce, reproduce,
                      check_runs, bits_of_runs),
    "warp": Case(make_images, lambda home: call(warp(home)), warp, forced(warp), check_files,
                 output),
    "stack": Case(make_stack, warp_one_stack, warp_stack, forced(warp_stack), check_files, output),
    "stack-onto-itself": Case(keep_before, warp_one_stack, warp_stack_onto_itself,
                              again_onto_itself, check_stack_onto_itself, output),
}  # fmt: skip


# --- Files ----------------------------------------------------------------------------------------


def is_hidden(path, folder):
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def visible(folder):
    """The files of a folder, without what is hidden."""
    return sorted(path for path in folder.rglob("*") if path.is_file()
                  and not is_hidden(path, folder))  # fmt: skip


def files(folder):
    """The content of the files of a folder, without what is hidden."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in visible(folder)}


def hidden(folder):
    """The topmost hidden files and folders of a folder."""
    found = [path for path in folder.rglob(".*") if not is_hidden(path.parent, folder)]
    return sorted(found)


def listing(folder):
    """The names, sizes and times in a folder, to notice a change; cheap, since it is polled."""
    found, folders = [], [folder]
    while folders:
        with (
            contextlib.suppress(FileNotFoundError, NotADirectoryError),
            os.scandir(folders.pop()) as entries,
        ):
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    found.append((entry.path, entry.stat(follow_symlinks=False).st_mtime_ns))
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
    return sorted(found)


# --- Processes ------------------------------------------------------------------------------------


def fork(function, log):
    """Call a function in a child process whose exit code is its result; returns the process."""
    sys.stdout.flush()
    sys.stderr.flush()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # until the child is ready for it
    pid = os.fork()
    if pid:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        return pid
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        tqdm.tqdm.set_lock(threading.RLock())  # its own is shared with processes that are killed
        code = function() or 0
    except SystemExit as error:
        code = error.code
    except KeyboardInterrupt:  # before or after the command
        code = 130
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def call(arguments):
    """Run a command in this process, serially; returns its exit code."""
    with one_thread():
        return cli.main(arguments)


def small_pictures():
    """Let runs draw a few pixels that depend on the weights; Matplotlib takes seconds."""

    def to_png(pixels):
        file = io.BytesIO()
        Image.fromarray(np.resize(np.abs(pixels) * 255, (32, 32)).astype(np.uint8)).save(
            file, "png"
        )
        return file.getvalue()

    pictures.to_png = to_png
    pictures.learning_curves = lambda history: [entry["train_loss"] for entry in history]
    pictures.histograms = lambda quantities: np.concatenate([*quantities.values()])
    pictures.before_and_after = lambda net, learner, split: learner.params[-1]["weight"]


def start(arguments, log, processes):
    """Start a command; its output goes to the log."""
    if not processes:
        return fork(lambda: call(arguments), log)
    with open(log, "wb") as file:
        command = [sys.executable, "-m", "numba_stn", *arguments]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file).pid


def ended(pid):
    """The exit code of a process (of a signal: minus its number); None while it runs."""
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def wait(pid):
    """The exit code of a process, when it has ended."""
    end = time.monotonic() + PATIENCE
    while (code := ended(pid)) is None:
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise AssertionError(f"the command did not end within {PATIENCE} s")
        time.sleep(0.002)
    return code


def watch(pid, folder, seconds=np.inf, changes=np.inf):
    """Wait for this time, or this number of changes in a folder, or the end of the process.

    Returns the exit code, or None if it still runs, and the number of changes.
    """
    end, before, count = time.monotonic() + seconds, listing(folder), 0
    while (code := ended(pid)) is None and time.monotonic() < end and count < changes:
        now = listing(folder)
        count += now != before
        before = now
        time.sleep(0.0003)
    return code, count


# --- The test -------------------------------------------------------------------------------------


class Killer:
    """Kills one command again and again."""

    def __init__(self, case, home, rng, processes):
        self.case, self.home, self.rng, self.processes = case, home, rng, processes
        self.log = home / "log"
        self.fresh()
        if processes:
            self.run(case.command(self.home))  # compiles the kernels
        else:
            with contextlib.redirect_stdout(None), contextlib.redirect_stderr(io.StringIO()):
                case.warm(self.home)
        self.fresh()
        began = time.monotonic()
        pid = self.start(case.command(self.home))
        _, self.changes = watch(pid, self.home / "out")
        self.seconds = time.monotonic() - began
        self.final = case.bits(self.home)
        assert self.final, self.log.read_text()
        shutil.copytree(self.home / "out", self.home / "final")
        self.counts = Counter()

    def fresh(self):
        """An input, and no output."""
        for path in self.home.iterdir():
            if path.name not in ("final", "log"):
                shutil.rmtree(path)
        (self.home / "out").mkdir()
        code = wait(fork(lambda: self.case.prepare(self.home), self.log))
        assert code == 0, self.log.read_text()

    def start(self, arguments):
        return start(arguments, self.log, self.processes)

    def run(self, arguments):
        """Run a command to its end; returns its output."""
        code = wait(self.start(arguments))
        output = self.log.read_text()
        assert code == 0, f"{' '.join(arguments)} ended with {code}: {output}"
        return output

    def kill(self):
        """Kill the command once, resume it, and check everything."""
        self.fresh()
        pid = self.start(self.case.command(self.home))
        if self.rng.random() < 0.5:
            moment = {"seconds": self.rng.uniform(0, self.seconds)}
        else:
            moment = {"changes": self.rng.integers(1, self.changes + 1)}
        code, _ = watch(pid, self.home / "out", **moment)
        name = SIGNALS[self.rng.integers(len(SIGNALS))]
        if code is None:
            os.kill(pid, name)
            code = wait(pid)
        self.counts[f"ended with {code}"] += 1
        output = self.log.read_text()
        assert code in ENDS, f"ended with {code}: {output}"
        ignored = "Exception ignored in"  # by Python, if the signal came in a destructor
        assert "Traceback" not in output or ignored in output, output
        self.case.check(self.home, self.final)
        self.resume()

    def resume(self):
        """Continue, and compare."""
        left = hidden(self.home / "out")
        self.counts["left hidden files"] += bool(left)
        again = self.case.again(self.home)
        output = self.run(again) if again else ""
        for path in left if again else ():
            assert path.name in output, f"{path}: not named by the next run: {output}"
        left = hidden(self.home / "out")
        assert not left, f"{left}: still there after the next run: {output}"
        found = self.case.bits(self.home)
        assert found.keys() == self.final.keys(), f"{sorted(found)}, expected {sorted(self.final)}"
        different = [name for name in found if found[name] != self.final[name]]
        assert not different, f"{different}: not the bits of an undisturbed run"


def main(arguments=None):
    """Kill the commands; the exit code is 1 if something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--count", type=int, default=100, help="kills of each command")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", action="store_true", help="start new interpreters")
    args = parser.parse_args(arguments)
    failed = 0
    if not args.processes:
        small_pictures()
        tqdm.tqdm.monitor_interval = 0  # no thread
    for name in args.cases or CASES:
        with tempfile.TemporaryDirectory() as home:
            killer = Killer(CASES[name], pathlib.Path(home), np.random.default_rng(args.seed),
                            args.processes)  # fmt: skip
            wrong = 0
            for number in range(args.count):
                try:
                    killer.kill()
                except Exception as error:
                    wrong += 1
                    print(f"{name}, kill {number}: {type(error).__name__}: {error}", flush=True)
        counts = ", ".join(f"{key}: {count}" for key, count in sorted(killer.counts.items()))
        print(f"{name}: {args.count} kills, {wrong} wrong ({counts}); undisturbed it takes "
              f"{killer.seconds:.1f} s and makes {killer.changes} changes", flush=True)  # fmt: skip
        failed += wrong
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
