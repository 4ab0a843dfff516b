#!/usr/bin/env python3
"""What gemlet's own choices cost Gemma 3 270M with its real weights: quantisation, type of the head, type of the cache.

    scripts/compare_llama/gemma3_270m_reference.py build/gemma3-270m    # once: F32.gguf and the texts
    scripts/compare_llama/gemma3_270m_quality.py build/gemma3-270m --json docs/results/quality.json

The published file dequantised to float32 is the original. Each row has the perplexity of each text, and the share of
its scored tokens at which the most likely token is the original's (top-1 agreement).
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import gemlet
import gemma3_270m_inputs as inputs
import numpy as np
from gemlet import scoring
from gemlet.conversion.recipes import find_recipe
from gemlet.exporters.progress import Progress
from gemlet.exporters.requantise import requantise
from gemlet.exporters.source import Source
from numpy.typing import NDArray
from real_texts import Text

WINDOW = 512
QUANTS = (("f16", None), ("bf16", None), ("q8_0", None), ("q4_0", None), ("q4_0", "q4_0"))


@dataclass(frozen=True)
class Scores:
    """Of one text: the negative log-likelihood of each scored token, and the most likely token in its place."""

    nll: NDArray[np.float64]
    best: NDArray[np.int64]


@dataclass(frozen=True)
class Row:
    weights: str
    head: str
    cache: str
    file_bytes: int
    perplexity: dict[str, float]
    agreement: dict[str, float]


def score(model: gemlet.Model, text: Text) -> Scores:
    """What gemlet.perplexity scores, and the most likely tokens in those places."""
    nll, best = [], []
    for window in scoring.windows(model, text.data, WINDOW):
        for logits, targets in scoring.logits_and_targets(model, window):
            nll.append(scoring.nll(logits, targets))
            best.append(logits.argmax(axis=1))
    return Scores(np.concatenate(nll), np.concatenate(best))


def files(folder: Path) -> list[tuple[str, str, Path]]:
    """Weights, head and file; those that are missing are written."""
    original = Source(inputs.file_of(folder, "F32"))
    found = [("original, Q4_K_M", "Q8_0", inputs.file_of(folder, inputs.ORIGINAL))]
    for quant, head in QUANTS:
        path = folder / f"gemlet-{quant}{'-head-' + head if head else ''}.gguf"
        if not path.exists():
            partial = path.with_suffix(".part")
            requantise(original, find_recipe(quant, head), partial, Progress())
            partial.rename(path)
        found.append((quant, Source(path).matrix("token_embd.weight").type, path))
    return found


def measure(folder: Path, texts: list[Text], threads: int) -> list[Row]:
    rows = []
    original: dict[str, Scores] = {}

    def add(weights: str, head: str, file: Path, cache: Literal["f16", "f32", "int8"]) -> None:
        model = gemlet.load(file, threads=threads, context=WINDOW, cache=cache)
        scores = {text.name: score(model, text) for text in texts}
        if not original:
            original.update(scores)
        perplexity = {name: float(np.exp(found.nll.mean())) for name, found in scores.items()}
        agreement = {name: float((found.best == original[name].best).mean()) for name, found in scores.items()}
        rows.append(Row(weights, head, cache, file.stat().st_size, perplexity, agreement))
        values = "  ".join(f"{perplexity[name]:8.4f} {agreement[name]:7.2%}" for name in perplexity)
        print(f"{weights:18} {head:5} {cache:5} {values}", flush=True)

    add("F32", "F32", inputs.file_of(folder, "F32"), "f32")
    add("F32", "F32", inputs.file_of(folder, "F32"), "f16")
    add("F32", "F32", inputs.file_of(folder, "F32"), "int8")
    for weights, head, file in files(folder):
        add(weights, head, file, "f16")
        add(weights, head, file, "int8")
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="that gemma3_270m_reference.py filled")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    texts = inputs.shorter(inputs.long_texts(arguments.folder / "packages"))
    rows = measure(arguments.folder, texts, arguments.threads)
    if arguments.json:
        figures = {
            "command": "scripts/compare_llama/gemma3_270m_quality.py FOLDER",
            "gemlet": gemlet.__version__,
            "machine": platform.machine(),
            "window": WINDOW,
            "rows": [asdict(row) for row in rows],
        }
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
