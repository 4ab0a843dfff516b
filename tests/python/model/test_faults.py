"""Bad files and bad luck: a clear error, and nothing worse."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import gemlet
import gguf
import numpy as np
import pytest
from gemlet import bundled

from conftest import cli_environment


def spoiled(source: Path, target: Path, spoil: Callable[[bytearray], object]) -> Path:
    data = bytearray(source.read_bytes())
    spoil(data)
    target.write_bytes(data)
    return target


def test_missing_file() -> None:
    with pytest.raises(gemlet.FileError, match=r"/none/x\.gguf: cannot open: No such file"):
        gemlet.load("/none/x.gguf")
    with pytest.raises(OSError, match="No such file"):
        gemlet.load("/none/x.gguf")


def test_directory(tmp_path: Path) -> None:
    with pytest.raises(gemlet.FileError, match="directory"):
        gemlet.load(tmp_path)


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").touch()
    with pytest.raises(gemlet.GemletError, match=r"x\.gguf.*empty"):
        gemlet.load(tmp_path / "x.gguf")


def test_no_permission(tiny_gguf: Path) -> None:
    """As an ordinary user: root may read anything."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        model = Path(folder) / "x.gguf"
        model.write_bytes(tiny_gguf.read_bytes())
        code = f"import gemlet, os; os.geteuid() or os.setuid(65534); gemlet.load({str(model)!r})"
        command = [sys.executable, "-c", code]
        for mode, message in (
            (0o644, ""),
            (0o200, r"gemlet\.errors\.FileError: .*x\.gguf: cannot open: Permission denied"),
        ):
            model.chmod(mode)
            done = subprocess.run(command, capture_output=True, text=True, env=cli_environment(), timeout=60)
            last = done.stderr.strip().splitlines()[-1:] or [""]
            assert (done.returncode == 0) == (message == ""), done.stderr
            assert re.fullmatch(message, last[0])


def test_not_gguf(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(gemlet.FormatError, match=r"x\.gguf"):
        gemlet.load(tmp_path / "x.gguf")


@pytest.mark.parametrize("part", [0.001, 0.1, 0.5, 0.99])
def test_truncated(tiny_gguf: Path, tmp_path: Path, part: float) -> None:
    def cut(data: bytearray) -> None:
        del data[int(len(data) * part) :]

    with pytest.raises(gemlet.FormatError, match=r"x\.gguf"):
        gemlet.load(spoiled(tiny_gguf, tmp_path / "x.gguf", cut))


def test_another_architecture(tiny_gguf: Path, tmp_path: Path) -> None:
    def rename(data: bytearray) -> None:
        data[:] = data.replace(b"gemma3n", b"llama4x")

    with pytest.raises(gemlet.UnsupportedError, match=r"\"llama4x\", gemlet runs .*gemma3n"):
        gemlet.load(spoiled(tiny_gguf, tmp_path / "x.gguf", rename))


def test_nan_in_the_weights(tiny_gguf: Path, tmp_path: Path) -> None:
    [tensor] = [t for t in gguf.GGUFReader(tiny_gguf).tensors if t.name == "output_norm.weight"]
    offset = int(tensor.data_offset)

    def poison(data: bytearray) -> None:
        data[offset : offset + 4] = np.float32(np.nan).tobytes()

    path = spoiled(tiny_gguf, tmp_path / "x.gguf", poison)
    with pytest.raises(gemlet.GemletError, match=r"(?i)nan|finite"):
        gemlet.load(path).generate("the cat", temperature=0.0)
    with pytest.raises(gemlet.GemletError, match=r"(?i)nan|finite"):
        gemlet.load(path).chat().send("the cat")


def test_changed_bytes_load_or_raise(tiny_gguf: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    original = tiny_gguf.read_bytes()
    outcomes = {"loads": 0, "raises": 0}
    for _ in range(100):
        data = bytearray(original)
        data[random.integers(0, 12000)] = random.integers(0, 256)
        (tmp_path / "x.gguf").write_bytes(data)
        try:
            gemlet.load(tmp_path / "x.gguf", threads=1)
            outcomes["loads"] += 1
        except gemlet.GemletError:
            outcomes["raises"] += 1
    assert min(outcomes.values()) > 0


def test_the_sample_model_may_be_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bundled, "_MODELS", tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(gemlet.FileError, match=r"nano\.gguf: the sample model is not part of this installation"):
        gemlet.demo()
    (tmp_path / "nano").touch()
    with pytest.raises(gemlet.GemletError, match=r"^nano"):
        gemlet.load("nano")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threads": -1}, "threads is -1"),
        ({"threads": 100000}, "threads is 100000"),
        ({"chunk": 0}, "chunk is 0"),
        ({"context": -5}, "context"),
        ({"context": 10**6}, "context"),
        ({"kernels": "mmx"}, "mmx.*scalar"),
    ],
)
def test_settings_out_of_range(tiny_gguf: Path, settings: dict[str, int], message: str) -> None:
    with pytest.raises(gemlet.ArgumentError, match=message):
        gemlet.load(tiny_gguf, **settings)  # type: ignore[arg-type]


def test_the_hierarchy_of_errors() -> None:
    for name, builtin in {
        "FileError": OSError,
        "FormatError": ValueError,
        "UnsupportedError": Exception,
        "ArgumentError": ValueError,
        "ContextError": ValueError,
        "CancelledError": Exception,
        "OutOfMemoryError": MemoryError,
        "OverloadError": Exception,
        "TemplateError": ValueError,
    }.items():
        error = getattr(gemlet, name)
        assert issubclass(error, gemlet.GemletError) and issubclass(error, builtin)
        assert str(error("one: message")) == "one: message"


def test_a_name_that_is_not_utf8(tiny_gguf: Path, tmp_path: Path) -> None:
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.gguf")
    with pytest.raises(gemlet.FileError, match="No such file"):
        gemlet.load(odd)
    Path(odd).write_bytes(tiny_gguf.read_bytes())
    assert gemlet.load(odd).info.layers == 5
