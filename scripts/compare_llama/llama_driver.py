"""llama.cpp's library, asked through driver.cpp: tokens, greedy continuations and logits of many inputs at once."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import llama_tools
import numpy as np
from numpy.typing import NDArray

CANDIDATES = np.dtype([("first", "<i4"), ("first_logit", "<f4"), ("second", "<i4"), ("second_logit", "<f4")])


def build(folder: Path) -> Path:
    """The program, compiled beside llama.cpp's tools unless it is there and newer than its source."""
    source = Path(__file__).with_name("driver.cpp")
    program = folder / "gemlet-driver"
    if program.exists() and program.stat().st_mtime > source.stat().st_mtime:
        return program
    headers = [*folder.parent.glob("llama_cpp_python-*/vendor/llama.cpp")]
    if not headers:
        raise llama_tools.ToolError(f"{folder.parent}: no llama_cpp_python-*/vendor/llama.cpp with llama.h in it")
    includes = [f"-I{headers[0] / part}" for part in ("include", "ggml/include")]
    libraries = [f"-L{folder}", f"-Wl,-rpath,{folder.resolve()}", "-lllama", "-lggml", "-lggml-base"]
    llama_tools.run(["c++", "-O2", "-std=c++20", *includes, source, "-o", program, *libraries])
    return program


def tokens(program: Path, model: Path, texts: Iterable[bytes], *, special: bool) -> list[list[int]]:
    """The ids of each text, without the begin-of-sequence token."""
    records = b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    ids = np.frombuffer(_ask([program, model, "tokens", "special" if special else "plain"], records), "<i4")
    return list(_split(ids))


def greedy(
    program: Path, model: Path, prompts: Sequence[Sequence[int]], steps: int, *, context: int, threads: int
) -> list[NDArray[np.void]]:
    """For each prompt the two most likely tokens at each of `steps` steps, as `CANDIDATES`; the first is appended."""
    answer = _ask([program, model, "greedy", str(steps), str(context), str(threads)], _records(prompts))
    return list(np.frombuffer(answer, CANDIDATES).reshape(len(prompts), steps))


def logits(program: Path, model: Path, ids: Sequence[int], *, threads: int) -> NDArray[np.float32]:
    """float32[len(ids)][vocabulary]: of what follows each token, the tokens computed one by one."""
    answer = _ask([program, model, "logits", str(len(ids)), str(threads)], _records([ids]))
    return np.frombuffer(answer, "<f4").reshape(len(ids), -1)


def _records(lists: Iterable[Sequence[int]]) -> bytes:
    return b"".join(np.array([len(ids), *ids], "<i4").tobytes() for ids in lists)


def _split(ids: NDArray[np.int32]) -> Iterator[list[int]]:
    at = 0
    while at < len(ids):
        end = at + 1 + int(ids[at])
        yield ids[at + 1 : end].tolist()
        at = end


def _ask(command: list[str | Path], records: bytes) -> bytes:
    done = subprocess.run([str(part) for part in command], check=False, input=records, capture_output=True)
    if done.returncode != 0:
        raise llama_tools.ToolError(f"{command[0]}: exit code {done.returncode}\n{done.stderr.decode()[-2000:]}")
    return done.stdout
