"""Encoders in TFLite, with a signature for each length of what they take, on the same weights.

vision.tflite, vision_N: pixels float32 [1, N, N, 3] in [0, 1] to soft_tokens float32 [1, 256, hidden].
audio.tflite, audio_N: mel float32 [1, 16 N, mel bins] and mask float32 [1, 16 N], ones for the frames of the sound and
then zeros, to soft_tokens float32 [1, N, hidden], of which the first ceil(frames / 16) are the sound's.
"""

from __future__ import annotations

from typing import Final

from gemlet.exporters.encoders.audio_usm import FRAMES_OF_A_TOKEN, AudioUsm
from gemlet.exporters.encoders.source import EncoderSource
from gemlet.exporters.encoders.vision_mobilenet_v5 import SIZES, TOKENS, VisionMobileNetV5
from gemlet.exporters.graph import known

from .builder import TfliteBuilder
from .file import TfliteFile

AUDIO_TOKENS: Final = (32, 188)
"""Lengths of the audio signatures in soft tokens: 5 s, and the 30 s that a clip has at most."""


def build_vision(source: EncoderSource) -> TfliteFile:
    """The file, but for the weights."""
    file = TfliteFile("vision.tflite")
    for size in SIZES:
        b = TfliteBuilder(source, file)
        pixels = b.reshape(b.input("pixels", (1, size, size, 3)), (size, size, 3))
        rows = VisionMobileNetV5(b, source)(pixels)
        b.output("soft_tokens", b.reshape(rows, (1, TOKENS, -1)))
        b.finish(f"vision_{size}")
    return file


def build_audio(source: EncoderSource) -> TfliteFile:
    """The file, but for the weights."""
    file = TfliteFile("audio.tflite")
    for tokens in AUDIO_TOKENS:
        frames = tokens * FRAMES_OF_A_TOKEN
        b = TfliteBuilder(source, file)
        mel = b.reshape(b.input("mel", (1, frames, source.mel_bins)), (frames, source.mel_bins))
        mask = b.reshape(b.input("mask", (1, frames)), (frames, 1))
        rows = AudioUsm(b, source)(mel, mask)
        b.output("soft_tokens", b.reshape(rows, (1, known(rows.shape[0]), -1)))
        b.finish(f"audio_{tokens}")
    return file
