"""Folders that are not quite a checkpoint: an error that says what they are and what to do."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import pytest
from gemlet.conversion import ConvertError, convert

from conftest import Cli
from tiny import Tiny, write_checkpoint, write_safetensors


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "checkpoint", Tiny())


def refused(checkpoint: Path) -> str:
    with pytest.raises(ConvertError) as caught:
        convert(checkpoint, checkpoint.parent / "model.gguf", "f32")
    return str(caught.value)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.model", "tokenizer_config.json"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 12345\n", "is a Git LFS pointer"),
        (b"<!DOCTYPE html>\n<html><head><title>Access to this model is restricted", "is a web page"),
        (b"\n<html lang='en'>" + b" " * 100, "is a web page"),
        (b"\xef\xbb\xbf<HTML>", "is a web page"),
        (b"PK\x03\x04" + bytes(60), "is a ZIP archive or a pickle, as PyTorch saves checkpoints"),
        (b"\x80\x02\x8a\x0a" + bytes(60), "is a ZIP archive or a pickle"),
        (b"GGUF\x03\0\0\0" + bytes(60), "is a GGUF file, which gemlet runs as it is"),
    ],
)
def test_files_that_are_others(checkpoint: Path, name: str, content: bytes, message: str) -> None:
    (checkpoint / name).write_bytes(content)
    assert f"{name}: {message}" in refused(checkpoint)


def test_an_adapter_is_no_model(checkpoint: Path) -> None:
    (checkpoint / "adapter_config.json").write_text("{}")
    (checkpoint / "model.safetensors").rename(checkpoint / "adapter_model.safetensors")
    assert "but adapter_model.safetensors: an adapter, which has to be merged" in refused(checkpoint)
    (checkpoint / "config.json").unlink()
    assert "holds an adapter (adapter_config.json)" in refused(checkpoint)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pytorch_model-00001-of-00002.bin", "weights that PyTorch has pickled; save them as safetensors"),
        ("consolidated.00.pth", "weights that PyTorch has pickled"),
        ("model-00001-of-00002.safetensors", "of a checkpoint in several files, whose index is missing"),
        ("model-q4_0.gguf", "a GGUF file, which gemlet runs as it is"),
    ],
)
def test_what_stands_in_place_of_the_weights_is_named(checkpoint: Path, name: str, message: str) -> None:
    (checkpoint / "model.safetensors").rename(checkpoint / name)
    (checkpoint / "training_args.bin").write_bytes(b"")
    expected = f"neither model.safetensors nor model.safetensors.index.json is there, but {name}: {message}"
    assert expected in refused(checkpoint)


def test_a_model_file_is_no_checkpoint(checkpoint: Path) -> None:
    model = convert(checkpoint, checkpoint / "model.gguf", "f32").path
    assert f"{model}: is a GGUF file, which gemlet runs as it is, not a directory" in refused(model)
    assert "is a file, not a directory; expected the folder of a checkpoint" in refused(checkpoint / "config.json")
    for path in checkpoint.iterdir():
        if path != model:
            path.unlink()
    assert f"{checkpoint}: holds no checkpoint, but model.gguf, which gemlet runs as it is" in refused(checkpoint)


@pytest.mark.parametrize("where", ["root", "text_config"])
@pytest.mark.parametrize(
    ("key", "value", "by"),
    [
        ("quantization_config", {"quant_method": "bitsandbytes", "load_in_4bit": True}, " by bitsandbytes"),
        ("quantization_config", {"quant_method": "fp8"}, " by fp8"),
        ("quantization_config", {"quant_method": "awq"}, " by awq"),
        ("quantization", {"group_size": 64, "bits": 4}, ""),
        ("compression_config", {"format": "int-quantized"}, ""),
    ],
)
def test_quantised_weights(tmp_path: Path, where: str, key: str, value: dict[str, object], by: str) -> None:
    checkpoint = write_checkpoint(tmp_path / "c", Tiny(), prefix="model.language_model.")
    config = json.loads((checkpoint / "config.json").read_text())
    (config if where == "root" else config["text_config"])[key] = value
    (checkpoint / "config.json").write_text(json.dumps(config))
    assert f"config.json: {key}: the weights are quantised{by}, expected a checkpoint in float32" in refused(checkpoint)


@pytest.mark.parametrize("name", ["quantize_config.json", "hf_quant_config.json"])
def test_quantised_weights_that_another_file_describes(checkpoint: Path, name: str) -> None:
    (checkpoint / name).write_text("{}")
    assert f"{name}: the weights are quantised, expected" in refused(checkpoint)


def test_another_architecture(checkpoint: Path) -> None:
    (checkpoint / "config.json").write_text('{"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"}')
    assert 'architectures is ["Qwen3ForCausalLM"], gemlet converts Gemma 3' in refused(checkpoint)


def two_sets(folder: Path) -> Path:
    """The shards of one model beside the single file of another."""
    checkpoint = write_checkpoint(folder / "checkpoint", Tiny(), shards=3)
    other = {f"model.{name}": values for name, values in Tiny(seed=1).weights().items()}
    write_safetensors(checkpoint / "model.safetensors", other)
    return checkpoint


def test_two_sets_of_weights_are_ambiguous(tmp_path: Path) -> None:
    message = refused(two_sets(tmp_path))
    assert "holds two sets of weights, model.safetensors and the 3 files of model.safetensors.index.json" in message


def test_of_a_broken_and_a_whole_set_the_whole_one_is_read_and_named(tmp_path: Path, cli: Cli) -> None:
    checkpoint = two_sets(tmp_path)
    (checkpoint / "model-00002-of-00003.safetensors").unlink()
    done = cli("convert", checkpoint, "-o", tmp_path / "m.gguf", "--quant", "f32")
    index = checkpoint / "model.safetensors.index.json"
    assert done.stderr == f"gemlet: {index}: 1 of its 3 files are missing; model.safetensors is read\n"
    found = (tmp_path / "m.gguf").read_bytes()
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
