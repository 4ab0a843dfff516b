"""Tiny random MobileNetV5 towers in timm's names, and as a file of llama.cpp's layout.

Every kind of block is in them, with channels that are no multiple of a vector. One-dimensional weights are drawn from
0.5 to 1.5, so that none hides a branch: published layer scales begin at 1e-5.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from tiny import Array
from tiny_mmproj import embedder_name, mmproj_writer, write_tensors

STAGES = (
    ("er_r1_k3_s2_e4_c24", "er_r1_k3_s1_e4_c24"),
    ("uir_r1_a3_k5_s2_e6_c40", "uir_r1_a5_k0_s1_e4_c40", "uir_r1_a3_k0_s1_e4_c40"),
    ("uir_r1_a5_k5_s2_e6_c48", "uir_r1_a0_k0_s1_e1_c48", "mqa_r1_k3_h3_v2_s1_d12_c48", "uir_r1_a0_k0_s1_e2_c48"),
    ("uir_r1_a5_k5_s2_e4_c56", "mqa_r1_k3_h4_s1_d16_c56", "uir_r1_a0_k0_s1_e2_c56"),
)
"""timm's block strings: a and k are the kernels before and after the expansion, v2 halves keys and values."""


@dataclasses.dataclass(frozen=True)
class TinyVision:
    stages: tuple[tuple[str, ...], ...] = STAGES
    stem: int = 24
    width: int = 2048
    """Of the fusion adapter's output, which timm does not let one choose."""
    text_hidden: int = 40
    seed: int = 0

    def weights(self) -> dict[str, Array]:
        """By timm's names, and those of transformers' embedder ("embed_vision.embedding.weight")."""
        random = np.random.default_rng(self.seed)

        def conv(outputs: int, inputs: int, kernel: int) -> Array:
            deviation = (inputs * kernel * kernel) ** -0.5
            return random.normal(0, deviation, (outputs, inputs, kernel, kernel)).astype(np.float32)

        def norm(size: int) -> Array:
            return random.uniform(0.5, 1.5, size).astype(np.float32)

        out = {
            "conv_stem.conv.weight": conv(self.stem, 3, 3),
            "conv_stem.conv.bias": (random.normal(size=self.stem) / 4).astype(np.float32),
            "conv_stem.bn.weight": norm(self.stem),
        }
        channels, ends = self.stem, []
        for stage, blocks in enumerate(self.stages):
            for index, block in enumerate(blocks):
                prefix = f"blocks.{stage}.{index}."
                kind, *options = block.split("_")
                option = {o[0]: int(o[1:]) for o in options}
                after = option["c"]
                wide = channels * option.get("e", 1)
                if kind == "er":
                    out[f"{prefix}conv_exp.weight"] = conv(wide, channels, 3)
                    out[f"{prefix}bn1.weight"] = norm(wide)
                    out[f"{prefix}conv_pwl.weight"] = conv(after, wide, 1)
                    out[f"{prefix}bn2.weight"] = norm(after)
                elif kind == "uir":
                    for part, kernel, width in (("dw_start", option["a"], channels), ("dw_mid", option["k"], wide)):
                        if kernel:
                            out[f"{prefix}{part}.conv.weight"] = conv(width, 1, kernel)
                            out[f"{prefix}{part}.bn.weight"] = norm(width)
                    for part, width, inputs in (("pw_exp", wide, channels), ("pw_proj", after, wide)):
                        out[f"{prefix}{part}.conv.weight"] = conv(width, inputs, 1)
                        out[f"{prefix}{part}.bn.weight"] = norm(width)
                    out[f"{prefix}layer_scale.gamma"] = norm(after)
                else:
                    heads, dim = option["h"], option["d"]
                    out[f"{prefix}norm.weight"] = norm(channels)
                    out[f"{prefix}attn.query.proj.weight"] = 3 * conv(heads * dim, channels, 1)
                    for part in ("key", "value"):
                        if option.get("v"):
                            out[f"{prefix}attn.{part}.down_conv.weight"] = conv(channels, 1, 3)
                            out[f"{prefix}attn.{part}.norm.weight"] = norm(channels)
                        out[f"{prefix}attn.{part}.proj.weight"] = conv(dim, channels, 1)
                    out[f"{prefix}attn.output.proj.weight"] = conv(channels, heads * dim, 1)
                    out[f"{prefix}layer_scale.gamma"] = norm(channels)
                channels = after
            ends.append(channels)
        fused = ends[-2] + ends[-1]
        for part, width, inputs in (("pw_exp", 2 * fused, fused), ("pw_proj", self.width, 2 * fused)):
            out[f"msfa.ffn.{part}.conv.weight"] = conv(width, inputs, 1)
            out[f"msfa.ffn.{part}.bn.weight"] = norm(width)
        out["msfa.norm.weight"] = norm(self.width)
        out["embed_vision.embedding.weight"] = random.normal(size=(128, self.width)).astype(np.float32)
        out["embed_vision.hard_embedding_norm.weight"] = norm(self.width)
        out["embed_vision.soft_embedding_norm.weight"] = norm(self.width)
        out["embed_vision.embedding_projection.weight"] = conv(self.text_hidden, self.width, 1)[:, :, 0, 0]
        return out

    def config(self) -> dict[str, Any]:
        """The fields of `vision_config`."""
        return {
            "architecture": "mobilenetv5_300m_enc",
            "hidden_size": self.width,
            "vocab_size": 128,
            "model_args": {"block_args": self.stages, "stem_size": self.stem},
        }

    def write(self, path: Path, image_size: int | None = None) -> Path:
        """The tower as llama.cpp's converter lays it out."""
        writer = mmproj_writer(path, "vision", "gemma3nv")
        if image_size is not None:
            writer.add_vision_image_size(image_size)
        write_tensors(writer, {gguf_name(name): value for name, value in self.weights().items()})
        return path


def gguf_name(name: str) -> str:
    """llama.cpp's name of a tensor of timm's."""
    if name.startswith("embed_vision."):
        return embedder_name("mm.", name)
    return "v." + name.replace("blocks.", "blk.", 1)
