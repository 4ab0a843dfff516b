"""Held-out scores by torch while nano is trained.

A greedy answer is the expected one exactly if, given what comes before, each of its tokens is the likeliest. So one
forward pass tells, without generating anything.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from data import Example, read_examples
from dialogue import Dialogue, Turn
from evaluate import Scores
from fast import Fast
from media_tasks import Said, held_out_media
from packing import Encoding, Item, Shape, pack
from soft import Soft
from speech import Floats, features, spoken

MEDIA_PER_TASK = 40
LENGTHS = (128, 320, 448, 768)


@functools.cache
def heard(said: Said) -> Floats:
    return features(spoken(said.utterance, said.manner))


def last_answer(item: Item) -> Item:
    """The same item, of which only the last answer counts."""
    end = len(item.learn) - 1
    start = end
    while start > 0 and item.learn[start - 1]:
        start -= 1
    item.learn = [start <= place <= end for place in range(len(item.learn))]
    return item


def dialogue(example: Example) -> Dialogue:
    messages = example.messages
    system = messages[0]["content"] if messages[0]["role"] == "system" else ""
    texts = [message["content"] for message in messages if message["role"] != "system"] + [example.expected]
    turns = [Turn(user, answer) for user, answer in zip(texts[::2], texts[1::2], strict=True)]
    return Dialogue(example.task, tuple(turns), system)


def held_out_items(encoding: Encoding, limit: int, media: bool) -> list[tuple[str, Item]]:
    examples = read_examples()
    examples = examples[:: max(1, len(examples) // limit)]
    out = [(example.task, last_answer(encoding.text(dialogue(example)))) for example in examples]
    if media:
        out += [(shown.task, encoding.shown(shown)) for shown in held_out_media(MEDIA_PER_TASK)]
    return out


def score(fast: Fast, soft: Soft, processor: Any, half: bool, limit: int) -> Scores:
    """Right answers by task."""
    modules = soft.modules.eval()
    scores = Scores()
    items = held_out_items(Encoding(processor, heard), limit, "vision" in modules)
    window = fast.model.config.sliding_window
    for low, length in zip((0, *LENGTHS), LENGTHS, strict=False):
        some = [(task, item) for task, item in items if low < len(item.ids) <= length]
        for start in range(0, len(some), 8):
            part = some[start : start + 8]
            shape = Shape(len(part), length, 0.5)
            packed = pack([[item] for _, item in part], shape, window)
            with torch.inference_mode():
                logits = fast(
                    packed.ids, packed.positions, packed.full, packed.sliding, packed.chosen, half, *(soft(packed) or ())
                )
            wanted = packed.targets.view(len(part), -1)
            right = ((logits.argmax(-1).view_as(wanted) == wanted) | (wanted < 0)).all(1).tolist()
            for (task, _), is_right in zip(part, right, strict=True):
                scores.all[task] += 1
                scores.right[task] += is_right
    modules.train()
    return scores
