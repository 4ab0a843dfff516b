"""The seam between the rooms and the architectures: what only one architecture has is named in its own files alone."""

import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[3] / "python" / "gemlet"
WORDS = {
    "gemma3": re.compile(r"gemma3(?!n)", re.IGNORECASE),
    "gemma3n": re.compile(r"gemma3n|altup|laurel", re.IGNORECASE),
}
REGISTRIES = [PACKAGE / room / "architectures" / "__init__.py" for room in ("conversion", "exporters")]
# What may name one besides: the slicing module tells where Google publishes slices, the hub's package module how the
# Python package of Gemma 3 270M is called.
ELSEWHERE = {PACKAGE / "slicing.py", PACKAGE / "hub" / "package.py"}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path not in ELSEWHERE)


def architectures() -> set[str]:
    return {path.stem for registry in REGISTRIES for path in registry.parent.glob("*.py")} - {"__init__"}


def places(word: re.Pattern[str], files: list[Path]) -> set[str]:
    """The files that hold a word."""
    return {str(path.relative_to(PACKAGE)) for path in files if word.search(path.read_text(encoding="utf-8"))}


def test_every_architecture_has_its_words() -> None:
    assert architectures() == WORDS.keys()


@pytest.mark.parametrize("name", WORDS)
def test_only_its_own_files_and_the_registries_name_an_architecture(name: str) -> None:
    own = {str(registry.with_name(f"{name}.py").relative_to(PACKAGE)) for registry in REGISTRIES}
    registries = {str(registry.relative_to(PACKAGE)) for registry in REGISTRIES}
    found = places(WORDS[name], FILES)
    assert found - own - registries == set()
    assert found & own


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda path: str(path.relative_to(PACKAGE)))
@pytest.mark.parametrize("name", WORDS)
def test_a_registry_only_imports_and_lists_it(registry: Path, name: str) -> None:
    lines = [line for line in registry.read_text(encoding="utf-8").splitlines() if WORDS[name].search(line)]
    assert all(line.startswith(("from . import ", "for _architecture in (")) for line in lines), lines


def test_a_name_out_of_place_is_found() -> None:
    assert WORDS["gemma3n"].search("class AltUp:") and WORDS["gemma3"].search("gemma3.attention")
    assert not WORDS["gemma3"].search("gemma3n") and not WORDS["gemma3n"].search("Gemma 3n")


CPP = PACKAGE.parents[1] / "cpp"
CPP_ROOMS = {"gemma3": "model/gemma/", "gemma3n": "model/gemma3n/"}
CPP_LISTS = {"model/CMakeLists.txt", "model/registry.cpp"}
# Where Google publishes slices, in the parser of slices, and llama.cpp's name of an encoder's projector.
CPP_ELSEWHERE = {"model/slice.cpp": "google/gemma3n-slicing-configs", "encoders/vision_siglip.cpp": '"gemma3"'}


@pytest.mark.parametrize("name", WORDS)
def test_only_its_own_room_and_the_registry_name_an_architecture_in_the_core(name: str) -> None:
    found = set()
    for path in CPP.rglob("*"):
        if path.suffix not in {".c", ".h", ".cpp", ".hpp", ".txt"}:
            continue
        relative = str(path.relative_to(CPP))
        text = path.read_text(encoding="utf-8").replace(CPP_ELSEWHERE.get(relative, "\0"), "")
        if WORDS[name].search(text):
            found.add(relative)
    assert {path for path in found if not path.startswith(CPP_ROOMS[name])} - CPP_LISTS == set()
    assert any(path.startswith(CPP_ROOMS[name]) for path in found) and found | {"model/CMakeLists.txt"} >= CPP_LISTS
