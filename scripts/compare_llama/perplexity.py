#!/usr/bin/env python3
"""Perplexity of the same GGUF files in llama.cpp and in gemlet, and their tokens, side by side.

    scripts/compare_llama/train_model.py build/model30
    scripts/compare_llama/perplexity.py build/model30

CHECKPOINT is converted to each type; both programs read the same files and the same text. Perplexity is llama.cpp's:
windows of 512 tokens, each begun by <bos>, scored on their second half. Exit code 1 when a perplexity differs by more
than half a percent or a token differs.

One difference is known: llama.cpp's sparse layers use the sample deviation (n - 1) where the reference, and gemlet,
use the population's (n). With n of 256 or more it moves the cutoff by less than 0.2 % of a deviation.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import gemlet
import llama_tools

WINDOW = 512
TOLERANCE = 0.005


@dataclass(frozen=True)
class Row:
    """One file; `llama_deviation` is llama.cpp's own standard error."""

    type: str
    megabytes: float
    llama_cpp: float
    llama_deviation: float
    gemlet: float

    @property
    def difference(self) -> float:
        return self.gemlet / self.llama_cpp - 1


def llama_tokens(folder: Path, model: Path, text: Path) -> list[int]:
    command: list[str | Path] = [folder / "llama-tokenize", "-m", model, "-f", text, "--ids", "--no-escape"]
    output = llama_tools.run(command)
    ids: list[int] = json.loads(output[output.rindex("[") :])
    return ids


def measure(folder: Path, file: Path, kind: str, text: Path, threads: int) -> Row:
    llama, deviation = llama_tools.perplexity(folder, file, text, window=WINDOW, threads=threads)
    model = gemlet.load(file, threads=threads)
    ours = gemlet.perplexity(model, text.read_bytes(), window=WINDOW)
    return Row(kind, file.stat().st_size / 1e6, llama, deviation, ours)


def table(rows: list[Row]) -> str:
    lines = ["| type | file | llama.cpp | gemlet | difference |", "|---|---|---|---|---|"]
    for row in rows:
        llama = f"{row.llama_cpp:.4f} ± {row.llama_deviation:.3f}"
        lines.append(f"| {row.type} | {row.megabytes:.1f} MB | {llama} | {row.gemlet:.4f} | {row.difference:+.3%} |")
    return "\n".join(lines)


def command(arguments: argparse.Namespace) -> str:
    """What was run, with the options that the figures depend on and a placeholder for each path."""
    words = ["scripts/compare_llama/perplexity.py", "CHECKPOINT"]
    words += ["--text", "TEXT"] if arguments.text else []
    for name in ("types", "characters", "threads"):
        words += [f"--{name}", str(getattr(arguments, name))]
    words += ["--llama-bin", "LLAMA_BIN"] if arguments.llama_bin else []
    return " ".join(words)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="30-layer Gemma 3n in Hugging Face layout")
    parser.add_argument("--text", type=Path, help="plain text (default: CHECKPOINT/heldout.txt)")
    parser.add_argument("--types", default="f16,q8_0,q4_0", help="of the files compared (default: %(default)s)")
    parser.add_argument("--characters", type=int, default=100_000, help="of the text to use (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--llama-bin", type=Path, help="folder of llama.cpp's tools (default: build them)")
    parser.add_argument("--build", type=Path, default=Path("build/llama.cpp"), help="where to build them")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    text = arguments.checkpoint / "perplexity.txt"
    whole = (arguments.text or arguments.checkpoint / "heldout.txt").read_text(encoding="utf-8")
    text.write_text(whole[: arguments.characters], encoding="utf-8")

    folder = llama_tools.tools(arguments.llama_bin, arguments.build)
    rows: list[Row] = []
    tokens = different = 0
    for kind in arguments.types.split(","):
        file = arguments.checkpoint / f"{kind}.gguf"
        gemlet.convert(arguments.checkpoint, file, quant=kind)
        if not rows:
            theirs = llama_tokens(folder, file, text)
            ours = gemlet.load(file).tokenize(text.read_bytes(), bos=True)
            tokens = len(theirs)
            different = sum(a != b for a, b in zip(theirs, ours, strict=False)) + abs(len(theirs) - len(ours))
            print(f"tokens of the text: {len(theirs)} in llama.cpp, {len(ours)} in gemlet, {different} differ")
        rows.append(measure(folder, file, kind, text, arguments.threads))
    print(table(rows))

    if arguments.json:
        figures = {
            "command": command(arguments),
            "llama_cpp": llama_tools.version(folder),
            "gemlet": gemlet.__version__,
            "machine": platform.machine(),
            "windows": tokens // WINDOW,
            "tokens_compared": tokens,
            "tokens_different": different,
            "rows": [asdict(row) | {"difference": row.difference} for row in rows],
        }
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 1 if different or any(abs(row.difference) > TOLERANCE for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
