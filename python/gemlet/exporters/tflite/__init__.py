"""TFLite: a signature for prompts of each length, and one for single tokens, on the same weights.

prefill_N and decode take tokens int32 [1, N], input_pos int32 [N] (consecutive), and kv_cache_k_I and kv_cache_v_I
float32 [1, kv_heads, context, head_dim] for each layer I that owns keys and values, which they give back with the new
ones in their places. Only decode, whose N is 1, has logits: float32 [1, 1, vocabulary]. A prefill leaves out what only
logits need: the layers that share keys and values, and most of the last one that owns them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from gemlet.exporters import architectures
from gemlet.exporters.architecture import compute_cache, compute_logits
from gemlet.exporters.errors import ExportError
from gemlet.exporters.source import Source

from .builder import TfliteBuilder
from .file import TfliteFile

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


def build(source: Source, context: int, prefill: Sequence[int]) -> TfliteFile:
    """The file, but for the weights."""
    file = TfliteFile()
    for length in prefill:
        _signature(source, file, context, length, f"prefill_{length}")
    _signature(source, file, context, 1, "decode")
    return file


def _signature(source: Source, file: TfliteFile, context: int, length: int, name: str) -> None:
    b = TfliteBuilder(source, file, context)
    tokens = b.reshape(b.input("tokens", (1, length), "int32"), (length,))
    queries = b.positions(b.input("input_pos", (length,), "int32"))
    keys = b.constant(f"positions_{context}", np.arange(context, dtype=np.float32))
    forward = architectures.by_name(source.architecture).forward(b)
    if name == "decode":
        logits = compute_logits(forward, tokens, queries, keys)
        b.output("logits", b.reshape(logits, (1, 1, source.config.vocab_size)))
    else:
        compute_cache(forward, tokens, queries, keys)
    b.finish(name)
