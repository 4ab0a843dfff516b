#!/usr/bin/env python3
"""Gemma 3 270M with its real weights: gemlet beside what llama.cpp answered.

    scripts/compare_llama/gemma3_270m_reference.py build/gemma3-270m    # once: model files, texts, llama.cpp's answers
    scripts/compare_llama/gemma3_270m.py build/gemma3-270m

Prints tokens that differ, perplexities side by side, and the steps of greedy continuations at which the most likely
token is another one, with the gap between the two tokens. Exit code 1 when a token differs that should not, a
perplexity differs by more than --tolerance, or a continuation differs where the float32 weights show no tie.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gemlet
import gemma3_270m_inputs as inputs
import numpy as np
from gemlet import _core
from real_texts import LANGUAGES, Text, manual_pages

import real_weights
import vocabulary_strings


@dataclass(frozen=True)
class Row:
    """Perplexity of one file on one text; `deviation` is llama.cpp's own standard error."""

    type: str
    text: str
    window: int
    llama_cpp: float
    deviation: float
    gemlet: float

    @property
    def difference(self) -> float:
        return self.gemlet / self.llama_cpp - 1


def compare_tokens(tokenizer: _core.Tokenizer, reference: dict[str, Any], texts: dict[str, Text]) -> list[str]:
    """What differs and should not."""
    different = []
    for group, row in zip(
        vocabulary_strings.groups(vocabulary_strings.words(tokenizer)), reference["strings"], strict=True
    ):
        for way in ("plain", "special"):
            ids = [tokenizer.encode(text, special=way == "special") for text in group.texts]
            equal = real_weights.digest(ids) == row[way]
            print(f"{group.name:16} {way:8} {len(ids):5} strings  {'equal' if equal else 'different'}")
            if not equal and group.llama_differs is None:
                different.append(f"{group.name}, {way}")
    for row in reference["texts"]:
        ids = [tokenizer.encode(texts[row["name"]].data, special=False)]
        equal = real_weights.digest(ids) == row["ids_sha256"]
        print(f"{row['name']:24} {row['tokens']:6} tokens  {'equal' if equal else 'different'}")
        if not equal:
            different.append(row["name"])
    return different


def compare_perplexity(
    folder: Path, rows: list[dict[str, Any]], texts: dict[str, Text], threads: int, cache: Any
) -> Iterator[Row]:
    loaded: tuple[str, int] | None = None
    for row in rows:
        if loaded != (row["type"], row["window"]):
            loaded = (row["type"], row["window"])
            file = inputs.file_of(folder, row["type"])
            model = gemlet.load(file, threads=threads, context=row["window"], cache=cache)
        value = gemlet.perplexity(model, texts[row["text"]].data, window=row["window"])
        found = Row(row["type"], row["text"], row["window"], row["perplexity"], row["deviation"], value)
        llama = f"{found.llama_cpp:9.4f} ± {found.deviation:.3f}"
        print(
            f"{found.type:8} {found.text:24} {found.window:5} {llama}  {value:9.4f} {found.difference:+.3%}", flush=True
        )
        yield found


@dataclass(frozen=True)
class GreedyStep:
    """A step of llama.cpp's continuation at which gemlet's most likely token is another one.

    A gap is how far the logit of gemlet's token lies above that of llama.cpp's token: in gemlet with the same file, and
    with its weights in float32, where no activations are rounded. `float32` says whose token is the more likely one
    there, and `other` that a third one is the most likely.
    """

    prompt: str
    step: int
    llama_cpp: str
    gemlet: str
    gap: float
    float32_gap: float
    float32: str
    tie: bool


@dataclass(frozen=True)
class Greedy:
    """`rounding` is what the rounding of activations does to a gap: the root mean square, over all steps, of how far
    the gap between the two most likely tokens moves. A step is a tie when its float32 gap is below three times that."""

    steps: int
    rounding: float
    llama_cpp_and_gemlet: int
    llama_cpp_and_float32: int
    gemlet_and_float32: int
    different: list[GreedyStep]


def compare_greedy(folder: Path, rows: list[dict[str, Any]], threads: int) -> Greedy:
    model, exact = (
        gemlet.load(inputs.file_of(folder, kind), threads=threads, context=512) for kind in (inputs.ORIGINAL, "F32")
    )
    moved: list[float] = []
    found: list[tuple[dict[str, Any], int, int, int, int, float, float]] = []
    totals = np.zeros(3, np.int64)
    for row in (row for row in rows if row["type"] == inputs.ORIGINAL):
        rounded, float32 = real_weights.continued(model, row), real_weights.continued(exact, row)
        theirs, ours, true = np.array(row["continuation"]), rounded.argmax(axis=1), float32.argmax(axis=1)
        totals += [(theirs != ours).sum(), (theirs != true).sum(), (ours != true).sum()]
        for step in range(len(theirs)):
            second, first = np.argpartition(float32[step], -2)[-2:]
            shift = rounded[step] - float32[step]
            moved.append(float(shift[first] - shift[second]))
            if theirs[step] != ours[step]:
                gaps = (float(logits[step, ours[step]] - logits[step, theirs[step]]) for logits in (rounded, float32))
                found.append((row, step, int(theirs[step]), int(ours[step]), int(true[step]), *gaps))
    rounding = float(np.sqrt(np.mean(np.square(moved))))
    different = [
        GreedyStep(
            prompt=row["prompt"],
            step=step,
            llama_cpp=model.piece(theirs),
            gemlet=model.piece(ours),
            gap=round(gap, 4),
            float32_gap=round(float32_gap, 4),
            float32={theirs: "llama_cpp", ours: "gemlet"}.get(true, "other"),
            tie=abs(float32_gap) < 3 * rounding,
        )
        for row, step, theirs, ours, true, gap, float32_gap in found
    ]
    return Greedy(len(moved), round(rounding, 4), *(int(total) for total in totals), different)


def print_greedy(greedy: Greedy) -> None:
    print(f"greedy: {len(greedy.different)} of {greedy.steps} steps have another most likely token")
    print(f"rounding moves the gap between the two most likely tokens by {greedy.rounding} (root mean square)")
    for d in greedy.different:
        words = f"{d.llama_cpp!r} in llama.cpp, {d.gemlet!r} here by {d.gap}, in float32 by {d.float32_gap}"
        print(f"  {d.prompt!r}, step {d.step}: {words}, {'tie' if d.tie else 'no tie'}")


def without_flash_attention(reference: dict[str, Any]) -> list[dict[str, Any]]:
    """How far llama.cpp's own perplexities move when it computes attention another way."""
    with_it = {(row["type"], row["text"], row["window"]): row["perplexity"] for row in reference["perplexity"]}
    return [
        {"type": row["type"], "text": row["text"], "window": row["window"]}
        | {"difference": row["perplexity"] / with_it[row["type"], row["text"], row["window"]] - 1}
        for row in reference["without_flash_attention"]
    ]


def check_texts(reference: dict[str, Any], texts: dict[str, Text]) -> None:
    for row in reference["texts"]:
        if texts[row["name"]].sha256 != row["sha256"]:
            raise SystemExit(
                f"{row['name']}: {texts[row['name']].source} is not the text that llama.cpp was given "
                f"({row['source']}); run gemma3_270m_reference.py again"
            )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="that gemma3_270m_reference.py filled")
    parser.add_argument("--types", help="files to score (default: all that llama.cpp scored)")
    parser.add_argument("--windows", help="to score (default: all)")
    parser.add_argument("--cache", default="f16", help="type of the keys and values (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tolerance", type=float, default=0.001, help="of perplexity (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()

    reference = real_weights.reference()
    packages = arguments.folder / "packages"
    long = inputs.long_texts(packages)
    foreign = [manual_pages(name, packages, 40_000) for name in LANGUAGES if name != "Hungarian"]
    texts = {text.name: text for text in (*long, *inputs.shorter(long), *inputs.small_texts(), *foreign)}
    check_texts(reference, texts)

    tokenizer = _core.Tokenizer(inputs.file_of(arguments.folder, inputs.ORIGINAL))
    different = compare_tokens(tokenizer, reference, texts)
    greedy = compare_greedy(arguments.folder, reference["greedy"], arguments.threads)
    print_greedy(greedy)
    wanted = [
        row
        for row in reference["perplexity"]
        if (arguments.types is None or row["type"] in arguments.types.split(","))
        and (arguments.windows is None or str(row["window"]) in arguments.windows.split(","))
    ]
    scored = list(compare_perplexity(arguments.folder, wanted, texts, arguments.threads, arguments.cache))
    if arguments.json:
        figures = {
            "command": f"scripts/compare_llama/gemma3_270m.py FOLDER --cache {arguments.cache}",
            "llama_cpp": reference["llama_cpp"],
            "gemlet": gemlet.__version__,
            "machine": platform.machine(),
            "tokens_different": different,
            "greedy": asdict(greedy),
            "perplexity": [asdict(row) | {"difference": row.difference} for row in scored],
            "without_flash_attention": without_flash_attention(reference),
        }
        arguments.json.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    worst = max((abs(row.difference) for row in scored), default=0.0)
    unexplained = [difference for difference in greedy.different if not difference.tie]
    return 1 if different or unexplained or worst > arguments.tolerance else 0


if __name__ == "__main__":
    sys.exit(main())
