"""The forward pass of Gemma 3n as a graph, after cpp/model/gemma3n.cpp and transformers' modeling_gemma3n.py, whose
names it keeps. T tokens of one sequence are computed together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .graph import Builder, Value, known
from .source import EMBEDDING, TABLE, Config, LayerConfig, Matrix


def embed(b: Builder, tokens: Value) -> Value:
    """[T] to [T, hidden]: the tokens' rows * sqrt(hidden)."""
    return b.scale(b.rows(b.source.matrix(EMBEDDING), tokens), math.sqrt(b.source.config.hidden_size))


def embed_per_layer(b: Builder, tokens: Value) -> Value:
    """[T] to [T, layers * ple]: the tokens' rows of the per-layer table * sqrt(ple)."""
    return b.scale(b.rows(b.source.matrix(TABLE), tokens), math.sqrt(b.source.config.hidden_size_per_layer_input))


@dataclass(frozen=True)
class Positions:
    """Where tokens stand, by whether a layer is sliding: the rotary angles' cos and sin, [T, 1, head_dim / 2], and the
    masks, [group * T, S], that are added to attention scores."""

    angles: dict[bool, tuple[Value, Value]]
    masks: dict[bool, Value]

    @classmethod
    def of(cls, b: Builder, queries: Value, keys: Value) -> Positions:
        """From the positions of the tokens to compute, [T], and of all tokens in the KV cache, [S]."""
        config = b.source.config
        angles = {}
        for sliding, theta in ((False, config.rope_theta), (True, config.rope_local_base_freq)):
            inverse = 1.0 / np.float32(theta) ** (np.arange(0, config.head_dim, 2, dtype=np.float32) / config.head_dim)
            frequencies = b.constant(f"rope_frequencies_{theta:g}", inverse.astype(np.float32).reshape(1, 1, -1))
            angle = b.mul(b.reshape(queries, (-1, 1, 1)), frequencies)
            angles[sliding] = (b.cos(angle), b.sin(angle))
        return cls(angles, cls.attention_masks(b, queries, keys))

    @staticmethod
    def attention_masks(b: Builder, queries: Value, keys: Value) -> dict[bool, Value]:
        """0 where a key is seen, and at most -1e9 where it is not: after the softmax exactly nothing."""
        config = b.source.config
        ahead = b.sub(b.reshape(keys, (1, -1)), b.reshape(queries, (-1, 1)))
        future = b.relu(ahead)
        past = b.relu(b.scale(b.add(ahead, b.scalar(config.sliding_window - 1)), -1.0))
        group = config.num_attention_heads // config.num_key_value_heads
        return {
            sliding: b.concat([b.scale(hidden, -1e9)] * group, 0)
            for sliding, hidden in ((False, future), (True, b.add(future, past)))
        }


def per_layer_inputs(b: Builder, embedding: Value, per_layer_embedding: Value) -> Value:
    """[T, layers * ple]: (norm(projection / sqrt(hidden)) + embedding) / sqrt(2)."""
    config = b.source.config
    ple = config.hidden_size_per_layer_input
    projection = b.linear(embedding, b.source.matrix("per_layer_model_proj.weight"))
    parts = b.reshape(b.scale(projection, 1 / math.sqrt(config.hidden_size)), (-1, len(config.layers), ple))
    normed = b.rms_norm(parts, b.vector("per_layer_proj_norm.weight"), config.rms_norm_eps)
    return b.scale(b.add(b.reshape(normed, (-1, len(config.layers) * ple)), per_layer_embedding), 1 / math.sqrt(2))


def altup_expand(b: Builder, embedding: Value) -> Value:
    """The streams [T, altup, hidden]: the embedding, and projections of it brought to its magnitude."""
    config = b.source.config
    streams = [embedding]
    for i in range(config.altup_num_inputs - 1):
        projected = b.linear(embedding, b.source.matrix("altup_proj.weight", i))
        streams.append(_match_magnitude(b, embedding, projected))
    return b.concat([b.reshape(stream, (-1, 1, config.hidden_size)) for stream in streams], 1)


def altup_collapse(b: Builder, streams: Value) -> Value:
    """[T, hidden]: the norm of the mean of stream 0 and the others unembedded, each brought to its magnitude."""
    config = b.source.config
    first = _stream(b, streams, 0)
    total = first
    for i in range(1, config.altup_num_inputs):
        projected = b.linear(_stream(b, streams, i), b.source.matrix("altup_unembd_proj.weight", i - 1))
        total = b.add(total, _match_magnitude(b, first, projected))
    mean = b.scale(total, 1 / config.altup_num_inputs)
    return b.rms_norm(mean, b.vector("output_norm.weight"), config.rms_norm_eps)


def logits(b: Builder, streams: Value) -> Value:
    """[T, vocab] = cap * tanh(head / cap)."""
    return b.soft_cap(b.linear(altup_collapse(b, streams), b.source.head()), b.source.config.final_logit_softcapping)


class Layer:
    """One layer of the model."""

    def __init__(self, b: Builder, index: int) -> None:
        self.b = b
        self.index = index
        self.config: Config = b.source.config
        self.layer: LayerConfig = self.config.layers[index]

    def __call__(self, streams: Value, per_layer_inputs: Value, positions: Positions) -> Value:
        """Streams to streams, [T, altup, hidden]."""
        b = self.b
        predictions, active = self.altup_predict(streams)
        normed = self._norm(active, "attn_norm")
        if self.layer.owns_kv:
            self.keys_and_values(normed, positions)
        attended = self._norm(self.attention(normed, positions), "post_attention_norm")
        residual = b.scale(b.add(b.add(active, attended), self.laurel(normed)), 1 / math.sqrt(2))
        residual = b.add(residual, self.feed_forward(self._norm(residual, "ffn_norm")))
        corrected = self.altup_correct(predictions, active, residual)
        return self.per_layer_gate(corrected, per_layer_inputs)

    def only_keys_and_values(self, streams: Value, positions: Positions) -> None:
        """What is left of the last layer that owns keys and values where nobody wants logits."""
        _, active = self.altup_predict(streams)
        self.keys_and_values(self._norm(active, "attn_norm"), positions)

    def altup_predict(self, streams: Value) -> tuple[Value, Value]:
        """predictions = streams + coefs . streams; and the active one of them, [T, hidden]."""
        b, n = self.b, self.config.altup_num_inputs
        modalities = self._route(_stream(b, streams, self.config.altup_active_idx))
        coefs = b.matmul(modalities, self._vector("altup_predict_coef"), transpose_b=True)
        predictions = b.add(streams, b.matmul(b.reshape(coefs, (-1, n, n)), streams))
        return predictions, _stream(b, predictions, self.config.altup_active_idx)

    def keys_and_values(self, normed: Value, positions: Positions) -> None:
        """Computes and remembers them."""
        b, dim, heads = self.b, self.config.head_dim, self.config.num_key_value_heads
        keys = b.reshape(b.linear(normed, self._matrix("attn_k")), (-1, heads, dim))
        keys = b.rope(self._norm(keys, "attn_k_norm"), *positions.angles[self.layer.sliding])
        values = b.reshape(b.linear(normed, self._matrix("attn_v")), (-1, heads, dim))
        values = b.rms_norm(values, None, self.config.rms_norm_eps)
        b.remember(self.index, b.transpose(keys, (1, 0, 2)), b.transpose(values, (1, 0, 2)))

    def attention(self, normed: Value, positions: Positions) -> Value:
        b, dim = self.b, self.config.head_dim
        heads, kv_heads = self.config.num_attention_heads, self.config.num_key_value_heads
        queries = b.reshape(b.linear(normed, self._matrix("attn_q")), (-1, heads, dim))
        queries = b.rope(self._norm(queries, "attn_q_norm"), *positions.angles[self.layer.sliding])
        # The queries that share a key stand one below the other: [kv_heads, group * T, dim].
        queries = b.reshape(b.transpose(queries, (1, 0, 2)), (kv_heads, -1, dim))
        keys, values = b.remembered(self.layer.kv_layer)
        scores = b.add(b.matmul(queries, keys, transpose_b=True), positions.masks[self.layer.sliding])
        attended = b.reshape(b.matmul(b.softmax(scores), values), (heads, -1, dim))
        joined = b.reshape(b.transpose(attended, (1, 0, 2)), (-1, heads * dim))
        return b.linear(joined, self._matrix("attn_output"))

    def laurel(self, normed: Value) -> Value:
        """normed + norm(right(left(normed)))."""
        b = self.b
        low = b.linear(normed, self._matrix("laurel_l"))
        return b.add(normed, self._norm(b.linear(low, self._matrix("laurel_r")), "laurel_post_norm"))

    def feed_forward(self, normed: Value) -> Value:
        """norm(down(gelu(top-k(gate)) * up))."""
        b = self.b
        gate = b.linear(normed, self._matrix("ffn_gate"))
        if self.layer.sparsity_scale is not None:
            gate = self._gaussian_topk(gate, self.layer.sparsity_scale)
        hidden = b.mul(b.gelu(gate), b.linear(normed, self._matrix("ffn_up")))
        return self._norm(b.linear(hidden, self._matrix("ffn_down")), "post_ffw_norm")

    def altup_correct(self, predictions: Value, active: Value, residual: Value) -> Value:
        """predictions + (1 + coefs) * (residual - active)."""
        b, n = self.b, self.config.altup_num_inputs
        modalities = self._route(residual)
        coefs = b.matmul(modalities, self._vector("altup_correct_coef"), transpose_b=True)
        coefs = b.reshape(b.add(coefs, b.scalar(1.0)), (-1, n, 1))
        innovation = b.reshape(b.sub(residual, active), (-1, 1, self.config.hidden_size))
        return b.add(predictions, b.mul(coefs, innovation))

    def per_layer_gate(self, streams: Value, per_layer_inputs: Value) -> Value:
        """streams[1:] += norm(projection(gelu(gate(active * scale)) * per-layer input)); stream 0 is left alone."""
        b, n, ple = self.b, self.config.altup_num_inputs, self.config.hidden_size_per_layer_input
        active = b.mul(_stream(b, streams, self.config.altup_active_idx), self._vector("altup_correct_scale"))
        inputs = b.slice(per_layer_inputs, 1, self.index * ple, (self.index + 1) * ple)
        gated = b.mul(b.gelu(b.linear(active, self._matrix("inp_gate"))), inputs)
        added = self._norm(b.linear(gated, self._matrix("proj")), "post_norm")
        where = b.constant("all_streams_but_the_first", (np.arange(n) > 0).astype(np.float32).reshape(1, n, 1))
        return b.add(streams, b.mul(b.reshape(added, (-1, 1, self.config.hidden_size)), where))

    def _gaussian_topk(self, gate: Value, scale: float) -> Value:
        """relu(gate - (mean + scale * population standard deviation))."""
        b = self.b
        centred = b.sub(gate, b.mean(gate))
        return b.relu(b.sub(centred, b.scale(b.rms(centred), scale)))

    def _route(self, x: Value) -> Value:
        """modalities [T, altup] = tanh(router . norm(x) / hidden)."""
        b = self.b
        normed = b.scale(self._norm(x, "altup_router_norm"), 1 / self.config.hidden_size)
        return b.tanh(b.matmul(normed, self._vector("altup_router"), transpose_b=True))

    def _norm(self, x: Value, name: str) -> Value:
        return self.b.rms_norm(x, self._vector(name), self.config.rms_norm_eps)

    def _matrix(self, name: str) -> Matrix:
        return self.b.source.matrix(f"blk.{self.index}.{name}.weight")

    def _vector(self, name: str) -> Value:
        return self.b.vector(f"blk.{self.index}.{name}.weight")


def _stream(b: Builder, streams: Value, index: int) -> Value:
    """[T, hidden] out of [T, altup, hidden]."""
    return b.reshape(b.slice(streams, 1, index, index + 1), (-1, known(streams.shape[2])))


def _match_magnitude(b: Builder, target: Value, x: Value) -> Value:
    """x * rms(target) / rms(x), the latter's mean square clamped at 1e-5 before the root."""
    actual = b.sqrt(b.maximum(b.mean(b.square(x)), b.scalar(1e-5)))
    return b.mul(x, b.div(b.rms(target), actual))
