"""Many tensors as one flat one, by the C++ module."""

import torch  # noqa: F401 - its libraries must be there before the module is loaded
from apex_C import flatten, unflatten

__all__ = ["flatten", "unflatten"]
