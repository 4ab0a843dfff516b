"""gemlet transcribe and gemlet translate."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import gemlet
import numpy as np
import pytest
import soundfile

from conftest import Cli, cli_environment
from media_inputs import sound

SECONDS = 33.0


@pytest.fixture(scope="module")
def model(seeing: tuple[Path, Path]) -> gemlet.Model:
    return gemlet.load(seeing[0], media=seeing[1])


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files") / "a talk.flac"
    samples = np.clip(sound(round(SECONDS * 16000)), -0.99, 0.99)
    for time in (7, 16, 25):
        samples[time * 16000 - 4800 : time * 16000 + 4800] = 0
    soundfile.write(path, samples, 16000)
    return path


def written(*arguments: object, given: bytes = b"") -> bytes:
    """What the command writes to stdout, with each byte as it is."""
    command = [sys.executable, "-m", "gemlet", *map(str, arguments)]
    done = subprocess.run(command, input=given, capture_output=True, env=cli_environment(), check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


def test_transcribe_prints_the_text(seeing: tuple[Path, Path], model: gemlet.Model, talk: Path) -> None:
    expected = f"{model.transcribe(talk, language='hu').text}\n".encode()
    assert written("transcribe", seeing[0], talk, "--media", seeing[1], "--language", "hu") == expected
    piped = written("transcribe", seeing[0], "-", "--media", seeing[1], "-l", "Hungarian", given=talk.read_bytes())
    assert piped == expected


def test_translate(cli: Cli, seeing: tuple[Path, Path], model: gemlet.Model, talk: Path) -> None:
    expected = model.translate(talk, to="en", source="es", timestamps=True).to_dict()
    done = cli(
        "translate",
        seeing[0],
        talk,
        "--media",
        seeing[1],
        "--to",
        "English",
        "--from",
        "es",
        "--timestamps",
        "--json",
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == expected


@pytest.mark.parametrize("form", ["srt", "vtt", "json", "txt"])
def test_files_of_every_format(
    seeing: tuple[Path, Path], model: gemlet.Model, talk: Path, tmp_path: Path, form: str
) -> None:
    """By an option or by the name, and the same on stdout."""
    common = ("transcribe", seeing[0], talk, "--media", seeing[1])
    option = () if form == "txt" else (f"--{form}",)
    out = model.transcribe(talk, timestamps=form in ("srt", "vtt"))
    expected = {
        "srt": out.to_srt(),
        "vtt": out.to_vtt(),
        "json": json.dumps(out.to_dict(), ensure_ascii=False) + "\n",
        "txt": out.text + "\n",
    }[form]
    named, plain = tmp_path / f"talk.{form}", tmp_path / "talk"
    assert written(*common, "-o", named) == written(*common, "-o", plain, *option) == b""
    assert named.read_bytes() == plain.read_bytes() == expected.encode()
    assert written(*common, *option) == expected.encode()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--srt", "--vtt"), 2, "--srt and --vtt: expected one of them"),
        (("--language", "Klingon"), 2, "hu (Hungarian)"),
        (("-o", "/nowhere/talk.srt"), 1, "/nowhere"),
    ],
)
def test_what_is_refused(
    cli: Cli, seeing: tuple[Path, Path], talk: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    done = cli("transcribe", seeing[0], talk, "--media", seeing[1], *arguments)
    assert (done.returncode, done.stdout) == (code, "") and message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_recordings_that_are_none(cli: Cli, seeing: tuple[Path, Path], talk: Path, tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("no sound")
    for path, message in ((tmp_path / "none.wav", "No such file"), (tmp_path / "text.wav", "not a sound")):
        done = cli("transcribe", seeing[0], path, "--media", seeing[1])
        assert done.returncode == 1 and message in done.stderr and str(path) in done.stderr
    done = cli("transcribe", seeing[0], talk)
    assert done.returncode == 1 and "--media" in done.stderr


def test_neither_the_recording_nor_the_model_is_overwritten(cli: Cli, seeing: tuple[Path, Path], talk: Path) -> None:
    for target in (talk, *seeing):
        before = target.read_bytes()
        done = cli("transcribe", seeing[0], talk, "--media", seeing[1], "-o", target)
        assert done.returncode == 1 and str(target) in done.stderr
        assert target.read_bytes() == before


def test_translate_needs_a_language(cli: Cli, seeing: tuple[Path, Path], talk: Path) -> None:
    assert cli("translate", seeing[0], talk, "--media", seeing[1]).returncode == 2


def test_ctrl_c_ends_it_with_130(seeing: tuple[Path, Path], talk: Path, tmp_path: Path) -> None:
    """It is pressed when the first words have come."""
    long = tmp_path / "long.flac"
    samples, rate = soundfile.read(talk)
    soundfile.write(long, np.tile(samples, 40), rate)
    command = [
        sys.executable,
        "-m",
        "gemlet",
        "transcribe",
        str(seeing[0]),
        str(long),
        "--media",
        str(seeing[1]),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=cli_environment())
    assert process.stdout is not None and process.stdout.read(1)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (130, b"")
