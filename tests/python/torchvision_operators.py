"""torchvision beside a PyTorch that it was not built for.

Its wheels for x86-64 are built for other hardware: beside a PyTorch for CPUs importing them fails, as two operators are
missing, and so does importing what imports them: timm, and then transformers' Gemma 3n.
"""

from __future__ import annotations

import functools
import importlib.util
from typing import Any


@functools.cache
def complete_torchvision() -> Any:
    """Declares the operators, which nothing here calls. What is returned keeps them."""
    if importlib.util.find_spec("torchvision") is None:
        return None
    import torch

    if hasattr(torch.ops.torchvision, "nms"):
        return None
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor boxes, Tensor scores, float threshold) -> Tensor")
    return library
