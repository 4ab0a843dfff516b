"""nano's configurations: the real architectures, small."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "python"))

from torchvision_operators import complete_torchvision

complete_torchvision()

from transformers import Gemma3nForCausalLM, Gemma3nTextConfig  # noqa: E402

WIDTH, LAYERS, FFN = 128, 9, 512
PIECES, HARD_TOKENS = 2048, 128
STEM = 16
STAGES = (
    ("er_r1_k3_s2_e4_c24",),
    ("uir_r1_a3_k5_s2_e4_c48", "uir_r1_a3_k0_s1_e2_c48"),
    (
        *("uir_r1_a5_k5_s2_e4_c96", "uir_r1_a5_k0_s1_e2_c96", "uir_r1_a3_k0_s1_e2_c96"),
        *("mqa_r1_k3_h4_v2_s1_d32_c96", "uir_r1_a0_k0_s1_e2_c96"),
    ),
    (
        *("uir_r1_a5_k5_s2_e4_c128", "mqa_r1_k3_h4_s1_d32_c128", "uir_r1_a0_k0_s1_e2_c128"),
        *("mqa_r1_k3_h4_s1_d32_c128", "uir_r1_a0_k0_s1_e2_c128"),
    ),
)
"""The blocks of MobileNetV5 in timm's strings."""


def nano_config(width: int, layers: int, ffn: int) -> Gemma3nTextConfig:
    """Every feature of Gemma 3n, small: each third layer sees everything, the last three share keys and values."""
    return Gemma3nTextConfig(
        vocab_size=PIECES + 2 * HARD_TOKENS,
        vocab_size_per_layer_input=PIECES,
        hidden_size=width,
        hidden_size_per_layer_input=32,
        intermediate_size=[ffn] * layers,
        num_hidden_layers=layers,
        num_attention_heads=width // 32,
        num_key_value_heads=width // 64,
        head_dim=32,
        num_kv_shared_layers=3,
        laurel_rank=32,
        sliding_window=64,
        max_position_embeddings=2048,
        layer_types=["full_attention" if i % 3 == 2 else "sliding_attention" for i in range(layers)],
        activation_sparsity_pattern=[0.8] * 3 + [0.0] * (layers - 3),
        eos_token_id=[1, 5],
        bos_token_id=2,
        pad_token_id=0,
        rope_parameters={
            "full_attention": {"rope_type": "default", "rope_theta": 1_000_000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
        },
    )


def blocks() -> list[list[dict[str, Any]]]:
    """The blocks as timm takes them, which changes what it is given."""
    from timm.models._efficientnet_builder import decode_arch_def

    decoded: list[list[dict[str, Any]]] = decode_arch_def([list(stage) for stage in STAGES])
    return decoded


def vision_fields() -> dict[str, Any]:
    """The fields of `vision_config`."""
    return {
        "architecture": "mobilenetv5_300m_enc",
        "hidden_size": 2048,  # of the fusion adapter's output, which timm does not let one choose
        "vocab_size": HARD_TOKENS,
        "vocab_offset": PIECES,
        "rms_norm_eps": 1e-6,
        "do_pooling": False,
        "model_args": {"block_args": blocks(), "stem_size": STEM},
    }


def audio_fields() -> dict[str, Any]:
    """The fields of `audio_config` that are not those of the published encoder."""
    return {
        "vocab_size": HARD_TOKENS,
        "vocab_offset": PIECES + HARD_TOKENS,
        "input_feat_size": 64,
        "hidden_size": 160,
        "conf_num_attention_heads": 4,
        "conf_num_hidden_layers": 6,
        "conf_conv_kernel_size": 5,
        "sscp_conv_channel_size": [32, 16],
    }


def initialise(model: Gemma3nForCausalLM) -> None:
    """Unit-scale activations everywhere, attention scores of about one, gentle residual additions."""
    width = model.config.hidden_size
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "router_norm" in name:
                weight.fill_(width)
            elif "q_norm" in name or "k_norm" in name:
                weight.fill_(model.config.head_dim**-0.25 * 1.3)
            elif any(part in name for part in ("post_attention", "post_feedforward", "post_per_layer", "post_laurel")):
                weight.fill_(0.5)
            elif "norm" in name or "correct_output_scale" in name:
                weight.fill_(1)
            elif "prediction_coefs" in name or "correction_coefs" in name:
                weight.normal_(std=0.05)
            elif "embed_tokens_per_layer" in name:
                weight.normal_(std=model.config.hidden_size_per_layer_input**-0.5)
            elif "embed_tokens" in name:
                weight.normal_(std=width**-0.5)
            else:
                weight.normal_(std=weight.shape[1] ** -0.5)
