"""``numba-stn reproduce``."""

import argparse
import contextlib
import os
import pathlib
import sys
import time

from .options import (
    DATASETS,
    TABLE_MODELS,
    TABLE_TASKS,
    TABLE_TRANSFORMS,
    UsageError,
    among,
    folder_of,
    positive,
    seeds,
)
from .train import executed, trainer

EXAMPLES = """\
  numba-stn reproduce table1 --tasks R --seeds 0        a row of the paper's table
  numba-stn reproduce table1 --scheduler tcp://host:8786
                                                        all of it, on a Dask cluster
"""


def add(commands) -> None:
    """Its options."""
    command = commands.add_parser(
        "reproduce",
        help="train the table of the 2015 paper",
        description="Train every network of a table of Jaderberg et al. 2015 on every distortion, "
        "a folder a run, and write the table beside the paper's numbers. What is complete in "
        "--out is not run again, what was stopped goes on: stop it when you like.",
        epilog="examples:\n" + EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = command.add_argument
    add("table", choices=("table1",), help="test errors on distorted MNIST, and its addition")
    add("--tasks", type=among(TABLE_TASKS), default=TABLE_TASKS, metavar="A,B",
        help=f"default: {','.join(TABLE_TASKS)}")  # fmt: skip
    add("--models", type=among(TABLE_MODELS), default=TABLE_MODELS, metavar="A,B",
        help=f"default: {','.join(TABLE_MODELS)}")  # fmt: skip
    add("--transforms", type=among(TABLE_TRANSFORMS), default=TABLE_TRANSFORMS, metavar="A,B",
        help=f"default: {','.join(TABLE_TRANSFORMS)}")  # fmt: skip
    add("--seeds", type=seeds, default=(0, 1, 2), metavar="S,T", help="all of them for st-cnn "
        "affine, the first for the rest; default: 0,1,2")  # fmt: skip
    add("--out", metavar="DIR", default="runs/table1", help="default: runs/table1")
    add("--epochs", type=positive, metavar="N", help="for a trial: another number than the "
        "table's")  # fmt: skip
    add("--dataset", choices=DATASETS, help="for a trial: other digits than MNIST's")
    add("--data-dir", metavar="DIR", help="as for train")
    add("--scheduler", metavar="ADDRESS", help="of a Dask cluster whose workers see the same "
        "files: each takes one run at a time")  # fmt: skip
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """``numba-stn reproduce``; 130 after Ctrl-C."""
    runs = trainer()
    from ..training import table1
    from ..training.checkpoint import CheckpointError

    if args.data_dir and args.dataset == "digits":
        raise UsageError("--data-dir: the digits come with scikit-learn; it is for MNIST")
    changes = {name: getattr(args, name) for name in ("epochs", "dataset") if getattr(args, name)}
    wanted = table1.planned(args.tasks, args.models, args.transforms, args.seeds)
    if not wanted:
        raise UsageError("the table has no cell for these tasks, models and transforms together")
    with folder_of(pathlib.Path(args.out)) as folder:
        try:
            missing = table1.unfinished(folder, wanted, **changes)
        except (runs.RunError, CheckpointError) as error:
            raise UsageError(str(error)) from error
        print(f"{len(wanted) - len(missing)} of {len(wanted)} runs are complete in {folder}")
        if args.scheduler and missing:
            code = _on_cluster(args, folder, {run: run.config(**changes) for run in missing})
            if code:
                return code
            missing = []
        for run in _announced(missing):
            with folder_of(folder / run.folder) as own:
                _, metrics = executed(own, run.config(**changes), args.data_dir)
            table1.write_table(folder, ["numba-stn", *sys.argv[1:]])
            if metrics["interrupted"]:
                print("stopped by Ctrl-C; the same command goes on", file=sys.stderr)
                return 130
            print(f"{run}: {metrics['test_error']:.2f} %", flush=True)
        table1.write_table(folder, ["numba-stn", *sys.argv[1:]])
        print((folder / "table1.md").read_text())
    return 0


# --- On a cluster ---------------------------------------------------------------------------------


def _on_cluster(args, folder, configs):
    """All these runs, spread over the workers; what failed is told, and the others go on."""
    try:
        from ..distributed import cluster, runs_on_cluster
        from ..training import table1
    except ImportError as error:
        raise UsageError(f'--scheduler needs more packages ({error}); pip install '
                         f'"numba-stn[scale,train]", on every machine') from error  # fmt: skip
    where = _data_there(args, next(iter(configs.values())))
    jobs = {
        str(run): {"folder": (folder / run.folder).absolute(), "config": config, "data_dir": where}
        for run, config in configs.items()
    }
    failed = 0
    try:
        with (
            cluster.connected(args.scheduler) as client,
            _epochs(sum(config.epochs for config in configs.values()), jobs) as (bar, tell),
            contextlib.closing(runs_on_cluster.spread(client, jobs, tell)) as ended,
        ):
            for name, outcome in ended:
                failed += outcome.metrics is None
                bar.write(_told(name, outcome), sys.stdout if outcome.metrics else sys.stderr)
                table1.write_table(folder, ["numba-stn", *sys.argv[1:]])
    except cluster.ClusterError as error:
        raise UsageError(
            f"--scheduler {args.scheduler}: {error}; the same command goes on"
        ) from error
    except KeyboardInterrupt:
        print("stopped by Ctrl-C; the same command goes on", file=sys.stderr)
        return 130
    if failed:
        raise UsageError(f"{failed} of {len(jobs)} runs failed; the same command tries them again")
    return 0


def _told(name, outcome):
    if outcome.metrics is None:
        return f"numba-stn: {name}: {outcome.error}"
    return f"{name}: {outcome.metrics['test_error']:.2f} %"


def _data_there(args, config):
    """The data's folder, for workers; read once here, so that it is there and is right."""
    from .. import data

    where = args.data_dir or os.environ.get("NUMBA_STN_DATA")
    where = os.path.abspath(where) if where and config.dataset != "digits" else None
    try:
        data.DATASETS[config.dataset](where)
    except data.DataError as error:
        raise UsageError(str(error)) from error
    return where


@contextlib.contextmanager
def _epochs(total, names):
    """A bar of all runs' epochs, and what takes the workers' news."""
    from tqdm import tqdm

    done = dict.fromkeys(names, 0)
    with tqdm(total=total, unit="epoch", mininterval=0.1 if sys.stderr.isatty() else 10) as bar:

        def tell(news):
            name, epochs = news["name"], news.get("began", news.get("epoch"))
            if "text" in news:
                bar.write(f"numba-stn: {name}: {news['text']}", file=sys.stderr)
            if "began" in news:
                since = f" goes on after epoch {epochs}" if epochs else ""
                bar.write(f"{name}:{since} on {news['worker']}", file=sys.stderr)
            if epochs is not None and name in done:
                bar.update(max(0, epochs - done[name]))
                done[name] = max(epochs, done[name])

        yield bar, tell


def _announced(missing):
    """The runs one after another, each said before it begins, with the time left for all."""
    began = time.perf_counter()
    for number, run in enumerate(missing):
        left = len(missing) - number
        pace = (time.perf_counter() - began) / number if number else 0
        rest = f", about {pace * left / 60:.0f} min for this and the rest" if number else ""
        print(f"run {number + 1} of {len(missing)}: {run}{rest}", file=sys.stderr, flush=True)
        yield run
