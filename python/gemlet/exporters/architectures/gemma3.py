"""The forward pass of Gemma 3 as a graph, after cpp/model/gemma/forward.cpp and transformers' modeling_gemma3.py. T
tokens of one sequence are computed together; the hidden states are [T, hidden].
"""

from __future__ import annotations

import math
from typing import Any, Final

from gemlet.exporters.architecture import Architecture, Forward, State
from gemlet.exporters.attention import Layer, Positions
from gemlet.exporters.graph import Builder, Value
from gemlet.exporters.source import Config, decimal


class Gemma3(Forward):
    """A plain stack of layers, each with norms before and after attention and feed-forward."""

    def embed(self, tokens: Value) -> tuple[Value, None]:
        b = self.b
        return b.scale(b.rows(b.source.embedding(), tokens), math.sqrt(b.source.config.hidden_size)), None

    def layer(self, index: int, state: State, positions: Positions) -> Value:
        return Gemma3Layer(self.b, index)(state.hidden, positions)

    def keys_and_values(self, index: int, state: State, positions: Positions) -> None:
        layer = Gemma3Layer(self.b, index)
        layer.keys_and_values(layer.norm(state.hidden, "attn_norm"), positions)

    def logits(self, hidden: Value) -> Value:
        """[T, vocab] = head(norm(hidden)), capped as cap * tanh(x / cap) where the model has a cap."""
        b = self.b
        normed = b.rms_norm(hidden, b.vector("output_norm.weight"), b.source.config.rms_norm_eps)
        logits = b.linear(normed, b.source.head())
        cap = float(b.source.config.own["final_logit_softcapping"])
        return b.soft_cap(logits, cap) if cap else logits


class Gemma3Layer(Layer):
    """One layer of the model."""

    def __init__(self, b: Builder, index: int) -> None:
        super().__init__(b, index)
        self.scale = float(b.source.config.own["attention_scale"])

    def __call__(self, hidden: Value, positions: Positions) -> Value:
        """hidden + norm(attention(norm(hidden))), then the same with the feed-forward layer."""
        normed = self.norm(hidden, "attn_norm")
        self.keys_and_values(normed, positions)
        attended = self.attend(normed, positions, self.scale)
        hidden = self.b.add(hidden, self.norm(attended, "post_attention_norm"))
        return self.b.add(hidden, self.feed_forward(self.norm(hidden, "ffn_norm")))

    def keys_and_values(self, normed: Value, positions: Positions) -> None:
        """Computes and remembers them."""
        self.remember(self.keys(normed, positions), self.values(normed))

    def feed_forward(self, normed: Value) -> Value:
        """norm(down(gelu(gate) * up))."""
        b = self.b
        gate = b.gelu(b.linear(normed, self.matrix("ffn_gate")))
        hidden = b.mul(gate, b.linear(normed, self.matrix("ffn_up")))
        return self.norm(b.linear(hidden, self.matrix("ffn_down")), "post_ffw_norm")


def transformers_config(config: Config) -> dict[str, Any]:
    """The fields of transformers' Gemma3TextConfig."""
    scalar = config.own["attention_scale"] ** -2
    whole = round(scalar)
    return {
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        **config.common_fields(),
        "intermediate_size": config.own["intermediate_size"][0],
        "query_pre_attn_scalar": whole if math.isclose(scalar, whole, rel_tol=1e-5) else decimal(scalar),
        "final_logit_softcapping": decimal(config.own["final_logit_softcapping"]) or None,
        "attn_logit_softcapping": None,
    }


ARCHITECTURE: Final = Architecture(
    name="gemma3", forward=Gemma3, litert_lm_type="gemma3", transformers_config=transformers_config
)
