"""The whole multimodal model of Gemma 3n: pictures and sounds among text, as transformers computes it."""

from __future__ import annotations

from typing import Any

import gemlet
import numpy as np
import pytest
from gemlet import _core
from gemlet.conversion import convert, convert_mmproj
from numpy.typing import NDArray

from media_inputs import GOLDENS
from tiny_encoders import CASES, IMAGE, SOUND, Parts, checkpoint, encoder_weights


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> tuple[gemlet.Model, _core.Encoders]:
    folder = tmp_path_factory.mktemp("whole")
    made = checkpoint(folder / "checkpoint", encoder_weights())
    convert(made, folder / "text.gguf", "f32")
    convert_mmproj(made, folder / "mmproj.gguf", "f32")
    model = gemlet.load(folder / "text.gguf", cache="f32", chunk=100)
    return model, _core.Encoders.load(folder / "mmproj.gguf", 2)


def rows(encoders: _core.Encoders, kind: str) -> NDArray[np.float32]:
    encoding = encoders.encode(IMAGE, 256) if kind == "image" else encoders.encode_sound(SOUND)
    return encoding.finish().rows()


def prompt_of(parts: Parts, encoders: _core.Encoders) -> _core.Prompt:
    """The placeholders are no padding, so that what depends on them is seen."""
    prompt = _core.Prompt([])
    for part in parts:
        if isinstance(part, str):
            found = rows(encoders, part)
            prompt = prompt + _core.Prompt([7] * len(found), [(0, found)])
        else:
            prompt = prompt + _core.Prompt(part)
    return prompt


def assert_near(found: NDArray[np.float32], expected: NDArray[np.floating[Any]]) -> None:
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-3 * expected.std()


@pytest.mark.live
@pytest.mark.parametrize("name", CASES)
def test_the_whole_model_is_transformers(name: str, loaded: tuple[gemlet.Model, _core.Encoders]) -> None:
    from encoder_oracles import multimodal_logits

    pytest.importorskip("timm", reason="needs timm")

    model, encoders = loaded
    found = model.session()._core.prefill(prompt_of(CASES[name], encoders), all=True)
    assert_near(found, multimodal_logits(CASES[name], IMAGE, SOUND))


def test_the_whole_model_is_transformers_as_recorded(loaded: tuple[gemlet.Model, _core.Encoders]) -> None:
    """Where timm and transformers are not installed: scripts/goldens/encoders.py."""
    model, encoders = loaded
    found = model.session()._core.prefill(prompt_of(CASES["both"], encoders), all=True)
    assert_near(found[::5], np.load(GOLDENS)["merge"])
