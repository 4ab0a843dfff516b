"""Languages by name and by code."""

from __future__ import annotations

import gemlet
import pytest
from gemlet.speech.languages import NAMES, language_name
from gemlet.speech.tasks import transcription, translation


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("hu", "Hungarian"),
        ("HU", "Hungarian"),
        ("hungarian", "Hungarian"),
        (" Hungarian ", "Hungarian"),
        ("pt-BR", "Portuguese"),
        ("en_US", "English"),
        ("zh-Hant-TW", "Chinese"),
        ("haitian creole", "Haitian Creole"),
    ],
)
def test_names_and_codes(given: str, name: str) -> None:
    assert language_name(given) == name


@pytest.mark.parametrize("given", ["", "xx", "Klingon", "hun", "h", "-hu"])
def test_others_are_refused_with_the_list(given: str) -> None:
    with pytest.raises(gemlet.ArgumentError, match=r"to is .*, expected one of .*hu \(Hungarian\)"):
        language_name(given, "to")


def test_every_code_and_name_is_one() -> None:
    assert len(set(NAMES.values())) == len(NAMES) > 90
    assert all(len(code) == 2 and code.islower() and name[0].isupper() for code, name in NAMES.items())


def test_prompts_name_the_languages() -> None:
    assert transcription("hu", {}).prompt == "Transcribe the following speech segment in Hungarian:"
    assert "in " not in transcription(None, {}).prompt
    assert translation("en", "es", {}).prompt.endswith("from Spanish into English:")
    assert translation("English", None, {}).prompt.endswith("into English.")
    assert (transcription("hu", {}).language, translation("en", "es", {}).language) == ("Hungarian", "English")
    for bad in ("", "xx"):
        with pytest.raises(gemlet.ArgumentError, match="source is"):
            translation("en", bad, {})
