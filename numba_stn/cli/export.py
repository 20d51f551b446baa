"""``numba-stn export``."""

import argparse
import pathlib

from .options import UsageError, folder_of

EXAMPLES = """\
  numba-stn export runs/digits digits.onnx              a trained network for other programs
"""


def add(commands) -> None:
    """Its options."""
    export = commands.add_parser(
        "export",
        help="write a trained network for other programs",
        description="Write the network of a run as an ONNX model (opset 20, with the standard "
        "AffineGrid and GridSample), or its weights as safetensors under PyTorch's names.",
        epilog="examples:\n" + EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    export.add_argument("run_folder", metavar="RUN", help="the folder of a run of train")
    export.add_argument("output", metavar="OUT", help="a name that ends in .onnx or .safetensors")
    export.add_argument("--force", action="store_true", help="overwrite what is there")
    export.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """``numba-stn export``."""
    target = pathlib.Path(args.output)
    if target.suffix not in (".onnx", ".safetensors"):
        raise UsageError(f"{target}: expected a name that ends in .onnx or .safetensors")
    if target.exists() and not args.force:
        raise UsageError(f"{target}: exists; --force overwrites it")
    try:
        from .. import export
        from ..training import experiment, runs
        from ..utils import record

        config, net, learner = runs.trained(pathlib.Path(args.run_folder))
        if target.suffix == ".onnx":
            _, shape = experiment.network(config)
            content = export.to_onnx(net, learner.params, learner.state, shape).SerializeToString()
        else:
            from safetensors.numpy import save

            content = save(export.state_dict(net, learner.params, learner.state))
    except ImportError as error:
        raise UsageError(
            f'this needs more packages ({error}); pip install "numba-stn[export,train]"'
        ) from error
    except (runs.RunError, export.ExportError) as error:
        raise UsageError(str(error)) from error
    with folder_of(target.parent):
        record.write_atomically(target, content)
    return 0
