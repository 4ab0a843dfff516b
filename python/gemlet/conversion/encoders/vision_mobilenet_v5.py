"""MobileNetV5, Gemma 3n's vision encoder: timm's `mobilenetv5_300m_enc` in transformers' wrapper.

The configuration does not say which blocks there are. Those of the published encoder are listed here; where
`vision_config.model_args` asks timm for others, the names of the tensors tell. Widths are the tensors' own, and each is
checked against its neighbours'.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

import gguf

from gemlet.conversion.config import ConfigFile, Fields
from gemlet.conversion.errors import ConvertError
from gemlet.conversion.planned import Role
from gemlet.conversion.reading import read_json

from .encoder import Encoder
from .soft_tokens import take_soft_tokens
from .taken import Size, Taken

_TOWER: Final = "vision_tower.timm_model."
_EMBEDDER: Final = "embed_vision."
_BLOCK: Final = re.compile(re.escape(_TOWER) + r"blocks\.([0-9]{1,6})\.([0-9]{1,6})\.(.+)")
_EPSILON: Final = 1e-6
_SOFT_TOKENS: Final = 256

#: What transformers' image processor resizes pictures to, and what else the encoder takes.
_IMAGE_SIZE: Final = 768
_IMAGE_SIZES: Final = (256, 512, _IMAGE_SIZE)

#: What llama.cpp's converter writes for a vision transformer's sizes, which this encoder does not have.
_NOMINAL_BLOCKS: Final = 128
_NOMINAL_HEADS: Final = 8


@dataclass(frozen=True)
class Block:
    """A block: timm's EdgeResidual ("er"), UniversalInvertedResidual ("uir") or MobileAttention ("mqa"), and which of
    its depthwise convolutions it has."""

    kind: Literal["er", "uir", "mqa"]
    depthwise: tuple[str, ...] = ()


Stages = tuple[tuple[Block, ...], ...]

_DEPTHWISE: Final = {"er": (), "uir": ("dw_start", "dw_mid"), "mqa": ("attn.key.down_conv", "attn.value.down_conv")}
_ER, _UIR, _MQA = Block("er"), Block("uir"), Block("mqa")
_UIR_START = Block("uir", ("dw_start",))
_UIR_HALVING = Block("uir", _DEPTHWISE["uir"])
_MQA_OF_A_QUARTER = Block("mqa", _DEPTHWISE["mqa"])

PUBLISHED: Final[Stages] = (
    (_ER,) * 3,
    (_UIR_HALVING, *(_UIR_START,) * 4),
    (_UIR_HALVING, *(_UIR_START,) * 7, _UIR, *(_MQA_OF_A_QUARTER, _UIR) * 14),
    (_UIR_HALVING, *(_MQA, _UIR) * 19),
)
"""The blocks of `mobilenetv5_300m_enc`."""


@dataclass(frozen=True)
class Config:
    """The fields of `vision_config`."""

    hidden_size: int
    vocab_size: int
    is_published: bool
    image_size: int
    """Of a picture's side: the size that the encoder was trained with."""


def read_config(file: ConfigFile) -> Config:
    """Fields that GGUF has no key for must have the published values."""
    fields = file.part("vision_config")
    fields.fixed("architecture", ("mobilenetv5_300m_enc",))
    fields.fixed("rms_norm_eps", (_EPSILON,))
    config = Config(
        hidden_size=fields.integer("hidden_size", high=1 << 16),
        vocab_size=fields.integer("vocab_size", high=1 << 20),
        is_published=not fields.values.get("model_args"),
        image_size=_image_size(file),
    )
    whole = Fields(file.root)
    whole.fixed("vision_soft_tokens_per_image", (_SOFT_TOKENS,))
    fields.problems += whole.problems
    fields.raise_problems(file.path)
    return config


def _image_size(file: ConfigFile) -> int:
    """Of `preprocessor_config.json`, where the checkpoint has it."""
    path = file.path.with_name("preprocessor_config.json")
    if not path.exists():
        return _IMAGE_SIZE
    size = read_json(path).get("size", {"height": _IMAGE_SIZE, "width": _IMAGE_SIZE})
    sides = [size.get("height"), size.get("width")] if isinstance(size, dict) else [size]
    if sides[0] not in _IMAGE_SIZES or sides[0] != sides[-1]:
        raise ConvertError(f"{path}: size: expected a square of 256, 512 or 768 pixels, found {json.dumps(size)[:80]}")
    return int(sides[0])


class _Tower:
    """Takes tensors by timm's names."""

    def __init__(self, taken: Taken) -> None:
        self.taken = taken

    def vector(self, part: str, size: Size) -> None:
        self.taken.vector(_name(part), _TOWER + part, size)

    def gamma(self, prefix: str, size: Size) -> None:
        part = f"{prefix}layer_scale.gamma"
        self.taken.channels(_name(part), _TOWER + part, size)

    def dense(self, part: str, inputs: Size, role: Role = Role.KERNEL) -> Size:
        return self.taken.convolution(_name(part), _TOWER + part, (None, inputs, 3, 3), role)

    def depthwise(self, part: str, norm: str, size: Size) -> None:
        self.taken.convolution(_name(part), _TOWER + part, (size, 1, None, None))
        self.vector(norm, size)

    def pointwise(self, part: str, outputs: Size, inputs: Size, role: Role = Role.LAYER) -> Size:
        return self.taken.pointwise(_name(part), _TOWER + part, outputs, inputs, role)

    def pointwise_and_norm(self, part: str, outputs: Size, inputs: Size) -> Size:
        outputs = self.pointwise(f"{part}.conv.weight", outputs, inputs)
        self.vector(f"{part}.bn.weight", outputs)
        return outputs

    def block(self, prefix: str, block: Block, channels: Size) -> Size:
        """Returns the channels of what the block gives."""
        if block.kind == "er":
            return self._edge_residual(prefix, channels)
        if block.kind == "uir":
            return self._inverted_residual(prefix, block, channels)
        return self._attention(prefix, block, channels)

    def _edge_residual(self, prefix: str, channels: Size) -> Size:
        wide = self.dense(f"{prefix}conv_exp.weight", channels)
        self.vector(f"{prefix}bn1.weight", wide)
        outputs = self.pointwise(f"{prefix}conv_pwl.weight", None, wide)
        self.vector(f"{prefix}bn2.weight", outputs)
        return outputs

    def _inverted_residual(self, prefix: str, block: Block, channels: Size) -> Size:
        if "dw_start" in block.depthwise:
            self.depthwise(f"{prefix}dw_start.conv.weight", f"{prefix}dw_start.bn.weight", channels)
        wide = self.pointwise_and_norm(f"{prefix}pw_exp", None, channels)
        if "dw_mid" in block.depthwise:
            self.depthwise(f"{prefix}dw_mid.conv.weight", f"{prefix}dw_mid.bn.weight", wide)
        outputs = self.pointwise_and_norm(f"{prefix}pw_proj", None, wide)
        self.gamma(prefix, outputs)
        return outputs

    def _attention(self, prefix: str, block: Block, channels: Size) -> Size:
        self.vector(f"{prefix}norm.weight", channels)
        queries = self.pointwise(f"{prefix}attn.query.proj.weight", None, channels, Role.GLUE)
        head_dim: Size = None
        for part in ("key", "value"):
            attention = f"{prefix}attn.{part}"
            if block.depthwise:
                self.depthwise(f"{attention}.down_conv.weight", f"{attention}.norm.weight", channels)
            head_dim = self.pointwise(f"{attention}.proj.weight", head_dim, channels, Role.GLUE)
        self.pointwise(f"{prefix}attn.output.proj.weight", channels, queries, Role.GLUE)
        self.gamma(prefix, channels)
        return channels


def _name(part: str) -> str:
    """llama.cpp's name of a tensor of timm's."""
    return "v." + part.replace("blocks.", "blk.", 1)


def find_blocks(names: Iterable[str]) -> Stages:
    """The blocks that tensors have the names of, each stage up to its first gap."""
    parts: dict[tuple[int, int], list[str]] = {}
    for name in names:
        if (found := _BLOCK.fullmatch(name)) is not None:
            parts.setdefault((int(found[1]), int(found[2])), []).append(found[3])
    stages: list[tuple[Block, ...]] = []
    while (len(stages), 0) in parts:
        blocks: list[Block] = []
        while (tensors := parts.get((len(stages), len(blocks)))) is not None:
            blocks.append(_block_of(tensors))
        stages.append(tuple(blocks))
    return tuple(stages)


def _block_of(tensors: list[str]) -> Block:
    def has(*beginnings: str) -> bool:
        return any(tensor.startswith(beginnings) for tensor in tensors)

    if has("conv_exp.", "conv_pwl.", "bn1.", "bn2."):
        return _ER
    if has("attn."):
        return _MQA_OF_A_QUARTER if has("attn.key.down_conv.", "attn.value.down_conv.") else _MQA
    return Block("uir", tuple(part for part in _DEPTHWISE["uir"] if has(f"{part}.")))


def take(config: Config, hidden: int, taken: Taken) -> None:
    """The tensors of the tower and of its embedder."""
    tower = _Tower(taken)
    channels = tower.dense("conv_stem.conv.weight", 3, Role.VECTOR)
    bias = "conv_stem.conv.bias"
    if _TOWER + bias in taken.stored:
        taken.channels(_name(bias), _TOWER + bias, channels)
    else:  # in the oldest checkpoints
        taken.zero_channels(_name(bias), channels)
    tower.vector("conv_stem.bn.weight", channels)
    stages = PUBLISHED if config.is_published else find_blocks(taken.stored)
    ends: list[Size] = []
    for stage, blocks in enumerate(stages):
        for index, block in enumerate(blocks):
            channels = tower.block(f"blocks.{stage}.{index}.", block, channels)
        ends.append(channels)
    fine, coarse = (None, None, *ends)[-2:]
    fused = None if fine is None or coarse is None else fine + coarse
    wide = tower.pointwise_and_norm("msfa.ffn.pw_exp", None, fused)
    tower.pointwise_and_norm("msfa.ffn.pw_proj", config.hidden_size, wide)
    tower.vector("msfa.norm.weight", config.hidden_size)
    take_soft_tokens(taken, _EMBEDDER, "mm.", vocabulary=config.vocab_size, width=config.hidden_size, hidden=hidden)


def add_metadata(writer: gguf.GGUFWriter, config: Config) -> None:
    """The keys that llama.cpp's converter writes."""
    writer.add_vision_image_size(config.image_size)
    writer.add_vision_patch_size(config.image_size // _SOFT_TOKENS)  # llama.cpp expects their ratio's square of patches
    writer.add_vision_embedding_length(config.hidden_size)
    writer.add_vision_feed_forward_length(4 * config.hidden_size)
    writer.add_vision_block_count(_NOMINAL_BLOCKS)
    writer.add_vision_head_count(_NOMINAL_HEADS)
    writer.add_vision_attention_layernorm_eps(_EPSILON)
    writer.add_vision_image_mean([0.0, 0.0, 0.0])
    writer.add_vision_image_std([1.0, 1.0, 1.0])


ENCODER: Final = Encoder("vision", ("vision_tower.", _EMBEDDER), read_config, take, add_metadata)
