"""Settings of the whole suite."""

import contextlib
import gc
import os

import pytest

# While it compiles, Numba keeps most of the objects that it makes. With Python's own thresholds,
# the garbage collector takes a tenth of the time that a kernel takes to compile.
gc.set_threshold(50_000, 20, 100)

# These run in processes of their own, under Numba's CUDA simulator: see test_cuda_simulator.py.
collect_ignore = []
if "NUMBA_ENABLE_CUDASIM" not in os.environ:
    collect_ignore += ["cuda_simulator_suite.py", "train_simulator_suite.py"]

# Files whose tests are all marked "slow": they compile many kernels, or start processes.
SLOW = {
    "test_alpha", "test_antialias", "test_any_input", "test_block", "test_cluster",
    "test_coming_from", "test_cuda_simulator", "test_dtypes", "test_estimators", "test_export",
    "test_filters", "test_finite", "test_frames", "test_fuzz_layers", "test_gallery",
    "test_gpu_benchmark", "test_gpu_first_run", "test_interpolations", "test_jvp",
    "test_kernel_cache", "test_kills", "test_large_images", "test_launch", "test_maps", "test_mlir",
    "test_peers_all", "test_photograph_modes", "test_photographs", "test_ptx", "test_ptx_derived",
    "test_ptx_interpolations", "test_ptx_machine", "test_registration_bits", "test_report",
    "test_reproduce_command", "test_robust", "test_run_folders", "test_samplers",
    "test_second_derivatives", "test_stack_axes", "test_stacks", "test_surroundings",
    "test_train_command", "test_train_images", "test_warmup",
    "test_wide_outputs",
}  # fmt: skip


@pytest.fixture
def rows_only(monkeypatch):
    """Context in which small images are sampled as large ones are: no frame has room."""
    from numba_stn.images import warp_image
    from numba_stn.kernels.cpu import frames
    from numba_stn.ops import sampler

    @contextlib.contextmanager
    def context():
        with monkeypatch.context() as patch:
            patch.setattr(frames, "FRAMES", 0)
            for module in (warp_image, sampler):
                patch.setattr(module, "_plans", {})
            yield

    return context


def pytest_collection_modifyitems(items):
    """Run slow tests first, so that no worker starts a long one when the others have finished."""
    for item in items:
        if item.path.stem in SLOW:
            item.add_marker("slow")
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Give each worker neighbouring tests, which need the same kernels.

    By default, two workers run neighbouring tests at the same time, and both compile the kernel.
    """
    if config.getvalue("dist") != "load":  # another one was chosen on the command line
        return None
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log)
