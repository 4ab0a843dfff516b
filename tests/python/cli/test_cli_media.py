"""Pictures and sounds on the command line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import gemlet
import pytest
import soundfile
from gemlet.media.microphone import Microphone
from PIL import Image

from conftest import Cli, cli_environment
from media_inputs import picture, sound
from published_templates import GEMMA_3

ENDING = ("--temperature", "0", "-n", "3", "-t", "2")


@pytest.fixture(scope="module")
def options(seeing: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """The model and the encoders, a template and how the reply ends."""
    text, mmproj = seeing
    folder = tmp_path_factory.mktemp("template")
    (folder / "template.jinja").write_text(GEMMA_3)
    return (str(text), "--media", str(mmproj), "--template", str(folder / "template.jinja"), *ENDING)


@pytest.fixture(scope="module")
def cat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files") / "a cat.png"
    Image.fromarray(picture(40, 30)).save(path)
    return path


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files") / "words.wav"
    soundfile.write(path, sound(9000), 16000)
    return path


def test_run_takes_pictures_and_sounds(options: tuple[str, ...], cat: Path, words: Path, cli: Cli) -> None:
    model, *rest = options
    media = ("--image", str(cat), "--image", str(cat), "--audio", str(words), "--image-size", "256")
    done = cli("run", model, "the", *media, "--json", *rest)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["stats"]["prompt_tokens"] > 2 * 257 + 189


def test_run_refuses_what_is_no_picture(options: tuple[str, ...], words: Path, tmp_path: Path, cli: Cli) -> None:
    model, *rest = options
    for given, message in (
        (("--image", str(words)), "words.wav"),
        (("--image", str(tmp_path / "none.png")), "none.png"),
        (("--audio", str(tmp_path / "none.wav")), "none.wav"),
        (("--image", str(words), "--raw"), "--raw"),
        (("--image-size", "256"), "--image-size is the size of pictures"),
        (("--image-size", "256", "--raw"), "--image-size is the size of pictures"),
    ):
        done = cli("run", model, "the", *given, *(rest if "--raw" not in given else ENDING))
        assert done.returncode in (1, 2) and message in done.stderr and "Traceback" not in done.stderr
        assert done.stdout == ""


def test_chat_attaches(options: tuple[str, ...], cat: Path, words: Path, tmp_path: Path, cli: Cli) -> None:
    saved = tmp_path / "chat.json"
    lines = [f"/image {cat}", f"/audio {words}", "the", "/history", f"/save {saved}", "/image nothing.png", "an"]
    done = cli("chat", *options, input="\n".join(lines))
    assert "picture, 40 x 30 pixels: goes with the next message" in done.stderr
    assert "sound, 0.6 s: goes with" in done.stderr
    assert "nothing.png" in done.stderr and done.returncode == 1
    assert "user: [picture, 40 x 30 pixels] [sound, 0.6 s] the" in done.stdout
    parts = json.loads(saved.read_text())["messages"][0]["content"]
    assert [part["type"] for part in parts] == ["image", "audio", "text"]


def test_chat_forgets_what_is_detached(options: tuple[str, ...], cat: Path, cli: Cli) -> None:
    done = cli("chat", *options, input=f"/image {cat}\n/detach\nthe\n/stats")
    assert done.returncode == 0 and "prompt 17 tokens" in done.stderr


def recorded(folder: Path, options: tuple[str, ...], script: str, said: str) -> subprocess.CompletedProcess[str]:
    """A chat that records with a script in place of ALSA's program, and goes on when the script has ended."""
    program, fifo = folder / "arecord", folder / "ended"
    program.write_text(f'#!/bin/sh\n{script}\n: > "{fifo}"\n')
    program.chmod(0o755)
    os.mkfifo(fifo)
    environment = cli_environment()
    environment["PATH"] = f"{folder}{os.pathsep}{environment['PATH']}"
    command = [sys.executable, "-m", "gemlet", "chat", *options]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as chat:
        assert chat.stdin is not None
        chat.stdin.write("/record\n")
        chat.stdin.flush()
        fifo.read_bytes()  # until the script closes it
        output, errors = chat.communicate(said)
    return subprocess.CompletedProcess(command, chat.returncode, output, errors)


def test_chat_records(options: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "raw").write_bytes((sound(8000) * 3000).astype("<i2").tobytes())
    done = recorded(tmp_path, options, f'cat "{tmp_path}/raw"', "\nthe\n/history\n")
    assert done.returncode == 0, done.stderr
    assert "user: [sound, 0.5 s] the" in done.stdout


def test_a_microphone_that_fails_is_an_error(options: tuple[str, ...], tmp_path: Path) -> None:
    done = recorded(tmp_path, options, "echo 'no soundcards found' >&2", "\nthe\n")
    assert done.returncode == 1 and "arecord has recorded nothing: no soundcards found" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_microphone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(gemlet.UnsupportedError, match=r"records sound: .* arecord, parec, rec"),
        Microphone(),
    ):
        pass
