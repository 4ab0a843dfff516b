"""From a multimodal checkpoint to an mmproj file: its encoders of pictures and sound, in llama.cpp's layout."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import gguf

from gemlet import _core
from gemlet.files import to_path

from . import architectures
from .checkpoint import StoredTensor, read_tensors
from .config import ConfigFile
from .encoders.encoder import Encoder
from .encoders.taken import Taken
from .errors import ConvertError
from .planned import PlannedTensor, Role
from .recipes import Recipe, find_media_recipe
from .result import Conversion
from .writer import Progress, TypedTensor, thread_count, write_gguf

_ARCHITECTURE: Final = gguf.MODEL_ARCH_NAMES[gguf.MODEL_ARCH.MMPROJ]


def convert_mmproj(
    checkpoint: str | os.PathLike[str],
    out: str | os.PathLike[str],
    media_quant: str = "f16",
    progress: Progress | None = None,
    *,
    threads: int | None = None,
) -> Conversion:
    """Converts the vision and audio encoders of the checkpoint in a directory to the mmproj file `out`, which stands
    beside the text model's GGUF file. An encoder that the checkpoint has no tensor of is not in the file.

    media_quant: "f32", "f16", "bf16", "q8_0" or "q4_0". recipes.py says which tensor gets which type. The default is
        not measured yet.
    progress: called with the bytes written so far and in all.
    threads: of the quantiser; by default one for each processor.

    Works through slabs of a tensor, and `out` appears whole or not at all, as in `convert`.
    Raises ConvertError, also for a checkpoint without encoders; every missing, unknown or misshapen tensor of the
    encoders is listed in one, before anything is written. Raises gemlet.FileError where `out` cannot be written, is no
    regular file, or is a file of the checkpoint's folder other than an earlier GGUF file.
    """
    directory, path = to_path(checkpoint), to_path(out)
    count = thread_count(threads)
    recipe = find_media_recipe(media_quant)
    file = ConfigFile.read(directory)
    architecture = architectures.find(file)
    if not architecture.encoders:
        raise ConvertError(f"{directory}: is {architecture.title}, whose encoders gemlet does not convert")
    hidden = architecture.read_config(file).hidden_size
    taken = Taken(_stored(architecture.encoders, read_tensors(directory)))
    encoders = {projector: encoder for projector, encoder in architecture.encoders.items() if _is_in(encoder, taken)}
    if not encoders:
        raise ConvertError(f"{directory}: has no tensors of a vision or audio encoder; the checkpoint is text only")
    configs: dict[str, Any] = {projector: encoder.read_config(file) for projector, encoder in encoders.items()}
    for projector, encoder in encoders.items():
        encoder.take(configs[projector], hidden, taken)
    taken.complain_of_the_rest()
    if taken.problems:
        raise ConvertError.listing(
            f"{len(taken.problems)} tensors do not fit the configuration", sorted(taken.problems)
        )
    tensors = [_typed(tensor, role, recipe) for tensor, role in taken.planned]

    def add_metadata(writer: gguf.GGUFWriter) -> None:
        writer.add_type(gguf.GGUFType.MMPROJ)
        writer.add_name(file.name)
        writer.add_file_type(recipe.file_type)
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        for projector, encoder in encoders.items():
            prefix = f"{_ARCHITECTURE}.{encoder.kind}"
            writer.add_bool(f"{_ARCHITECTURE}.has_{encoder.kind}_encoder", True)
            writer.add_string(f"{prefix}.projector_type", projector)
            writer.add_uint32(f"{prefix}.projection_dim", hidden)
            encoder.add_metadata(writer, configs[projector])

    sources = [file for file in directory.iterdir() if file.suffix != ".gguf"]
    size = write_gguf(path, _ARCHITECTURE, add_metadata, tensors, taken.stored, count, progress, sources, _load)
    types = Counter(tensor.type.name for tensor in tensors)
    return Conversion(path, size, dict(types), (), tuple(encoder.kind for encoder in encoders.values()))


def _load(path: Path) -> None:
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


def _is_in(encoder: Encoder[Any], taken: Taken) -> bool:
    return any(name.startswith(encoder.prefixes) for name in taken.stored)


def _typed(tensor: PlannedTensor, role: Role, recipe: Recipe) -> TypedTensor:
    """A tensor with its type. Types of blocks have no room for axes of length 1 behind the rows."""
    kind = recipe.type_of(role, tensor.cols)
    if gguf.GGML_QUANT_SIZES[kind][0] > 1:
        tensor = replace(tensor, header_shape=())
    return TypedTensor(tensor, kind)
