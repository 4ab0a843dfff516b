"""Tiny random SigLIP towers with Gemma 3's projector, in transformers' names, and as a file of llama.cpp's layout.

No width is a multiple of a vector, biases are far from zero, and queries and keys are large, so that attention is sharp
and no branch hides.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np
from gemlet.conversion.sentencepiece import Piece, PieceKind

from tiny import Array, tiny_pieces, tiny_tokenizer
from tiny_gemma3 import TinyGemma3, write_gemma3_checkpoint
from tiny_mmproj import write_tensors

TOWER: Final = "vision_tower.vision_model."
PROJECTOR: Final = "multi_modal_projector."

#: Of the pixels: a value of its own for each colour.
MEAN: Final = [0.5, 0.4, 0.6]
DEVIATION: Final = [0.5, 0.6, 0.4]

_TOP: Final = {
    f"{TOWER}embeddings.patch_embedding.": "v.patch_embd.",
    f"{TOWER}embeddings.position_embedding.": "v.position_embd.",
    f"{TOWER}post_layernorm.": "v.post_ln.",
    f"{PROJECTOR}mm_input_projection_weight": "mm.input_projection.weight",
    f"{PROJECTOR}mm_soft_emb_norm.": "mm.soft_emb_norm.",
}
_BLOCK: Final = {
    "layer_norm1": "ln1",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.out_proj": "attn_out",
    "layer_norm2": "ln2",
    "mlp.fc1": "ffn_up",
    "mlp.fc2": "ffn_down",
}


@dataclasses.dataclass(frozen=True)
class TinySiglip:
    image_size: int = 60
    patch_size: int = 5
    tokens: int = 16
    width: int = 44
    heads: int = 4
    ffn: int = 70
    layers: int = 3
    text_hidden: int = 42
    seed: int = 0

    @property
    def side(self) -> int:
        """Patches of a side of the picture."""
        return self.image_size // self.patch_size

    @property
    def pool(self) -> int:
        """Patches of a side of a soft token."""
        return self.side // int(self.tokens**0.5)

    def weights(self) -> dict[str, Array]:
        """By the names of published checkpoints, without what newer ones put before them."""
        random = np.random.default_rng(self.seed)
        out: dict[str, Array] = {}

        def matrix(rows: int, cols: int, gain: float = 1.0) -> Array:
            return (gain * random.normal(0, cols**-0.5, (rows, cols))).astype(np.float32)

        def linear(name: str, rows: int, cols: int, gain: float = 1.0) -> None:
            out[f"{name}.weight"] = matrix(rows, cols, gain)
            out[f"{name}.bias"] = random.normal(0, 0.3, rows).astype(np.float32)

        def norm(name: str) -> None:
            out[f"{name}.weight"] = random.uniform(0.5, 1.5, self.width).astype(np.float32)
            out[f"{name}.bias"] = random.normal(0, 0.3, self.width).astype(np.float32)

        patch = f"{TOWER}embeddings.patch_embedding"
        linear(patch, self.width, 3 * self.patch_size**2)
        out[f"{patch}.weight"] = out[f"{patch}.weight"].reshape(self.width, 3, self.patch_size, self.patch_size)
        positions = random.normal(size=(self.side**2, self.width)).astype(np.float32)
        out[f"{TOWER}embeddings.position_embedding.weight"] = positions
        for i in range(self.layers):
            layer = f"{TOWER}encoder.layers.{i}."
            norm(f"{layer}layer_norm1")
            for part, gain in (("q_proj", 2.0), ("k_proj", 2.0), ("v_proj", 1.0), ("out_proj", 1.0)):
                linear(f"{layer}self_attn.{part}", self.width, self.width, gain)
            norm(f"{layer}layer_norm2")
            linear(f"{layer}mlp.fc1", self.ffn, self.width, 1.5)
            linear(f"{layer}mlp.fc2", self.width, self.ffn)
        norm(f"{TOWER}post_layernorm")
        out[f"{PROJECTOR}mm_input_projection_weight"] = matrix(self.width, self.text_hidden)
        out[f"{PROJECTOR}mm_soft_emb_norm.weight"] = random.uniform(-0.5, 0.5, self.width).astype(np.float32)
        return out

    def config(self) -> dict[str, Any]:
        """The fields of `vision_config`."""
        return {
            "model_type": "siglip_vision_model",
            "hidden_size": self.width,
            "intermediate_size": self.ffn,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "image_size": self.image_size,
            "patch_size": self.patch_size,
            "vision_use_head": False,
        }

    def tensors(self) -> dict[str, Array]:
        """As llama.cpp's converter names and changes them."""
        found = {gguf_name(name): value for name, value in self.weights().items()}
        found["mm.soft_emb_norm.weight"] = found["mm.soft_emb_norm.weight"] + np.float32(1)
        return found

    def write(
        self,
        path: Path,
        tensors: Mapping[str, Array] | None = None,
        kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
        projector: str = "gemma3",
    ) -> Path:
        """The tower as llama.cpp's converter lays it out; `tensors` instead of its own."""
        writer = gguf.GGUFWriter(path, "clip")
        writer.add_string("general.type", "mmproj")
        writer.add_clip_has_vision_encoder(True)
        writer.add_clip_projector_type(projector)
        writer.add_vision_projection_dim(self.text_hidden)
        writer.add_vision_image_size(self.image_size)
        writer.add_vision_patch_size(self.patch_size)
        writer.add_vision_embedding_length(self.width)
        writer.add_vision_feed_forward_length(self.ffn)
        writer.add_vision_block_count(self.layers)
        writer.add_vision_head_count(self.heads)
        writer.add_vision_attention_layernorm_eps(1e-6)
        writer.add_vision_image_mean(MEAN)
        writer.add_vision_image_std(DEVIATION)
        writer.add_vision_use_gelu(True)
        if self.pool != 4:
            writer.add_vision_projector_scale_factor(self.pool)
        write_tensors(writer, self.tensors() if tensors is None else tensors, kind)
        return path


def gguf_name(name: str) -> str:
    """llama.cpp's name of a tensor of transformers'."""
    for theirs, ours in _TOP.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    layer, part = name.removeprefix(f"{TOWER}encoder.layers.").split(".", 1)
    stem, kind = part.rsplit(".", 1)
    return f"v.blk.{layer}.{_BLOCK[stem]}.{kind}"


def siglip_checkpoint(
    folder: Path, tiny: TinySiglip, *, layout: str = "published", drop: str | None = None, **fields: Any
) -> Path:
    """A multimodal checkpoint of Gemma 3 with this tower. `layout`: "published", "renamed" (published, with "model."
    before it all) or "saved" (as transformers 5 saves one). `drop`: a tensor that is not there. `fields` go into
    config.json."""
    prefix = "model." if layout == "renamed" else ""
    extra: dict[str, Array] = {}
    for name, value in tiny.weights().items():
        if name != drop:
            extra[prefix + (name.replace(TOWER, "vision_tower.") if layout == "saved" else name)] = value
    text = TinyGemma3(hidden=tiny.text_hidden)
    inner = "model.language_model." if layout == "renamed" else "language_model.model."
    out = write_gemma3_checkpoint(folder, text, prefix=inner, extra=extra, vision={})
    path = out / "config.json"
    whole = {"vision_config": tiny.config(), "mm_tokens_per_image": tiny.tokens, **fields}
    path.write_text(json.dumps({**json.loads(path.read_text()), **whole}))
    pieces = tiny_pieces()
    pieces += [Piece(name, 0.0, PieceKind.CONTROL) for name in ("<start_of_image>", "<end_of_image>")]
    (out / "tokenizer.model").write_bytes(tiny_tokenizer(pieces).serialize())
    colours = {"image_mean": MEAN, "image_std": DEVIATION}
    (out / "preprocessor_config.json").write_text(json.dumps(colours))
    return out
