"""A forked child of a process that computes: it has none of its parent's threads, and nothing hangs."""

from pathlib import Path

import pytest

from scripts import FORK, run_script

HEAD = (
    FORK
    + """
import asyncio, threading
import gemlet
model = gemlet.load(sys.argv[1], threads=2)
ENDLESS = dict(max_tokens=None, logit_bias={1: -100.0, 5: -100.0})

def tokens(**options):
    return model.generate("the cat", max_tokens=9, seed=1, **options).tokens

def awaited():
    return asyncio.run(model.agenerate("the cat", max_tokens=9, seed=1)).tokens

expected = tokens()
"""
)


def check(code: str, *args: object) -> None:
    ended = run_script(HEAD + code, *args)
    assert ended.status == 0 and ended.output == "", ended.output


def test_the_thread_pool_is_renewed(long_gguf: Path) -> None:
    """In a grandchild too."""
    check(
        """
def child():
    assert tokens() == expected
def with_child():
    child()
    in_child(child)
in_child(with_child)
assert tokens() == expected
""",
        long_gguf,
    )


def test_awaited_answers_after_the_parents(tiny_gguf: Path) -> None:
    check(
        """
assert awaited() == expected
def child():
    assert awaited() == expected == tokens()
in_child(child)
assert awaited() == expected
""",
        tiny_gguf,
    )


def test_a_stream_goes_on_in_the_parent_only(long_gguf: Path) -> None:
    check(
        """
session = model.session()
stream = session.stream([2, 9, 8], **ENDLESS)
next(stream)
unread = model.stream("the cat", max_tokens=9, seed=1)
def child():
    raises(gemlet.ArgumentError, "goes on in the parent only", lambda: next(stream))
    stream.close()
    assert session.tokens == []
    assert len(session.generate([2, 9, 8], max_tokens=4, **{"logit_bias": ENDLESS["logit_bias"]}).tokens) == 4
    assert unread.finish().tokens == expected
in_child(child)
def busy():
    raises(gemlet.ArgumentError, "goes on in the parent only; use another session", lambda: session.position)
    stream.close()
    assert session.position == 0
in_child(busy)
assert next(stream)
stream.close()
assert session.tokens[:3] == [2, 9, 8]
""",
        long_gguf,
    )


def test_a_chat_goes_on_after_its_stream_is_closed(long_gguf: Path) -> None:
    check(
        """
chat = model.chat(max_tokens=5, seed=1)
first = chat.send("the cat")
want = model.chat(max_tokens=5, seed=1)
want.send("the cat")
answer = want.send("a hat").text
stream = chat.stream("a dog")
next(stream)
def child():
    raises(gemlet.ArgumentError, "busy", lambda: chat.send("a hat"))
    stream.close()
    assert chat.send("a hat").text == answer
in_child(child)
stream.close()
assert chat.send("a hat").text == answer
""",
        long_gguf,
    )


def test_requests_stay_with_the_parent_and_the_scheduler_is_renewed(long_gguf: Path) -> None:
    check(
        """
scheduler, session = model.scheduler(sequences=2), model.session()
begun = threading.Event()
running = scheduler.submit([2, 9], session=session, on_text=lambda text: begun.set(), **ENDLESS)
begun.wait()
stream = scheduler.stream([2, 9, 8], **ENDLESS)
next(stream)
waiting = scheduler.submit([2, 9], max_tokens=3)
closed = model.scheduler()
closed.close()
def child():
    for future in (running, waiting):
        raises(gemlet.ArgumentError, "stayed with the parent", lambda: future.result())
    raises(gemlet.ArgumentError, "stayed with the parent", lambda: list(stream))
    stream.close()
    assert (scheduler.active, scheduler.waiting, session.tokens) == (0, 0, [])
    prompt = model.tokenize("the cat", bos=True)
    assert scheduler.submit(prompt, session=session, max_tokens=9, seed=1).result().tokens == expected
    raises(gemlet.ArgumentError, "stopped", lambda: closed.submit(prompt))
    scheduler.close()
    raises(gemlet.ArgumentError, "stopped", lambda: scheduler.submit(prompt))
in_child(child)
assert next(stream) and not running.done()
stream.close()
running.cancel()
assert waiting.result().tokens
""",
        long_gguf,
    )


def test_children_that_are_forked_while_threads_generate(tiny_gguf: Path) -> None:
    check(
        """
stop = threading.Event()
def work(call):
    while not stop.is_set():
        assert call() == expected
def step():
    session = model.session()
    session.prefill([2, 9])
    return expected
threads = [threading.Thread(target=work, args=[call]) for call in (tokens, tokens, awaited, step)]
for thread in threads:
    thread.start()
try:
    for _ in range(30):
        in_child(lambda: (tokens() == awaited() == expected) or sys.exit(1))
finally:
    stop.set()
    for thread in threads:
        thread.join()
""",
        tiny_gguf,
    )


def test_processes_of_multiprocessing(tiny_gguf: Path) -> None:
    check(
        """
import multiprocessing
awaited()
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.starmap(tokens, [()] * 6) == [expected] * 6
    assert pool.starmap(awaited, [()] * 4) == [expected] * 4
""",
        tiny_gguf,
    )


def test_a_signal_handler_that_forks_while_it_interrupts_a_stream(long_gguf: Path) -> None:
    check(
        """
import signal
outcome = []
def fork(number, frame):
    outcome.append(os.fork())
signal.signal(signal.SIGUSR1, fork)
reading = threading.Event()
def interrupt():
    reading.wait()
    os.kill(os.getpid(), signal.SIGUSR1)
threading.Thread(target=interrupt).start()
stream = model.stream([270] * 8000, max_tokens=1)
reading.set()
try:
    list(stream)
    status = 0 if outcome and outcome[0] else 1
except gemlet.ArgumentError as error:
    status = 0 if outcome == [0] and "goes on in the parent only" in str(error) else 1
if outcome == [0]:
    os._exit(status)
assert status == 0 and os.waitpid(outcome[0], 0)[1] == 0
""",
        long_gguf,
    )


def test_a_child_ends_as_any_program(long_gguf: Path) -> None:
    """With everything alive that the parent had."""
    check(
        """
awaited()
stream, scheduler, chat = model.stream([2, 9], **ENDLESS), model.scheduler(), model.chat()
next(stream)
future = scheduler.submit([2, 9], **ENDLESS)
answer = chat.stream("a", **ENDLESS)
next(answer)
pid = os.fork()
if pid == 0:
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
""",
        long_gguf,
    )


@pytest.mark.parametrize("parent_renders", [False, True])
def test_foreign_templates(tiny_gguf: Path, parent_renders: bool) -> None:
    check(
        f"""
template = "{{% for m in messages %}}[{{{{ m.content }}}}]{{% endfor %}}"
def ask():
    chat = model.chat(template=template, max_tokens=3, seed=1)
    return chat.send("a").text, asyncio.run(chat.asend("b")).text
answers = ask() if {parent_renders} else None
def child():
    assert ask() == (answers or ask())
in_child(child)
assert ask() == (answers or ask())
""",
        tiny_gguf,
    )


def test_a_request_that_is_being_told_of_its_end(tiny_gguf: Path) -> None:
    """The core has ended it, and waits for the lock of Python that the forking thread holds."""
    check(
        """
sys.setswitchinterval(1000)  # whoever asks for the lock waits
scheduler = model.scheduler()
future = scheduler.submit([2, 9], max_tokens=4)
while scheduler.active or scheduler.waiting:
    pass
assert not future.done()
def child():
    sys.setswitchinterval(0.005)
    raises(gemlet.ArgumentError, "forked", lambda: future.result(timeout=60))
in_child(child)
sys.setswitchinterval(0.005)
assert future.result(timeout=60).tokens
""",
        tiny_gguf,
    )


FIRST_USES = {
    "Chat": "gemlet.Chat",
    "Message": "gemlet.Message",
    "chat": "model.chat()",
    "scheduler": "model.scheduler()",
    "logits": "model.logits([2, 9])",
    "prefill": "model.session().prefill([2, 9])",
    "prefill_all": "model.session().prefill_all([2, 9])",
    "step": "model.session().step(2)",
    "perplexity": "gemlet.perplexity(model, 'the cat sat on a mat')",
    "convert": "raises(gemlet.GemletError, '', lambda: gemlet.convert('/nowhere', '/nowhere.gguf'))",
    "export": "raises(gemlet.GemletError, '', lambda: gemlet.export('/nowhere', '/nowhere', 'onnx'))",
    "folder": "raises(gemlet.GemletError, '', lambda: gemlet.load('/tmp'))",
}


@pytest.mark.parametrize("use", FIRST_USES)
def test_a_fork_waits_for_what_another_thread_imports_on_first_use(tiny_gguf: Path, use: str) -> None:
    """The thread is at the first of its imports when the fork begins, and the child does the same as the thread."""
    check(
        f"""
importing, forking, unguarded = threading.Event(), threading.Event(), []
class Finder:
    def find_spec(self, name, path=None, target=None):
        if threading.current_thread() is thread:
            importing.set()
            forking.wait()
            if not gemlet.forked.importing._is_owned() and name not in ("jinja2", "markupsafe"):  # which it only finds
                unguarded.append(name)
def use():
    {FIRST_USES[use]}
thread = threading.Thread(target=use)
sys.meta_path.insert(0, Finder())
os.register_at_fork(before=forking.set)  # called before the package's own
thread.start()
importing.wait()
in_child(use)
thread.join()
assert unguarded == [], unguarded
use()
""",
        tiny_gguf,
    )


def test_a_module_with_locks_of_its_own_is_imported_while_a_fork_waits() -> None:
    """As asyncio and the hub's client import theirs; ``import logging`` in a child's parent must not lose a lock."""
    ended = run_script(
        FORK
        + """
import threading
from gemlet.forked import importing
held, forking = threading.Event(), threading.Event()
def use():
    with importing:
        held.set()
        forking.wait()
        import concurrent.futures.thread, logging, random
thread = threading.Thread(target=use)
os.register_at_fork(before=forking.set)
thread.start()
held.wait()
in_child(lambda: None)
thread.join()
"""
    )
    assert ended.status == 0 and ended.output == "", ended.output
