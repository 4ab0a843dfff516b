#!/usr/bin/env python3
"""Gemma 3 270M with its real weights: gemlet beside what llama.cpp answered.

    scripts/compare_llama/gemma3_270m_reference.py build/gemma3-270m    # once: model files, texts, llama.cpp's answers
    scripts/compare_llama/gemma3_270m.py build/gemma3-270m

Prints tokens that differ, perplexities side by side, and the steps of greedy continuations at which the most likely
token is another one, with the gap between llama.cpp's two most likely ones. Exit code 1 when a token differs that
should not, a perplexity differs by more than --tolerance, or a continuation differs without a tie.
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


def compare_greedy(folder: Path, rows: list[dict[str, Any]], threads: int) -> list[real_weights.Difference]:
    differences = []
    for kind in dict.fromkeys(row["type"] for row in rows):
        model = gemlet.load(inputs.file_of(folder, kind), threads=threads, context=512)
        mine = [row for row in rows if row["type"] == kind]
        found = [difference for row in mine for difference in real_weights.greedy_differences(model, row)]
        steps = sum(len(row["continuation"]) for row in mine)
        print(f"{kind}: {len(found)} of {steps} steps have another most likely token")
        for d in found:
            words = f"{model.piece(d.expected)!r} in llama.cpp, {model.piece(d.found)!r} here"
            print(f"  {d.prompt!r}, step {d.step}: {words}, gap {d.gap}")
        differences += found
    return differences


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
            "greedy_different": [asdict(difference) for difference in greedy],
            "perplexity": [asdict(row) | {"difference": row.difference} for row in scored],
        }
        arguments.json.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    worst = max((abs(row.difference) for row in scored), default=0.0)
    unexplained = [difference for difference in greedy if difference.gap is None]
    return 1 if different or unexplained or worst > arguments.tolerance else 0


if __name__ == "__main__":
    sys.exit(main())
