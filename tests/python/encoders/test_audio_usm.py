"""The audio encoder: its properties, and transformers as the oracle."""

from __future__ import annotations

from pathlib import Path

import gemlet
import gguf
import numpy as np
import pytest
from gemlet import _core

from media_inputs import GOLDENS, sound
from tiny import Array
from tiny_audio import TinyAudio, gguf_name

MODELS = {
    "everything": TinyAudio(),
    "one head, odd sizes": TinyAudio(width=36, heads=1, layers=2, mel=37, channels=(5, 7), text_hidden=24),
    "many heads": TinyAudio(width=96, heads=8, layers=4, mel=64, channels=(8, 32), text_hidden=64, seed=3),
}


def encode(encoders: _core.Encoders, samples: Array, block: int = 0) -> Array:
    stream = encoders.sound()
    for begin in range(0, len(samples), block or max(len(samples), 1)):
        stream.feed(samples[begin : begin + (block or len(samples))])
    stream.finish()
    return stream.rows()


@pytest.fixture(scope="module", params=MODELS)
def tiny(request: pytest.FixtureRequest) -> TinyAudio:
    return MODELS[request.param]


@pytest.fixture(scope="module")
def path(tiny: TinyAudio, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write(tmp_path_factory.mktemp("audio") / "mmproj.gguf")


@pytest.mark.parametrize("block", [1, 159, 160, 161, 513, 7777])
def test_a_sound_in_pieces_is_the_whole_to_the_bit(path: Path, block: int) -> None:
    encoders = _core.Encoders.load(path, 1)
    samples = sound(4000 if block == 1 else 61234)
    np.testing.assert_array_equal(encode(encoders, samples, block), encode(encoders, samples))


def test_threads_change_nothing(path: Path) -> None:
    samples = sound(50000)
    np.testing.assert_array_equal(
        encode(_core.Encoders.load(path, 1), samples), encode(_core.Encoders.load(path, 3), samples, 9001)
    )


def test_tokens_come_while_the_sound_does(path: Path) -> None:
    """The first of four frames of a token is its: it needs seven frames of the spectrogram, so that 92 ms suffice."""
    stream = _core.Encoders.load(path, 1).sound()
    counts = []
    for begin in range(0, 48000, 1600):
        stream.feed(sound(48000)[begin : begin + 1600])
        counts.append(len(stream.rows()))
    assert counts[0] == 1 and counts[9] == 6 and counts[-1] == 19
    stream.finish()
    assert len(stream.rows()) == 19


@pytest.mark.parametrize(("samples", "tokens"), [(1, 1), (512, 1), (513, 1), (16000, 7), (480000, 188), (480001, 188)])
def test_numbers_of_tokens(path: Path, samples: int, tokens: int) -> None:
    assert len(encode(_core.Encoders.load(path, 2), sound(samples))) == tokens


def test_ten_minutes(tmp_path: Path) -> None:
    """A long sound is encoded piece by piece: its beginning is that of the short one."""
    tiny = TinyAudio(width=16, heads=2, layers=1, mel=16, channels=(4, 4), text_hidden=8)
    encoders = _core.Encoders.load(tiny.write(tmp_path / "mmproj.gguf"), 1)
    samples = sound(600 * 16000)
    rows = encode(encoders, samples, 160000)
    assert len(rows) == 3750
    np.testing.assert_array_equal(rows[:370], encode(encoders, samples[: 60 * 16000])[:370])


def test_sounds_that_are_none(path: Path) -> None:
    encoders = _core.Encoders.load(path, 1)
    with pytest.raises(gemlet.ArgumentError, match="no samples"):
        encode(encoders, sound(0))
    for bad in (np.nan, np.inf, -np.inf, 17.0, -32768.0):  # the last: whole numbers of 16 bits
        samples = sound(1000)
        samples[700] = bad
        stream = encoders.sound()
        stream.feed(samples[:500])
        with pytest.raises(gemlet.ArgumentError, match=r"sample 700 is .*, expected a number in \[-1, 1\]"):
            stream.feed(samples[500:])
        stream.feed(sound(1000)[500:])
        stream.finish()
        np.testing.assert_array_equal(stream.rows(), encode(encoders, sound(1000)))
        with pytest.raises(gemlet.ArgumentError, match="finished"):
            stream.feed(sound(10))


def test_samples_of_another_shape_or_type(path: Path) -> None:
    encoders = _core.Encoders.load(path, 1)
    for bad in (np.zeros(600, np.int16), np.zeros((600, 2), np.float32), np.zeros((), np.float32)):
        with pytest.raises(gemlet.ArgumentError, match=r"^the samples: expected float32\[samples\], one channel"):
            encoders.sound().feed(bad)  # type: ignore[arg-type]
    np.testing.assert_array_equal(encode(encoders, sound(3000).astype(np.float64)), encode(encoders, sound(3000)))


def test_loud_and_silent_sounds_stay_finite(path: Path) -> None:
    encoders = _core.Encoders.load(path, 1)
    for samples in (np.zeros(20000, np.float32), np.full(20000, 16, np.float32), np.float32(1e-30) * sound(20000)):
        assert np.isfinite(encode(encoders, samples)).all()


def test_a_file_without_encoders(nano_gguf: Path) -> None:
    with pytest.raises(gemlet.UnsupportedError, match="holds no encoder"):
        _core.Encoders.load(nano_gguf)


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0"])
def test_quantised_towers_are_near(kind: str, tmp_path: Path) -> None:
    tiny = TinyAudio(width=64, heads=2, mel=64, channels=(16, 8), text_hidden=64)
    samples = sound(32000)
    whole = encode(_core.Encoders.load(tiny.write(tmp_path / "f32.gguf")), samples)
    rows = encode(_core.Encoders.load(tiny.write(tmp_path / f"{kind}.gguf", gguf.GGMLQuantizationType[kind])), samples)
    cosine = (whole * rows).sum(-1) / np.sqrt((whole**2).sum(-1) * (rows**2).sum(-1))
    assert cosine.min() > {"F16": 0.99999, "BF16": 0.999, "Q8_0": 0.995}[kind]


def test_the_encoder_is_transformers_as_recorded(tmp_path: Path) -> None:
    """Where transformers is not installed: scripts/goldens/encoders.py."""
    expected = np.load(GOLDENS)["audio"]
    rows = encode(_core.Encoders.load(TinyAudio().write(tmp_path / "mmproj.gguf")), sound(48000))
    assert rows.shape == expected.shape
    assert np.abs(rows - expected).max() < 1e-4 * np.sqrt((expected**2).mean())


@pytest.mark.live
def test_the_encoder_is_transformers(tiny: TinyAudio, path: Path) -> None:
    from encoder_oracles import audio_rows

    encoders = _core.Encoders.load(path, 2)
    for count in (513, 641, 5000, 16000, 48000, 65537):
        expected = audio_rows(tiny, sound(count))
        rows = encode(encoders, sound(count))
        assert rows.shape == expected.shape
        assert np.abs(rows - expected).max() < 1e-4 * np.sqrt((expected**2).mean())


def test_every_tensor_has_a_name_of_its_own() -> None:
    weights = TinyAudio().weights()
    assert len({gguf_name(name) for name in weights}) == len(weights)
