"""Tiny random audio encoders of Gemma 3n, by transformers' names and as a file of llama.cpp's layout.

One-dimensional weights are drawn from 0.5 to 1.5, so that none hides a branch.
"""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from tiny import Array
from tiny_mmproj import F32, embedder_name, mmproj_writer, write_tensors

_BLOCK = {
    "ffw_layer_start.pre_layer_norm": "ffn_norm",
    "ffw_layer_start.ffw_layer_1": "ffn_up",
    "ffw_layer_start.ffw_layer_2": "ffn_down",
    "ffw_layer_start.post_layer_norm": "ffn_post_norm",
    "attention.pre_attn_norm": "ln1",
    "attention.attn.q_proj": "attn_q",
    "attention.attn.k_proj": "attn_k",
    "attention.attn.v_proj": "attn_v",
    "attention.attn.relative_position_embedding.pos_proj": "linear_pos",
    "attention.attn.per_dim_scale": "per_dim_scale",
    "attention.post": "attn_out",
    "attention.post_norm": "ln2",
    "lconv1d.pre_layer_norm": "conv_norm",
    "lconv1d.linear_start": "conv_pw1",
    "lconv1d.depthwise_conv1d": "conv_dw",
    "lconv1d.conv_norm": "norm_conv",
    "lconv1d.linear_end": "conv_pw2",
    "ffw_layer_end.pre_layer_norm": "ffn_norm_1",
    "ffw_layer_end.ffw_layer_1": "ffn_up_1",
    "ffw_layer_end.ffw_layer_2": "ffn_down_1",
    "ffw_layer_end.post_layer_norm": "ffn_post_norm_1",
    "norm": "layer_pre_norm",
}


@dataclasses.dataclass(frozen=True)
class TinyAudio:
    width: int = 64
    heads: int = 4
    layers: int = 3
    mel: int = 32
    channels: tuple[int, int] = (16, 8)
    text_hidden: int = 40
    seed: int = 0

    def config(self) -> dict[str, Any]:
        """The fields of Gemma3nAudioConfig that have no default here."""
        return {
            "hidden_size": self.width,
            "vocab_size": 128,
            "conf_conv_kernel_size": 5,
            "conf_num_attention_heads": self.heads,
            "conf_num_hidden_layers": self.layers,
            "input_feat_size": self.mel,
            "sscp_conv_channel_size": list(self.channels),
        }

    def weights(self) -> dict[str, Array]:
        """Of the tower ("conformer.0.norm.weight") and of the embedder ("embed_audio.embedding.weight")."""
        random = np.random.default_rng(self.seed)
        width, half = self.width, ((self.mel - 1) // 2 + 1 - 1) // 2 + 1

        def normal(*shape: int) -> Array:
            return random.normal(0, math.prod(shape[1:]) ** -0.5, shape).astype(np.float32)

        def norm(size: int) -> Array:
            return random.uniform(0.5, 1.5, size).astype(np.float32)

        first, second = self.channels
        out = {
            "subsample_conv_projection.conv_0.conv.weight": normal(first, 1, 3, 3),
            "subsample_conv_projection.conv_0.norm.weight": norm(first),
            "subsample_conv_projection.conv_1.conv.weight": normal(second, first, 3, 3),
            "subsample_conv_projection.conv_1.norm.weight": norm(second),
            "subsample_conv_projection.input_proj_linear.weight": normal(width, half * second),
            "embed_audio.embedding.weight": normal(128, width),
            "embed_audio.hard_embedding_norm.weight": norm(width),
            "embed_audio.soft_embedding_norm.weight": norm(width),
            "embed_audio.embedding_projection.weight": normal(self.text_hidden, width),
        }
        shapes: dict[str, tuple[int, ...]] = {
            "ffw_layer_1": (4 * width, width),
            "ffw_layer_2": (width, 4 * width),
            "linear_start": (2 * width, width),
            "depthwise_conv1d": (width, 1, 5),
        }
        for layer in range(self.layers):
            for name in _BLOCK:
                part = name.split(".")[-1]
                whole = f"conformer.{layer}.{name}" + ("" if part == "per_dim_scale" else ".weight")
                if part == "per_dim_scale":
                    out[whole] = random.normal(size=width // self.heads).astype(np.float32)
                elif part.endswith("norm"):
                    out[whole] = norm(width)
                else:
                    out[whole] = normal(*shapes.get(part, (width, width)))
        return out

    def write(self, path: Path, kind: gguf.GGMLQuantizationType = F32) -> Path:
        """The encoder as llama.cpp's converter lays it out; `kind` is the type of what has two dimensions."""
        writer = mmproj_writer(path, "audio", "gemma3na")
        writer.add_uint32("clip.audio.block_count", self.layers)
        writer.add_uint32("clip.audio.num_mel_bins", self.mel)
        writer.add_float32("clip.audio.attention.layer_norm_epsilon", 1e-5)  # which is wrong there too
        write_tensors(writer, {gguf_name(name): value for name, value in self.weights().items()}, kind)
        return path


def gguf_name(name: str) -> str:
    """llama.cpp's name of a tensor of transformers'."""
    base = name.removesuffix(".weight")
    if base.startswith("embed_audio."):
        return embedder_name("mm.a.", name)
    if (conv := re.fullmatch(r"subsample_conv_projection\.conv_(\d)\.(conv|norm)", base)) is not None:
        return f"a.conv1d.{conv[1]}{'.norm' if conv[2] == 'norm' else ''}.weight"
    if base == "subsample_conv_projection.input_proj_linear":
        return "a.pre_encode.out.weight"
    _, layer, part = base.split(".", 2)
    return f"a.blk.{layer}.{_BLOCK[part]}.weight"
