"""Dialogues, and the random choices they are made of. Content is split by hash into training and held-out parts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

import names

HELD_OUT_SHARE = 20  # one content key in this many is held out
UNSEEN = frozenset(names.UNSEEN)

Message = dict[str, str]


@dataclass(frozen=True)
class Turn:
    """One question with its answer."""

    user: str
    answer: str


@dataclass(frozen=True)
class Dialogue:
    """Some turns, perhaps under a system text. The last answer is the one that is tested."""

    task: str
    turns: tuple[Turn, ...]
    system: str = ""

    def messages(self) -> list[Message]:
        """Every message except the last answer."""
        out: list[Message] = [{"role": "system", "content": self.system}] if self.system else []
        for turn in self.turns:
            out += [{"role": "user", "content": turn.user}, {"role": "assistant", "content": turn.answer}]
        return out[:-1]

    @property
    def answer(self) -> str:
        return self.turns[-1].answer


@dataclass
class Source:
    """Random choices restricted to one side of the split."""

    rng: Random
    held_out: bool
    plain_names: bool = False
    """Whether invented names have the shapes of the first test set, which stays as it is."""
    pieces: Sequence[str] = ()
    """Of the tokenizer, for invented names: each is to be copied at times."""
    _parts: dict[int, list[str]] = field(default_factory=dict)

    def allows(self, key: str) -> bool:
        """Whether content `key` belongs to this side."""
        return is_held_out(key) == self.held_out

    def part(self, items: Sequence[str]) -> list[str]:
        """This side's part of a word list."""
        known = self._parts.get(id(items))
        if known is None:
            known = self._parts[id(items)] = [item for item in items if self.allows("word:" + item)]
        return known

    def copied(self, items: Sequence[str]) -> str:
        """A word to be copied: from the list, or (in training) often an invented one."""
        if not self.held_out and self.rng.random() < (0.65 if self.plain_names else 0.75):
            return self.invented()
        return self.rng.choice(self.part(items))

    def invented(self) -> str:
        """A made-up name on this side of the split."""
        while True:
            if self.plain_names:
                made = [names.plain(self.rng).lower().capitalize()]
                name = made[0] if len(made[0]) > 2 else ""
            else:
                made = [names.invent(self.rng, self.pieces).capitalize() for _ in range(2)]
                name = names.written(self.rng, *made)
            if name and all(self.allows("word:" + word) and (self.plain_names or word not in UNSEEN) for word in made):
                return name

    def training_side(self) -> Source:
        """The same choices on the other side, for turns that are not what is tested."""
        return Source(self.rng, held_out=False, plain_names=self.plain_names, pieces=self.pieces)

    def unseen(self) -> str:
        """A real name that training never sees; an invented one in training."""
        return self.rng.choice(names.UNSEEN) if self.held_out else self.invented()


def is_held_out(key: str) -> bool:
    """Whether the content named `key` is kept from training."""
    return hashlib.sha1(key.encode()).digest()[0] % HELD_OUT_SHARE == 7


def single(task: str, user: str, answer: str, system: str = "") -> Dialogue:
    return Dialogue(task, (Turn(user, answer),), system)


# --- arithmetic ---
