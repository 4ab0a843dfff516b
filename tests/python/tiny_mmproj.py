"""What the files of tiny encoders have in common, in llama.cpp's layout ("mmproj")."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import gguf

from tiny import Array

F32 = gguf.GGMLQuantizationType.F32

_EMBEDDER = {
    "embedding": "embedding",
    "hard_embedding_norm": "hard_emb_norm",
    "soft_embedding_norm": "soft_emb_norm",
    "embedding_projection": "input_projection",
}


def embedder_name(prefix: str, name: str) -> str:
    """llama.cpp's name of a tensor of transformers' embedder ("embed_audio.embedding.weight")."""
    return f"{prefix}{_EMBEDDER[name.split('.')[1]]}.weight"


def mmproj_writer(path: Path, medium: str, projector: str) -> gguf.GGUFWriter:
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_string("general.type", "mmproj")
    writer.add_bool(f"clip.has_{medium}_encoder", True)
    writer.add_string(f"clip.{medium}.projector_type", projector)
    return writer


def write_tensors(writer: gguf.GGUFWriter, tensors: Mapping[str, Array], kind: gguf.GGMLQuantizationType = F32) -> None:
    """By the names that the file gives them, and ends it; `kind` is the type of what has two dimensions."""
    for name, value in tensors.items():
        stored = kind if value.ndim == 2 else F32
        writer.add_tensor(name, gguf.quants.quantize(value, stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
