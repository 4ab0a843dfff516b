"""Gemma 3 270M with its real weights: what llama.cpp answered, and how gemlet's answers are held against it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gemlet
import gguf
import numpy as np
from numpy.typing import NDArray

import vocabularies
from vocabularies import SPACE, UNKNOWN, Piece

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "results" / "gemma3_270m_llama.json"


def reference() -> dict[str, Any]:
    """Written by scripts/compare_llama/gemma3_270m_reference.py."""
    loaded: dict[str, Any] = json.loads(REFERENCE.read_bytes())
    return loaded


def digest(lists: Iterable[Sequence[int]]) -> str:
    """SHA-256 of lists of ids, each as its length and its ids in 32 bits."""
    total = hashlib.sha256()
    for ids in lists:
        total.update(np.array([len(ids), *ids], "<i4").tobytes())
    return total.hexdigest()


@dataclass(frozen=True)
class Difference:
    """A step at which gemlet's most likely token is not llama.cpp's; `gap` is between llama.cpp's first and the other's
    logit there, None if the other is not llama.cpp's second."""

    prompt: str
    step: int
    expected: int
    found: int
    gap: float | None


def continued(model: gemlet.Model, row: dict[str, Any]) -> NDArray[np.float32]:
    """Logits at each step of llama.cpp's continuation, which the model is given."""
    ids, expected = row["ids"], row["continuation"]
    session = model.session(len(ids) + len(expected))
    if len(ids) > 1:
        session.prefill(ids[:-1])
    return session.prefill_all([ids[-1], *expected[:-1]])


def greedy_differences(model: gemlet.Model, row: dict[str, Any]) -> Iterator[Difference]:
    """Gemlet is given llama.cpp's continuation, so that all steps count and not only those before the first difference;
    where there is none, gemlet's own greedy continuation is the same."""
    expected, found = row["continuation"], continued(model, row).argmax(axis=1)
    near = {step: (token, gap) for step, token, gap in row["near"]}
    for step, (theirs, ours) in enumerate(zip(expected, found.tolist(), strict=True)):
        if theirs != ours:
            second, gap = near.get(step, (None, None))
            yield Difference(row["prompt"], step, theirs, ours, gap if second == ours else None)


def sentencepiece_model(path: Path) -> bytes:
    """The file's vocabulary for the sentencepiece library. GGUF counts the unknown token as a control token."""
    fields = gguf.GGUFReader(path).fields
    columns = [fields[f"tokenizer.ggml.{name}"].contents() for name in ("tokens", "scores", "token_type")]
    pieces = [
        Piece(text.replace(" ", SPACE), score, UNKNOWN if text == "<unk>" else kind)
        for text, score, kind in zip(*columns, strict=True)
    ]
    return vocabularies.replace_pieces(vocabularies.train_sentencepiece(0, size=800), pieces)
