"""llama.cpp's own tools, built for this machine from the source distribution of llama-cpp-python."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
from pathlib import Path

SOURCE = "llama-cpp-python==0.3.36"
TOOLS = ("llama-bench", "llama-perplexity", "llama-quantize", "llama-tokenize")


class ToolError(RuntimeError):
    """A command that failed, with the end of what it printed."""


def run(command: list[str | Path], folder: Path | None = None) -> str:
    """Standard output and error of the command, together. Raises ToolError when it exits with a failure."""
    arguments = [str(part) for part in command]
    done = subprocess.run(arguments, check=False, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    output = done.stdout.decode("utf-8", errors="replace")
    if done.returncode != 0:
        raise ToolError(f"{' '.join(arguments)}: exit code {done.returncode}\n{output[-2000:]}")
    return output


def tools(folder: Path | None, build: Path) -> Path:
    """The folder that holds `TOOLS`: `folder` if given, else built under `build` (about 15 minutes on two cores)."""
    if folder is None:
        folder = build / "bin"
        if not all((folder / tool).exists() for tool in TOOLS):
            build_tools(build)
    missing = [tool for tool in TOOLS if not (folder / tool).exists()]
    if missing:
        raise ToolError(f"{folder}: no {', '.join(missing)}")
    return folder


def build_tools(build: Path) -> None:
    build.mkdir(parents=True, exist_ok=True)
    print(f"building llama.cpp from {SOURCE} in {build}; about 15 minutes on two cores", flush=True)
    pip: list[str | Path] = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input"]
    run([*pip, "--no-binary", SOURCE.split("==")[0], "--dest", build, SOURCE])
    archive = next(build.glob("llama_cpp_python-*.tar.gz"))
    with tarfile.open(archive) as tar:
        tar.extractall(build, filter="data")
    source = build / archive.name.removesuffix(".tar.gz") / "vendor" / "llama.cpp"
    options = ["CMAKE_BUILD_TYPE=Release", "GGML_NATIVE=ON", "LLAMA_OPENSSL=OFF", "LLAMA_CURL=OFF"]
    options += [f"LLAMA_BUILD_{part}=OFF" for part in ("TESTS", "EXAMPLES", "SERVER", "UI", "MTMD")]
    run(["cmake", "-S", source, "-B", build, *(f"-D{option}" for option in options)])
    run(["cmake", "--build", build, "--parallel", "--target", *TOOLS])


def version(folder: Path) -> str:
    """Version and commit as the tools print them."""
    line = next(line for line in run([folder / "llama-bench", "--version"]).splitlines() if "version" in line)
    return f"{line.split(':', 1)[1].strip()}, {SOURCE}"


def perplexity(
    folder: Path, model: Path, text: Path, *, window: int, threads: int, flash_attention: str = "auto"
) -> tuple[float, float]:
    """Perplexity and llama.cpp's standard error of it. flash_attention: auto, on or off."""
    command: list[str | Path] = [folder / "llama-perplexity", "-m", model, "-f", text, "--no-escape"]
    command += ["-t", str(threads), "-c", str(window), "-b", "512", "-fa", flash_attention]
    output = run(command)
    found = re.search(r"Final estimate: PPL = ([\d.]+) \+/- ([\d.]+)", output)
    if found is None:
        raise ToolError(f"{model}: llama-perplexity printed no estimate\n{output[-2000:]}")
    return float(found[1]), float(found[2])
