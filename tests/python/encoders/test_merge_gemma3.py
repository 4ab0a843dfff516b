"""The whole multimodal model of Gemma 3: pictures among text, as transformers computes it. The places of a picture see
each other both ways, in local layers within the window on the side of the past."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gemlet
import numpy as np
import pytest
from gemlet import _core
from gemlet.conversion import convert
from numpy.typing import NDArray

from gemma3_prompts import CASES, TEXT, VISION, Parts
from media_inputs import GOLDENS
from tiny_siglip import siglip_checkpoint


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Text and encoder in one."""
    folder = tmp_path_factory.mktemp("whole")
    return convert(
        siglip_checkpoint(folder / "c", VISION), folder / "m.gguf", "f32", media=True, media_quant="f32"
    ).path


def prompt_of(parts: Parts, encoders: _core.Encoders) -> _core.Prompt:
    prompt = _core.Prompt([])
    for part in parts:
        if isinstance(part, np.ndarray):
            rows = encoders.encode(part).finish().rows()
            prompt = prompt + _core.Prompt([0] * len(rows), [(0, rows)])
        else:
            prompt = prompt + _core.Prompt(part)
    return prompt


def logits(file: Path, name: str, **options: Any) -> NDArray[np.float32]:
    prompt = prompt_of(CASES[name], _core.Encoders.load(file, 2))
    return gemlet.load(file, cache="f32", **options).session()._core.prefill(prompt, all=True)


def assert_near(found: NDArray[np.float32], expected: NDArray[np.floating[Any]]) -> None:
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-3


@pytest.mark.parametrize("chunk", [16, 17, 19, 30])
def test_chunks_change_nothing(file: Path, chunk: int) -> None:
    """No chunk ends inside of a picture, whose places all see each other."""
    whole = logits(file, "several pictures")
    np.testing.assert_array_equal(logits(file, "several pictures", chunk=chunk), whole)


def test_a_chunk_that_is_less_than_a_picture(file: Path) -> None:
    with pytest.raises(gemlet.ArgumentError, match="position 3 takes 16 places"):
        logits(file, "several pictures", chunk=15)


def test_a_picture_after_text_that_was_there_before(file: Path) -> None:
    """In steps over the same session, as turns of a conversation are."""
    encoders = _core.Encoders.load(file, 2)
    session = gemlet.load(file, cache="f32").session()._core
    parts = [session.prefill(prompt_of([part], encoders), all=True) for part in CASES["several pictures"]]
    np.testing.assert_array_equal(np.concatenate(parts), logits(file, "several pictures"))


def test_the_whole_model_is_transformers_as_recorded(file: Path) -> None:
    """Where transformers is not installed: scripts/goldens/encoders.py."""
    assert_near(logits(file, "several pictures")[::5], np.load(GOLDENS)["gemma3"])


@pytest.mark.live
@pytest.mark.parametrize("name", CASES)
def test_the_whole_model_is_transformers(file: Path, name: str) -> None:
    pytest.importorskip("transformers")
    from gemma3_oracles import gemma3_logits

    assert_near(logits(file, name), gemma3_logits(TEXT, VISION, CASES[name]))
