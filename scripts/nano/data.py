"""Dialogues for training and testing, and the text form of a chat.

`python scripts/nano/data.py` rewrites `heldout.jsonl`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from dialogue import Dialogue, Message, Source
from tasks import PLAIN_TASKS, TASKS, mixed, sloppy

HERE = Path(__file__).parent
HELD_OUT_FILE = HERE / "heldout.jsonl"
HELD_OUT_SEED = 20250626
PER_TASK = 90  # 8 tasks: 720 dialogues
MIXED_SHARE = 0.35
SLOPPY_SHARE = 0.08
DEFAULT_WEIGHTS: dict[str, float] = {
    "arithmetic": 0.26,
    "facts": 0.09,
    "phrases": 0.06,
    "tools": 0.23,
    "memory": 0.13,
    "lists": 0.21,
    "chat": 0.02,
    "names": 0.15,
}


@dataclass(frozen=True)
class Example:
    """One held-out dialogue as it is stored."""

    id: str
    task: str
    messages: list[Message]
    expected: str

    def line(self) -> str:
        return json.dumps(self.__dict__, ensure_ascii=False) + "\n"


def chat_text(messages: list[Message]) -> str:
    """The chat as Gemma's template writes it, without the leading <bos>, ready for the model's answer."""
    system, out = "", []
    for message in messages:
        content = message["content"].strip()
        if message["role"] == "system":
            system = content + "\n\n"
            continue
        role = "model" if message["role"] == "assistant" else message["role"]
        out.append(f"<start_of_turn>{role}\n{system}{content}<end_of_turn>\n")
        system = ""
    return "".join(out) + "<start_of_turn>model\n"


def dialogue_parts(dialogue: Dialogue) -> list[tuple[str, bool]]:
    """The dialogue's text in pieces, each with whether the model is to learn it."""
    parts: list[tuple[str, bool]] = []
    lead = f"{dialogue.system}\n\n" if dialogue.system else ""
    for turn in dialogue.turns:
        parts.append((f"<start_of_turn>user\n{lead}{turn.user}<end_of_turn>\n<start_of_turn>model\n", False))
        parts.append((turn.answer + "<end_of_turn>", True))
        parts.append(("\n", False))
        lead = ""
    return parts[:-1]


def training_dialogues(
    seed: int | str, weights: Mapping[str, float] | None = None, pieces: Sequence[str] = ()
) -> Iterator[Dialogue]:
    """Dialogues without end. Changes in `weights` take effect at once; `pieces` of a tokenizer get into names."""
    source = Source(Random(seed), held_out=False, pieces=pieces)
    live = DEFAULT_WEIGHTS if weights is None else weights
    while True:
        task = source.rng.choices(tuple(TASKS), [live[name] for name in TASKS])[0]
        dialogue = mixed(source, task) if source.rng.random() < MIXED_SHARE else TASKS[task](source)
        if task in PLAIN_TASKS and source.rng.random() < SLOPPY_SHARE:
            dialogue = sloppy(source.rng, dialogue)
        yield dialogue


def held_out_examples(per_task: int = PER_TASK) -> list[Example]:
    """The fixed test set. No prompt occurs twice."""
    out: list[Example] = []
    for task, make in TASKS.items():
        source = Source(Random(f"{HELD_OUT_SEED} {task}"), held_out=True, plain_names=True)
        seen: set[str] = set()
        while len(seen) < per_task:
            plain = source.rng.random() < (0.4 if task == "chat" else 0.75)
            dialogue = make(source) if plain else mixed(source, task)
            text = chat_text(dialogue.messages())
            if text in seen:
                continue
            seen.add(text)
            out.append(Example(f"{task}-{len(seen):03d}", task, dialogue.messages(), dialogue.answer))
    return out


def read_examples(path: Path = HELD_OUT_FILE) -> list[Example]:
    return [Example(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HELD_OUT_FILE)
    arguments = parser.parse_args()
    arguments.out.write_text("".join(example.line() for example in held_out_examples()), encoding="utf-8")


if __name__ == "__main__":
    main()
