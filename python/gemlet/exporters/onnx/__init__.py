"""ONNX: one graph for prompts and single tokens, with explicit keys and values.

inputs: input_ids, position_ids int64 [1, T]; past_key_values.N.key and .value float32 [1, kv_heads, P, head_dim] for
each layer N that owns them, of the positions 0 to P - 1; num_logits_to_keep int64 scalar, 0 for all.
outputs: logits float32 [1, num_logits_to_keep, vocabulary]; present.N.key and .value [1, kv_heads, P + T, head_dim].

The layers that share keys and values are computed for the last num_logits_to_keep tokens only.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from gemlet.exporters import architectures
from gemlet.exporters.architecture import compute_logits
from gemlet.exporters.graph import Value
from gemlet.exporters.source import Source

from .builder import OnnxBuilder
from .file import DATA, MODEL, OnnxFile


def build(source: Source) -> OnnxFile:
    """The graph, without the weights."""
    b = OnnxBuilder(source)
    config = source.config
    ids = b.input("input_ids", (1, "sequence_length"), "int64")
    position_ids = b.input("position_ids", (1, "sequence_length"), "int64")
    wanted = b.reshape(b.input("num_logits_to_keep", (), "int64"), (1,))
    tokens = b.reshape(ids, (-1,))
    queries = b.reshape(b.node("Cast", [position_ids.name], position_ids.shape, to=TensorProto.FLOAT), (-1,))
    keys = _key_positions(b, ids)

    forward = architectures.by_name(source.architecture).forward(b)
    found = compute_logits(forward, tokens, queries, keys, lambda value: b.last(value, wanted))
    logits = b.reshape(found, (1, -1, config.vocab_size))
    b.output("logits", logits, (1, "num_logits", config.vocab_size))
    return OnnxFile({MODEL: b}, DATA)


def _key_positions(b: OnnxBuilder, ids: Value) -> Value:
    """0 to P + T - 1 as float32, [P + T]."""
    past = b.node("Shape", ["past_key_values.0.key"], (1,), "int64", start=2, end=3)
    new = b.node("Shape", [ids.name], (1,), "int64", start=1, end=2)
    total = b.node("Squeeze", [b.add(past, new).name], (), "int64")
    zero, one = b.array("zero", np.array(0, np.int64)), b.array("one", np.array(1, np.int64))
    every = b.node("Range", [zero, total.name, one], (None,), "int64")
    return b.node("Cast", [every.name], every.shape, to=TensorProto.FLOAT)
