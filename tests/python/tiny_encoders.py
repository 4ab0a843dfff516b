"""Tiny random multimodal checkpoints of Gemma 3n: a text model, and the towers that tiny_vision and tiny_audio make."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny import Array, Tiny, bfloat16_bits, write_checkpoint
from tiny_audio import TinyAudio
from tiny_vision import TinyVision

TEXT = Tiny()
VISION = TinyVision(text_hidden=TEXT.hidden)
AUDIO = TinyAudio(text_hidden=TEXT.hidden)
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
    **layout: Any,
) -> Path:
    encode = ENCODED[dtype]
    extra = {prefix + name: encode(v) if v.dtype == np.float32 else v for name, v in weights.items()}
    out = write_checkpoint(folder, TEXT, prefix="model.language_model.", dtype=dtype, extra=extra, **layout)
    path = out / "config.json"
    parts = {"vision_config": vision.config(), "audio_config": AUDIO.config()}
    path.write_text(json.dumps({**json.loads(path.read_text()), **parts, **(config or {})}))
    return out
