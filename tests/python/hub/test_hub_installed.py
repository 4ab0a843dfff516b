"""`gemlet list` and `gemlet rm`, on caches that the tests build."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from gemlet.errors import ArgumentError, FileError
from gemlet.hub.installed import list_models, plan_removal
from gemlet.hub.names import find_model

from conftest import Cli, cli_environment

NEW, OLD = "a" * 40, "b" * 40


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "ollama"))
    monkeypatch.setenv("GEMLET_CACHE", str(tmp_path / "gemlet"))
    return tmp_path / "hf"


def add(cache: Path, repo: str, name: str, digest: str, size: int = 10, commit: str = NEW) -> Path:
    """Put a file into the cache as the hub's client does."""
    folder = cache / f"models--{repo.replace('/', '--')}"
    blob = folder / "blobs" / digest
    pointer = folder / "snapshots" / commit / name
    for path in (blob, pointer, folder / "refs" / "main"):
        path.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(b"x" * size)
    pointer.symlink_to(os.path.relpath(blob, pointer.parent))
    (folder / "refs" / "main").write_text(NEW)
    return pointer


def pulled() -> dict[str, int]:
    return {model.name: model.bytes for model in list_models() if model.origin == "Hugging Face"}


def test_names_sizes_and_places(cache: Path) -> None:
    add(cache, "o/r", "m-Q4_0.gguf", "1" * 64, 100)
    add(cache, "o/r", "BF16/m-BF16-00001-of-00002.gguf", "2" * 64, 5)
    add(cache, "o/r", "BF16/m-BF16-00002-of-00002.gguf", "3" * 64, 7)
    add(cache, "o/r", "mmproj-F16.gguf", "4" * 64)
    add(cache, "o/part", "m-Q8_0-00001-of-00002.gguf", "5" * 64)
    add(cache, "o/same", "a-Q4_0.gguf", "6" * 64)
    add(cache, "o/same", "b-Q4_0.gguf", "7" * 64)
    add(cache, "o/plain", "model.gguf", "8" * 64)
    (cache / "datasets--o--d").mkdir()
    assert pulled() == {
        "o/r:Q4_0": 100,
        "o/r:BF16": 12,
        "o/same/a-Q4_0.gguf": 10,
        "o/same/b-Q4_0.gguf": 10,
        "o/plain/model.gguf": 10,
    }
    for model in list_models():
        assert model.origin != "Hugging Face" or find_model(model.name) == model.path


def test_the_newest_version_counts(cache: Path) -> None:
    old = add(cache, "o/r", "m-Q4_0.gguf", "1" * 64, 100, OLD)
    new = add(cache, "o/r", "m-Q4_0.gguf", "2" * 64, 200)
    other = add(cache, "o/r", "m-Q8_0.gguf", "3" * 64, 300, OLD)
    assert pulled() == {"o/r:Q4_0": 200, "o/r:Q8_0": 300}
    assert find_model("o/r:Q4_0") == new and find_model("o/r:Q8_0") == other and old.exists()


def test_using_a_model_is_noted(cache: Path) -> None:
    pointer = add(cache, "o/r", "m-Q4_0.gguf", "1" * 64)
    os.utime(pointer, (1000, 2000))
    [before] = [model for model in list_models() if model.origin == "Hugging Face"]
    find_model("o/r")
    [after] = [model for model in list_models() if model.origin == "Hugging Face"]
    assert before.used == 1000 and after.used > 1_700_000_000 and pointer.stat().st_mtime == 2000


def test_list_on_the_command_line(cache: Path, cli: Cli) -> None:
    pointer = add(cache, "o/r", "m-Q4_0.gguf", "1" * 64, 2048)
    os.utime(pointer, (1_000_000_000, 1))
    listed = {entry["name"]: entry for entry in json.loads(cli("list", "--json").stdout)}
    assert listed["o/r:Q4_0"] == {
        "name": "o/r:Q4_0",
        "bytes": 2048,
        "path": str(pointer),
        "origin": "Hugging Face",
        "last_used": "2001-09-09T01:46:40+00:00",
    }
    done = cli("list")
    [line] = [line for line in done.stdout.splitlines() if "o/r:Q4_0" in line]
    assert "2.00 KiB" in line and "Hugging Face" in line and str(pointer) in line


def test_nothing_is_here(cache: Path, cli: Cli) -> None:
    assert "| name" in cli("list").stdout
    for name in ("o/r", "o/r:Q4_0", "gemma-3-270m"):
        done = cli("rm", name, "--yes")
        assert done.returncode == 1 and "is not in the" in done.stderr


def test_a_model_is_removed_and_others_stay(cache: Path, cli: Cli) -> None:
    add(cache, "o/r", "m-Q4_0.gguf", "1" * 64, 100)
    add(cache, "o/r", "m-Q4_0.gguf", "2" * 64, 50, OLD)
    kept = add(cache, "o/r", "m-Q8_0.gguf", "3" * 64)
    readme = add(cache, "o/r", "README.md", "4" * 64)
    done = cli("rm", "hf:o/r:q4_0", "--yes", "--json")
    assert json.loads(done.stdout)["bytes"] == 150, done.stderr
    assert kept.read_bytes() and readme.read_bytes() and pulled() == {"o/r:Q8_0": 10}
    assert {path.name for path in kept.parents[2].joinpath("blobs").iterdir()} == {"3" * 64, "4" * 64}
    assert not (kept.parents[1] / OLD).exists()


def test_an_interrupted_download_is_shown_and_removed(cache: Path, cli: Cli) -> None:
    blobs = cache / "models--o--r" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / ("1" * 64 + ".gemlet.incomplete")).write_bytes(b"x" * 2048)
    done = cli("list")
    assert "o/r" not in done.stdout and "o/r: 2.00 KiB of an interrupted download" in done.stderr
    assert cli("rm", "o/r", "--yes").returncode == 0
    assert list(cache.iterdir()) == []


def test_nothing_of_a_repository_is_left(cache: Path) -> None:
    first = add(cache, "o/r", "BF16/m-BF16-00001-of-00002.gguf", "1" * 64)
    add(cache, "o/r", "BF16/m-BF16-00002-of-00002.gguf", "2" * 64)
    add(cache, "o/r", "m-Q8_0.gguf", "3" * 64)
    first.parents[3].joinpath("blobs", "4" * 64 + ".gemlet.incomplete").write_bytes(b"half")
    removal = plan_removal("o/r")
    assert removal.bytes == 34
    removal.run()
    assert list(cache.iterdir()) == []


def test_a_blob_that_two_names_share_stays(cache: Path) -> None:
    add(cache, "o/r", "m-Q4_0.gguf", "1" * 64)
    other = add(cache, "o/r", "copy.gguf", "1" * 64)
    plan_removal("o/r:Q4_0").run()
    assert other.read_bytes() and pulled() == {"o/r/copy.gguf": 10}


def test_links_out_of_the_cache_are_not_followed(cache: Path, tmp_path: Path) -> None:
    """A name that leads to a file elsewhere, a blob that does (a store that caches share), and folders that do."""
    precious = tmp_path / "precious-Q4_0.gguf"
    precious.write_bytes(b"precious")
    pointer = add(cache, "o/r", "m-Q4_0.gguf", "1" * 64)
    pointer.unlink()
    pointer.symlink_to(precious)
    blob = add(cache, "o/r", "m-Q8_0.gguf", "2" * 64).resolve()
    blob.unlink()
    blob.symlink_to(precious)
    removal = plan_removal("o/r")
    assert removal.bytes == 0
    removal.run()
    assert precious.read_bytes() == b"precious" and not pointer.is_symlink() and not blob.is_symlink()


@pytest.mark.parametrize("linked", ["", "blobs", "snapshots", f"snapshots/{NEW}", f"snapshots/{NEW}/folder"])
def test_folders_that_are_links_are_refused(cache: Path, tmp_path: Path, linked: str) -> None:
    pointer = add(cache, "o/r", "folder/m-Q4_0.gguf", "1" * 64)
    folder = pointer.parents[3] / linked
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(FileError):
        plan_removal("o/r").run()
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nano", "comes with gemlet"),
        ("ollama:gemma3:1b", "ollama rm gemma3:1b"),
        ("own.gguf", "files of your own are yours to delete"),
        ("/etc/passwd", "files of your own are yours to delete"),
        ("../x", "expected a name that gemlet list shows"),
        ("own/model", "files of your own are yours to delete"),
    ],
)
def test_what_is_not_gemlets_to_delete(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    for file in ("own.gguf", "own/model"):
        (tmp_path / file).write_bytes(b"mine")
    with pytest.raises(ArgumentError, match=message):
        plan_removal(name)
    assert (tmp_path / "own.gguf").exists() and (tmp_path / "own" / "model").exists()


@pytest.mark.parametrize(("answer", "remains"), [("n\n", True), ("y\n", False), ("\x04", True)])
def test_it_asks(cache: Path, answer: str, remains: bool) -> None:
    pointer = add(cache, "o/r", "m-Q4_0.gguf", "1" * 64)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "gemlet", "rm", "o/r"]
    with subprocess.Popen(
        command, env=cli_environment(), stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as program:
        os.close(theirs)
        os.write(ours, answer.encode())
        _, err = program.communicate(timeout=60)
    os.close(ours)
    assert str(pointer).encode() in err and b"Delete o/r, 10 B?" in err
    assert pointer.exists() == remains and (program.returncode == 0) == (not remains)


def test_without_a_terminal_it_wants_a_yes(cache: Path, cli: Cli) -> None:
    pointer = add(cache, "o/r", "m-Q4_0.gguf", "1" * 64)
    done = cli("rm", "o/r")
    assert done.returncode == 2 and "needs --yes" in done.stderr and pointer.exists()
