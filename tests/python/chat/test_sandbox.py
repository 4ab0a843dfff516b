"""The process that renders chat templates: what a template can do, what it cannot, and the lives of both processes."""

import contextlib
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import gemlet
import pytest
from gemlet.chat import sandbox
from gemlet.chat.sandbox import Budget, LimitError, Renderer, Sandbox

from conftest import cli_environment
from hostile_templates import ENDLESS, GREEDY, LONG, OTHER, hostile_templates
from template_expressions import REFUSED, USED, VARIABLES

WITHOUT_END = Budget(1e6)
"""More time than a test has, for templates that something else is to end."""


@pytest.fixture
def box() -> Iterator[Sandbox]:
    box = Sandbox()
    yield box
    box.close()


def in_python(code: str) -> str:
    """What a program prints that has a sandbox of its own."""
    head = "from gemlet.chat.sandbox import Renderer, _shared\n"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", head + code], env=cli_environment(), capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("source", USED)
def test_what_templates_of_transformers_use_is_rendered(source: str) -> None:
    assert Renderer(source).render(VARIABLES)


def test_the_variables_of_a_template_are_known() -> None:
    source = (
        "{% set a = 1 %}{{ a }}{% if b is defined and b %}{{ loop }}{% endif %}{% for c in d %}{{ c }}{{ loop.index }}"
        "{% endfor %}{% macro f(g) %}{{ g ~ h }}{% endmacro %}{{ f(i.j) }}{{ raise_exception is defined }}"
    )
    assert Renderer(source).variables == {"b", "d", "h", "i", "loop"}
    assert Renderer("").variables == frozenset()


@pytest.mark.parametrize("source", REFUSED)
def test_refusals_are_clear(source: str) -> None:
    with pytest.raises(gemlet.TemplateError, match=r"the chat template does not (parse|accept this conversation): \S"):
        Renderer(source).render(VARIABLES)


@pytest.mark.live
@pytest.mark.parametrize("source", [*USED, *REFUSED])
def test_transformers_renders_the_same(source: str) -> None:
    """The same text, or an error from both."""
    utilities = pytest.importorskip("transformers.utils.chat_template_utils")
    given = dict(VARIABLES)
    conversation = given.pop("messages")
    try:
        rendered, _ = utilities.render_jinja_template([conversation], chat_template=source, **given)
    except Exception:  # jinja2's, Python's own
        assert source in REFUSED
        with pytest.raises(gemlet.TemplateError):
            Renderer(source).render(VARIABLES)
    else:
        assert [Renderer(source).render({**VARIABLES, "documents": None})] == rendered


@pytest.mark.parametrize("name", [*ENDLESS, *GREEDY, *LONG])
def test_limits_end_a_template(name: str, box: Sandbox, peaks: list[int]) -> None:
    with pytest.raises(LimitError):
        box.ask((ENDLESS | GREEDY | LONG)[name], VARIABLES, Budget(0.5))
    assert box.pid is None and peaks and max(peaks) < 200_000
    assert Renderer("{{ 1 }}", box).render({}) == "1"


@pytest.mark.parametrize("name", OTHER)
def test_other_attacks_end_by_themselves(name: str, box: Sandbox) -> None:
    with contextlib.suppress(gemlet.TemplateError):
        text = box.ask(OTHER[name], VARIABLES, Budget(0.5))
        assert "<class" not in text and "root:" not in text


def test_hundreds_of_hostile_templates(box: Sandbox, peaks: list[int]) -> None:
    """Each gives a text or a TemplateError, and the sandbox is as good as new."""
    rendered = refused = 0
    for source in hostile_templates(520, seed=11):
        try:
            assert len(box.ask(source, VARIABLES, Budget(0.25))) <= sandbox.MAX_TEXT + 100_000
            rendered += 1
        except gemlet.TemplateError:
            refused += 1
        assert box.ask("{{ messages[1].role }}", VARIABLES, Budget()) == "user"
    box.close()
    assert rendered > 100 and refused > 100 and len(peaks) > 20
    assert max(peaks) < 200_000


def test_the_system_enforces_the_limits(box: Sandbox) -> None:
    """Also on a process whose parent has died while it renders."""
    box.ask("", None, Budget())
    assert box.pid is not None

    def limit(kind: int) -> int:
        assert box.pid is not None
        return resource.prlimit(box.pid, kind)[0]

    assert 0 < limit(resource.RLIMIT_AS) < 400 << 20
    assert 0 < limit(resource.RLIMIT_CPU) < 10
    assert limit(resource.RLIMIT_FSIZE) == limit(resource.RLIMIT_NPROC) == limit(resource.RLIMIT_CORE) == 0


def test_one_process_serves_all_prompts(box: Sandbox) -> None:
    texts = {Renderer(f"{i}{{{{ x }}}}", box).render({"x": i}) for i in range(30)}
    pid = box.pid
    assert texts == {f"{i}{i}" for i in range(30)}
    with pytest.raises(gemlet.TemplateError):
        Renderer("{% if %}", box)
    assert box.pid == pid


def test_templates_get_copies(box: Sandbox) -> None:
    tools = [{"name": "f", "list": [1]}]
    assert Renderer("{{ tools[0].list is sequence }}", box).render({"tools": tools}) == "True"
    for source in ("{{ dict.clear(tools[0]) }}", "{{ tools[0].update(a=1) }}", "{% set tools[0].a = 1 %}"):
        with pytest.raises(gemlet.TemplateError):
            Renderer(source, box).render({"tools": tools})
    assert tools == [{"name": "f", "list": [1]}]


@pytest.mark.parametrize("value", [object(), {1, 2}, b"x", {(1, 2): 3}])
def test_only_json_is_given_to_a_template(value: object) -> None:
    with pytest.raises(gemlet.ArgumentError, match="only what JSON holds"):
        Renderer("x").render({"value": value})
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(gemlet.ArgumentError, match="only what JSON holds"):
        Renderer("x").render({"value": nested})


def test_a_conversation_that_is_too_long_for_a_template_is_refused() -> None:
    with pytest.raises(LimitError, match="bytes as JSON"):
        Renderer("x").render({"value": "a" * sandbox.MAX_REQUEST})
    with pytest.raises(gemlet.TemplateError, match="has 300000 characters; the limit is"):
        Renderer("a" * 300_000)


def test_lone_surrogates_and_noncharacters_pass() -> None:
    text = "\udcff\ufdd0\x00\U0001f600\n"
    assert Renderer("{{ x }}").render({"x": text}) == text


def test_reasons_are_printable_and_short() -> None:
    with pytest.raises(gemlet.TemplateError) as refused:
        Renderer("{{ raise_exception('\\x1b]0;title\\x07' ~ 'a' * 9999) }}").render({})
    assert "\x1b" not in str(refused.value) and "title" in str(refused.value) and len(str(refused.value)) < 1000


def until_it_renders(box: Sandbox) -> None:
    """Return when the endless template of another thread is being computed: the request has been sent."""
    while not box.is_waiting:
        os.sched_yield()


def test_other_threads_run_while_a_template_hangs(box: Sandbox) -> None:
    errors: list[Exception] = []

    def render() -> None:
        try:
            box.ask(ENDLESS["loops"], VARIABLES, WITHOUT_END)
        except gemlet.TemplateError as error:
            errors.append(error)

    thread = threading.Thread(target=render)
    thread.start()
    until_it_renders(box)
    assert sum(range(1_000_000)) and thread.is_alive()  # this thread has the GIL, and the other still waits
    assert box.pid is not None
    os.kill(box.pid, signal.SIGKILL)
    thread.join()
    assert "the process that renders chat templates ended with status -9" in str(errors[0])
    assert Renderer("{{ 1 }}", box).render({}) == "1"


def test_ctrl_c_ends_a_template(box: Sandbox) -> None:
    def interrupt() -> None:
        until_it_renders(box)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        box.ask(ENDLESS["loops"], VARIABLES, WITHOUT_END)
    thread.join()
    assert box.pid is None
    assert Renderer("{{ 1 }}", box).render({}) == "1"


def test_a_signal_handler_that_renders_meanwhile_gets_an_error(box: Sandbox) -> None:
    def handle(*_: object) -> None:
        box.ask("{{ 1 }}", {}, Budget())

    def interrupt() -> None:
        until_it_renders(box)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handle)
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(gemlet.TemplateError, match="a signal handler renders a chat template"):
            box.ask(ENDLESS["loops"], VARIABLES, WITHOUT_END)
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, before)


def test_threads_take_turns(box: Sandbox) -> None:
    wrong: list[str] = []

    def render(name: str) -> None:
        renderer = Renderer(name + "{{ x }}", box)
        for i in range(50):
            if (text := renderer.render({"x": i})) != f"{name}{i}":
                wrong.append(text)

    threads = [threading.Thread(target=render, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_process_that_somebody_ended_is_replaced(box: Sandbox) -> None:
    renderer = Renderer("{{ x }}", box)
    assert box._process is not None
    os.kill(box._process.pid, signal.SIGKILL)
    box._process._process.wait()
    assert renderer.render({"x": 1}) == "1"


def test_a_forked_child_has_a_process_of_its_own() -> None:
    printed = in_python(
        "import os\n"
        "renderer = Renderer('{{ x }}')\n"
        "before = _shared.pid\n"
        "if (child := os.fork()) == 0:\n"
        "    assert renderer.render({'x': 1}) == '1' and _shared.pid != before\n"
        "    _shared.close()\n"
        "    os._exit(7)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), renderer.render({'x': 2}), _shared.pid == before)\n"
    )
    assert printed == "7 2 True\n"


def test_a_fork_while_another_thread_renders() -> None:
    printed = in_python(
        "import os, threading\n"
        "from gemlet.chat.sandbox import Budget\n"
        "def hang():\n"
        "    try: _shared.ask('{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}',"
        " {}, Budget(1e6))\n"
        "    except Exception as error: print(type(error).__name__)\n"
        "Renderer('x')  # while the process starts, it is waited for too\n"
        "thread = threading.Thread(target=hang)\n"
        "thread.start()\n"
        "while not _shared.is_waiting: os.sched_yield()\n"
        "if (child := os.fork()) == 0:\n"
        "    assert Renderer('{{ x }}').render({'x': 1}) == '1'\n"
        "    _shared.close()\n"
        "    os._exit(7)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), thread.is_alive(), flush=True)\n"
        "os.kill(_shared.pid, 9)\n"
        "thread.join()\n"
    )
    assert printed == "7 True\nLimitError\n"


def test_the_process_ends_with_python() -> None:
    pid = int(in_python("Renderer('x')\nprint(_shared.pid)\n"))
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_python_ends_while_a_thread_renders() -> None:
    pid = int(
        in_python(
            "import os, threading\n"
            "from gemlet.chat.sandbox import Budget\n"
            "source = '{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}'\n"
            "threading.excepthook = lambda _: None\n"
            "threading.Thread(target=_shared.ask, args=(source, {}, Budget(1e6)), daemon=True).start()\n"
            "while not _shared.is_waiting: os.sched_yield()\n"
            "print(_shared.pid)\n"
        )
    )
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize("executable", ["", "/does/not/exist", "/bin/false", "/bin/cat"])
def test_without_a_python_to_start_the_error_says_so(
    executable: str, monkeypatch: pytest.MonkeyPatch, box: Sandbox
) -> None:
    """Such as where Python is embedded in another program."""
    monkeypatch.setattr(sys, "executable", executable)
    with pytest.raises(gemlet.TemplateError, match=f"does not start with {executable!r}"):
        Renderer("x", box)
    monkeypatch.undo()
    assert Renderer("x", box).render({}) == "x"


def test_a_frozen_program_needs_a_python_of_its_own(monkeypatch: pytest.MonkeyPatch, box: Sandbox) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "executable", "/does/not/exist/program")
    monkeypatch.delenv("GEMLET_PYTHON", raising=False)
    with pytest.raises(gemlet.TemplateError, match=r"frozen.*environment variable GEMLET_PYTHON name a Python 3"):
        Renderer("x", box)
    monkeypatch.setenv("GEMLET_PYTHON", str(Path(sys.prefix) / "bin" / "python"))
    assert Renderer("{{ a }}", box).render({"a": 3}) == "3"


@pytest.mark.parametrize("named", ["/does/not/exist", "/bin/false"])
def test_a_named_python_that_does_not_start_is_named(named: str, monkeypatch: pytest.MonkeyPatch, box: Sandbox) -> None:
    monkeypatch.setenv("GEMLET_PYTHON", named)
    with pytest.raises(gemlet.TemplateError, match=f"GEMLET_PYTHON names '{named}'.*that has the package jinja2"):
        Renderer("x", box)


def test_a_process_that_is_late_is_not_taken_for_a_slow_template(monkeypatch: pytest.MonkeyPatch, box: Sandbox) -> None:
    monkeypatch.setattr(sandbox, "_START_SECONDS", 0.0)
    with pytest.raises(gemlet.TemplateError, match="was not ready after 0 seconds"):
        Renderer("x", box)


def test_the_environment_is_not_handed_on(monkeypatch: pytest.MonkeyPatch, box: Sandbox) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    Renderer("x", box)
    assert b"SECRET_TOKEN" not in Path(f"/proc/{box.pid}/environ").read_bytes()
