#!/usr/bin/env python3
"""Measures what quantisation costs the encoders of pictures and sound: the cosine of their soft tokens with those of
float32, on random towers of the published sizes. Prints a table and writes docs/results/media_quant.json.

    python scripts/compare_media/quantised_towers.py                   # all of them: 10 GB of disk, many minutes
    python scripts/compare_media/quantised_towers.py --tower usm --quick --out build/usm.json

Random weights are a hard case: gammas and norms of order one let every branch count, where trained ones hide many. What
the recipes of `gemlet convert --media-quant` give each tensor is what is measured.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from gemlet import _core
from gemlet.conversion import convert_mmproj
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "python"))

from media_inputs import picture, see, sound  # noqa: E402
from tiny import Array, Tiny, write_safetensors  # noqa: E402
from tiny_audio import TinyAudio  # noqa: E402
from tiny_gemma3 import TinyGemma3  # noqa: E402
from tiny_siglip import TinySiglip  # noqa: E402
from tiny_vision import TinyVision  # noqa: E402

QUANTS: Final = ("f16", "q8_0", "q4_0")
HIDDEN: Final = 2048

#: `mobilenetv5_300m_enc` in timm's block strings.
MOBILENETV5: Final = (
    ("er_r1_k3_s2_e4_c128", *("er_r1_k3_s1_e4_c128",) * 2),
    (
        "uir_r1_a3_k5_s2_e6_c256",
        *(f"uir_r1_a{kernel}_k0_s1_e4_c256" for kernel in (5, 3, 5, 3)),
    ),
    (
        "uir_r1_a5_k5_s2_e6_c640",
        *("uir_r1_a5_k0_s1_e4_c640",) * 7,
        "uir_r1_a0_k0_s1_e1_c640",
        *("mqa_r1_k3_h12_v2_s1_d64_c640", "uir_r1_a0_k0_s1_e2_c640") * 14,
    ),
    (
        "uir_r1_a5_k5_s2_e6_c1280",
        *("mqa_r1_k3_h16_s1_d96_c1280", "uir_r1_a0_k0_s1_e2_c1280") * 19,
    ),
)


@dataclass(frozen=True)
class Tower:
    """An encoder of the published size with random weights, and what it is given."""

    title: str
    config: Mapping[str, Any]
    weights: Callable[[], dict[str, Array]]
    """By the names of published checkpoints."""
    inputs: Mapping[str, Callable[[_core.Encoders], NDArray[np.float32]]]
    """The soft tokens of each input, by its name."""


def _mobilenetv5(quick: bool) -> Tower:
    tiny = TinyVision(stages=MOBILENETV5, stem=64, text_hidden=HIDDEN)
    prefix = "vision_tower.timm_model."
    return Tower(
        "MobileNetV5 (Gemma 3n)",
        {**_gemma3n(), "vision_config": {"hidden_size": tiny.width, "vocab_size": 128}},
        lambda: {n if n.startswith("embed_") else prefix + n: v for n, v in tiny.weights().items()},
        {
            f"{size} px": lambda encoders, size=size: see(encoders, picture(size, size), size)  # type: ignore[misc]
            for size in ((256,) if quick else (256, 768))
        },
    )


def _usm(quick: bool) -> Tower:
    seconds = 2 if quick else 10
    tiny = TinyAudio(width=1536, heads=8, layers=12, mel=128, channels=(128, 32), text_hidden=HIDDEN)
    return Tower(
        "USM (Gemma 3n)",
        {**_gemma3n(), "audio_config": tiny.config()},
        lambda: {n if n.startswith("embed_") else f"audio_tower.{n}": v for n, v in tiny.weights().items()},
        {f"{seconds} s": lambda encoders: _hear(encoders, seconds)},
    )


def _siglip(quick: bool) -> Tower:
    size = 224 if quick else 896
    tiny = TinySiglip(
        image_size=size,
        patch_size=14,
        tokens=(size // 56) ** 2,
        width=1152,
        heads=16,
        ffn=4304,
        layers=27,
        text_hidden=HIDDEN,
    )
    root = {"architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3"}
    text = TinyGemma3(hidden=HIDDEN, heads=4).config()
    return Tower(
        "SigLIP (Gemma 3)",
        {**root, "text_config": text, "vision_config": tiny.config(), "mm_tokens_per_image": tiny.tokens},
        tiny.weights,
        {f"{size} px": lambda encoders: see(encoders, picture(size, size), size)},
    )


def _gemma3n() -> dict[str, Any]:
    text = Tiny(hidden=HIDDEN, heads=4).config()
    return {"architectures": ["Gemma3nForConditionalGeneration"], "model_type": "gemma3n", "text_config": text}


def _hear(encoders: _core.Encoders, seconds: int) -> NDArray[np.float32]:
    stream = encoders.sound()
    stream.feed(sound(seconds * 16000))
    stream.finish()
    return stream.rows()


TOWERS: Final = {"mobilenetv5": _mobilenetv5, "usm": _usm, "siglip": _siglip}


def measure(tower: Tower, folder: Path, threads: int) -> Iterable[dict[str, Any]]:
    """The cosines of each quantisation, one input after the other."""
    source = folder / "checkpoint"
    source.mkdir()
    (source / "config.json").write_text(json.dumps(tower.config))
    write_safetensors(source / "model.safetensors", tower.weights())
    file = folder / "mmproj.gguf"
    whole: dict[str, NDArray[np.float32]] = {}
    for quant in ("f32", *QUANTS):
        size = convert_mmproj(source, file, quant, threads=threads).bytes
        encoders = _core.Encoders.load(file, threads)
        for name, encode in tower.inputs.items():
            rows = encode(encoders)
            if quant == "f32":
                whole[name] = rows
                continue
            cosine = (whole[name] * rows).sum(-1) / np.sqrt((whole[name] ** 2).sum(-1) * (rows**2).sum(-1))
            yield {
                "tower": tower.title,
                "input": name,
                "quant": quant,
                "megabytes": round(size / 1e6),
                "mean_cosine": round(float(cosine.mean()), 6),
                "least_cosine": round(float(cosine.min()), 6),
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tower", choices=TOWERS, help="default: all of them")
    parser.add_argument("--quick", action="store_true", help="small pictures and a short sound through the same towers")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "media_quant.json")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    results: list[dict[str, Any]] = []
    print(f"{'tower':24}{'input':10}{'quant':8}{'MB':>7}{'mean cosine':>14}{'least':>10}")
    for name in [arguments.tower] if arguments.tower else TOWERS:
        with tempfile.TemporaryDirectory() as folder:
            for row in measure(TOWERS[name](arguments.quick), Path(folder), arguments.threads):
                results.append(row)
                found = f"{row['mean_cosine']:14.6f}{row['least_cosine']:10.6f}"
                print(f"{row['tower']:24}{row['input']:10}{row['quant']:8}{row['megabytes']:7}{found}", flush=True)
    arguments.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
