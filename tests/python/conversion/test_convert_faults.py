"""Checkpoints and disks that are not as they should be: one clear error, no half file, the old file untouched."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gemlet
import numpy as np
import pytest
from gemlet.conversion import ConvertError, convert
from gemlet.conversion.sentencepiece import SentencePieceModel
from gemlet.errors import FileError, GemletError
from hypothesis import given
from hypothesis import strategies as st

from tiny import Tiny, tiny_tokenizer, write_checkpoint, write_safetensors


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "checkpoint", Tiny())


def refused(
    checkpoint: Path, quant: str = "f32", out: Path | None = None, kind: type[GemletError] = ConvertError
) -> str:
    """The message of the error; also checks that an old file survives it and nothing else is left behind."""
    folder = checkpoint.parent / "out"
    folder.mkdir(exist_ok=True)
    (folder / "model.gguf").write_text("old")
    with pytest.raises(kind) as caught:
        convert(checkpoint, out or folder / "model.gguf", quant)
    assert [path.name for path in folder.iterdir()] == ["model.gguf"]
    assert (folder / "model.gguf").read_text() == "old"
    return str(caught.value)


def test_all_unfitting_tensors_are_listed_at_once(tmp_path: Path) -> None:
    weights = Tiny().weights()
    tensors: dict[str, Any] = {f"model.{name}": value for name, value in weights.items()}
    del tensors["model.norm.weight"], tensors["model.layers.1.mlp.up_proj.weight"]
    tensors["model.layers.0.self_attn.q_proj.weight"] = np.zeros((30, 35), np.float32)
    tensors["model.layers.2.altup.router_norm.weight"] = np.zeros(36, np.int32)
    tensors["model.layers.9.mlp.up_proj.weight"] = np.zeros((2, 2), np.float32)
    checkpoint = write_checkpoint(tmp_path / "checkpoint", Tiny())
    write_safetensors(checkpoint / "model.safetensors", tensors)
    message = refused(checkpoint)
    assert message.startswith("5 tensors do not fit the configuration")
    for line in (
        "missing: norm.weight [36]",
        "missing: layers.1.mlp.up_proj.weight [116, 36]",
        "misshapen: model.layers.0.self_attn.q_proj.weight is [30, 35], expected [30, 36]",
        "unreadable: model.layers.2.altup.router_norm.weight has type I32, expected F32, F16 or BF16",
        "extra: model.layers.9.mlp.up_proj.weight [2, 2]",
    ):
        assert line in message


def test_the_same_tensor_under_two_names(tmp_path: Path) -> None:
    extra = {"model.language_model.norm.weight": np.ones(36, np.float32)}
    assert "stands for the same tensor" in refused(write_checkpoint(tmp_path / "c", Tiny(), extra=extra))


def test_an_untied_head_must_be_there(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "c", Tiny(), config={"tie_word_embeddings": False})
    assert "missing: lm_head.weight [299, 36]" in refused(checkpoint)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("hidden_size", None, "hidden_size: expected a whole number from 1 to 1048576, found null"),
        ("hidden_size", "36", 'hidden_size: expected a whole number from 1 to 1048576, found "36"'),
        ("hidden_size", True, "hidden_size: expected"),
        ("num_hidden_layers", 0, "num_hidden_layers: expected"),
        ("num_hidden_layers", 6, "layer_types: expected a list of 6 entries"),
        ("num_attention_heads", -3, "num_attention_heads: expected"),
        ("num_key_value_heads", 2, "num_key_value_heads: expected a divisor of num_attention_heads (3)"),
        ("head_dim", 11, "head_dim: expected an even number"),
        ("num_kv_shared_layers", 5, "num_kv_shared_layers: expected a whole number from 0 to 4"),
        ("num_kv_shared_layers", 4, "no earlier layer is of the kind full_attention"),
        ("layer_types", ["full_attention"] * 4, "layer_types: expected a list of 5 entries"),
        ("layer_types", ["full_attention"] * 4 + ["other"], "each 'sliding_attention' or 'full_attention'"),
        ("layer_types", None, "layer_types: expected"),
        ("intermediate_size", [116] * 4, "intermediate_size: expected a list of 5 entries"),
        ("intermediate_size", [116] * 4 + [0], "intermediate_size: expected"),
        ("intermediate_size", 0, "intermediate_size: expected"),
        ("activation_sparsity_pattern", [0.95] * 4, "activation_sparsity_pattern: expected a list of 5"),
        ("activation_sparsity_pattern", [1.0] * 5, "each a number from 0 to below 1"),
        ("activation_sparsity_pattern", 0.95, "activation_sparsity_pattern: expected a list"),
        ("altup_active_idx", 4, "altup_active_idx: expected a whole number from 0 to 3, found 4"),
        ("altup_active_idx", -1, "altup_active_idx: expected"),
        ("altup_num_inputs", 1, "altup_num_inputs: expected a whole number from 2 to 16"),
        ("altup_correct_scale", "yes", "altup_correct_scale: expected true or false"),
        ("rms_norm_eps", 0, "rms_norm_eps: expected a number above 0"),
        ("final_logit_softcapping", None, "final_logit_softcapping: expected a number above 0"),
        ("attention_bias", True, "attention_bias: expected false"),
        ("hidden_activation", "gelu", 'hidden_activation: expected "gelu_pytorch_tanh"'),
        ("rope_parameters", {"full_attention": {}}, "rope_parameters: expected"),
        ("rope_parameters", {"full_attention": {"rope_type": "yarn"}}, "rope_parameters: expected"),
        ("rope_scaling", {"factor": 2}, "rope_scaling: expected null"),
        ("vocab_size", 1 << 40, "vocab_size: expected"),
        ("model_type", "gemma3", 'model_type is "gemma3", expected "gemma3n_text"'),
        ("architectures", ["LlamaForCausalLM"], "gemlet converts Gemma 3"),
    ],
)
def test_bad_fields(tmp_path: Path, field: str, value: Any, message: str) -> None:
    checkpoint = write_checkpoint(tmp_path / "c", Tiny(), config={field: value})
    assert message in refused(checkpoint)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rms_norm_eps", 10**400),
        ("rms_norm_eps", 1e-60),
        ("rope_theta", 1e300),
        ("final_logit_softcapping", 1e39),
        ("activation_sparsity_pattern", [1e-8] * 5),
        ("activation_sparsity_pattern", [1 - 1e-12] * 5),
    ],
)
def test_numbers_that_no_model_can_have(tmp_path: Path, field: str, value: Any) -> None:
    config = {**Tiny().config(), field: value}
    checkpoint = write_checkpoint(tmp_path / "c", Tiny(), config={"rope_parameters": None, field: value})
    assert field in config and f"{field}: expected" in refused(checkpoint)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tokenizer_config.json", '{"added_tokens_decoder": {"270": {"content": "\\ud800"}}}'),
        ("tokenizer_config.json", '{"chat_template": "a\\uDFFFb"}'),
        ("config.json", '{"_name_or_path": "\\udc00"}'),
        ("added_tokens.json", '{"<mine>": -400}'),
        ("added_tokens.json", '{"<mine>": true}'),
        ("tokenizer.json", '{"added_tokens": [{"id": -1, "content": "x"}]}'),
    ],
)
def test_tokens_that_are_none(checkpoint: Path, name: str, text: str) -> None:
    (checkpoint / name).write_text(text)
    assert name in refused(checkpoint)


def test_a_pair_of_surrogates_is_a_character(checkpoint: Path) -> None:
    (checkpoint / "tokenizer_config.json").write_text('{"chat_template": "\\ud83d\\ude00"}')
    assert convert(checkpoint, checkpoint.parent / "m.gguf", "f32").bytes


def test_an_unknown_token_that_is_no_piece(checkpoint: Path) -> None:
    (checkpoint / "tokenizer.model").unlink()
    model = {"type": "BPE", "unk_token": [], "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}
    (checkpoint / "tokenizer.json").write_text(json.dumps({"model": model, "normalizer": SPACES}))
    assert "model.unk_token: expected a piece, found []" in refused(checkpoint)


SPACES = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}


def test_a_template_in_another_encoding(checkpoint: Path) -> None:
    (checkpoint / "chat_template.jinja").write_bytes("é".encode("latin-1"))
    assert "chat_template.jinja: not a text in UTF-8" in refused(checkpoint)


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("written", ["<end of\u2581it>", "<end of it>", "<vég>"])
def test_an_end_token_whose_name_has_spaces_or_other_letters(checkpoint: Path, written: str, special: bool) -> None:
    """It ends, and no text that somebody types becomes it."""
    settings = {"added_tokens_decoder": {"270": {"content": written, "special": special}}, "eos_token": written}
    (checkpoint / "tokenizer_config.json").write_text(json.dumps(settings))
    model = gemlet.load(convert(checkpoint, checkpoint.parent / "m.gguf", "f32").path, threads=1)
    assert model.is_end(270)
    for typed in (written, written.replace(" ", "\u2581"), written.replace("\u2581", " ")):
        assert model.tokenize(typed, special=True) == [270]
        prompt = model._engine.prompt([("user", f"the {typed} in".encode(), ())]).tokens
        assert 270 not in prompt


@pytest.mark.parametrize("score", [b"\x11" + bytes(8), b"\x15\x00\x00\xc0\x7f", b"\x12\x01x"])
def test_scores_that_are_no_numbers(checkpoint: Path, score: bytes) -> None:
    piece = b"\x0a\x01a" + score
    (checkpoint / "tokenizer.model").write_bytes(b"\x0a" + bytes([len(piece)]) + piece)
    assert "not a SentencePiece model" in refused(checkpoint)


def test_a_shape_of_many_numbers_is_refused_at_once(checkpoint: Path) -> None:
    """Their product would take half a minute for a header of four megabytes."""
    spoil = header(lambda h: h["model.norm.weight"].update(shape=[1 << 62] * 200_000))
    spoil(checkpoint)
    assert "malformed entry" in refused(checkpoint)


def calls(function: Callable[[], object]) -> int:
    """How many functions, of Python and of C, one calls."""
    counted = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal counted
        counted += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(None)
    return counted


@pytest.mark.parametrize("file", ["model.safetensors", "added_tokens.json", "model.safetensors.index.json"])
def test_reading_takes_time_in_proportion(checkpoint: Path, file: str) -> None:
    """Twice as many entries take twice as many steps, and no step looks at all of them."""

    def read(entries: int) -> int:
        if file == "model.safetensors":
            extra = {
                f"model.x{i}.weight": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(entries)
            }
            header(lambda h: h.update(extra))(checkpoint)
        elif file == "added_tokens.json":
            (checkpoint / file).write_text(json.dumps({f"<{i}>": i % 200 for i in range(entries)}))
        else:
            names = {f"x{i}": f"shard{i}.safetensors" for i in range(entries)}
            (checkpoint / file).write_text(json.dumps({"weight_map": names}))
            (checkpoint / "model.safetensors").unlink(missing_ok=True)

        def outcome() -> None:
            with contextlib.suppress(ConvertError):
                convert(checkpoint, checkpoint.parent / "m.gguf", "f32")

        return calls(outcome)

    few, some, many = (read(entries) for entries in (0, 20_000, 40_000))
    assert some - few > 20_000 and many - some < 1.2 * (some - few)


def test_many_problems_are_counted(checkpoint: Path) -> None:
    """A message of megabytes tells nobody anything."""
    header(lambda h: h.update({f"x{i}{'y' * 5000}": h[NORM] for i in range(5000)}))(checkpoint)
    message = refused(checkpoint)
    assert message.startswith("5000 tensors do not fit") and message.endswith("\n  - and 4700 more")
    assert len(message) < 300 * 520


def test_missing_fields_are_listed_at_once(checkpoint: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    for name in ("hidden_size", "laurel_rank", "layer_types"):
        del config[name]
    (checkpoint / "config.json").write_text(json.dumps(config))
    message = refused(checkpoint)
    for name in ("hidden_size", "laurel_rank", "layer_types"):
        assert f"{name}: expected" in message
    assert "found nothing" in message


def damage(change: Callable[[bytearray], bytes | bytearray]) -> Callable[[Path], None]:
    def apply(checkpoint: Path) -> None:
        path = checkpoint / "model.safetensors"
        path.write_bytes(change(bytearray(path.read_bytes())))

    return apply


def header(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def apply(checkpoint: Path) -> None:
        data = (checkpoint / "model.safetensors").read_bytes()
        length = int.from_bytes(data[:8], "little")
        entries = json.loads(data[8 : 8 + length])
        change(entries)
        text = json.dumps(entries).encode()
        (checkpoint / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])

    return apply


NORM = "model.norm.weight"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (damage(lambda data: data[:-100]), "truncated: tensor .* ends at byte"),
        (damage(lambda data: data[:4]), "truncated or not safetensors"),
        (damage(lambda data: b""), "truncated or not safetensors"),
        (damage(lambda data: b"\xff" * 8 + data[8:]), "truncated or not safetensors"),
        (damage(lambda data: data[:8] + b"[" + data[9:]), "header is not valid JSON"),
        (damage(lambda data: data[:8] + b"\xff" + data[9:]), "header is not valid JSON"),
        (header(lambda h: h[NORM].update(data_offsets=[0, 1 << 60])), "truncated: tensor model.norm.weight"),
        (header(lambda h: h[NORM].update(data_offsets=[8, 4])), "truncated"),
        (header(lambda h: h[NORM].update(data_offsets=[0, 4])), "4 bytes cannot hold F32 of shape"),
        (header(lambda h: h[NORM].update(shape=[-36])), "malformed entry"),
        (header(lambda h: h[NORM].update(shape=3)), "malformed entry"),
        (header(lambda h: h[NORM].pop("dtype")), "malformed entry"),
        (header(lambda h: h.update({NORM: []})), "malformed entry"),
    ],
)
def test_damaged_safetensors(checkpoint: Path, spoil: Callable[[Path], None], message: str) -> None:
    spoil(checkpoint)
    with pytest.raises(ConvertError, match=message):
        convert(checkpoint, checkpoint.parent / "model.gguf", "f32")
    assert refused(checkpoint)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "generation_config.json"])
@pytest.mark.parametrize("text", ["{", "[]", "\ufeff", "[" * 100000])
def test_bad_json(checkpoint: Path, name: str, text: str) -> None:
    (checkpoint / name).write_text(text)
    assert name in refused(checkpoint)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.model", "model.safetensors"])
def test_missing_files(checkpoint: Path, name: str) -> None:
    (checkpoint / name).unlink()
    assert name in refused(checkpoint)


def test_shards(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "c", Tiny(), shards=3)
    index = checkpoint / "model.safetensors.index.json"
    described = json.loads(index.read_text())
    described["weight_map"]["model.lost.weight"] = "model-00001-of-00003.safetensors"
    index.write_text(json.dumps(described))
    assert "model.lost.weight: said to be in model-00001-of-00003" in refused(checkpoint)
    (checkpoint / "model-00002-of-00003.safetensors").unlink()
    assert "1 of 3 files are missing" in refused(checkpoint)
    described["weight_map"] = {"a": "../elsewhere.safetensors"}
    index.write_text(json.dumps(described))
    assert "weight_map" in refused(checkpoint)


@pytest.mark.parametrize(
    ("value", "quant", "message"),
    [
        (np.nan, "f32", "row 3, column 5 is nan"),
        (np.nan, "q4_0", "row 3, column 5 is nan"),
        (np.inf, "bf16", "row 3, column 5 is inf"),
        (-np.inf, "q8_0", "row 3, column 5 is -inf"),
        (1e6, "f16", "row 3, column 5 is 1000000.* which f16 cannot hold"),
    ],
)
def test_weights_that_no_type_holds(tmp_path: Path, value: float, quant: str, message: str) -> None:
    tiny = Tiny(hidden=96)
    checkpoint = write_checkpoint(tmp_path / "c", tiny)
    tensors = {f"model.{name}": values for name, values in tiny.weights().items()}
    tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = value
    write_safetensors(checkpoint / "model.safetensors", tensors)
    with pytest.raises(ConvertError, match=message) as caught:
        convert(checkpoint, tmp_path / "m.gguf", quant)
    assert "model.layers.1.mlp.up_proj.weight" in str(caught.value)
    assert refused(checkpoint, quant)


def test_bad_arguments(checkpoint: Path, tmp_path: Path) -> None:
    assert "expected one of f32, bf16, f16, q8_0, q4_0, performance" in refused(checkpoint, "q5_0")
    assert "is a directory" in refused(checkpoint, out=tmp_path, kind=FileError)
    assert "there is no directory" in refused(checkpoint, out=tmp_path / "none" / "m.gguf", kind=FileError)
    os.mkfifo(tmp_path / "pipe")
    assert "is a FIFO, expected a file name" in refused(checkpoint, out=tmp_path / "pipe", kind=FileError)
    assert (tmp_path / "pipe").is_fifo()
    for threads in (-1, 10**20):
        with pytest.raises(gemlet.ArgumentError, match=f"threads is {threads}, expected 0 to 256"):
            convert(checkpoint, tmp_path / "m.gguf", threads=threads)
    assert "no such directory" in refused(tmp_path / "absent")
    assert "not a directory" in refused(checkpoint / "config.json", out=tmp_path / "m.gguf")


def test_no_space_is_seen_beforehand(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    assert "bytes, the disk has 1,000 free" in refused(checkpoint, kind=FileError)


def child(checkpoint: Path, out: Path, before: str = "", progress: str = "None") -> subprocess.Popen[str]:
    program = f"""
        import os, resource, signal, time
        from gemlet.conversion import convert
        from gemlet.errors import FileError
        {before}
        try:
            convert({str(checkpoint)!r}, {str(out)!r}, "f32", {progress})
        except FileError as error:
            print(error)
        """
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True)


def test_a_disk_that_fills_up(checkpoint: Path, tmp_path: Path) -> None:
    """The system itself refuses the write, halfway: a limit on the size of files stands for a full disk."""
    (tmp_path / "out").mkdir()
    out = tmp_path / "out" / "model.gguf"
    out.write_text("old")
    process = child(checkpoint, out, f"resource.setrlimit(resource.RLIMIT_FSIZE, (100000, {resource.RLIM_INFINITY}))")
    message, _ = process.communicate(timeout=60)
    assert message == f"{out}: File too large; nothing was kept\n"
    assert [path.name for path in out.parent.iterdir()] == ["model.gguf"]
    assert out.read_text() == "old"


def test_a_process_killed_halfway(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    out = tmp_path / "out" / "model.gguf"
    out.write_text("old")
    process = child(checkpoint, out, progress="lambda done, total: done > total // 2 and os.kill(os.getpid(), 9)")
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert out.read_text() == "old"
    left = [path.name for path in out.parent.iterdir() if path != out]
    assert len(left) == 1 and left[0].startswith(".gemlet-") and left[0].endswith(".tmp")
    convert(checkpoint, out, "f32")
    assert out.read_bytes()[:4] == b"GGUF" and list(out.parent.iterdir()) == [out]


def test_an_interrupted_conversion_leaves_nothing(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(checkpoint, tmp_path / "out" / "m.gguf", "f32", interrupt)
    assert list((tmp_path / "out").iterdir()) == []


@given(st.data())
def test_mutated_tokenizer_models_parse_or_raise_value_error(data: st.DataObject) -> None:
    original = bytearray(tiny_tokenizer().serialize())
    for at in data.draw(st.lists(st.integers(0, len(original) - 1), min_size=1, max_size=4)):
        original[at] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ValueError):
        SentencePieceModel.parse(bytes(original[: data.draw(st.integers(0, len(original)))]))


@pytest.mark.slow
def test_memory_does_not_grow_with_the_model(tmp_path: Path) -> None:
    """A table of 400 MB in float32: what the conversion keeps is a slab and its encoding."""
    tiny = Tiny(vocab=100_000, ple_vocab=100_000, ple=200)
    checkpoint = write_checkpoint(tmp_path / "c", tiny)
    before = "start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss"
    process = child(checkpoint, tmp_path / "m.gguf", before + "; import atexit; atexit.register(lambda: print("
                    "resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start))")  # fmt: skip
    grown, _ = process.communicate(timeout=300)
    assert int(grown) < 250_000, f"{grown} KB"
