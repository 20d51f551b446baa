"""Files and folders are written completely or not at all, and nothing hidden is left unreported."""

import os
import pathlib
import signal
import stat
import subprocess
import sys
import threading

import pytest

from numba_stn.utils import atomic_write, lock
from numba_stn.utils.atomic_write import (
    delay_interrupts,
    replace_folder,
    settle_leftovers,
    workspace,
    write_atomically,
)

pytestmark = pytest.mark.skipif(os.name != "posix", reason="modes, FIFOs and locks of POSIX")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def umask():
    before = os.umask(0o027)
    yield
    os.umask(before)


# --- Files ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize("before", [None, 0o600, 0o644, 0o755, 0o444])
def test_a_file_keeps_its_mode_and_a_new_one_has_that_of_the_umask(before, tmp_path):
    path = tmp_path / "a"
    if before is not None:
        path.write_bytes(b"old")
        path.chmod(before)
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert mode(path) == (0o640 if before is None else before)
    assert names(tmp_path) == ["a"]


def test_the_content_of_a_secret_file_is_never_readable_by_others(tmp_path, monkeypatch):
    path, seen = tmp_path / "a", []
    path.write_bytes(b"old")
    path.chmod(0o600)
    original = pathlib.Path.write_bytes

    def watched(self, content):
        seen.append(mode(self))
        return original(self, content)

    monkeypatch.setattr(pathlib.Path, "write_bytes", watched)
    write_atomically(path, b"new")
    assert seen == [0o600]


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_stays_and_its_file_is_replaced(exists, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "here").mkdir()
    target, link = tmp_path / "there" / "a", tmp_path / "here" / "link"
    link.symlink_to("../there/b")
    (tmp_path / "there" / "b").symlink_to("a")
    if exists:
        target.write_bytes(b"old")
        target.chmod(0o600)
    write_atomically(link, b"new")
    assert link.is_symlink()
    assert os.readlink(tmp_path / "there" / "b") == "a"
    assert not target.is_symlink()
    assert target.read_bytes() == b"new"
    assert mode(target) == 0o600 or not exists
    assert names(tmp_path / "here") == ["link"]
    assert names(tmp_path / "there") == ["a", "b"]


def test_a_fifo_and_a_device_are_written_to(tmp_path):
    fifo, read = tmp_path / "fifo", []
    os.mkfifo(fifo)
    reader = threading.Thread(target=lambda: read.append(fifo.read_bytes()))
    reader.start()
    write_atomically(fifo, b"content")
    reader.join(10)
    assert read == [b"content"]
    assert fifo.is_fifo()
    (tmp_path / "nowhere").symlink_to(os.devnull)
    write_atomically(tmp_path / "nowhere", b"content")
    assert pathlib.Path(os.devnull).is_char_device()
    assert names(tmp_path) == ["fifo", "nowhere"]


@pytest.mark.parametrize("length", [1, 240, 255])
def test_names_of_any_length(length, tmp_path):
    path = tmp_path / ("x" * length)
    for content in (b"one", b"two"):
        write_atomically(path, content)
        assert path.read_bytes() == content
    with replace_folder(tmp_path / ("y" * length)) as new:
        new.mkdir()
    assert names(tmp_path) == ["x" * length, "y" * length]


def loop(folder):
    (folder / "a").symlink_to("a")


def a_folder(folder):
    (folder / "a").mkdir()


def full(folder):
    (folder / "a").symlink_to("/dev/full")


def no_folder(folder):
    (folder / "a").symlink_to("missing/a")


@pytest.mark.parametrize("make", [loop, a_folder, full, no_folder], ids=lambda make: make.__name__)
def test_an_error_names_the_path(make, tmp_path):
    if make is full and not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    make(tmp_path)
    with pytest.raises(OSError) as error:  # noqa: PT011
        write_atomically(tmp_path / "a", b"content")
    assert error.value.filename == str(tmp_path / "a")
    assert error.value.errno
    assert names(tmp_path) == ["a"]


LIMITED = """
import pathlib, resource, sys
from numba_stn.utils.atomic_write import write_atomically
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_atomically(pathlib.Path(sys.argv[1]), bytes(5000))
except OSError as error:
    print(error.strerror, error.filename)
"""


def test_after_an_error_the_old_file_is_left_and_nothing_else(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    done = subprocess.run([sys.executable, "-c", LIMITED, str(path)], capture_output=True,
                          text=True)  # fmt: skip
    assert done.stdout == f"File too large {path}\n", done.stderr
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_a_planted_link_is_not_followed(tmp_path, monkeypatch):
    """The name cannot be foreseen; if it could, the link would still not be followed."""
    victim = tmp_path / "victim"
    victim.mkdir()
    monkeypatch.setattr(atomic_write.secrets, "token_hex", lambda count: "0" * 16)
    (tmp_path / f"{atomic_write.PREFIX}{'0' * 16}").symlink_to(victim)
    with pytest.raises(OSError, match="exists"):
        write_atomically(tmp_path / "a", b"content")
    assert not names(victim)
    assert not (tmp_path / "a").exists()


def test_names_differ_from_call_to_call(tmp_path):
    seen = set()
    for _ in range(20):
        with workspace(tmp_path) as work:
            seen.add(work.name)
    assert len(seen) == 20
    assert all(name.startswith(".") for name in seen)
    assert not names(tmp_path)


# --- Folders --------------------------------------------------------------------------------------


def make_folder(path, text):
    path.mkdir()
    (path / "content").write_text(text)
    return path


def text(path):
    return (path / "content").read_text()


def test_a_folder_replaces_another_and_keeps_its_mode(tmp_path):
    path = make_folder(tmp_path / "a", "old")
    path.chmod(0o700)
    (tmp_path / "link").symlink_to("a")
    with replace_folder(tmp_path / "link") as new:
        make_folder(new, "new")
        assert text(path) == "old"
    assert text(path) == "new"
    assert mode(path) == 0o700
    assert (tmp_path / "link").is_symlink()
    assert names(tmp_path) == ["a", "link"]


def test_after_an_error_between_the_renames_the_old_folder_is_back(tmp_path, monkeypatch):
    path, count = make_folder(tmp_path / "a", "old"), []
    original = os.rename

    def failing(one, other):
        count.append(one)
        if len(count) == 2:
            raise OSError(5, "Input/output error")
        original(one, other)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(OSError, match="Input"), replace_folder(path) as new:
        make_folder(new, "new")
    assert len(count) == 3
    assert text(path) == "old"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", range(3))
def test_after_a_signal_at_a_rename_the_new_folder_is_there(moment, number, tmp_path, monkeypatch):
    """A signal waits until the exchange is complete, whenever it comes."""
    path, count = make_folder(tmp_path / "a", "old"), []
    original = os.rename

    def interrupted(one, other):
        if len(count) == moment:
            os.kill(os.getpid(), number)
        count.append(one)
        original(one, other)

    def stop(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(number, stop)
    try:
        monkeypatch.setattr(os, "rename", interrupted)
        with pytest.raises(KeyboardInterrupt), replace_folder(path) as new:
            make_folder(new, "new")
    finally:
        signal.signal(number, before)
    assert text(path) == "new"
    assert names(tmp_path) == ["a"]


# --- Interrupts -----------------------------------------------------------------------------------


def test_an_interrupt_waits_until_the_file_is_complete(tmp_path, monkeypatch):
    original = os.replace

    def interrupted(one, other):
        os.kill(os.getpid(), signal.SIGINT)
        original(one, other)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        monkeypatch.setattr(os, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_atomically(tmp_path / "a", b"content")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert (tmp_path / "a").read_bytes() == b"content"
    assert names(tmp_path) == ["a"]


def test_delays_nest_and_ignored_signals_stay_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    reached = []
    try:
        with delay_interrupts():
            os.kill(os.getpid(), signal.SIGINT)
        signal.signal(signal.SIGINT, signal.default_int_handler)

        def stopped():
            with delay_interrupts():
                with delay_interrupts():
                    os.kill(os.getpid(), signal.SIGINT)
                    reached.append("inner")
                reached.append("outer")

        with pytest.raises(KeyboardInterrupt):
            stopped()
    finally:
        signal.signal(signal.SIGINT, before)
    assert reached == ["inner", "outer"]


def test_in_another_thread_nothing_is_delayed(tmp_path):
    thread = threading.Thread(target=write_atomically, args=(tmp_path / "a", b"content"))
    thread.start()
    thread.join()
    assert (tmp_path / "a").read_bytes() == b"content"


# --- What killed processes leave ------------------------------------------------------------------

KILLED = """
import os, pathlib, signal, sys
from numba_stn.utils import atomic_write, lock
path, moment = pathlib.Path(sys.argv[1]), sys.argv[2]
count = 0
def kill(original):
    def killed(*args):
        global count
        count += 1
        if f"{original.__name__}{count}" == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args)
    return killed
os.rename, os.replace = kill(os.rename), kill(os.replace)
if path.suffix:
    with atomic_write.replace_folder(path) as new:
        new.mkdir()
        (new / "content").write_text("new")
else:
    atomic_write.write_atomically(path, b"new")
"""


def kill(path, moment):
    """Kill a process at a rename while it writes a file, or a folder if the path has a suffix."""
    done = subprocess.run([sys.executable, "-c", KILLED, str(path), moment], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    return [found for found in path.parent.iterdir() if found.name.startswith(".")]


@pytest.mark.parametrize("moment", ["rename1", "rename2", "rename3"])
@pytest.mark.parametrize("remove", [False, True])
def test_a_killed_replacement_of_a_folder(remove, moment, tmp_path):
    path = make_folder(tmp_path / "a.x", "old")
    (left,) = kill(path, moment)
    assert path.exists() == (moment != "rename2")
    lines = settle_leftovers(tmp_path, remove)
    assert text(path) == ("new" if moment == "rename3" else "old")
    assert any(str(left) in line for line in lines)
    assert any(f"{path}: put back" in line for line in lines) == (moment == "rename2")
    assert left.exists() == (not remove)
    assert len(settle_leftovers(tmp_path)) == (not remove)  # named as long as it is there
    settle_leftovers(tmp_path, True)
    assert names(tmp_path) == ["a.x"]
    assert text(path) == ("new" if moment == "rename3" else "old")


def test_the_only_copy_of_a_folder_is_never_removed(tmp_path):
    path = make_folder(tmp_path / "a.x", "old")
    (left,) = kill(path, "rename2")
    make_folder(path, "somebody else's")
    for _ in range(2):
        (line,) = settle_leftovers(tmp_path, True)
        assert str(left) in line
    assert text(path) == "somebody else's"
    assert text(next(left.glob("old/*"))) == "old"


def test_a_killed_write_of_a_file(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    (left,) = kill(path, "replace1")
    assert path.read_bytes() == b"old"
    (line,) = settle_leftovers(tmp_path)
    assert str(left) in line
    assert left.exists()
    (line,) = settle_leftovers(tmp_path, True)
    assert line.endswith("; removed")
    assert names(tmp_path) == ["a"]


def test_what_a_living_process_writes_is_left_alone(tmp_path):
    with workspace(tmp_path) as work:
        assert settle_leftovers(tmp_path, True) == []
        assert work.exists()


@pytest.mark.parametrize("name", ["old", "new"])
def test_a_link_in_a_planted_workspace_is_not_followed(name, tmp_path):
    """It would move or remove files from where it leads to."""
    elsewhere = make_folder(tmp_path / "elsewhere", "precious")
    (tmp_path / "out").mkdir()
    work = tmp_path / "out" / f"{atomic_write.PREFIX}{'0' * 16}"
    work.mkdir()
    (work / name).symlink_to(elsewhere)
    (line,) = settle_leftovers(tmp_path / "out", True)
    assert str(work) in line
    assert text(elsewhere) == "precious"
    assert names(tmp_path / "out") == [work.name]


def test_the_workspace_of_another_user_is_only_named(tmp_path, monkeypatch):
    path = make_folder(tmp_path / "a.x", "old")
    (left,) = kill(path, "rename2")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    (line,) = settle_leftovers(tmp_path, True)
    assert line == f"{left}: left by another user's run that was killed"
    assert names(tmp_path) == [left.name]


def test_without_locks_nothing_is_removed(tmp_path, monkeypatch):
    def no_locks(*args):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(lock, "_lock", no_locks)
    with workspace(tmp_path) as work:
        (line,) = settle_leftovers(tmp_path, True)
        assert f"{work}: perhaps" in line
        assert work.exists()
    assert not names(tmp_path)


def test_other_hidden_files_are_left_alone(tmp_path):
    others = [".numba-stn-notes", f"{atomic_write.PREFIX}{'0' * 15}", f"x{'0' * 16}"]
    for name in others:
        (tmp_path / name).mkdir()
    (tmp_path / f"{atomic_write.PREFIX}{'1' * 16}").write_text("a file")
    (tmp_path / f"{atomic_write.PREFIX}{'2' * 16}").symlink_to(tmp_path / others[0])
    before = names(tmp_path)
    assert settle_leftovers(tmp_path, True) == []
    assert names(tmp_path) == before


def test_a_workspace_that_is_removed_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    """Another run may take it for a leftover, for a moment."""
    original, removed = os.open, []

    def removing(path, *args, **keywords):
        found = original(path, *args, **keywords)
        if not removed:
            removed.append(path)
            path.unlink()
            path.parent.rmdir()
        return found

    monkeypatch.setattr(os, "open", removing)
    write_atomically(tmp_path / "a", b"content")
    monkeypatch.undo()
    assert removed
    assert (tmp_path / "a").read_bytes() == b"content"
    assert names(tmp_path) == ["a"]
