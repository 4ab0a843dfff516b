"""The core's tokenizer against the sentencepiece and tokenizers libraries, on made-up vocabularies and strings."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import sentencepiece
from gemlet import _core
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

import vocabularies
from vocabularies import CONTROL, NORMAL, SPACE, UNUSED, Piece

EXAMPLES = 300  # for each of seven vocabularies
STRINGS = 10  # made of each example: 21,000 in all
SYMBOLS = ["<b>", "<b></b>", "\n", "\n\n", SPACE * 2, SPACE * 4, "ab", "bcd", "日本"]

examples = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def _parts(seed: int) -> st.SearchStrategy[list[str]]:
    """Words of the corpus, special tokens, spaces, long repeats, and characters of all planes."""
    words = sorted({word for line in vocabularies.corpus(seed)[:60] for word in line.split(" ")})
    marked = [*SYMBOLS, *vocabularies.TURNS, "<bos>", "<eos>", "<unk>", "<pad>", "<0x41>", SPACE, "abcd", "<b", "</b"]
    part = st.one_of(
        st.sampled_from(words),
        st.sampled_from(marked),
        st.sampled_from(["a", " ", "\n", "\t", "é", "e\u0301", "👍🏽", "👩‍👩‍👧", "\0", "0", "\ufffd", "\U0010ffff"]),
        st.builds(str.__mul__, st.sampled_from([" ", "\n", "a", "ab", "日", "😀"]), st.integers(2, 70)),
        st.text(max_size=4),
    )
    return st.lists(part, min_size=1, max_size=12)


def _strings(seed: int) -> st.SearchStrategy[list[str]]:
    """STRINGS texts, each of some of the same parts in another order and number."""

    def join(parts: list[str], order: int) -> list[str]:
        rng = random.Random(order)
        return ["".join(rng.choices(parts, k=rng.randint(1, len(parts)))) for _ in range(STRINGS)]

    return st.builds(join, _parts(seed), st.integers(0, 1 << 32))


def _byte_strings(seed: int) -> st.SearchStrategy[list[bytes]]:
    """The same in UTF-8, some of it with bytes taken out or mixed in, in the middle of characters too."""
    noise = [b"\xff", b"\x80", b"\xe2\x96", b"\xf0\x9f\x98", b"\xed\xa0\x80", b"\xc0\x80", b"\xf5", b""]

    def damage(texts: list[str], order: int, binary: bytes) -> list[bytes]:
        rng = random.Random(order)
        out = []
        for text in texts:
            data = text.encode()
            if rng.random() < 0.4:
                at = rng.randint(0, len(data))
                data = data[:at] + rng.choice([*noise, binary]) + data[at + rng.randint(0, 3) :]
            out.append(data)
        return out

    return st.builds(damage, _strings(seed), st.integers(0, 1 << 32), st.binary(max_size=4))


def _replace_malformed(data: bytes) -> str:
    """What sentencepiece prints for byte tokens: U+FFFD for each byte that is part of no character."""
    text = ""
    while data:
        try:
            return text + data.decode()
        except UnicodeDecodeError as error:
            text += data[: error.start].decode() + "\ufffd"
            data = data[error.start + 1 :]
    return text


@dataclasses.dataclass
class Pair:
    """A vocabulary in the reference library and in the core."""

    reference: sentencepiece.SentencePieceProcessor
    core: _core.Tokenizer


def _plain(model: bytes) -> list[Piece]:
    return vocabularies.read_pieces(model)


def _llama_cpp(model: bytes) -> list[Piece]:
    """As llama.cpp's conversion leaves them: turns are control tokens, user-defined spaces are plain."""
    pieces = vocabularies.read_pieces(model)
    for piece in pieces:
        if piece.kind == vocabularies.USER_DEFINED:
            piece.text = piece.text.replace(SPACE, " ")
    return pieces


def _with_unused(model: bytes) -> list[Piece]:
    pieces = vocabularies.read_pieces(model)
    for i, piece in enumerate(pieces):
        if piece.kind == NORMAL and i % 3 == 0:
            piece.kind = UNUSED
    return pieces


def _with_ties(model: bytes) -> list[Piece]:
    """Few different scores, so that the leftmost pair often decides, and pieces whose letters are missing."""
    pieces = vocabularies.read_pieces(model)
    for i, piece in enumerate(pieces):
        piece.score = float(-(i % 5)) if piece.kind == NORMAL else 0.0
        if piece.kind == NORMAL and len(piece.text) == 1 and i % 4 == 0:
            piece.text = f"missing {i}".replace(" ", SPACE)
    return pieces


def _pair(
    directory: Path, seed: int, *, change: Callable[[bytes], list[Piece]], dummy_prefix: bool, key: bool | None
) -> Pair:
    model = vocabularies.train_sentencepiece(seed, size=1200 + 100 * seed, dummy_prefix=dummy_prefix, symbols=SYMBOLS)
    pieces = change(model)
    reference_pieces = _plain(model) if change is _llama_cpp else pieces
    path = vocabularies.write_scores_gguf(directory / f"{seed}.gguf", pieces, space_prefix=key)
    reference = sentencepiece.SentencePieceProcessor(model_proto=vocabularies.replace_pieces(model, reference_pieces))
    return Pair(reference, _core.Tokenizer(path))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    directory = tmp_path_factory.mktemp("vocabularies")
    return {
        "plain": _pair(directory, 0, change=_plain, dummy_prefix=False, key=None),
        "llama.cpp": _pair(directory, 1, change=_llama_cpp, dummy_prefix=False, key=False),
        "prefix": _pair(directory, 2, change=_plain, dummy_prefix=True, key=True),
        "unused": _pair(directory, 3, change=_with_unused, dummy_prefix=False, key=False),
        "ties": _pair(directory, 4, change=_with_ties, dummy_prefix=True, key=True),
    }


@pytest.mark.parametrize("name", ["plain", "llama.cpp", "prefix", "unused", "ties"])
def test_ids_and_text_equal_sentencepiece(pairs: dict[str, Pair], name: str) -> None:
    pair = pairs[name]
    seen = 0

    @examples
    @given(_byte_strings(0))
    def equal(strings: list[bytes]) -> None:
        nonlocal seen
        for data in strings:
            seen += 1
            ids = pair.core.encode(data, special=False)
            assert ids == pair.reference.encode(data)
            assert _replace_malformed(pair.core.decode(ids)) == pair.reference.decode(ids)

    equal()
    assert seen >= EXAMPLES * STRINGS


@pytest.mark.parametrize("name", ["plain", "prefix", "unused"])
def test_any_ids_decode_as_sentencepiece_decodes_them(pairs: dict[str, Pair], name: str) -> None:
    pair = pairs[name]
    # Between byte tokens a control token ends a character for sentencepiece; the core's bytes join.
    visible = [i for i in range(pair.core.vocabulary) if pair.core.kind(i) != "control"]

    @settings(examples, max_examples=300)
    @given(st.lists(st.sampled_from([0, 1, 2]), max_size=2), st.lists(st.sampled_from(visible), max_size=12))
    def equal(controls: list[int], rest: list[int]) -> None:
        ids = controls + rest
        assert _replace_malformed(pair.core.decode(ids)) == pair.reference.decode(ids)

    equal()


@pytest.mark.parametrize("name", ["plain", "prefix"])
def test_text_between_control_tokens_is_encoded_by_itself(pairs: dict[str, Pair], name: str) -> None:
    pair = pairs[name]
    control = {"<bos>": 2, "<eos>": 1, "<pad>": 0}

    @settings(examples, max_examples=100)
    @given(_strings(0), st.lists(st.sampled_from(sorted(control)), min_size=STRINGS, max_size=STRINGS))
    def equal(texts: list[str], tokens: list[str]) -> None:
        plain = [text.replace("<", "(") for text in texts]  # no control tokens of their own
        expected: list[int] = []
        for text, token in zip(plain, tokens, strict=True):
            expected += [*pair.reference.encode(text), control[token]]
        joined = "".join(text + token for text, token in zip(plain, tokens, strict=True))
        assert pair.core.encode(joined.encode()) == expected

    equal()


@pytest.mark.parametrize("added", [[], SYMBOLS], ids=["no added tokens", "added tokens"])
def test_ids_and_text_equal_tokenizers(tmp_path: Path, added: list[str]) -> None:
    reference: Tokenizer = vocabularies.train_merges(5, size=1500, added=added)
    core = _core.Tokenizer(vocabularies.write_merges_gguf(tmp_path / "merges.gguf", reference))
    seen = 0

    @examples
    @given(_strings(5))
    def equal(strings: list[str]) -> None:
        nonlocal seen
        for text in strings:
            seen += 1
            # The library knows no text that only looks like a special token: it is always one.
            ids = core.encode(text.encode(), special=True)
            assert ids == reference.encode(text, add_special_tokens=False).ids
            assert core.decode(ids).decode() == reference.decode(ids, skip_special_tokens=True)
            assert core.decode(ids, special=True).decode() == reference.decode(ids, skip_special_tokens=False)

    equal()
    assert seen >= EXAMPLES * STRINGS


@pytest.mark.parametrize("unit", ["a", " ", "\n", "ab", "日", "😀", "<b", "<bos>"])
def test_long_repeats_equal_sentencepiece(pairs: dict[str, Pair], unit: str) -> None:
    text = unit * (200_000 // len(unit.encode()))
    for name in ("plain", "unused"):
        assert pairs[name].core.encode(text.encode(), special=False) == pairs[name].reference.encode(text)


def test_plain_text_never_gives_control_tokens(pairs: dict[str, Pair]) -> None:
    core = pairs["plain"].core
    text = "".join(core.piece(i).decode() for i in range(4))
    kinds = {core.kind(i) for i in core.encode(text.encode(), special=False)}
    assert not kinds & {"control", "unknown"}
    assert [core.kind(i) for i in core.encode(b"<bos><eos>")] == ["control", "control"]


def test_surrogates_are_malformed_text(pairs: dict[str, Pair]) -> None:
    core = pairs["plain"].core
    assert core.encode(b"a\xed\xa0\x80b") == core.encode("a\ufffd\ufffd\ufffdb".encode())


def test_the_rest_of_the_interface(pairs: dict[str, Pair]) -> None:
    core = pairs["llama.cpp"].core
    pieces = [core.piece(i) for i in range(core.vocabulary)]
    assert pieces[:4] == [b"<pad>", b"<eos>", b"<bos>", b"<unk>"]
    assert core.find(b"<bos>") == core.bos == 2
    assert core.find(b"  ") == core.find((SPACE * 2).encode()) == pieces.index(b"  ")
    assert core.find(b"no such piece") is None
    assert core.is_end(1)
    assert core.is_end(pieces.index(b"<end_of_turn>"))
    assert not core.is_end(pieces.index(b"<start_of_turn>"))
    assert core.encode(b"a", bos=True)[0] == 2
    with pytest.raises(ValueError, match="outside the vocabulary"):
        core.decode([core.vocabulary])
    with pytest.raises(TypeError):
        core.encode("a")  # type: ignore[arg-type]


def test_a_byte_piece_must_look_like_one(tmp_path: Path) -> None:
    pieces = [Piece("<pad>", 0, CONTROL), Piece("x", 0, vocabularies.BYTE)]
    path = vocabularies.write_scores_gguf(tmp_path / "bad.gguf", pieces, space_prefix=False)
    with pytest.raises(ValueError, match=r"tokenizer\.ggml\.token_type"):
        _core.Tokenizer(path)
