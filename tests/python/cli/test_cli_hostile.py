"""What is typed, piped, closed or named badly: a line on stderr, and nothing is lost."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import gemlet
import pytest
from gemlet.cli import common
from gemlet.conversion import convert
from gemlet.conversion.sentencepiece import Piece, PieceKind

from cli.test_cli import terminal, wait_until_asleep, wait_until_computing
from conftest import Cli, cli_environment, make_device
from tiny import Tiny, tiny_pieces, tiny_tokenizer, write_checkpoint

ESCAPE = "\x1b]0;owned\x07\x1b[2J\x9b31m"


def typed(lines: list[bytes], *arguments: object, **settings: object) -> "subprocess.CompletedProcess[bytes]":
    """`gemlet chat` with these lines in a pipe."""
    options = {"capture_output": True, "timeout": 120, "env": cli_environment()} | settings
    command = [sys.executable, "-m", "gemlet", "chat", *map(str, arguments)]
    return subprocess.run(command, input=b"\n".join(lines) + b"\n", check=False, **options)  # type: ignore[call-overload, no-any-return]


def test_chat_survives_whatever_is_typed(tiny_gguf: Path, tmp_path: Path) -> None:
    (tmp_path / "deep").write_text("[" * 100_000)
    (tmp_path / "binary").write_bytes(bytes(range(256)) * 10)
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "link").symlink_to("precious")
    os.mkfifo(tmp_path / "fifo")
    make_device(tmp_path / "device")
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(1 << 40)
    bad = [
        "/save /",
        "/save",
        "/save .",
        "/save ..",
        "/save none/x",
        "/save a\0b",
        "/save " + "n" * 300,
        "/save link",
        "/save fifo",
        "/save device",
        "/save model.gguf",
        "/load a\0b",
        "/load deep",
        "/load binary",
        "/load huge",
        "/load fifo",
        "/load /dev/zero",
        "/load .",
        "/load none",
        "/save ~nosuchuser/x",
        "/load ~nosuchuser/x",
        "/nope " + ESCAPE,
        "/",
    ]
    (tmp_path / "model.gguf").write_bytes(tiny_gguf.read_bytes())
    lines = [
        b"the cat",
        *(line.encode() for line in bad),
        b"/load \xff",
        b"\xff\xfe caf\xe9",
        b"/save kept",
        b"/history",
    ]
    done = typed(
        lines, "model.gguf", "-n", 3, "--seed", 1, cwd=tmp_path, env=cli_environment() | {"HOME": str(tmp_path)}
    )
    assert done.returncode == 1, done.stderr
    errors = done.stderr.decode().splitlines()
    assert len(errors) == len(bad) + 1 and all(line.startswith("gemlet: ") for line in errors), errors
    assert sum("~nosuchuser/x" in line for line in errors) == 2
    assert b"\x1b" not in done.stderr and b"\x9b" not in done.stderr and b"Traceback" not in done.stderr
    kept = json.loads((tmp_path / "kept").read_text())["messages"]
    assert [message["content"] for message in kept][::2] == ["the cat", "\ufffd\ufffd caf\ufffd"]
    assert done.stdout.decode().count("user: ") == 2
    assert (tmp_path / "precious").read_text() == "mine" and (tmp_path / "link").is_symlink()
    assert (tmp_path / "model.gguf").read_bytes() == tiny_gguf.read_bytes()


def test_an_interrupted_command_forgets_no_turn(tiny_gguf: Path) -> None:
    code = (
        "from gemlet.chat.conversation import Chat; from gemlet.cli import main\n"
        "def interrupt(*given): raise KeyboardInterrupt\n"
        "Chat.save = Chat.load = interrupt\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "chat", str(tiny_gguf), "-n", "2"],
        input="one\n/save x\n/load x\n/history\n",
        capture_output=True,
        text=True,
        timeout=120,
        env=cli_environment(),
    )
    assert done.stderr == "(stopped)\n(stopped)\n" and "user: one" in done.stdout


def test_chat_survives_a_mistake_of_ours(tiny_gguf: Path) -> None:
    code = (
        "import sys; from gemlet.chat.conversation import Chat; from gemlet.cli import main\n"
        "stream = Chat.stream\n"
        "Chat.stream = lambda self, text, **o: 1 / 0 if text == 'now' else stream(self, text, **o)\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "chat", str(tiny_gguf), "-n", "2"],
        input="one\nnow\n/history\n",
        capture_output=True,
        text=True,
        timeout=120,
        env=cli_environment(),
    )
    assert done.stderr == "gemlet: ZeroDivisionError: division by zero\n"
    assert done.returncode == 1 and "user: one" in done.stdout


@pytest.mark.parametrize("locale", ["C", "C.UTF-8", "POSIX"])
@pytest.mark.parametrize("utf8", ["0", "1"])
def test_texts_and_names_outside_of_the_locale(tiny_gguf: Path, tmp_path: Path, locale: str, utf8: str) -> None:
    environment = cli_environment() | {"LC_ALL": locale, "PYTHONUTF8": utf8, "PYTHONCOERCECLOCALE": "0"}
    lines = ["őrült 🙂".encode(), "/save ő.json".encode(), b"/save plain.json", b"/history"]
    done = typed(lines, tiny_gguf, "-n", 2, cwd=tmp_path, env=environment)
    assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr
    messages = json.loads((tmp_path / "plain.json").read_text(encoding="utf-8"))["messages"]
    assert [message["content"] for message in messages][:1] == ["őrült 🙂"] and len(messages) == 2
    assert os.fsencode("ő.json") in {os.fsencode(entry.name) for entry in tmp_path.iterdir()}


@pytest.mark.parametrize(
    ("name", "locale", "utf8"), [("ő🙂".encode(), "C", "0"), (b"caf\xe9", "C", "0"), (b"\xed\xa0\x80", "POSIX", "1")]
)
def test_files_whose_names_are_outside_of_the_locale(tmp_path: Path, name: bytes, locale: str, utf8: str) -> None:
    """A checkpoint and a model of such a name are converted, shown and run, and are named in errors."""
    environment = cli_environment() | {"LC_ALL": locale, "PYTHONUTF8": utf8, "PYTHONCOERCECLOCALE": "0"}

    def run(*arguments: bytes) -> "subprocess.CompletedProcess[bytes]":
        command = [os.fsencode(sys.executable), b"-m", b"gemlet", *arguments]
        done = subprocess.run(command, capture_output=True, timeout=120, env=environment, cwd=tmp_path, input=b"")
        assert b"Traceback" not in done.stderr, done.stderr
        return done

    write_checkpoint(tmp_path / os.fsdecode(name), Tiny())
    model = name + b".gguf"
    for arguments in (
        (b"convert", name, b"-o", model),
        (b"inspect", model),
        (b"tokenize", model, b"a " + name),
        (b"run", model, name, b"--raw", b"-n", b"2"),
    ):
        done = run(*arguments)
        assert done.returncode == 0, (arguments, done.stderr)
    for refused in (
        (b"convert", name + b"x", b"-o", model),
        (b"convert", name, b"-o", name),
        (b"export", b"onnx", model, b"-o", name),
        (b"run", name, b"x"),
        (b"run", model, b"x", b"--template", name),
    ):
        done = run(*refused)
        assert done.returncode in (1, 2) and done.stderr.startswith(b"gemlet: "), (refused, done.stderr)


@pytest.mark.parametrize(
    ("text", "expected"), [(b'"""one\n\ntwo', "one\n\ntwo\n"), (b"one \\", "one "), (b'"""one"""', "one")]
)
def test_a_text_that_the_end_of_the_input_leaves_open_is_sent(tiny_gguf: Path, text: bytes, expected: str) -> None:
    code = (
        "from gemlet.chat.conversation import Chat; from gemlet.cli import main; stream = Chat.stream\n"
        "Chat.stream = lambda self, text, **o: (print(repr(text)), stream(self, text, **o))[1]\nmain()\n"
    )
    command = [sys.executable, "-c", code, "chat", str(tiny_gguf), "-n", "1"]
    done = subprocess.run(command, input=text, capture_output=True, timeout=120, env=cli_environment())
    assert done.stdout.decode().splitlines()[0] == repr(expected.rstrip("\n") if text.startswith(b'"') else expected)


def test_no_text_is_read_without_end(cli: Cli, tiny_gguf: Path, tmp_path: Path) -> None:
    """Of a template, a prompt and stdin, not much more is read than can be of use."""
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(1 << 40)
    for option, most in (("--template", "1,048,576"), ("-f", "67,108,864")):
        prompt = ("x",) if option == "--template" else ()
        done = cli("run", tiny_gguf, *prompt, option, tmp_path / "huge")
        message = f"gemlet: {tmp_path}/huge: has more than {most} bytes, the most that is read of such a text\n"
        assert (done.returncode, done.stderr) == (1, message)
    with (tmp_path / "huge").open("rb") as file:
        command = [sys.executable, "-m", "gemlet", "run", str(tiny_gguf), "--raw"]
        read = subprocess.run(command, stdin=file, capture_output=True, timeout=120, env=cli_environment())
    assert read.returncode == 1 and read.stderr.startswith(b"gemlet: stdin: has more than 67,108,864 bytes")


def test_a_template_may_come_from_a_pipe(tiny_gguf: Path) -> None:
    """As a shell's <(...) gives it."""
    command = [sys.executable, "-m", "gemlet", "run", str(tiny_gguf), "x", "-n", "1", "--template", "/dev/stdin"]
    template = b"{{ messages[0].content }}"
    done = subprocess.run(command, input=template, capture_output=True, timeout=120, env=cli_environment())
    assert done.returncode == 0, done.stderr


def test_too_little_memory_is_a_line() -> None:
    code = "from gemlet.cli import common, main\ndef load(*given): raise MemoryError\ncommon.load = load\nmain()\n"
    done = subprocess.run(
        [sys.executable, "-c", code, "tokenize", "nano", "x"],
        capture_output=True,
        text=True,
        timeout=120,
        env=cli_environment(),
    )
    assert (done.returncode, done.stderr) == (1, "gemlet: there is not enough memory\n")


@pytest.mark.parametrize("number", [0, 1, 2])
def test_closed_streams(tiny_gguf: Path, number: int) -> None:
    """No file that is opened gets the number of a closed stream, into which something would be printed."""
    for arguments in (["chat", "-n", "2"], ["run", "the cat", "--raw", "-n", "2"], ["inspect"]):
        command = [sys.executable, "-m", "gemlet", arguments[0], str(tiny_gguf), *arguments[1:]]
        done = subprocess.run(
            command,
            input=b"the cat\n",
            capture_output=True,
            timeout=120,
            env=cli_environment(),
            preexec_fn=lambda: os.close(number),
        )
        assert done.returncode == 0 and b"Traceback" not in done.stdout + done.stderr, (arguments, done.stderr)


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "arguments", [["tokenize", "a"], ["tokenize", "a", "--json"], ["inspect"], ["run", "a", "--raw", "-n", "2"]]
)
def test_an_output_that_cannot_be_written(
    tiny_gguf: Path, tmp_path: Path, arguments: list[str], unbuffered: str
) -> None:
    """A limit on the size of files stands for a full disk. It is met at the first line, or at the end."""
    with (tmp_path / "out").open("w") as out:
        done = subprocess.run(
            [sys.executable, "-m", "gemlet", arguments[0], str(tiny_gguf), *arguments[1:]],
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            env=cli_environment() | {"PYTHONUNBUFFERED": unbuffered},
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
        )
    assert done.returncode == 1
    assert done.stderr == "gemlet: the output cannot be written: File too large\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("convert", "", "-o", "x"),
        ("convert", "x", "-o", ""),
        ("export", "onnx", "", "-o", "x"),
        ("export", "tflite", "nano", "-o", ""),
        ("export", "litertlm", "nano", "-o", ""),
        ("perplexity", "nano", ""),
        ("run", "nano", "-f", ""),
        ("run", "nano", "x", "--template", ""),
        ("bench", "nano", "--plot", ""),
        ("bench", "nano", "--compare", "llama.cpp", "--other-bin", ""),
    ],
)
def test_an_empty_name_is_not_the_folder_here(cli: Cli, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = cli(*arguments, cwd=tmp_path)
    assert done.returncode == 2 and "'': expected the name of a file" in done.stderr, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_has_the_ending_that_its_runtime_asks_for(cli: Cli, tmp_path: Path) -> None:
    done = cli("export", "litertlm", "nano", "-o", tmp_path / "nano.bin")
    message = f"gemlet: {tmp_path}/nano.bin: expected a name that ends in .litertlm, by which LiteRT-LM knows its files"
    assert (done.returncode, done.stderr) == (2, f"{message}\n")
    assert list(tmp_path.iterdir()) == []


def test_the_perplexity_of_one_token_has_no_deviation(cli: Cli, tiny_gguf: Path, model: gemlet.Model) -> None:
    """A text of four tokens: the second half of its window is one."""
    text = "the an"
    assert len(model.tokenize(text, bos=True)) == 4
    assert re.fullmatch(
        r"perplexity \d+\.\d{4} \(1 token in 1 window\)\n", cli("perplexity", tiny_gguf, "-", input=text).stdout
    )
    assert json.loads(cli("perplexity", tiny_gguf, "-", "--json", input=text).stdout)["error"] is None


def test_a_plot_is_not_drawn_over_the_model(cli: Cli, tiny_gguf: Path, tmp_path: Path) -> None:
    """Which is seen before anything is measured."""
    model = tmp_path / "model.gguf"
    model.write_bytes(tiny_gguf.read_bytes())
    done = cli("bench", model, "-p", 4, "-n", 2, "-r", 1000000, "--ceiling", "--plot", model)
    assert done.returncode == 1 and "which is read or in use; expected another name" in done.stderr
    assert model.read_bytes() == tiny_gguf.read_bytes()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.parametrize("command", ["convert", "export"])
def test_a_signal_leaves_nothing_unfinished(
    command: str, number: signal.Signals, code: int, tiny_gguf: Path, nano_gguf: Path, tmp_path: Path
) -> None:
    """The program is stopped while it writes, and while it checks what it has written."""
    stop = "def stop(*a, **k):\n    print('half', flush=True)\n    while True: signal.pause()\n"
    patch = {
        "convert": "from gemlet.conversion import writer; writer._align = stop\n",
        "export": "from gemlet.exporters import check; check.Reference.compare = stop\n",
    }[command]
    arguments = {
        "convert": ["convert", tiny_gguf.parent / "checkpoint", "-o", tmp_path / "out", "-q", "f32"],
        "export": ["export", "onnx", nano_gguf, "-o", tmp_path / "out", "--quant", "int8"],
    }[command]
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import signal\n{stop}{patch}from gemlet.cli import main; main()",
            *map(str, arguments),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=cli_environment(),
    )
    assert process.stdout is not None and process.stdout.readline() == "half\n"
    assert list(tmp_path.iterdir()) != []
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (code, "") and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_a_chat(number: signal.Signals, code: int, tiny_gguf: Path, long_gguf: Path) -> None:
    """While it waits for a line, and while it computes."""
    with terminal(tiny_gguf) as chat:
        chat.expect("> ")
        wait_until_asleep(chat.process.pid)  # readline would not see a signal between its prompt and its waiting
        chat.process.send_signal(number)
        assert chat.process.wait(timeout=60) == code
    with terminal(long_gguf, "-c", 32768, "--seed", 1) as chat:
        chat.expect("> ")
        chat.send("say\n")
        chat.expect(r"say\r\n(.|\n)+")
        wait_until_computing(chat.process.pid, long_gguf)
        chat.process.send_signal(number)
        assert chat.process.wait(timeout=60) == code


# --- terminal escapes ---


@pytest.fixture
def hostile_gguf(tmp_path: Path) -> Path:
    """A model whose name is a command to a terminal, and one of whose pieces is."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint", Tiny(), config={"_name_or_path": ESCAPE})
    pieces = tiny_pieces()
    pieces[-1] = Piece(ESCAPE, 0.0, PieceKind.USER_DEFINED)
    (checkpoint / "tokenizer.model").write_bytes(tiny_tokenizer(pieces).serialize())
    return convert(checkpoint, tmp_path / "hostile.gguf", "f32").path


def is_clean(done: "subprocess.CompletedProcess[str]") -> bool:
    return not any(control in done.stdout + done.stderr for control in "\x1b\x07\x9b")


def test_what_a_file_says_is_no_command_to_the_terminal(cli: Cli, hostile_gguf: Path, tmp_path: Path) -> None:
    assert gemlet.load(hostile_gguf).info.name == ESCAPE
    shown = cli("inspect", hostile_gguf, "--tensors", encoding="utf-8")
    assert "\\u001b]0;owned" in shown.stdout and is_clean(shown)
    for arguments in (
        ("inspect", hostile_gguf, "--json"),
        ("tokenize", hostile_gguf, f"a {ESCAPE}"),
        ("tokenize", hostile_gguf, f"a {ESCAPE}", "--json"),
        ("bench", hostile_gguf, "-p", 4, "-n", 2, "-r", 1),
        ("bench", hostile_gguf, "-p", 4, "-n", 2, "-r", 1, "--json"),
    ):
        done = cli(*arguments, encoding="utf-8")
        assert done.returncode == 0 and is_clean(done), arguments
    assert json.loads(cli("inspect", hostile_gguf, "--json").stdout)["name"] == ESCAPE
    pieces = json.loads(cli("tokenize", hostile_gguf, ESCAPE, "--json").stdout)
    assert [entry["piece"] for entry in pieces] == [ESCAPE]


def test_a_greeting_is_no_command_to_the_terminal(hostile_gguf: Path) -> None:
    with terminal(hostile_gguf) as chat:
        before = chat.expect("/help lists the commands")
        assert "\\u001b]0;owned" in before and "\x1b]" not in before


def test_names_in_errors_are_no_commands_to_the_terminal(cli: Cli, hostile_gguf: Path, tmp_path: Path) -> None:
    (tmp_path / f"{ESCAPE}.gguf").write_bytes(b"no model")
    hostile = tmp_path / "exported"
    hostile.mkdir()
    (hostile / "gemlet.json").write_text(json.dumps({"version": 2, "format": ESCAPE, ESCAPE: 1}))
    for arguments in (
        ("run", tmp_path / f"{ESCAPE}.gguf", "x"),
        ("run", tmp_path / f"none {ESCAPE}.gguf", "x"),
        ("run", hostile, "x"),
        ("run", hostile_gguf, "-f", tmp_path / ESCAPE),
        ("convert", tmp_path / ESCAPE, "-o", tmp_path / "x"),
        ("convert", hostile_gguf.parent / "checkpoint", "-o", tmp_path / ESCAPE / "x"),
        ("export", "onnx", tmp_path / f"{ESCAPE}.gguf", "-o", tmp_path / "x"),
        ("perplexity", hostile_gguf, tmp_path / ESCAPE),
        ("chat", hostile_gguf, "--load", tmp_path / ESCAPE),
    ):
        done = cli(*arguments, encoding="utf-8")
        assert done.returncode == 1 and done.stderr.startswith("gemlet: ") and is_clean(done), (arguments, done.stderr)


def test_only_one_place_prints() -> None:
    """So that nothing is printed as it came."""
    places = [
        f"{path.name}: {line.strip()}"
        for path in sorted(Path(common.__file__).parent.glob("*.py"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(r"(?<![\w.])print\(|sys\.std(out|err)\.write|typer\.echo", line)
        and "gemlet {__version__}" not in line
    ]
    assert len(places) == 3 and all(place.startswith("common.py: ") for place in places), places


def test_plain() -> None:
    assert common.plain(f"{ESCAPE}\n\té\udcff") == "\\u001b]0;owned\\u0007\\u001b[2J\\u009b31m\n\té\\udcff"
    assert json.loads(common.plain(json.dumps(ESCAPE, ensure_ascii=False))) == ESCAPE
