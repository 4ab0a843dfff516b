"""Vocabularies for the tokenizer tests: trained on a seeded corpus of many scripts and written as GGUF.

A SentencePiece model file is a protocol buffer (sentencepiece_model.proto); the few lines that read and rewrite its
pieces here spare the tests the protobuf package, and let them make vocabularies that the trainer would not.
"""

from __future__ import annotations

import dataclasses
import io
import random
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

import gguf
import sentencepiece
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
SPACE = "\u2581"
SPECIALS = ["<pad>", "<eos>", "<bos>", "<unk>"]
TURNS = ["<start_of_turn>", "<end_of_turn>"]
SCRIPTS = [
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "àâçéèêëîïôûùüÿæœñáíóúäößåø",
    "абвгдежзийклмнопрстуфхцчшщъыьэюя",
    "αβγδεζηθικλμνξοπρστυφχψω",
    "אבגדהוזחטיכלמנסעפצקרשת",
    "ابتثجحخدذرزسشصضطظعغفقكلمنهوي",
    "अआइईउऊकखगघचछजझटठडढणतथदधनपफबभमयरलवशषसह",
    "日本語漢字学校東京大阪山川水火木金土",
    "あいうえおかきくけこさしすせそ",
    "가나다라마바사아자차카타파하",
    "😀😃🎉👍🚀🌍",
]


def corpus(seed: int, lines: int = 500) -> list[str]:
    """Lines of made-up words, each from one script, with numbers, punctuation, runs of spaces and code between them."""
    rng = random.Random(seed)
    words = []
    for script in SCRIPTS:
        syllables = ["".join(rng.choices(script, k=rng.randint(1, 3))) for _ in range(12)]
        words += ["".join(rng.choices(syllables, k=rng.randint(1, 4))) for _ in range(30)]
    extras = ["  ", "    ", "x = 1;", "12", "345", "...", "<b>", "</b>", "(", ")", ", ", "e\u0301", "\t"]
    return [
        " ".join(rng.choice(words) if rng.random() < 0.8 else rng.choice(extras) for _ in range(rng.randint(3, 15)))
        for _ in range(lines)
    ]


@dataclasses.dataclass
class Piece:
    """One piece of a SentencePiece model; `kind` is its type, numbered as in GGUF too."""

    text: str
    score: float
    kind: int


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _fields(data: bytes) -> Iterable[tuple[int, bytes, bytes]]:
    """The fields of a message: number, payload, and the whole field as it stands."""
    at = 0

    def read_varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        start = at
        tag = read_varint()
        if tag & 7 == 0:
            payload = _varint(read_varint())
        else:
            size = {1: 8, 5: 4}[tag & 7] if tag & 7 != 2 else read_varint()
            payload = data[at : at + size]
            at += size
        yield tag >> 3, payload, data[start:at]


def read_pieces(model: bytes) -> list[Piece]:
    pieces = []
    for number, payload, _ in _fields(model):
        if number == 1:
            piece = Piece("", 0.0, NORMAL)
            for field, value, _ in _fields(payload):
                if field == 1:
                    piece.text = value.decode()
                elif field == 2:
                    piece.score = struct.unpack("<f", value)[0]
                elif field == 3:
                    piece.kind = value[0]
            pieces.append(piece)
    return pieces


def replace_pieces(model: bytes, pieces: Iterable[Piece]) -> bytes:
    fields = []
    for piece in pieces:
        text = piece.text.encode()
        body = b"\x0a" + _varint(len(text)) + text + b"\x15" + struct.pack("<f", piece.score)
        body += b"\x18" + _varint(piece.kind)
        fields.append(b"\x0a" + _varint(len(body)) + body)
    return b"".join(fields) + b"".join(whole for number, _, whole in _fields(model) if number != 1)


def train_sentencepiece(seed: int, *, size: int, dummy_prefix: bool = False, symbols: Sequence[str] = ()) -> bytes:
    """A BPE model with Gemma's flags."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus(seed)),
        model_writer=model,
        model_type="bpe",
        vocab_size=size,
        hard_vocab_limit=False,
        byte_fallback=True,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        add_dummy_prefix=dummy_prefix,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        character_coverage=0.98,
        user_defined_symbols=[*TURNS, *symbols],
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        pad_piece="<pad>",
        eos_piece="<eos>",
        bos_piece="<bos>",
        minloglevel=2,
    )
    return model.getvalue()


def write_scores_gguf(path: Path, pieces: Sequence[Piece], *, space_prefix: bool | None) -> Path:
    """The vocabulary as llama.cpp's conversion writes a SentencePiece model; space_prefix None leaves the key out."""
    writer = gguf.GGUFWriter(path, "gemma3n")
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([piece.text for piece in pieces])
    writer.add_token_scores([piece.score for piece in pieces])
    writer.add_token_types([piece.kind for piece in pieces])
    writer.add_pad_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_bos_token_id(2)
    writer.add_unk_token_id(3)
    if space_prefix is not None:
        writer.add_add_space_prefix(space_prefix)
    _close(writer)
    return path


def train_merges(seed: int, *, size: int, added: Sequence[str] = ()) -> Tokenizer:
    """A BPE tokenizer in the shape of Gemma's tokenizer.json; `added` tokens are not special, `SPECIALS` are."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", SPACE)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    tokens = [*SPECIALS, *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=tokens, limit_alphabet=200, max_token_length=12, show_progress=False
    )
    # Whole lines merge, as in Gemma: there is no pre-tokenizer that splits them once spaces are replaced.
    tokenizer.train_from_iterator(corpus(seed), trainer)
    reloaded = Tokenizer.from_str(_without_added_tokens(tokenizer))
    reloaded.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in [*SPECIALS, *TURNS]])
    reloaded.add_tokens([AddedToken(text, normalized=False) for text in added])
    return reloaded


def _without_added_tokens(tokenizer: Tokenizer) -> str:
    """The training's special tokens include the byte tokens, which must not match in text."""
    import json

    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = []
    return json.dumps(state)


def write_merges_gguf(path: Path, tokenizer: Tokenizer) -> Path:
    """The vocabulary as llama.cpp's conversion writes the tokenizer.json of newer Gemma models."""
    import json

    state = json.loads(tokenizer.to_str())
    added = {token["content"]: token["special"] for token in state["added_tokens"]}
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])

    def kind(text: str) -> int:
        if text in added:
            return CONTROL if added[text] else USER_DEFINED
        return BYTE if len(text) == 6 and text.startswith("<0x") else NORMAL

    writer = gguf.GGUFWriter(path, "gemma3n")
    writer.add_tokenizer_model("gemma4")
    writer.add_token_list([text for text, _ in vocabulary])
    writer.add_token_scores([-1000.0] * len(vocabulary))
    writer.add_token_types([kind(text) for text, _ in vocabulary])
    writer.add_token_merges([" ".join(pair) for pair in state["model"]["merges"]])
    writer.add_eos_token_id(1)
    writer.add_bos_token_id(2)
    writer.add_unk_token_id(3)
    writer.add_add_space_prefix(False)
    _close(writer)
    return path


def _close(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
