"""ONNX: one graph for prompts and single tokens, with explicit keys and values.

inputs: input_ids, position_ids int64 [1, T]; past_key_values.N.key and .value float32 [1, kv_heads, P, head_dim] for
each layer N that owns them, of the positions 0 to P - 1; num_logits_to_keep int64 scalar, 0 for all.
outputs: logits float32 [1, num_logits_to_keep, vocabulary]; present.N.key and .value [1, kv_heads, P + T, head_dim].

The layers that share keys and values are computed for the last num_logits_to_keep tokens only.

A model with encoders is two graphs on the same weights: embedder.onnx turns input_ids into inputs_embeds float32
[1, T, hidden] and per_layer_inputs float32 [1, T, values], if the architecture has them, which model.onnx takes in
place of input_ids. Soft tokens stand in for embeddings, beside the per-layer inputs of token 0.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from onnx import TensorProto

from gemlet.exporters import architectures
from gemlet.exporters.architecture import Embedded, Forward, compute_logits
from gemlet.exporters.graph import Value, known
from gemlet.exporters.source import Source

from .builder import OnnxBuilder
from .file import DATA, MODEL, OnnxFile

EMBEDDER: Final = "embedder.onnx"
EMBEDDED: Final = ("inputs_embeds", "per_layer_inputs")


def build(source: Source, *, embedder: bool = False) -> OnnxFile:
    """The graph, without the weights; or two, where embedding the tokens is a graph of its own."""
    if not embedder:
        b = OnnxBuilder(source)
        _model(b, b.input("input_ids", (1, "sequence_length"), "int64"), None)
        return OnnxFile({MODEL: b}, DATA)
    e, b = OnnxBuilder(source), OnnxBuilder(source)
    ids = e.input("input_ids", (1, "sequence_length"), "int64")
    given: list[Value] = []
    for name, value in zip(EMBEDDED, _forward(e).embed(e.reshape(ids, (-1,))), strict=True):
        if value is not None:
            shape = (1, "sequence_length", known(value.shape[1]))
            e.output(name, e.reshape(value, (1, -1, shape[2])), shape)
            given.append(b.input(name, shape))
    flat = [b.reshape(value, (-1, known(value.shape[2]))) for value in given]
    _model(b, given[0], (flat[0], flat[1] if len(flat) > 1 else None))
    return OnnxFile({MODEL: b, EMBEDDER: e}, DATA)


def _forward(b: OnnxBuilder) -> Forward:
    return architectures.by_name(b.source.architecture).forward(b)


def _model(b: OnnxBuilder, given: Value, embedded: Embedded | None) -> None:
    """The graph from tokens to logits, or from what is embedded; `given` is an input with the tokens' axis."""
    position_ids = b.input("position_ids", (1, "sequence_length"), "int64")
    wanted = b.reshape(b.input("num_logits_to_keep", (), "int64"), (1,))
    tokens = given if embedded else b.reshape(given, (-1,))
    queries = b.reshape(b.node("Cast", [position_ids.name], position_ids.shape, to=TensorProto.FLOAT), (-1,))
    keys = _key_positions(b, given)

    forward = _forward(b)
    found = compute_logits(
        forward, embedded or forward.embed(tokens), queries, keys, lambda value: b.last(value, wanted)
    )
    size = b.source.config.vocab_size
    b.output("logits", b.reshape(found, (1, -1, size)), (1, "num_logits", size))


def _key_positions(b: OnnxBuilder, given: Value) -> Value:
    """0 to P + T - 1 as float32, [P + T]."""
    past = b.node("Shape", ["past_key_values.0.key"], (1,), "int64", start=2, end=3)
    new = b.node("Shape", [given.name], (1,), "int64", start=1, end=2)
    total = b.node("Squeeze", [b.add(past, new).name], (), "int64")
    zero, one = b.array("zero", np.array(0, np.int64)), b.array("one", np.array(1, np.int64))
    every = b.node("Range", [zero, total.name, one], (None,), "int64")
    return b.node("Cast", [every.name], every.shape, to=TensorProto.FLOAT)
