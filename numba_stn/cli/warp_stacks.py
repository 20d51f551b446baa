"""``numba-stn warp`` of a stack of images."""

import argparse
import contextlib
import functools
import pathlib
import sys
from typing import Any

from ..utils.progress import progress_bar
from .options import UsageError, check_absent, output_files, print_written, report_leftovers
from .warp_maps import output_canvas, sampler_options


def is_stack(args: argparse.Namespace) -> bool:
    """Whether IN is a stack."""
    from ..distributed import image_stacks

    if image_stacks.is_stack(pathlib.Path(args.input), args.axes):
        return True
    if args.scheduler:
        raise UsageError(f"--scheduler: expected a stack (.zarr, .npy or .tif), got {args.input}")
    return False


def warp_stack(args: argparse.Namespace, matrix: Any, target: pathlib.Path) -> int:
    """Warp a stack on the threads of this process or on the workers of a cluster."""
    from ..distributed import image_stacks

    source = pathlib.Path(args.input)
    if target.is_dir() and not image_stacks.is_zarr(target):
        target = target / source.name
    if not source.exists():
        report_leftovers(source.resolve().parent)  # which may put it back
    with output_files([target], args.force):
        check_absent([target], args.force)
        text = warp_stack_file(args, matrix, source, target, progress_bar)
    print_written(target, text)
    return 0


def warp_stack_file(args: argparse.Namespace, matrix: Any, source: pathlib.Path,
                    target: pathlib.Path, bar: Any) -> str:  # fmt: skip
    """Warp a stack from one file to another; returns what was written, in words."""
    from ..distributed import cluster, image_stacks
    from ..images import files

    try:
        stack = image_stacks.describe_stack(source, args.axes)
        map_, sides = output_canvas(args, matrix, stack.sides)
        options = sampler_options(args, map_, sides)
        with _executor(args.scheduler) as compute:
            warped = image_stacks.warp_stack(stack, target, map_, sides, compute, **options)
            blocks = image_stacks.count_blocks(stack, sides, target.suffix.lower())
            with contextlib.closing(warped), bar(blocks, "block") as advance:
                for done in warped:
                    advance(done)
    except ImportError as error:
        raise UsageError(f'stacks need more packages ({error}); pip install "numba-stn[scale]" on '
                         f"every machine")  from error  # fmt: skip
    except cluster.ClusterError as error:
        raise UsageError(f"--scheduler {args.scheduler}: {error}") from error
    except files.FileError as error:
        raise UsageError(_one_line(error)) from error
    except (RuntimeError, ValueError, TypeError, MemoryError) as error:
        raise UsageError(f"{source}: {_one_line(error)}") from error
    shape = " x ".join(map(str, stack.shape_with(sides)))
    kind = "a stack" if stack.images > 1 or len(stack.axes) > 3 else "an image"
    return f"{kind} {stack.axes} of {shape}, {stack.dtype}"


def no_bar(total: int, unit: str) -> Any:
    """In place of a progress bar, inside another."""
    return contextlib.nullcontext(lambda done: None)


def _one_line(error):
    """Join the lines of an error's message."""
    return " ".join(str(error).split()) or type(error).__name__


@contextlib.contextmanager
def _executor(scheduler):
    """Give a function that runs many calls: see :mod:`numba_stn.distributed.cluster`."""
    from ..distributed import cluster

    if not scheduler:
        yield cluster.map_in_threads
        return
    with cluster.connect(scheduler) as client:
        if not client.nthreads():
            print(f"{scheduler}: waiting for the first worker", file=sys.stderr)
        yield functools.partial(cluster.map_on_cluster, client)
