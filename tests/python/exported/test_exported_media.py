"""Exported models that see and hear, beside the core with the same encoders."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import gemlet
import numpy as np
import pytest
from gemlet import _core
from gemlet.exporters import export
from gemlet.media.png import to_png
from gemlet.media.wav import to_wav

from conftest import Cli
from media_inputs import picture, sound
from published_templates import GEMMA_3
from scripts import FORK, run_script
from tiny import Array

CAT, DOG = (gemlet.Image(picture(40, 30, seed), size=256) for seed in range(2))
WORDS = gemlet.Audio(sound(9000), 16000)
CONTEXT = 1536


@pytest.fixture(scope="module")
def core(seeing: tuple[Path, Path]) -> gemlet.Model:
    text, mmproj = seeing
    return gemlet.load(text, media=mmproj, threads=2, context=CONTEXT, cache="f32")


@pytest.fixture(scope="module")
def folders(seeing: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Exports are made once, when a test first asks."""
    made: dict[str, Path] = {}
    folder = tmp_path_factory.mktemp("exports")
    text, mmproj = seeing

    def get(format: str) -> Path:
        if format not in made:
            out = folder / format
            made[format] = export(text, out, format, "fp32", context=CONTEXT, prefill=(8, 64), media=mmproj).path
        return made[format]

    return get


@pytest.fixture(params=["onnx", "tflite"])
def exported(request: pytest.FixtureRequest, folders: Callable[[str], Path]) -> gemlet.Model:
    return gemlet.load(folders(request.param), threads=2)


def rows(count: int, seed: int) -> Array:
    return np.random.default_rng(seed).normal(0, 2, (count, 36)).astype(np.float32)


def test_logits_are_the_cores(core: gemlet.Model, exported: gemlet.Model) -> None:
    """Media at the beginning, one behind the other, and longer than what is computed at a time."""
    random = np.random.default_rng(5)
    media = [(0, rows(3, 1)), (10, rows(257, 2)), (267, rows(5, 3)), (300, rows(700, 4))]
    tokens = random.integers(4, core.info.vocabulary, 1100).tolist()
    for begin, each in media:
        tokens[begin : begin + len(each)] = [0] * len(each)
    prompt = _core.Prompt(tokens, media)
    expected = core._engine.session().prefill(prompt, all=True)
    plain = core._engine.session().prefill(_core.Prompt(tokens), all=True)
    assert np.abs(expected - plain).max() > 0.1
    session = exported._engine.session()
    assert np.abs(session.prefill(prompt, all=True) - expected).max() < 1e-3
    session = exported._engine.session()
    assert np.abs(session.prefill(prompt, all=False) - expected[-1]).max() < 1e-3
    session.rewind(285)  # behind three of them
    assert session.advance_to(prompt) == 285
    fork = session.fork()
    token = int(expected[-1].argmax())
    longer = core._engine.session()
    longer.prefill(prompt, all=False)
    want = longer.prefill(_core.Prompt([token]), all=False)
    for timeline in (session, fork):
        assert np.abs(timeline.prefill(_core.Prompt([token]), all=False) - want).max() < 1e-3


def test_conversations_are_the_cores(core: gemlet.Model, exported: gemlet.Model) -> None:
    turns: list[list[str | gemlet.Image | gemlet.Audio]] = [
        [CAT, "the abc"],
        ["in", CAT, "and", DOG, "then"],
        [WORDS, "an in"],
    ]
    chats = [model.chat(template=GEMMA_3, max_tokens=6, temperature=0.0) for model in (core, exported)]
    for turn in turns:
        expected, found = (chat.send(turn) for chat in chats)
        assert found.tokens == expected.tokens
        assert found.stats.reused_tokens == expected.stats.reused_tokens
    other = exported.chat(template=GEMMA_3, max_tokens=6, temperature=0.0)
    assert other.send([DOG, "the abc"]).stats.reused_tokens == 0


def test_other_sizes_of_pictures(core: gemlet.Model, exported: gemlet.Model) -> None:
    for size in (None, 512):
        large = gemlet.Image(picture(700, 30), size=size)
        expected, found = (
            model.chat(template=GEMMA_3, max_tokens=4, temperature=0.0).send([large, "abc"])
            for model in (core, exported)
        )
        assert found.tokens == expected.tokens


def test_a_text_model_has_no_eyes(seeing: tuple[Path, Path], tmp_path: Path) -> None:
    model = gemlet.load(export(seeing[0], tmp_path / "out", "onnx", "fp32", context=512).path)
    with pytest.raises(gemlet.UnsupportedError, match="the model has no eyes or ears"):
        model.chat(template=GEMMA_3).send([CAT, "abc"])
    with pytest.raises(gemlet.UnsupportedError, match="this model takes no pictures or sounds"):
        model._engine.session().prefill(_core.Prompt([0, 0, 5], [(0, rows(2, 0))]), all=False)
    with pytest.raises(gemlet.ArgumentError, match="media: only for GGUF files"):
        gemlet.load(model.path, media=seeing[1])


def test_a_child_hears_and_sees_too(folders: Callable[[str], Path]) -> None:
    """A forked child has none of the runtimes' threads."""
    for format in ("onnx", "tflite"):
        ended = run_script(
            FORK
            + """
import gemlet, numpy as np
encoders = gemlet.load(sys.argv[1], threads=2)._media.encoders
pixels, samples = np.full((9, 9, 3), 77, np.uint8), np.full(5000, 0.1, np.float32)
def rows():
    return [made.finish().rows().tolist() for made in (encoders.encode(pixels, 256), encoders.encode_sound(samples))]
expected = rows()
def child():
    assert rows() == expected
in_child(child)
child()
""",
            folders(format),
        )
        assert ended.status == 0 and ended.output == "", ended.output


def test_the_command_line(cli: Cli, seeing: tuple[Path, Path], tmp_path: Path) -> None:
    text, mmproj = seeing
    done = cli("export", "onnx", text, "-o", tmp_path / "out", "-q", "fp32", "-c", "600", "--media", mmproj)
    assert done.returncode == 0, done.stderr
    for what in ("picture of 512 pixels", "sound of 7 s", "soft tokens", "vision-768.onnx"):
        assert what in done.stdout
    (tmp_path / "cat.png").write_bytes(to_png(CAT.pixels))
    (tmp_path / "t.jinja").write_text(GEMMA_3)
    ending = ("-n", "4", "--temperature", "0", "--template", tmp_path / "t.jinja")
    asked = ("-p", "abc", "--image", tmp_path / "cat.png", *ending)
    shown = cli("inspect", tmp_path / "out")
    assert shown.returncode == 0 and "pictures and sound" in shown.stdout, shown.stderr
    described = json.loads(cli("inspect", tmp_path / "out", "--json").stdout)
    assert described["encoders"] == {"sees": True, "hears": True, "hidden_size": 36}
    found = cli("run", tmp_path / "out", *asked)
    assert found.returncode == 0, found.stderr
    assert found.stdout == cli("run", text, "--media", mmproj, *asked).stdout


def test_nothing_that_is_written_replaces_a_file_of_the_folder(
    cli: Cli, folders: Callable[[str], Path], tmp_path: Path
) -> None:
    folder, talk = folders("onnx"), tmp_path / "talk.wav"
    talk.write_bytes(to_wav(sound(16000), 16000))
    target = folder / "audio.onnx"
    before = target.read_bytes()
    done = cli("transcribe", folder, talk, "-o", target)
    assert done.returncode == 1 and "audio.onnx" in done.stderr
    with pytest.raises(gemlet.FileError, match=r"audio\.onnx"):
        gemlet.load(folder).chat().save(target)
    assert target.read_bytes() == before


def test_cancelling_before_it_begins(exported: gemlet.Model) -> None:
    encoding = exported._media.encoders.encode(picture(9, 9), 256)
    encoding.cancel()
    with pytest.raises(gemlet.CancelledError, match="was cancelled"):
        encoding.next()


def test_a_folder_without_its_embedder(folders: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for part in folders("onnx").iterdir():
        (folder / part.name).symlink_to(part)
    (folder / "embedder.onnx").unlink()
    with pytest.raises(gemlet.FileError, match=r"embedder\.onnx"):
        gemlet.load(folder)
