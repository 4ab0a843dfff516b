"""A made-up architecture, whole: how it is converted, computed and exported. Nothing outside this file knows of it.

Each layer adds attention over normed and rotated queries and keys to the hidden state; there is nothing else, not even
a norm of the hidden state.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np
from gemlet import _core
from gemlet.conversion.architecture import Architecture as Conversion
from gemlet.conversion.architectures import register as register_conversion
from gemlet.conversion.config import ConfigFile, TextConfig
from gemlet.conversion.planned import PlannedTensor, one
from gemlet.exported.runner import Want
from gemlet.exporters.architecture import Architecture as Export
from gemlet.exporters.architecture import Forward, State
from gemlet.exporters.architectures import register as register_export
from gemlet.exporters.attention import Layer, Positions
from gemlet.exporters.graph import Value

from tiny import Array, Draw, tiny_tokenizer, write_safetensors

NAME: Final = "toy"
EPSILON: Final = 1e-6
BASE: Final = 1e4

# The checkpoint.


@dataclass(frozen=True)
class Toy:
    """Sizes of a random model."""

    layers: int = 3
    hidden: int = 24
    heads: int = 2
    head_dim: int = 8
    vocab: int = 299

    def weights(self) -> dict[str, Array]:
        draw = Draw(11)
        width = self.heads * self.head_dim
        tensors = {"embed_tokens.weight": draw.normal((self.vocab, self.hidden), 0.5)}
        for i in range(self.layers):
            tensors |= {
                f"layers.{i}.q.weight": draw.linear(width, self.hidden),
                f"layers.{i}.k.weight": draw.linear(self.head_dim, self.hidden),
                f"layers.{i}.v.weight": draw.linear(self.head_dim, self.hidden),
                f"layers.{i}.o.weight": draw.linear(self.hidden, width),
                f"layers.{i}.q_norm.weight": draw.norm(self.head_dim),
                f"layers.{i}.k_norm.weight": draw.norm(self.head_dim),
            }
        return tensors

    def write(self, folder: Path) -> Path:
        folder.mkdir()
        config = {
            "architectures": ["ToyForCausalLM"],
            "model_type": NAME,
            "vocab_size": self.vocab,
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "head_dim": self.head_dim,
            "eos_token_id": 1,
            "bos_token_id": 2,
        }
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "tokenizer.model").write_bytes(tiny_tokenizer().serialize())
        write_safetensors(folder / "model.safetensors", self.weights())
        return folder


# Conversion.


def read_config(file: ConfigFile) -> TextConfig:
    fields = file.fields()
    layers = fields.integer("num_hidden_layers")
    config = TextConfig(
        name=file.name,
        vocab_size=fields.integer("vocab_size"),
        hidden_size=fields.integer("hidden_size"),
        num_hidden_layers=layers,
        num_attention_heads=fields.integer("num_attention_heads"),
        num_key_value_heads=1,
        head_dim=fields.integer("head_dim"),
        sliding_window=0,
        max_position_embeddings=128,
        rms_norm_eps=EPSILON,
        tie_word_embeddings=True,
        intermediate_size=(0,) * layers,
        layer_types=("full_attention",) * layers,
        **file.special_tokens(),
    )
    fields.raise_problems(file.path)
    return config


def tensors(config: TextConfig) -> Iterator[PlannedTensor]:
    hidden, dim = config.hidden_size, config.head_dim
    width = config.num_attention_heads * dim
    yield one("token_embd", "embed_tokens.weight", config.vocab_size, hidden)
    for i in range(config.num_hidden_layers):
        yield one(f"blk.{i}.attn_q", f"layers.{i}.q.weight", width, hidden)
        yield one(f"blk.{i}.attn_k", f"layers.{i}.k.weight", dim, hidden)
        yield one(f"blk.{i}.attn_v", f"layers.{i}.v.weight", dim, hidden)
        yield one(f"blk.{i}.attn_output", f"layers.{i}.o.weight", hidden, width)
        yield one(f"blk.{i}.attn_q_norm", f"layers.{i}.q_norm.weight", dim)
        yield one(f"blk.{i}.attn_k_norm", f"layers.{i}.k_norm.weight", dim)


def add_metadata(writer: gguf.GGUFWriter, config: TextConfig) -> None:
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    writer.add_key_length(config.head_dim)
    writer.add_context_length(config.max_position_embeddings)


# Computation, by numpy.


class Cache:
    """Keys and values of each layer, [positions, head_dim]."""

    def __init__(self, layers: list[tuple[Array, Array]]) -> None:
        self.layers = layers

    @property
    def length(self) -> int:
        return len(self.layers[0][0])

    def truncate(self, length: int) -> None:
        self.layers = [(keys[:length], values[:length]) for keys, values in self.layers]

    def copy(self) -> Cache:
        return Cache(list(self.layers))


class Runner:
    """The forward pass of a GGUF file."""

    runtime = "numpy"
    threads = 1

    def __init__(self, path: Path, tokens: int) -> None:
        reader = gguf.GGUFReader(path)
        self.weights = {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in reader.tensors}

        def number(key: str) -> int:
            return int(reader.fields[f"{NAME}.{key}"].contents())

        self.layers, self.heads = number("block_count"), number("attention.head_count")
        self.head_dim, self.context = number("attention.key_length"), number("context_length")
        self.embedding = self.weights["token_embd.weight"][:tokens]

    def description(self) -> dict[str, Any]:
        """What the core and the exporters have to know."""
        sizes = {"kv_heads": 1, "head_dim": self.head_dim, "window": 0, "intermediate_size": 0}
        return {
            "vocabulary": len(self.embedding),
            "hidden_size": self.embedding.shape[1],
            "layers": self.layers,
            "trained_context": self.context,
            "layer_info": [{"index": i, "kv_source": i, **sizes} for i in range(self.layers)],
            "hyperparameters": {
                "vocab_size": len(self.embedding),
                "hidden_size": self.embedding.shape[1],
                "num_attention_heads": self.heads,
                "max_position_embeddings": self.context,
                "rms_norm_eps": EPSILON,
                "rope_theta": BASE,
            },
        }

    def empty(self) -> Cache:
        nothing = np.zeros((0, self.head_dim), np.float32)
        return Cache([(nothing, nothing)] * self.layers)

    def run(self, cache: Cache, tokens: Sequence[int], want: Want) -> Array:
        positions = np.arange(cache.length, cache.length + len(tokens))
        hidden = self.embedding[list(tokens)]
        for i in range(self.layers):
            hidden = hidden + self.attention(cache, i, hidden, positions)
        rows = {"all": hidden, "last": hidden[-1:], "none": hidden[:0]}[want]
        return np.asarray(rows @ self.embedding.T, np.float32)

    def attention(self, cache: Cache, i: int, x: Array, positions: np.ndarray[Any, Any]) -> Array:
        def project(name: str) -> Array:
            return np.asarray(x @ self.weights[f"blk.{i}.attn_{name}.weight"].T, np.float32)

        queries = project("q").reshape(len(x), self.heads, self.head_dim)
        queries = rotated(normed(queries, self.weights[f"blk.{i}.attn_q_norm.weight"]), positions[:, None])
        keys = rotated(normed(project("k"), self.weights[f"blk.{i}.attn_k_norm.weight"]), positions)
        keys = np.concatenate([cache.layers[i][0], keys])
        values = np.concatenate([cache.layers[i][1], project("v")])
        cache.layers[i] = keys, values
        scores = np.einsum("thd,sd->ths", queries, keys)
        scores = np.where(np.arange(len(keys)) > positions[:, None, None], -np.inf, scores)
        weights = np.exp(scores - scores.max(axis=2, keepdims=True))
        weights /= weights.sum(axis=2, keepdims=True)
        attended = np.einsum("ths,sd->thd", weights, values).reshape(len(x), -1)
        return np.asarray(attended @ self.weights[f"blk.{i}.attn_output.weight"].T, np.float32)


def normed(x: Array, weight: Array) -> Array:
    return np.asarray(x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + EPSILON) * weight, np.float32)


def rotated(x: Array, positions: np.ndarray[Any, Any]) -> Array:
    half = x.shape[-1] // 2
    angles = positions[..., None] / BASE ** (np.arange(half) / half)
    a, b = x[..., :half], x[..., half:]
    turned = [a * np.cos(angles) - b * np.sin(angles), b * np.cos(angles) + a * np.sin(angles)]
    return np.concatenate(turned, axis=-1).astype(np.float32)


# Export.


class ToyForward(Forward):
    """The same in a builder's operations."""

    def embed(self, tokens: Value) -> tuple[Value, None]:
        return self.b.rows(self.b.source.embedding(), tokens), None

    def layer(self, index: int, state: State, positions: Positions) -> Value:
        self.keys_and_values(index, state, positions)
        return self.b.add(state.hidden, Layer(self.b, index).attend(state.hidden, positions))

    def keys_and_values(self, index: int, state: State, positions: Positions) -> None:
        layer = Layer(self.b, index)
        layer.remember(layer.keys(state.hidden, positions), layer.values(state.hidden))

    def logits(self, hidden: Value) -> Value:
        return self.b.linear(hidden, self.b.source.head())


def register() -> None:
    """All that has to be said for a GGUF file, a checkpoint and an export of the architecture."""
    register_conversion(
        Conversion(
            name=NAME,
            title="Toy",
            classes=("ToyForCausalLM",),
            model_types=(NAME,),
            outside=(),
            read_config=read_config,
            tensors=tensors,
            add_metadata=add_metadata,
            roles={},
        )
    )
    register_export(Export(name=NAME, forward=ToyForward, litert_lm_type="generic_model"))

    def load(path: Path, tokens: int) -> tuple[Runner, dict[str, Any]]:
        runner = Runner(path, tokens)
        return runner, runner.description()

    _core.register_architecture(NAME, load)
