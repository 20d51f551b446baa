"""The command line on streams of every kind, and stopped by signals: one line, no traceback."""

import contextlib
import http.server
import io
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image

from numba_stn import cli
from numba_stn.cli.surroundings import OutputError, Stream, one_line, safe_streams

pytestmark = pytest.mark.skipif(os.name != "posix", reason="a POSIX shell")

COMMAND = f"{sys.executable} -m numba_stn"


def shell(line, cwd=None, **env):
    """Run a line in a shell."""
    return subprocess.run(["sh", "-c", line], cwd=cwd, env=os.environ | env, capture_output=True,
                          timeout=120)  # fmt: skip


# --- Streams --------------------------------------------------------------------------------------

# A command, its exit code, and its code if stdout cannot be written to.
COMMANDS = {
    "--help": (0, 2),
    "bench --list": (0, 2),
    "warp no.png out.png --rotate 5": (2, 2),
    "warp": (2, 2),
}
STREAMS = ("> /dev/full", ">&-", "2>&-", "2> /dev/full", ">&- 2>&- <&-", "> /dev/full 2> /dev/full")


@pytest.mark.parametrize("streams", STREAMS)
def test_streams_that_cannot_be_written_to(streams, tmp_path):
    for command, (code, code_if_full) in COMMANDS.items():
        done = shell(f"{COMMAND} {command} {streams}", tmp_path)
        assert b"Traceback" not in done.stdout + done.stderr, (command, done.stderr)
        assert b"Exception ignored" not in done.stderr, (command, done.stderr)
        full = "> /dev/full" in streams.replace("2> /dev/full", "")
        assert done.returncode == (code_if_full if full else code), (command, done)
        if full and not code and "2>" not in streams:
            assert done.stderr == b"numba-stn: standard output: No space left on device\n"


def test_a_reader_that_has_gone_is_no_error(tmp_path):
    done = shell(f"({COMMAND} --help; echo $? >&2) | true", tmp_path)
    assert done.stderr == b"0\n"


def test_results_that_cannot_be_encoded_are_written_with_backslashes():
    raw = io.BytesIO()
    stream = Stream(io.TextIOWrapper(raw, "ascii"), OutputError)
    print("a\u00fc\udcff\U0001f600", file=stream, flush=True)
    assert raw.getvalue() == b"a\\xfc\\udcff\\U0001f600\n"
    assert stream.encoding == "ascii"


class Full(io.StringIO):
    def write(self, text):
        raise OSError(28, "No space left on device")


def test_messages_that_cannot_be_written_are_lost_but_results_are_an_error():
    with contextlib.redirect_stderr(Full()), contextlib.redirect_stdout(Full()), safe_streams():
        print("a message", file=sys.stderr)
        with pytest.raises(OutputError, match="No space"):
            print("a result")


def test_names_of_any_bytes(tmp_path, monkeypatch):
    """Bytes that are no text, control characters, and letters that stdout cannot encode."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name in (b"\xff.png", b"a\nb.png", b"\x1b[31m.png", "ü".encode() + b".png"):
        (tmp_path / "in" / os.fsdecode(name)).write_bytes(b"no image")
    done = shell(f"{COMMAND} warp in out --rotate 5", tmp_path, PYTHONIOENCODING="ascii",
                 PYTHONUTF8="0")  # fmt: skip
    lines = done.stderr.decode("ascii").replace("\r", "\n").splitlines()
    errors = [line for line in lines if line.startswith("numba-stn: ")]
    assert done.returncode == 1
    assert len(errors) == 5, errors
    assert "4 of 4 images" in errors[-1]
    assert any("a\\nb.png: no image format" in line for line in errors)
    assert "\x1b" not in done.stderr.decode()


def test_one_line():
    assert one_line("a\r\n\tb\x1b\x85\u2028") == "a\\r\\n\\tb\\x1b\\x85\\u2028"
    assert one_line("ü\\") == "ü\\"


# --- Signals --------------------------------------------------------------------------------------

STOPPED = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells' background jobs ignore it
from numba_stn import cli
from numba_stn.images import files
original, count = files.write_image, 0
def write_image(path, image, *options):
    global count
    count += 1
    if count == 3:
        os.kill(os.getpid(), signal.{})
    return original(path, image, *options)
files.write_image = write_image
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_stopped_folder_has_complete_files_only(name, tmp_path):
    (tmp_path / "in").mkdir()
    for number in range(6):
        Image.fromarray(np.full((9, 9), number, np.uint8)).save(tmp_path / "in" / f"{number}.png")
    command = [sys.executable, "-c", STOPPED.format(name), "warp", "in", "out", "--size", "5x5"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 128 + getattr(signal, name), done.stderr
    found = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert found == ["0.png", "1.png", "2.png"]
    for file in found:
        assert np.array(Image.open(tmp_path / "out" / file)).shape == (5, 5)
    last = done.stderr.replace("\r", "\n").splitlines()[-1]
    assert last == "numba-stn: stopped: 3 of 6 images are done, and complete in out"


def test_signals_are_handled_as_before_when_a_command_ends(tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert cli.main(["warp", str(tmp_path / "no.png"), "out.png", "--rotate", "5"]) == 2
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


# --- Files, not addresses -------------------------------------------------------------------------


@pytest.fixture
def server():
    """The address of a server, and the requests that it has had."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"1 0 0\n0 1 0\n")

        def log_message(self, *args):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as found:
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{found.server_address[1]}", asked
        found.shutdown()
        thread.join()


def test_no_option_fetches_an_address(server, tmp_path, capsys):
    address, asked = server
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "a.png")
    photo, out = str(tmp_path / "a.png"), str(tmp_path / "out.png")
    commands = [
        ["warp", photo, out, "--matrix", f"{address}/m.txt"],
        ["warp", photo, out, "--matrix", f"{address}/m.npy"],
        ["warp", f"{address}/a.png", out, "--rotate", "5"],
        ["warp", f"{address}/a.npy", out, "--rotate", "5"],
        ["warp", f"{address}/a.zarr", str(tmp_path / "out.zarr"), "--rotate", "5"],
        ["register", photo, photo, out, "--mask", f"{address}/a.png"],
        ["register", f"{address}/a.png", photo, out],
    ]
    for command in commands:
        assert cli.main(command) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert not asked
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
