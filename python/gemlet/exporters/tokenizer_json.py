"""tokenizer.json: a GGUF vocabulary as the `tokenizers` library reads it.

The file has the form of Gemma's published one: BPE with byte tokens for characters that have no piece, spaces that
become U+2581, and control and user-defined pieces as added tokens. A vocabulary with scores has no list of merges; they
are derived as transformers does it (convert_slow_tokenizer.generate_merges): every way to cut a piece into two others
is a merge, and they are ranked by the score of the piece that they make.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gemlet import _core
from gemlet.errors import FormatError

_SPACE: Final = "\u2581"
_TEXT: Final = ("normal", "user_defined", "unused")


@dataclass(frozen=True)
class VocabularyFile:
    """The tokenizer of a GGUF file: pieces with spaces as U+2581, their kinds as the core takes them, and the ids that
    the file names."""

    pieces: Sequence[str]
    kinds: Sequence[str]
    scores: Sequence[float] | None
    """None if pairs merge by `merges`."""
    merges: Sequence[str]
    space_prefix: bool
    add_bos: bool
    bos: int
    eos: int | None
    pad: int | None
    unknown: int | None
    ends: Sequence[int]
    """The end tokens: end of sequence, end of turn."""

    @classmethod
    def read(cls, path: Path, tokens: int) -> VocabularyFile:
        """The first `tokens` tokens of a file; a model may have fewer rows than its vocabulary has pieces."""
        found = _core.read_vocabulary(path)
        if found["bos"] >= tokens:
            raise FormatError(f"{path}: the begin-of-sequence token is {found['bos']}, the model has {tokens} tokens")
        return cls(
            # A piece that is no text in UTF-8 cannot stand in JSON, and no text becomes it.
            pieces=[_decoded(piece) for piece in found["pieces"][:tokens]],
            kinds=found["kinds"][:tokens],
            scores=found["scores"],
            merges=[_decoded(merge, space=" ") for merge in found["merges"]],
            space_prefix=found["space_prefix"],
            add_bos=found["add_bos"],
            bos=found["bos"],
            ends=[token for token in found["ends"] if token < tokens],
            eos=_inside(found["eos"], tokens),
            pad=_inside(found["pad"], tokens),
            unknown=_inside(found["unknown"], tokens),
        )


def _inside(token: int | None, tokens: int) -> int | None:
    return token if token is not None and token < tokens else None


def _decoded(piece: bytes, space: str = _SPACE) -> str:
    return piece.decode(errors="surrogateescape").replace(" ", space)


def tokenizer_json(vocabulary: VocabularyFile) -> dict[str, Any] | None:
    """The contents of tokenizer.json; None for a vocabulary that puts a space before every text, which no model of the
    family does and the format cannot say where added tokens meet it."""
    if vocabulary.space_prefix:
        return None
    ids = _ids(vocabulary)
    unknown = vocabulary.unknown
    added = [i for i in ids.values() if vocabulary.kinds[i] in ("control", "user_defined")]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added_token(vocabulary, i) for i in sorted(added)],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE},
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"String": " "},
            "behavior": "MergedWithPrevious",
            "invert": False,
        },
        "post_processor": _begin_with(vocabulary) if vocabulary.add_bos else None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None if unknown is None else vocabulary.pieces[unknown],
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": "byte" in vocabulary.kinds,
            "ignore_merges": False,
            "vocab": ids,
            "merges": list(_merges(vocabulary, ids)),
        },
    }


def write_json(path: Path, contents: dict[str, Any]) -> None:
    """As the ecosystem's own files are written: text in UTF-8, indented."""
    path.write_text(json.dumps(contents, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _ids(vocabulary: VocabularyFile) -> dict[str, int]:
    """The id of each piece; of equal pieces the one that a text becomes. Pieces that no text may become are left out:
    single characters that the file marks as unused."""
    rank = {"user_defined": 0, "control": 0, "normal": 1, "unused": 2, "byte": 3, "unknown": 3}
    order = sorted(range(len(vocabulary.pieces)), key=lambda i: (rank[vocabulary.kinds[i]], i))
    ids: dict[str, int] = {}
    for i in order:
        piece, kind = vocabulary.pieces[i], vocabulary.kinds[i]
        if not piece or not _is_utf8(piece):
            continue
        if kind == "unused" and len(piece) == 1 and vocabulary.scores is not None:
            continue
        ids.setdefault(piece, i)
    return dict(sorted(ids.items(), key=lambda item: item[1]))


def _is_utf8(piece: str) -> bool:
    return not any("\udc80" <= character <= "\udcff" for character in piece)


def _added_token(vocabulary: VocabularyFile, token: int) -> dict[str, Any]:
    piece = vocabulary.pieces[token]
    return {
        "id": token,
        "content": piece,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": _SPACE in piece,  # found once spaces are U+2581; the others in the text as it is
        "special": vocabulary.kinds[token] == "control",
    }


def _begin_with(vocabulary: VocabularyFile) -> dict[str, Any]:
    """Every prompt gets the begin-of-sequence token."""
    piece = vocabulary.pieces[vocabulary.bos]
    begin = {"SpecialToken": {"id": piece, "type_id": 0}}
    first, second = {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}
    return {
        "type": "TemplateProcessing",
        "single": [begin, first],
        "pair": [begin, first, {"SpecialToken": {"id": piece, "type_id": 1}}, second],
        "special_tokens": {piece: {"id": piece, "ids": [vocabulary.bos], "tokens": [piece]}},
    }


def _merges(vocabulary: VocabularyFile, ids: dict[str, int]) -> Iterator[list[str]]:
    """Pairs of pieces, the first to merge first."""
    if vocabulary.scores is None:
        for merge in vocabulary.merges:
            left, right = merge.split(" ")
            parts = (left, right, left + right)
            if all(part in ids and vocabulary.kinds[ids[part]] in _TEXT for part in parts):
                yield [left, right]
        return
    scores = vocabulary.scores
    # User-defined pieces stand for themselves, and unused ones never stay: neither is made by merging.
    plain = {piece: i for piece, i in ids.items() if vocabulary.kinds[i] == "normal"}
    found = [
        (-scores[i], -at, at - len(piece), piece[:at], piece[at:])
        for piece, i in plain.items()
        for at in range(1, len(piece))
        if piece[:at] in plain and piece[at:] in plain
    ]
    found.sort(key=lambda merge: merge[:3])
    for *_, left, right in found:
        yield [left, right]
