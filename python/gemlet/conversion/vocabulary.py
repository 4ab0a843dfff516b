"""The tokenizer of a checkpoint, as GGUF's `tokenizer.ggml.*` keys hold it.

tokenizer.model (SentencePiece BPE by scores, GGUF's kind "llama") wins over tokenizer.json (BPE by merges, the kind
"gemma4"), as in llama.cpp's converter: both stand for the same segmentation in Gemma's checkpoints.
"""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .config import TextConfig
from .errors import ConvertError
from .reading import MOST_BYTES, read_json, read_whole
from .sentencepiece import ModelKind, Piece, PieceKind, SentencePieceModel

_log = logging.getLogger(__name__)

#: Gemma's markup, which is control whatever a checkpoint without tokenizer_config.json calls it: a piece of text that a
#: user types must not open a turn.
_TURNS = ("<start_of_turn>", "<end_of_turn>")
_PICTURES = ("<start_of_image>", "<image_soft_token>", "<end_of_image>")
_SOUND = ("<start_of_audio>", "<audio_soft_token>", "<end_of_audio>")
_GEMMA_CONTROL = frozenset(("<pad>", "<eos>", "<bos>", *_TURNS, *_PICTURES, *_SOUND))
_SPACE = "\u2581"
_END_OF_TURN = "<end_of_turn>"
#: What llama.cpp's converter gives tokens that SentencePiece has no score for.
_ADDED_SCORE = -1000.0


@dataclass
class Vocabulary:
    """One entry an id. `text` of a user-defined piece has spaces where SentencePiece has U+2581, since readers find
    such pieces in the raw text."""

    model: str
    pieces: list[Piece]
    merges: list[str] = field(default_factory=list)
    add_bos: bool = True
    add_space_prefix: bool = False
    bos: int | None = None
    eos: int | None = None
    eot: int | None = None
    ends: tuple[int, ...] = ()
    """All end tokens: `eos`, `eot`, and what else the checkpoint names."""
    unk: int | None = None
    pad: int | None = None
    chat_template: str | None = None

    def find(self, text: str) -> int | None:
        """The first token of this piece, a space and U+2581 being the same."""
        spaced = text.replace(_SPACE, " ")
        return next((i for i, piece in enumerate(self.pieces) if piece.text.replace(_SPACE, " ") == spaced), None)


def read_vocabulary(directory: Path, config: TextConfig) -> Vocabulary:
    """The tokenizer, with a piece for each row of the embedding. Raises ConvertError naming the file."""
    settings_path = directory / "tokenizer_config.json"
    settings = read_json(settings_path) if settings_path.is_file() else {}
    spm_path, json_path = directory / "tokenizer.model", directory / "tokenizer.json"
    described = read_json(json_path, MOST_BYTES) if json_path.is_file() else None
    if spm_path.is_file():
        vocabulary = _from_sentencepiece(spm_path)
    elif described is not None:
        vocabulary = _from_tokenizers(json_path, described)
    else:
        raise ConvertError(f"{directory}: neither tokenizer.model nor tokenizer.json is there")
    older_path = directory / "added_tokens.json"
    if older_path.is_file():
        older = [{"id": i, "content": text} for text, i in read_json(older_path).items()]
        _apply_added(vocabulary, older, config.vocab_size, older_path)
    if described is not None:
        listed = described.get("added_tokens", [])
        _apply_added(vocabulary, listed if isinstance(listed, list) else [], config.vocab_size, json_path)
    decoder = settings.get("added_tokens_decoder", {})
    if isinstance(decoder, dict):
        added = [{"id": int(key) if key.isdecimal() else None, **_object(entry)} for key, entry in decoder.items()]
        _apply_added(vocabulary, added, config.vocab_size, settings_path)

    while len(vocabulary.pieces) > config.vocab_size and _is_markup(vocabulary.pieces[-1]):
        _log.info("%s: the model has no row for %r, the last token", directory, vocabulary.pieces.pop().text)
    if len(vocabulary.pieces) > config.vocab_size:
        raise ConvertError(
            f"{directory}: the tokenizer has {len(vocabulary.pieces)} tokens, the model only {config.vocab_size} rows"
        )
    for i in range(len(vocabulary.pieces), config.vocab_size):
        vocabulary.pieces.append(Piece(f"[PAD{i}]", -10000.0, PieceKind.UNUSED))
    for i, piece in enumerate(vocabulary.pieces):
        if piece.text in _GEMMA_CONTROL:
            vocabulary.pieces[i] = Piece(piece.text, piece.score, PieceKind.CONTROL)
        elif piece.kind is PieceKind.USER_DEFINED:
            vocabulary.pieces[i] = Piece(piece.text.replace(_SPACE, " "), piece.score, piece.kind)
    _name_special(vocabulary, settings, config)
    vocabulary.chat_template = _chat_template(directory, settings)
    return vocabulary


def _is_markup(piece: Piece) -> bool:
    """Whether a piece is one that no text contains."""
    return piece.kind is PieceKind.CONTROL or piece.text in _GEMMA_CONTROL


def _from_sentencepiece(path: Path) -> Vocabulary:
    data = read_whole(path)
    try:
        model = SentencePieceModel.parse(data)
    except ValueError as error:
        raise ConvertError(f"{path}: not a SentencePiece model: {error}") from error
    if not model.pieces:
        raise ConvertError(f"{path}: holds no pieces")
    if model.kind is not ModelKind.BPE:
        raise ConvertError(f"{path}: is a {model.kind.name} model, gemlet reads BPE")
    if model.charsmap:
        raise ConvertError(f"{path}: normalises text by the rules {model.normalizer!r}, gemlet reads identity")
    if model.remove_extra_whitespaces or not model.escape_whitespaces:
        raise ConvertError(f"{path}: removes or does not escape white space, which gemlet does not")
    vocabulary = Vocabulary("llama", model.pieces, add_space_prefix=model.add_dummy_prefix)
    vocabulary.bos = vocabulary.find(model.bos_piece)
    vocabulary.eos = vocabulary.find(model.eos_piece)
    vocabulary.unk = vocabulary.find(model.unk_piece)
    vocabulary.pad = vocabulary.find(model.pad_piece)
    return vocabulary


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _from_tokenizers(path: Path, described: dict[str, Any]) -> Vocabulary:
    model = _object(described.get("model"))
    if model.get("type") != "BPE":
        raise ConvertError(f'{path}: model.type is {model.get("type")!r}, gemlet reads "BPE"')
    ids = model.get("vocab")
    if not isinstance(ids, dict) or sorted(v for v in ids.values() if type(v) is int) != list(range(len(ids))):
        raise ConvertError(f"{path}: model.vocab: expected an object that numbers its pieces from 0")
    _check_normalizer(path, described.get("normalizer"))
    unknown = model.get("unk_token")
    if not isinstance(unknown, str | None):
        raise ConvertError(f"{path}: model.unk_token: expected a piece, found {unknown!r:.80}")
    pieces = [Piece("")] * len(ids)
    for text, i in ids.items():
        is_byte = bool(model.get("byte_fallback")) and len(text) == 6 and text.startswith("<0x")
        kind = PieceKind.BYTE if is_byte else PieceKind.UNKNOWN if text == unknown else PieceKind.NORMAL
        pieces[i] = Piece(text, _ADDED_SCORE, kind)
    listed = model.get("merges")
    merges = (
        [entry.split(" ") if isinstance(entry, str) else entry for entry in listed] if isinstance(listed, list) else []
    )
    if not merges or not all(
        isinstance(m, list) and len(m) == 2 and all(isinstance(part, str) and part for part in m) for m in merges
    ):
        raise ConvertError(f"{path}: model.merges: expected a list of pairs of pieces")
    # GGUF joins a pair by a space. A part that holds one can never match, since spaces become U+2581 first.
    return Vocabulary(
        "gemma4",
        pieces,
        merges=[" ".join(pair) for pair in merges if not any(" " in part for part in pair)],
        unk=ids.get(unknown),
    )


def _check_normalizer(path: Path, normalizer: Any) -> None:
    """Gemma's only rule is that a space becomes U+2581."""
    rule = _object(normalizer)
    rules = rule.get("normalizers", []) if rule.get("type") == "Sequence" else [rule] if rule else []
    wanted = [{"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]
    if rules != wanted:
        raise ConvertError(f"{path}: normalizer: expected that a space becomes U+2581 and nothing else")


def _apply_added(vocabulary: Vocabulary, added: list[Any], limit: int, path: Path) -> None:
    """Tokens that the tokenizer's JSON files add or give another kind."""
    for entry in added:
        entry = _object(entry)
        i, text = entry.get("id"), entry.get("content")
        if type(i) is not int or i < 0 or not isinstance(text, str):
            raise ConvertError(f"{path}: malformed added token {entry!r:.80}")
        if i >= limit and (entry.get("special") is True or text in _GEMMA_CONTROL):
            # A text model comes with the tokenizer of its multimodal siblings, whose picture token it has no row for.
            _log.info("%s: the model has no row for %r, token %d", path, text, i)
            continue
        if i >= limit:
            raise ConvertError(f"{path}: added token {text!r} has id {i}, the model has {limit} rows")
        while len(vocabulary.pieces) <= i:
            vocabulary.pieces.append(Piece(f"[PAD{len(vocabulary.pieces)}]", -10000.0, PieceKind.UNUSED))
        old = vocabulary.pieces[i]
        kind = PieceKind.CONTROL if entry.get("special") else PieceKind.USER_DEFINED
        if old.kind is PieceKind.UNKNOWN:
            kind = old.kind
        vocabulary.pieces[i] = Piece(text, old.score if old.text == text else _ADDED_SCORE, kind)


def _name_special(vocabulary: Vocabulary, settings: dict[str, Any], config: TextConfig) -> None:
    """Which tokens begin, end and pad: what the tokenizer's settings name, then the model's configuration, then
    tokenizer.model itself."""

    def named(name: str, *ids: int | None) -> int | None:
        entry = settings.get(name)
        text = entry.get("content") if isinstance(entry, dict) else entry
        found = vocabulary.find(text) if isinstance(text, str) else None
        if found is not None and vocabulary.pieces[found].kind is PieceKind.USER_DEFINED:
            # transformers takes it for special, whatever the list of added tokens says.
            vocabulary.pieces[found] = dataclasses.replace(vocabulary.pieces[found], kind=PieceKind.CONTROL)
        candidates = [found, *ids]
        return next((i for i in candidates if i is not None and i < len(vocabulary.pieces)), None)

    vocabulary.bos = named("bos_token", config.bos_token_id, vocabulary.bos)
    vocabulary.eos = named("eos_token", *config.eos_token_ids, vocabulary.eos)
    vocabulary.pad = named("pad_token", config.pad_token_id, vocabulary.pad)
    vocabulary.unk = named("unk_token", vocabulary.unk)
    others = [i for i in config.eos_token_ids if i != vocabulary.eos]
    vocabulary.eot = named("eot_token", vocabulary.find(_END_OF_TURN), *others)
    if vocabulary.eot == vocabulary.eos:  # tuned checkpoints may name the end of turn as the end token
        vocabulary.eot = next(iter(others), None)
    ends = dict.fromkeys((vocabulary.eos, vocabulary.eot, *config.eos_token_ids))
    vocabulary.ends = tuple(i for i in ends if i is not None and i < len(vocabulary.pieces))
    vocabulary.add_bos = settings.get("add_bos_token", True) is not False


def _chat_template(directory: Path, settings: dict[str, Any]) -> str | None:
    jinja = directory / "chat_template.jinja"
    if jinja.is_file():
        data = read_whole(jinja)
        try:
            return data.decode("utf-8")
        except ValueError as error:
            raise ConvertError(f"{jinja}: not a text in UTF-8: {error}") from error
    template = settings.get("chat_template")
    alone = directory / "chat_template.json"
    if template is None and alone.is_file():
        template = read_json(alone).get("chat_template")
    if isinstance(template, list):  # several by name
        by_name = {_object(entry).get("name"): _object(entry).get("template") for entry in template}
        template = by_name.get("default")
    return template if isinstance(template, str) else None
