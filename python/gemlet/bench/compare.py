"""Other runtimes beside gemlet, in one run on one machine.

Every measurement is a process of its own. The programs take turns, so that a slow minute of the machine hits all of
them, and medians are reported.
"""

import ctypes
import json
import mmap
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from gemlet.bench import picture
from gemlet.errors import ArgumentError, FileError, GemletError
from gemlet.memory import maxrss_bytes

METRICS = {
    "prefill": "prefill, tokens/s",
    "decode": "decode, tokens/s",
    "deep": "decode at depth, tokens/s",
    "peak": "peak memory, GB",
    "cold": "first token cold, s",
    "warm": "first token warm, s",
}
FIRST_PROMPT = 16
"""Tokens of the prompt of the first-token measurements."""

_FIRST_TOKEN = """
import sys, gemlet
model = gemlet.load(sys.argv[1], threads=int(sys.argv[2]))
model.generate([model.bos] + [5] * (int(sys.argv[3]) - 1), max_tokens=1, temperature=0.0)
"""


class RuntimeFailedError(GemletError):
    """Another program failed; the message ends with what it printed."""


@dataclass(frozen=True)
class Settings:
    """What is measured, in tokens."""

    prompt: int
    generate: int
    depth: int
    """Before the deep decode; 0: leave that out."""
    threads: int


@dataclass(frozen=True)
class Run:
    """One process that has ended."""

    output: str
    seconds: float
    peak: float
    """Largest resident set in GB, mapped pages of the file included. Linux hands the size of the process that starts a
    program down to it: never less than this one's own."""


def _run(command: Sequence[str | Path]) -> Run:
    words = [str(word) for word in command]
    start = time.perf_counter()
    try:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    except OSError as error:
        raise FileError(f"{words[0]}: {error.strerror}") from error
    assert process.stdout is not None
    try:
        with process.stdout:
            output = process.stdout.read().decode(errors="replace")
        _, status, usage = os.wait4(process.pid, 0)
    except BaseException:  # it would go on measuring for nobody
        process.kill()
        process.wait()
        raise
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeFailedError(f"{' '.join(words)}: exit code {process.returncode}\n{output[-2000:]}")
    return Run(output, time.perf_counter() - start, maxrss_bytes(usage.ru_maxrss) / 1e9)


class Gemlet:
    """This package, with the Python that runs."""

    def speeds(self, file: Path, prompt: int, generate: int, depth: int, threads: int) -> tuple[list[float], float]:
        """Tokens/s of the prompt and of decoding, those that are not 0; and the peak memory in GB."""
        tests = ["-p", prompt, "-n", generate, "-d", depth, "-t", threads, "-r", 1]
        run = _run([sys.executable, "-m", "gemlet", "bench", file, "--json", *map(str, tests)])
        return [row["mean"] for row in json.loads(run.output)], run.peak

    def first_token(self, file: Path, threads: int) -> float:
        """Seconds from the start of the process, Python included, until it has sampled a token and ended."""
        return _run([sys.executable, "-c", _FIRST_TOKEN, file, str(threads), str(FIRST_PROMPT)]).seconds


@dataclass(frozen=True)
class LlamaCpp:
    """llama.cpp's own benchmark."""

    program: Path = Path("llama-bench")

    def speeds(self, file: Path, prompt: int, generate: int, depth: int, threads: int) -> tuple[list[float], float]:
        """See Gemlet.speeds."""
        run = self._bench(file, ["-p", prompt, "-n", generate, "-d", depth, "-t", threads])
        rows = json.loads(run.output[run.output.index("[\n") :])
        return [row["avg_ts"] for row in rows], run.peak

    def first_token(self, file: Path, threads: int) -> float:
        """See Gemlet.first_token."""
        return self._bench(file, ["-p", FIRST_PROMPT, "-n", 0, "-t", threads, "--no-warmup"]).seconds

    def _bench(self, file: Path, options: list[Any]) -> Run:
        return _run([self.program, "-m", file, "-o", "json", "-r", "1", *map(str, options)])


@dataclass(frozen=True)
class LiteRtLm:
    """LiteRT-LM's own benchmark, which knows no depth."""

    program: Path = Path("litert-lm")

    def speeds(self, file: Path, prompt: int, generate: int, depth: int, threads: int) -> tuple[list[float], float]:
        """See Gemlet.speeds; nothing is measured at a depth."""
        if depth:
            return [], 0.0
        run = self._bench(file, prompt, generate, threads)
        speeds = [float(x) for x in re.findall(r"(?:Prefill|Decode) speed: +([\d.]+) tokens/s", run.output)]
        if len(speeds) != 2:
            raise RuntimeFailedError(f"{self.program}: expected two speeds, found {run.output[-2000:]}")
        return speeds, run.peak

    def first_token(self, file: Path, threads: int) -> float:
        """See Gemlet.first_token."""
        return self._bench(file, FIRST_PROMPT, 1, threads, "--skip-warmup").seconds

    def _bench(self, file: Path, prompt: int, generate: int, threads: int, *more: str) -> Run:
        tests = ["-p", prompt, "-d", generate, "--cpu-thread-count", threads, "--backend", "cpu", *more]
        return _run([self.program, "benchmark", file, *map(str, tests)])


Runtime = Gemlet | LlamaCpp | LiteRtLm
OTHERS: dict[str, type[LlamaCpp] | type[LiteRtLm]] = {"llama.cpp": LlamaCpp, "litert-lm": LiteRtLm}
EXPORTED = "exported"
"""In place of another runtime: folders that gemlet exported, which gemlet runs."""


@dataclass
class Contender:
    """One program on one file, with its measurements for each of `METRICS`."""

    name: str
    runtime: Runtime
    file: Path
    samples: dict[str, list[float]] = field(default_factory=lambda: {metric: [] for metric in METRICS})

    def medians(self) -> dict[str, float]:
        """Median of each metric that was measured."""
        return {metric: median(values) for metric, values in self.samples.items() if values}

    def measure(self, settings: Settings, deep: bool) -> None:
        """One round; the deep decode only if asked, as it takes long."""
        for part in _parts(self.file):
            evict(part)
        self.samples["cold"].append(self.runtime.first_token(self.file, settings.threads))
        self.samples["warm"].append(self.runtime.first_token(self.file, settings.threads))
        speeds, peak = self.runtime.speeds(self.file, settings.prompt, settings.generate, 0, settings.threads)
        self.samples["prefill"].append(speeds[0])
        self.samples["decode"].append(speeds[1])
        self.samples["peak"].append(peak)
        if deep:
            speeds, _ = self.runtime.speeds(self.file, 0, settings.generate, settings.depth, settings.threads)
            self.samples["deep"] += speeds


def contenders(model: Path, other: str, files: Sequence[Path], programs: Path | None) -> list[Contender]:
    """Gemlet on its file and the other runtime on each of its own; by default on the same.

    Raises:
        ArgumentError: an unknown runtime, or one that cannot read the model's file.
    """
    mine = Contender(f"gemlet, {model.name}", Gemlet(), model)
    if other == EXPORTED:
        if not files:
            raise ArgumentError("--compare exported: expected --other-file with a folder of gemlet export")
        return [mine, *(Contender(_describe(folder), Gemlet(), folder) for folder in files)]
    if other not in OTHERS:
        raise ArgumentError(f"--compare: expected {', '.join(OTHERS)} or {EXPORTED}, found {other}")
    if other == "litert-lm" and not files:
        raise ArgumentError("--compare litert-lm: expected --other-file, as it reads no GGUF")
    runtime = OTHERS[other]()
    if programs is not None:
        runtime = OTHERS[other](programs / runtime.program)
    others = [Contender(f"{other}, {file.name}", runtime, file) for file in files or [model]]
    return [mine, *others]


def _describe(folder: Path) -> str:
    from gemlet.exported.manifest import Manifest

    manifest = Manifest.read(folder)
    return f"{manifest.format} {manifest.quant}, {folder.name}"


def _parts(file: Path) -> list[Path]:
    """A file, or those of a folder."""
    return [part for part in file.iterdir() if part.stat().st_size] if file.is_dir() else [file]


def run(
    found: Sequence[Contender], settings: Settings, rounds: int, said: Callable[[str], object] = lambda text: None
) -> None:
    """Measure every contender once a round; the deep decode in the first three rounds only."""
    for turn in range(rounds):
        for contender in found:
            contender.measure(settings, deep=settings.depth > 0 and turn < 3)
            figures = ", ".join(f"{metric} {values[-1]:.2f}" for metric, values in contender.samples.items() if values)
            said(f"round {turn + 1} of {rounds}: {contender.name}: {figures}")


def ratios(contender: Contender, base: Contender) -> dict[str, float]:
    """How many times the base contender's medians these are."""
    mine, theirs = contender.medians(), base.medians()
    return {metric: mine[metric] / theirs[metric] for metric in METRICS if metric in mine and metric in theirs}


def resident_share(file: Path) -> float:
    """The part of the file that lies in the page cache."""
    import numpy as np

    with file.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as view:
        data = np.frombuffer(view, np.uint8)
        pages = np.empty(-(-data.size // mmap.PAGESIZE), np.uint8)
        address, size, out = (ctypes.c_size_t(value) for value in (data.ctypes.data, data.size, pages.ctypes.data))
        failed = ctypes.CDLL(None, use_errno=True).mincore(address, size, out)
        del data
    if failed:
        raise OSError(ctypes.get_errno(), f"mincore of {file}")
    return float((pages & 1).mean())


def evict(file: Path) -> None:
    """Take the file out of the page cache."""
    with file.open("rb") as handle:
        os.fsync(handle.fileno())
        os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if (left := resident_share(file)) > 0.02:
        raise RuntimeFailedError(f"{file}: {left:.0%} stays in the page cache; does another process map it?")


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.machine()


def record(found: Sequence[Contender], settings: Settings) -> dict[str, Any]:
    """Everything, for JSON."""
    return {
        "machine": f"{_processor()}, {settings.threads} threads",
        "settings": vars(settings),
        "contenders": [
            {
                "name": contender.name,
                "file_bytes": sum(part.stat().st_size for part in _parts(contender.file)),
                "medians": contender.medians(),
                "gemlet_over_it": ratios(found[0], contender),
                "samples": contender.samples,
            }
            for contender in found
        ],
    }


def plot(found: Sequence[Contender], title: str, out: Path) -> None:
    """Bars beside each other, one picture for each metric; needs matplotlib."""
    from matplotlib.figure import Figure

    shown = [metric for metric in METRICS if all(metric in contender.medians() for contender in found)]
    figure = Figure(figsize=(3 * len(shown), 1.2 + 0.5 * len(found)))
    axes = figure.subplots(1, len(shown), sharey=True, squeeze=False)
    names = [contender.name for contender in found]
    for axis, metric in zip(axes[0], shown, strict=True):
        values = [contender.medians()[metric] for contender in found]
        colours = ["#2f6f4f", *["#9aa5ad"] * (len(found) - 1)]
        axis.bar_label(axis.barh(names, values, color=colours), fmt="%.2f", padding=3)
        axis.set_title(METRICS[metric], fontsize=10)
        axis.set_xlim(0, max(values) * 1.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0, 0].invert_yaxis()
    figure.suptitle(title, fontsize=10)
    picture.save(figure, out)
