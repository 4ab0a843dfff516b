"""What Gemma 3 270M is compared with llama.cpp on: the package's file, its requantisations, texts and prompts."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import real_texts

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "python"))

ORIGINAL = "original"
TYPES = "F32 F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q6_K Q5_K_M Q4_K_S Q3_K_M Q2_K IQ4_NL IQ4_XS IQ3_S".split()
WINDOWS = (512, 2048, 8192)
SMALL = {"LICENSE": "LICENSE", "Hungarian story": "tests/python/texts/hungarian.txt"}
SMALL["C++"] = "tests/python/texts/code.txt"
STEPS = 64

PROMPTS = """
The capital of Hungary is
Once upon a time, in a small village by the sea,
The three primary colours are
To make a good cup of tea, you need
def fibonacci(n):
#include <vector>
The theory of relativity was published by
In 1969, humans first
A recipe for pancakes:
Question: What is the largest planet in the solar system?\nAnswer:
English: Good morning!\nFrench:
1, 2, 3, 4, 5,
2, 4, 8, 16, 32,
SELECT name, price FROM products WHERE
<html>\n<head>\n<title>
Der schnellste Weg, eine Sprache zu lernen, ist
La ville de Paris est
El perro y el gato
Budapest Magyarország
Однажды утром мальчик вышел
日本の首都は
中国的首都是
The most important thing about friendship is
Dear Sir or Madam,\n
The doctor looked at the patient and said, "
import numpy as np\n\n
Photosynthesis is the process by which
It was the best of times,
Water boils at a temperature of
The moon
"""


def prompts() -> list[str]:
    return [line for line in PROMPTS.splitlines() if line]


def file_of(folder: Path, kind: str) -> Path:
    return folder / f"{kind}.gguf"


def long_texts(folder: Path) -> list[real_texts.Text]:
    """Three texts of 17,000 tokens and more, for two windows of 8192."""
    hungarian = real_texts.manual_pages("Hungarian", folder, 54_000)
    return [real_texts.english(folder, 75_000), hungarian, real_texts.code(70_000)]


def shorter(texts: Iterable[real_texts.Text]) -> list[real_texts.Text]:
    """Their first parts: for the many requantised files."""
    return [
        real_texts.Text(f"{text.name}, first part", text.source, text.data.decode()[:9_000].encode()) for text in texts
    ]


def small_texts() -> list[real_texts.Text]:
    """Those that the repository holds."""
    return [real_texts.Text(name, path, (ROOT / path).read_bytes()) for name, path in SMALL.items()]
