"""Names of Ollama's store, in a store that the tests build."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import gemlet
import pytest
from gemlet.errors import ArgumentError, FileError, FormatError, UnsupportedError
from gemlet.hub.names import find_model
from gemlet.hub.ollama import list_ollama

MODEL = "application/vnd.ollama.image.model"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "models"
    monkeypatch.setenv("OLLAMA_MODELS", str(folder))
    (folder / "blobs").mkdir(parents=True)
    return folder


def add(store: Path, name: str, data: bytes, **changes: object) -> Path:
    """Put a model into the store under the path of its manifest; `changes` are to its layer."""
    digest = hashlib.sha256(data).hexdigest()
    blob = store / "blobs" / f"sha256-{digest}"
    blob.write_bytes(data)
    model = {"mediaType": MODEL, "digest": f"sha256:{digest}", "size": len(data)} | changes
    layers = [model, {"mediaType": "application/vnd.ollama.image.license", "digest": "sha256:" + "0" * 64, "size": 1}]
    write(store, name, {"schemaVersion": 2, "config": {"digest": "sha256:" + "1" * 64}, "layers": layers})
    return blob


def write(store: Path, name: str, manifest: object) -> None:
    path = store / "manifests" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(manifest if isinstance(manifest, str) else json.dumps(manifest))


@pytest.mark.parametrize(
    ("name", "manifest"),
    [
        ("gemma3", "registry.ollama.ai/library/gemma3/latest"),
        ("gemma3:270m", "registry.ollama.ai/library/gemma3/270m"),
        ("someone/gemma:x", "registry.ollama.ai/someone/gemma/x"),
        ("hf.co/owner/repo-GGUF:Q4_K_M", "hf.co/owner/repo-GGUF/Q4_K_M"),
        ("localhost:5000/a/b:c", "localhost:5000/a/b/c"),
    ],
)
def test_names(store: Path, name: str, manifest: str) -> None:
    blob = add(store, manifest, b"GGUF weights")
    assert find_model(f"ollama:{name}") == blob
    assert [model.name for model in list_ollama()] == [name if ":" in name.rpartition("/")[2] else f"{name}:latest"]


def test_a_model_of_the_store_answers(store: Path, tiny_gguf: Path, model: gemlet.Model) -> None:
    add(store, "registry.ollama.ai/library/gemma3n/e2b", tiny_gguf.read_bytes())
    opened = gemlet.load("ollama:gemma3n:e2b")
    assert (
        opened.generate("the cat", max_tokens=5, seed=1).tokens
        == model.generate("the cat", max_tokens=5, seed=1).tokens
    )


@pytest.mark.parametrize(
    "name",
    [
        "",
        ":",
        "..:x",
        "../../etc/passwd",
        "/etc/passwd",
        "a/b/c/d",
        "a//b",
        "gemma3:..",
        "gemma3:",
        "gemma3:a:b:c",
        "gem\0ma",
        "g\x1b[2J",
        "x" * 500,
    ],
)
def test_names_that_ollama_would_not_give(store: Path, name: str) -> None:
    with pytest.raises((ArgumentError, FileError)) as raised:
        find_model(f"ollama:{name}")
    assert "expected a name of Ollama's" in str(raised.value)


def test_what_is_not_there(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileError, match=r"no such model in .*; get it with: ollama pull gemma3:1b"):
        find_model("ollama:gemma3:1b")
    monkeypatch.delenv("OLLAMA_MODELS")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(FileError, match=str(tmp_path / ".ollama" / "models")):
        find_model("ollama:gemma3:1b")
    blob = add(tmp_path / "models", "registry.ollama.ai/library/gemma3/1b", b"GGUF")
    (tmp_path / ".ollama").mkdir()
    (tmp_path / "models").rename(tmp_path / ".ollama" / "models")
    assert find_model("ollama:gemma3:1b").name == blob.name


def test_a_store_that_may_not_be_read(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As that of Ollama's service may be. The tests may run as a user who may read everything."""

    def refuse(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_file", refuse)
    with pytest.raises(FileError, match=f"{store} may not be read by this user"):
        find_model("ollama:gemma3:1b")


@pytest.mark.parametrize(
    "digest",
    [
        "sha256:../../../../etc/passwd",
        "sha256:" + "0" * 63,
        "sha256:" + "0" * 64 + "\n",
        "sha256:" + "A" * 64,
        "../../secret",
        "md5:" + "0" * 32,
        7,
        None,
    ],
)
def test_digests_that_would_lead_out_of_the_store(store: Path, digest: object) -> None:
    secret = store.parent / "secret"
    secret.write_bytes(b"GGUF secret")
    add(store, "registry.ollama.ai/library/gemma3/latest", b"GGUF secret", digest=digest)
    with pytest.raises(FormatError, match="digest: expected sha256: and 64 hexadecimal digits"):
        find_model("ollama:gemma3")
    assert list(list_ollama()) == []


@pytest.mark.parametrize(
    "manifest",
    ["", "{", "[]", "7", '{"layers": 7}', '{"layers": [7]}', "[" * 100_000, '{"a": "\ud800"}', " " * 3_000_000],
)
def test_damaged_manifests(store: Path, manifest: str) -> None:
    path = store / "manifests" / "registry.ollama.ai" / "library" / "gemma3" / "latest"
    path.parent.mkdir(parents=True)
    path.write_bytes(manifest.encode("utf-8", "surrogatepass"))
    with pytest.raises(FormatError, match="manifest of Ollama's"):
        find_model("ollama:gemma3")
    assert list(list_ollama()) == []


def test_files_that_are_gone_or_cut_short(store: Path) -> None:
    blob = add(store, "registry.ollama.ai/library/gemma3/latest", b"GGUF weights")
    blob.write_bytes(b"GGUF")
    with pytest.raises(FormatError, match="expected 12 bytes, found 4; get it again with: ollama pull gemma3"):
        find_model("ollama:gemma3")
    blob.unlink()
    with pytest.raises(FileError, match="is not there; get it again with: ollama pull gemma3"):
        find_model("ollama:gemma3")


def test_models_of_other_forms(store: Path) -> None:
    name = "registry.ollama.ai/library/gemma3/latest"
    layer = {"digest": "sha256:" + "0" * 64, "size": 1}
    for kinds, message in (
        (["tensor", "tensor"], "expected one layer with a GGUF file, found 0"),
        (["model", "model"], "expected one layer with a GGUF file, found 2"),
        (["model", "adapter"], "has a LoRA adapter"),
    ):
        write(store, name, {"layers": [layer | {"mediaType": f"application/vnd.ollama.image.{k}"} for k in kinds]})
        with pytest.raises(UnsupportedError, match=message):
            find_model("ollama:gemma3")


def test_a_store_in_the_home_of_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_MODELS", "~nosuchuser/models")
    monkeypatch.setenv("HF_HOME", "~nosuchuser/hub")
    with pytest.raises(gemlet.FileError, match="~nosuchuser/models"):
        gemlet.load("ollama:gemma3:1b")
    with pytest.raises(gemlet.FileError, match="nosuchmodel"):
        gemlet.load("nosuchmodel")
