"""Dialogues as rows of tokens, several to a row, with places for soft tokens."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from data import dialogue_parts
from dialogue import Dialogue
from media_tasks import Branch, Part, Said, Shown
from scenes import Scene
from torch import Tensor
from towers import sound_tokens
from voices import Floats

PICTURE_TOKENS = 256
BOS = 2
MARKERS = {"picture": "<start_of_image>", "sound": "<start_of_audio>"}
Hear = Callable[[Said], Floats]


@dataclass
class Medium:
    """A picture or a sound in an item: where its first soft token stands. The marker behind it is one more."""

    at: int
    content: Scene | Floats

    @property
    def kind(self) -> str:
        return "picture" if isinstance(self.content, Scene) else "sound"

    @property
    def tokens(self) -> int:
        return PICTURE_TOKENS if isinstance(self.content, Scene) else sound_tokens(len(self.content))


@dataclass
class Item:
    """A dialogue, or several that begin alike: branch 0 is their common beginning, which all others see."""

    ids: list[int] = field(default_factory=list)
    learn: list[bool] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    branches: list[int] = field(default_factory=list)
    media: list[Medium] = field(default_factory=list)

    def add(self, ids: Sequence[int], learn: bool = False, branch: int = 0) -> None:
        goes_on = bool(self.branches) and branch == self.branches[-1]
        start = self.positions[-1] + 1 if goes_on else self.branches.count(0)
        self.ids += ids
        self.learn += [learn] * len(ids)
        self.positions += range(start, start + len(ids))
        self.branches += [branch] * len(ids)


class Encoding:
    """Turns dialogues into items."""

    def __init__(self, processor: Any, hear: Hear) -> None:
        self.processor, self.hear = processor, hear

    def text(self, dialogue: Dialogue) -> Item:
        item = Item()
        item.add([BOS])
        for text, learn in dialogue_parts(dialogue):
            item.add(self.processor.encode(text), learn)
        return item

    def shown(self, shown: Shown) -> Item:
        item = Item()
        item.add([BOS, *self.processor.encode("<start_of_turn>user\n")])
        self._parts(item, shown.shared, 0)
        alone = not shown.shared
        for number, branch in enumerate(shown.branches, 1):
            self._branch(item, branch, 0 if alone else number)
        return item

    def _branch(self, item: Item, branch: Branch, number: int) -> None:
        self._parts(item, branch.parts, number)
        item.add(self.processor.encode("<end_of_turn>\n<start_of_turn>model\n"), branch=number)
        item.add(self.processor.encode(branch.answer + "<end_of_turn>"), learn=True, branch=number)

    def _parts(self, item: Item, parts: Sequence[Part], branch: int) -> None:
        for part in parts:
            if isinstance(part, str):
                item.add(self.processor.encode(part), branch=branch)
                continue
            content = self.hear(part) if isinstance(part, Said) else part
            medium = Medium(0, content)
            item.add(self.processor.encode("\n\n" + MARKERS[medium.kind]), branch=branch)
            medium.at = len(item.ids)
            item.media.append(medium)
            item.add([0] * (medium.tokens + 1), branch=branch)
            item.add(self.processor.encode("\n\n"), branch=branch)


@dataclass(frozen=True)
class Shape:
    """How many rows of which length one micro-batch has, and how many answer positions of each row it learns."""

    rows: int
    length: int
    answer_share: float = 0.45

    @property
    def answers(self) -> int:
        return int(self.length * self.answer_share)


@dataclass(frozen=True)
class Packed:
    """One micro-batch."""

    ids: Tensor
    positions: Tensor
    full: Tensor
    sliding: Tensor
    chosen: Tensor
    targets: Tensor
    media: list[Medium]
    """Each with its place among all positions of the micro-batch."""


class Packer:
    """Fills rows from a stream of items."""

    def __init__(self, draw: Callable[[], Item], window: int, held: int = 60) -> None:
        self.draw, self.window, self.held = draw, window, held
        self.waiting: deque[Item] = deque()

    def row(self, length: int) -> list[Item]:
        out: list[Item] = []
        room = length
        while len(self.waiting) < self.held:
            item = self.draw()
            if len(item.ids) <= length:
                self.waiting.append(item)
        for _ in range(40):
            if len(self.waiting[0].ids) <= room:
                out.append(self.waiting.popleft())
                room -= len(out[-1].ids)
                if not self.waiting:
                    break
            else:
                self.waiting.rotate(-1)
            if room < 24:
                break
        return out

    def batch(self, shape: Shape) -> Packed:
        return pack([self.row(shape.length) for _ in range(shape.rows)], shape, self.window)


def pack(rows: Sequence[Sequence[Item]], shape: Shape, window: int) -> Packed:
    size = (shape.rows, shape.length)
    ids, positions, segments, branches = (np.zeros(size, np.int64) for _ in range(4))
    targets = np.full(size, -1)
    media: list[Medium] = []
    for row, items in enumerate(rows):
        at = 0
        for number, item in enumerate(items, 1):
            end = at + len(item.ids)
            ids[row, at:end], positions[row, at:end] = item.ids, item.positions
            segments[row, at:end], branches[row, at:end] = number, item.branches
            learnt = np.array(item.learn[1:])
            targets[row, at : end - 1] = np.where(learnt, item.ids[1:], -1)
            start = row * shape.length + at
            media += [Medium(start + medium.at, medium.content) for medium in item.media]
            at = end
    chosen = np.zeros((shape.rows, shape.answers), np.int64)
    wanted = np.full((shape.rows, shape.answers), -1)
    for row in range(shape.rows):
        places = np.flatnonzero(targets[row] >= 0)[: shape.answers]
        chosen[row, : len(places)] = places
        wanted[row, : len(places)] = targets[row, places]
    segment, branch, position = (torch.from_numpy(values) for values in (segments, branches, positions))
    distance = position[:, :, None] - position[:, None, :]
    visible = (branch[:, None, :] == 0) | (branch[:, :, None] == branch[:, None, :])
    full = (segment[:, :, None] == segment[:, None, :]) & visible & (distance >= 0)
    return Packed(
        torch.from_numpy(ids),
        position,
        full[:, None],
        (full & (distance < window))[:, None],
        torch.from_numpy(chosen),
        torch.from_numpy(wanted).flatten(),
        media,
    )


def loss_of(logits: Tensor, targets: Tensor, count: int) -> Tensor:
    """The sum over wanted positions, for each of `count`."""
    total: Tensor = F.cross_entropy(logits, targets, ignore_index=-1, reduction="sum") / count
    return total
