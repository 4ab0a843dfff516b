"""Acceptance of draft tokens: greedy completions of held-out dialogues, with each drafter.

The answers are checked to be those of plain decoding. Times are of the processor, on one thread.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import gemlet
from data import HELD_OUT_FILE, chat_text, read_examples

WAYS: tuple[dict[str, Any], ...] = (
    {},
    {"speculate": "lookup"},
    {"speculate": "lookup", "draft_tokens": 4},
    {"speculate": "slice"},
    {"speculate": "slice", "draft_tokens": 4},
)


def measure(model: gemlet.Model, prompts: list[str], **options: Any) -> tuple[list[list[int]], dict[str, Any]]:
    """The completions; their tokens, passes over the weights after prefill, draft tokens, and seconds of decoding."""
    answers, drafted, accepted, seconds = [], 0, 0, 0.0
    for prompt in prompts:
        tokens = model.tokenize(prompt, bos=True)
        session = model.session()
        session.prefill(tokens[:-1])  # not timed: the prompt costs the same with every drafter
        start = time.process_time()
        out = session.generate(tokens, max_tokens=64, temperature=0.0, **options)
        seconds += time.process_time() - start
        answers.append(out.tokens)
        drafted += out.stats.drafted_tokens
        accepted += out.stats.accepted_tokens
    tokens_out = sum(map(len, answers))
    record = {"tokens": tokens_out, "passes": tokens_out - accepted, "drafted": drafted, "accepted": accepted}
    return answers, {**options, **record, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--every", type=int, default=7, help="take one dialogue in so many")
    parser.add_argument("--repetitions", type=int, default=3, help="the fastest counts")
    args = parser.parse_args()
    model = gemlet.load(args.model, threads=1)
    prompts = [chat_text(example.messages) for example in read_examples(HELD_OUT_FILE)[:: args.every]]
    plain, _ = measure(model, prompts)
    rows: list[dict[str, Any]] = []
    for way in WAYS:
        runs = [measure(model, prompts, **way) for _ in range(args.repetitions)]
        if any(answers != plain for answers, _ in runs):
            raise SystemExit(f"{way}: the answers differ from those of plain decoding")
        rows.append(min((row for _, row in runs), key=lambda row: float(row["seconds"])))
    print(json.dumps({"model": args.model.name, "dialogues": len(prompts), "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
