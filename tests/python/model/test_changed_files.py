"""Files that are truncated or overwritten while a model or a session maps them: an error that names the file, where the
system would end the process."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import gemlet
import pytest
from gemlet.scoring import perplexity

from conftest import cli_environment

PROMPT = "the cat in"
LEFT = 1000000  # behind the one table whose rows are copied from the file: the others are read in place


@pytest.fixture
def copy(nano_gguf: Path, tmp_path: Path) -> Path:
    path = tmp_path / "copy.gguf"
    path.write_bytes(nano_gguf.read_bytes())
    return path


def truncated(path: Path, left: int = LEFT) -> str:
    """The message of the error, and the deed."""
    size = path.stat().st_size
    os.truncate(path, left)
    return rf"{re.escape(str(path))}: ends before byte {left}, expected {size} bytes as when it was opened"


def ways_to_compute(model: gemlet.Model) -> dict[str, Callable[[], object]]:
    chat, session, scheduler = model.chat(), model.session(), model.scheduler()
    session.prefill([2, 9, 8])
    return {
        "generate": lambda: model.generate(PROMPT, max_tokens=5),
        "generate_batch": lambda: model.generate_batch([PROMPT, PROMPT], max_tokens=5),
        "stream": lambda: list(model.stream(PROMPT, max_tokens=5)),
        "chat": lambda: chat.send(PROMPT, max_tokens=5),
        "prefill": lambda: session.prefill([3]),
        "step": lambda: session.step(3),
        "step_batch": lambda: gemlet.session.step_batch([session], [3]),
        "scheduler": lambda: scheduler.submit([2, 9, 8], max_tokens=5).result(60),
        "perplexity": lambda: perplexity(model, "The cat sat on the mat, and it was late. " * 3),
    }


def test_every_call_on_a_truncated_model_names_the_file(copy: Path, nano_gguf: Path) -> None:
    model, other = gemlet.load(copy), gemlet.load(nano_gguf)
    expected = other.generate(PROMPT, max_tokens=8, seed=1).text
    ways = ways_to_compute(model)
    message = truncated(copy)
    for _ in range(2):
        for compute in ways.values():
            with pytest.raises(gemlet.FileError, match=message):
                compute()
    with pytest.raises(gemlet.FormatError, match=re.escape(str(copy))):
        gemlet.load(copy)
    assert other.generate(PROMPT, max_tokens=8, seed=1).text == expected


def test_a_model_that_is_truncated_between_pieces_ends_the_stream(copy: Path) -> None:
    stream = gemlet.load(copy).stream(PROMPT, max_tokens=200, logit_bias=dict.fromkeys((1, 5), -100.0))
    next(stream)
    with pytest.raises(gemlet.FileError, match=truncated(copy)):
        list(stream)


def test_a_model_that_was_overwritten_is_blamed(copy: Path) -> None:
    model = gemlet.load(copy)
    status = copy.stat()
    with copy.open("r+b") as file:
        file.seek(LEFT)
        file.write(b"\xff" * (status.st_size - LEFT))
    os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    with pytest.raises(gemlet.FileError, match=rf"{re.escape(str(copy))}: was written to at .* expected"):
        model.generate(PROMPT, max_tokens=5)


def test_a_model_that_is_replaced_by_renaming_goes_on(copy: Path, tmp_path: Path) -> None:
    model = gemlet.load(copy)
    expected = model.generate(PROMPT, max_tokens=8, seed=1).text
    (tmp_path / "new").write_bytes(b"another file")
    (tmp_path / "new").replace(copy)
    assert model.generate(PROMPT, max_tokens=8, seed=1).text == expected


def test_a_session_file_that_is_truncated_fails_its_session_alone(nano_gguf: Path, tmp_path: Path) -> None:
    model = gemlet.load(nano_gguf)
    session, path = model.session(), tmp_path / "saved"
    tokens = model.tokenize(PROMPT * 20, bos=True)
    session.prefill(tokens)
    session.save(path)
    restored = model.restore(path)
    message = truncated(path, 5000)
    for _ in range(2):
        with pytest.raises(gemlet.FileError, match=message):
            restored.prefill([3])
        with pytest.raises(gemlet.FileError, match=message):
            restored.generate([*tokens, 3], max_tokens=5)
    assert session.generate([*tokens, 3], max_tokens=5).stats.reused_tokens == len(tokens)


def test_a_restored_session_reuses_what_the_saved_one_would(nano_gguf: Path, tmp_path: Path) -> None:
    model = gemlet.load(nano_gguf)
    session, path = model.session(), tmp_path / "saved"
    tokens = (model.tokenize(PROMPT * 200, bos=True))[:541]
    session.prefill(tokens)
    session.save(path)
    for prompt in (tokens, [*tokens, 3], [*tokens[:-1], 3], tokens[:-1]):
        live = session.fork().generate(prompt, max_tokens=2, seed=1)
        restored = model.restore(path).generate(prompt, max_tokens=2, seed=1)
        assert restored.stats.reused_tokens == live.stats.reused_tokens >= 539
        assert restored.tokens == live.tokens


SCRIPT = """
import faulthandler, os, sys
import gemlet
when, path, left = sys.argv[1:]
if when == "before": faulthandler.enable()
model = gemlet.load(path, threads=1 if when == "fork" else 2)
session = model.session()
session.prefill([2, 9, 8])
if when == "after": faulthandler.enable()
os.truncate(path, int(left))
if when == "fork" and (child := os.fork()):
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
try:
    session.step(3)  # looks for missing pages alone
except gemlet.FileError as error:
    print(error, flush=True)
    os._exit(0)
"""


@pytest.mark.parametrize("when", ["never", "before", "after", "fork"])
def test_other_handlers_and_forks(when: str, copy: Path) -> None:
    """A faulthandler that is enabled later writes its traceback first, and passes the fault on."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, when, str(copy), str(LEFT)],
        capture_output=True,
        text=True,
        env=cli_environment(),
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{copy}: ends before byte {LEFT}, expected")
    assert ("Bus error" in done.stderr) == (when == "after")


def test_faulthandler_tells_of_the_faults_of_others(copy: Path) -> None:
    code = (
        "import faulthandler, gemlet, mmap, os, sys\n"
        "faulthandler.enable()\n"
        "model = gemlet.load(sys.argv[1])\n"
        "with open(sys.argv[1], 'rb') as file:\n"
        "    view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)\n"
        "os.truncate(sys.argv[1], 1000000)\n"
        "view[2000000]\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(copy)], capture_output=True, text=True, env=cli_environment()
    )
    assert done.returncode == -7
    assert "Fatal Python error: Bus error" in done.stderr
