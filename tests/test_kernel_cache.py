"""The kernel cache: damaged files, full disks, folders that vanish, and who may write."""

import errno
import os
import pathlib
import pickle
import shutil
import subprocess
import sys
import types
import warnings

import numba
import numpy as np
import pytest

import numba_stn
from numba_stn.cli import environment, main
from numba_stn.kernels import cache, cpu_launch

ROOT = pathlib.Path(numba_stn.__file__).parents[1]


def make_kernel(step=1.0):
    """A small kernel, compiled and cached as all are."""
    stamp = cpu_launch.stamp(False)

    def add(numbers):
        for k in range(numbers.size):
            numbers[k] += step
        return stamp

    return cpu_launch.jit(add)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_warned", False)
    return tmp_path / "cache"


def loaded(step=1.0):
    """Run the kernel as a new process would; return whether it was loaded from the cache."""
    kernel, numbers = make_kernel(step), np.zeros(3)
    kernel(numbers)
    np.testing.assert_array_equal(numbers, step)
    hits, misses = (sum(count.values()) for count in kernel.stats[1:])
    assert hits + misses == 1
    return hits == 1


def files(folder):
    return sorted(path for path in folder.rglob("*") if not path.is_dir())


# --- Damaged files --------------------------------------------------------------------------------


class Planted:
    """Its pickle writes a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.write_text, (self.path, "loaded")


def flipped(data, position):
    """The same bytes with one bit changed."""
    changed = bytearray(data)
    changed[position] ^= 1
    return bytes(changed)


DAMAGE = {
    "empty": lambda data: b"",
    "one byte": lambda data: data[:1],
    "truncated in the seal": lambda data: data[:20],
    "truncated": lambda data: data[: len(data) // 2],
    "the last byte missing": lambda data: data[:-1],
    "a byte more": lambda data: data + b"\0",
    "random": lambda data: np.random.default_rng(0).bytes(len(data)),
    "zeros": lambda data: bytes(len(data)),
    "another pickle": lambda data: pickle.dumps("another"),
    "a bit of the magic": lambda data: flipped(data, 3),
    "a bit of the checksum": lambda data: flipped(data, 30),
    "a bit of the machine code": lambda data: flipped(data, len(data) // 2),
    "Numba's own format": lambda data: data[len(cache._SEAL) + 32 :],
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_is_a_miss_and_is_mended(kind, folder):
    assert not loaded()
    (path,) = files(folder)
    whole = path.read_bytes()
    path.write_bytes(DAMAGE[kind](whole))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not loaded()
        assert loaded()
    assert files(folder) == [path]


def test_the_file_of_another_kernel_is_not_loaded(folder):
    loaded(1.0)
    (one,) = files(folder)
    loaded(2.0)
    (two,) = set(files(folder)) - {one}
    shutil.copy(two, one)
    assert not loaded(1.0)
    assert loaded(1.0)
    assert loaded(2.0)


def test_what_somebody_else_pickled_is_not_loaded(folder, tmp_path):
    loaded()
    (path,) = files(folder)
    path.write_bytes(pickle.dumps(Planted(tmp_path / "found")))
    assert not loaded()
    assert not (tmp_path / "found").exists()


def test_a_sealed_file_that_cannot_be_rebuilt_is_mended(folder):
    """Such as one that names what another version of NumPy no longer has."""
    loaded()
    (path,) = files(folder)
    for content in (b"cno_such_module\nname\n.", pickle.dumps(("too", "short"))):
        cache.write_sealed(str(path), content)
        assert not loaded()
        assert loaded()


def test_another_version_of_numba_has_its_own_file(folder, monkeypatch):
    loaded()
    monkeypatch.setattr(numba, "__version__", "0.0")
    assert not loaded()
    assert loaded()
    assert len(files(folder)) == 2


def test_a_kernel_compiled_with_a_bounds_check_is_another_one(folder, monkeypatch):
    loaded()
    monkeypatch.setattr(numba.config, "BOUNDSCHECK", 1)
    assert not loaded()


@pytest.mark.skipif(os.name != "posix", reason="needs links and pipes")
@pytest.mark.parametrize("kind", ["pipe", "dangling link", "link to itself", "link to a directory"])
def test_what_is_not_a_file_is_replaced(kind, folder, tmp_path):
    loaded()
    (path,) = files(folder)
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to({"dangling link": tmp_path / "none", "link to itself": path}.get(
            kind, tmp_path))  # fmt: skip
    assert not loaded()
    assert loaded()
    assert not path.is_symlink()
    assert path.is_file()


def test_an_unreadable_file_is_replaced(folder, monkeypatch):
    loaded()
    (path,) = files(folder)
    read = pathlib.Path.read_bytes

    def refuse(self):
        if self == path:
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return read(self)

    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "read_bytes", refuse)
        assert not loaded()
    assert loaded()


# --- Folders and disks ----------------------------------------------------------------------------


def fails(error):
    def fail(*args):
        raise error

    return fail


def test_a_directory_in_the_place_of_a_file_is_one_warning(folder):
    loaded()
    (path,) = files(folder)
    path.unlink()
    path.mkdir()
    with pytest.warns(RuntimeWarning, match="could not store a compiled kernel") as seen:
        found = [loaded(), loaded()]
    assert found == [False, False]
    assert len(seen) == 1
    assert files(folder) == []  # nothing unfinished
    path.rmdir()
    assert not loaded()
    assert loaded()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO])
def test_a_full_disk_is_one_warning(code, folder, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fails(OSError(code, os.strerror(code))))
        with pytest.warns(RuntimeWarning, match=os.strerror(code)) as seen:
            found = [loaded(1.0), loaded(2.0)]
    assert found == [False, False]
    assert len(seen) == 1
    assert files(folder) == []
    assert not loaded()
    assert loaded()


def test_a_folder_that_vanishes_while_a_kernel_is_saved(folder, monkeypatch):
    def vanish(*args):
        shutil.rmtree(folder)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", vanish)
        with pytest.warns(RuntimeWarning, match="could not store"):
            assert not loaded()
    assert not loaded()
    assert loaded()


def test_a_folder_that_is_gone_is_made_again(folder):
    loaded(1.0)
    kernel, numbers = make_kernel(2.0), np.zeros(1)
    shutil.rmtree(folder)
    kernel(numbers)
    assert loaded(2.0)


def test_a_folder_that_becomes_a_file_is_one_warning(folder):
    kernel, numbers = make_kernel(), np.zeros(1)
    shutil.rmtree(folder)
    folder.touch()
    with pytest.warns(RuntimeWarning, match="could not store"):
        kernel(numbers)
    assert numbers == 1


def test_a_file_that_another_process_has_written_needs_no_warning(folder, monkeypatch):
    """As on Windows, where a file cannot be replaced while another process reads it."""
    loaded()
    (path,) = files(folder)
    kernel, whole = make_kernel(), path.read_bytes()
    path.unlink()

    def late(*args):
        path.write_bytes(whole)
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "replace", late)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kernel(np.zeros(1))


FULL = """
import resource, signal, sys, warnings, numpy, numba_stn
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
    grid = numba_stn.affine_grid(numpy.array([[[1.0, 0, 0], [0, 1, 0]]]), (1, 2))
    numba_stn.affine_grid_vjp(grid)
print(grid[0, 0, 0, 0], [str(w.message).partition(" in ")[0] for w in seen])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files as Linux does")
def test_a_disk_that_takes_no_more_bytes(tmp_path):
    env = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", FULL], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "-0.5 ['numba_stn could not store a compiled kernel']\n"
    assert files(tmp_path) == []


# --- CUDA -----------------------------------------------------------------------------------------


def test_kernels_for_cuda_have_the_same_files(folder, monkeypatch):
    """Without a GPU: what is compiled is replaced by a stand-in."""
    device = pytest.importorskip("numba_stn.kernels.cuda.device")
    if device.SIMULATED:
        pytest.skip("the simulator has no cache")

    def kernel(x):
        return x

    own, codegen = device._cache_class()(kernel), types.SimpleNamespace(magic_tuple=lambda: "sm_90")
    monkeypatch.setattr(type(own._impl), "reduce", lambda self, kernel: kernel.content)
    monkeypatch.setattr(type(own._impl), "rebuild", lambda self, context, content: content)
    context = types.SimpleNamespace(refresh=lambda: None, codegen=lambda: codegen)
    compiled = types.SimpleNamespace(codegen=codegen, content={"cubin": b"code"})
    assert own.load_overload(("int32",), context) is None
    own.save_overload(("int32",), compiled)
    assert own.load_overload(("int32",), context) == compiled.content
    (path,) = files(folder)
    path.write_bytes(path.read_bytes()[:-1])
    assert own.load_overload(("int32",), context) is None
    own.save_overload(("int32",), compiled)
    assert own.load_overload(("int32",), context) == compiled.content


# --- doctor ---------------------------------------------------------------------------------------


def warned():
    """What doctor warns of."""
    return [finding.text for finding in environment._cache() if finding.warns]


@pytest.fixture
def kernels(folder, monkeypatch):
    """The folders of the package's kernels, with a sound file in one."""
    found = [pathlib.Path(path) for path in cache.folders()]
    assert len(set(found)) > 3
    assert all(path.is_relative_to(folder) for path in found)
    cache.write_sealed(str(found[2] / "sound.nbc"), b"content")
    return found


def test_doctor_names_damaged_files(kernels):
    before = warned()
    (kernels[0] / "empty.nbc").touch()
    shutil.copy(kernels[2] / "sound.nbc", kernels[1] / "other.nbc")
    (kernels[3] / "directory.nbc").mkdir()
    assert set(warned()) - set(before) == {
        f"{kernels[0] / 'empty.nbc'}: empty",
        f"{kernels[1] / 'other.nbc'}: not as it was written",
        f"{kernels[3] / 'directory.nbc'}: not a file",
    }


def test_doctor_names_what_killed_processes_left(kernels):
    fresh, old = kernels[0] / "fresh.nbc.0.tmp", kernels[0] / "old.nbc.1.tmp"
    for path in (fresh, old):
        path.touch()
    os.utime(old, (0, 0))
    assert [text for text in warned() if ".tmp" in text] == [
        f"{old}: left by a process that ended while it wrote it"
    ]


def test_doctor_names_the_first_of_many(kernels):
    for k in range(40):
        (kernels[0] / f"{k:02}.nbc").touch()
    damaged = [text for text in warned() if "others can" not in text]
    assert len(damaged) == 6
    assert damaged[-1] == "and 35 more"


def test_doctor_prints_warnings_and_passes(kernels, capsys, monkeypatch):
    (kernels[0] / "empty.nbc").touch()
    monkeypatch.setattr(environment, "findings", environment._cache)
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (where,) = [k for k, line in enumerate(lines) if "empty.nbc: empty" in line]
    assert lines[where].startswith("WARNS  kernel cache ")
    assert "delete it" in lines[where + 1]


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs POSIX's permissions")
def test_doctor_names_what_others_can_write(kernels, folder, monkeypatch):
    def named():
        return {text.partition(":")[0] for text in warned() if "others can" in text}

    before, sound = named(), kernels[2] / "sound.nbc"
    for path, mode, usual in (
        (folder, 0o777, 0o755),
        (folder, 0o775, 0o755),
        (folder.parent, 0o777, 0o700),
        (kernels[1], 0o1777, 0o755),  # sticky: others may add a file that is not there yet
        (sound, 0o666, 0o644),
    ):
        path.chmod(mode)
        assert named() - before == {str(path)}
        path.chmod(usual)
    folder.chmod(0o1777)  # as /tmp: others cannot replace what is in it
    assert named() - before == set()
    folder.chmod(0o755)


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs POSIX's permissions")
def test_doctor_follows_links_to_what_others_can_write(kernels, folder):
    others = folder.parent / "others"
    others.mkdir()
    shutil.move(folder, others / "cache")
    folder.symlink_to(others / "cache")
    others.chmod(0o777)
    assert any(text.startswith(f"{others}: others can") for text in warned())


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs POSIX's permissions")
def test_doctor_names_what_belongs_to_somebody_else(kernels, monkeypatch):
    sound = kernels[2] / "sound.nbc"
    if os.getuid() == 0:
        os.chown(sound, 12345, 12345)
    else:
        monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert any(str(sound) in text for text in cache.open_to_others(str(kernels[2])))
