"""Export of trained networks: as PyTorch modules, as PyTorch state dictionaries, and as ONNX.

An exported network has the same numbers, and consists of standard operators: PyTorch's layers,
``affine_grid`` and ``grid_sample``; ONNX's ``AffineGrid`` and ``GridSample``, which are part of
opset 20 and newer. Every transform can be exported, also one of your own whose formula is
arithmetic and NumPy's elementary functions. :func:`check_exportable` tells before a training
whether a network can be exported.
"""

from .constants import ExportError, Preprocessing, check_exportable
from .state_dict import state_dict
from .to_onnx import to_onnx
from .to_torch import to_torch

__all__ = [
    "ExportError",
    "Preprocessing",
    "check_exportable",
    "state_dict",
    "to_onnx",
    "to_torch",
]
