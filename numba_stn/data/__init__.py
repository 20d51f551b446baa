"""Data sets of digits, and the distortions of the paper's experiments."""

from .dataset import DataError, Dataset, Split
from .digits import digits
from .distort import TASKS, Task
from .mnist import mnist

DATASETS = {"digits": digits, "mnist": mnist}

# Side of each data set's images, in pixels.
SIDES = {"digits": 16, "mnist": 28}

__all__ = ["DATASETS", "SIDES", "TASKS", "DataError", "Dataset", "Split", "Task", "digits", "mnist"]
