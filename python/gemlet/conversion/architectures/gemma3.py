"""Gemma 3: text models, and multimodal ones with their vision encoder.

GGUF's names are llama.cpp's (gguf-py/gguf/constants.py, MODEL_ARCH.GEMMA3; conversion/gemma.py, Gemma3Model), the
checkpoint's are transformers' (models/gemma3/modeling_gemma3.py). One key is gemlet's own: `gemma3.attention.scale`,
the factor of attention scores, where that is not head_dim^-0.5. llama.cpp has no key for it and takes the published 27B
for granted in any model of 62 layers; so does gemlet where the key is missing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import gguf

from gemlet.conversion.architecture import Architecture
from gemlet.conversion.config import (
    FULL,
    SLIDING,
    ConfigFile,
    Fields,
    Rope,
    TextConfig,
    check_heads,
    read_rope,
)
from gemlet.conversion.encoders import vision_siglip
from gemlet.conversion.planned import PlannedTensor, one

#: What absent fields mean (transformers' Gemma3TextConfig); the published multimodal configurations leave them out.
_DEFAULTS: Final = {
    "vocab_size": 262208,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "max_position_embeddings": 131072,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "rms_norm_eps": 1e-6,
}
#: Every layer of this number has full attention unless the configuration or the file says otherwise.
_PERIOD: Final = 6

#: Ollama's files of models with this context leave out that positions are scaled: readers take it for granted.
_SCALED_CONTEXT: Final = 131072
#: Readers take the published scale for granted in a model of so many layers.
_LAYERS_OF_27B: Final = 62


@dataclass(frozen=True)
class Gemma3Config(TextConfig):
    """Gemma 3's text model, in the names of `Gemma3TextConfig` (transformers)."""

    query_pre_attn_scalar: float
    rope: Rope
    """Rotary positions of the layers with full attention."""
    local_rope: Rope
    """Rotary positions of the sliding layers."""
    final_logit_softcapping: float | None

    @property
    def attention_scale(self) -> float:
        """The factor of attention scores."""
        return float(self.query_pre_attn_scalar**-0.5)


# Configuration.


def read_config(file: ConfigFile) -> Gemma3Config:
    """Both generations of fields: `rope_parameters` and `layer_types`, or the older flat ones. The sizes that every
    published configuration gives have no default."""
    fields = file.fields(**_DEFAULTS)
    layers = fields.integer("num_hidden_layers", high=1024)
    heads = fields.integer("num_attention_heads", high=1 << 16)
    kv_heads = fields.integer("num_key_value_heads", high=1 << 16)
    head_dim = fields.integer("head_dim", low=2, high=1 << 16)
    check_heads(fields, heads, kv_heads, head_dim)
    fields.fixed("attention_bias", (False,))
    fields.fixed("attn_logit_softcapping", (None,))
    fields.fixed("hidden_activation", ("gelu_pytorch_tanh",))
    fields.fixed("use_bidirectional_attention", (False, None))
    config = Gemma3Config(
        name=file.name,
        vocab_size=fields.integer("vocab_size"),
        hidden_size=fields.integer("hidden_size", high=1 << 20),
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        sliding_window=fields.integer("sliding_window", high=1 << 20),
        max_position_embeddings=fields.integer("max_position_embeddings"),
        rms_norm_eps=fields.number("rms_norm_eps"),
        tie_word_embeddings=fields.flag("tie_word_embeddings", True),
        intermediate_size=(fields.integer("intermediate_size", high=1 << 20),) * layers,
        layer_types=tuple(_layer_types(fields, layers)),
        query_pre_attn_scalar=fields.number("query_pre_attn_scalar"),
        rope=read_rope(fields, FULL, "rope_theta", 1e6, linear=True),
        local_rope=read_rope(fields, SLIDING, "rope_local_base_freq", 1e4),
        final_logit_softcapping=fields.optional_number("final_logit_softcapping"),
        **file.special_tokens(),
    )
    fields.raise_problems(file.path)
    return config


def _layer_types(fields: Fields, layers: int) -> list[str]:
    """The kind of each layer; older configurations give the number of layers from one with full attention to the next
    instead."""
    if fields.values.get("layer_types") is not None:
        return fields.layer_types(layers)
    older = "sliding_window_pattern" if "sliding_window_pattern" in fields.values else "_sliding_window_pattern"
    period = fields.integer(older, high=1024, default=_PERIOD)
    return [FULL if (i + 1) % period == 0 else SLIDING for i in range(layers)]


# Tensors.


def tensors(config: Gemma3Config) -> Iterator[PlannedTensor]:
    """The tensors of the file."""
    yield one("token_embd", "embed_tokens.weight", config.vocab_size, config.hidden_size)
    yield _norm("output_norm", "norm.weight", config.hidden_size)
    for i in range(config.num_hidden_layers):
        yield from _layer(config, i)


def _layer(config: Gemma3Config, i: int) -> Iterator[PlannedTensor]:
    hidden, head_dim, ffn = config.hidden_size, config.head_dim, config.intermediate_size[i]
    q_dim, kv_dim = config.num_attention_heads * head_dim, config.num_key_value_heads * head_dim
    ours, theirs = f"blk.{i}", f"layers.{i}"
    yield _norm(f"{ours}.attn_norm", f"{theirs}.input_layernorm.weight", hidden)
    yield one(f"{ours}.attn_q", f"{theirs}.self_attn.q_proj.weight", q_dim, hidden)
    yield _norm(f"{ours}.attn_q_norm", f"{theirs}.self_attn.q_norm.weight", head_dim)
    yield one(f"{ours}.attn_k", f"{theirs}.self_attn.k_proj.weight", kv_dim, hidden)
    yield _norm(f"{ours}.attn_k_norm", f"{theirs}.self_attn.k_norm.weight", head_dim)
    yield one(f"{ours}.attn_v", f"{theirs}.self_attn.v_proj.weight", kv_dim, hidden)
    yield one(f"{ours}.attn_output", f"{theirs}.self_attn.o_proj.weight", hidden, q_dim)
    yield _norm(f"{ours}.post_attention_norm", f"{theirs}.post_attention_layernorm.weight", hidden)
    yield _norm(f"{ours}.ffn_norm", f"{theirs}.pre_feedforward_layernorm.weight", hidden)
    yield one(f"{ours}.ffn_gate", f"{theirs}.mlp.gate_proj.weight", ffn, hidden)
    yield one(f"{ours}.ffn_up", f"{theirs}.mlp.up_proj.weight", ffn, hidden)
    yield one(f"{ours}.ffn_down", f"{theirs}.mlp.down_proj.weight", hidden, ffn)
    yield _norm(f"{ours}.post_ffw_norm", f"{theirs}.post_feedforward_layernorm.weight", hidden)


def _norm(name: str, source: str, size: int) -> PlannedTensor:
    """A norm multiplies by 1 + w; a GGUF file holds the sum."""
    return dataclasses.replace(one(name, source, size), shift=1.0)


# Metadata.


def add_metadata(writer: gguf.GGUFWriter, config: Gemma3Config) -> None:
    """The keys that llama.cpp's converter writes, and `gemma3.attention.scale` where it is needed."""
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size[0])
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope.base)
    writer.add_rope_freq_base_swa(config.local_rope.base)
    if config.rope.factor != 1.0:
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(config.rope.factor)
    elif config.max_position_embeddings >= _SCALED_CONTEXT:
        writer.add_rope_scaling_type(gguf.RopeScalingType.NONE)
    writer.add_sliding_window(config.sliding_window)
    pattern = _pattern(config.layer_types)
    if pattern != _PERIOD:
        writer.add_sliding_window_pattern(pattern)
    if config.query_pre_attn_scalar != config.head_dim or config.num_hidden_layers == _LAYERS_OF_27B:
        writer.add_attention_scale(config.attention_scale)
    if config.final_logit_softcapping is not None:
        writer.add_final_logit_softcapping(config.final_logit_softcapping)


def _pattern(layer_types: Sequence[str]) -> int | list[bool]:
    """The period of the layers with full attention, or whether each layer is sliding if there is none."""
    periods: list[int] = [_PERIOD, *range(1, len(layer_types) + 2)]
    for period in periods:
        if all((kind == FULL) == ((i + 1) % period == 0) for i, kind in enumerate(layer_types)):
            return period
    return [kind == SLIDING for kind in layer_types]


ARCHITECTURE: Final = Architecture(
    name=gguf.MODEL_ARCH_NAMES[gguf.MODEL_ARCH.GEMMA3],
    title="Gemma 3",
    classes=("Gemma3ForConditionalGeneration", "Gemma3ForCausalLM", "Gemma3TextModel", "Gemma3Model"),
    model_types=("gemma3_text", "gemma3"),
    outside=("vision_tower.", "multi_modal_projector."),
    read_config=read_config,
    tensors=tensors,
    add_metadata=add_metadata,
    roles={},
    encoders={"gemma3": vision_siglip.ENCODER},
)
