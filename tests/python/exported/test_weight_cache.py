"""Packed weights on disk: whole, checked, and removed when they are old."""

import json
import os
import pwd
import time
from collections.abc import Callable
from pathlib import Path

import gemlet
import pytest
from gemlet.exported.weight_cache import weight_cache


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("GEMLET_CACHE", str(folder))
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.tflite"
    path.write_bytes(b"weights")
    return path


def pack(model: Path, runtime: str = "litert 1", data: bytes = b"packed" * 100) -> Path:
    """Load a model as LiteRT does: packed weights that are there are used, others are written. Where they lie then."""
    with weight_cache(model, runtime) as packed:
        if not Path(packed).exists():
            Path(packed).write_bytes(data)
    return Path(packed)


def kept(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir())


def only(cache: Path) -> Path:
    [packed] = cache.glob("*.xnnpack")
    assert kept(cache) == sorted((packed.name, packed.with_suffix(".json").name))
    return packed


def test_they_take_their_place_when_they_are_whole(cache: Path, model: Path) -> None:
    with pytest.raises(RuntimeError), weight_cache(model, "litert 1") as packed:
        Path(packed).write_bytes(b"half")
        raise RuntimeError
    assert kept(cache) == []
    assert not pack(model).exists()  # the name that they were written under
    assert pack(model) == only(cache)
    assert not pack(model, "litert 2").exists() and len(kept(cache)) == 4


def test_a_user_without_a_home_has_no_folder(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container with a user id of its own: no HOME, and no entry in the password database."""
    for name in ("GEMLET_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: {}[uid])
    with weight_cache(model, "litert 1") as packed:
        assert packed == ""


def test_where_there_is_no_folder(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("", str(model / "impossible")):
        monkeypatch.setenv("GEMLET_CACHE", folder)
        with weight_cache(model, "litert 1") as packed:
            assert packed == ""


def flip_a_bit(packed: Path) -> None:
    data = bytearray(packed.read_bytes())
    data[len(data) // 2] ^= 1
    packed.write_bytes(data)


def cut(packed: Path) -> None:
    packed.write_bytes(packed.read_bytes()[:-1])


def lose_the_receipt(packed: Path) -> None:
    packed.with_suffix(".json").unlink()


def spoil_the_receipt(packed: Path) -> None:
    packed.with_suffix(".json").write_text("[" * 100_000)


def put_a_fifo(packed: Path) -> None:
    packed.unlink()
    os.mkfifo(packed)


@pytest.mark.parametrize("damage", [flip_a_bit, cut, lose_the_receipt, spoil_the_receipt, put_a_fifo])
def test_what_is_damaged_is_packed_again(cache: Path, model: Path, damage: Callable[[Path], None]) -> None:
    pack(model)
    damage(only(cache))
    assert pack(model).parent != cache
    assert pack(model) == only(cache) and only(cache).read_bytes() == b"packed" * 100


def test_old_ones_are_removed(cache: Path, model: Path, tmp_path: Path) -> None:
    other, unused = tmp_path / "other.tflite", tmp_path / "unused.tflite"
    for path in (other, unused):
        path.write_bytes(b"others")
    pack(model)
    pack(other)
    pack(unused)
    (cache / ("0" * 24 + ".xnnpack")).write_bytes(b"of a version before receipts")
    (cache / "notes.txt").write_text("mine")
    (cache / "0123.xnnpack").write_text("mine")
    [old] = [path for path in cache.glob("*.json") if json.loads(path.read_text())["model"] == str(unused)]
    month = time.time() - 31 * 24 * 3600
    os.utime(old, (month, month))
    model.write_bytes(b"new weights")
    other.unlink()
    pack(model)
    [receipt] = cache.glob("*.json")
    assert json.loads(receipt.read_text())["bytes"] == len(b"new weights")
    assert kept(cache) == sorted(("0123.xnnpack", "notes.txt", receipt.name, receipt.with_suffix(".xnnpack").name))


def test_a_model_that_was_moved_keeps_them(cache: Path, model: Path, tmp_path: Path) -> None:
    """As an export's, which is checked before it has its place."""
    pack(model)
    moved = model.rename(tmp_path / "moved.tflite")
    assert pack(moved) == only(cache)
    assert json.loads(only(cache).with_suffix(".json").read_text())["model"] == str(moved)


def test_using_them_is_noted(cache: Path, model: Path) -> None:
    pack(model)
    receipt = only(cache).with_suffix(".json")
    os.utime(receipt, (0, 0))
    pack(model)
    assert receipt.stat().st_mtime > 0


def test_litert_leaves_its_packed_weights_alone(cache: Path, nano_gguf: Path, tmp_path: Path) -> None:
    """Otherwise the checksum would refuse them each time."""
    out = gemlet.export(nano_gguf, tmp_path / "out", "tflite", "int8", context=64, prefill=(8,)).path
    gemlet.load(out).generate("Hello", max_tokens=2, temperature=0.0)
    [receipt] = [path for path in cache.glob("*.json") if str(out) in path.read_text()]
    packed = receipt.with_suffix(".xnnpack")
    before = packed.stat()
    gemlet.load(out).generate("Hello", max_tokens=2, temperature=0.0)
    assert packed.exists() and packed.stat().st_mtime_ns == before.st_mtime_ns and packed.stat().st_ino == before.st_ino
