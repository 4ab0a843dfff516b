"""Names of models: which file each means, and what is said where there is none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import gemlet
import pytest
from gemlet.errors import ArgumentError, FileError
from gemlet.hub.names import find_model
from gemlet.hub.quants import candidates, choose
from gemlet.hub.reference import Reference, parse

from conftest import Cli, cli_environment

PUBLIC = [
    ".gitattributes",
    "BF16/gemma-3-1b-it-BF16-00001-of-00002.gguf",
    "BF16/gemma-3-1b-it-BF16-00002-of-00002.gguf",
    "gemma-3-1b-it-IQ4_NL.gguf",
    "gemma-3-1b-it-Q4_0.gguf",
    "gemma-3-1b-it-Q4_K_M.gguf",
    "gemma-3-1b-it-Q8_0.gguf",
    "gemma-3-1b-it-UD-IQ3_XXS.gguf",
    "gemma-3-1b-it-UD-Q4_K_XL.gguf",
    "gemma-3-1b-it.imatrix.gguf",
    "mmproj-F16.gguf",
    "mmproj-model-f16.gguf",
]


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No cache of the user's is looked into."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "ollama"))
    monkeypatch.setenv("GEMLET_CACHE", str(tmp_path / "gemlet"))
    return tmp_path


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("owner/repo", Reference("owner/repo")),
        ("hf:Owner/re.po-x_1", Reference("Owner/re.po-x_1")),
        ("hf:owner/repo:q4_k_m", Reference("owner/repo", quant="q4_k_m")),
        ("owner/repo:UD-Q4_K_XL", Reference("owner/repo", quant="UD-Q4_K_XL")),
        ("hf:owner/repo/folder/a b.gguf", Reference("owner/repo", file="folder/a b.gguf")),
    ],
)
def test_references(text: str, reference: Reference) -> None:
    assert parse(text) == reference
    assert parse(str(reference)) == reference


@pytest.mark.parametrize(
    "text",
    [
        "",
        "repo",
        "hf:",
        "hf:/repo",
        "/owner/repo",
        "../repo",
        "owner/..",
        "owner/re..po",
        "owner/re--po",
        "owner/repo:",
        "owner/repo/../../x.gguf",
        "owner/repo//x.gguf",
        "owner/repo/a\\b.gguf",
        "owner/repo/\x1b[2J.gguf",
        "owner/repo/readme.md",
        "owner/repo\n",
        "öwner/repo",
    ],
)
def test_what_is_no_reference(text: str) -> None:
    assert parse(text) is None


@pytest.mark.parametrize(
    ("wanted", "file"),
    [
        ("o/r", "gemma-3-1b-it-Q4_K_M.gguf"),
        ("o/r:q8_0", "gemma-3-1b-it-Q8_0.gguf"),
        ("o/r:Q4_0", "gemma-3-1b-it-Q4_0.gguf"),
        ("o/r:IQ4_NL", "gemma-3-1b-it-IQ4_NL.gguf"),
        ("o/r:UD-IQ3_XXS", "gemma-3-1b-it-UD-IQ3_XXS.gguf"),
        ("o/r:Q4_K_XL", "gemma-3-1b-it-UD-Q4_K_XL.gguf"),
        ("o/r:bf16", "BF16/gemma-3-1b-it-BF16-00001-of-00002.gguf"),
        ("o/r/BF16/gemma-3-1b-it-BF16-00002-of-00002.gguf", "BF16/gemma-3-1b-it-BF16-00001-of-00002.gguf"),
    ],
)
def test_the_file_of_a_quantisation(wanted: str, file: str) -> None:
    reference = parse(wanted)
    assert reference is not None
    assert choose(candidates(PUBLIC), reference).files[0] == file


@pytest.mark.parametrize(
    ("files", "file"),
    [
        (["a-Q4_0.gguf", "a-Q8_0.gguf"], "a-Q4_0.gguf"),
        (["model.gguf", "mmproj-model.gguf"], "model.gguf"),
        (["gemma-3-1b-it-q4_0.gguf", "mmproj-model-f16-1B.gguf"], "gemma-3-1b-it-q4_0.gguf"),
        (["a.Q4_K_M.gguf", "a.f16.gguf"], "a.Q4_K_M.gguf"),
        (["a-Q6_K-imat.gguf"], "a-Q6_K-imat.gguf"),
    ],
)
def test_the_file_where_no_quantisation_is_named(files: list[str], file: str) -> None:
    assert choose(candidates(files), Reference("o/r")).files == (file,)


def test_what_cannot_be_chosen() -> None:
    with pytest.raises(ArgumentError, match=r"name one of its quantisations.*Q5_K_M, Q8_0"):
        choose(candidates(["a-Q8_0.gguf", "a-Q5_K_M.gguf"]), Reference("o/r"))
    with pytest.raises(ArgumentError, match=r"fits several files.*a-Q4_0\.gguf, b-Q4_0\.gguf"):
        choose(candidates(["a-Q4_0.gguf", "b-Q4_0.gguf"]), Reference("o/r", quant="Q4_0"))
    with pytest.raises(ArgumentError, match="has no Q4_0; there are none"):
        choose(candidates(["mmproj-Q4_0.gguf"]), Reference("o/r", quant="Q4_0"))
    with pytest.raises(FileError, match=r"a-00001-of-00002\.gguf is missing"):
        choose(candidates(["a-00002-of-00002.gguf"]), Reference("o/r"))


def test_paths_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "repo").mkdir(parents=True)
    for name in ("nano", "gemma-3-270m", "hf:x", "ollama:gemma3"):
        (tmp_path / name).write_bytes(b"")
        assert find_model(name) == Path(name)
    assert find_model("owner/repo") == Path("owner/repo")
    assert find_model(tmp_path / "nano") == tmp_path / "nano"


@pytest.mark.parametrize("name", ["/none/x", "./owner/repo", "../owner/repo", "~/x", "x.gguf", "owner/x.gguf"])
def test_what_looks_like_a_path_is_one(name: str) -> None:
    assert find_model(name) == Path(name)


def test_nano(nano_gguf: Path) -> None:
    assert find_model("nano") == nano_gguf


@pytest.mark.parametrize("name", ["gemma", "owner/repo:Q4_0", "a/b/c/d", "x" * 5000, "\x1b[2J", "\0"])
def test_unknown_names_say_what_was_tried(name: str, tmp_path: Path) -> None:
    with pytest.raises(FileError) as raised:
        gemlet.load(name)
    message = str(raised.value)
    for words in ("no such model", "nano and gemma-3-270m", str(tmp_path / "hf"), "gemlet pull ", "ollama:NAME"):
        assert words in message
    assert message.isprintable()
    assert ("gemlet pull owner/repo:Q4_0" in message) == (name == "owner/repo:Q4_0")


def test_every_command_takes_names(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("the cat")
    for command in (
        ("run", "o/r", "x"),
        ("chat", "o/r"),
        ("inspect", "o/r"),
        ("tokenize", "o/r", "x"),
        ("perplexity", "o/r", tmp_path / "text"),
        ("bench", "o/r"),
        ("export", "onnx", "o/r", "-o", tmp_path / "out"),
    ):
        done = cli(*command)
        assert done.returncode == 1 and done.stderr.startswith("gemlet: o/r: no such model. Tried:"), command


def test_names_bring_in_nothing_heavy(nano_gguf: Path) -> None:
    code = (
        "import sys, gemlet.hub.names as n; n.find_model('nano');"
        "print([m for m in ('huggingface_hub', 'httpx', 'httpx2', 'rich', 'typer') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=cli_environment())
    assert done.stdout == "[]\n"
