"""Pictures and sounds on the command line."""

import json
import os
import stat
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from conftest import Cli
from media_inputs import picture, sound
from published_templates import GEMMA_3
from tiny_encoders import seeing_model

ENDING = ("--temperature", "0", "-n", "3", "-t", "2")


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """The model and the encoders, a template and how the reply ends."""
    folder = tmp_path_factory.mktemp("seeing")
    text, mmproj = seeing_model(folder)
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
    ):
        done = cli("run", model, "the", *given, *(rest if "--raw" not in given else ENDING))
        assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr
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
    assert done.returncode == 0 and "prompt 9 tokens" in done.stderr


def recorder(folder: Path, script: str) -> dict[str, str]:
    """An environment whose microphone is a script."""
    folder.mkdir(exist_ok=True)
    program = folder / "arecord"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def test_chat_records(options: tuple[str, ...], tmp_path: Path, cli: Cli) -> None:
    raw = tmp_path / "raw"
    raw.write_bytes((sound(8000) * 3000).astype("<i2").tobytes())
    env = recorder(tmp_path / "bin", f'cat "{raw}"')
    done = cli("chat", *options, input="/record\n\nthe\n/history", env=env)
    assert done.returncode == 0, done.stderr
    assert "user: [sound, 0.5 s] the" in done.stdout


def test_a_microphone_that_fails_is_an_error(options: tuple[str, ...], tmp_path: Path, cli: Cli) -> None:
    env = recorder(tmp_path / "bin", "echo 'no soundcards found' >&2; exit 1")
    done = cli("chat", *options, input="/record\n\nthe", env=env)
    assert done.returncode == 1 and "arecord has recorded nothing: no soundcards found" in done.stderr
    assert np.all([word not in done.stderr for word in ("Traceback", "Error:")])
    nothing = {"PATH": str(tmp_path / "empty")}
    done = cli("chat", *options, input="/record\nthe", env=nothing)
    assert "nothing here records sound: expected one of the programs arecord, parec, rec" in done.stderr
