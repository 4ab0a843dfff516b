"""The rules of the house that a compiler does not check: who includes whom, and what the library may not do."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
CPP = ROOT / "cpp"
# kernels <- tensor <- format <- {text, model, encoders} <- engine <- bindings: what a room may include besides itself.
LEFT_OF = {
    "kernels": set[str](),
    "tensor": {"kernels"},
    "format": {"kernels", "tensor"},
    "text": {"kernels", "tensor", "format"},
    "model": {"kernels", "tensor", "format"},
    "encoders": {"kernels", "tensor", "format"},
    "engine": {"kernels", "tensor", "format", "text", "model", "encoders"},
    "bindings": {"kernels", "tensor", "format", "text", "model", "encoders", "engine"},
}
# The public headers: anything but a kernel may throw an Error; the vocabulary of sessions is for what knows tokens.
PUBLIC = {
    "gemlet/error.hpp": LEFT_OF.keys() - {"kernels"},
    "gemlet/work.hpp": LEFT_OF.keys() - {"kernels"},
    "gemlet/gemlet.hpp": {"text", "model", "encoders", "engine", "bindings"},
    "gemlet/media.hpp": {"encoders", "engine", "bindings"},
    "gemlet/gemlet.h": {"bindings"},
}
MAX_LINES = 550  # about 500

SOURCES = sorted(path for path in CPP.rglob("*") if path.suffix in {".c", ".h", ".cpp", ".hpp"})
INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]', re.MULTILINE)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def code(path: Path) -> str:
    """The text without comments and string literals."""
    text = path.read_text(encoding="utf-8")
    pattern = r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"'
    return re.sub(pattern, " ", text, flags=re.DOTALL)


def includes(text: str) -> list[tuple[str, str]]:
    """(quote or angle bracket, path) of each include."""
    return INCLUDE.findall(text)


def may_include(room: str, bracket: str, path: str) -> bool:
    if path in PUBLIC:
        return room in PUBLIC[path]
    target = path.split("/")[0]
    if target in LEFT_OF:
        return target == room or target in LEFT_OF[room]
    return bracket == "<"


def upward(room: str, text: str) -> list[str]:
    """Includes that a file of this room may not have."""
    return [path for bracket, path in includes(text) if not may_include(room, bracket, path)]


IN_ROOMS = [path for path in SOURCES if path.relative_to(CPP).parts[0] in LEFT_OF]


def test_every_source_is_in_a_room() -> None:
    assert {path.relative_to(CPP).parts[0] for path in SOURCES} == {*LEFT_OF, "include"}


@pytest.mark.parametrize("path", IN_ROOMS, ids=name)
def test_includes_point_left(path: Path) -> None:
    room = path.relative_to(CPP).parts[0]
    assert upward(room, path.read_text(encoding="utf-8")) == []


def test_an_include_that_points_right_is_found() -> None:
    assert upward("kernels", '#include "tensor/tensor.hpp"') == ["tensor/tensor.hpp"]
    assert upward("kernels", "#include <gemlet/error.hpp>") == ["gemlet/error.hpp"]
    assert upward("format", '#  include "gemlet/gemlet.hpp"') == ["gemlet/gemlet.hpp"]
    assert upward("model", '#include "neighbour.hpp"') == ["neighbour.hpp"]
    assert upward("model", '#include "text/tokenizer.hpp"') == ["text/tokenizer.hpp"]
    assert upward("text", '#include "model/model.hpp"') == ["model/model.hpp"]
    assert upward("engine", '#include <vector>\n#include "model/config.hpp"\n#include "gemlet/gemlet.hpp"') == []


def test_public_headers_include_only_themselves() -> None:
    for path in (CPP / "include").rglob("*.h*"):
        found = [include for _, include in includes(path.read_text(encoding="utf-8"))]
        assert [include for include in found if include.split("/")[0] in LEFT_OF] == [], name(path)


# What would end the program or write to a stream that is not the library's.
FORBIDDEN = re.compile(
    r"\b(?:std::)?(?:abort|exit|_exit|quick_exit|terminate|v?f?printf|puts|fputs|putchar|perror)\s*\("
    r"|\bstd::(?:cout|cerr|clog)\b"
)
ASSERT = re.compile(r"(?<!static_)\bassert\s*\(")


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_the_library_does_not_abort_print_or_exit(path: Path) -> None:
    assert FORBIDDEN.findall(code(path)) == []


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_only_kernels_assert(path: Path) -> None:
    if path.relative_to(CPP).parts[0] != "kernels":
        assert ASSERT.findall(code(path)) == []


def test_forbidden_calls_are_found() -> None:
    for line in ['printf("x");', "std::abort();", "std::cerr << 1;", "exit (1);"]:
        assert FORBIDDEN.search(line), line
    assert ASSERT.search("assert(n > 0);")
    assert not ASSERT.search("static_assert(sizeof(int) == 4);")


# The forward pass reads as mathematics: no intrinsics, threads, allocation or files.
NOT_IN_THE_FORWARD_PASS = {
    "intrinsics": re.compile(r"\b_mm\d*_|\bv(?:ld|st)\d|<immintrin\.h>|<arm_neon\.h>"),
    "threads": re.compile(r"<(?:thread|mutex|condition_variable|future)>|std::(?:thread|mutex|jthread|async)\b"),
    "allocation": re.compile(
        r"\bnew\b|\b(?:m|c|re)alloc\s*\(|\bmake_(?:unique|shared)\b|std::(?:vector|string|map)<|Buffer\b"
        r"|\.(?:resize|push_back|emplace_back|reserve)\s*\("
    ),
    "files": re.compile(r"<(?:fstream|cstdio|filesystem)>|\bf?open\s*\(|\bmmap\s*\("),
}


@pytest.mark.parametrize("kind", NOT_IN_THE_FORWARD_PASS)
def test_the_forward_pass_has_none(kind: str) -> None:
    passes = sorted((CPP / "model").glob("*/forward.cpp"))
    assert len(passes) >= 2
    for path in passes:
        assert NOT_IN_THE_FORWARD_PASS[kind].findall(code(path)) == [], name(path)


def test_files_are_short_enough_to_read() -> None:
    places = [CPP, ROOT / "python", ROOT / "tests", ROOT / "scripts"]
    files = [p for place in places for p in place.rglob("*") if p.suffix in {".c", ".h", ".cpp", ".hpp", ".py"}]
    lengths = {name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert {path: lines for path, lines in lengths.items() if lines > MAX_LINES} == {}
