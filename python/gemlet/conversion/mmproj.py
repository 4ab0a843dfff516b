"""From a multimodal checkpoint to an mmproj file: its encoders of pictures and sound, in llama.cpp's layout."""

from __future__ import annotations

import os
from collections import Counter

import gguf

from gemlet.files import to_path

from . import architectures
from .checkpoint import read_tensors
from .config import ConfigFile
from .encoder_plan import ARCHITECTURE, load, plan_encoders
from .recipes import find_media_recipe
from .result import Conversion
from .writer import Progress, thread_count, write_gguf


def convert_mmproj(
    checkpoint: str | os.PathLike[str],
    out: str | os.PathLike[str],
    media_quant: str | None = None,
    progress: Progress | None = None,
    *,
    threads: int | None = None,
) -> Conversion:
    """Converts the vision and audio encoders of the checkpoint in a directory to the mmproj file `out`, which stands
    beside the text model's GGUF file. An encoder that the checkpoint has no tensor of is not in the file.

    media_quant: "f32", "f16", "bf16", "q8_0" or "q4_0". recipes.py says which tensor gets which type.
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
    hidden = architecture.read_config(file).hidden_size
    plan = plan_encoders(architecture, file, hidden, read_tensors(directory), recipe)

    def add_metadata(writer: gguf.GGUFWriter) -> None:
        writer.add_type(gguf.GGUFType.MMPROJ)
        writer.add_name(file.name)
        writer.add_file_type(recipe.file_type)
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        plan.add_metadata(writer)

    sources = [file for file in directory.iterdir() if file.suffix != ".gguf"]
    size = write_gguf(path, ARCHITECTURE, add_metadata, plan.tensors, plan.stored, count, progress, sources, load)
    types = Counter(tensor.type.name for tensor in plan.tensors)
    return Conversion(path, size, dict(types), (), plan.kinds)
