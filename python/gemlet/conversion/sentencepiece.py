"""tokenizer.model: SentencePiece's `ModelProto`, as far as a vocabulary needs it, read and written without protobuf.

Field numbers are those of sentencepiece_model.proto (github.com/google/sentencepiece/blob/master/src).
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

_SPECIAL = {45: "unk_piece", 46: "bos_piece", 47: "eos_piece", 48: "pad_piece"}  # fields of TrainerSpec

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class PieceKind(enum.IntEnum):
    """`SentencePiece.Type`; GGUF's token types (`tokenizer.ggml.token_type`) have the same values."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class ModelKind(enum.IntEnum):
    """`TrainerSpec.ModelType`."""

    UNIGRAM = 1
    BPE = 2
    WORD = 3
    CHAR = 4


@dataclass(frozen=True)
class Piece:
    text: str
    score: float = 0.0
    kind: PieceKind = PieceKind.NORMAL


@dataclass
class SentencePieceModel:
    """The defaults are the proto's own."""

    pieces: list[Piece] = field(default_factory=list)
    kind: ModelKind = ModelKind.UNIGRAM
    byte_fallback: bool = False
    unk_piece: str = "<unk>"
    bos_piece: str = "<s>"
    eos_piece: str = "</s>"
    pad_piece: str = "<pad>"
    normalizer: str = ""
    charsmap: bytes = b""
    add_dummy_prefix: bool = True
    remove_extra_whitespaces: bool = True
    escape_whitespaces: bool = True

    @classmethod
    def parse(cls, data: bytes) -> SentencePieceModel:
        """Raises ValueError for bytes that are no ModelProto."""
        model = cls()
        for number, value in _fields(data):
            if number == 1:
                model.pieces.append(_piece(_blob(value)))
            elif number == 2:
                model._read_trainer(_blob(value))
            elif number == 3:
                model._read_normalizer(_blob(value))
        return model

    def _read_trainer(self, data: bytes) -> None:
        for number, value in _fields(data):
            if number == 3:
                self.kind = ModelKind(int(value))
            elif number == 35:
                self.byte_fallback = bool(value)
            elif number in _SPECIAL:
                setattr(self, _SPECIAL[number], _blob(value).decode("utf-8"))

    def _read_normalizer(self, data: bytes) -> None:
        for number, value in _fields(data):
            if number == 1:
                self.normalizer = _blob(value).decode("utf-8")
            elif number == 2:
                self.charsmap = _blob(value)
            elif number == 3:
                self.add_dummy_prefix = bool(value)
            elif number == 4:
                self.remove_extra_whitespaces = bool(value)
            elif number == 5:
                self.escape_whitespaces = bool(value)

    def serialize(self) -> bytes:
        """The ModelProto's bytes; `parse` gives the model back."""
        trainer = b"".join(
            [
                _put_varint(3, self.kind),
                _put_varint(4, len(self.pieces)),
                _put_varint(35, self.byte_fallback),
                *(_put_blob(number, getattr(self, name).encode()) for number, name in _SPECIAL.items()),
            ]
        )
        normalizer = b"".join(
            [
                _put_blob(1, self.normalizer.encode()),
                _put_blob(2, self.charsmap),
                _put_varint(3, self.add_dummy_prefix),
                _put_varint(4, self.remove_extra_whitespaces),
                _put_varint(5, self.escape_whitespaces),
            ]
        )
        pieces = (
            _put_blob(1, piece.text.encode())
            + struct.pack("<Bf", 2 << 3 | _FIXED32, piece.score)
            + _put_varint(3, piece.kind)
            for piece in self.pieces
        )
        return b"".join([*(_put_blob(1, piece) for piece in pieces), _put_blob(2, trainer), _put_blob(3, normalizer)])


def _piece(data: bytes) -> Piece:
    text, score, kind = "", 0.0, PieceKind.NORMAL
    for number, value in _fields(data):
        if number == 1:
            text = _blob(value).decode("utf-8")
        elif number == 2:
            score = struct.unpack("<f", _blob(value))[0]
        elif number == 3:
            kind = PieceKind(int(value))
    return Piece(text, score, kind)


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of one message: varints as int, everything else as its bytes."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        wire = tag & 7
        if wire == _VARINT:
            value, at = _varint(data, at)
            yield tag >> 3, value
            continue
        if wire == _BYTES:
            length, at = _varint(data, at)
        elif wire in (_FIXED32, _FIXED64):
            length = 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {wire} at byte {at}")
        if length > len(data) - at:
            raise ValueError(f"{length} bytes wanted at byte {at} of {len(data)}")
        yield tag >> 3, data[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError(f"malformed number at byte {at}")
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


def _blob(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number where bytes belong")
    return value


def _put_varint(number: int, value: int) -> bytes:
    return bytes([*_pack(number << 3 | _VARINT), *_pack(value & (1 << 64) - 1)])


def _put_blob(number: int, value: bytes) -> bytes:
    return bytes([*_pack(number << 3 | _BYTES), *_pack(len(value))]) + value


def _pack(value: int) -> Iterator[int]:
    while value > 127:
        yield value & 127 | 128
        value >>= 7
    yield value
