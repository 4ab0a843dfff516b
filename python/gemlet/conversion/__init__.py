"""From a Hugging Face checkpoint to a GGUF file that gemlet and llama.cpp run."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import gguf

from gemlet import _core
from gemlet.errors import ArgumentError
from gemlet.files import to_path
from gemlet.slicing import SliceLike, to_core

from . import architectures, encoder_plan
from .checkpoint import read_tensors
from .config import ConfigFile
from .encoder_plan import find_encoders, plan_encoders
from .errors import ConvertError
from .metadata import add_general, add_vocabulary
from .mmproj import convert_mmproj
from .recipes import (
    HEADS,
    MEDIA_RECIPES,
    PRESETS,
    RECIPES,
    default_quant,
    find_media_recipe,
    find_recipe,
)
from .result import Conversion
from .tensors import plan
from .vocabulary import read_vocabulary
from .writer import Progress, TypedTensor, thread_count, write_gguf

__all__ = [
    "HEADS",
    "MEDIA_RECIPES",
    "PRESETS",
    "RECIPES",
    "Conversion",
    "ConvertError",
    "convert",
    "convert_mmproj",
]


def convert(
    checkpoint: str | os.PathLike[str],
    out: str | os.PathLike[str],
    quant: str | None = None,
    progress: Progress | None = None,
    *,
    head: str | None = None,
    threads: int | None = None,
    slice: SliceLike | None = None,
    transpose_down: bool = False,
    media: bool = False,
    media_quant: str | None = None,
) -> Conversion:
    """Converts the text model of the checkpoint in a directory to the GGUF file `out`, and its encoders of pictures
    and sound if `media` says so. convert_mmproj puts them into a file of their own.

    quant: "f32", "bf16", "f16", "q8_0" or "q4_0", or a preset: "performance" (bf16), "balanced" (q8_0),
        "maximum_efficiency" (q4_0). recipes.py says which tensor gets which type. By default "q4_0", and "q8_0" for
        models of fewer than 500 million parameters, which four bits harm.
    head: another type for the token embedding, which is the output head too: "q4_0" makes decoding quicker and the
        file smaller at some cost in quality; "q6_k", "q8_0".
    progress: called with the bytes written so far and in all.
    threads: of the quantiser; by default one for each processor.
    transpose_down: stores the sparse layers' down projection transposed: faster here, unreadable for llama.cpp.
    slice: the part of a MatFormer model to write, as gemlet.load takes it: "e2b" makes E2B out of E4B.
    media: writes the vision and audio encoders into the same file, which llama.cpp then does not read: it wants an
        mmproj file.
    media_quant: the encoders' quantisation, as for convert_mmproj.

    Works through slabs of a tensor, so that memory does not grow with the model. `out` appears whole or not at all:
    an old file of that name stays until the new one is complete.
    Raises ConvertError; every missing, unknown or misshapen tensor is listed in one, before anything is written;
    gemlet.FileError where `out` cannot be written, is no regular file, or is a file of the checkpoint's folder other
    than an earlier GGUF file; and
    gemlet.ArgumentError for a slice that the model does not have.
    """
    directory, path = to_path(checkpoint), to_path(out)
    count = thread_count(threads)
    asked = None if quant is None else find_recipe(quant, head)
    if media_quant is not None and not media:
        raise ArgumentError("media_quant is for the encoders, which are not converted without media=True")
    media_recipe = find_media_recipe(media_quant)
    file = ConfigFile.read(directory)
    architecture = architectures.find(file)
    config = architecture.read_config(file)
    stored = read_tensors(directory)
    planned = plan(architecture, config, stored)
    encoders = plan_encoders(architecture, file, config.hidden_size, stored, media_recipe) if media else None
    vocabulary = read_vocabulary(directory, config)
    kept = planned.tensors
    recipe = asked or find_recipe(default_quant(sum(tensor.rows * tensor.cols for tensor in kept)), head)
    if transpose_down:
        if architecture.transpose_down is None:
            raise ArgumentError(f"transpose_down: {architecture.title} has no sparse layers, as Gemma 3n has")
        kept = architecture.transpose_down(config, kept)
    if slice is not None:
        if architecture.cut is None:
            raise ArgumentError(f"slice: MatFormer slices are Gemma 3n's, and {directory} is {architecture.title}")
        config, kept = architecture.cut(config, kept, to_core(slice), recipe.ffn_block(config))
    tensors = [
        TypedTensor(tensor, recipe.type_of(architecture.role_of(tensor.name, tensor.shape), tensor.cols))
        for tensor in kept
    ]

    if encoders is not None:
        tensors += encoders.tensors

    def add_metadata(writer: gguf.GGUFWriter) -> None:
        add_general(writer, config.name, recipe)
        architecture.add_metadata(writer, config)
        add_vocabulary(writer, vocabulary)
        if encoders is not None:
            encoders.add_metadata(writer)

    def load(path: Path) -> None:
        if architecture.name in _core.architectures():
            _core.Engine.load(path, threads=1)
        if encoders is not None:
            encoder_plan.load(path)

    named = planned.stored | ({} if encoders is None else encoders.stored)
    sources = [file for file in directory.iterdir() if file.suffix != ".gguf"]
    size = write_gguf(path, architecture.name, add_metadata, tensors, named, count, progress, sources, load)
    types = Counter(tensor.type.name for tensor in tensors)
    if encoders is not None:
        return Conversion(path, size, dict(types), (), encoders.kinds)
    others, _ = find_encoders(architecture, stored)
    kinds = tuple(encoder.kind for encoder in others.values())
    return Conversion(path, size, dict(types), tuple(planned.left_out), (), kinds)
