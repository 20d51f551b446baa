"""Stacks on a Dask cluster: two worker processes of this machine, one of which is killed."""

import functools
import os
import pathlib
import threading

import numpy as np
import pytest

import numba_stn as stn
from numba_stn import cli
from numba_stn.distributed import cluster, image_stacks

distributed = pytest.importorskip("distributed")
zarr = pytest.importorskip("zarr")

from clusters import client_of, killed_in_time, two_workers, wait_for_go  # noqa: E402

LIMIT = 350 * 2**20  # bytes of memory per worker, of which it needs half before it has any work


@pytest.fixture(scope="module")
def workers():
    with two_workers(LIMIT) as found:
        yield found


@pytest.fixture
def client(workers):
    with client_of(workers) as found:
        yield found


def peak():
    """Peak memory of this process, in bytes."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return None


def launched():
    """Whether this process has started Numba's threads."""
    from numba_stn.kernels import cpu_launch

    return cpu_launch._process.launched


# --- Stacks ---------------------------------------------------------------------------------------

SIDE, CHUNK, KINDS = 1024, 8, 4


@pytest.fixture
def large(tmp_path):
    """A stack of more than three times the limit, of four chunks that are repeated."""
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 256, (KINDS, CHUNK, SIDE, SIDE), np.uint8)
    count = int(3.2 * LIMIT / kinds[0].nbytes)
    path = tmp_path / "large.zarr"
    array = zarr.create_array(path, shape=(count * CHUNK, SIDE, SIDE), dtype="u1",
                              chunks=(CHUNK, SIDE, SIDE))  # fmt: skip
    for kind in range(KINDS):
        array[kind * CHUNK : (kind + 1) * CHUNK] = kinds[kind]
    for number in range(KINDS, count):
        (path / "c" / str(number) / "0").mkdir(parents=True)
        os.link(path / "c" / str(number % KINDS) / "0" / "0", path / "c" / str(number) / "0" / "0")
    assert array.nbytes > 3 * LIMIT
    return path, kinds


def test_a_stack_larger_than_memory(large, client, tmp_path):
    path, kinds = large
    out = tmp_path / "small.zarr"
    address = client.scheduler.address
    command = ["warp", str(path), str(out), "--rotate", "20", "--scale", "0.25", "--no-antialias"]
    assert cli.main([*command, "--size", "500x500", "--scheduler", address]) == 0
    peaks, threads = client.run(peak), client.run(launched)
    assert len(peaks) == 2
    assert max(peaks.values()) < LIMIT, peaks
    assert not any(threads.values())  # a worker has only its own two threads
    expected = [np.stack([in_memory(image) for image in kind]) for kind in kinds]
    found = zarr.open_array(out, mode="r")
    for number in range(found.shape[0] // CHUNK):
        part = found[number * CHUNK : (number + 1) * CHUNK]
        np.testing.assert_array_equal(part, expected[number % KINDS])


def in_memory(image):
    """Rotate by 20 degrees about the middle, at a quarter of the size, on 500 x 500 pixels."""
    cos, sin = 4 * np.cos(np.deg2rad(20)), 4 * np.sin(np.deg2rad(20))
    matrix = np.array([[cos, -sin, 0], [sin, cos, 0.0]])
    matrix[:, 2] = (SIDE - 1) / 2 - matrix[:, :2] @ [249.5, 249.5]
    return stn.warp_image(image, matrix, (500, 500))


def blocking(function, folder, **call):
    """The function; all calls except the first wait until a worker is killed."""
    if call["blocks"][0][0].start:
        wait_for_go(folder)
    return function(**call)


@pytest.fixture
def own_workers():
    """A client of workers that no other test uses, without a memory limit."""
    with two_workers() as found, client_of(found) as client:
        yield client
        client.wait_for_workers(2)  # closing a cluster while a worker starts may hang


def test_the_work_of_a_killed_worker_is_done_again(own_workers, tmp_path, monkeypatch):
    monkeypatch.setattr(image_stacks, "TASK_BYTES", 1)
    images = np.random.default_rng(0).integers(0, 256, (40, 30, 50), np.uint8)
    np.save(tmp_path / "in.npy", images)
    matrix = np.array([[0.9, 0.2, 1.0], [-0.1, 1.1, 2.0]])
    monkeypatch.setattr(image_stacks, "CHUNK_BYTES", 2 * 2 * images[0].nbytes)

    def compute(function, calls):
        assert len(calls) == 20
        blocked = functools.partial(blocking, function, tmp_path)
        return cluster.map_on_cluster(own_workers, blocked, calls)

    source, out = image_stacks.describe_stack(tmp_path / "in.npy", "NHW"), tmp_path / "out.zarr"
    done = []
    for more in image_stacks.warp_stack(source, out, matrix, (30, 50), compute):
        if not done:
            killed_in_time(tmp_path)
        done.append(more)
    assert sum(done) == 20  # blocks of two images
    expected = np.stack([stn.warp_image(image, matrix) for image in images])
    np.testing.assert_array_equal(zarr.open_array(out, mode="r")[:], expected)


# --- No cluster -----------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nowhere", "carrier://pigeon:1"])
def test_a_missing_scheduler_is_reported_at_once(address, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cluster, "TIMEOUT", 1)
    np.save(tmp_path / "in.npy", np.zeros((3, 4, 5, 1), np.uint8))
    out = tmp_path / "new" / "out.zarr"
    commands = [
        ["warp", str(tmp_path / "in.npy"), str(out), "--rotate", "5"],
        ["reproduce", "table1", "--dataset", "digits", "--out", str(tmp_path / "new")],
    ]
    for command in commands:
        assert cli.main([*command, "--scheduler", address]) == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert f"--scheduler {address}: found no Dask scheduler there" in line
        assert not (tmp_path / "new").exists()


def test_a_lost_scheduler_is_reported(tmp_path):
    with (
        distributed.LocalCluster(
            n_workers=0, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as none,
        cluster.connect(none.scheduler_address) as client,
    ):
        calls = cluster.map_on_cluster(client, abs, [{"x": 1}])
        closing = threading.Timer(0.2, none.close)
        closing.start()
        with pytest.raises(cluster.ClusterError, match="was lost"):
            next(calls)
        closing.join()
