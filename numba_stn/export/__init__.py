"""Trained networks for other programs: PyTorch's names and layouts, PyTorch modules, and ONNX.

The numbers are the network's own, the operators are the others' standard ones: PyTorch's layers,
``affine_grid`` and ``grid_sample``; ONNX's ``AffineGrid`` and ``GridSample`` of opset 20.
"""

from .maps import ExportError
from .names import state_dict
from .to_onnx import to_onnx
from .to_torch import to_torch

__all__ = ["ExportError", "state_dict", "to_onnx", "to_torch"]
