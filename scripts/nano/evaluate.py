"""Exact match of greedy answers on the held-out dialogues, by task.

MODEL is a .gguf file or an exported folder (run by gemlet), or a Hugging Face checkpoint folder (run by torch). Where
there are encoders, in it or in --media, pictures and sounds are asked about too.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data import HELD_OUT_FILE, Example, chat_text, read_examples

END = "<end_of_turn>"
MAX_TOKENS = 64
MEDIA_PER_TASK = 60


@dataclass
class Scores:
    """Right answers and all answers by task, and the wrong ones."""

    right: Counter[str] = field(default_factory=Counter)
    all: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def add(self, task: str, asked: str, answer: str, expected: str) -> None:
        answer = answer.split(END)[0].strip()
        self.all[task] += 1
        if answer == expected:
            self.right[task] += 1
        else:
            self.wrong.append(f"{task}: {asked!r} -> {answer!r}, not {expected!r}")

    def rates(self) -> dict[str, float]:
        rates = {task: round(self.right[task] / count, 4) for task, count in self.all.items()}
        return {**rates, "overall": round(self.right.total() / max(1, self.all.total()), 4)}

    def table(self) -> str:
        lines = [f"{'task':18}{'right':>7}{'all':>7}{'share':>9}"]
        rows = [(task, self.right[task], count) for task, count in self.all.items()]
        rows.append(("overall", self.right.total(), self.all.total()))
        lines += [f"{task:18}{right:7}{count:7}{right / max(1, count):9.1%}" for task, right, count in rows]
        return "\n".join(lines)


def score_gemlet(model: Any, examples: list[Example], batch: int = 32) -> Scores:
    scores = Scores()
    for start in range(0, len(examples), batch):
        part = examples[start : start + batch]
        prompts = [chat_text(example.messages) for example in part]
        results = model.generate_batch(prompts, max_tokens=MAX_TOKENS, temperature=0.0)
        for example, result in zip(part, results, strict=True):
            scores.add(example.task, example.messages[-1]["content"], result.text, example.expected)
    return scores


def given(part: Any) -> Any:
    """A part of a turn, as gemlet takes it."""
    import gemlet
    from media_tasks import Said
    from scenes import SIZE, Scene, draw
    from voices import RATE, spoken

    if isinstance(part, Scene):
        return gemlet.Image(draw(part).pixels, size=SIZE)
    return gemlet.Audio(spoken(part.utterance, part.manner), RATE) if isinstance(part, Said) else part


def takes(model: Any, medium: Any) -> bool:
    """Whether the model has an encoder for it."""
    import gemlet

    try:
        model.chat(max_tokens=1).send([medium])
    except gemlet.UnsupportedError:
        return False
    return True


def score_gemlet_media(model: Any, per_task: int, scores: Scores) -> None:
    """Questions about pictures and sounds, through chats, as far as the model has encoders for them."""
    import gemlet
    import numpy as np

    sees = takes(model, gemlet.Image(np.zeros((8, 8, 3), np.uint8)))
    hears = takes(model, gemlet.Audio(np.zeros(16000, np.float32), 16000))
    if not sees and not hears:
        return
    from media_tasks import Said, held_out_media
    from scenes import Scene
    from tqdm import tqdm  # type: ignore[import-untyped]

    def is_possible(part: Any) -> bool:
        return (sees or not isinstance(part, Scene)) and (hears or not isinstance(part, Said))

    def written(part: Any) -> str:
        if isinstance(part, Scene):
            return f"[{part.key}]"
        return f"[{part.manner.voice}: {part.utterance.text}]" if isinstance(part, Said) else str(part)

    for shown in tqdm(held_out_media(per_task), desc="pictures and sounds"):
        branch = shown.branches[0]
        parts = [*shown.shared, *branch.parts]
        if all(map(is_possible, parts)):
            answer = model.chat(temperature=0.0, max_tokens=MAX_TOKENS).send([given(part) for part in parts]).text
            scores.add(shown.task, " ".join(map(written, parts)), answer, branch.answer)


def is_checkpoint(path: Path) -> bool:
    return (path / "config.json").exists() and not (path / "gemlet.json").exists()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--media", type=Path, help="file of the encoders, where not in MODEL itself (gemlet only)")
    parser.add_argument("--heldout", type=Path, default=HELD_OUT_FILE)
    parser.add_argument("--slice", choices=("full", "half"), default="full", help="feed-forward width (torch only)")
    parser.add_argument("--json", action="store_true", help="print one JSON record instead of a table")
    parser.add_argument("--wrong", action="store_true", help="print the wrong answers too")
    parser.add_argument("--limit", type=int, default=0, help="only so many written dialogues, spread over the tasks")
    parser.add_argument("--per-task", type=int, default=MEDIA_PER_TASK, help="questions about pictures and sounds")
    args = parser.parse_args()
    examples = read_examples(args.heldout)
    if args.limit:
        examples = examples[:: max(1, len(examples) // args.limit)]
    if is_checkpoint(args.model):
        from score import score_checkpoint

        scores = score_checkpoint(args.model, examples, args.per_task, args.slice == "half")
    elif args.slice == "half":
        parser.error("--slice half needs a checkpoint folder")
    else:
        import gemlet

        model = gemlet.load(args.model, media=args.media) if args.media else gemlet.load(args.model)
        scores = score_gemlet(model, examples)
        score_gemlet_media(model, args.per_task, scores)
    if args.json:
        record = {"model": args.model.name, "slice": args.slice, "count": scores.all.total(), **scores.rates()}
        print(json.dumps(record))
    else:
        print(scores.table())
    if args.wrong:
        print("\n".join(scores.wrong))


if __name__ == "__main__":
    main()
