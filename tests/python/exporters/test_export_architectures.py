"""The seam between the exporters and their architectures: a made-up one registers itself and is written and run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gemlet
import numpy as np
import pytest
from gemlet import _core
from gemlet.exporters import architectures, onnx, tflite
from gemlet.exporters.architecture import Architecture, Forward, State
from gemlet.exporters.attention import Layer, Positions
from gemlet.exporters.graph import Value
from gemlet.exporters.onnx.file import MODEL as ONNX_MODEL
from gemlet.exporters.progress import Progress
from gemlet.exporters.source import EMBEDDING, Source
from gemlet.exporters.tflite.file import MODEL as TFLITE_MODEL

from tiny import Array, Tiny

TINY = Tiny()
IDS = [2, 17, 41, 298, 5]


class Toy(Forward):
    """Logits of the embedding itself; layers remember keys and values, as the files' signatures ask for, and double
    the hidden state."""

    def embed(self, tokens: Value) -> tuple[Value, None]:
        return self.b.rows(self.b.source.matrix(EMBEDDING), tokens), None

    def layer(self, index: int, state: State, positions: Positions) -> Value:
        if self.b.source.config.layers[index].owns_kv:
            self.keys_and_values(index, state, positions)
        return self.b.scale(state.hidden, 2.0)

    def keys_and_values(self, index: int, state: State, positions: Positions) -> None:
        layer = Layer(self.b, index)
        layer.remember(layer.keys(state.hidden, positions), layer.values(state.hidden))

    def logits(self, hidden: Value) -> Value:
        return self.b.linear(hidden, self.b.source.head())


@pytest.fixture
def source(tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    """The tiny model's file, whose architecture is the toy's for one test."""
    monkeypatch.setattr(architectures, "_REGISTRY", dict(architectures._REGISTRY))
    source = Source(tiny_gguf)
    source.architecture = "toy"
    architectures.register(Architecture(name="toy", forward=Toy, litert_lm_type="generic_model"))
    return source


def expected() -> Array:
    embedding = TINY.weights()["embed_tokens.weight"]
    logits: Array = (embedding[IDS] @ embedding.T * 2 ** len(TINY.layers)).astype(np.float32)
    return logits


def test_a_toy_becomes_onnx(source: Source, tmp_path: Path) -> None:
    import onnxruntime

    onnx.build(source).write(tmp_path, {}, Progress())
    session = onnxruntime.InferenceSession(str(tmp_path / ONNX_MODEL))
    empty = np.zeros((1, 1, 0, TINY.head_dim), np.float32)
    feeds: dict[str, Any] = {v.name: empty for v in session.get_inputs() if v.name.startswith("past")}
    feeds |= {"input_ids": np.array([IDS]), "position_ids": np.arange(len(IDS))[None]}
    [logits] = session.run(["logits"], {**feeds, "num_logits_to_keep": np.array(2)})
    np.testing.assert_allclose(logits[0], expected()[-2:], rtol=1e-5, atol=1e-4)


def test_a_toy_becomes_tflite(source: Source, tmp_path: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    tflite.build(source, 16, (4,)).write(tmp_path, {}, Progress())
    decode = Interpreter(str(tmp_path / TFLITE_MODEL)).get_signature_runner("decode")
    feeds = {name: np.zeros(details["shape"], details["dtype"]) for name, details in decode.get_input_details().items()}
    logits = decode(**feeds | {"tokens": np.array([IDS[:1]], np.int32)})["logits"]
    np.testing.assert_allclose(logits[0, 0], expected()[0], rtol=1e-5, atol=1e-4)


def test_caches_have_the_shape_of_their_layer(source: Source, tmp_path: Path) -> None:
    """Layers may differ in their heads: the file's inputs follow each layer."""
    first, *rest = source.config.layers
    source.config = replace(source.config, layers=(replace(first, kv_heads=3, head_dim=4), *rest))

    class Wide(Toy):
        def keys_and_values(self, index: int, state: State, positions: Positions) -> None:
            config = self.b.source.config.layers[index]
            zeros = self.b.scale(self.b.linear(state.hidden, self.b.source.matrix(f"blk.{index}.attn_q.weight")), 0.0)
            width = config.kv_heads * config.head_dim
            shape = (config.kv_heads, -1, config.head_dim)
            keys = self.b.reshape(self.b.slice(zeros, 1, 0, width), shape)
            self.b.remember(index, keys, keys)

    architectures.register(Architecture(name="toy", forward=Wide, litert_lm_type="generic_model"))
    import onnx as library

    onnx.build(source).write(tmp_path, {}, Progress())
    graph = library.load(str(tmp_path / ONNX_MODEL), load_external_data=False).graph
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in graph.input}
    assert shapes["past_key_values.0.key"] == [1, 3, 0, 4]
    assert shapes["past_key_values.1.key"] == [1, 1, 0, 10]


def test_an_architecture_that_is_not_exported_is_named() -> None:
    names = ", ".join(architectures._REGISTRY)
    with pytest.raises(gemlet.UnsupportedError, match=f"architecture 'other' are not exported, only {names}$"):
        architectures.by_name("other")


def test_a_layer_may_leave_its_queries_and_keys_unnormed_and_unturned(source: Source, tmp_path: Path) -> None:
    class Plain(Layer):
        def turned(self, x: Value, norm: str, positions: Positions) -> Value:
            return x

    class Plainly(Toy):
        def layer(self, index: int, state: State, positions: Positions) -> Value:
            layer = Plain(self.b, index)
            if layer.config.owns_kv:
                layer.remember(layer.keys(state.hidden, positions), layer.values(state.hidden))
            return layer.attend(state.hidden, positions)

    architectures.register(Architecture(name="toy", forward=Plainly, litert_lm_type="generic_model"))
    import onnx as library

    onnx.build(source).write(tmp_path, {}, Progress())
    graph = library.load(str(tmp_path / ONNX_MODEL), load_external_data=False).graph
    names = {tensor.name for tensor in graph.initializer}
    assert not [name for name in names if "attn_q_norm" in name or "attn_k_norm" in name]
    turns = {output for node in graph.node if node.op_type in ("Cos", "Sin") for output in node.output}
    assert turns and not [node.name for node in graph.node if turns & set(node.input)]


def test_a_tensor_that_the_file_lacks_is_named(source: Source) -> None:
    with pytest.raises(gemlet.UnsupportedError, match=r"gguf: has no tensor 'blk.0.made_up.weight'.* 'toy' asks for"):
        source.matrix("blk.0.made_up.weight")


def test_a_hyperparameter_that_exports_need_is_named(tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = _core.read_model_file(tiny_gguf)
    del found["hyperparameters"]["rope_theta"]
    monkeypatch.setattr(_core, "read_model_file", lambda path: found)
    with pytest.raises(gemlet.UnsupportedError, match="hyperparameters of 'gemma3n' lack 'rope_theta'"):
        Source(tiny_gguf)
