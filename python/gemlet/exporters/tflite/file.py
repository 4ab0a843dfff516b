"""A TFLite file that is written without holding its weights.

The flatbuffer (schema: tensorflow/compiler/mlir/lite/schema/schema.fbs) has the graphs and small constants. Weights
follow it in the same file, where `Buffer.offset` points to them; a reader maps them as it maps the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from gemlet.exporters.progress import Progress

MODEL: Final = "model.tflite"

_IDENTIFIER: Final = b"TFL3"
_SCHEMA_VERSION: Final = 3
_ALIGNMENT: Final = 4096
"""Alignment of weights in the file: whole pages can be mapped."""
_SOMEWHERE: Final = 1 << 40
"""An offset that is not known yet: any but zero takes the same room in the flatbuffer."""

T = TypeVar("T")
Slabs = Callable[[], Iterator[NDArray[Any]]]


@dataclass
class _Weights:
    buffer: Any
    size: int
    slabs: Slabs


class TfliteFile:
    """Collects operators, buffers, graphs and signatures."""

    def __init__(self, name: str = MODEL) -> None:
        """`name`: of the file."""
        self.name = name
        self._model = schema.ModelT()
        self._model.version = _SCHEMA_VERSION
        self._model.description = "gemlet"
        self._model.operatorCodes = []
        self._model.subgraphs = []
        self._model.signatureDefs = []
        self._model.buffers = [schema.BufferT()]  # buffer 0 is the empty one
        self._model.metadata = []
        self._operators: dict[int, int] = {}
        self._buffers: dict[str, int] = {}
        self._weights: list[_Weights] = []
        self._computed: dict[str, Any] = {}

    def once(self, name: str, compute: Callable[[], T]) -> T:
        """The result of `compute`, computed once for all graphs."""
        if name not in self._computed:
            self._computed[name] = compute()
        value: T = self._computed[name]
        return value

    @property
    def weight_bytes(self) -> int:
        """Size of the weights, which follow the flatbuffer."""
        return sum(weights.size for weights in self._weights)

    def operator(self, code: int, version: int) -> int:
        """The index of an operator; the highest version that is asked for counts."""
        if code not in self._operators:
            entry = schema.OperatorCodeT()
            entry.builtinCode = code
            entry.deprecatedBuiltinCode = min(code, 127)
            entry.version = version
            self._operators[code] = len(self._model.operatorCodes)
            self._model.operatorCodes.append(entry)
        index = self._operators[code]
        self._model.operatorCodes[index].version = max(version, self._model.operatorCodes[index].version)
        return index

    def constant(self, name: str, values: NDArray[Any]) -> int:
        """The buffer of a small array, one for each name."""
        if name not in self._buffers:
            buffer = schema.BufferT()
            buffer.data = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
            self._buffers[name] = len(self._model.buffers)
            self._model.buffers.append(buffer)
        return self._buffers[name]

    def weights(self, name: str, size: int, slabs: Slabs) -> int:
        """The buffer of a large array, one for each name; `slabs` gives its bytes when the file is written."""
        if name not in self._buffers:
            buffer = schema.BufferT()
            buffer.offset, buffer.size = _SOMEWHERE, size
            self._buffers[name] = len(self._model.buffers)
            self._model.buffers.append(buffer)
            self._weights.append(_Weights(buffer, size, slabs))
        return self._buffers[name]

    def graph(self, graph: Any, signature: str, inputs: dict[str, int], outputs: dict[str, int]) -> None:
        """Add a graph that is called by its signature. The dicts give tensors by the names that callers use."""
        entry = schema.SignatureDefT()
        entry.signatureKey = signature
        entry.subgraphIndex = len(self._model.subgraphs)
        entry.inputs, entry.outputs = _tensor_map(inputs), _tensor_map(outputs)
        graph.name = signature
        graph.inputs, graph.outputs = list(inputs.values()), list(outputs.values())
        self._model.subgraphs.append(graph)
        self._model.signatureDefs.append(entry)

    def _metadata(self, name: str, text: str) -> None:
        entry = schema.MetadataT()
        entry.name = name
        entry.buffer = self.constant(f"metadata {name}", np.frombuffer(text.encode() or b"\0", np.uint8))
        self._model.metadata.append(entry)

    def write(self, folder: Path, metadata: Mapping[str, str], progress: Progress) -> None:
        """Writes the file, with `metadata` in it as it is. Raises OSError."""
        for name, text in metadata.items():
            self._metadata(name, text)
        end = len(self._packed())
        for weights in self._weights:
            weights.buffer.offset = end + -end % _ALIGNMENT
            end = weights.buffer.offset + weights.size
        head = self._packed()
        with (folder / self.name).open("wb") as file:
            file.write(head)
            for weights in self._weights:
                file.write(bytes(weights.buffer.offset - file.tell()))
                for slab in weights.slabs():
                    file.write(np.ascontiguousarray(slab).data)
                    progress.add(slab.nbytes)
            file.write(bytes(-file.tell() % _ALIGNMENT))

    def _packed(self) -> bytes:
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(self._model.Pack(builder), _IDENTIFIER)
        return bytes(builder.Output())


def _tensor_map(tensors: dict[str, int]) -> Sequence[Any]:
    entries = []
    for name, index in tensors.items():
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name, index
        entries.append(entry)
    return entries
