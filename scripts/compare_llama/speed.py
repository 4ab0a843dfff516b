#!/usr/bin/env python3
"""Prefill, decode, peak memory and time to the first token of gemlet and llama.cpp, side by side in one run.

    scripts/compare_llama/speed.py e2b-q4_0.gguf --from-f16 e2b-f16.gguf --json speed.json --plot speed.png

Every measurement is a process of its own. The programs take turns, so that a slow minute of the machine hits all of
them, and the medians are reported. With --from-f16, llama.cpp also runs the Q4_0 that its own llama-quantize makes.

- prefill, decode: tokens/s as `gemlet bench` and `llama-bench` report them, each test from an empty context
- peak memory: largest resident set of that process, mapped pages of the file included; with a full context: of a
  process that reads --context tokens less 16 and decodes the rest (once, not --runs times)
- first token: from the start of a process until it has loaded the file, read a prompt of 16 tokens and exited;
  cold with the file evicted from the page cache, warm with it there. gemlet's includes starting Python
"""

from __future__ import annotations

import argparse
import ctypes
import json
import mmap
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import llama_tools
import numpy as np

FIRST_TOKEN = """
import sys, gemlet
model = gemlet.load(sys.argv[1], threads=int(sys.argv[2]))
model.generate([model.bos] + [5] * 15, max_tokens=1, temperature=0.0)
"""
METRICS = {
    "prefill": "prefill, tokens/s",
    "decode": "decode, tokens/s",
    "peak": "peak memory, GB",
    "full": "with a full context, GB",
    "cold": "first token, cold, s",
    "warm": "first token, warm, s",
}


@dataclass(frozen=True)
class Settings:
    prompt: int
    generate: int
    threads: int
    context: int
    llama: Path


@dataclass
class Contender:
    """One program on one file, with a list of measurements for each of `METRICS`."""

    name: str
    file: Path
    is_gemlet: bool
    samples: dict[str, list[float]] = field(default_factory=lambda: {metric: [] for metric in METRICS})

    def medians(self) -> dict[str, float]:
        return {metric: median(values) for metric, values in self.samples.items() if values}


def measured(command: list[str | Path]) -> tuple[str, float, float]:
    """Standard output, seconds and peak resident gigabytes of one process."""
    start = time.perf_counter()
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    output = process.stdout.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise llama_tools.ToolError(f"{' '.join(map(str, command))}: exit code {process.returncode}")
    return output, seconds, usage.ru_maxrss * 1024 / 1e9


def resident_fraction(file: Path) -> float:
    """The part of the file that lies in the page cache."""
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
    with file.open("rb") as handle:
        os.fsync(handle.fileno())
        os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if (left := resident_fraction(file)) > 0.02:
        raise llama_tools.ToolError(f"{file}: {left:.0%} stays in the page cache; does another process map it?")


def bench(contender: Contender, settings: Settings, prompt: int, generate: int, depth: int = 0) -> tuple[str, float]:
    """The program's own benchmark, once after warming up: what it printed as JSON, and its peak memory in GB."""
    command: list[str | Path]
    if contender.is_gemlet:
        command = [sys.executable, "-m", "gemlet", "bench", contender.file, "--json"]
    else:
        command = [settings.llama / "llama-bench", "-m", contender.file, "-o", "json"]
    tests = {"-p": prompt, "-n": generate, "-d": depth, "-t": settings.threads, "-r": 1}
    output, _, peak = measured([*command, *(str(word) for pair in tests.items() for word in pair)])
    return output, peak


def speeds(contender: Contender, settings: Settings) -> None:
    output, peak = bench(contender, settings, settings.prompt, settings.generate)
    for test in json.loads(output):
        if contender.is_gemlet:
            is_prefill, speed = test["test"].startswith("pp"), test["mean"]
        else:
            is_prefill, speed = test["n_prompt"] > 0, test["avg_ts"]
        contender.samples["prefill" if is_prefill else "decode"].append(speed)
    contender.samples["peak"].append(peak)


def first_token(contender: Contender, settings: Settings, cold: bool) -> None:
    if cold:
        evict(contender.file)
    command: list[str | Path]
    if contender.is_gemlet:
        command = [sys.executable, "-c", FIRST_TOKEN, contender.file, str(settings.threads)]
    else:
        command = [settings.llama / "llama-bench", "-m", contender.file, "-p", "16", "-n", "0", "-r", "1"]
        command += ["--no-warmup", "-t", str(settings.threads)]
    contender.samples["cold" if cold else "warm"].append(measured(command)[1])


def contenders(arguments: argparse.Namespace, llama: Path) -> list[Contender]:
    found = [
        Contender(f"gemlet, {arguments.model.name}", arguments.model, True),
        Contender(f"llama.cpp, {arguments.model.name}", arguments.model, False),
    ]
    if arguments.from_f16:
        own = arguments.from_f16.with_name(f"{arguments.from_f16.stem}-llama-q4_0.gguf")
        if not own.exists():
            llama_tools.run([llama / "llama-quantize", arguments.from_f16, own, "Q4_0"])
        found.append(Contender("llama.cpp, its own Q4_0", own, False))
    return found


def table(found: list[Contender]) -> str:
    lines = ["| | " + " | ".join(METRICS.values()) + " |", "|---" * (len(METRICS) + 1) + "|"]
    for contender in found:
        medians = contender.medians()
        cells = [f"{medians[metric]:.2f}" for metric in METRICS]
        lines.append(f"| {contender.name} ({contender.file.stat().st_size / 1e9:.2f} GB) | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(found: list[Contender], title: str, out: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(METRICS), figsize=(3 * len(METRICS), 1.2 + 0.5 * len(found)), sharey=True)
    names = [contender.name for contender in found]
    for axis, (metric, label) in zip(axes, METRICS.items(), strict=True):
        values = [contender.medians()[metric] for contender in found]
        colours = ["#2f6f4f" if contender.is_gemlet else "#9aa5ad" for contender in found]
        axis.bar_label(axis.barh(names, values, color=colours), fmt="%.2f", padding=3)
        axis.set_title(label, fontsize=10)
        axis.set_xlim(0, max(values) * 1.3)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(axis="x", labelsize=8)
    axes[0].invert_yaxis()
    figure.suptitle(title, fontsize=10)
    figure.tight_layout()
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=130)


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="GGUF file that both programs run")
    parser.add_argument("--from-f16", type=Path, help="F16 or BF16 GGUF, for llama.cpp's own Q4_0")
    parser.add_argument("--prompt", type=int, default=512, help="tokens of prefill (default: %(default)s)")
    parser.add_argument("--generate", type=int, default=128, help="tokens of decode (default: %(default)s)")
    parser.add_argument("--context", type=int, default=2048, help="tokens of the full context (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5, help="of each measurement (default: %(default)s)")
    parser.add_argument("--llama-bin", type=Path, help="folder of llama.cpp's tools (default: build them)")
    parser.add_argument("--build", type=Path, default=Path("build/llama.cpp"), help="where to build them")
    parser.add_argument("--json", type=Path, help="also write every figure here")
    parser.add_argument("--plot", type=Path, help="also draw the medians into this PNG file")
    arguments = parser.parse_args()

    llama = llama_tools.tools(arguments.llama_bin, arguments.build)
    settings = Settings(arguments.prompt, arguments.generate, arguments.threads, arguments.context, llama)
    found = contenders(arguments, llama)
    load = os.getloadavg()[0]
    if load > 0.5:
        print(f"the machine is busy (load {load:.1f}): these figures will mean little", file=sys.stderr)
    for turn in range(arguments.runs):
        for contender in found:
            first_token(contender, settings, cold=True)
            first_token(contender, settings, cold=False)
            speeds(contender, settings)
            if turn == 0:
                contender.samples["full"].append(bench(contender, settings, 0, 16, settings.context - 16)[1])
            figures = ", ".join(f"{metric} {values[-1]:.2f}" for metric, values in contender.samples.items())
            print(f"run {turn + 1}/{arguments.runs}  {contender.name}: {figures}", file=sys.stderr, flush=True)
    print(table(found))

    title = f"{processor()}, {settings.threads} threads, median of {arguments.runs} runs"
    if arguments.plot:
        plot(found, title, arguments.plot)
    if arguments.json:
        report = {
            "command": " ".join(["scripts/compare_llama/speed.py", *(Path(a).name for a in sys.argv[1:])]),
            "machine": title,
            "load_before": load,
            "llama_cpp": llama_tools.version(llama),
            "contenders": [
                {"name": c.name, "file_gb": c.file.stat().st_size / 1e9, "medians": c.medians(), "samples": c.samples}
                for c in found
            ],
        }
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
