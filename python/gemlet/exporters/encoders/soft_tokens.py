"""From what an encoder gives to embeddings of the text model, after cpp/encoders/soft_tokens.cpp."""

from __future__ import annotations

from gemlet.exporters.graph import Builder, Value

from .source import EPSILON, EncoderSource


def soft_tokens(b: Builder, source: EncoderSource, x: Value, prefix: str) -> Value:
    """[T, width] to [T, hidden]: norm, projection, norm without a weight."""
    normed = b.rms_norm(x, b.vector(f"{prefix}soft_emb_norm.weight"), EPSILON)
    return b.rms_norm(b.linear(normed, source.matrix(f"{prefix}input_projection.weight")), None, EPSILON)
