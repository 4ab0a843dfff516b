"""Exact match of greedy answers on the held-out dialogues, by task.

MODEL is a .gguf file or an exported folder (run by gemlet), or a Hugging Face checkpoint folder (run by torch).
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data import HELD_OUT_FILE, Example, chat_text, read_examples

if TYPE_CHECKING:
    from transformers import Gemma3nForCausalLM

END = "<end_of_turn>"
MAX_TOKENS = 64


@dataclass
class Scores:
    """Right answers and all answers by task, and the wrong ones."""

    right: Counter[str] = field(default_factory=Counter)
    all: Counter[str] = field(default_factory=Counter)
    wrong: list[tuple[Example, str]] = field(default_factory=list)

    def add(self, example: Example, answer: str) -> None:
        answer = answer.split(END)[0].strip()
        self.all[example.task] += 1
        if answer == example.expected:
            self.right[example.task] += 1
        else:
            self.wrong.append((example, answer))

    def rates(self) -> dict[str, float]:
        rates = {task: round(self.right[task] / count, 4) for task, count in self.all.items()}
        return {**rates, "overall": round(self.right.total() / max(1, self.all.total()), 4)}

    def table(self) -> str:
        lines = [f"{'task':12}{'right':>7}{'all':>7}{'share':>9}"]
        rows = [(task, self.right[task], count) for task, count in self.all.items()]
        rows.append(("overall", self.right.total(), self.all.total()))
        lines += [f"{task:12}{right:7}{count:7}{right / max(1, count):9.1%}" for task, right, count in rows]
        return "\n".join(lines)


def half_width(model: Gemma3nForCausalLM) -> Gemma3nForCausalLM:
    """A copy with the first half of every feed-forward layer."""
    import copy

    from transformers import Gemma3nForCausalLM

    config = copy.deepcopy(model.config)
    sizes = config.intermediate_size
    assert isinstance(sizes, list)
    config.intermediate_size = [size // 2 for size in sizes]
    state = {}
    for name, weight in model.state_dict().items():
        if "mlp.gate_proj" in name or "mlp.up_proj" in name:
            weight = weight[: weight.shape[0] // 2]
        elif "mlp.down_proj" in name:
            weight = weight[:, : weight.shape[1] // 2]
        state[name] = weight
    small = Gemma3nForCausalLM(config)
    small.load_state_dict(state)
    return small


def score_torch(
    folder: Path, model: Gemma3nForCausalLM, examples: list[Example], half: bool, batch: int = 64
) -> Scores:
    """Greedy answers in batches of similar length, padded on the left."""
    import sentencepiece
    import torch

    if half:
        model = half_width(model)
    runner: Any = model.eval()
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    prompts = sorted(
        ((example, [2, *processor.encode(chat_text(example.messages))]) for example in examples),
        key=lambda pair: len(pair[1]),
    )
    scores = Scores()
    for start in range(0, len(prompts), batch):
        part = prompts[start : start + batch]
        width = max(len(ids) for _, ids in part)
        ids = torch.tensor([[0] * (width - len(prompt)) + prompt for _, prompt in part])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for _, prompt in part])
        with torch.inference_mode():
            out = runner.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=MAX_TOKENS,
                do_sample=False,
                eos_token_id=[1, 5],
                pad_token_id=0,
            )
        for (example, _), row in zip(part, out[:, width:].tolist(), strict=True):
            stop = next((i for i, piece in enumerate(row) if piece in (0, 1, 5)), len(row))
            scores.add(example, processor.decode(row[:stop]))
    order = list(dict.fromkeys(example.task for example in examples))
    scores.all = Counter({task: scores.all[task] for task in order})
    return scores


def score_gemlet(path: Path, examples: list[Example], batch: int = 32) -> Scores:
    import gemlet

    model = gemlet.load(path)
    scores = Scores()
    for start in range(0, len(examples), batch):
        part = examples[start : start + batch]
        prompts = [chat_text(example.messages) for example in part]
        results = model.generate_batch(prompts, max_tokens=MAX_TOKENS, temperature=0.0)
        for example, result in zip(part, results, strict=True):
            scores.add(example, result.text)
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--heldout", type=Path, default=HELD_OUT_FILE)
    parser.add_argument("--slice", choices=("full", "half"), default="full", help="feed-forward width (torch only)")
    parser.add_argument("--json", action="store_true", help="print one JSON record instead of a table")
    parser.add_argument("--wrong", action="store_true", help="print the wrong answers too")
    parser.add_argument("--limit", type=int, default=0, help="only so many dialogues, spread over the tasks")
    args = parser.parse_args()
    examples = read_examples(args.heldout)
    if args.limit:
        examples = examples[:: max(1, len(examples) // args.limit)]
    if (args.model / "config.json").exists() and not (args.model / "gemlet.json").exists():
        from transformers import Gemma3nForCausalLM

        scores = score_torch(args.model, Gemma3nForCausalLM.from_pretrained(args.model), examples, args.slice == "half")
    elif args.slice == "half":
        parser.error("--slice half needs a checkpoint folder")
    else:
        scores = score_gemlet(args.model, examples)
    if args.json:
        record = {"model": args.model.name, "slice": args.slice, "count": scores.all.total(), **scores.rates()}
        print(json.dumps(record))
    else:
        print(scores.table())
    if args.wrong:
        for example, answer in scores.wrong:
            print(f"{example.id}: {example.messages[-1]['content']!r} -> {answer!r}, not {example.expected!r}")


if __name__ == "__main__":
    main()
