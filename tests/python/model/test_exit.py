"""Programs that end, or are interrupted by signals, while something is being computed."""

from pathlib import Path

import pytest

from scripts import FORK, run_script

HEAD = (
    FORK
    + """
import asyncio, os, signal, sys, threading
import gemlet
from gemlet import _core
model = gemlet.load(sys.argv[1], threads=2, context=32768)
NO_END = {"logit_bias": {1: -100.0, 5: -100.0}}
ENDLESS = dict(max_tokens=None, **NO_END)
LONG = [270] * 30000
begun = threading.Event()

def daemon(body):
    def run():
        begun.set()
        while True:
            body()
    threading.Thread(target=run, daemon=True).start()
    begun.wait()

class Cache:
    length = nbytes = 0
    def truncate(self, length):
        self.length = length
    def copy(self):
        made = Cache()
        made.length = self.length
        return made

class Runner:
    "A runtime in Python, as those of exported models."
    runtime, threads, context = "none", 1, 4096
    def empty(self):
        return Cache()
    def run(self, cache, tokens, want):
        import numpy as np
        begun.set()
        cache.length += len(tokens)
        return np.zeros((len(tokens) if want == "all" else 1, model.info.vocabulary), np.float32)

def exported():
    info = model._engine.info() | {"layers": 1, "layer_info": [], "tensors": [], "trained_context": 4096}
    engine = _core.engine_of_runner(sys.argv[1], Runner(), info, context=4096, chunk=8)
    return gemlet.Model(engine, model.path)

def at_signal(handle):
    signal.signal(signal.SIGUSR1, lambda number, frame: handle())

def interrupt(reading):
    "Send the signal once the main thread reads."
    def send():
        reading.wait()
        os.kill(os.getpid(), signal.SIGUSR1)
    threading.Thread(target=send).start()
"""
)


def check(code: str, *args: object) -> None:
    ended = run_script(HEAD + code, *args)
    assert ended.status == 0 and ended.output == "", ended.output


COMPUTING = {
    "generate": "daemon(lambda: model.generate([2, 9], max_tokens=4))",
    "stream": "daemon(lambda: list(model.stream([2, 9], **ENDLESS)))",
    "long prompt": "daemon(lambda: model.session().prefill(LONG))",
    "batch": "daemon(lambda: model.generate_batch([[2, 9], [3]], max_tokens=4))",
    "many threads": "for _ in range(4): daemon(lambda: model.generate([2, 9], max_tokens=4))",
    "awaited": "daemon(lambda: asyncio.run(model.agenerate([2, 9], **ENDLESS)))",
    "requests": """
scheduler = model.scheduler()
futures = [scheduler.submit([2, 9], on_text=lambda text: begun.set(), **ENDLESS) for _ in range(40)]
begun.wait()
""",
    "unread streams": """
streams = [model.stream([2, 9], **ENDLESS), model.scheduler().stream([2, 9], **ENDLESS), model.chat().stream("a")]
for stream in streams:
    next(stream)
""",
    "exported": "other = exported(); begun.clear(); daemon(lambda: other.generate([2, 9], max_tokens=40, **NO_END))",
    "exported, unread": "stream = exported().stream([2, 9], **ENDLESS); next(stream)",
    "exported, requests": """
scheduler = exported().scheduler()
begun.clear()
future = scheduler.submit([2, 9], **ENDLESS)
begun.wait()
""",
    "tokenizing": "daemon(lambda: model.tokenize('the cat ' * 2000))",
    "a template": "daemon(lambda: model.chat(template='{{ messages[0].content }}').send('a', max_tokens=1))",
}


@pytest.mark.parametrize("work", COMPUTING)
@pytest.mark.parametrize("end", ["", "sys.exit(0)"])
def test_the_program_ends_while_daemon_threads_compute(long_gguf: Path, work: str, end: str) -> None:
    check(f"{COMPUTING[work]}\n{end}", long_gguf)


def test_it_ends_again_and_again(tiny_gguf: Path) -> None:
    """The moment differs from time to time."""
    code = FORK + (
        "import threading, gemlet\nmodel = gemlet.load(sys.argv[1], threads=1)\n"
        "begun = threading.Event()\n"
        "def work():\n    while True:\n        model.generate('a', max_tokens=3)\n        begun.set()\n"
        "for _ in range(3): threading.Thread(target=work, daemon=True).start()\nbegun.wait()\n"
    )
    for _ in range(10):
        ended = run_script(code, tiny_gguf)
        assert ended.status == 0 and ended.output == "", ended.output


@pytest.mark.parametrize("make", ["model.stream(LONG, max_tokens=1)", "model.scheduler().stream(LONG, max_tokens=1)"])
@pytest.mark.parametrize("action", ["close", "cancel"])
def test_a_signal_handler_closes_the_stream_that_it_interrupts(long_gguf: Path, make: str, action: str) -> None:
    check(
        f"""
stream = {make}
at_signal(stream.{action})
interrupt(begun)
begun.set()
assert list(stream) == []
assert stream.result is None or stream.result.finish_reason == "cancelled"
stream.close()
assert model.generate([2, 9], max_tokens=3, **NO_END).tokens
""",
        long_gguf,
    )


def test_a_signal_handler_that_closes_a_scheduler_ends_what_is_awaited(long_gguf: Path) -> None:
    check(
        """
scheduler = model.scheduler()
future = scheduler.submit([2, 9], on_text=lambda text: begun.set(), **ENDLESS)
at_signal(scheduler.close)
interrupt(begun)
assert future.result().finish_reason == "cancelled"
""",
        long_gguf,
    )


def test_a_signal_handler_generates(long_gguf: Path) -> None:
    """And cannot read what its thread reads, nor talk in a chat that is busy."""
    check(
        """
expected = model.generate([2, 9], max_tokens=3, seed=1, **NO_END).tokens
chat = model.chat(max_tokens=1)
stream = chat.stream("a" * 20000)
seen = []
def handle():
    seen.append(model.generate([2, 9], max_tokens=3, seed=1, **NO_END).tokens == expected)
    raises(gemlet.ArgumentError, "signal handler", stream.source.next)
    raises(gemlet.ArgumentError, "busy", lambda: chat.send("b"))
    seen.append(True)
at_signal(handle)
interrupt(begun)
begun.set()
assert stream.finish() and seen == [True, True]
""",
        long_gguf,
    )


CALLS = {
    "generate": "model.generate(LONG, max_tokens=1)",
    "batch": "model.generate_batch([LONG], max_tokens=1)",
    "prefill": "session.prefill(LONG)",
    "advance": "session.advance_to(LONG)",
    "logits": "model.logits(LONG)",
    "result": "future.result()",
    "scheduler's stream": "list(model.scheduler().stream(LONG, max_tokens=1))",
    "awaited": "asyncio.run(awaited())",
    "chat": "model.chat().send('a' * 20000)",
    "exception": "future.exception()",
}


@pytest.mark.parametrize("call", CALLS)
def test_what_a_signal_handler_raises_reaches_the_caller(long_gguf: Path, call: str) -> None:
    # asyncio reports any other exception that strikes one of its callbacks, and goes on; and a signal may strike while
    # the loop is made.
    kind, begin = ("KeyboardInterrupt", "") if call == "awaited" else ("LookupError", "begun.set()")
    check(
        f"""
import numpy  # its import makes an ImportError of what a handler raises
session = model.session()
scheduler = model.scheduler()
future = scheduler.submit([2, 9], **ENDLESS)
def handle():
    raise {kind}("raised by the handler")
at_signal(handle)
interrupt(begun)
async def awaited():
    begun.set()
    await model.agenerate(LONG, max_tokens=1)
def run():
    {begin}
    {CALLS[call]}
raises({kind}, "raised by the handler", run)
assert model.generate([2, 9], max_tokens=3, **NO_END).tokens
""",
        long_gguf,
    )
