"""SigLIP, Gemma 3's vision encoder, and the projector behind it, by transformers' names.

Published checkpoints put `vision_model.` before the names of the tower; transformers 5 leaves it out when it saves one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import gguf

from gemlet.conversion.config import ConfigFile, Fields, is_number
from gemlet.conversion.planned import Role
from gemlet.conversion.reading import read_json

from .encoder import Encoder
from .taken import Taken

_TOWER: Final = "vision_tower."
_INNER: Final = "vision_model."
_PROJECTOR: Final = "multi_modal_projector."
_SOFT_TOKENS: Final = 256
_EPSILON: Final = 1e-6
_CHANNELS: Final = 3

#: llama.cpp's; readers take it for granted where the key is missing.
_SCALE_FACTOR: Final = 4

#: Files that hold the image processor's fields, the newer one under the second name.
_PREPROCESSORS: Final = (("processor_config.json", "image_processor"), ("preprocessor_config.json", None))


@dataclass(frozen=True)
class Config:
    """The fields of `vision_config`, `mm_tokens_per_image`, and those of the image processor that matter."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    image_size: int
    patch_size: int
    layer_norm_eps: float
    mm_tokens_per_image: int
    image_mean: tuple[float, ...]
    image_std: tuple[float, ...]

    @property
    def side(self) -> int:
        """Patches of a side of the picture."""
        return self.image_size // self.patch_size

    @property
    def pool(self) -> int:
        """Patches of a side of the square that a soft token stands for."""
        return self.side // math.isqrt(self.mm_tokens_per_image)


def read_config(file: ConfigFile) -> Config:
    """Fields that GGUF has no key for must have the published values."""
    fields = file.part("vision_config")
    fields.fixed("hidden_act", ("gelu_pytorch_tanh",))
    fields.fixed("num_channels", (_CHANNELS,))
    hidden_size = fields.integer("hidden_size", high=1 << 13)
    heads = fields.integer("num_attention_heads", high=1 << 13)
    if hidden_size % heads != 0:
        fields.complain("num_attention_heads", f"a divisor of hidden_size ({hidden_size})")
    whole = Fields(file.root)
    processor = _image_processor(file)
    config = Config(
        hidden_size=hidden_size,
        intermediate_size=fields.integer("intermediate_size", high=1 << 15),
        num_hidden_layers=fields.integer("num_hidden_layers", high=1024),
        num_attention_heads=heads,
        image_size=fields.integer("image_size", high=2048),
        patch_size=fields.integer("patch_size", high=2048),
        layer_norm_eps=fields.number("layer_norm_eps", _EPSILON),
        mm_tokens_per_image=whole.integer("mm_tokens_per_image", high=1 << 14, default=_SOFT_TOKENS),
        image_mean=_colours(processor, "image_mean"),
        image_std=_colours(processor, "image_std"),
    )
    tokens = math.isqrt(config.mm_tokens_per_image)
    if tokens**2 != config.mm_tokens_per_image:
        whole.complain("mm_tokens_per_image", "the square of a whole number")
    elif config.image_size % (config.patch_size * tokens) != 0:
        fields.complain("image_size", f"a multiple of patch_size x {tokens}, the soft tokens of a side")
    fields.problems += [*whole.problems, *processor.problems]
    fields.raise_problems(file.path)
    return config


def _image_processor(file: ConfigFile) -> Fields:
    """The fields of the image processor, from whichever file of the checkpoint has them."""
    for name, part in _PREPROCESSORS:
        path = file.path.with_name(name)
        if not path.is_file():
            continue
        values = read_json(path)
        found = values if part is None else values.get(part)
        if isinstance(found, dict):
            return Fields(found, f"{name}: ")
    return Fields({}, "preprocessor_config.json: ")


def _colours(fields: Fields, name: str) -> tuple[float, ...]:
    """A number for each of red, green and blue; 0.5 by default."""
    default = [0.5] * _CHANNELS
    values = fields.values.get(name, default)
    positive = name == "image_std"
    if (
        not isinstance(values, list)
        or len(values) != _CHANNELS
        or not all(is_number(value) and abs(value) <= 1e3 and (value >= 1e-3 or not positive) for value in values)
    ):
        fields.complain(name, f"a list of {_CHANNELS} numbers{' above 0' if positive else ''}")
        values = default
    return tuple(float(value) for value in values)


def take(config: Config, hidden: int, taken: Taken) -> None:
    """The tensors of the tower and of its projector."""
    older = any(name.startswith(_TOWER + _INNER) for name in taken.stored)
    tower = _TOWER + _INNER if older else _TOWER
    width, wide, patch = config.hidden_size, config.intermediate_size, config.patch_size

    def norm(name: str, source: str) -> None:
        for part in ("weight", "bias"):
            taken.vector(f"{name}.{part}", f"{tower}{source}.{part}", width)

    def linear(name: str, source: str, rows: int, cols: int, role: Role) -> None:
        taken.matrix(f"{name}.weight", f"{tower}{source}.weight", rows, cols, role)
        taken.vector(f"{name}.bias", f"{tower}{source}.bias", rows)

    taken.leave(f"{tower}head.")  # pools all patches to one vector, which Gemma 3 has no use for
    embeddings = "embeddings.patch_embedding"
    kernel = (width, _CHANNELS, patch, patch)
    taken.convolution("v.patch_embd.weight", f"{tower}{embeddings}.weight", kernel, Role.VECTOR)
    taken.vector("v.patch_embd.bias", f"{tower}{embeddings}.bias", width)
    positions = f"{tower}embeddings.position_embedding.weight"
    taken.matrix("v.position_embd.weight", positions, config.side**2, width, Role.VECTOR)
    for i in range(config.num_hidden_layers):
        ours, theirs = f"v.blk.{i}.", f"encoder.layers.{i}."
        norm(f"{ours}ln1", f"{theirs}layer_norm1")
        for name, source in (("q", "q_proj"), ("k", "k_proj"), ("v", "v_proj"), ("out", "out_proj")):
            linear(f"{ours}attn_{name}", f"{theirs}self_attn.{source}", width, width, Role.GLUE)
        norm(f"{ours}ln2", f"{theirs}layer_norm2")
        linear(f"{ours}ffn_up", f"{theirs}mlp.fc1", wide, width, Role.LAYER)
        linear(f"{ours}ffn_down", f"{theirs}mlp.fc2", width, wide, Role.LAYER)
    norm("v.post_ln", "post_layernorm")
    taken.vector("mm.soft_emb_norm.weight", f"{_PROJECTOR}mm_soft_emb_norm.weight", width, shift=1.0)
    projection = f"{_PROJECTOR}mm_input_projection_weight"
    taken.matrix("mm.input_projection.weight", projection, width, hidden, Role.TRANSPOSED)


def add_metadata(writer: gguf.GGUFWriter, config: Config) -> None:
    """The keys that llama.cpp's converter writes."""
    writer.add_vision_image_size(config.image_size)
    writer.add_vision_patch_size(config.patch_size)
    writer.add_vision_embedding_length(config.hidden_size)
    writer.add_vision_feed_forward_length(config.intermediate_size)
    writer.add_vision_block_count(config.num_hidden_layers)
    writer.add_vision_head_count(config.num_attention_heads)
    writer.add_vision_attention_layernorm_eps(config.layer_norm_eps)
    writer.add_vision_image_mean(config.image_mean)
    writer.add_vision_image_std(config.image_std)
    writer.add_vision_use_gelu(True)
    if config.pool != _SCALE_FACTOR:
        writer.add_vision_projector_scale_factor(config.pool)


ENCODER: Final = Encoder("vision", (_TOWER, _PROJECTOR), read_config, take, add_metadata)
