"""Whether LiteRT-LM answers as LiteRT does, which gemlet runs on the same weights.

A bundle that sees and hears is asked about a picture and a sound too: a picture of the encoder's own size, since
LiteRT-LM resizes others by its own rule, and a sound that neither pads.
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from gemlet.exported.manifest import Manifest
from gemlet.media import Audio, Image
from gemlet.media.png import to_png
from gemlet.media.wav import to_wav
from gemlet.model import load

from .errors import ExportError
from .samples import picture, sound
from .tflite.bundle import PICTURE_SIZE

Question = Sequence[str | Image | Audio]

_TEXTS: Final = ("What is the capital of Portugal?", "How do you say good night in French?")
_OF_A_PICTURE: Final = "What is in this picture?"
_OF_A_SOUND: Final = "What is said here?"
_SAMPLES: Final = 128 * 160
"""Of the sound: 128 at a time are padded to, and frames lie 160 apart."""
_RATE: Final = 16000
_ANSWER_TOKENS: Final = 16
_FIRST_TOKENS: Final = 4
"""Of answers to what is not text alone: LiteRT-LM rounds the spectrogram of a sound in another way, of which quantised
products make enough that a long answer could take another turn."""
_MARKUP: Final = 64
"""More tokens than the words and marks of a question have."""
_MOST_SECONDS: Final = 900
_RUN: Final = """
import json, sys, litert_lm
task = json.load(sys.stdin)
litert_lm.set_min_log_severity(litert_lm.LogSeverity.ERROR)
cpu = litert_lm.Backend.CPU(thread_count=task["threads"])
encoders = {f"{kind}_backend": cpu for kind in task["encoders"]}
greedy = litert_lm.SamplerConfig(top_k=1, temperature=0.0)
with litert_lm.Engine(task["path"], cpu, max_num_tokens=task["context"], cache_dir=":nocache", **encoders) as engine:
    for content, most in zip(task["questions"], task["most"]):
        with engine.create_conversation(sampler_config=greedy, max_output_tokens=most) as conversation:
            message = conversation.send_message({"role": "user", "content": content})
            text = "".join(part.get("text", "") for part in message["content"])
            sys.stdout.buffer.write(text.encode() + b"\\0")
"""


def questions_for(manifest: Manifest) -> list[Question]:
    """What a model is asked: about a picture and a sound too, if it takes them and its context has room for them."""
    info = manifest.media_info()
    asked: list[Question] = [[text] for text in _TEXTS]
    room = manifest.context - _MARKUP - _ANSWER_TOKENS
    if info.vision is not None and room >= 257:
        asked.append([Image(picture(PICTURE_SIZE), size=PICTURE_SIZE), _OF_A_PICTURE])
    if info.audio is not None and room >= info.audio.filled_tokens + 1:
        asked.append([_OF_A_SOUND, Audio(sound(_SAMPLES), _RATE)])
    return asked


def answers_in_litert_lm(
    path: Path, questions: Sequence[Question], work: Path, context: int, threads: int, target: Path
) -> list[str] | None:
    """What LiteRT-LM answers on the CPU; None if it is not installed. Pictures and sounds go to files in the folder
    `work`. Raises ExportError naming `target` if it fails."""
    if importlib.util.find_spec("litert_lm") is None:
        return None
    contents = [[_part(part, work / f"{i}-{j}") for j, part in enumerate(asked)] for i, asked in enumerate(questions)]
    kinds: dict[type[object], str] = {Image: "vision", Audio: "audio"}
    task = {
        "path": str(path),
        "questions": contents,
        "encoders": sorted({kinds[type(part)] for asked in questions for part in asked if type(part) in kinds}),
        "most": [_most_tokens(asked) for asked in questions],
        "context": context,
        "threads": threads,
    }
    command = [sys.executable, "-c", _RUN]
    try:
        done = subprocess.run(command, input=json.dumps(task).encode(), capture_output=True, timeout=_MOST_SECONDS)
    except subprocess.TimeoutExpired:
        raise ExportError(f"{target}: LiteRT-LM has not answered after {_MOST_SECONDS} s; nothing was kept") from None
    if done.returncode != 0:
        raise ExportError(f"{target}: LiteRT-LM does not run it: {done.stderr.decode(errors='replace')[-2000:]}")
    return done.stdout.decode(errors="replace").split("\0")[:-1]


def _most_tokens(asked: Question) -> int:
    return _ANSWER_TOKENS if all(isinstance(part, str) for part in asked) else _FIRST_TOKENS


def _part(part: str | Image | Audio, file: Path) -> dict[str, Any]:
    """A part of a message as LiteRT-LM takes it."""
    if isinstance(part, str):
        return {"type": "text", "text": part}
    is_picture = isinstance(part, Image)
    file.write_bytes(to_png(part.pixels) if isinstance(part, Image) else to_wav(part.samples, _RATE))
    return {"type": "image" if is_picture else "audio", "path": str(file)}


def answers_in_litert(folder: Path, questions: Sequence[Question], threads: int) -> list[str]:
    """What the same model answers in LiteRT, with gemlet's own template, tokenizer and sampler."""
    model = load(folder, threads=threads)
    return [model.chat(temperature=0.0, max_tokens=_most_tokens(asked)).send(list(asked)).text for asked in questions]


def _comparable(answer: str) -> str:
    """Bytes that are no text are shown by one mark here and by several there."""
    return re.sub("\ufffd+", "\ufffd", answer.strip())


def compare(path: Path, questions: Sequence[Question], found: Sequence[str], expected: Sequence[str]) -> None:
    """Raises ExportError for different answers."""
    for asked, ours, theirs in zip(questions, expected, found, strict=True):
        if _comparable(ours) != _comparable(theirs):
            question = next(part for part in asked if isinstance(part, str))
            raise ExportError(
                f"{path}: LiteRT-LM answers {theirs!r} to {question!r}, expected {ours!r}; nothing was kept"
            )
