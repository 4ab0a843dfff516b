"""ONNX: one graph for prompts and single tokens, with explicit keys and values.

inputs: input_ids, position_ids int64 [1, T]; past_key_values.N.key and .value float32 [1, kv_heads, P, head_dim] for
each layer N that owns them, of the positions 0 to P - 1; num_logits_to_keep int64 scalar, 0 for all.
outputs: logits float32 [1, num_logits_to_keep, vocabulary]; present.N.key and .value [1, kv_heads, P + T, head_dim].

The layers that share keys and values are computed for the last num_logits_to_keep tokens only.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, helper

from gemlet.export import gemma3n
from gemlet.export.graph import Value
from gemlet.export.progress import Progress
from gemlet.export.source import Source

from .builder import CONTRIB, IR_VERSION, OPSET, OnnxBuilder
from .packing import Part, slabs

MODEL: Final = "model.onnx"
DATA: Final = "model.onnx.data"

_ALIGNMENT: Final = 4096
"""Of large tensors in the data file: whole pages can be mapped."""


def write(source: Source, folder: Path, metadata: Mapping[str, str], progress: Progress) -> None:
    """Writes model.onnx and its weights. `metadata` goes into the file as it is. Raises OSError."""
    builder = build(source)
    offsets = _layout(builder)
    model = _model(builder, offsets, metadata)
    _write_weights(builder, offsets, folder / DATA, progress)
    (folder / MODEL).write_bytes(model.SerializeToString())


def weight_bytes(source: Source) -> int:
    """The size of the data file."""
    return _end(_layout(build(source)))


def build(source: Source) -> OnnxBuilder:
    """The graph, without the weights."""
    b = OnnxBuilder(source)
    config = source.config
    ids = b.input("input_ids", (1, "sequence_length"), "int64")
    position_ids = b.input("position_ids", (1, "sequence_length"), "int64")
    wanted = b.reshape(b.input("num_logits_to_keep", (), "int64"), (1,))
    tokens = b.reshape(ids, (-1,))
    queries = b.reshape(b.node("Cast", [position_ids.name], position_ids.shape, to=TensorProto.FLOAT), (-1,))
    keys = _key_positions(b, ids)

    embedding = gemma3n.embed(b, tokens)
    inputs = gemma3n.per_layer_inputs(b, embedding, gemma3n.embed_per_layer(b, tokens))
    streams = gemma3n.altup_expand(b, embedding)
    positions = gemma3n.Positions.of(b, queries, keys)
    owners = len(config.kv_layers)
    for index in range(len(config.layers)):
        if index == owners:
            streams, inputs, queries = (b.last(value, wanted) for value in (streams, inputs, queries))
            positions = gemma3n.Positions.of(b, queries, keys)
        streams = gemma3n.Layer(b, index)(streams, inputs, positions)
    if owners == len(config.layers):
        streams = b.last(streams, wanted)
    logits = b.reshape(gemma3n.logits(b, streams), (1, -1, config.vocab_size))
    b.output("logits", logits, (1, "num_logits", config.vocab_size))
    return b


def _key_positions(b: OnnxBuilder, ids: Value) -> Value:
    """0 to P + T - 1 as float32, [P + T]."""
    past = b.node("Shape", ["past_key_values.0.key"], (1,), "int64", start=2, end=3)
    new = b.node("Shape", [ids.name], (1,), "int64", start=1, end=2)
    total = b.node("Squeeze", [b.add(past, new).name], (), "int64")
    zero, one = b.array("zero", np.array(0, np.int64)), b.array("one", np.array(1, np.int64))
    every = b.node("Range", [zero, total.name, one], (None,), "int64")
    return b.node("Cast", [every.name], every.shape, to=TensorProto.FLOAT)


def _layout(builder: OnnxBuilder) -> dict[str, tuple[Part, int]]:
    """Where each tensor of weights begins in the data file."""
    offsets: dict[str, tuple[Part, int]] = {}
    end = 0
    for name, (_, stored, _) in builder.weights.items():
        for part in stored:
            end += -end % _ALIGNMENT
            offsets[f"{name}.{part.suffix}"] = (part, end)
            end += part.bytes
    return offsets


def _end(offsets: Mapping[str, tuple[Part, int]]) -> int:
    return max((offset + part.bytes for part, offset in offsets.values()), default=0)


def _model(
    builder: OnnxBuilder, offsets: Mapping[str, tuple[Part, int]], metadata: Mapping[str, str]
) -> onnx.ModelProto:
    tensors = [*builder.constants.values()]
    for name, (part, offset) in offsets.items():
        tensor = TensorProto(name=name, data_type=part.type, dims=part.shape, data_location=TensorProto.EXTERNAL)
        for key, value in (("location", DATA), ("offset", offset), ("length", part.bytes)):
            tensor.external_data.add(key=key, value=str(value))
        tensors.append(tensor)
    order = {"input_ids": 0, "position_ids": 1, "num_logits_to_keep": 3}
    inputs = sorted(builder.inputs, key=lambda value: order.get(value.name, 2))
    outputs = sorted(builder.outputs, key=lambda value: value.name != "logits")
    graph = helper.make_graph(builder.nodes, "gemma3n", inputs, outputs, initializer=tensors)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="gemlet")
    helper.set_model_props(model, dict(metadata))
    return model


def _write_weights(
    builder: OnnxBuilder, offsets: Mapping[str, tuple[Part, int]], path: Path, progress: Progress
) -> None:
    with path.open("wb") as file:
        file.truncate(_end(offsets))
        for name, (matrix, stored, half_scales) in builder.weights.items():
            ends = [offsets[f"{name}.{part.suffix}"][1] for part in stored]
            for slab in slabs(builder.source, matrix, half_scales=half_scales):
                for i, piece in enumerate(slab):
                    file.seek(ends[i])
                    file.write(piece.data)
                    ends[i] += piece.nbytes
                    progress.add(piece.nbytes)
        file.flush()
        os.fsync(file.fileno())
