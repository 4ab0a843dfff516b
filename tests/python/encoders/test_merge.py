"""The whole multimodal model of Gemma 3n: pictures and sounds among text, as transformers computes it."""

from __future__ import annotations

from dataclasses import dataclass

import gemlet
import numpy as np
import pytest
from gemlet import _core
from gemlet.conversion import convert, convert_mmproj
from numpy.typing import NDArray

from media_inputs import picture, sound
from tiny_encoders import checkpoint, encoder_weights

IMAGE, SOUND = picture(256, 256), sound(23456)
"""The picture needs no resizing: transformers' depends on what is installed."""


@dataclass
class Case:
    """Text tokens, and where a picture ("image") or a sound ("audio") stands among them."""

    parts: list[list[int] | str]


CASES = {
    "picture": Case([[2, 9, 33], "image", [8, 90, 17, 298]]),
    "sound": Case([[2, 9, 33, 295], "audio", [8, 90]]),
    "both": Case([[2, 9], "audio", [33, 8, 7], "image", [8, 90, 17]]),
}


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


def prompt_of(case: Case, encoders: _core.Encoders) -> _core.Prompt:
    prompt = _core.Prompt([])
    for part in case.parts:
        if isinstance(part, str):
            found = rows(encoders, part)
            prompt = prompt + _core.Prompt([0] * len(found), [(0, found)])
        else:
            prompt = prompt + _core.Prompt(part)
    return prompt


@pytest.mark.live
@pytest.mark.parametrize("name", CASES)
def test_the_whole_model_is_transformers(name: str, loaded: tuple[gemlet.Model, _core.Encoders]) -> None:
    from encoder_oracles import multimodal_logits

    pytest.importorskip("timm", reason="needs timm")

    model, encoders = loaded
    found = model.session()._core.prefill(prompt_of(CASES[name], encoders), all=True)
    expected = multimodal_logits(CASES[name].parts, IMAGE, SOUND)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-3 * expected.std()
