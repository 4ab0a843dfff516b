"""Folders that are not quite a checkpoint: an error that says what they are and what to do."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import pytest
from gemlet.conversion import ConvertError, convert

from tiny import Tiny, write_checkpoint, write_safetensors


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "checkpoint", Tiny())


def refused(checkpoint: Path) -> str:
    with pytest.raises(ConvertError) as caught:
        convert(checkpoint, checkpoint.parent / "model.gguf", "f32")
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 12345\n", "is a Git LFS pointer"),
        (b"<!DOCTYPE html>\n<html><head><title>Access to this model is restricted", "is a web page"),
        (b"\n<html lang='en'>" + b" " * 100, "is a web page"),
    ],
)
def test_downloads_that_failed(checkpoint: Path, content: bytes, message: str) -> None:
    (checkpoint / "model.safetensors").write_bytes(content)
    assert message in refused(checkpoint)


def test_an_adapter_is_no_model(checkpoint: Path) -> None:
    (checkpoint / "config.json").unlink()
    (checkpoint / "adapter_config.json").write_text("{}")
    assert "holds an adapter (adapter_config.json)" in refused(checkpoint)


def two_sets(folder: Path) -> Path:
    """The shards of one model beside the single file of another."""
    checkpoint = write_checkpoint(folder / "checkpoint", Tiny(), shards=3)
    other = {f"model.{name}": values for name, values in Tiny(seed=1).weights().items()}
    write_safetensors(checkpoint / "model.safetensors", other)
    return checkpoint


def test_two_sets_of_weights_are_ambiguous(tmp_path: Path) -> None:
    message = refused(two_sets(tmp_path))
    assert "holds two sets of weights, model.safetensors and the 3 files of model.safetensors.index.json" in message


def test_of_a_broken_and_a_whole_set_the_whole_one_is_read(tmp_path: Path) -> None:
    checkpoint = two_sets(tmp_path)
    (checkpoint / "model-00002-of-00003.safetensors").unlink()
    found = convert(checkpoint, tmp_path / "m.gguf", "f32").path.read_bytes()
    alone = write_checkpoint(tmp_path / "alone" / "checkpoint", Tiny(seed=1))
    assert convert(alone, tmp_path / "alone.gguf", "f32").path.read_bytes() == found


def test_an_index_of_a_single_file_is_no_second_set(checkpoint: Path) -> None:
    weight_map = {f"model.{name}": "model.safetensors" for name in Tiny().weights()}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert convert(checkpoint, checkpoint.parent / "m.gguf", "f32").bytes


def test_tokens_of_older_tokenizers_are_added(checkpoint: Path) -> None:
    (checkpoint / "added_tokens.json").write_text(json.dumps({"<mine>": 295}))
    fields = gguf.GGUFReader(convert(checkpoint, checkpoint.parent / "m.gguf", "f32").path).fields
    assert fields["tokenizer.ggml.tokens"].contents()[295] == "<mine>"
    assert fields["tokenizer.ggml.token_type"].contents()[295] == 4


@pytest.mark.parametrize(("quant", "head"), [("Q8_0", None), ("Balanced", None), ("Q4_0", "Q8_0")])
def test_names_of_types_in_upper_case(checkpoint: Path, quant: str, head: str | None) -> None:
    upper = convert(checkpoint, checkpoint.parent / "upper.gguf", quant, head=head).path.read_bytes()
    lower = convert(checkpoint, checkpoint.parent / "lower.gguf", quant.lower(), head=head and head.lower()).path
    assert lower.read_bytes() == upper
