"""The models of a LiteRT-LM bundle that sees and hears, each with one signature, by the names that LiteRT-LM looks for.

LiteRT-LM embeds token by token, places what the encoders give among the embeddings, and runs the text model on both:

embedder, per_layer_embedder: tokens int32 [1, 1] to what the text model takes of one token.
vision_encoder: images float32 [1, 768, 768, 3] in [0, 1] to features; vision_adapter: features to soft tokens.
audio_encoder: src_inputs float32 [1, T, mel bins] and mask uint8 [1, T] to features, which are the soft tokens of a
clip and what it is filled up with, and to a mask uint8 of both; audio_adapter: mask and features to the soft tokens.
end_of_vision, end_of_audio: nothing to the embedding of a mark.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from gemlet.exporters.encoders.audio_usm import FRAMES_OF_A_TOKEN, AudioUsm
from gemlet.exporters.encoders.source import EncoderSource
from gemlet.exporters.encoders.vision_mobilenet_v5 import SIZES, TOKENS, VisionMobileNetV5
from gemlet.exporters.graph import Value, known
from gemlet.exporters.progress import Progress
from gemlet.exporters.source import Source

from . import EMBEDDED, build_decoder, embedded_shape, embedding_of
from .builder import TfliteBuilder
from .encoders import AUDIO_TOKENS
from .file import TfliteFile

PICTURE_SIZE: Final = max(SIZES)
_SECTIONS: Final = ("embedder", "per_layer_embedder")


def build_text(source: Source, context: int, prefill: Sequence[int]) -> dict[str, TfliteFile]:
    """The text model and what embeds its tokens, but for the weights."""
    files = {"prefill_decode": build_decoder(source, context, prefill, "prefill_decode.tflite")}
    for section, name in zip(_SECTIONS, EMBEDDED, strict=True):
        file = TfliteFile(f"{section}.tflite")
        b = TfliteBuilder(source, file)
        tokens = b.reshape(b.input("tokens", (1, 1), "int32"), (1,))
        if (value := dict(zip(EMBEDDED, embedding_of(b, tokens), strict=True))[name]) is not None:
            b.output(name, b.reshape(value, embedded_shape(source, name, 1)))
            b.finish(section)
            files[section] = file
    return files


def build_encoders(source: EncoderSource, described: dict[str, Any]) -> dict[str, TfliteFile]:
    """The encoders and the marks, but for the weights; `described`: what the manifest says of them."""
    files: dict[str, TfliteFile] = {}
    if source.sees:
        files |= _vision(source) | {"end_of_vision": _mark(source, "end_of_vision", described["vision"]["end"])}
    if source.hears:
        audio = described["audio"]
        files |= _audio(source, audio["padding"], audio["filled_tokens"])
        files["end_of_audio"] = _mark(source, "end_of_audio", audio["end"])
    return files


def _vision(source: EncoderSource) -> dict[str, TfliteFile]:
    encoder, adapter = (TfliteFile(f"vision_{part}.tflite") for part in ("encoder", "adapter"))
    b = TfliteBuilder(source, encoder)
    images = b.input("images", (1, PICTURE_SIZE, PICTURE_SIZE, 3))
    features = VisionMobileNetV5(b, source).features(b.reshape(images, (PICTURE_SIZE, PICTURE_SIZE, 3)))
    width = known(features.shape[1])
    b.output("features", b.reshape(features, (1, TOKENS, width)))
    b.finish("vision_encoder")
    b = TfliteBuilder(source, adapter)
    given = b.reshape(b.input("features", (1, TOKENS, width)), (TOKENS, width))
    b.output("mm_embedding", b.reshape(VisionMobileNetV5(b, source).soft_tokens(given), (1, TOKENS, -1)))
    b.finish("vision_adapter")
    return {"vision_encoder": encoder, "vision_adapter": adapter}


def _audio(source: EncoderSource, padding: Sequence[float], filled_tokens: int) -> dict[str, TfliteFile]:
    encoder, adapter = (TfliteFile(f"audio_{part}.tflite") for part in ("encoder", "adapter"))
    count = max(filled_tokens, *AUDIO_TOKENS)
    frames = count * FRAMES_OF_A_TOKEN
    b = TfliteBuilder(source, encoder)
    mel = b.reshape(b.input("src_inputs", (1, frames, source.mel_bins)), (frames, source.mel_bins))
    mask = b.reshape(b.cast(b.input("mask", (1, frames), "uint8")), (frames, 1))
    rows = AudioUsm(b, source)(mel, mask)
    heard = b.slice(b.reshape(mask, (count, FRAMES_OF_A_TOKEN)), 1, 0, 1)
    silence = b.constant("padding", np.array([padding], np.float32))
    filled = b.add(b.mul(rows, heard), b.mul(b.sub(b.scalar(1.0), heard), silence))
    hidden = known(filled.shape[1])
    b.output("features", b.reshape(filled, (1, count, hidden)))
    always = b.constant("filled", (np.arange(count) < filled_tokens).astype(np.float32).reshape(count, 1))
    b.output("mask", b.reshape(b.cast(b.maximum(heard, always), "uint8"), (1, count)))
    b.finish("audio_encoder")
    b = TfliteBuilder(source, adapter)
    is_there = b.reshape(b.cast(b.input("mask", (1, count), "uint8")), (1, count, 1))
    b.output("mm_embedding", b.mul(b.input("features", (1, count, hidden)), is_there))
    b.finish("audio_adapter")
    return {"audio_encoder_hw": encoder, "audio_adapter": adapter}


def _mark(source: EncoderSource, name: str, row: Sequence[float]) -> TfliteFile:
    """A graph without inputs. A constant that nothing is done to would be no output of an operator."""
    file = TfliteFile(f"{name}.tflite")
    b = TfliteBuilder(source, file)
    mark: Value = b.constant("row", np.array(row, np.float32).reshape(1, 1, -1))
    b.output("embedding", b.add(mark, b.constant("nothing", np.zeros_like(row, np.float32).reshape(1, 1, -1))))
    b.finish(name)
    return file


def write(files: dict[str, TfliteFile], folder: Path, progress: Progress) -> dict[str, Path]:
    """Writes each to a file of its own, by its section of the bundle. Raises OSError."""
    for file in files.values():
        file.write(folder, {}, progress)
    return {section: folder / file.name for section, file in files.items()}
