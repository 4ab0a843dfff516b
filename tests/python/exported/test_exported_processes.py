"""The runtimes of exported models in forked children and in several threads."""

from __future__ import annotations

from pathlib import Path

import gemlet
import pytest
from gemlet.conversion import convert
from gemlet.exporters import export

from scripts import FORK, run_script
from tiny import Tiny, write_checkpoint

BLOCKS = Tiny(hidden=64, heads=2, head_dim=16, ffn=(128,), ple=32, laurel=32, vocab=320, ple_vocab=300)
HEAD = (
    FORK
    + """
import asyncio, threading
import gemlet
model = gemlet.load(sys.argv[1], threads=2)
"""
)


@pytest.fixture(scope="module", params=["onnx", "tflite"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp(request.param)
    source = convert(write_checkpoint(made / "checkpoint", BLOCKS), made / "tiny.gguf", "f32").path
    return export(source, made / "out", request.param, "fp32", context=64, prefill=(8,)).path


def check(code: str, *args: object) -> None:
    ended = run_script(HEAD + code, *args)
    assert ended.status == 0 and ended.output == "", ended.output


def test_a_child_computes_what_its_parent_does(folder: Path) -> None:
    check(
        """
def ask():
    return model.generate([2, 9, 8], max_tokens=5, seed=1).tokens
def ask_later():
    return asyncio.run(model.agenerate([2, 9, 8], max_tokens=5, seed=1)).tokens
expected = ask()
assert ask_later() == expected
session = model.session()
session.prefill([2, 9, 8])
after = session.fork().prefill([7]).tolist()
def child():
    assert session.fork().prefill([7]).tolist() == after
    assert ask() == ask_later() == expected
    assert session.prefill([7]).tolist() == after
def with_child():
    child()
    session.rewind(3)
    in_child(child)
in_child(with_child)
child()
""",
        folder,
    )


def test_children_that_are_forked_while_threads_compute(folder: Path) -> None:
    check(
        """
stop = threading.Event()
expected = model.generate([2, 9, 8], max_tokens=5, seed=1).tokens
def work():
    while not stop.is_set():
        assert model.generate([2, 9, 8], max_tokens=5, seed=1).tokens == expected
threads = [threading.Thread(target=work) for _ in range(2)]
for thread in threads:
    thread.start()
def child():
    assert model.generate([2, 9, 8], max_tokens=5, seed=1).tokens == expected
try:
    for _ in range(5):
        in_child(child)
finally:
    stop.set()
    for thread in threads:
        thread.join()
""",
        folder,
    )


def test_a_child_ends_as_any_program(folder: Path) -> None:
    check(
        """
stream = model.stream([2, 9], max_tokens=50)
next(stream)
model.scheduler().submit([2, 9], max_tokens=50).result()
for use in (False, True):
    pid = os.fork()
    if pid == 0:
        if use:
            model.generate([2, 9], max_tokens=2)
        sys.exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
""",
        folder,
    )


def test_submit_after_close(folder: Path) -> None:
    model = gemlet.load(folder)
    scheduler = model.scheduler()
    assert scheduler.submit([2, 9], max_tokens=3).result(60)
    scheduler.close()
    with pytest.raises(gemlet.ArgumentError, match="the scheduler was stopped"):
        scheduler.submit([2, 9])


def test_the_error_stream_comes_back_after_models_load_in_several_threads() -> None:
    """Also when loading fails, when another thread is still loading at a fork, and when the stream is closed."""
    ended = run_script(
        FORK
        + """
import threading
from gemlet.exported.tflite import _silence

def enter(entered, leave):
    with _silence:
        entered.set()
        leave.wait()
        os.write(2, b"lost\\n")

def overlap():
    entered, leave = ([threading.Event() for _ in range(2)] for _ in range(2))
    threads = [threading.Thread(target=enter, args=[entered[i], leave[i]]) for i in range(2)]
    for i in range(2):
        threads[i].start()
        entered[i].wait()
    for i in range(2):  # the first one to come is the first one to go
        leave[i].set()
        threads[i].join()
overlap()
os.write(2, b"seen 1\\n")
try:
    with _silence:
        raise LookupError
except LookupError:
    os.write(2, b"seen 2\\n")
entered, leave = threading.Event(), threading.Event()
thread = threading.Thread(target=enter, args=[entered, leave])
thread.start()
entered.wait()
def child():
    os.write(2, b"seen 3\\n")
    overlap()
    os.write(2, b"seen 4\\n")
in_child(child)
leave.set()
thread.join()
os.write(2, b"seen 5\\n")
kept = os.dup(2)
os.close(2)
with _silence:
    pass
os.dup2(kept, 2)
os.write(2, b"seen 6\\n")
"""
    )
    assert ended.status == 0
    assert ended.output == "".join(f"seen {i}\n" for i in range(1, 7)), ended.output
