"""Which tensors a Gemma 3n GGUF file holds, and which of the checkpoint's each is made of.

Names on the left are llama.cpp's (gguf-py/gguf/constants.py, MODEL_ARCH.GEMMA3N), on the right transformers'
(models/gemma3n/modeling_gemma3n.py).
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Iterator
from dataclasses import dataclass

from .checkpoint import StoredTensor
from .config import TextConfig
from .errors import ConvertError

#: Where published checkpoints and `save_pretrained` put the text model; the longest that fits is taken off.
_TEXT_PREFIXES = ("model.language_model.", "language_model.model.", "language_model.", "model.")

#: What a multimodal checkpoint holds besides; pictures and sound have no place in the file yet.
_LEFT_OUT = ("vision_tower.", "audio_tower.", "embed_vision.", "embed_audio.")

#: llama.cpp runs files with exactly this many layers that own keys and values (src/models/gemma3n.cpp).
_LLAMA_CPP_OWN_KV_LAYERS = 20


class Role(enum.Enum):
    """What a tensor is for decides what it is stored as (recipes.py)."""

    VECTOR = "norms, and AltUp's small matrices: always f32"
    LAYER = "the matrices of attention, feed-forward and per-layer gate"
    GLUE = "LAuReL, AltUp's projections and the per-layer projection: few weights that touch every layer above"
    HEAD = "token embedding and output head"
    TABLE = "the per-layer embedding table"


_ROLES = {
    Role.LAYER: (
        *("attn_q", "attn_k", "attn_v", "attn_output"),
        *("ffn_gate", "ffn_up", "ffn_down", "ffn_down_t", "inp_gate", "proj"),
    ),
    Role.GLUE: ("laurel_l", "laurel_r", "altup_proj", "altup_unembd_proj", "per_layer_model_proj"),
    Role.HEAD: ("token_embd", "output"),
    Role.TABLE: ("per_layer_token_embd",),
}


def role_of(name: str) -> Role:
    """Of a tensor of the GGUF file, by its name there."""
    part = name.removesuffix(".weight").split(".")[-1]
    return next((role for role, parts in _ROLES.items() if part in parts), Role.VECTOR)


@dataclass(frozen=True)
class PlannedTensor:
    """A tensor of the GGUF file. `shape` is outermost first and `rows` x `cols` its matrix; it is made of `sources`,
    one after the other, each `source_shape`, or the parts of their rows and columns that `row_parts` and `col_parts`
    name, each (begin, end). Rows that the sources do not give are copies of their row 0, or `constant` where there is
    no source at all. `transposed`: the source is a matrix whose columns are this one's rows."""

    name: str
    shape: tuple[int, ...]
    sources: tuple[str, ...]
    source_shape: tuple[int, ...]
    constant: float = 0.0
    row_parts: tuple[tuple[int, int], ...] = ()
    col_parts: tuple[tuple[int, int], ...] = ()
    transposed: bool = False

    @property
    def role(self) -> Role:
        return role_of(self.name)

    @property
    def cols(self) -> int:
        return self.shape[-1]

    @property
    def rows(self) -> int:
        return math.prod(self.shape[:-1])


def _one(name: str, source: str, *shape: int) -> PlannedTensor:
    return PlannedTensor(f"{name}.weight", shape, (source,), shape)


def _stack(name: str, source: str, count: int, size: int) -> PlannedTensor:
    sources = tuple(f"{source}.{i}.weight" for i in range(count))
    return PlannedTensor(f"{name}.weight", (count, size, size), sources, (size, size))


def _layer(config: TextConfig, i: int) -> Iterator[PlannedTensor]:
    hidden, ple, n = config.hidden_size, config.hidden_size_per_layer_input, config.altup_num_inputs
    head_dim, ffn = config.head_dim, config.intermediate_size[i]
    q_dim, kv_dim = config.num_attention_heads * head_dim, config.num_key_value_heads * head_dim

    def of(name: str, source: str, *shape: int) -> PlannedTensor:
        return _one(f"blk.{i}.{name}", f"layers.{i}.{source}", *shape)

    yield of("attn_norm", "input_layernorm.weight", hidden)
    yield of("attn_q", "self_attn.q_proj.weight", q_dim, hidden)
    yield of("attn_q_norm", "self_attn.q_norm.weight", head_dim)
    yield of("attn_k", "self_attn.k_proj.weight", kv_dim, hidden)
    yield of("attn_k_norm", "self_attn.k_norm.weight", head_dim)
    yield of("attn_v", "self_attn.v_proj.weight", kv_dim, hidden)
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


def _all(config: TextConfig) -> Iterator[PlannedTensor]:
    hidden, ple = config.hidden_size, config.hidden_size_per_layer_input
    width = config.num_hidden_layers * ple
    yield _one("token_embd", "embed_tokens.weight", config.vocab_size, hidden)
    # llama.cpp wants a row for every token, and the reference reads row 0 for an id outside the table
    # (`Gemma3nTextModel.get_per_layer_inputs`): copies of row 0 are right for every reader.
    yield PlannedTensor(
        "per_layer_token_embd.weight",
        (config.vocab_size, width),
        ("embed_tokens_per_layer.weight",),
        (config.vocab_size_per_layer_input, width),
    )
    yield _one("per_layer_model_proj", "per_layer_model_projection.weight", width, hidden)
    yield _one("per_layer_proj_norm", "per_layer_projection_norm.weight", ple)
    yield _stack("altup_proj", "altup_projections", config.altup_num_inputs - 1, hidden)
    yield _stack("altup_unembd_proj", "altup_unembed_projections", config.altup_num_inputs - 1, hidden)
    yield _one("output_norm", "norm.weight", hidden)
    for i in range(config.num_hidden_layers):
        yield from _layer(config, i)


def transpose_sparse_down(config: TextConfig, tensors: list[PlannedTensor]) -> list[PlannedTensor]:
    """Has `down` of the sparse layers stored with a row for each unit of the feed-forward layer, as ffn_down_t: the
    units that a token leaves at zero, nineteen in twenty, are then not read. Only gemlet knows the name."""
    sparse = {f"blk.{i}.ffn_down.weight" for i, part in enumerate(config.activation_sparsity_pattern) if part > 0}
    return [
        dataclasses.replace(
            tensor, name=tensor.name.replace("ffn_down", "ffn_down_t"), shape=tensor.shape[::-1], transposed=True
        )
        if tensor.name in sparse
        else tensor
        for tensor in tensors
    ]


def _text_name(name: str) -> str | None:
    """The name inside the text model; None for a tensor of the vision or audio parts."""
    if name.removeprefix("model.").startswith(_LEFT_OUT):
        return None
    if name.endswith("lm_head.weight"):
        return "lm_head.weight"
    for prefix in _TEXT_PREFIXES:
        if name.startswith(prefix):
            return name[len(prefix) :]
    return name


@dataclass(frozen=True)
class Plan:
    """The tensors to write, the checkpoint's tensors by the names that `sources` use, and what was left out."""

    tensors: list[PlannedTensor]
    stored: dict[str, StoredTensor]
    left_out: list[str]


def _is_unused_kv(config: TextConfig, planned: PlannedTensor) -> bool:
    """Keys and values of a layer that reads another's. Published checkpoints carry them; `save_pretrained` does not."""
    parts = planned.name.split(".")
    return (
        parts[0] == "blk"
        and parts[2] in ("attn_k", "attn_v", "attn_k_norm")
        and int(parts[1]) >= config.first_shared_layer
    )


def plan(config: TextConfig, tensors: dict[str, StoredTensor]) -> Plan:
    """Matches the checkpoint against what the configuration asks for. Raises one ConvertError that lists every tensor
    that is missing, unknown, misshapen or of a type that cannot be read."""
    stored: dict[str, StoredTensor] = {}
    left_out: list[str] = []
    problems: list[str] = []
    for name, tensor in tensors.items():
        inner = _text_name(name)
        if inner is None:
            left_out.append(name)
        elif inner in stored:
            problems.append(f"extra: {name} stands for the same tensor as {stored[inner].name}")
        else:
            stored[inner] = tensor

    planned: list[PlannedTensor] = []
    expected: dict[str, tuple[int, ...]] = {}
    for plan in _all(config):
        if _is_unused_kv(config, plan) and plan.sources[0] not in stored:
            # Nothing reads these, but llama.cpp refuses a file without them: zeros, 0.4 % of an E2B file, for the
            # models that it can run at all.
            if config.first_shared_layer == _LLAMA_CPP_OWN_KV_LAYERS:
                planned.append(PlannedTensor(plan.name, plan.shape, (), ()))
            continue
        planned.append(plan)
        expected.update(dict.fromkeys(plan.sources, plan.source_shape))
    head = stored.get("lm_head.weight")
    if head is not None or not config.tie_word_embeddings:
        expected["lm_head.weight"] = (config.vocab_size, config.hidden_size)
    if not config.altup_correct_scale:  # in the checkpoint, but unused
        expected.update({name: stored[name].shape for name in stored if name.endswith(".altup.correct_output_scale")})

    for name, shape in expected.items():
        found = stored.get(name)
        if found is None:
            problems.append(f"missing: {name} {list(shape)}")
        elif found.shape != shape:
            problems.append(f"misshapen: {found.name} is {list(found.shape)}, expected {list(shape)}")
        elif not found.readable:
            problems.append(f"unreadable: {found.name} has type {found.dtype}, expected F32, F16 or BF16")
    problems += [
        f"extra: {tensor.name} {list(tensor.shape)}" for name, tensor in stored.items() if name not in expected
    ]
    if problems:
        raise ConvertError.listing(f"{len(problems)} tensors do not fit the configuration", sorted(problems))

    if head is not None and not head.equals(stored["embed_tokens.weight"]):
        planned.insert(1, _one("output", "lm_head.weight", config.vocab_size, config.hidden_size))
    return Plan(planned, stored, left_out)
