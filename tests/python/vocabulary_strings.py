"""20,000 strings over a real vocabulary, the same on every machine: what two tokenizers are compared on.

Only `random.Random.random` is used: Python promises its sequence for a seed, but not that of `choice` or `shuffle`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from gemlet import _core

T = TypeVar("T")

SEED = 270

EMOJI = ["😀", "👍🏽", "👩‍👩‍👧", "🏳️‍🌈", "🇭🇺", "1️⃣", "❤️", "🫠", "\u200d", "\ufe0f", "🏽", "\U0001faf0"]
CONTROLS = ["<bos>", "<eos>", "<pad>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>", "<unused7>", "<0x41>"]
MARKUP = [
    "[multimodal]",
    "<start_of_image>",
    "<end_of_image>",
    "<b>",
    "</b>",
    "<table>",
    "</td>",
    "<start_of",
    "<",
    ">",
]
PLANES = [(0x20, 0x7F), (0x80, 0x2000), (0x2000, 0x3000), (0x3000, 0xD800), (0xE000, 0x10000)]
PLANES += [(plane << 16, (plane + 1) << 16) for plane in range(1, 17)]
BROKEN = [b"\xff", b"\x80", b"\xe2\x96", b"\xf0\x9f\x98", b"\xed\xa0\x80", b"\xc0\x80", b"\xf5", b"\xf4\x90\x80\x80"]
STRIKE = "</s>"

BYTES = "it takes bytes that are no character for byte tokens or parts of one, sentencepiece puts U+FFFD for them"
SYMBOL = "it looks for runs of spaces in the text as it is, sentencepiece after spaces have become U+2581"
CONTROL = "it makes the HTML tag </s> a control token, because the Llama models end with one of that name"


@dataclass(frozen=True)
class Group:
    """Strings of one kind, and why llama.cpp's tokens for them are not sentencepiece's, if they are not."""

    name: str
    texts: list[bytes]
    llama_differs: str | None = None


class _Draw:
    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def below(self, end: int) -> int:
        return int(self._random.random() * end)

    def between(self, first: int, last: int) -> int:
        return first + self.below(last - first + 1)

    def one(self, items: Sequence[T]) -> T:
        return items[self.below(len(items))]


def words(tokenizer: _core.Tokenizer) -> list[str]:
    """The pieces that stand for text, written with spaces."""
    kinds = ("normal", "user_defined")
    pieces = (tokenizer.piece(token) for token in range(tokenizer.vocabulary) if tokenizer.kind(token) in kinds)
    return [text for piece in pieces if (text := piece.decode().replace("\u2581", " ")) != STRIKE]


def groups(words: Sequence[str]) -> Iterator[Group]:
    """The strings, made of `words()` and of what a tokenizer may stumble over."""
    draw = _Draw(SEED)

    def character() -> str:
        first, end = draw.one(PLANES)
        return chr(draw.between(first, end - 1))

    def run(of: str, longest: int) -> str:
        return of * draw.between(1, longest)

    def blank() -> str:
        return draw.one([run(" ", 70), run(" ", 3), run("\t", 40), "\u3000", "\u00a0"])

    def newline() -> str:
        return draw.one([run("\n", 70), run("\n", 4), "\r\n", "\r", "\u2028", "\n \n", "\n\t", "\0"])

    def cut() -> str:
        word = draw.one(words)
        return word[draw.below(len(word)) :]

    def join(*makers: Callable[[], str], most: int) -> str:
        return "".join(draw.one(makers)() for _ in range(draw.between(1, most)))

    def word() -> str:
        return draw.one(words)

    def emoji() -> str:
        return draw.one(EMOJI)

    def marked() -> str:
        return draw.one([*CONTROLS, *MARKUP])

    def damaged() -> bytes:
        data = join(word, character, emoji, blank, most=4).encode()
        at = draw.between(0, len(data))
        return data[:at] + draw.one(BROKEN) + data[at + draw.below(3) :]

    def texts(count: int, *makers: Callable[[], str], most: int) -> list[bytes]:
        return [join(*makers, most=most).encode() for _ in range(count)]

    def symbol() -> str:
        return draw.one([run("\u2581", 3), run("\u2581", 40)])

    yield Group("pieces", texts(5000, word, most=8))
    yield Group("parts of pieces", texts(2000, cut, word, most=6))
    yield Group("spaces", texts(2500, blank, word, most=8))
    yield Group("newlines", texts(2500, newline, blank, word, most=8))
    yield Group("emoji", texts(1500, emoji, word, most=6))
    yield Group("all planes", texts(2500, character, most=10))
    yield Group("control text", texts(2000, marked, word, blank, newline, most=6))
    yield Group("broken UTF-8", [damaged() for _ in range(1000)], BYTES)
    yield Group("U+2581", texts(500, symbol, word, blank, most=6), SYMBOL)
    yield Group("</s>", texts(500, lambda: STRIKE, word, marked, most=6), CONTROL)
