"""ONNX files that are written without holding their weights: they go to a data file, which graphs may share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import onnx
from onnx import TensorProto, helper

from gemlet.exporters.progress import Progress

from .builder import CONTRIB, IR_VERSION, OPSET, OnnxBuilder
from .packing import Part, slabs

MODEL: Final = "model.onnx"
DATA: Final = "model.onnx.data"

_ALIGNMENT: Final = 4096
"""Alignment of tensors in the data file: whole pages can be mapped."""
_INPUT_ORDER: Final = {"input_ids": 0, "inputs_embeds": 0, "per_layer_inputs": 0, "position_ids": 1} | {
    "num_logits_to_keep": 3
}
"""The keys and values come between."""


class OnnxFile:
    """Graphs, and where their weights will be."""

    def __init__(self, graphs: Mapping[str, OnnxBuilder], data: str) -> None:
        """`graphs`: by the names of their files; each is whole. `data`: the name of the file of their weights."""
        self._graphs = graphs
        self._data = data
        self._weights = {name: stored for graph in graphs.values() for name, stored in graph.weights.items()}
        self._offsets: dict[str, tuple[Part, int]] = {}
        self.weight_bytes = 0
        """The size of the data file."""
        for name, (_, stored, _) in self._weights.items():
            for part in stored:
                begin = self.weight_bytes + -self.weight_bytes % _ALIGNMENT
                self._offsets[f"{name}.{part.suffix}"] = (part, begin)
                self.weight_bytes = begin + part.bytes

    def write(self, folder: Path, metadata: Mapping[str, str], progress: Progress) -> None:
        """Writes the graphs and their weights. `metadata` goes into each graph as it is. Raises OSError."""
        self._write_weights(folder / self._data, progress)
        for name, graph in self._graphs.items():
            (folder / name).write_bytes(self._model(graph, metadata).SerializeToString())

    def _model(self, b: OnnxBuilder, metadata: Mapping[str, str]) -> onnx.ModelProto:
        tensors = [*b.constants.values()]
        for name in b.weights:
            for stored in b.weights[name][1]:
                part, offset = self._offsets[f"{name}.{stored.suffix}"]
                tensor = TensorProto(
                    name=f"{name}.{stored.suffix}",
                    data_type=part.type,
                    dims=part.shape,
                    data_location=TensorProto.EXTERNAL,
                )
                for key, value in (("location", self._data), ("offset", offset), ("length", part.bytes)):
                    tensor.external_data.add(key=key, value=str(value))
                tensors.append(tensor)
        inputs = sorted(b.inputs, key=lambda value: _INPUT_ORDER.get(value.name, 2))
        outputs = sorted(b.outputs, key=lambda value: value.name != "logits")
        graph = helper.make_graph(b.nodes, b.tensors.title, inputs, outputs, initializer=tensors)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="gemlet")
        helper.set_model_props(model, dict(metadata))
        return model

    def _write_weights(self, path: Path, progress: Progress) -> None:
        tensors = next(iter(self._graphs.values())).tensors
        with path.open("wb") as file:
            file.truncate(self.weight_bytes)
            for name, (matrix, stored, half_scales) in self._weights.items():
                ends = [self._offsets[f"{name}.{part.suffix}"][1] for part in stored]
                for slab in slabs(tensors, matrix, half_scales=half_scales):
                    for i, piece in enumerate(slab):
                        file.seek(ends[i])
                        file.write(piece.data)
                        ends[i] += piece.nbytes
                        progress.add(piece.nbytes)
