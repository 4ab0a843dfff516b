"""What a conversion returns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Conversion:
    """Result of a conversion: the file, its size, how many tensors of each type, and the checkpoint's tensors that
    belong to the encoders of pictures and sound and are not in the file. `encoders`: which of "vision" and "audio" are
    in it; `encoders_left_out`: which of them the checkpoint has besides."""

    path: Path
    bytes: int
    types: dict[str, int]
    left_out: tuple[str, ...]
    encoders: tuple[str, ...] = ()
    encoders_left_out: tuple[str, ...] = ()
