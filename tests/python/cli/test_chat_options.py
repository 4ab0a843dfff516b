"""`gemlet run` and `gemlet chat`: prefills, variables for the template, a full context, and exit codes of pipes."""

import json
import subprocess
import sys
from pathlib import Path

import gemlet
import pytest

from cli.test_cli import terminal
from conftest import Cli, cli_environment
from foreign_templates import THINKING

LONG = "the cat and the hat and the bat and the rat"


def test_run_begins_the_answer(cli: Cli, model: gemlet.Model, tiny_gguf: Path) -> None:
    expected = model.chat(max_tokens=5, seed=1).send("the cat", prefill="Sure:")
    options = ("-n", 5, "--seed", 1, "--prefill", "Sure:")
    answer = json.loads(cli("run", tiny_gguf, "the cat", *options, "--json").stdout)
    assert (answer["text"], answer["prefill"], answer["tokens"]) == (expected.text, "Sure:", expected.tokens)
    assert cli("run", tiny_gguf, "the cat", *options, encoding="utf-8").stdout.startswith("Sure:")
    assert json.loads(cli("run", tiny_gguf, "the cat", "-n", 1, "--json").stdout)["prefill"] == ""


def test_variables_for_the_template(cli: Cli, model: gemlet.Model, tiny_gguf: Path, tmp_path: Path) -> None:
    file = tmp_path / "template.jinja"
    file.write_text(THINKING)
    options = ("--template", file, "-n", 3, "--seed", 1)
    variables = ("--template-variable", "enable_thinking=false", "--template-variable", 'system_note="a = b"')
    chat = model.chat(template=THINKING, template_variables={"enable_thinking": False, "system_note": "a = b"})
    expected = chat.send("the cat", max_tokens=3, seed=1)
    answer = json.loads(cli("run", tiny_gguf, "the cat", *options, *variables, "--json").stdout)
    assert answer["tokens"] == expected.tokens
    assert answer["stats"]["prompt_tokens"] == expected.stats.prompt_tokens
    talked = cli("chat", tiny_gguf, *options, *variables, input="the cat\n", encoding="utf-8")
    assert (talked.returncode, talked.stdout) == (0, expected.text + "\n")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("run {model} x --raw --prefill y", 2, "--prefill needs the chat format, which --raw leaves out"),
        ("run {model} x --raw --template-variable y=1", 2, "--template-variable needs the chat format"),
        ("run {model} x --template-variable thinking", 2, "--template-variable 'thinking': expected NAME=JSON"),
        ("run {model} x --template-variable a=no", 2, "--template-variable 'a=no': expected NAME=JSON"),
        ("run {model} x --template-variable a=1", 1, "does not use 'a'; it has no variables"),
        ("chat {model} --template-variable messages=[]", 2, "'messages' is no name of one's own"),
        ("chat {model} --overflow shift", 2, "shift"),
        ("chat {model} --template {empty}", 1, "the chat template is empty"),
        ("run {model} x --template {empty}", 1, "the chat template is empty"),
    ],
)
def test_errors(cli: Cli, tiny_gguf: Path, tmp_path: Path, arguments: str, code: int, message: str) -> None:
    empty = tmp_path / "empty.jinja"
    empty.touch()
    done = cli(*(word.format(model=tiny_gguf, empty=empty) for word in arguments.split()))
    assert (done.returncode, done.stdout) == (code, "") and message in done.stderr, done.stderr


def test_a_pipe_goes_on_after_a_reply_that_failed_and_tells_in_the_end(cli: Cli, tiny_gguf: Path) -> None:
    lines = f"the cat\n{'a ' * 600}\nthe hat\n/history\n"
    done = cli("chat", tiny_gguf, "-n", 3, "--seed", 1, input=lines, encoding="utf-8")
    assert done.returncode == 1 and done.stdout.count("user: ") == 2 and "user: the hat" in done.stdout
    assert done.stderr.count("\n") == 1 and "the context holds 512; /overflow drop_oldest leaves out" in done.stderr
    exited = cli("chat", tiny_gguf, "-n", 3, "--seed", 1, input=f"{'a ' * 600}\n/exit\n", encoding="utf-8")
    assert exited.returncode == 1
    for command in ("/nope", "/save", "/save none/x", "/load none", "/overflow nope"):
        failed = cli("chat", tiny_gguf, "-n", 3, "--seed", 1, input=f"{command}\nthe cat\n/history\n", encoding="utf-8")
        assert failed.returncode == 1 and "user: the cat" in failed.stdout, command
    fine = cli("chat", tiny_gguf, "-n", 3, input="/undo\nthe cat\n/undo\n/help\n", encoding="utf-8")
    assert fine.returncode == 0


def test_a_pipe_from_another_system(cli: Cli, tiny_gguf: Path, tmp_path: Path) -> None:
    """Lines that end in CR LF, behind a byte order mark."""
    lines = b'\xef\xbb\xbf/system be\r\nthe \\\r\ncat\r\n"""\r\na\r\nb\r\n"""\r\n\r\n\xef\xbb\xbf\r\r\n/save %b\r\n'
    for name, environment in (("utf8", {"LC_ALL": "C.UTF-8"}), ("ascii", {"LC_ALL": "C", "PYTHONUTF8": "0"})):
        file = tmp_path / name
        done = subprocess.run(
            [sys.executable, "-m", "gemlet", "chat", str(tiny_gguf), "-n", "1"],
            input=lines % bytes(file),
            capture_output=True,
            timeout=120,
            env=cli_environment() | environment | {"PYTHONCOERCECLOCALE": "0"},
        )
        assert done.returncode == 0, done.stderr
        saved = json.loads(file.read_text(encoding="utf-8"))
        assert saved["system"] == "be"
        said = [message["content"] for message in saved["messages"] if message["role"] == "user"]
        assert said == ["the \ncat", "a\nb", "\ufeff\r"]


def test_the_system_prompt_beside_a_saved_conversation(
    cli: Cli, model: gemlet.Model, tiny_gguf: Path, tmp_path: Path
) -> None:
    chat = model.chat("be an ant", max_tokens=2)
    chat.send("the cat")
    chat.save(tmp_path / "saved")
    for options, expected in (((), "be an ant"), (("-s", "be a bat"), "be a bat"), (("-s", ""), "(no system prompt)")):
        arguments = ("chat", tiny_gguf, "-n", 2, *options, "--load", tmp_path / "saved")
        done = cli(*arguments, input="/system\n/history\n", encoding="utf-8")
        assert (done.returncode, done.stderr) == (0, f"{expected}\n") and "user: the cat" in done.stdout


def test_a_full_context_in_a_pipe(cli: Cli, tiny_gguf: Path) -> None:
    options = ("chat", tiny_gguf, "-c", 128, "-n", 20, "--seed", 1)
    full = cli(*options, input=f"{LONG}\n" * 4, encoding="utf-8")
    assert full.returncode == 1 and "the context holds 128; /overflow drop_oldest leaves out" in full.stderr
    dropping = cli(*options, "--overflow", "drop_oldest", input=f"{LONG}\n" * 4 + "/history\n", encoding="utf-8")
    assert dropping.returncode == 0 and dropping.stdout.count("user: ") == 4
    assert "(the context is full: the oldest 2 messages are left out from here on)" in dropping.stderr
    assert "(the model no longer sees what is above)" in dropping.stdout + dropping.stderr
    switched = cli(*options, input="/overflow\n/overflow drop_oldest\n" + f"{LONG}\n" * 4, encoding="utf-8")
    assert switched.returncode == 0 and switched.stderr.startswith("error\ndrop_oldest\n")
    wrong = cli(*options, input="/overflow nope\n", encoding="utf-8")
    assert wrong.stderr.startswith("gemlet: overflow is 'nope', expected one of 'error', 'drop_oldest'")


def test_a_reply_that_the_contexts_end_cuts_off(cli: Cli, tiny_gguf: Path) -> None:
    options = ("chat", tiny_gguf, "-c", 64, "--seed", 1)
    cut = "(the reply was cut off: the context is full"
    plain = cli(*options, "-n", 60, input=f"{LONG}\n", encoding="utf-8")
    assert plain.returncode == 0 and f"{cut}; /overflow drop_oldest leaves out" in plain.stderr
    dropping = cli(*options, "-n", 60, "--overflow", "drop_oldest", input=f"{LONG}\n", encoding="utf-8")
    assert dropping.returncode == 0 and f"{cut})" in dropping.stderr


def test_failures_on_a_terminal_are_no_exit_code(tiny_gguf: Path) -> None:
    with terminal(tiny_gguf, "-c", 64, "-n", 2) as chat:
        chat.expect("> ")
        chat.send(f"{LONG} {LONG} {LONG}\n")
        chat.expect(r"the context holds 64(.|\n)*> ")
        chat.send("/exit\n")
        assert chat.process.wait(timeout=60) == 0
