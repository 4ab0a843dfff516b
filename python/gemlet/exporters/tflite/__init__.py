"""TFLite: a signature for prompts of each length, and one for single tokens, on the same weights.

prefill_N and decode take tokens int32 [1, N], input_pos int32 [N] (consecutive), and kv_cache_k_I and kv_cache_v_I
float32 [1, kv_heads, context, head_dim] for each layer I that owns keys and values, which they give back with the new
ones in their places. Only decode, whose N is 1, has logits: float32 [1, 1, vocabulary]. A prefill leaves out what only
logits need: the layers that share keys and values, and most of the last one that owns them.

A model with encoders takes, in place of tokens, embeddings float32 [1, N, hidden] and per_layer_embeddings float32
[1, N, layers, values], if the architecture has them. The signature embed_N gives them for tokens int32 [1, N]. Soft
tokens stand in for embeddings, beside the per-layer embeddings of token 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from gemlet.exporters import architectures
from gemlet.exporters.architecture import Embedded, Forward, compute_cache, compute_logits
from gemlet.exporters.errors import ExportError
from gemlet.exporters.graph import Value
from gemlet.exporters.source import TABLE, Source

from .builder import TfliteBuilder
from .file import MODEL, TfliteFile

EMBEDDED: Final = ("embeddings", "per_layer_embeddings")
"""LiteRT-LM knows them by these names."""

_OLD_RUNTIME_REFUSES: Final = {
    "fp16": "its gather knows no float16",
    "int8": "it answers zeros where weights have a scale for each row",
    "int4": "it knows no 4-bit weights in blocks",
}
"""What tflite-runtime 2.14.0 was seen to do with the other quantisations."""
_OLD_RUNTIME_BYTES: Final = 2_000_000_000


def require_old_runtime(quant: str, size: int = 0) -> None:
    """Raises ExportError, with the reason, for what tflite-runtime does not run."""
    if quant in _OLD_RUNTIME_REFUSES:
        raise ExportError(f"tflite-runtime does not run {quant}: {_OLD_RUNTIME_REFUSES[quant]}; expected fp32")
    if size > _OLD_RUNTIME_BYTES:
        raise ExportError(f"tflite-runtime crashes on files over 2 GB, and this one would have {size:,} bytes")


def build(source: Source, context: int, prefill: Sequence[int], *, embedder: bool = False) -> TfliteFile:
    """The file, but for the weights; with signatures of its own for embedding tokens, if they are wanted."""
    if embedder:
        file = build_decoder(source, context, prefill, MODEL)
        for length in sorted({1, *prefill}):
            _embedder(source, file, length)
        return file
    file = TfliteFile()
    _signatures(source, file, context, prefill, is_embedded=False)
    return file


def build_decoder(source: Source, context: int, prefill: Sequence[int], name: str) -> TfliteFile:
    """The same without what embeds tokens, which others do; `name`: of the file."""
    file = TfliteFile(name)
    _signatures(source, file, context, prefill, is_embedded=True)
    return file


def _signatures(source: Source, file: TfliteFile, context: int, prefill: Sequence[int], *, is_embedded: bool) -> None:
    for length in prefill:
        _signature(source, file, context, length, f"prefill_{length}", is_embedded)
    _signature(source, file, context, 1, "decode", is_embedded)


def embedding_of(b: TfliteBuilder, tokens: Value) -> Embedded:
    """What the text model's tables have of tokens."""
    return _forward(b).embed(tokens)


def _embedder(source: Source, file: TfliteFile, length: int) -> None:
    b = TfliteBuilder(source, file)
    tokens = b.reshape(b.input("tokens", (1, length), "int32"), (length,))
    for name, value in zip(EMBEDDED, embedding_of(b, tokens), strict=True):
        if value is not None:
            b.output(name, b.reshape(value, embedded_shape(source, name, length)))
    b.finish(f"embed_{length}")


def embedded_shape(source: Source, name: str, length: int) -> tuple[int, ...]:
    """The shape of what an embedder gives for so many tokens."""
    if name == EMBEDDED[0]:
        return 1, length, source.config.hidden_size
    return 1, length, len(source.config.layers), source.matrix(TABLE).cols // len(source.config.layers)


def _forward(b: TfliteBuilder) -> Forward:
    return architectures.by_name(b.source.architecture).forward(b)


def _given(b: TfliteBuilder, length: int) -> Embedded:
    """What an embedder has given, as inputs."""
    source = b.source
    names = EMBEDDED if TABLE in source.tensors else EMBEDDED[:1]
    values = [b.input(name, embedded_shape(source, name, length)) for name in names]
    flat = [b.reshape(value, (length, -1)) for value in values]
    return flat[0], flat[1] if len(flat) > 1 else None


def _signature(source: Source, file: TfliteFile, context: int, length: int, name: str, is_embedded: bool) -> None:
    b = TfliteBuilder(source, file, context)
    given = _given(b, length) if is_embedded else None
    tokens = given[0] if given else b.reshape(b.input("tokens", (1, length), "int32"), (length,))
    queries = b.positions(b.input("input_pos", (length,), "int32"))
    keys = b.constant(f"positions_{context}", np.arange(context, dtype=np.float32))
    forward = _forward(b)
    embedded = given or forward.embed(tokens)
    if name == "decode":
        logits = compute_logits(forward, embedded, queries, keys)
        b.output("logits", b.reshape(logits, (1, 1, source.config.vocab_size)))
    else:
        compute_cache(forward, embedded, queries, keys)
    b.finish(name)
