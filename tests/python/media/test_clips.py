"""Recordings are cut in their pauses, and nothing of them is lost."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from gemlet.media.clips import FRAME, Clip, Cutter, audible, clips_of, pause_in
from gemlet.media.sound import RATE
from numpy.typing import NDArray

Samples = NDArray[np.float32]


def speech(seconds: float, pauses: tuple[float, ...] = (), seed: int = 0) -> Samples:
    """Noise as loud as speech, with half a second of quiet around each of the times."""
    random = np.random.default_rng(seed)
    samples = (random.normal(size=round(seconds * RATE)) * 0.1).astype(np.float32)
    for time in pauses:
        samples[round((time - 0.25) * RATE) : round((time + 0.25) * RATE)] *= 0.01
    return samples


def cut(samples: Samples, block: int = 1 << 30, **seconds: float) -> list[Clip]:
    blocks = (samples[i : i + block] for i in range(0, len(samples), block))
    return list(clips_of(blocks, Cutter(**seconds)))


def assert_whole(clips: list[Clip], samples: Samples) -> None:
    """Each clip is the recording's, and without what they share they are all of it."""
    for clip in clips:
        np.testing.assert_array_equal(clip.samples, samples[clip.begin : clip.end])
    assert [clip.goes_on for clip in clips] == [clip.overlap > 0 for clip in clips[1:]] + [False]
    np.testing.assert_array_equal(np.concatenate([clip.samples[clip.overlap :] for clip in clips]), samples)


@pytest.mark.parametrize("length", [1, 512, 513, 30 * RATE - 1, 30 * RATE])
def test_what_is_short_enough_is_one_clip(length: int) -> None:
    samples = speech(30, (25,))[:length]
    [clip] = cut(samples)
    assert (clip.begin, clip.end, clip.overlap) == (0, length, 0)
    assert_whole([clip], samples)


def test_nothing_has_no_clips() -> None:
    assert cut(speech(0)) == []


def test_one_sample_more_is_cut_in_the_pause() -> None:
    samples = speech(30 + 1 / RATE, (10, 23, 27))
    samples[round(22.75 * RATE) : round(23.25 * RATE)] *= 0.1  # the quietest of those in reach
    clips = cut(samples)
    assert [clip.overlap for clip in clips] == [0, 0]
    assert abs(clips[0].end / RATE - 23) < 0.15
    assert_whole(clips, samples)


def test_one_sample_more_without_a_pause_overlaps() -> None:
    samples = speech(30 + 1 / RATE, (10,))
    clips = cut(samples)
    assert [(clip.begin, clip.end, clip.overlap) for clip in clips] == [
        (0, 30 * RATE, 0),
        (26 * RATE, 30 * RATE + 1, 4 * RATE),
    ]
    assert_whole(clips, samples)


def test_ten_minutes() -> None:
    """Pauses all 7 seconds, but for the third minute."""
    pauses = tuple(time for time in range(7, 600, 7) if not 120 <= time < 180)
    samples = speech(600, pauses)
    clips = cut(samples)
    assert_whole(clips, samples)
    assert all(len(clip.samples) <= 30 * RATE for clip in clips)
    assert all(len(clip.samples) >= 20 * RATE for clip in clips[:-1])
    overlapping = [clip for clip in clips if clip.overlap]
    assert len(overlapping) == 2 and all(120 < clip.begin / RATE < 180 for clip in overlapping)
    for clip, following in pairwise(clips):
        if not following.overlap:
            assert min(abs(clip.end / RATE - time) for time in pauses) < 0.15


@pytest.mark.parametrize("block", [999, 16000, 480_000, 480_001])
def test_blocks_change_nothing(block: int) -> None:
    samples = speech(100, (25, 47, 71))
    for clip, expected in zip(cut(samples, block), cut(samples), strict=True):
        assert (clip.begin, clip.overlap) == (expected.begin, expected.overlap)
        np.testing.assert_array_equal(clip.samples, expected.samples)


def test_clips_come_as_soon_as_they_are_known() -> None:
    """And what was handed over is not held."""
    cutter = Cutter()
    samples = speech(31)
    assert cutter.feed(samples[: 30 * RATE]) == []
    [clip] = cutter.feed(samples[30 * RATE : 30 * RATE + 1])
    samples[:] = 0
    assert clip.samples.any() and clip.end == 30 * RATE


def test_silence_is_cut_as_late_as_can_be() -> None:
    [first, last] = cut(np.zeros(35 * RATE, np.float32))
    assert first.end / RATE == pytest.approx(29.85) and first.end == last.begin


def test_shorter_clips() -> None:
    samples = speech(40, (4, 9.5, 17, 25, 31, 36))
    clips = cut(samples, longest=10, shortest=3, overlap=1)
    assert_whole(clips, samples)
    assert all(3 * RATE <= len(clip.samples) <= 10 * RATE and not clip.overlap for clip in clips)


def test_a_pause_is_no_closure_of_a_plosive() -> None:
    samples = speech(30)
    samples[25 * RATE : round(25.1 * RATE)] = 0
    assert pause_in(samples, 20 * RATE) is None
    assert pause_in(samples, round(29.9 * RATE)) is None  # too near the end to be one
    samples[25 * RATE : round(25.4 * RATE)] = 0
    pause = pause_in(samples, 20 * RATE)
    assert pause is not None and abs(pause - 25.2 * RATE) < 0.06 * RATE


def test_where_somebody_speaks() -> None:
    samples = np.zeros(5 * RATE, np.float32)
    assert audible(samples) is None and audible(samples[:1]) is None
    samples[RATE : 3 * RATE] = speech(2)
    samples[:] += speech(5, seed=1) * 1e-3
    begin, end = audible(samples) or (0, 0)
    assert abs(begin - RATE) <= FRAME and abs(end - 3 * RATE) <= FRAME
    assert audible(speech(1)[:100]) == (0, 100)
