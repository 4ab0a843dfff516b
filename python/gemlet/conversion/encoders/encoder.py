"""The converter's description of an encoder of pictures or sound. This folder has one file for each, which fills it
in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import gguf

from gemlet.conversion.config import ConfigFile

from .taken import Taken

C = TypeVar("C")


@dataclass(frozen=True)
class Encoder(Generic[C]):
    """One encoder, as it is converted."""

    kind: Literal["vision", "audio"]
    prefixes: tuple[str, ...]
    """What the names of its tensors begin with, and those of its embedder, behind "model."."""
    read_config: Callable[[ConfigFile], C]
    """Checks the configuration. Raises one ConvertError that lists every field that is missing or wrong."""
    take: Callable[[C, int, Taken], None]
    """Takes the checkpoint's tensors; the number is the text model's hidden size."""
    add_metadata: Callable[[gguf.GGUFWriter, C], None]
    """Writes the keys that not every encoder has, under llama.cpp's names."""
