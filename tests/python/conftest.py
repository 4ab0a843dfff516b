"""Models that the tests share. The tiny ones answer nonsense, but always the same nonsense."""

import os
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import gemlet
import pytest
from gemlet.chat import sandbox
from gemlet.conversion import convert
from gemlet.exported.manifest import TOKENIZER, Manifest
from gemlet.exporters.source import Source

from tiny import Tiny, write_checkpoint
from tiny_encoders import seeing_model

Cli = Callable[..., "subprocess.CompletedProcess[str]"]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts background jobs so, and the programs under test would inherit it: Ctrl-C is to be tested.
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup starts commands so


def write_export(folder: Path, model: gemlet.Model) -> Path:
    """An exported folder whose manifest is true, but whose weights are none."""
    header = Source(model.path).header(0)
    (folder / TOKENIZER).write_bytes(header + bytes(-len(header) % 32))
    (folder / "model.onnx").write_bytes(b"nothing")
    (folder / "model.onnx.data").write_bytes(b"no weights")
    Manifest.of_folder(folder, "onnx", "fp32", model.context, model.info).write(folder)
    return folder


@pytest.fixture
def peaks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The most memory, in KB, that each process had which rendered templates and was ended."""
    peaks: list[int] = []
    end = sandbox._Process.end

    def record(process: sandbox._Process) -> None:
        status = Path(f"/proc/{process.pid}/status").read_text()
        peaks.extend(int(kilobytes) for kilobytes in re.findall(r"VmHWM:\s+(\d+)", status))
        end(process)

    monkeypatch.setattr(sandbox._Process, "end", record)
    return peaks


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What tests pack is not kept for the user; set for the processes that they start, too."""
    os.environ["GEMLET_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random model in float32 that holds 512 tokens."""
    folder = tmp_path_factory.mktemp("tiny")
    return convert(write_checkpoint(folder / "checkpoint", Tiny()), folder / "tiny.gguf", "f32").path


@pytest.fixture(scope="session")
def long_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that holds so many tokens that a prompt takes seconds: for stopping it."""
    folder = tmp_path_factory.mktemp("long")
    config = {"max_position_embeddings": 32768}
    checkpoint = write_checkpoint(folder / "checkpoint", Tiny(layers="FFFF", sparsity=(0.0,)), config=config)
    return convert(checkpoint, folder / "long.gguf", "f32").path


@pytest.fixture(scope="session")
def other_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As the first, with other weights."""
    folder = tmp_path_factory.mktemp("other")
    return convert(write_checkpoint(folder / "checkpoint", Tiny(seed=1)), folder / "other.gguf", "f32").path


@pytest.fixture(scope="session")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tiny model whose vocabulary has the marks of pictures and sounds, and its encoders, in a file each."""
    return seeing_model(tmp_path_factory.mktemp("seeing"))


@pytest.fixture(scope="session")
def model(tiny_gguf: Path) -> gemlet.Model:
    return gemlet.load(tiny_gguf, threads=2)


@pytest.fixture(scope="session")
def long_model(long_gguf: Path) -> gemlet.Model:
    return gemlet.load(long_gguf, threads=1, context=32768)


@pytest.fixture(scope="session")
def nano_gguf() -> Path:
    """The sample model, which a fresh checkout has and a tree in which it is being rebuilt may not have."""
    path = Path(gemlet.__file__).parent / "models" / "nano.gguf"
    if not path.exists():
        pytest.skip("the sample model has not been built")
    return path


@pytest.fixture
def cli() -> Cli:
    """Runs `gemlet` with arguments; keywords go to subprocess.run."""

    def run(*args: object, **settings: object) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "gemlet", *map(str, args)]
        options: dict[str, object] = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "timeout": 120}
        if "input" in settings:
            del options["stdin"]
        return subprocess.run(command, env=cli_environment(), check=False, **(options | settings))  # type: ignore[call-overload, no-any-return]

    return run


def make_device(path: Path) -> None:
    """A device node like /dev/null, where that is allowed; a socket otherwise, which is no regular file either. Root
    could replace the system's own nodes, should what is tested have that fault."""
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(path))


def cli_environment() -> dict[str, str]:
    """Finds the package that these tests import, and prints without colours."""
    return os.environ | {"PYTHONPATH": str(Path(gemlet.__file__).parents[1]), "NO_COLOR": "1", "COLUMNS": "100"}
