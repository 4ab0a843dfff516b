"""The seam between the converter and its architectures: a made-up one registers itself and is converted."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import gguf
import pytest
from gemlet.conversion import ConvertError, architectures, convert, convert_mmproj
from gemlet.conversion.architecture import Architecture
from gemlet.conversion.config import FULL, ConfigFile, TextConfig
from gemlet.conversion.planned import PlannedTensor, Role, one

from tiny import Draw, tiny_tokenizer, write_safetensors


def read_config(file: ConfigFile) -> TextConfig:
    fields = file.fields()
    config = TextConfig(
        name=file.name,
        vocab_size=fields.integer("vocab_size"),
        hidden_size=fields.integer("hidden_size"),
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=4,
        sliding_window=1,
        max_position_embeddings=fields.integer("max_position_embeddings"),
        rms_norm_eps=1e-6,
        tie_word_embeddings=True,
        intermediate_size=(8,),
        layer_types=(FULL,),
        **file.special_tokens(),
    )
    fields.raise_problems(file.path)
    return config


def tensors(config: TextConfig) -> Iterator[PlannedTensor]:
    yield one("token_embd", "embed_tokens.weight", config.vocab_size, config.hidden_size)
    yield one("mixer", "mixer.weight", 8, config.hidden_size)


def add_metadata(writer: gguf.GGUFWriter, config: TextConfig) -> None:
    writer.add_context_length(config.max_position_embeddings)


TOY = Architecture(
    name="toymixer",  # which the core does not run
    title="Toy",
    classes=("ToyForCausalLM",),
    model_types=("toy",),
    outside=("ears.",),
    read_config=read_config,
    tensors=tensors,
    add_metadata=add_metadata,
    roles={"mixer": Role.LAYER},
)


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint of the toy, which is registered for one test."""
    monkeypatch.setattr(architectures, "_REGISTRY", dict(architectures._REGISTRY))
    architectures.register(TOY)
    folder = tmp_path / "toy"
    folder.mkdir()
    sizes = {"vocab_size": 299, "hidden_size": 32, "max_position_embeddings": 77}
    config = {"architectures": ["ToyForCausalLM"], "model_type": "toy", **sizes}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.model").write_bytes(tiny_tokenizer().serialize())
    draw = Draw(0)
    weights = {"model.embed_tokens.weight": draw.linear(299, 32), "model.mixer.weight": draw.linear(8, 32)}
    write_safetensors(folder / "model.safetensors", {**weights, "ears.weight": draw.norm(3)})
    return folder


def test_an_architecture_that_registers_itself_is_converted(checkpoint: Path) -> None:
    done = convert(checkpoint, checkpoint.parent / "toy.gguf", "q4_0")
    reader = gguf.GGUFReader(done.path)
    assert done.left_out == ("ears.weight",)
    assert reader.fields["general.architecture"].contents() == "toymixer"
    assert reader.fields["toymixer.context_length"].contents() == 77
    assert {t.name: t.tensor_type.name for t in reader.tensors} == {
        "token_embd.weight": "Q8_0",  # rows of 32 have no blocks of 256 for Q6_K
        "mixer.weight": "Q4_0",
    }


def test_an_architecture_whose_encoders_are_unknown(checkpoint: Path) -> None:
    with pytest.raises(ConvertError, match="is Toy, whose encoders gemlet does not convert"):
        convert_mmproj(checkpoint, checkpoint.parent / "mmproj.gguf")


def test_an_unknown_architecture_is_named(checkpoint: Path) -> None:
    (checkpoint / "config.json").write_text(json.dumps({"architectures": ["OtherModel"], "model_type": "other"}))
    titles = ", ".join(architecture.title for architecture in architectures._REGISTRY.values())
    assert titles.startswith("Gemma 3, Gemma 3n") and titles.endswith(", Toy")
    with pytest.raises(ConvertError, match=rf'architectures is \["OtherModel"\], gemlet converts {re.escape(titles)}$'):
        convert(checkpoint, checkpoint.parent / "toy.gguf")
    (checkpoint / "config.json").write_text(json.dumps({"model_type": "other"}))
    with pytest.raises(ConvertError, match='model_type is "other", gemlet converts'):
        convert(checkpoint, checkpoint.parent / "toy.gguf")
    names = ", ".join(architectures._REGISTRY)
    with pytest.raises(ConvertError, match=f"architecture is 'other', expected one of {names}$"):
        architectures.by_name("other")


@pytest.mark.parametrize("name", ["gemma3", "gemma3n"])
def test_a_matrix_without_a_role_is_refused(name: str) -> None:
    """It used to become a vector, in float32, without a word."""
    architecture = architectures.by_name(name)
    assert architecture.role_of("blk.0.new_norm.weight", (36,)) is Role.VECTOR
    assert architecture.role_of("blk.0.attn_q.weight", (30, 36)) is Role.LAYER
    with pytest.raises(ConvertError, match=r"tensor blk.0.attn_mix.weight \[90, 36\]"):
        architecture.role_of("blk.0.attn_mix.weight", (90, 36))


def test_a_planned_matrix_without_a_role_writes_nothing(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TOY.roles, "mixer", None)
    with pytest.raises(ConvertError, match="mixer"):
        convert(checkpoint, checkpoint.parent / "toy.gguf")
    assert not (checkpoint.parent / "toy.gguf").exists()
