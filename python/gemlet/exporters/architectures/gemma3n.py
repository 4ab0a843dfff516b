"""The forward pass of Gemma 3n as a graph, after cpp/model/gemma3n.cpp and transformers' modeling_gemma3n.py, whose
names it keeps. T tokens of one sequence are computed together.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any, Final

import numpy as np

from gemlet.exporters.architecture import Architecture, Embedded, Forward, State
from gemlet.exporters.attention import Layer, Positions
from gemlet.exporters.graph import Builder, Value, known
from gemlet.exporters.source import TABLE, Config, decimal


class Gemma3n(Forward):
    """The hidden states are AltUp's streams, [T, altup, hidden]; besides, each layer reads its part of the per-layer
    inputs, [T, layers * ple]."""

    def __init__(self, b: Builder) -> None:
        super().__init__(b)
        config = b.source.config
        self.hidden = config.hidden_size
        self.layers = len(config.layers)
        self.ple = int(config.own["hidden_size_per_layer_input"])
        self.streams = int(config.own["altup_num_inputs"])

    def embed(self, tokens: Value) -> Embedded:
        b = self.b
        embedding = b.scale(b.rows(b.source.embedding(), tokens), math.sqrt(self.hidden))
        return embedding, b.scale(b.rows(b.source.matrix(TABLE), tokens), math.sqrt(self.ple))

    def begin(self, embedded: Embedded) -> Embedded:
        embedding, table = embedded
        assert table is not None
        inputs = self._per_layer_inputs(embedding, table)
        return self._altup_expand(embedding), inputs

    def layer(self, index: int, state: State, positions: Positions) -> Value:
        assert state.inputs is not None
        return Gemma3nLayer(self.b, index)(state.hidden, state.inputs, positions)

    def keys_and_values(self, index: int, state: State, positions: Positions) -> None:
        Gemma3nLayer(self.b, index).only_keys_and_values(state.hidden, positions)

    def logits(self, hidden: Value) -> Value:
        """[T, vocab] = cap * tanh(head / cap)."""
        b = self.b
        cap = float(b.source.config.own["final_logit_softcapping"])
        return b.soft_cap(b.linear(self._altup_collapse(hidden), b.source.head()), cap)

    def _per_layer_inputs(self, embedding: Value, table: Value) -> Value:
        """[T, layers * ple]: (norm(projection / sqrt(hidden)) + row of the table) / sqrt(2)."""
        b = self.b
        projection = b.linear(embedding, b.source.matrix("per_layer_model_proj.weight"))
        parts = b.reshape(b.scale(projection, 1 / math.sqrt(self.hidden)), (-1, self.layers, self.ple))
        normed = b.rms_norm(parts, b.vector("per_layer_proj_norm.weight"), b.source.config.rms_norm_eps)
        return b.scale(b.add(b.reshape(normed, (-1, self.layers * self.ple)), table), 1 / math.sqrt(2))

    def _altup_expand(self, embedding: Value) -> Value:
        """The streams: the embedding, and projections of it brought to its magnitude."""
        b = self.b
        streams = [embedding]
        for i in range(self.streams - 1):
            projected = b.linear(embedding, b.source.matrix("altup_proj.weight", i))
            streams.append(_match_magnitude(b, embedding, projected))
        return b.concat([b.reshape(stream, (-1, 1, self.hidden)) for stream in streams], 1)

    def _altup_collapse(self, streams: Value) -> Value:
        """[T, hidden]: the norm of the mean of stream 0 and the others unembedded, each brought to its magnitude."""
        b = self.b
        first = _stream(b, streams, 0)
        total = first
        for i in range(1, self.streams):
            projected = b.linear(_stream(b, streams, i), b.source.matrix("altup_unembd_proj.weight", i - 1))
            total = b.add(total, _match_magnitude(b, first, projected))
        mean = b.scale(total, 1 / self.streams)
        return b.rms_norm(mean, b.vector("output_norm.weight"), b.source.config.rms_norm_eps)


class Gemma3nLayer(Layer):
    """One layer of the model."""

    def __init__(self, b: Builder, index: int) -> None:
        super().__init__(b, index)
        config = b.source.config
        self.hidden = config.hidden_size
        self.ple = int(config.own["hidden_size_per_layer_input"])
        self.streams = int(config.own["altup_num_inputs"])
        self.active = int(config.own["altup_active_idx"])

    def __call__(self, streams: Value, per_layer_inputs: Value, positions: Positions) -> Value:
        """Streams to streams, [T, altup, hidden]."""
        b = self.b
        predictions, active = self.altup_predict(streams)
        normed = self.norm(active, "attn_norm")
        if self.config.owns_kv:
            self.keys_and_values(normed, positions)
        attended = self.norm(self.attend(normed, positions), "post_attention_norm")
        residual = b.scale(b.add(b.add(active, attended), self.laurel(normed)), 1 / math.sqrt(2))
        residual = b.add(residual, self.feed_forward(self.norm(residual, "ffn_norm")))
        corrected = self.altup_correct(predictions, active, residual)
        return self.per_layer_gate(corrected, per_layer_inputs)

    def only_keys_and_values(self, streams: Value, positions: Positions) -> None:
        """The part of the layer that its keys and values depend on."""
        _, active = self.altup_predict(streams)
        self.keys_and_values(self.norm(active, "attn_norm"), positions)

    def altup_predict(self, streams: Value) -> tuple[Value, Value]:
        """predictions = streams + coefs . streams; and the active one of them, [T, hidden]."""
        b, n = self.b, self.streams
        modalities = self._route(_stream(b, streams, self.active))
        coefs = b.matmul(modalities, self.vector("altup_predict_coef"), transpose_b=True)
        predictions = b.add(streams, b.matmul(b.reshape(coefs, (-1, n, n)), streams))
        return predictions, _stream(b, predictions, self.active)

    def keys_and_values(self, normed: Value, positions: Positions) -> None:
        """Computes and remembers them. Values get a norm without a weight."""
        keys = self.keys(normed, positions)
        self.remember(keys, self.b.rms_norm(self.values(normed), None, self.b.source.config.rms_norm_eps))

    def laurel(self, normed: Value) -> Value:
        """normed + norm(right(left(normed)))."""
        b = self.b
        low = b.linear(normed, self.matrix("laurel_l"))
        return b.add(normed, self.norm(b.linear(low, self.matrix("laurel_r")), "laurel_post_norm"))

    def feed_forward(self, normed: Value) -> Value:
        """norm(down(gelu(top-k(gate)) * up))."""
        b = self.b
        gate = b.linear(normed, self.matrix("ffn_gate"))
        cutoff = float(b.source.config.own["activation_sparsity_scale"][self.index])
        if math.isfinite(cutoff):
            gate = self._gaussian_topk(gate, cutoff)
        hidden = b.mul(b.gelu(gate), b.linear(normed, self.matrix("ffn_up")))
        return self.norm(b.linear(hidden, self.matrix("ffn_down")), "post_ffw_norm")

    def altup_correct(self, predictions: Value, active: Value, residual: Value) -> Value:
        """predictions + (1 + coefs) * (residual - active)."""
        b, n = self.b, self.streams
        modalities = self._route(residual)
        coefs = b.matmul(modalities, self.vector("altup_correct_coef"), transpose_b=True)
        coefs = b.reshape(b.add(coefs, b.scalar(1.0)), (-1, n, 1))
        innovation = b.reshape(b.sub(residual, active), (-1, 1, self.hidden))
        return b.add(predictions, b.mul(coefs, innovation))

    def per_layer_gate(self, streams: Value, per_layer_inputs: Value) -> Value:
        """streams[1:] += norm(projection(gelu(gate(active * scale)) * per-layer input)); stream 0 is left alone."""
        b, n, ple = self.b, self.streams, self.ple
        active = b.mul(_stream(b, streams, self.active), self.vector("altup_correct_scale"))
        inputs = b.slice(per_layer_inputs, 1, self.index * ple, (self.index + 1) * ple)
        gated = b.mul(b.gelu(b.linear(active, self.matrix("inp_gate"))), inputs)
        added = self.norm(b.linear(gated, self.matrix("proj")), "post_norm")
        where = b.constant("all_streams_but_the_first", (np.arange(n) > 0).astype(np.float32).reshape(1, n, 1))
        return b.add(streams, b.mul(b.reshape(added, (-1, 1, self.hidden)), where))

    def _gaussian_topk(self, gate: Value, scale: float) -> Value:
        """relu(gate - (mean + scale * population standard deviation))."""
        b = self.b
        centred = b.sub(gate, b.mean(gate))
        return b.relu(b.sub(centred, b.scale(b.rms(centred), scale)))

    def _route(self, x: Value) -> Value:
        """modalities [T, altup] = tanh(router . norm(x) / hidden)."""
        b = self.b
        normed = b.scale(self.norm(x, "altup_router_norm"), 1 / self.hidden)
        return b.tanh(b.matmul(normed, self.vector("altup_router"), transpose_b=True))


def _stream(b: Builder, streams: Value, index: int) -> Value:
    """[T, hidden] out of [T, altup, hidden]."""
    return b.reshape(b.slice(streams, 1, index, index + 1), (-1, known(streams.shape[2])))


def _match_magnitude(b: Builder, target: Value, x: Value) -> Value:
    """x * rms(target) / rms(x), the latter's mean square clamped at 1e-5 before the root."""
    actual = b.sqrt(b.maximum(b.mean(b.square(x)), b.scalar(1e-5)))
    return b.mul(x, b.div(b.rms(target), actual))


def transformers_config(config: Config) -> dict[str, Any]:
    """The fields of transformers' Gemma3nTextConfig."""
    names = (
        *("intermediate_size", "vocab_size_per_layer_input", "hidden_size_per_layer_input", "num_kv_shared_layers"),
        *("laurel_rank", "altup_num_inputs", "altup_active_idx"),
    )
    return {
        "architectures": ["Gemma3nForCausalLM"],
        "model_type": "gemma3n_text",
        **config.common_fields(),
        **{name: config.own[name] for name in names},
        "altup_correct_scale": True,  # files without the scale hold ones
        "final_logit_softcapping": decimal(config.own["final_logit_softcapping"]),
        "activation_sparsity_pattern": [_sparsity(scale) for scale in config.own["activation_sparsity_scale"]],
    }


def _sparsity(scale: float) -> float:
    """The share of a layer's activations that its cutoff, in standard deviations above the mean, leaves out."""
    return round(NormalDist().cdf(scale), 6) if math.isfinite(scale) else 0.0


ARCHITECTURE: Final = Architecture(
    name="gemma3n", forward=Gemma3n, litert_lm_type="gemma3n", transformers_config=transformers_config
)
