"""The converter's description of an architecture. architectures/ has one file for each, which fills this in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import gguf

from gemlet import _core

from .config import ConfigFile, TextConfig
from .encoders.encoder import Encoder
from .errors import ConvertError
from .planned import PlannedTensor, Role

C = TypeVar("C", bound=TextConfig)

_COMMON_ROLES = {
    **dict.fromkeys(("token_embd", "output"), Role.HEAD),
    **dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_qkv", "attn_output"), Role.LAYER),
    **dict.fromkeys(("ffn_gate", "ffn_up", "ffn_down"), Role.LAYER),
}


def _nothing_is_unused(config: TextConfig, name: str) -> bool:
    return False


@dataclass(frozen=True)
class Architecture(Generic[C]):
    """One architecture of text models, as it is converted."""

    name: str
    """GGUF's name, general.architecture."""
    title: str
    """The name that people use."""
    classes: tuple[str, ...]
    """Values of `architectures` in config.json."""
    model_types: tuple[str, ...]
    """Values of `model_type` in config.json, or in its text_config."""
    outside: tuple[str, ...]
    """Prefixes of tensors outside the text model: encoders of pictures and sound, which have no place in its file."""
    read_config: Callable[[ConfigFile], C]
    """Checks the configuration. Raises one ConvertError that lists every field that is missing or wrong."""
    tensors: Callable[[C], Iterable[PlannedTensor]]
    """All tensors of the file, but for a head of its own."""
    add_metadata: Callable[[gguf.GGUFWriter, C], None]
    """Writes the architecture's own keys."""
    roles: Mapping[str, Role]
    """Roles of the tensors that not every architecture has, by the last part of their names."""
    unused: Callable[[C, str], bool] = _nothing_is_unused
    """Whether a tensor of the text model may be in the checkpoint although no tensor of the file is made of it."""
    cut: Callable[[C, Sequence[PlannedTensor], _core.Slice, int], tuple[C, list[PlannedTensor]]] | None = None
    """Cuts a MatFormer slice: configuration, tensors, the slice, and the number that widths are multiples of. None if
    the architecture has no slices."""
    transpose_down: Callable[[C, Sequence[PlannedTensor]], list[PlannedTensor]] | None = None
    """Has the down projections of sparse layers stored transposed. None if the architecture has no sparse layers."""
    encoders: Mapping[str, Encoder[Any]] = field(default_factory=dict)
    """The encoders of pictures and sound that can be converted, by llama.cpp's projector types."""

    def role_of(self, name: str, shape: Sequence[int]) -> Role:
        """The role of a tensor of the GGUF file. Raises ConvertError for a matrix that is in no table: a guess would
        store it in full precision without a word."""
        part = name.removesuffix(".weight").split(".")[-1]
        role = self.roles.get(part) or _COMMON_ROLES.get(part)
        if role is None and len(shape) > 1:
            raise ConvertError(
                f"tensor {name} {list(shape)}: {self.title} has no matrix of that name, so it is unknown which type "
                "to store it in"
            )
        return role or Role.VECTOR
