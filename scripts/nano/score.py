"""Held-out scores by torch while nano is trained.

A greedy answer is the expected one exactly if, given what comes before, each of its tokens is the likeliest. So one
forward pass tells, without generating anything.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from checkpoint import load
from data import Example
from dialogue import Dialogue, Turn
from evaluate import Scores
from fast import Fast
from media_tasks import Said, held_out_media
from packing import Encoding, Item, Shape, pack
from soft import Soft
from voices import Floats, features, spoken

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


def score(fast: Fast, soft: Soft, processor: Any, examples: Sequence[Example], per_task: int, *, half: bool) -> Scores:
    """Right answers by task; `per_task` questions about pictures and sounds where there are encoders."""
    modules = soft.modules.eval()
    scores = Scores()
    encoding = Encoding(processor, heard)
    items = [(example.task, last_answer(encoding.text(dialogue(example)))) for example in examples]
    if "vision" in modules:
        items += [(shown.task, encoding.shown(shown)) for shown in held_out_media(per_task)]
    window = fast.model.config.sliding_window
    for low, length in zip((0, *LENGTHS), LENGTHS, strict=False):
        some = [(task, item) for task, item in items if low < len(item.ids) <= length]
        for start in range(0, len(some), 8):
            part = some[start : start + 8]
            shape = Shape(len(part), length, 0.5)
            packed = pack([[item] for _, item in part], shape, window)
            with torch.inference_mode():
                logits = fast(
                    packed.ids,
                    packed.positions,
                    packed.full,
                    packed.sliding,
                    packed.chosen,
                    half,
                    *(soft(packed) or ()),
                )
            wanted = packed.targets.view(len(part), -1)
            likeliest = logits.argmax(-1).view_as(wanted)
            for row, (task, item) in enumerate(part):
                used = wanted[row] >= 0
                texts = (processor.decode(tokens[row][used].tolist()) for tokens in (likeliest, wanted))
                scores.add(task, processor.decode(item.ids), *texts)
    modules.train()
    return scores


def score_checkpoint(folder: Path, examples: Sequence[Example], per_task: int, half: bool) -> Scores:
    modules = load(folder)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    return score(Fast(modules["text"]), Soft(modules), processor, examples, per_task, half=half)
