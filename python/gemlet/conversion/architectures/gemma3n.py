"""Gemma 3n: its configuration, tensors, metadata and MatFormer slices.

GGUF's names are llama.cpp's (gguf-py/gguf/constants.py, MODEL_ARCH.GEMMA3N; conversion/gemma.py, Gemma3NModel), the
checkpoint's are transformers' (models/gemma3n/modeling_gemma3n.py).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import gguf
import numpy as np

from gemlet import _core
from gemlet.conversion.architecture import Architecture
from gemlet.conversion.config import (
    FULL,
    SLIDING,
    ConfigFile,
    Fields,
    TextConfig,
    check_heads,
    is_number,
    is_size,
    read_rope,
)
from gemlet.conversion.encoders import audio_usm, vision_mobilenet_v5
from gemlet.conversion.planned import PlannedTensor, Role, one, stack

#: llama.cpp runs files with exactly this many layers that own keys and values (src/models/gemma3n.cpp).
_LLAMA_CPP_OWN_KV_LAYERS: Final = 20


@dataclass(frozen=True)
class Gemma3nConfig(TextConfig):
    """Gemma 3n's text model, in the names of `Gemma3nTextConfig` (transformers)."""

    vocab_size_per_layer_input: int
    hidden_size_per_layer_input: int
    num_kv_shared_layers: int
    laurel_rank: int
    altup_num_inputs: int
    altup_active_idx: int
    altup_correct_scale: bool
    rope_theta: float
    rope_local_base_freq: float
    final_logit_softcapping: float
    activation_sparsity_pattern: tuple[float, ...]

    @property
    def first_shared_layer(self) -> int:
        """The first of the layers that read another's keys and values; they come last."""
        return self.num_hidden_layers - self.num_kv_shared_layers

    def sparsity_scales(self) -> list[float]:
        """The cutoff of each layer in standard deviations above the mean: icdf(sparsity) of the normal distribution, as
        `Gemma3nTextMLP._gaussian_topk` takes it in float32; minus infinity for a dense layer."""
        return [_icdf(sparsity) if sparsity > 0 else -math.inf for sparsity in self.activation_sparsity_pattern]


def _icdf(sparsity: float) -> float:
    """torch computes erfinv(2 p - 1) sqrt(2); the argument is rounded to float32 as there, the rest in double."""
    return float(np.float32(NormalDist().inv_cdf((_argument(sparsity) + 1) / 2)))


def _argument(sparsity: float) -> float:
    """2 p - 1 in float32: -1 for the least sparsities, of which there is no cutoff."""
    return float(np.float32(2) * np.float32(sparsity) - np.float32(1))


# Configuration.


def read_config(file: ConfigFile) -> Gemma3nConfig:
    """Fields that all Gemma 3n models share default to transformers' values; sizes never do."""
    fields = file.fields()
    layers = fields.integer("num_hidden_layers", high=1024)
    heads = fields.integer("num_attention_heads", high=1 << 16)
    kv_heads = fields.integer("num_key_value_heads", high=1 << 16)
    head_dim = fields.integer("head_dim", low=2, high=1 << 16)
    check_heads(fields, heads, kv_heads, head_dim)
    shared = fields.integer("num_kv_shared_layers", low=0, high=layers - 1)
    if isinstance(fields.values.get("intermediate_size"), int):
        widths = [fields.integer("intermediate_size", high=1 << 20)] * layers
    else:
        widths = fields.per_layer("intermediate_size", layers, "a whole number above 0", is_size)
    types = fields.layer_types(layers)
    sparsity = fields.per_layer(
        "activation_sparsity_pattern",
        layers,
        "a number from 0 to below 1",
        lambda entry: is_number(entry) and 0 <= entry < 1 and (entry == 0 or abs(_argument(entry)) < 1),
    )
    altup = fields.integer("altup_num_inputs", low=2, high=16)
    _check_sharing(fields, layers, shared, types)
    fields.fixed("attention_bias", (False,))
    fields.fixed("hidden_activation", ("gelu_pytorch_tanh",))
    fields.fixed("rope_scaling", (None,))
    config = Gemma3nConfig(
        name=file.name,
        vocab_size=fields.integer("vocab_size"),
        vocab_size_per_layer_input=fields.integer("vocab_size_per_layer_input"),
        hidden_size=fields.integer("hidden_size", high=1 << 20),
        hidden_size_per_layer_input=fields.integer("hidden_size_per_layer_input", high=1 << 20),
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        num_kv_shared_layers=shared,
        sliding_window=fields.integer("sliding_window", high=1 << 20),
        max_position_embeddings=fields.integer("max_position_embeddings", default=32768),
        laurel_rank=fields.integer("laurel_rank", high=1 << 20),
        altup_num_inputs=altup,
        altup_active_idx=fields.integer("altup_active_idx", low=0, high=altup - 1, default=0),
        altup_correct_scale=fields.flag("altup_correct_scale", True),
        tie_word_embeddings=fields.flag("tie_word_embeddings", True),
        rms_norm_eps=fields.number("rms_norm_eps", 1e-6),
        rope_theta=read_rope(fields, FULL, "rope_theta", 1e6).base,
        rope_local_base_freq=read_rope(fields, SLIDING, "rope_local_base_freq", 1e4).base,
        final_logit_softcapping=fields.number("final_logit_softcapping", 30.0),
        intermediate_size=tuple(widths),
        layer_types=tuple(types),
        activation_sparsity_pattern=tuple(float(value) for value in sparsity),
        **file.special_tokens(),
    )
    fields.raise_problems(file.path)
    return config


def _check_sharing(fields: Fields, layers: int, shared: int, types: list[str]) -> None:
    """A shared layer reads the last unshared layer of its own kind: there must be one."""
    if not shared or not types:
        return
    lacking = sorted(set(types[layers - shared :]) - set(types[: layers - shared]))
    if lacking:
        fields.problems.append(
            f"num_kv_shared_layers: the last {shared} of {layers} layers share keys and values, but no earlier "
            f"layer is of the kind {', '.join(lacking)}"
        )


# Tensors.


def tensors(config: Gemma3nConfig) -> Iterator[PlannedTensor]:
    """The tensors of the file."""
    hidden, ple = config.hidden_size, config.hidden_size_per_layer_input
    width = config.num_hidden_layers * ple
    yield one("token_embd", "embed_tokens.weight", config.vocab_size, hidden)
    # llama.cpp wants a row for every token, and the reference reads row 0 for an id outside the table
    # (`Gemma3nTextModel.get_per_layer_inputs`): copies of row 0 are right for every reader.
    yield PlannedTensor(
        "per_layer_token_embd.weight",
        (config.vocab_size, width),
        ("embed_tokens_per_layer.weight",),
        (config.vocab_size_per_layer_input, width),
    )
    yield one("per_layer_model_proj", "per_layer_model_projection.weight", width, hidden)
    yield one("per_layer_proj_norm", "per_layer_projection_norm.weight", ple)
    yield stack("altup_proj", "altup_projections", config.altup_num_inputs - 1, hidden)
    yield stack("altup_unembd_proj", "altup_unembed_projections", config.altup_num_inputs - 1, hidden)
    yield one("output_norm", "norm.weight", hidden)
    for i in range(config.num_hidden_layers):
        yield from _layer(config, i)


def _layer(config: Gemma3nConfig, i: int) -> Iterator[PlannedTensor]:
    hidden, ple, n = config.hidden_size, config.hidden_size_per_layer_input, config.altup_num_inputs
    head_dim, ffn = config.head_dim, config.intermediate_size[i]
    q_dim, kv_dim = config.num_attention_heads * head_dim, config.num_key_value_heads * head_dim

    def of(name: str, source: str, *shape: int) -> PlannedTensor:
        return one(f"blk.{i}.{name}", f"layers.{i}.{source}", *shape)

    def own_kv(name: str, source: str, *shape: int) -> PlannedTensor:
        """Keys and values. Published checkpoints carry them in layers that read another's, too; `save_pretrained` does
        not. Nothing reads these, but llama.cpp refuses a file without them: zeros, 0.4 % of an E2B file, for the models
        that it can run at all."""
        tensor = of(name, source, *shape)
        if i < config.first_shared_layer:
            return tensor
        runs_in_llama_cpp = config.first_shared_layer == _LLAMA_CPP_OWN_KV_LAYERS
        return dataclasses.replace(tensor, absent="zeros" if runs_in_llama_cpp else "left out")

    yield of("attn_norm", "input_layernorm.weight", hidden)
    yield of("attn_q", "self_attn.q_proj.weight", q_dim, hidden)
    yield of("attn_q_norm", "self_attn.q_norm.weight", head_dim)
    yield own_kv("attn_k", "self_attn.k_proj.weight", kv_dim, hidden)
    yield own_kv("attn_k_norm", "self_attn.k_norm.weight", head_dim)
    yield own_kv("attn_v", "self_attn.v_proj.weight", kv_dim, hidden)
    yield of("attn_output", "self_attn.o_proj.weight", hidden, q_dim)
    yield of("post_attention_norm", "post_attention_layernorm.weight", hidden)
    yield of("laurel_l", "laurel.linear_left.weight", config.laurel_rank, hidden)
    yield of("laurel_r", "laurel.linear_right.weight", hidden, config.laurel_rank)
    yield of("laurel_post_norm", "laurel.post_laurel_norm.weight", hidden)
    yield of("ffn_norm", "pre_feedforward_layernorm.weight", hidden)
    yield of("ffn_gate", "mlp.gate_proj.weight", ffn, hidden)
    yield of("ffn_up", "mlp.up_proj.weight", ffn, hidden)
    yield of("ffn_down", "mlp.down_proj.weight", hidden, ffn)
    yield of("post_ffw_norm", "post_feedforward_layernorm.weight", hidden)
    yield of("altup_router_norm", "altup.router_norm.weight", hidden)
    yield of("altup_router", "altup.modality_router.weight", n, hidden)
    yield of("altup_predict_coef", "altup.prediction_coefs.weight", n * n, n)
    yield of("altup_correct_coef", "altup.correction_coefs.weight", n, n)
    if config.altup_correct_scale:
        yield of("altup_correct_scale", "altup.correct_output_scale", hidden)
    else:  # the checkpoint says not to scale, and GGUF has no key for it
        yield PlannedTensor(f"blk.{i}.altup_correct_scale.weight", (hidden,), (), (), constant=1.0)
    yield of("inp_gate", "per_layer_input_gate.weight", ple, hidden)
    yield of("proj", "per_layer_projection.weight", hidden, ple)
    yield of("post_norm", "post_per_layer_input_norm.weight", hidden)


def unused(config: Gemma3nConfig, name: str) -> bool:
    """A scale that the configuration switches off is in the checkpoint all the same."""
    return not config.altup_correct_scale and name.endswith(".altup.correct_output_scale")


def transpose_down(config: Gemma3nConfig, planned: Sequence[PlannedTensor]) -> list[PlannedTensor]:
    """Has `down` of the sparse layers stored with a row for each unit of the feed-forward layer, as ffn_down_t: the
    units that a token leaves at zero, nineteen in twenty, are then not read. Only gemlet knows the name."""
    sparse = {f"blk.{i}.ffn_down.weight" for i, part in enumerate(config.activation_sparsity_pattern) if part > 0}
    return [
        dataclasses.replace(
            tensor, name=tensor.name.replace("ffn_down", "ffn_down_t"), shape=tensor.shape[::-1], transposed=True
        )
        if tensor.name in sparse
        else tensor
        for tensor in planned
    ]


# Metadata.


def add_metadata(writer: gguf.GGUFWriter, config: Gemma3nConfig) -> None:
    """The keys that llama.cpp's converter writes."""
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_embedding_length_per_layer_input(config.hidden_size_per_layer_input)
    widths = set(config.intermediate_size)
    writer.add_feed_forward_length(widths.pop() if len(widths) == 1 else list(config.intermediate_size))
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_rope_freq_base_swa(config.rope_local_base_freq)
    writer.add_sliding_window(config.sliding_window)
    writer.add_sliding_window_pattern([kind == SLIDING for kind in config.layer_types])
    writer.add_shared_kv_layers(config.num_kv_shared_layers)
    writer.add_final_logit_softcapping(config.final_logit_softcapping)
    writer.add_altup_active_idx(config.altup_active_idx)
    writer.add_altup_num_inputs(config.altup_num_inputs)
    writer.add_activation_sparsity_scale(config.sparsity_scales())


# Slices: the same as `gemlet.load(..., slice=...)` makes of the whole file; the same bits where a layer's width and its
# part of the per-layer table are whole blocks of the types that are written, as in the published models.


def cut(
    config: Gemma3nConfig, planned: Sequence[PlannedTensor], slice: _core.Slice, block: int
) -> tuple[Gemma3nConfig, list[PlannedTensor]]:
    """The configuration and the tensors that a slice leaves. Feed-forward widths have to be multiples of `block`.

    Raises gemlet.ArgumentError for a slice that the model does not have."""
    kept = slice.apply(config.intermediate_size, _kv_layers(config), block)
    layers = [layer for layer, _ in kept]
    widths = [width for _, width in kept]
    sliced = dataclasses.replace(
        config,
        num_hidden_layers=len(layers),
        num_kv_shared_layers=sum(layer >= config.first_shared_layer for layer in layers),
        intermediate_size=tuple(widths),
        layer_types=tuple(config.layer_types[layer] for layer in layers),
        activation_sparsity_pattern=tuple(config.activation_sparsity_pattern[layer] for layer in layers),
    )
    return sliced, [cut for tensor in planned for cut in _cut_tensor(tensor, config, layers, widths)]


def _kv_layers(config: Gemma3nConfig) -> list[int]:
    """The layer whose keys and values each layer reads: its own, or the last unshared one of its kind's."""
    own = range(config.first_shared_layer)
    return [
        layer if layer in own else max(other for other in own if config.layer_types[other] == kind)
        for layer, kind in enumerate(config.layer_types)
    ]


def _cut_tensor(
    tensor: PlannedTensor, config: Gemma3nConfig, layers: list[int], widths: list[int]
) -> Iterator[PlannedTensor]:
    ple = config.hidden_size_per_layer_input
    inputs = tuple((layer * ple, (layer + 1) * ple) for layer in layers)
    if tensor.name == "per_layer_token_embd.weight":
        yield dataclasses.replace(tensor, shape=(tensor.rows, len(layers) * ple), col_parts=inputs)
    elif tensor.name == "per_layer_model_proj.weight":
        yield dataclasses.replace(tensor, shape=(len(layers) * ple, tensor.cols), row_parts=inputs)
    elif not tensor.name.startswith("blk."):
        yield tensor
    else:
        _, layer, part, _ = tensor.name.split(".")
        if int(layer) not in layers:
            return
        position = layers.index(int(layer))
        width = widths[position]
        tensor = dataclasses.replace(tensor, name=f"blk.{position}.{part}.weight")
        if part in ("ffn_gate", "ffn_up"):
            tensor = dataclasses.replace(tensor, shape=(width, tensor.cols), row_parts=((0, width),))
        elif part == "ffn_down_t":
            tensor = dataclasses.replace(tensor, shape=(width, tensor.cols))
        elif part == "ffn_down":
            tensor = dataclasses.replace(tensor, shape=(tensor.rows, width), col_parts=((0, width),))
        yield tensor


ARCHITECTURE: Final = Architecture(
    name=gguf.MODEL_ARCH_NAMES[gguf.MODEL_ARCH.GEMMA3N],
    title="Gemma 3n",
    classes=("Gemma3nForConditionalGeneration", "Gemma3nForCausalLM", "Gemma3nTextModel", "Gemma3nModel"),
    model_types=("gemma3n_text", "gemma3n"),
    outside=("vision_tower.", "audio_tower.", "embed_vision.", "embed_audio."),
    read_config=read_config,
    tensors=tensors,
    add_metadata=add_metadata,
    roles={
        **dict.fromkeys(("ffn_down_t", "inp_gate", "proj"), Role.LAYER),
        **dict.fromkeys(("laurel_l", "laurel_r", "altup_proj", "altup_unembd_proj", "per_layer_model_proj"), Role.GLUE),
        **dict.fromkeys(("altup_router", "altup_predict_coef", "altup_correct_coef"), Role.VECTOR),
        "per_layer_token_embd": Role.TABLE,
    },
    unused=unused,
    cut=cut,
    transpose_down=transpose_down,
    encoders={"gemma3nv": vision_mobilenet_v5.ENCODER, "gemma3na": audio_usm.ENCODER},
)
