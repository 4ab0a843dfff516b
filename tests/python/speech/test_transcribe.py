"""Recordings go through a model clip by clip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gemlet
import numpy as np
import pytest
from gemlet import _core
from gemlet.media.clips import Cutter, clips_of
from gemlet.media.encoding import Encoding
from gemlet.media.sound import RATE
from gemlet.speech.joining import join
from gemlet.speech.tasks import transcription, translation
from numpy.typing import NDArray

from media_files import sound_file
from media_inputs import sound

FEW: dict[str, Any] = {"max_tokens": 5}


@pytest.fixture(scope="module")
def model(seeing: tuple[Path, Path]) -> gemlet.Model:
    text, mmproj = seeing
    return gemlet.load(text, media=mmproj, threads=2, context=4096)


def recording(seconds: float, pauses: tuple[float, ...] = ()) -> NDArray[np.float32]:
    samples = sound(round(seconds * RATE))
    for time in pauses:
        samples[round((time - 0.3) * RATE) : round((time + 0.3) * RATE)] = 0
    return samples


def asked(model: gemlet.Model, prompt: str, samples: NDArray[np.float32]) -> str:
    chat = model.chat(temperature=0.0, **FEW)
    return chat.send([prompt, gemlet.Audio(samples, RATE)]).text.strip()


def test_a_recording_is_the_texts_of_its_clips(model: gemlet.Model) -> None:
    samples = recording(70, (25, 47))
    pieces: list[str] = []
    done: list[tuple[float, float]] = []
    out = model.transcribe(
        gemlet.Audio(samples, RATE),
        language="hu",
        on_text=pieces.append,
        progress=lambda seconds, of: done.append((seconds, of)),
        **FEW,
    )
    clips = list(clips_of([samples], Cutter()))
    prompt = transcription("hu", {}).prompt
    expected = [asked(model, prompt, clip.samples) for clip in clips]
    assert len(clips) == 3 and not any(clip.overlap for clip in clips)
    assert [segment.text for segment in out.segments] == [text for text in expected if text]
    assert out.text == " ".join(text for text in expected if text) == "".join(pieces)
    assert out.language == "Hungarian" and out.seconds == 70
    shares = np.array(done)
    assert (np.diff(shares[:, 0]) >= 0).all() and shares[-1, 0] == 70 and (shares[:, 1] == 70).all()
    assert len(shares) > len(clips)  # encoding is reported too


def test_a_file_is_decoded_as_it_is_transcribed(model: gemlet.Model, tmp_path: Path) -> None:
    path = tmp_path / "talk.flac"
    path.write_bytes(sound_file(recording(40, (24,)), RATE, "FLAC"))
    expected = model.transcribe(gemlet.Audio(path), **FEW)
    for source in (path, str(path), path.read_bytes()):
        assert model.transcribe(source, **FEW) == expected


def test_a_file_larger_than_what_is_held_in_memory(model: gemlet.Model, tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    silence = np.zeros((600 * 48000 * 2 // 2, 2), np.int16)
    path.write_bytes(sound_file(silence, 48000, "WAV"))
    assert path.stat().st_size > 1 << 26
    out = model.transcribe(path)
    assert (out.text, out.segments, out.seconds) == ("", (), 600)  # nobody is asked about silence


def test_timestamps_are_those_of_pauses(model: gemlet.Model) -> None:
    samples = recording(23, (6, 12.5, 17))
    out = model.transcribe(gemlet.Audio(samples, RATE), timestamps=True, **FEW)
    times = [time for segment in out.segments for time in (segment.start, segment.end)]
    np.testing.assert_allclose(times, [0, 5.7, 6.3, 12.2, 12.8, 16.7, 17.3, 23], atol=0.05)
    assert out.to_srt().startswith("1\n00:00:00,000 --> 00:00:05,7")


def test_translating_asks_for_another_language(model: gemlet.Model) -> None:
    samples = recording(5)
    for source in ("es", None):
        out = model.translate(gemlet.Audio(samples, RATE), to="English", source=source, **FEW)
        assert out.text == asked(model, translation("en", source, {}).prompt, samples)
        assert out.language == "English"


def test_options_reach_the_model(model: gemlet.Model) -> None:
    audio = gemlet.Audio(recording(3), RATE)
    texts = {model.transcribe(audio, temperature=5.0, seed=seed, **FEW).text for seed in range(4)}
    assert len(texts) > 1
    with pytest.raises(gemlet.ArgumentTypeError, match="unknown option 'colour'"):
        model.transcribe(audio, colour="red")  # type: ignore[call-arg]


def test_a_model_that_repeats_itself_ends(model: gemlet.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny model never ends by itself."""
    results: list[gemlet.GenerateResult] = []
    send = gemlet.Chat.send

    def watched(chat: gemlet.Chat, *arguments: Any, **options: Any) -> gemlet.GenerateResult:
        results.append(send(chat, *arguments, **options))
        return results[-1]

    monkeypatch.setattr(gemlet.Chat, "send", watched)
    model.transcribe(gemlet.Audio(recording(2), RATE))
    assert [(len(result.tokens), result.finish_reason) for result in results] == [(32 + 2 * 15, "length")]


@pytest.mark.parametrize("language", ["Klingon", ""])
def test_unknown_languages(model: gemlet.Model, language: str) -> None:
    audio = gemlet.Audio(recording(1), RATE)
    for call in (
        lambda: model.transcribe(audio, language=language),
        lambda: model.translate(audio, to=language),
        lambda: model.translate(audio, to="en", source=language),
        lambda: model.listen(language=language),
    ):
        with pytest.raises(gemlet.ArgumentError, match=r"expected one of .*hu \(Hungarian\)"):
            call()


@pytest.mark.parametrize(
    ("audio", "error", "message"),
    [
        ("/nowhere/talk.mp3", gemlet.FileError, "No such file"),
        ("https://example.org/talk.mp3", gemlet.ArgumentError, "nothing is downloaded"),
        (b"no sound", gemlet.FormatError, "not a sound"),
        (np.zeros(5), gemlet.ArgumentError, "expected its rate"),
        (None, gemlet.ArgumentTypeError, "expected a path"),
        (sound_file(np.zeros(0), RATE, "WAV"), gemlet.FormatError, "has no samples"),
    ],
)
def test_what_is_no_recording(model: gemlet.Model, audio: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        model.transcribe(audio)


def test_a_model_without_ears(seeing: tuple[Path, Path]) -> None:
    deaf = gemlet.load(seeing[0])
    for call in (lambda: deaf.transcribe("/nowhere.wav"), lambda: deaf.translate(b"", to="en"), lambda: deaf.listen()):
        with pytest.raises(gemlet.UnsupportedError, match="no eyes or ears"):
            call()


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_a_function_raises_stops_it(model: gemlet.Model, tmp_path: Path, error: type[BaseException]) -> None:
    """And is no fault of the recording's."""
    path = tmp_path / "talk.wav"
    path.write_bytes(sound_file(recording(5), RATE, "WAV"))

    def stop(*_: object) -> None:
        raise error("enough")

    for functions in ({"progress": stop}, {"on_text": stop}):
        with pytest.raises(error, match=r"^enough$"):
            model.transcribe(path, **functions)  # type: ignore[arg-type]


def test_a_sound_of_many_clips_in_a_chat(model: gemlet.Model) -> None:
    """No sample is in two clips, whether there are pauses or not."""
    samples = recording(65, (25,))
    clips = list(clips_of([samples], Cutter(overlap=0)))
    np.testing.assert_array_equal(np.concatenate([clip.samples for clip in clips]), samples)
    media = model._media.encode(gemlet.Audio(samples, RATE))
    assert len(media) == len(clips) == 3
    for medium, clip in zip(media, clips, strict=True):
        assert medium is model._media.encoders.encode_sound(clip.samples).finish()


@pytest.mark.parametrize(
    ("samples", "clips"), [(1, 1), (512, 1), (513, 1), (30 * RATE, 1), (30 * RATE + 1, 2), (600 * RATE, 20)]
)
def test_sounds_of_every_length_in_a_chat(model: gemlet.Model, samples: int, clips: int) -> None:
    """Without pauses: as many clips as there must be, of 188 places and the mark behind."""
    media = model._media.encode(gemlet.Audio(sound(samples), RATE))
    assert len(media) == clips and {medium.count for medium in media} == {189}


# --- while it is recorded ---


def listened(model: gemlet.Model, samples: NDArray[np.float32], block: int) -> gemlet.speech.Transcript:
    with model.listen(language="hu", **FEW) as ear:
        for begin in range(0, len(samples), block):
            ear.feed(samples[begin : begin + block])
        return ear.transcript()


@pytest.mark.parametrize("seconds", [0.01, 30, 30 + 1 / RATE])
def test_a_short_recording_is_one_clip_or_two(model: gemlet.Model, seconds: float) -> None:
    samples = recording(seconds)
    out = listened(model, samples, 16000)
    assert out.text.startswith(asked(model, transcription("hu", {}).prompt, samples[: 30 * RATE]))
    assert out.seconds == pytest.approx(seconds)


def test_blocks_change_nothing(model: gemlet.Model) -> None:
    samples = recording(75, (26, 33, 50))
    expected = listened(model, samples, len(samples))
    assert len(expected.segments) >= 3
    for block in (1600, 7777):
        assert listened(model, samples, block) == expected


def test_a_clip_ends_in_the_first_pause_behind_20_seconds(model: gemlet.Model) -> None:
    samples = recording(40, (10, 23))
    out = listened(model, samples, 16000)
    prompt = transcription("hu", {}).prompt
    [first, last] = out.segments
    assert first.end == pytest.approx(22.7, abs=0.05) and last.start == pytest.approx(23.3, abs=0.05)
    end = round(first.end * RATE)
    cuts = [cut for cut in range(end, end + RATE // 2) if cut % 320 == 0]
    assert first.text in {asked(model, prompt, samples[:cut]) for cut in cuts[12:18]}


def test_without_pauses_clips_overlap(model: gemlet.Model) -> None:
    samples = recording(50)
    out = listened(model, samples, 16000)
    prompt = transcription("hu", {}).prompt
    texts = [asked(model, prompt, samples[: 30 * RATE]), asked(model, prompt, samples[26 * RATE :])]
    expected = [text for text in join(*texts) if text]
    assert out.text == " ".join(expected) and [segment.text for segment in out.segments] == expected
    assert [segment.start for segment in out.segments] == [0, 30][: len(expected)] and out.seconds == 50


def test_the_sound_is_encoded_as_it_comes_and_once(model: gemlet.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the chat is given is known to the encoders already."""
    encoders = model._media.encoders
    assert isinstance(encoders, _core.Encoders)
    begin_stream = encoders.sound
    rows: list[int] = []
    finished: list[_core.Medium] = []
    asked_for: list[_core.Medium] = []

    class Stream:
        def __init__(self) -> None:
            self._stream = begin_stream()
            self.finish = self._stream.finish

        def feed(self, samples: NDArray[np.float32]) -> None:
            self._stream.feed(samples)
            rows.append(len(self._stream.rows()))

        def medium(self) -> _core.Medium:
            finished.append(self._stream.medium())
            return finished[-1]

    class Watched:
        sees, hears, sound = True, True, Stream

        def encode_sound(self, samples: NDArray[np.float32]) -> Encoding:
            encoding = encoders.encode_sound(samples)
            asked_for.append(encoding.finish())
            return encoding

    monkeypatch.setattr(model._media, "_encoders", Watched())
    monkeypatch.setattr(_core, "Encoders", Watched)
    with model.listen(**FEW) as ear:
        ear.feed(recording(3))
        assert rows[0] > 15  # 160 ms each
        assert ear.text()
    assert len(finished) == 1 and asked_for[0] is finished[0]


def test_asking_ends_a_clip_and_listening_goes_on(model: gemlet.Model) -> None:
    samples = recording(7)
    with model.listen(language="hu", **FEW) as ear:
        assert ear.text() == ""
        ear.feed(samples[: 3 * RATE])
        first = ear.text()
        assert first == ear.text() == asked(model, transcription("hu", {}).prompt, samples[: 3 * RATE])
        ear.feed(samples[3 * RATE :])
        second = asked(model, transcription("hu", {}).prompt, samples[3 * RATE :])
        assert ear.text() == f"{first} {second}"
    assert ear.text() == f"{first} {second}"  # closed
    with pytest.raises(gemlet.ArgumentError, match="closed"):
        ear.feed(samples)


def test_asking_right_behind_an_overlap(model: gemlet.Model) -> None:
    samples = recording(33)
    with model.listen(language="hu", **FEW) as ear:
        ear.feed(samples[: 30 * RATE])
        first = ear.text()
        assert first == asked(model, transcription("hu", {}).prompt, samples[: 30 * RATE])
        ear.feed(samples[30 * RATE :])
        assert ear.text() == f"{first} {asked(model, transcription('hu', {}).prompt, samples[30 * RATE :])}"


def test_text_comes_piece_by_piece(model: gemlet.Model) -> None:
    pieces: list[str] = []
    with model.listen(on_text=pieces.append, **FEW) as ear:
        ear.feed(recording(45, (24,)))
        assert pieces  # the first clip has ended
        ear.transcript()
        assert "".join(pieces) == ear.text()
        assert len(model._media._encoded) == 0  # nothing of a clip is kept


@pytest.mark.parametrize(
    ("block", "error", "message"),
    [
        ([0.0], gemlet.ArgumentTypeError, "found list"),
        (np.zeros(3, np.int16), gemlet.ArgumentTypeError, "array of int16"),
        (np.zeros((3, 2), np.float32), gemlet.ArgumentError, "one channel at 16000 Hz"),
        (np.array([np.nan]), gemlet.ArgumentError, "is nan"),
        (np.array([1e300]), gemlet.ArgumentError, "is inf"),
        (np.array([300.0]), gemlet.ArgumentError, "is 300"),
    ],
)
def test_blocks_that_are_refused_change_nothing(
    model: gemlet.Model, block: Any, error: type[Exception], message: str
) -> None:
    samples = recording(2)
    with model.listen(language="hu", **FEW) as ear:
        ear.feed(samples)
        with pytest.raises(error, match=message):
            ear.feed(block)
        assert ear.text() == asked(model, transcription("hu", {}).prompt, samples)


def test_encoders_that_take_whole_clips_only(model: gemlet.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those in other runtimes."""
    samples = recording(27, (22,))
    expected = listened(model, samples, 9999)
    encoders = model._media.encoders

    class Whole:
        sees, hears = True, True
        encode_sound = staticmethod(encoders.encode_sound)

    monkeypatch.setattr(model._media, "_encoders", Whole())
    assert listened(model, samples, 9999) == expected
