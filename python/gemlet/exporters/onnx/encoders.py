"""Encoders in ONNX: a graph for each size of a picture, which share their weights, and one for sounds of any length.

vision-N.onnx: pixels float32 [1, N, N, 3] in [0, 1] to soft_tokens float32 [1, 256, hidden].
audio.onnx: mel float32 [1, T, mel bins] to soft_tokens float32 [1, ceil(T / 16), hidden].
"""

from __future__ import annotations

from gemlet.exporters.encoders.audio_usm import AudioUsm
from gemlet.exporters.encoders.source import EncoderSource
from gemlet.exporters.encoders.vision_mobilenet_v5 import SIZES, TOKENS, VisionMobileNetV5

from .builder import OnnxBuilder
from .file import OnnxFile


def build_vision(source: EncoderSource) -> OnnxFile:
    """The graphs, without the weights."""
    graphs = {}
    for size in SIZES:
        b = OnnxBuilder(source)
        pixels = b.reshape(b.input("pixels", (1, size, size, 3)), (size, size, 3))
        rows = VisionMobileNetV5(b, source)(pixels)
        b.output("soft_tokens", b.reshape(rows, (1, TOKENS, -1)), (1, TOKENS, rows.shape[1] or 0))
        graphs[f"vision-{size}.onnx"] = b
    return OnnxFile(graphs, "vision.onnx.data")


def build_audio(source: EncoderSource) -> OnnxFile:
    """The graph, without the weights."""
    b = OnnxBuilder(source)
    mel = b.reshape(b.input("mel", (1, "frames", source.mel_bins)), (-1, source.mel_bins))
    rows = AudioUsm(b, source)(mel)
    hidden = rows.shape[1] or 0
    b.output("soft_tokens", b.reshape(rows, (1, -1, hidden)), (1, "tokens", hidden))
    return OnnxFile({"audio.onnx": b}, "audio.onnx.data")
