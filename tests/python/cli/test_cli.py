"""The command line as a user or a script meets it."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gemlet
import pytest
from gemlet.conversion import convert

from conftest import Cli, cli_environment
from tiny import Tiny, write_checkpoint

SUBCOMMANDS = ("demo", "chat", "run", "pull", "list", "rm", "convert", "inspect", "bench", "perplexity", "tokenize")


def test_help_teaches(cli: Cli) -> None:
    done = cli("--help")
    assert done.returncode == 0 and done.stderr == ""
    for name in SUBCOMMANDS:
        assert re.search(rf"\b{name}\b", done.stdout)
    for name in SUBCOMMANDS[2:]:
        assert f"gemlet {name}" in re.sub(r"\s+", " ", cli(name, "--help").stdout), f"{name} has no example"


def test_version(cli: Cli) -> None:
    assert cli("--version").stdout == f"gemlet {gemlet.__version__}\n"


def test_help_and_import_bring_in_nothing_heavy() -> None:
    heavy = ("numpy", "torch", "transformers", "gguf", "jinja2", "matplotlib", "sentencepiece")
    for statement in ("import gemlet", "import gemlet.cli"):
        code = f"{statement}, sys; print([name for name in {heavy} if name in sys.modules])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=cli_environment())
        assert done.stdout == "[]\n", statement


def test_run(cli: Cli, model: gemlet.Model, tiny_gguf: Path) -> None:
    expected = model.generate("the cat", max_tokens=9, seed=1)
    done = cli("run", tiny_gguf, "the cat", "--raw", "-n", 9, "--seed", 1, "--stats", encoding="utf-8")
    assert done.returncode == 0
    assert done.stdout.rstrip("\n") == expected.text.rstrip("\n")
    assert re.search(r"completion 9 tokens, [\d.]+/s; first token after [\d.]+ s; peak memory [\d.]+ MiB", done.stderr)

    done = cli("run", tiny_gguf, "the cat", "--raw", "-n", 9, "--seed", 1, "--json")
    answer = json.loads(done.stdout)
    assert (answer["tokens"], answer["finish_reason"], answer["seed"]) == (expected.tokens, "length", 1)
    assert answer["stats"]["generated_tokens"] == 9 and done.stderr == ""


def test_run_takes_the_prompt_from_stdin_or_a_file(
    cli: Cli, model: gemlet.Model, tiny_gguf: Path, tmp_path: Path
) -> None:
    expected = model.chat("be").send("the cat\n", max_tokens=5, seed=1).tokens
    (tmp_path / "prompt").write_text("the cat\n")
    options = ("-s", "be", "-n", 5, "--seed", 1, "--json")
    for done in (
        cli("run", tiny_gguf, *options, input="the cat\n"),
        cli("run", tiny_gguf, "-", *options, input="the cat\n"),
        cli("run", tiny_gguf, "-f", tmp_path / "prompt", *options),
    ):
        assert json.loads(done.stdout)["tokens"] == expected


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("run {model} --temprature 1 x", 2, "No such option"),
        ("run", 2, "Missing argument"),
        ("nonsense", 2, "No such command"),
        ("run {model} x --temperature warm", 2, "--temperature"),
        ("run {model} x --temperature inf", 2, "gemlet: temperature is inf, expected 0 or more, and finite\n"),
        ("run {model} x --temperature -1", 2, "gemlet: temperature is -1, expected 0 or more, and finite\n"),
        ("run {model} -f /none/prompt", 1, "gemlet: /none/prompt: No such file or directory\n"),
        ("run {model} x -f y", 2, "gemlet: give the prompt or --file, not both\n"),
        ("run {model}", 2, "gemlet: the prompt is empty\n"),
        ("run {model} x --raw -s y", 2, "gemlet: --system needs the chat format, which --raw leaves out\n"),
        ("run {model} x --raw --template y", 2, "gemlet: --template needs the chat format, which --raw leaves out\n"),
        ("run {model} x --template /none/y", 1, "gemlet: /none/y: No such file or directory\n"),
        ("chat {model} --template {model}", 1, "gemlet: .*tiny.gguf: not a text in UTF-8"),
        ("run /none/model.gguf x", 1, "gemlet: /none/model.gguf: cannot open: No such file or directory\n"),
        ("run {model} x -c 5", 1, r"gemlet: .*\b5\b.*\n"),
        ("bench {model} -p 0 -n 0", 2, "gemlet: --prompt, --generate"),
        ("bench {model} --sequences 1,0", 2, "gemlet: --sequences: expected a number"),
        (
            "bench {model} --sequences 99999999999",
            2,
            "gemlet: --sequences: expected a number from 1 to 1024, or several",
        ),
        ("run {empty} x", 2, "gemlet: the model's name is empty, expected a path or a name"),
        ("bench {model} --plot x.png", 2, "gemlet: --plot: expected --compare, or a model and --ceiling"),
        (f"run {{model}} hi -t {10**20}", 2, f"gemlet: threads is {10**20}, expected"),
        (f"run {{model}} hi -n {10**20}", 2, f"gemlet: max_tokens is {10**20}, expected"),
        ("perplexity {model} /none", 1, "gemlet: /none: No such file or directory\n"),
        ("convert /none -o /none/x.gguf", 1, "gemlet: .*/none"),
        ("convert {folder} -o x.gguf --quant q9", 1, "gemlet: .*q9"),
    ],
)
def test_errors(cli: Cli, tiny_gguf: Path, tmp_path: Path, arguments: str, code: int, message: str) -> None:
    words = [word.format(model=tiny_gguf, folder=tmp_path, empty="") for word in arguments.split()]
    done = cli(*words, cwd=tmp_path)
    assert done.stdout == ""
    assert re.search(message, done.stderr), done.stderr
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    if message.startswith("gemlet: "):
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "closed", "code", "message"),
    [
        (["run", "{model}"], "<&-", 2, "gemlet: the prompt is empty\n"),
        (["chat", "{model}"], "<&-", 0, ""),
        (["run", "{model}", "hi", "-n", "2"], ">&-", 0, ""),
        (["inspect", "{model}"], ">&-", 0, ""),
        (["inspect", "/none"], "2>&-", 1, ""),
    ],
)
def test_a_closed_stream_is_an_empty_one(
    tiny_gguf: Path, arguments: list[str], closed: str, code: int, message: str
) -> None:
    command = [sys.executable, "-m", "gemlet", *(word.format(model=tiny_gguf) for word in arguments)]
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}', "sh", *command], capture_output=True, text=True, env=cli_environment()
    )
    assert (done.returncode, done.stderr) == (code, message)


def test_a_template_of_ones_own(cli: Cli, model: gemlet.Model, tiny_gguf: Path, tmp_path: Path) -> None:
    source = "{{ bos_token }}{% for m in messages %}the {{ m.content }}{% endfor %}"
    file = tmp_path / "template.jinja"
    file.write_bytes(b"\xef\xbb\xbf" + source.encode())
    expected = model.chat(template=source).send("cat", max_tokens=5, seed=1)
    options = ("--template", file, "-n", 5, "--seed", 1)
    assert json.loads(cli("run", tiny_gguf, "cat", *options, "--json").stdout)["tokens"] == expected.tokens
    assert cli("chat", tiny_gguf, *options, input="cat\n").stdout.rstrip("\n") == expected.text.rstrip("\n")
    file.write_text("{{ bos_token }}")
    refused = cli("run", tiny_gguf, "cat", *options)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "leaves out what message 0 (user) says" in refused.stderr and refused.stderr.count("\n") == 1


def test_a_template_that_does_not_parse_leaves_raw_completions(cli: Cli, tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", Tiny())
    (checkpoint / "tokenizer_config.json").write_text('{"chat_template": "{% if %}"}')
    file = convert(checkpoint, tmp_path / "m.gguf", "f32").path
    done = cli("run", file, "the cat", "--raw", "-n", 3)
    assert (done.returncode, done.stderr) == (0, "")
    refused = cli("run", file, "the cat", "-n", 3)
    assert refused.returncode == 1 and refused.stderr.startswith("gemlet: the chat template does not parse: ")


def test_tokenize(cli: Cli, model: gemlet.Model, tiny_gguf: Path) -> None:
    ids = model.tokenize("the <bos> cat", bos=True, special=False)
    done = cli("tokenize", tiny_gguf, "the <bos> cat", "--bos", "--no-special", "--ids")
    assert [int(word) for word in done.stdout.split()] == ids
    done = cli("tokenize", tiny_gguf, "--json", input="the <bos>")
    assert [entry["piece"] for entry in json.loads(done.stdout)] == [
        model.piece(t) for t in model.tokenize("the <bos>")
    ]
    assert "'<bos>'" in cli("tokenize", tiny_gguf, "<bos>").stdout
    raw = cli("tokenize", tiny_gguf, "--ids", input=b"a\xff", text=False)
    assert [int(word) for word in raw.stdout.split()] == model.tokenize(b"a\xff")


def test_inspect(cli: Cli, model: gemlet.Model, tiny_gguf: Path) -> None:
    shown = json.loads(cli("inspect", tiny_gguf, "--json").stdout)
    assert shown["layers"] == 5 and [layer["window"] > 0 for layer in shown["layer_info"]] == [
        True,
        False,
        True,
        True,
        False,
    ]
    assert shown["hyperparameters"]["activation_sparsity_scale"][2] is None
    assert len(shown["tensors"]) == len(model.info.tensors)
    assert shown["types"]["F32"]["bytes"] == sum(tensor.bytes for tensor in model.info.tensors)
    assert 0 < shown["on_flash_bytes"] < shown["file_bytes"]
    text = cli("inspect", tiny_gguf, "--tensors").stdout
    for expected in (
        "sliding, ",
        "those of layer 2",
        "activation_sparsity_scale",
        "x 1.64485",
        "per_layer_token_embd.weight",
        "on flash",
    ):
        assert expected in text


def test_bench_of_sequences_together(cli: Cli, tiny_gguf: Path) -> None:
    command = ("bench", tiny_gguf, "-p", 0, "-n", 4, "-r", 2, "-t", 1, "--sequences", "1,2,8", "--json")
    rows = json.loads(cli(*command).stdout)
    assert [row["test"] for row in rows] == ["tg4 x 1", "tg4 x 2", "tg4 x 8"]
    assert all(len(row["samples"]) == 2 and min(row["samples"]) > 0 for row in rows)
    # One pass over the weights serves all of them: each token streams its share.
    assert rows[2]["weight_bytes"] < rows[1]["weight_bytes"] < rows[0]["weight_bytes"]


def test_bench(cli: Cli, tiny_gguf: Path) -> None:
    rows = json.loads(cli("bench", tiny_gguf, "-p", 20, "-n", 6, "-r", 3, "-d", 10, "-t", 1, "--json").stdout)
    assert [row["test"] for row in rows] == ["pp20 @ d10", "tg6 @ d10"]
    for row in rows:
        assert len(row["samples"]) == 3 and row["threads"] == 1 and row["peak_memory"] > 1_000_000
        assert min(row["samples"]) <= row["mean"] <= max(row["samples"])
    table = cli("bench", tiny_gguf, "-p", 20, "-n", 0, "-r", 1).stdout.splitlines()
    assert len(table) == 3 and len({len(line) for line in table}) == 1
    assert re.search(r"\| +pp20 \| +[\d.]+ ± 0.00 \|", table[2])


def test_perplexity(cli: Cli, model: gemlet.Model, tiny_gguf: Path, tmp_path: Path) -> None:
    text = "the cat in the hat " * 30
    (tmp_path / "text").write_text(text)
    done = json.loads(cli("perplexity", tiny_gguf, tmp_path / "text", "--window", 40, "--json").stdout)
    assert done["perplexity"] == pytest.approx(gemlet.perplexity(model, text, window=40), rel=1e-6)
    assert done["tokens"] == done["windows"] * 19
    assert "perplexity " in cli("perplexity", tiny_gguf, "-", input=text).stdout


def test_convert(cli: Cli, tiny_gguf: Path, tmp_path: Path) -> None:
    checkpoint = tiny_gguf.parent / "checkpoint"
    done = cli("convert", checkpoint, "-o", tmp_path / "a.gguf", "-q", "f32")
    assert done.returncode == 0 and str(tmp_path / "a.gguf") in done.stdout
    assert (tmp_path / "a.gguf").read_bytes() == tiny_gguf.read_bytes()
    done = cli("convert", checkpoint, "-o", tmp_path / "b.gguf", "-q", "f16", "--json")
    assert json.loads(done.stdout)["bytes"] == (tmp_path / "b.gguf").stat().st_size


def test_a_closed_pipe_is_no_error_message(tiny_gguf: Path) -> None:
    for arguments in (
        ["tokenize", str(tiny_gguf), "a " * 50_000],
        ["inspect", str(tiny_gguf), "--tensors"],
        ["--help"],
    ):
        read, write = os.pipe()
        os.close(read)
        done = subprocess.run(
            [sys.executable, "-m", "gemlet", *arguments],
            stdout=write,
            stderr=subprocess.PIPE,
            env=cli_environment(),
            timeout=60,
        )
        os.close(write)
        assert done.stderr == b"" and done.returncode == 1, arguments


def test_ctrl_c_ends_run_with_130(long_gguf: Path) -> None:
    command = [sys.executable, "-m", "gemlet", "run", str(long_gguf), "--raw", "-c", "32768"]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=cli_environment()
    )
    assert process.stdin is not None
    process.stdin.write(b"a" * 30000)
    process.stdin.close()
    process.stdin = None
    wait_until_computing(process.pid, long_gguf)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=10)
    assert (process.returncode, out, error) == (130, b"", b"")


def wait_until_computing(pid: int, model: Path) -> None:
    """Until the process has opened the model, and computed for half a second more."""
    pause = threading.Event()
    while str(model) not in Path(f"/proc/{pid}/maps").read_text():
        pause.wait(0.05)
    computed = processor_seconds(pid) + 0.5
    while processor_seconds(pid) < computed:
        pause.wait(0.05)


def wait_until_asleep(pid: int) -> None:
    """Until the process waits for something: on a terminal after its echo, for the next key."""
    pause = threading.Event()
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "S":
        pause.wait(0.01)


def processor_seconds(pid: int) -> float:
    """The processor time that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# --- gemlet chat on a terminal ---


class Terminal:
    """A `gemlet chat` on a pseudo-terminal."""

    def __init__(self, master: int, process: "subprocess.Popen[bytes]") -> None:
        self.master = master
        self.process = process
        self.seen = ""

    def send(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def expect(self, pattern: str, timeout: float = 30) -> str:
        """Read until the pattern comes; drop what is behind it and return what was before."""
        end = time.monotonic() + timeout
        while (found := re.search(pattern, self.seen)) is None:
            ready, _, _ = select.select([self.master], [], [], max(0, end - time.monotonic()))
            assert ready, f"{pattern!r} did not come: {self.seen!r}"
            self.seen += os.read(self.master, 4096).decode("utf-8", "replace")
        before, self.seen = self.seen[: found.start()], self.seen[found.end() :]
        return before


@contextmanager
def terminal(*arguments: object) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "gemlet", "chat", *map(str, arguments)],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=cli_environment() | {"TERM": "dumb"},
        start_new_session=True,
        preexec_fn=_take_terminal,
    )
    os.close(slave)
    try:
        yield Terminal(master, process)
    finally:
        process.kill()
        process.wait()
        os.close(master)


def _take_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_chat_on_a_terminal(tiny_gguf: Path, tmp_path: Path) -> None:
    with terminal(tiny_gguf, "-n", 6, "--seed", 1) as chat:
        chat.expect("/help lists the commands")
        chat.expect("> ")
        chat.send("/help\n")
        chat.expect("Ctrl-C stops the reply")
        chat.send("one \\\ntwo\n")
        chat.expect(r"\. two\r\n(.|\n)*> ")
        chat.send('"""\na\n\nb"""\n')
        chat.expect(r'b"""\r\n(.|\n)*> ')
        chat.send("/history\n")
        chat.expect("user: one \r\ntwo\r\n")
        chat.expect("user: a\r\n\r\nb\r\n")
        chat.send(f"/save {tmp_path / 'saved'}\n/stats\n")
        chat.expect(r"completion 6 tokens(.|\n)*> ")  # it reads again: an interrupt before that is another's
        chat.send("half a line")
        chat.expect("half a line")
        wait_until_asleep(chat.process.pid)  # readline would not see an interrupt between its echo and its waiting
        chat.send("\x03")
        chat.expect("\n> ")
        chat.send("/nope\n")
        chat.expect("gemlet: /nope: no such command")
        chat.send("\x04")
        assert chat.process.wait(timeout=10) == 0
    assert [m["content"] for m in json.loads((tmp_path / "saved").read_text())["messages"]][::2] == [
        "one \ntwo",
        "a\n\nb",
    ]


def test_ctrl_c_stops_the_answer_and_not_the_program(long_gguf: Path) -> None:
    with terminal(long_gguf, "-c", 32768, "--seed", 1) as chat:
        chat.expect("> ")
        chat.send("say\n")
        chat.expect(r"say\r\n(.|\n)+")
        wait_until_computing(chat.process.pid, long_gguf)
        chat.send("\x03")
        chat.expect("stopped; this turn is forgotten", timeout=5)
        chat.expect("> ")
        chat.send("/history\n/system\n")
        assert "user:" not in chat.expect("no system prompt")
        chat.send("/exit\n")
        assert chat.process.wait(timeout=10) == 0


def test_chat_in_a_pipe(cli: Cli, model: gemlet.Model, tiny_gguf: Path) -> None:
    done = cli("chat", tiny_gguf, "-n", 5, "--seed", 1, input="the cat\n\n/undo\n/nope\nthe cat\n", encoding="utf-8")
    answer = model.chat(max_tokens=5, seed=1).send("the cat").text
    assert done.returncode == 1
    assert done.stdout.count("\n") >= 2 and done.stdout.startswith(answer[:1])
    assert "taken back" in done.stderr and "/nope: no such command" in done.stderr
