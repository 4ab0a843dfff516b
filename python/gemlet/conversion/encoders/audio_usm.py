"""USM, Gemma 3n's audio encoder, by transformers' names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import gguf

from gemlet.conversion.config import ConfigFile, Fields, is_size
from gemlet.conversion.planned import Role

from .encoder import Encoder
from .soft_tokens import take_soft_tokens
from .taken import Taken

_TOWER: Final = "audio_tower."
_EMBEDDER: Final = "embed_audio."
_EPSILON: Final = 1e-6
_KERNEL: Final = 3
_SOFT_TOKENS: Final = 188

#: Fields that GGUF has no key for, with the published values, which the core has built in. The group norm's epsilon has
#: an older name.
_FIXED: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "rms_norm_eps": _EPSILON,
        "gradient_clipping": 1e10,
        "conf_attention_chunk_size": 12,
        "conf_attention_context_left": 13,
        "conf_attention_context_right": 0,
        "conf_attention_logit_cap": 50.0,
        "conf_reduction_factor": 4,
        "conf_residual_weight": 0.5,
        "sscp_conv_group_norm_eps": 1e-3,
        "sscp_conv_eps": 1e-3,
        "sscp_conv_kernel_size": [[_KERNEL, _KERNEL], [_KERNEL, _KERNEL]],
        "sscp_conv_stride_size": [[2, 2], [2, 2]],
    }
)


@dataclass(frozen=True)
class Config:
    """The fields of `audio_config`."""

    hidden_size: int
    vocab_size: int
    input_feat_size: int
    conf_num_attention_heads: int
    conf_num_hidden_layers: int
    conf_conv_kernel_size: int
    sscp_conv_channel_size: tuple[int, int]
    audio_soft_tokens_per_image: int
    """Up to which sounds are filled with the embedding of padding; 0 for none."""

    @property
    def intermediate_size(self) -> int:
        """Of the feed-forward layers."""
        return 4 * self.hidden_size

    @property
    def subsampled_size(self) -> int:
        """Values of a frame after both convolutions, each of which halves the mel axis."""
        places = self.input_feat_size
        for _ in self.sscp_conv_channel_size:
            places = (places - 1) // 2 + 1
        return places * self.sscp_conv_channel_size[-1]


def read_config(file: ConfigFile) -> Config:
    """Fields that GGUF has no key for must have the published values."""
    fields = file.part("audio_config")
    for name, value in _FIXED.items():
        fields.fixed(name, (value,))
    whole = Fields(file.root)
    soft_tokens = whole.integer("audio_soft_tokens_per_image", low=0, high=1 << 14, default=_SOFT_TOKENS)
    fields.problems += whole.problems
    heads = fields.integer("conf_num_attention_heads", high=1 << 16)
    hidden_size = fields.integer("hidden_size", low=2, high=1 << 16)
    if hidden_size % heads != 0:
        fields.complain("conf_num_attention_heads", f"a divisor of hidden_size ({hidden_size})")
    config = Config(
        hidden_size=hidden_size,
        vocab_size=fields.integer("vocab_size", high=1 << 20),
        input_feat_size=fields.integer("input_feat_size", low=8, high=1024),
        conf_num_attention_heads=heads,
        conf_num_hidden_layers=fields.integer("conf_num_hidden_layers", high=1024),
        conf_conv_kernel_size=fields.integer("conf_conv_kernel_size", high=64),
        sscp_conv_channel_size=_channels(fields),
        audio_soft_tokens_per_image=soft_tokens,
    )
    fields.raise_problems(file.path)
    return config


def _channels(fields: Fields) -> tuple[int, int]:
    """Output channels of the two convolutions."""
    channels = fields.values.get("sscp_conv_channel_size")
    if not isinstance(channels, list) or len(channels) != 2 or not all(map(is_size, channels)):
        fields.complain("sscp_conv_channel_size", "a list of 2 whole numbers above 0")
        return 1, 1
    return channels[0], channels[1]


def take(config: Config, hidden: int, taken: Taken) -> None:
    """The tensors of the tower and of its embedder."""
    inputs = 1
    for i, outputs in enumerate(config.sscp_conv_channel_size):
        source = f"{_TOWER}subsample_conv_projection.conv_{i}."
        shape = (outputs, inputs, _KERNEL, _KERNEL)
        taken.convolution(f"a.conv1d.{i}.weight", f"{source}conv.weight", shape, Role.VECTOR)
        taken.vector(f"a.conv1d.{i}.norm.weight", f"{source}norm.weight", outputs)
        inputs = outputs
    projection = f"{_TOWER}subsample_conv_projection.input_proj_linear.weight"
    taken.matrix("a.pre_encode.out.weight", projection, config.hidden_size, config.subsampled_size, Role.GLUE)
    for block in range(config.conf_num_hidden_layers):
        _take_block(config, taken, block)
    take_soft_tokens(taken, _EMBEDDER, "mm.a.", vocabulary=config.vocab_size, width=config.hidden_size, hidden=hidden)


def _take_block(config: Config, taken: Taken, block: int) -> None:
    """llama.cpp's names, some of which mislead: `conv_norm` stands before the light convolution and `norm_conv` inside
    of it, and `layer_pre_norm` is the block's last."""
    width, wide = config.hidden_size, config.intermediate_size

    def vector(name: str, source: str, size: int = width) -> None:
        taken.vector(f"a.blk.{block}.{name}.weight", f"{_TOWER}conformer.{block}.{source}", size)

    def matrix(name: str, source: str, rows: int = width, cols: int = width, role: Role = Role.LAYER) -> None:
        taken.matrix(f"a.blk.{block}.{name}.weight", f"{_TOWER}conformer.{block}.{source}.weight", rows, cols, role)

    def feed_forward(layer: str, suffix: str) -> None:
        vector(f"ffn_norm{suffix}", f"{layer}.pre_layer_norm.weight")
        matrix(f"ffn_up{suffix}", f"{layer}.ffw_layer_1", rows=wide)
        matrix(f"ffn_down{suffix}", f"{layer}.ffw_layer_2", cols=wide)
        vector(f"ffn_post_norm{suffix}", f"{layer}.post_layer_norm.weight")

    feed_forward("ffw_layer_start", "")
    vector("ln1", "attention.pre_attn_norm.weight")
    matrix("attn_q", "attention.attn.q_proj")
    matrix("attn_k", "attention.attn.k_proj")
    matrix("attn_v", "attention.attn.v_proj")
    matrix("linear_pos", "attention.attn.relative_position_embedding.pos_proj", role=Role.GLUE)
    vector("per_dim_scale", "attention.attn.per_dim_scale", width // config.conf_num_attention_heads)
    matrix("attn_out", "attention.post")
    vector("ln2", "attention.post_norm.weight")
    vector("conv_norm", "lconv1d.pre_layer_norm.weight")
    matrix("conv_pw1", "lconv1d.linear_start", rows=2 * width)
    taken.convolution(
        f"a.blk.{block}.conv_dw.weight",
        f"{_TOWER}conformer.{block}.lconv1d.depthwise_conv1d.weight",
        (width, 1, config.conf_conv_kernel_size),
        Role.VECTOR,
    )
    vector("norm_conv", "lconv1d.conv_norm.weight")
    matrix("conv_pw2", "lconv1d.linear_end")
    feed_forward("ffw_layer_end", "_1")
    vector("layer_pre_norm", "norm.weight")


def add_metadata(writer: gguf.GGUFWriter, config: Config) -> None:
    """The keys that llama.cpp's converter writes, but for the norms' epsilon, where it writes 1e-5; and one that it has
    not, where sounds are filled up to another number of soft tokens than in published checkpoints."""
    writer.add_audio_embedding_length(config.hidden_size)
    writer.add_audio_feed_forward_length(config.intermediate_size)
    writer.add_audio_block_count(config.conf_num_hidden_layers)
    writer.add_audio_head_count(config.conf_num_attention_heads)
    writer.add_audio_num_mel_bins(config.input_feat_size)
    writer.add_audio_attention_layernorm_eps(_EPSILON)
    if config.audio_soft_tokens_per_image != _SOFT_TOKENS:
        writer.add_uint32("clip.audio.filled_soft_tokens", config.audio_soft_tokens_per_image)


ENCODER: Final = Encoder("audio", (_TOWER, _EMBEDDER), read_config, take, add_metadata)
