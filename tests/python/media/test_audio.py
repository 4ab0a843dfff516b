"""Sounds: whatever holds them, their samples are one channel at 16 kHz."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import gemlet
import numpy as np
import pytest
import soundfile
import soxr
from gemlet.media.sound import RATE
from numpy.typing import NDArray

from media_files import av_file, sound_file
from media_inputs import sound

Samples = NDArray[np.float32]
LOSSY = [
    ("OGG", "VORBIS", 44100),
    ("OGG", "OPUS", 48000),
    ("MP3", "MPEG_LAYER_III", 44100),
    ("MP3", "MPEG_LAYER_III", 16000),
]


def likeness(a: Samples, b: Samples) -> float:
    """The correlation of what both have, at the delay that suits them best."""
    length = min(len(a), len(b))
    spectrum = np.fft.rfft(a[:length], 2 * length) * np.conj(np.fft.rfft(b[:length], 2 * length))
    return float(np.fft.irfft(spectrum).max() / np.sqrt((a[:length] ** 2).sum() * (b[:length] ** 2).sum()))


@pytest.mark.parametrize(
    ("format", "subtype"),
    [
        ("WAV", "FLOAT"),
        ("WAV", "PCM_16"),
        ("FLAC", "PCM_24"),
        ("AIFF", "PCM_16"),
        ("RF64", "PCM_16"),
        ("WAVEX", "PCM_24"),
    ],
)
def test_files_at_16_khz_give_the_samples(format: str, subtype: str) -> None:
    samples = np.clip(sound(20000), -0.99, 0.99)
    audio = gemlet.Audio(sound_file(samples, RATE, format, subtype))
    tolerance = {"FLOAT": 0, "PCM_24": 2**-23, "PCM_16": 2**-15}[subtype]
    assert audio.samples.dtype == np.float32 and audio.seconds == 20000 / RATE
    np.testing.assert_allclose(audio.samples, samples, rtol=0, atol=tolerance)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_other_rates_and_channels_are_what_soxr_makes_of_them(rate: int, channels: int) -> None:
    samples = np.stack([sound(3 * rate + 7, seed) for seed in range(channels)], 1)
    expected = soxr.resample(samples.mean(axis=1), rate, RATE, quality="HQ")
    for audio in (gemlet.Audio(samples, rate), gemlet.Audio(sound_file(samples, rate, "WAV", "FLOAT"))):
        np.testing.assert_array_equal(audio.samples, expected)
        assert abs(audio.seconds - (3 + 7 / rate)) < 0.001


@pytest.mark.parametrize(("format", "subtype", "rate"), LOSSY)
def test_lossy_files_sound_alike(format: str, subtype: str, rate: int) -> None:
    time = np.arange(2 * rate) / rate
    samples = (0.5 * np.sin(2 * np.pi * (300 + 500 * time) * time)).astype(np.float32)
    audio = gemlet.Audio(sound_file(np.stack([samples, samples], 1), rate, format, subtype))
    expected = soxr.resample(samples, rate, RATE) if rate != RATE else samples
    assert abs(audio.seconds - 2) < 0.1
    assert likeness(audio.samples, expected) > 0.95


@pytest.mark.parametrize(
    ("format", "codec", "video"),
    [
        ("mp4", "aac", False),
        ("mp4", "aac", True),
        ("adts", "aac", False),
        ("matroska", "aac", True),
        ("webm", "libopus", False),
        ("asf", "wmav2", False),
    ],
)
def test_what_libsndfile_does_not_read(format: str, codec: str, video: bool) -> None:
    rate = 48000
    time = np.arange(2 * rate) / rate
    samples = (0.5 * np.sin(2 * np.pi * (300 + 500 * time) * time)).astype(np.float32)
    audio = gemlet.Audio(av_file(samples, rate, format, codec, video))
    assert abs(audio.seconds - 2) < 0.1
    assert likeness(audio.samples, soxr.resample(samples, rate, RATE)) > 0.95


def test_a_video_without_sound() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        pictures = container.add_stream("mpeg4", rate=5)
        pictures.width = pictures.height = 32
        container.mux(pictures.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")))
        container.mux(pictures.encode())
    with pytest.raises(gemlet.FormatError, match="has no sound track"):
        gemlet.Audio(file.getvalue())


def test_a_playlist_opens_no_other_file(tmp_path: Path) -> None:
    """FFmpeg would open what a playlist names."""
    (tmp_path / "other.wav").write_bytes(sound_file(sound(9999), RATE, "WAV"))
    for text in (
        f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1\n{tmp_path}/other.wav\n",
        f"ffconcat version 1.0\nfile {tmp_path}/other.wav\n",
    ):
        with pytest.raises(gemlet.FormatError, match="not a sound"):
            gemlet.Audio(text.encode())


def test_every_source_gives_the_same(tmp_path: Path) -> None:
    samples = sound(5000)
    data = sound_file(samples, RATE, "WAV", "FLOAT")
    path = tmp_path / "a sound.wav"
    path.write_bytes(data)
    url = f"data:audio/wav;base64,{base64.b64encode(data).decode()}"
    for source in (path, str(path), data, bytearray(data), url):
        np.testing.assert_array_equal(gemlet.Audio(source).samples, samples)
    assert repr(gemlet.Audio(path)) == f"<gemlet.Audio from {path}>"
    np.testing.assert_array_equal(gemlet.Audio(samples, RATE).samples, samples)


@pytest.mark.parametrize("dtype", ["int16", "int32", "float16", "float32", "float64", ">i2", ">f4"])
def test_arrays_of_every_type(dtype: str) -> None:
    samples = np.round(np.clip(sound(3000), -1, 0.99) * 128) / 128
    scale = {"i2": 2**15, "i4": 2**31}.get(np.dtype(dtype).str[1:], 1)
    given = (samples * scale).astype(dtype)
    audio = gemlet.Audio(given, RATE)
    given[:] = 0  # the sound is a copy
    np.testing.assert_array_equal(audio.samples, samples.astype(np.float32))
    assert audio.samples.dtype == np.float32 and not audio.samples.flags.writeable


def test_loudest_whole_numbers() -> None:
    assert gemlet.Audio(np.array([-32768, 32767], np.int16), RATE).samples.tolist() == [-1, 32767 / 32768]
    assert gemlet.Audio(np.array([-(2**31)], np.int32), RATE).samples.tolist() == [-1]


def test_channels_of_an_array_are_averaged() -> None:
    stereo = np.stack([sound(800), np.zeros(800, np.float32)], 1)
    np.testing.assert_array_equal(gemlet.Audio(stereo, RATE).samples, stereo.mean(1))
    np.testing.assert_array_equal(gemlet.Audio(stereo[:, :1], RATE).samples, stereo[:, 0])


WAV = sound_file(sound(2000), RATE, "WAV")


@pytest.mark.parametrize(
    ("source", "rate", "error", "message"),
    [
        (np.zeros(9), None, gemlet.ArgumentError, "expected its rate"),
        (np.zeros(9), 0, gemlet.ArgumentError, "has 0 samples a second, expected 4000 to 768000"),
        (np.zeros(9), -16000, gemlet.ArgumentError, "-16000 samples a second"),
        (np.zeros(9), 10**9, gemlet.ArgumentError, "1000000000 samples a second"),
        (np.zeros(9), 16e3 + 0.5, gemlet.ArgumentTypeError, "rate: expected a whole number"),
        (np.zeros(0), RATE, gemlet.ArgumentError, "has no samples"),
        (np.zeros(1), 44100, gemlet.FormatError, r"no samples at 16000 Hz \(1 at 44100 Hz\)"),
        (np.zeros((0, 2)), RATE, gemlet.ArgumentError, "has no samples"),
        (np.zeros((5, 0)), RATE, gemlet.ArgumentError, "has 0 channels"),
        (np.zeros((2, 16000)), RATE, gemlet.ArgumentError, "16000 channels, expected 1 to 32"),
        (np.zeros((2, 2, 2)), RATE, gemlet.ArgumentError, r"shape \(2, 2, 2\), expected \(samples,\)"),
        (np.zeros(9, np.uint8), RATE, gemlet.ArgumentTypeError, "array of uint8, expected floats"),
        (np.zeros(9, np.int64), RATE, TypeError, "array of int64"),
        (np.array([0, np.nan]), RATE, gemlet.ArgumentError, "sample of the sound is nan"),
        (np.array([0, np.inf]), RATE, gemlet.ArgumentError, "sample of the sound is inf"),
        (np.array([0, 1e300]), RATE, gemlet.ArgumentError, "sample of the sound is inf"),
        (np.array([0.0, 12000.0]), RATE, gemlet.ArgumentError, r"is 12000.0, expected numbers in \[-1, 1\]"),
        (np.broadcast_to(np.float32(0), 3601 * 16000), RATE, gemlet.ArgumentError, "3,601 seconds, expected at most"),
        (WAV, RATE, gemlet.ArgumentError, "rate is 16000, expected none: the sound tells its own"),
        (WAV[:20], None, gemlet.FormatError, "not a sound that can be decoded"),
        (b"", None, gemlet.FormatError, "is empty"),
        (b"hello", None, gemlet.FormatError, "not a sound that can be decoded, expected WAV"),
        ("http://example.org/a.wav", None, gemlet.ArgumentError, "nothing is downloaded"),
        ("data:,", None, gemlet.FormatError, "is empty"),
        ("/nowhere/a.wav", None, gemlet.FileError, "No such file"),
        (None, None, gemlet.ArgumentTypeError, "found NoneType"),
        ([0.0, 1.0], RATE, gemlet.ArgumentTypeError, "found list"),
        (sound_file(np.zeros((9, 33)), RATE, "WAV"), None, gemlet.UnsupportedError, "33 channels"),
        (sound_file(np.zeros(9), 1000, "WAV"), None, gemlet.UnsupportedError, "1000 samples a second"),
    ],
)
def test_what_is_no_sound(source: Any, rate: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        gemlet.Audio(source, rate)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_a_file_with_samples_that_are_no_numbers(bad: float, tmp_path: Path) -> None:
    samples = sound(200000)
    samples[199999] = bad
    path = tmp_path / "bad.wav"
    path.write_bytes(sound_file(samples, 44100, "WAV", "FLOAT"))
    with pytest.raises(gemlet.FormatError, match=r"bad\.wav: a sample is"):
        gemlet.Audio(path).samples  # noqa: B018


def test_a_file_without_samples() -> None:
    audio = gemlet.Audio(sound_file(np.zeros(0), RATE, "WAV"))
    for what in ("samples", "seconds"):
        with pytest.raises(gemlet.FormatError, match="has no samples"):
            getattr(audio, what)


def test_a_file_that_claims_to_be_longer_than_it_is() -> None:
    data = bytearray(sound_file(sound(1000), RATE, "WAV", "PCM_16"))
    data[40:44] = b"\xff\xff\xff\x7f"
    np.testing.assert_allclose(gemlet.Audio(data).samples, sound(1000), atol=2**-15)


def test_a_small_file_of_many_hours() -> None:
    """Silence is compressed to nothing; it is refused before it fills the memory."""
    silence = np.zeros(3601 * 8000, np.int16)
    data = sound_file(silence, 8000, "FLAC")
    assert len(data) < 1 << 20
    with pytest.raises(gemlet.UnsupportedError, match="longer than 3,600 seconds"):
        gemlet.Audio(data).samples  # noqa: B018


def test_blocks_are_the_samples() -> None:
    audio = gemlet.Audio(sound_file(np.stack([sound(500000)] * 2, 1), 48000, "FLAC"))
    blocks = list(audio.blocks())
    assert len(blocks) > 3
    np.testing.assert_array_equal(np.concatenate(blocks), audio.samples)


def test_sounds_are_equal_by_their_bytes() -> None:
    samples = sound(100)
    assert gemlet.Audio(WAV) == gemlet.Audio(WAV) and hash(gemlet.Audio(WAV)) == hash(gemlet.Audio(WAV))
    assert gemlet.Audio(samples, RATE) == gemlet.Audio(samples, RATE) != gemlet.Audio(samples[1:], RATE)
    assert gemlet.Audio(WAV) != WAV


@pytest.mark.parametrize(("format", "mime"), [("WAV", "wav"), ("FLAC", "flac"), ("OGG", "ogg"), ("MP3", "mpeg")])
def test_a_saved_sound_has_the_bytes_of_its_file(format: str, mime: str) -> None:
    data = sound_file(sound(20000), RATE, format)
    saved = gemlet.Audio(data).to_dict()
    assert saved == {"type": "audio", "data": f"data:audio/{mime};base64,{base64.b64encode(data).decode()}"}
    assert gemlet.Audio.of_dict(saved) == gemlet.Audio(data)


def test_saved_samples_lose_nothing() -> None:
    audio = gemlet.Audio(sound(7777), 44100)
    saved = audio.to_dict()
    np.testing.assert_array_equal(gemlet.Audio.of_dict(saved).samples, audio.samples)
    read, rate = soundfile.read(io.BytesIO(base64.b64decode(saved["data"].partition(",")[2])), dtype="float32")
    assert rate == RATE
    np.testing.assert_array_equal(read, audio.samples)


@pytest.mark.parametrize("data", [None, 3, "/etc/passwd", "a.wav", "http://example.org/x.wav"])
def test_a_saved_sound_names_no_file(data: object) -> None:
    with pytest.raises(gemlet.ArgumentError, match="expected a data: URL"):
        gemlet.Audio.of_dict({"type": "audio", "data": data})


MISSING = """
import sys
for name in ("soundfile", "soxr", "av"):
    sys.modules[name] = None
import numpy, gemlet
audio = gemlet.Audio(numpy.zeros(99), 16000)
assert audio.seconds == 99 / 16000 and audio.to_dict()
for source, rate, extra in (
    (b"RIFF1234WAVE", None, "media"), (numpy.zeros(99), 8000, "media"), (b"1234ftyp1234", None, "av")
):
    try:
        gemlet.Audio(source, rate)
    except gemlet.UnsupportedError as error:
        assert f"pip install 'gemlet[{extra}]'" in str(error), error
    else:
        raise AssertionError(source)
"""


def test_arrays_at_16_khz_need_no_library() -> None:
    subprocess.run([sys.executable, "-c", MISSING], check=True, timeout=60)


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "large.wav"
    path.touch()
    os.truncate(path, (1 << 28) + 1)
    with pytest.raises(gemlet.FileError, match="larger than 268,435,456 bytes"):
        gemlet.Audio(path)


def test_the_longest_samples_come_back() -> None:
    """An hour, which is the most that an Audio holds."""
    audio = gemlet.Audio(np.zeros(3600 * RATE, np.float32), RATE)
    again = gemlet.Audio.of_dict(audio.to_dict())
    with again.open() as recording:
        assert recording.seconds == 3600


def test_samples_are_not_taken_for_a_file() -> None:
    """Not even those whose bytes are a file's."""
    samples = sound(900)
    audio = gemlet.Audio(samples, RATE)
    assert audio.digest != hashlib.sha256(samples.tobytes()).hexdigest()
    assert audio.digest == gemlet.Audio(samples.copy(), RATE).digest


def test_samples_cannot_be_made_writable() -> None:
    audio = gemlet.Audio(sound(900), RATE)
    with audio.open() as recording:
        for samples in (audio.samples, *recording.blocks):
            with pytest.raises(ValueError, match="WRITEABLE"):
                samples.setflags(write=True)
