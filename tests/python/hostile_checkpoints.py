"""Checkpoints in every layout, and what somebody may have done to them: seeded mutations of each of their files."""

from __future__ import annotations

import copy
import json
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gemlet.conversion.sentencepiece import Piece, PieceKind, SentencePieceModel

from tiny import CHAT_TEMPLATE, Tiny, tiny_pieces, write_checkpoint
from tiny_gemma3 import TinyGemma3, write_gemma3_checkpoint

Files = dict[str, bytes]

_SMALL = Tiny(layers="sFsF", sparsity=(0.9, 0.5, 0.0, 0.0), hidden=16, heads=2, head_dim=6, ffn=(20,), laurel=3, ple=3)
_SMALL_GEMMA3 = TinyGemma3(layers="sssssF", hidden=16, heads=2, head_dim=6, ffn=20)

_NUMBERS: list[Any] = [
    *(-400, -1, 0, 1, 2, 3, 6, 7, 9, 62, 255, 256, 298, 300, 4096, 131072),
    *(1 << 16, 1 << 20, 1 << 24, (1 << 31) - 1, 1 << 31, 1 << 32, 1 << 63, 1 << 64, 10**400, -(10**400)),
    *(0.5, 1e-8, 1e-45, 1e-320, 0.9999999999, 1.5, 3.4e38, 1e39, 1e308, -0.0, -1e-3),
    *(float("inf"), float("-inf"), float("nan")),
]
_TEXTS: list[Any] = [
    *(
        "",
        "x",
        " ",
        "\u2581",
        "\0",
        "\ud800",
        "a\udfffb",
        "\udc00\ud800",
        "\x1b[2J",
        "..",
        "../x",
        "/dev/zero",
        "é" * 300,
    ),
    *("x" * 70000, "full_attention", "sliding_attention", "<bos>", "<eos>", "<unk>", "<0x41>", "<start_of_turn>", "🙂"),
    *("gemma3", "gemma3_text", "gemma3n_text", "Gemma3ForCausalLM", "linear", "yarn", "F16", "F8_E4M3", "model"),
    *("{% for", "{{ 1/0 }}", "{% set x = x %}", "model.safetensors", "config.json", "int8"),
]
_OTHERS: list[Any] = [
    *(None, True, False, [], {}, [[]], [None], [1, "x"], [2**70], {"a": {"b": []}}, [1, 5, 106], [0] * 300),
    *([["a", "b"]] * 3, {"content": "<x>", "special": True}, {"id": 3, "content": ""}, {"rope_type": "linear"}),
    *({"type": "linear", "factor": 0}, {"factor": 10**400, "rope_type": "linear"}),
]
_KEYS = [
    *(
        "",
        "x",
        "\ud800",
        "-1",
        "299",
        "100000",
        "99999999999999999999",
        "²",
        "٣",
        "__metadata__",
        "id",
        "factor",
        "content",
    ),
    *("quantization_config", "text_config", "rope_scaling", "added_tokens", "eos_token_id", "final_logit_softcapping"),
    *("sliding_window_pattern", "chat_template", "add_bos_token", "unk_token", "eot_token", "bos_token"),
]


def _tokenizer_json() -> bytes:
    """BPE by merges, of the same 299 tokens."""
    pieces = [piece.text for piece in tiny_pieces()]
    words = [text for text in pieces[264:276] if len(text) == 2]
    described = {
        "added_tokens": [
            {"id": i, "content": pieces[i], "special": i < 6} for i in range(8) if pieces[i] != "\u2581\u2581"
        ],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "byte_fallback": True,
            "vocab": {text: i for i, text in enumerate(pieces)},
            "merges": [list(word) for word in words],
        },
    }
    return json.dumps(described, ensure_ascii=False).encode()


def layouts(folder: Path) -> dict[str, Files]:
    """The files of a good checkpoint in each layout, by the layout's name."""
    made: dict[str, Path] = {}
    for name, prefix, shards in (
        ("gemma3n text", "model.", 1),
        ("gemma3n multimodal in shards", "model.language_model.", 2),
    ):
        made[name] = write_checkpoint(folder / name, _SMALL, prefix=prefix, shards=shards, dtype="BF16")
    for name, prefix, config in (
        ("gemma3 text", "model.", None),
        ("gemma3 older fields", "model.", _SMALL_GEMMA3.older_config()),
        ("gemma3 multimodal", "model.language_model.", None),
        ("gemma3 older multimodal", "language_model.model.", _SMALL_GEMMA3.older_config()),
    ):
        made[name] = write_gemma3_checkpoint(folder / name, _SMALL_GEMMA3, prefix=prefix, config=config, dtype="F16")
    found = {name: {path.name: path.read_bytes() for path in sorted(at.iterdir())} for name, at in made.items()}
    for files in found.values():
        files["generation_config.json"] = b'{"eos_token_id": [1, 5], "bos_token_id": 2}'
    merges = dict(found["gemma3 text"])
    del merges["tokenizer.model"]
    merges["tokenizer.json"] = _tokenizer_json()
    merges["chat_template.json"] = json.dumps({"chat_template": CHAT_TEMPLATE}).encode()
    found["gemma3 with merges"] = merges
    older = dict(found["gemma3n text"])
    older["added_tokens.json"] = b'{"<mine>": 295, "<yours>": 296}'
    older["chat_template.jinja"] = CHAT_TEMPLATE.encode()
    found["gemma3n with added tokens"] = older
    return found


@dataclass(frozen=True)
class Mutant:
    """A checkpoint that somebody has changed: its files, and what was done to the good one."""

    layout: str
    files: Files
    changes: list[str]

    def write(self, folder: Path) -> None:
        """Write the files into an empty folder."""
        for name, data in self.files.items():
            (folder / name).write_bytes(data)


def mutant(good: dict[str, Files], rng: random.Random) -> Mutant:
    """One checkpoint with a few changes, mostly one."""
    layout = rng.choice(sorted(good))
    files = dict(good[layout])
    changes: list[str] = []
    for _ in range(rng.choice((1, 1, 1, 1, 2, 3))):
        name = rng.choice([*files, *["config.json"] * 5, *["tokenizer_config.json"] * 2])
        if name not in files:
            continue
        changes.append(f"{name}: {_change(files, name, rng)}")
    return Mutant(layout, files, changes)


def _change(files: Files, name: str, rng: random.Random) -> str:
    """Change one file, and say how."""
    data = files[name]
    if rng.random() < 0.06:
        return _replace_file(files, name, rng)
    if rng.random() < 0.15:
        files[name], how = _change_bytes(data, rng)
    elif name.endswith(".json"):
        files[name], how = _change_json(data, rng)
    elif name.endswith(".safetensors"):
        files[name], how = _change_safetensors(data, rng)
    elif name.endswith(".model"):
        files[name], how = _change_pieces(data, rng)
    else:
        files[name], how = _change_bytes(data, rng)
    return how


def _replace_file(files: Files, name: str, rng: random.Random) -> str:
    kind = rng.randrange(4)
    if kind == 0:
        del files[name]
        return "removed"
    if kind == 1:
        other = rng.choice(sorted(files))
        files[name] = files[other]
        return f"is {other}"
    if kind == 2:
        other = rng.choice(("model.safetensors", "tokenizer.json", "added_tokens.json", "chat_template.jinja"))
        files[other] = files[name]
        return f"is also {other}"
    files[name] = rng.choice(
        (b"", b"\0" * 64, b"[" * 100_000, b"version https://git-lfs.github.com/spec/v1\n", b"\xff\xfe")
    )
    return f"is {files[name][:20]!r}"


def _change_bytes(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    at = rng.randrange(min(len(data), 4000) + 1)
    match rng.randrange(4):
        case 0:
            return data[:at], f"ends at byte {at}"
        case 1 if data:
            at = min(at, len(data) - 1)
            flipped = data[at] ^ 1 << rng.randrange(8)
            return data[:at] + bytes([flipped]) + data[at + 1 :], f"byte {at} is {flipped}"
        case 2:
            more = rng.choice((b"\xff", b"\0" * 8, b'"', b"{", b"[" * 2000, b"9" * 5000, b"\x80\x80\x80\x80\x80"))
            return data[:at] + more + data[at:], f"byte {at} is preceded by {more[:12]!r}"
        case _:
            end = at + rng.randrange(16)
            return data[:at] + data[end:], f"bytes {at} to {end} removed"


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every entry of the objects and lists in a value: what holds it, and where in that."""
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from places(value[key])


def _odd(old: Any, rng: random.Random) -> Any:
    """Another value: one near the old one, or one of another world."""
    if rng.random() < 0.3:
        if isinstance(old, bool):
            return not old
        if isinstance(old, int | float):
            return rng.choice((old + 1, old - 1, old * 2, -old, old / 2, float(old), str(old), [old], old * 10**6))
        if isinstance(old, str):
            return rng.choice(
                (old * 2, old[:-1], old.upper(), [old], f" {old}", old.encode("utf-8", "surrogatepass").hex())
            )
        if isinstance(old, list) and old:
            return rng.choice((old[:-1], [*old, old[0]], old[::-1], old * 50, [old], [old[0]] * len(old)))
    return copy.deepcopy(rng.choice(rng.choice((_NUMBERS, _NUMBERS, _TEXTS, _OTHERS))))


def _change_value(value: Any, rng: random.Random) -> str:
    """Change one entry somewhere in a JSON value, and say how."""
    # The shallow ones more often: a vocabulary has hundreds.
    around = list(places(value))
    shallow = [(holder, key) for holder, key in around if holder is value]
    if not around:
        return "nothing"
    holder, key = rng.choice(rng.choice((around, shallow)))
    match rng.randrange(7):
        case 0:
            del holder[key]
            return f"{key!r:.40} removed"
        case 1:
            other, at = rng.choice(around)
            if other is not holder or at != key:
                holder[key] = copy.deepcopy(other[at])
            return f"{key!r:.40} is {at!r:.40}"
        case 2 if isinstance(holder, dict):
            new = rng.choice(_KEYS)
            holder[new] = holder.pop(key)
            return f"{key!r:.40} is called {new!r:.40}"
        case 3 if isinstance(holder, dict):
            new = rng.choice(_KEYS)
            holder[new] = _odd(None, rng)
            return f"{new!r:.40} is {holder[new]!r:.40}"
        case _:
            holder[key] = _odd(holder[key], rng)
            try:
                return f"{key!r:.40} is {holder[key]!r:.40}"
            except ValueError:
                return f"{key!r:.40} is a very long number"


def _dump(value: Any, rng: random.Random) -> bytes:
    """As JSON; with halves of characters as escapes, or as the bytes that they would be."""
    text = _json(value, rng.random() < 0.8)
    return text.encode("utf-8", "surrogatepass")


def _json(value: Any, ascii_only: bool) -> str:
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        return json.dumps(value, ensure_ascii=ascii_only)
    finally:
        sys.set_int_max_str_digits(limit)


def _change_json(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return _change_bytes(data, rng)
    if rng.random() < 0.1:
        return _change_json_text(data, rng)
    how = _change_value(value, rng)
    return _dump(value, rng), how


def _change_json_text(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """What JSON allows or forbids, but no value of Python holds."""
    text = data.decode(errors="replace")
    key = rng.choice(("eos_token_id", "vocab_size", "model_type", "hidden_size", "added_tokens", "model", "x"))
    extra = rng.choice(
        (
            f'{{"{key}": 1, "{key}": [], ',
            f'{{"{key}": {"[" * 3000}{"]" * 3000}, ',
            f'{{"{key}": 1e400, ',
            f'{{"{key}": -0, "{key}": NaN, ',
            f'{{"{key}": {"9" * 4000}, ',
            f'{{"{key}": 1E{"9" * 50}, ',
            f'{{"{key}": "\\ud800", ',
            '{"\\u0000": 0, ',
            "\ufeff{",
            "{,",
        )
    )
    at = rng.choice([i for i, character in enumerate(text) if character == "{"] or [0])
    return (text[:at] + extra + text[at + 1 :]).encode(), f"at {at}: {extra[:40]}"


def _change_safetensors(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    length = int.from_bytes(data[:8], "little")
    if length > len(data) - 8:
        return _change_bytes(data, rng)
    header, rest = data[8 : 8 + length], data[8 + length :]
    match rng.randrange(8):
        case 0:
            claimed = rng.choice((0, 1, length - 1, length + 1, len(data), 1 << 31, (1 << 64) - 1, 100_000_001))
            return claimed.to_bytes(8, "little") + data[8:], f"a header of {claimed} bytes"
        case 1:
            kept = rng.randrange(len(rest) + 1)
            return data[: 8 + length + kept], f"{kept} bytes of weights"
        case 2:
            at, value = (
                rng.randrange(max(1, len(rest) - 2)),
                rng.choice((b"\x80\x7f", b"\x00\x7c", b"\xff\xff", b"\0\0")),
            )
            return data[: 8 + length] + rest[:at] + value + rest[at + 2 :], f"weight byte {at} is {value!r}"
        case _:
            new, how = _change_json(header, rng)
            return len(new).to_bytes(8, "little") + new + rest, how


def _change_pieces(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    try:
        model = SentencePieceModel.parse(data)
    except ValueError:
        return _change_bytes(data, rng)
    changes: list[Callable[[], Any]] = [
        lambda: model.pieces.pop(rng.randrange(len(model.pieces))),
        lambda: model.pieces.insert(rng.randrange(len(model.pieces)), rng.choice(model.pieces)),
        lambda: model.pieces.extend([Piece("x", 0.0, rng.choice(list(PieceKind)))] * rng.choice((1, 10, 50, 5000))),
        lambda: rng.shuffle(model.pieces),
        lambda: model.pieces.clear(),
        lambda: setattr(model, "byte_fallback", False),
        lambda: setattr(model, "add_dummy_prefix", True),
        lambda: setattr(
            model, rng.choice(("unk_piece", "bos_piece", "eos_piece", "pad_piece")), rng.choice(("", "in", "?"))
        ),
    ]
    if not model.pieces or rng.random() < 0.5:
        which = rng.randrange(len(changes)) if model.pieces else 5
        changes[which]()
        return model.serialize(), f"change {which} of the pieces"
    at = rng.randrange(len(model.pieces))
    old = model.pieces[at]
    text = rng.choice(
        (old.text, "", " ", "\u2581" * 3, "<0x41>", "<0xZZ>", "<bos>", "in", "x" * 70000, "\0", "\x1b[2J")
    )
    score = rng.choice((old.score, 0.0, -1e38, 3e38, 1e-45))
    model.pieces[at] = Piece(text, score, rng.choice((old.kind, *PieceKind)))
    return model.serialize(), f"piece {at} is {text!r:.20} {score} {model.pieces[at].kind.name}"
