"""gemlet inspect on files with encoders of pictures and sound."""

from __future__ import annotations

import json
from pathlib import Path

from gemlet.conversion import convert, convert_mmproj

from conftest import Cli
from tiny_encoders import checkpoint, encoder_weights
from tiny_siglip import TinySiglip, siglip_checkpoint


def test_a_model_with_encoders(cli: Cli, tmp_path: Path) -> None:
    path = convert(checkpoint(tmp_path / "c", encoder_weights()), tmp_path / "m.gguf", "f32", media=True).path
    shown = json.loads(cli("inspect", path, "--json").stdout)
    assert shown["encoders"] == {"sees": True, "hears": True, "hidden_size": 36}
    assert 0 < shown["encoder_bytes"] < shown["file_bytes"]
    assert not any(tensor["name"].startswith(("v.", "a.", "mm.")) for tensor in shown["tensors"])
    assert "pictures and sound, " in cli("inspect", path).stdout


def test_a_model_without(cli: Cli, tiny_gguf: Path) -> None:
    assert json.loads(cli("inspect", tiny_gguf, "--json").stdout)["encoders"] is None
    assert "none in this file: text only" in cli("inspect", tiny_gguf).stdout


def test_encoders_alone(cli: Cli, tmp_path: Path) -> None:
    path = convert_mmproj(siglip_checkpoint(tmp_path / "c", TinySiglip()), tmp_path / "mmproj.gguf").path
    shown = json.loads(cli("inspect", path, "--json").stdout)
    assert shown == {
        "architecture": "clip",
        "encoders": {"sees": True, "hears": False, "hidden_size": 42},
        "file_bytes": path.stat().st_size,
    }
    assert "mmproj.gguf: encoders of pictures for models with a hidden size of 42, " in cli("inspect", path).stdout


def test_other_architectures_are_refused_as_before(cli: Cli, tmp_path: Path) -> None:
    path = TinySiglip().write(tmp_path / "mmproj.gguf", projector="ldp")
    done = cli("inspect", path)
    assert done.returncode == 1 and "clip" in done.stderr and done.stdout == ""
