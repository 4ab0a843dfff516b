"""Gemma 3's forward pass in numpy and float64, written down from transformers' modeling_gemma3.py: an oracle that needs
no [live] extra, and in which a test can make the mistakes that others have made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tiny_gemma3 import TinyGemma3

Doubles = NDArray[np.float64]

MODELS = {
    "everything": TinyGemma3(),
    "published period": TinyGemma3(layers="sssssFss", hidden=28, heads=4, kv_heads=2, head_dim=6, ffn=50, window=5),
    "one head each": TinyGemma3(
        layers="sFs", hidden=35, heads=5, kv_heads=5, head_dim=8, query_scalar=8, rope_factor=1.0
    ),
    "full only": TinyGemma3(layers="FFF", ffn=71, rope=321.0),
    "sliding only": TinyGemma3(layers="ssss", window=3, local_rope=17.0),
    "soft cap": TinyGemma3(soft_cap=11.0, kv_heads=3),
    "odd period": TinyGemma3(layers="ssFssFs", rope_factor=3.0, window=9, seed=5),
}
"""Each feature, in models of the most different shapes."""


def tokens(tiny: TinyGemma3, count: int) -> list[int]:
    return [int(i) for i in np.random.default_rng(1).integers(0, tiny.vocab, count)]


@dataclass
class Gemma3Reference:
    """The model of `tiny`. The fields after it are what mistakes change."""

    tiny: TinyGemma3
    norm_offset: float = 1.0
    scale: float = 0.0
    full_factor: float = 0.0
    sliding_factor: float = 1.0
    full_base: float = 0.0
    sliding_base: float = 0.0
    window: int = 0
    rotate_before_norm: bool = False
    embedding_scale: float = 0.0

    def __post_init__(self) -> None:
        tiny = self.tiny
        self.weights: Mapping[str, Doubles] = {n: v.astype(np.float64) for n, v in tiny.weights().items()}
        self.scale = tiny.query_scalar**-0.5
        self.full_factor = tiny.rope_factor
        self.full_base, self.sliding_base = tiny.rope, tiny.local_rope
        self.window = tiny.window
        self.embedding_scale = tiny.hidden**0.5

    def logits(self, ids: Sequence[int]) -> Doubles:
        """float64 [len(ids), vocab]."""
        tiny = self.tiny
        hidden = self.weights["embed_tokens.weight"][list(ids)] * self.embedding_scale
        for index in range(len(tiny.layers)):
            hidden = self._layer(index, hidden)
        logits: Doubles = self._norm(hidden, "norm") @ self.weights["embed_tokens.weight"].T
        return logits if tiny.soft_cap is None else tiny.soft_cap * np.tanh(logits / tiny.soft_cap)

    def _layer(self, index: int, hidden: Doubles) -> Doubles:
        name = f"layers.{index}"
        normed = self._norm(hidden, f"{name}.input_layernorm")
        attended = self._attention(index, normed)
        hidden = hidden + self._norm(attended, f"{name}.post_attention_layernorm")
        normed = self._norm(hidden, f"{name}.pre_feedforward_layernorm")
        gate, up = (normed @ self.weights[f"{name}.mlp.{part}_proj.weight"].T for part in ("gate", "up"))
        down = (_gelu(gate) * up) @ self.weights[f"{name}.mlp.down_proj.weight"].T
        return hidden + self._norm(down, f"{name}.post_feedforward_layernorm")

    def _attention(self, index: int, normed: Doubles) -> Doubles:
        tiny, name = self.tiny, f"layers.{index}.self_attn"
        sliding = tiny.layers[index] == "s"
        length, group = len(normed), tiny.heads // tiny.kv_heads
        q, k, v = (
            (normed @ self.weights[f"{name}.{part}_proj.weight"].T).reshape(length, -1, tiny.head_dim) for part in "qkv"
        )
        q, k = self._prepare(q, f"{name}.q_norm", sliding), self._prepare(k, f"{name}.k_norm", sliding)
        k, v = np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)
        scores = np.einsum("qhd,khd->hqk", q, k) * self.scale
        ahead = np.arange(length)[None] - np.arange(length)[:, None]  # key minus query
        seen = ahead <= 0
        if sliding:
            seen &= ahead > -self.window
        scores = np.where(seen, scores, -np.inf)
        weights = np.exp(scores - scores.max(axis=2, keepdims=True))
        weights /= weights.sum(axis=2, keepdims=True)
        joined = np.einsum("hqk,khd->qhd", weights, v).reshape(length, -1)
        out: Doubles = joined @ self.weights[f"{name}.o_proj.weight"].T
        return out

    def _prepare(self, x: Doubles, norm: str, sliding: bool) -> Doubles:
        """Norm by head, then rotation of halves."""
        if self.rotate_before_norm:
            return self._norm(self._rotate(x, sliding), norm)
        return self._rotate(self._norm(x, norm), sliding)

    def _rotate(self, x: Doubles, sliding: bool) -> Doubles:
        dim = self.tiny.head_dim
        base = self.sliding_base if sliding else self.full_base
        factor = self.sliding_factor if sliding else self.full_factor
        angles = np.arange(len(x))[:, None, None] / factor * base ** (-np.arange(0, dim, 2) / dim)
        a, b = x[..., : dim // 2], x[..., dim // 2 :]
        cos, sin = np.cos(angles), np.sin(angles)
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)

    def _norm(self, x: Doubles, name: str) -> Doubles:
        root = np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + self.tiny.eps)
        normed: Doubles = x / root * (self.norm_offset + self.weights[f"{name}.weight"])
        return normed


def _gelu(x: Doubles) -> Doubles:
    """The tanh approximation."""
    result: Doubles = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    return result
