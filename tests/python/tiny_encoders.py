"""Tiny random multimodal checkpoints of Gemma 3n: a text model, and the towers that tiny_vision and tiny_audio make."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gemlet.conversion import convert, convert_mmproj
from gemlet.conversion.sentencepiece import Piece, PieceKind
from numpy.typing import NDArray

from media_inputs import picture, sound
from tiny import Array, Tiny, bfloat16_bits, tiny_pieces, tiny_tokenizer, write_checkpoint
from tiny_audio import TinyAudio
from tiny_vision import TinyVision

TEXT = Tiny()
VISION = TinyVision(text_hidden=TEXT.hidden)
AUDIO = TinyAudio(text_hidden=TEXT.hidden)
IMAGE, SOUND = picture(256, 256), sound(23456)
"""The picture needs no resizing: transformers' depends on what is installed."""
Parts = Sequence[Sequence[int] | str]
"""Text tokens, and "image" or "audio" where the picture or the sound stands among them."""
CASES: Mapping[str, Parts] = {
    "picture": [[2, 9, 33], "image", [8, 90, 17, 298]],
    "sound": [[2, 9, 33, 295], "audio", [8, 90]],
    "both": [[2, 9], "audio", [33, 8, 7], "image", [8, 90, 17]],
}
ENCODED: Mapping[str, Callable[[Array], NDArray[Any]]] = {
    "F32": lambda values: values,
    "F16": lambda values: values.astype(np.float16),
    "BF16": bfloat16_bits,
}


def encoder_weights(vision: TinyVision | None = VISION, audio: TinyAudio | None = AUDIO) -> dict[str, Array]:
    """By the names of published checkpoints, without "model."."""
    out = {}
    for tiny, tower in ((vision, "vision_tower.timm_model."), (audio, "audio_tower.")):
        for name, value in tiny.weights().items() if tiny is not None else ():
            out[name if name.startswith("embed_") else tower + name] = value
    return out


def checkpoint(
    folder: Path,
    weights: Mapping[str, NDArray[Any]],
    *,
    prefix: str = "model.",
    dtype: str = "F32",
    config: Mapping[str, Any] | None = None,
    vision: TinyVision = VISION,
    text: Tiny = TEXT,
    text_config: Mapping[str, Any] | None = None,
    **layout: Any,
) -> Path:
    encode = ENCODED[dtype]
    extra = {prefix + name: encode(v) if v.dtype == np.float32 else v for name, v in weights.items()}
    out = write_checkpoint(
        folder, text, prefix="model.language_model.", dtype=dtype, extra=extra, config=text_config, **layout
    )
    path = out / "config.json"
    parts = {"vision_config": vision.config(), "audio_config": AUDIO.config()}
    path.write_text(json.dumps({**json.loads(path.read_text()), **parts, **(config or {})}))
    return out


def seeing_model(folder: Path) -> tuple[Path, Path]:
    """A model whose vocabulary has the marks of pictures and sounds, and its encoders, in a file each."""
    made = checkpoint(folder / "checkpoint", encoder_weights(), text_config={"max_position_embeddings": 4096})
    marks = [Piece(name, 0.0, PieceKind.CONTROL) for name in ("<start_of_image>", "<start_of_audio>")]
    (made / "tokenizer.model").write_bytes(tiny_tokenizer([*tiny_pieces(), *marks]).serialize())
    convert(made, folder / "text.gguf", "f32")
    convert_mmproj(made, folder / "mmproj.gguf", "f32")
    return folder / "text.gguf", folder / "mmproj.gguf"
