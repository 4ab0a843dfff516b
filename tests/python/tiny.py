"""Tiny random Gemma 3n checkpoints in Hugging Face layout, with every feature switched on and no dimension like
another.

The weights are drawn so that each feature shows in the logits: norms away from one, AltUp coefficients that matter, a
soft-cap that bites (logits of more than 20 under a cap of 30). They are also drawn so that rounding is not amplified
out of proportion: few live activations before a norm, or a router that saturates, make any two float32 computations
differ by more than the tolerance of the tests.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gemlet.conversion.sentencepiece import ModelKind, Piece, PieceKind, SentencePieceModel
from numpy.typing import NDArray

Array = NDArray[np.float32]

SPACE = "\u2581"
_WORDS = ("in", "an", "th", "he", "the", f"{SPACE}t", f"{SPACE}the", "ab", "abc", f"{SPACE}ab", "nin", f"{SPACE}a")
_LETTERS = "abcdefghinot"
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<start_of_turn>{{ message['role'] }}\n{{ message['content'] }}"
    "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


def tiny_pieces() -> list[Piece]:
    """Gemma's specials, two user-defined pieces, the bytes, and a few merges: 4 + 4 + 256 + 1 + 12 + 12 pieces."""
    control = [Piece(name, 0.0, PieceKind.CONTROL) for name in ("<pad>", "<eos>", "<bos>")]
    user = [
        Piece(text, 0.0, PieceKind.USER_DEFINED) for text in ("<start_of_turn>", "<end_of_turn>", "\n\n", SPACE * 2)
    ]
    bytes_ = [Piece(f"<0x{byte:02X}>", 0.0, PieceKind.BYTE) for byte in range(256)]
    merges = [Piece(text, -float(i)) for i, text in enumerate(_WORDS)]
    letters = [Piece(text, -100.0 - i) for i, text in enumerate(SPACE + _LETTERS)]
    return [*control, Piece("<unk>", 0.0, PieceKind.UNKNOWN), *user, *bytes_, *merges, *letters]


def tiny_tokenizer(pieces: list[Piece] | None = None) -> SentencePieceModel:
    return SentencePieceModel(
        pieces=tiny_pieces() if pieces is None else pieces,
        kind=ModelKind.BPE,
        byte_fallback=True,
        bos_piece="<bos>",
        eos_piece="<eos>",
        normalizer="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
    )


@dataclasses.dataclass(frozen=True)
class Tiny:
    """`layers`: one letter each, s for sliding and F for full attention. `ffn` and `sparsity` have one entry a layer,
    or a single one for all."""

    layers: str = "sFssF"
    shared: int = 2
    hidden: int = 36
    heads: int = 3
    kv_heads: int = 1
    head_dim: int = 10
    ffn: tuple[int, ...] = (116,)
    sparsity: tuple[float, ...] = (0.95, 0.8, 0.0, 0.5, 0.0)
    ple: int = 7
    laurel: int = 5
    window: int = 6
    vocab: int = 299
    ple_vocab: int = 293
    altup: int = 4
    active: int = 0
    correct_scale: bool = True
    eps: float = 1e-5
    rope: float = 1e6
    local_rope: float = 1e4
    altup_projection_gain: float = 1.0
    logit_gain: float = 7.0
    seed: int = 0

    def per_layer(self, values: tuple[Any, ...]) -> list[Any]:
        return list(values) * len(self.layers) if len(values) == 1 else list(values)

    @property
    def own_kv(self) -> int:
        return len(self.layers) - self.shared

    def config(self) -> dict[str, Any]:
        """The fields of Gemma3nTextConfig."""
        return {
            "model_type": "gemma3n_text",
            "vocab_size": self.vocab,
            "vocab_size_per_layer_input": self.ple_vocab,
            "hidden_size": self.hidden,
            "hidden_size_per_layer_input": self.ple,
            "num_hidden_layers": len(self.layers),
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "num_kv_shared_layers": self.shared,
            "sliding_window": self.window,
            "max_position_embeddings": 512,
            "laurel_rank": self.laurel,
            "altup_num_inputs": self.altup,
            "altup_active_idx": self.active,
            "altup_correct_scale": self.correct_scale,
            "rms_norm_eps": self.eps,
            "rope_parameters": {
                "full_attention": {"rope_type": "default", "rope_theta": self.rope},
                "sliding_attention": {"rope_type": "default", "rope_theta": self.local_rope},
            },
            "final_logit_softcapping": 30.0,
            "intermediate_size": self.per_layer(self.ffn),
            "layer_types": ["full_attention" if kind == "F" else "sliding_attention" for kind in self.layers],
            "activation_sparsity_pattern": self.per_layer(self.sparsity),
            "hidden_activation": "gelu_pytorch_tanh",
            "attention_bias": False,
            "tie_word_embeddings": True,
            "bos_token_id": 2,
            "eos_token_id": 1,
            "pad_token_id": 0,
        }

    def weights(self) -> dict[str, Array]:
        """The text model's tensors by their names inside it, without K and V in the shared layers."""
        draw = Draw(self.seed)
        hidden, ple, n = self.hidden, self.ple, self.altup
        q_dim = self.heads * self.head_dim
        width = len(self.layers) * ple
        tensors = {
            "embed_tokens.weight": draw.normal((self.vocab, hidden), 1 / math.sqrt(hidden)),
            "embed_tokens_per_layer.weight": draw.normal((self.ple_vocab, width), 1 / math.sqrt(ple)),
            "per_layer_model_projection.weight": draw.linear(width, hidden),
            "per_layer_projection_norm.weight": draw.norm(ple),
            "norm.weight": draw.norm(hidden) * np.float32(self.logit_gain),
        }
        for i in range(n - 1):
            for name in ("altup_projections", "altup_unembed_projections"):
                tensors[f"{name}.{i}.weight"] = draw.linear(hidden, hidden) * np.float32(self.altup_projection_gain)
        for i, ffn in enumerate(self.per_layer(self.ffn)):
            layer = {
                "input_layernorm.weight": draw.norm(hidden),
                "self_attn.q_proj.weight": draw.linear(q_dim, hidden),
                "self_attn.q_norm.weight": draw.norm(self.head_dim),
                "self_attn.o_proj.weight": draw.linear(hidden, q_dim),
                "post_attention_layernorm.weight": draw.norm(hidden),
                "laurel.linear_left.weight": draw.linear(self.laurel, hidden),
                "laurel.linear_right.weight": draw.linear(hidden, self.laurel),
                "laurel.post_laurel_norm.weight": draw.norm(hidden),
                "pre_feedforward_layernorm.weight": draw.norm(hidden),
                "mlp.gate_proj.weight": draw.linear(ffn, hidden),
                "mlp.up_proj.weight": draw.linear(ffn, hidden),
                "mlp.down_proj.weight": draw.linear(hidden, ffn),
                "post_feedforward_layernorm.weight": draw.norm(hidden),
                "altup.router_norm.weight": draw.norm(hidden),
                "altup.modality_router.weight": draw.normal((n, hidden), 0.5 * math.sqrt(hidden)),
                "altup.prediction_coefs.weight": draw.normal((n * n, n), 0.2),
                "altup.correction_coefs.weight": draw.normal((n, n), 0.2),
                "altup.correct_output_scale": draw.norm(hidden),
                "per_layer_input_gate.weight": draw.linear(ple, hidden),
                "per_layer_projection.weight": draw.linear(hidden, ple),
                "post_per_layer_input_norm.weight": draw.norm(hidden),
            }
            if i < self.own_kv:
                layer |= self._keys_and_values(draw)
            tensors |= {f"layers.{i}.{name}": value for name, value in layer.items()}
        return tensors

    def _keys_and_values(self, draw: Draw) -> dict[str, Array]:
        kv_dim = self.kv_heads * self.head_dim
        return {
            "self_attn.k_proj.weight": draw.linear(kv_dim, self.hidden),
            "self_attn.v_proj.weight": draw.linear(kv_dim, self.hidden),
            "self_attn.k_norm.weight": draw.norm(self.head_dim),
        }

    def unused_keys_and_values(self) -> dict[str, Array]:
        """What published checkpoints carry in the shared layers besides."""
        draw = Draw(self.seed + 1)
        return {
            f"layers.{i}.{name}": value
            for i in range(self.own_kv, len(self.layers))
            for name, value in self._keys_and_values(draw).items()
        }


class Draw:
    """Random tensors from a seed."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def normal(self, shape: tuple[int, ...], deviation: float) -> Array:
        return (self._random.standard_normal(shape, np.float32) * np.float32(deviation)).astype(np.float32)

    def linear(self, rows: int, cols: int) -> Array:
        return self.normal((rows, cols), 1 / math.sqrt(cols))

    def norm(self, size: int) -> Array:
        return self._random.uniform(0.4, 1.6, size).astype(np.float32)


def bfloat16_bits(values: Array) -> NDArray[np.uint16]:
    """Round to nearest even, for finite values."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def write_safetensors(path: Path, tensors: Mapping[str, NDArray[Any]]) -> None:
    """float32, float16, and uint16 for the bits of bfloat16."""
    names = {"<f4": "F32", "<f2": "F16", "<u2": "BF16", "<i4": "I32"}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, values in tensors.items():
        begin, end = end, end + values.nbytes
        header[name] = {"dtype": names[values.dtype.str], "shape": list(values.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for values in tensors.values():
            file.write(np.ascontiguousarray(values).tobytes())


def write_checkpoint(
    directory: Path,
    tiny: Tiny,
    *,
    prefix: str = "model.",
    dtype: str = "F32",
    shards: int = 1,
    extra: Mapping[str, NDArray[Any]] | None = None,
    config: Mapping[str, Any] | None = None,
) -> Path:
    """Writes `tiny` as a checkpoint. `extra` tensors are added under their whole names, `config` fields replace the
    text model's. A `prefix` of "model.language_model." gives the layout of the published, multimodal checkpoints."""
    directory.mkdir(parents=True, exist_ok=True)
    encode = {"F32": lambda v: v, "F16": lambda v: v.astype(np.float16), "BF16": bfloat16_bits}[dtype]
    tensors: dict[str, NDArray[Any]] = {f"{prefix}{name}": encode(value) for name, value in tiny.weights().items()}
    tensors |= extra or {}
    text_config = {**tiny.config(), **(config or {})}
    if "language_model" in prefix:
        root = {
            "architectures": ["Gemma3nForConditionalGeneration"],
            "model_type": "gemma3n",
            "eos_token_id": [1, 5],
            "text_config": text_config,
        }
    else:
        root = {"architectures": ["Gemma3nForCausalLM"], **text_config}
    (directory / "config.json").write_text(json.dumps(root))
    (directory / "tokenizer.model").write_bytes(tiny_tokenizer().serialize())
    (directory / "tokenizer_config.json").write_text(
        json.dumps({"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "chat_template": CHAT_TEMPLATE})
    )
    if shards == 1:
        write_safetensors(directory / "model.safetensors", tensors)
        return directory
    weight_map: dict[str, str] = {}
    for k in range(shards):
        file = f"model-{k + 1:05}-of-{shards:05}.safetensors"
        part = dict(list(tensors.items())[k::shards])
        write_safetensors(directory / file, part)
        weight_map |= dict.fromkeys(part, file)
    (directory / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return directory
