"""Export of trained networks: as PyTorch modules, as PyTorch state dictionaries, and as ONNX.

An exported network has the same numbers, and consists of standard operators: PyTorch's layers,
``affine_grid`` and ``grid_sample``; ONNX's ``AffineGrid`` and ``GridSample`` of opset 20.
"""

from .constants import ExportError
from .state_dict import state_dict
from .to_onnx import to_onnx
from .to_torch import to_torch

__all__ = ["ExportError", "state_dict", "to_onnx", "to_torch"]
