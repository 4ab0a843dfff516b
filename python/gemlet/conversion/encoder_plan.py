"""What a file holds of a checkpoint's encoders of pictures and sound: tensors and keys in llama.cpp's layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import gguf

from gemlet import _core

from .architecture import Architecture
from .checkpoint import StoredTensor
from .config import ConfigFile
from .encoders.encoder import Encoder
from .encoders.taken import Taken
from .errors import ConvertError
from .planned import PlannedTensor, Role
from .recipes import Recipe
from .writer import TypedTensor

ARCHITECTURE: Final = gguf.MODEL_ARCH_NAMES[gguf.MODEL_ARCH.MMPROJ]


@dataclass(frozen=True)
class EncoderPlan:
    """What a file holds of a checkpoint's encoders."""

    encoders: Mapping[str, Encoder[Any]]
    """By llama.cpp's projector types."""
    configs: Mapping[str, Any]
    hidden: int
    """The text model's hidden size."""
    tensors: list[TypedTensor]
    stored: dict[str, StoredTensor]
    """The checkpoint's tensors by the names that the planned ones use."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """Which of "vision" and "audio" there are."""
        return tuple(encoder.kind for encoder in self.encoders.values())

    def add_metadata(self, writer: gguf.GGUFWriter) -> None:
        """The encoders' keys, which begin with "clip." in any file. Older readers know one projector a file."""
        if len(self.encoders) == 1:
            writer.add_clip_projector_type(*self.encoders)
        for projector, encoder in self.encoders.items():
            prefix = f"{ARCHITECTURE}.{encoder.kind}"
            writer.add_bool(f"{ARCHITECTURE}.has_{encoder.kind}_encoder", True)
            writer.add_string(f"{prefix}.projector_type", projector)
            writer.add_uint32(f"{prefix}.projection_dim", self.hidden)
            encoder.add_metadata(writer, self.configs[projector])


def find_encoders(
    architecture: Architecture[Any], tensors: dict[str, StoredTensor]
) -> tuple[dict[str, Encoder[Any]], dict[str, StoredTensor]]:
    """The encoders that the checkpoint has a tensor of, by llama.cpp's projector types, and all their tensors."""
    stored = _stored(architecture.encoders, tensors)
    found = {
        projector: encoder
        for projector, encoder in architecture.encoders.items()
        if any(name.startswith(encoder.prefixes) for name in stored)
    }
    return found, stored


def plan_encoders(
    architecture: Architecture[Any], file: ConfigFile, hidden: int, tensors: dict[str, StoredTensor], recipe: Recipe
) -> EncoderPlan:
    """Decides what a file holds of a checkpoint's encoders. Raises ConvertError where it has none, and one that lists
    every tensor that is missing, unknown, misshapen or of a type that cannot be read."""
    folder = file.path.parent
    if not architecture.encoders:
        raise ConvertError(f"{folder}: is {architecture.title}, whose encoders gemlet does not convert")
    encoders, stored = find_encoders(architecture, tensors)
    if not encoders:
        raise ConvertError(f"{folder}: has no tensors of a vision or audio encoder; the checkpoint is text only")
    taken = Taken(stored)
    configs: dict[str, Any] = {projector: encoder.read_config(file) for projector, encoder in encoders.items()}
    for projector, encoder in encoders.items():
        encoder.take(configs[projector], hidden, taken)
    taken.complain_of_the_rest()
    if taken.problems:
        raise ConvertError.listing(
            f"{len(taken.problems)} tensors do not fit the configuration", sorted(taken.problems)
        )
    typed = [_typed(tensor, role, recipe) for tensor, role in taken.planned]
    return EncoderPlan(encoders, configs, hidden, typed, taken.stored)


def load(path: Path) -> None:
    """See whether the core takes a file's encoders."""
    _core.Encoders.load(path, threads=1)


def _stored(encoders: Mapping[str, Encoder[Any]], tensors: dict[str, StoredTensor]) -> dict[str, StoredTensor]:
    """The encoders' tensors, without the "model." that newer checkpoints put before their names."""
    prefixes = tuple(prefix for encoder in encoders.values() for prefix in encoder.prefixes)
    stored: dict[str, StoredTensor] = {}
    for name, tensor in tensors.items():
        inner = name.removeprefix("model.")
        if not inner.startswith(prefixes):
            continue
        if inner in stored:
            raise ConvertError(f"extra: {name} stands for the same tensor as {stored[inner].name}")
        stored[inner] = tensor
    return stored


def _typed(tensor: PlannedTensor, role: Role, recipe: Recipe) -> TypedTensor:
    """A tensor with its type. Types of blocks have no room for axes of length 1 behind the rows."""
    kind = recipe.type_of(role, tensor.cols)
    if gguf.GGML_QUANT_SIZES[kind][0] > 1:
        tensor = replace(tensor, header_shape=())
    return TypedTensor(tensor, kind)
