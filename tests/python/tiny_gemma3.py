"""Tiny random Gemma 3 checkpoints in Hugging Face layout, with every feature switched on and no dimension like another.

As in tiny.py, the weights are drawn so that each feature shows in the logits. Norms are stored as `w` of 1 + w, the
tokenizer has fewer pieces than the embedding has rows, as in the published multimodal checkpoints, and
`query_pre_attn_scalar` is not the head's dimension, as in the published 27B.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny import CHAT_TEMPLATE, Array, Draw, bfloat16_bits, tiny_tokenizer, write_safetensors

NORMS = (
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
)
VISION = {
    "vision_tower.vision_model.embeddings.patch_embedding.weight": np.ones((3, 2), np.float32),
    "multi_modal_projector.mm_soft_emb_norm.weight": np.zeros(3, np.float32),
    "multi_modal_projector.mm_input_projection_weight": np.ones((3, 2), np.float32),
}
"""Tensors of the vision part, by their older names."""


@dataclasses.dataclass(frozen=True)
class TinyGemma3:
    """`layers`: one letter each, s for sliding and F for full attention."""

    layers: str = "sFssFs"
    hidden: int = 36
    heads: int = 3
    kv_heads: int = 1
    head_dim: int = 10
    ffn: int = 58
    window: int = 7
    vocab: int = 299
    eps: float = 1e-5
    rope: float = 1e6
    local_rope: float = 1e4
    rope_factor: float = 8.0
    """Positions of the layers with full attention are divided by it; 1: not scaled."""
    query_scalar: int = 17
    """Attention scores are divided by its root."""
    soft_cap: float | None = None
    context: int = 512
    logit_gain: float = 7.0
    seed: int = 0

    def config(self) -> dict[str, Any]:
        """The fields of Gemma3TextConfig, as transformers 5 writes them."""
        full: dict[str, Any] = {"rope_type": "default", "rope_theta": self.rope}
        if self.rope_factor != 1:
            full |= {"rope_type": "linear", "factor": self.rope_factor}
        return {
            **self._sizes(),
            "rope_parameters": {
                "full_attention": full,
                "sliding_attention": {"rope_type": "default", "rope_theta": self.local_rope},
            },
            "layer_types": ["full_attention" if kind == "F" else "sliding_attention" for kind in self.layers],
        }

    def older_config(self, period: int = 6) -> dict[str, Any]:
        """The same in the fields of transformers 4; `layers` must have full attention every `period` layers."""
        assert all((kind == "F") == ((i + 1) % period == 0) for i, kind in enumerate(self.layers))
        scaling = {"rope_type": "linear", "factor": self.rope_factor} if self.rope_factor != 1 else None
        return {
            **self._sizes(),
            "rope_theta": self.rope,
            "rope_local_base_freq": self.local_rope,
            "rope_scaling": scaling,
            "sliding_window_pattern": period,
        }

    def _sizes(self) -> dict[str, Any]:
        return {
            "model_type": "gemma3_text",
            "vocab_size": self.vocab,
            "hidden_size": self.hidden,
            "intermediate_size": self.ffn,
            "num_hidden_layers": len(self.layers),
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "sliding_window": self.window,
            "max_position_embeddings": self.context,
            "query_pre_attn_scalar": self.query_scalar,
            "rms_norm_eps": self.eps,
            "attn_logit_softcapping": None,
            "final_logit_softcapping": self.soft_cap,
            "hidden_activation": "gelu_pytorch_tanh",
            "attention_bias": False,
            "tie_word_embeddings": True,
            "bos_token_id": 2,
            "eos_token_id": 1,
            "pad_token_id": 0,
        }

    def weights(self) -> dict[str, Array]:
        """The text model's tensors by their names inside it, as a checkpoint holds them: norms without their one."""
        draw = Draw(self.seed)
        hidden, head_dim = self.hidden, self.head_dim
        q_dim, kv_dim = self.heads * head_dim, self.kv_heads * head_dim
        tensors = {
            "embed_tokens.weight": draw.normal((self.vocab, hidden), 1 / math.sqrt(hidden)),
            "norm.weight": draw.norm(hidden) * np.float32(self.logit_gain) - 1,
        }
        for i in range(len(self.layers)):
            layer = {
                "self_attn.q_proj.weight": draw.linear(q_dim, hidden),
                "self_attn.k_proj.weight": draw.linear(kv_dim, hidden),
                "self_attn.v_proj.weight": draw.linear(kv_dim, hidden),
                "self_attn.o_proj.weight": draw.linear(hidden, q_dim),
                "self_attn.q_norm.weight": 2 * draw.norm(head_dim) - 1,
                "self_attn.k_norm.weight": 2 * draw.norm(head_dim) - 1,
                "mlp.gate_proj.weight": draw.linear(self.ffn, hidden),
                "mlp.up_proj.weight": draw.linear(self.ffn, hidden),
                "mlp.down_proj.weight": draw.linear(hidden, self.ffn),
                **{f"{name}.weight": draw.norm(hidden) - 1 for name in NORMS},
            }
            tensors |= {f"layers.{i}.{name}": value for name, value in layer.items()}
        return tensors


class LoudGemma3(TinyGemma3):
    """The residual grows beyond the 65504 that float16 holds, as it does in the published models."""

    def weights(self) -> dict[str, Array]:
        post = ("post_attention_layernorm.weight", "post_feedforward_layernorm.weight")
        return {name: value + 4e4 if name.endswith(post) else value for name, value in super().weights().items()}


def write_gemma3_checkpoint(
    directory: Path,
    tiny: TinyGemma3,
    *,
    prefix: str = "model.",
    dtype: str = "F32",
    extra: Mapping[str, NDArray[Any]] | None = None,
    config: Mapping[str, Any] | None = None,
    vision: Mapping[str, NDArray[Any]] = VISION,
) -> Path:
    """Writes `tiny` as a checkpoint. `extra` tensors are added under their whole names; `config` takes the place of the
    text model's fields.

    A `prefix` of "model.language_model." or "language_model.model." gives the newer and the older layout of the
    multimodal checkpoints, with the tensors of `vision`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    encode = {"F32": lambda v: v, "F16": lambda v: v.astype(np.float16), "BF16": bfloat16_bits}[dtype]
    tensors: dict[str, NDArray[Any]] = {f"{prefix}{name}": encode(value) for name, value in tiny.weights().items()}
    text_config = dict(tiny.config() if config is None else config)
    if "language_model" in prefix:
        root = {
            "architectures": ["Gemma3ForConditionalGeneration"],
            "model_type": "gemma3",
            "eos_token_id": [1, 5],
            "text_config": text_config,
        }
        newer = prefix.startswith("model.")
        tensors |= {f"model.{name}" if newer else name: encode(value) for name, value in vision.items()}
    else:
        root = {"architectures": ["Gemma3ForCausalLM"], **text_config}
    tensors |= extra or {}
    (directory / "config.json").write_text(json.dumps(root))
    (directory / "tokenizer.model").write_bytes(tiny_tokenizer().serialize())
    (directory / "tokenizer_config.json").write_text(
        json.dumps({"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "chat_template": CHAT_TEMPLATE})
    )
    write_safetensors(directory / "model.safetensors", tensors)
    return directory
