"""GGUF files as others write them: split by gguf-py, with tensors of other types, of other architectures."""

from collections.abc import Callable
from pathlib import Path

import gemlet
import gguf
import numpy as np
import pytest
from gemlet.exporters.source import Source

Change = Callable[[gguf.GGUFWriter], None]


def rewrite(source: Path, target: Path, change: Change | None = None, **options: int) -> Path:
    """The file as gguf-py writes it. Returns the (first) file written."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents(), **options)
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), kind, sub_type=inner)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    if change is not None:
        change(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target if not options else sorted(target.parent.glob("*-00001-of-*.gguf"))[0]


@pytest.fixture(scope="module")
def parts(nano_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("split")
    rewrite(nano_gguf, folder / "nano.gguf", split_max_tensors=40)
    return sorted(folder.iterdir())


def test_each_part_of_a_split_model_opens_the_whole(nano_gguf: Path, parts: list[Path]) -> None:
    assert len(parts) > 3
    whole = gemlet.load(nano_gguf, threads=1)
    prompt = whole.tokenize("What is the capital of Peru?", bos=True)
    expected = whole.logits(prompt)
    prints = set()
    for part in (parts[0], parts[2], parts[-1]):
        model = gemlet.load(part, threads=1)
        assert np.array_equal(model.logits(prompt), expected)
        assert len(model.info.tensors) == len(whole.info.tensors)
        prints.add(model.info.fingerprint)
    assert len(prints) == 1


def test_a_missing_part_is_named(parts: list[Path], tmp_path: Path) -> None:
    for part in parts:
        if part != parts[1]:
            (tmp_path / part.name).symlink_to(part)
    with pytest.raises(gemlet.FileError, match=f"part 2 of {len(parts)} is missing: .*{parts[1].name}: cannot open"):
        gemlet.load(tmp_path / parts[0].name)


def test_a_split_model_is_exported_as_the_whole_one(nano_gguf: Path, parts: list[Path], tmp_path: Path) -> None:
    whole, split = Source(nano_gguf), Source(parts[1])
    for name in whole.tensors:
        expected, found = (np.concatenate(list(source.encoded(source.whole(name)))) for source in (whole, split))
        assert np.array_equal(expected, found), name
    (tmp_path / "tokenizer.gguf").write_bytes(split.header(0))
    fields = gguf.GGUFReader(tmp_path / "tokenizer.gguf").fields
    assert not [name for name in fields if name.startswith("split.")]
    assert (
        fields["tokenizer.ggml.tokens"].contents()
        == gguf.GGUFReader(nano_gguf).fields["tokenizer.ggml.tokens"].contents()
    )


def test_tensors_that_nothing_asks_for_may_have_any_type(nano_gguf: Path, tmp_path: Path) -> None:
    def add_tower(writer: gguf.GGUFWriter) -> None:
        writer.add_tensor("v.patch_embd.weight", np.zeros((4, 32), np.int32))

    path = rewrite(nano_gguf, tmp_path / "tower.gguf", add_tower)
    model = gemlet.load(path, threads=1)
    whole = gemlet.load(nano_gguf, threads=1)
    prompt = whole.tokenize("Hello", bos=True)
    assert np.array_equal(model.logits(prompt), whole.logits(prompt))


def test_another_architecture_is_reported_before_its_tensors(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "other.gguf", "mamba")
    writer.add_tensor("token_embd.weight", np.zeros((4, 32), np.int32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(gemlet.UnsupportedError, match='architecture is "mamba"'):
        gemlet.load(tmp_path / "other.gguf")


def test_every_end_token_of_the_family_ends_whatever_the_keys_say(nano_gguf: Path, tmp_path: Path) -> None:
    """Files that name <end_of_turn> as the only end token, and files that type the turn markers as ordinary pieces."""

    def name_one_end(writer: gguf.GGUFWriter) -> None:
        writer.kv_data[0].pop("tokenizer.ggml.eot_token_id", None)
        writer.kv_data[0]["tokenizer.ggml.eos_token_id"].value = ends["<end_of_turn>"]

    def type_markers(kind: gguf.TokenType) -> Change:
        def change(writer: gguf.GGUFWriter) -> None:
            for token in (*ends.values(), start):
                writer.kv_data[0]["tokenizer.ggml.token_type"].value[token] = int(kind)

        return change

    whole = gemlet.load(nano_gguf, threads=1)
    ends = {piece: whole.tokenize(piece)[0] for piece in ("<eos>", "<end_of_turn>")}
    (start,) = whole.tokenize("<start_of_turn>")
    expected = whole.chat(temperature=0.0).send("What is the capital of Peru?").text
    changes = [name_one_end, *map(type_markers, (gguf.TokenType.NORMAL, gguf.TokenType.UNUSED))]
    for number, change in enumerate(changes):
        model = gemlet.load(rewrite(nano_gguf, tmp_path / f"{number}.gguf", change), threads=1)
        for token in ends.values():
            done = model.generate("Hello", max_tokens=12, logit_bias={token: 1000.0})
            assert (done.tokens, done.finish_reason) == ([], "stop")
        assert model.chat(temperature=0.0).send("What is the capital of Peru?").text == expected


def test_what_is_no_model_is_named(tmp_path: Path) -> None:
    for content, name in (
        (b"version https://git-lfs.github.com/spec/v1\nsize 253000000\n", "git-LFS pointer to 253000000 bytes"),
        (b"<!doctype html>\n<title>Sign in</title>", "an HTML page"),
    ):
        path = tmp_path / "model.gguf"
        path.write_bytes(content)
        with pytest.raises(gemlet.FormatError, match=name):
            gemlet.load(path)
