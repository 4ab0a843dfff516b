"""Attention as all architectures have it: positions, masks, and grouped queries over remembered keys and values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from .graph import Builder, Value
from .source import LayerConfig, Matrix

T = TypeVar("T")


@dataclass(frozen=True)
class Positions:
    """Where tokens stand. `angles`: cos and sin of the rotary angles, [T, 1, head_dim / 2], for each kind of rotation;
    `masks`: what is added to attention scores, [group * T, S], for each width of a window and size of a group."""

    angles: dict[tuple[float, float, int], tuple[Value, Value]]
    masks: dict[tuple[int, int], Value]

    @classmethod
    def of(cls, b: Builder, queries: Value, keys: Value) -> Positions:
        """From the positions of the tokens to compute, [T], and of all tokens in the KV cache, [S]."""
        layers = b.source.config.layers
        angles = {}
        for rotation in _distinct(_rotation(layer) for layer in layers):
            base, factor, dim = rotation
            inverse = 1.0 / np.float32(base) ** (np.arange(0, dim, 2, dtype=np.float32) / dim) / np.float32(factor)
            name = f"rope_frequencies_{base:g}_{factor:g}_{dim}"
            frequencies = b.constant(name, inverse.astype(np.float32).reshape(1, 1, -1))
            angle = b.mul(b.reshape(queries, (-1, 1, 1)), frequencies)
            angles[rotation] = (b.cos(angle), b.sin(angle))
        return cls(angles, cls.attention_masks(b, queries, keys))

    @staticmethod
    def attention_masks(b: Builder, queries: Value, keys: Value) -> dict[tuple[int, int], Value]:
        """0 where a key is seen, and at most -1e9 where it is not: after the softmax exactly nothing."""
        heads = b.source.config.num_attention_heads
        ahead = b.sub(b.reshape(keys, (1, -1)), b.reshape(queries, (-1, 1)))
        future = b.relu(ahead)
        masks = {}
        for window, group in _distinct((layer.window, heads // layer.kv_heads) for layer in b.source.config.layers):
            hidden = future
            if window:
                hidden = b.add(future, b.relu(b.scale(b.add(ahead, b.scalar(window - 1)), -1.0)))
            masks[window, group] = b.concat([b.scale(hidden, -1e9)] * group, 0)
        return masks

    def rotate(self, b: Builder, x: Value, layer: LayerConfig) -> Value:
        """Turns queries or keys, [T, heads, head_dim], by their positions."""
        return b.rope(x, *self.angles[_rotation(layer)])


class Layer:
    """One layer's attention, and its tensors by their short names."""

    def __init__(self, b: Builder, index: int) -> None:
        self.b = b
        self.index = index
        self.heads = b.source.config.num_attention_heads
        self.config = b.source.config.layers[index]

    def queries(self, normed: Value, positions: Positions) -> Value:
        """Normed and rotated, [T, heads, head_dim]."""
        return self.turned(self._heads_of(normed, "q"), "attn_q_norm", positions)

    def keys(self, normed: Value, positions: Positions) -> Value:
        """Normed and rotated, [T, kv_heads, head_dim]."""
        return self.turned(self._heads_of(normed, "k"), "attn_k_norm", positions)

    def values(self, normed: Value) -> Value:
        """As they are, [T, kv_heads, head_dim]."""
        return self._heads_of(normed, "v")

    def turned(self, x: Value, norm: str, positions: Positions) -> Value:
        """Queries or keys, [T, heads, head_dim], as attention compares them. To be overridden where they are not
        normed, or not rotated in every layer."""
        return positions.rotate(self.b, self.norm(x, norm), self.config)

    def remember(self, keys: Value, values: Value) -> None:
        """Append to the layer's cache."""
        self.b.remember(self.index, self.b.transpose(keys, (1, 0, 2)), self.b.transpose(values, (1, 0, 2)))

    def attend(self, normed: Value, positions: Positions, scale: float = 1.0) -> Value:
        """[T, hidden]: the heads' attention over the keys and values that the layer reads, projected."""
        b, dim = self.b, self.config.head_dim
        queries = self.queries(normed, positions)
        if scale != 1.0:
            queries = b.scale(queries, scale)
        # The queries that share a key stand one below the other: [kv_heads, group * T, dim].
        queries = b.reshape(b.transpose(queries, (1, 0, 2)), (self.config.kv_heads, -1, dim))
        keys, values = b.remembered(self.config.kv_layer)
        mask = positions.masks[self.config.window, self.heads // self.config.kv_heads]
        scores = b.add(b.matmul(queries, keys, transpose_b=True), mask)
        attended = b.reshape(b.matmul(b.softmax(scores), values), (self.heads, -1, dim))
        joined = b.reshape(b.transpose(attended, (1, 0, 2)), (-1, self.heads * dim))
        return b.linear(joined, self.matrix("attn_output"))

    def norm(self, x: Value, name: str) -> Value:
        """RMS norm by one of the layer's weights."""
        return self.b.rms_norm(x, self.vector(name), self.b.source.config.rms_norm_eps)

    def projection(self, part: Literal["q", "k", "v"]) -> Matrix:
        """The matrix of queries, keys or values, which some files store fused."""
        fused = f"blk.{self.index}.attn_qkv.weight"
        if fused not in self.b.source.tensors:
            return self.matrix(f"attn_{part}")
        own, shared = self.heads * self.config.head_dim, self.config.kv_heads * self.config.head_dim
        return self.b.source.fused(fused, (own, shared, shared))["qkv".index(part)]

    def matrix(self, name: str) -> Matrix:
        """A matrix of the layer."""
        return self.b.source.matrix(f"blk.{self.index}.{name}.weight")

    def vector(self, name: str) -> Value:
        """A small tensor of the layer."""
        return self.b.vector(f"blk.{self.index}.{name}.weight")

    def _heads_of(self, normed: Value, part: Literal["q", "k", "v"]) -> Value:
        """Queries, keys or values as their matrix gives them, [T, heads, head_dim]."""
        heads = self.heads if part == "q" else self.config.kv_heads
        return self.b.reshape(self.b.linear(normed, self.projection(part)), (-1, heads, self.config.head_dim))


def _rotation(layer: LayerConfig) -> tuple[float, float, int]:
    return layer.rope_base, layer.rope_factor, layer.head_dim


def _distinct(values: Iterable[T]) -> list[T]:
    return list(dict.fromkeys(values))
