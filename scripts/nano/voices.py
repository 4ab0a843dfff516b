"""Speech by espeak-ng in many voices, with noise and a room around it, and its log-mel features."""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sentences import Utterance

RATE = 16000
MEL = 64
Floats = NDArray[np.float32]

DIALECTS = {
    "English": ("en-us", "en-us", "en", "en", "en-gb-x-rp", "en-gb-scotland", "en-us-nyc", "en-029"),
    "Spanish": ("es", "es-419"),
    "French": ("fr", "fr-be", "fr-ch"),
    "Italian": ("it",),
    "Portuguese": ("pt", "pt-br"),
    "German": ("de",),
}
SPEAKERS = (
    *("", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "f1", "f2", "f3", "f4", "f5", "klatt", "klatt2", "klatt3"),
    *("Andy", "Annie", "Alex", "Alicia", "Diogo", "Lee", "Mario", "Michael", "adam", "antonio", "belinda", "edward"),
    *("gustave", "iven", "linda", "marcelo", "max", "michel", "miguel", "pablo", "paul", "pedro", "rob", "robert"),
    *("sandro", "shelby", "steph", "travis", "zac"),
)
_RETRIEVE, _UTF8, _RATE, _PITCH, _RANGE = 2, 1, 1, 3, 4


class Espeak:
    """libespeak-ng, whose engine a process has once."""

    def __init__(self) -> None:
        path = ctypes.util.find_library("espeak-ng")
        if path is None:
            raise FileNotFoundError("libespeak-ng: not found (Debian has it in the package espeak-ng)")
        self.library: Any = ctypes.CDLL(path)
        self.rate = int(self.library.espeak_Initialize(_RETRIEVE, 200, None, 0))
        if self.rate <= 0:
            raise RuntimeError("espeak-ng: its voices were not found")
        self.pieces: list[bytes] = []
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)

        def take(samples: Any, count: int, _: Any) -> int:
            if samples and count > 0:
                self.pieces.append(ctypes.string_at(samples, 2 * count))
            return 0

        self.callback = kind(take)
        self.library.espeak_SetSynthCallback(self.callback)

    def say(self, text: str, voice: str, rate: int, pitch: int, spread: int) -> Floats:
        """Samples at the engine's rate."""
        if self.library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"espeak-ng: no voice {voice!r}")
        for parameter, value in ((_RATE, rate), (_PITCH, pitch), (_RANGE, spread)):
            self.library.espeak_SetParameter(parameter, value, 0)
        self.pieces.clear()
        data = text.encode() + b"\0"
        self.library.espeak_Synth(data, len(data), 0, 1, 0, _UTF8, None, None)
        self.library.espeak_Synchronize()
        return np.frombuffer(b"".join(self.pieces), np.int16).astype(np.float32) / 32768


@functools.cache
def espeak() -> Espeak:
    return Espeak()


@dataclass(frozen=True)
class Manner:
    """How something is said, and where."""

    voice: str
    rate: int
    pitch: int
    spread: int
    seed: int

    @classmethod
    def drawn(cls, rng: Random, language: str) -> Manner:
        speaker = rng.choice(SPEAKERS)
        voice = rng.choice(DIALECTS[language]) + (f"+{speaker}" if speaker else "")
        return cls(voice, rng.randint(115, 205), rng.randint(15, 85), rng.randint(20, 80), rng.getrandbits(32))


def resampled(samples: Floats, rate: int) -> Floats:
    """At 16 kHz, by Fourier transform."""
    block = 441 * 32 if rate == 22050 else rate
    padded = np.pad(samples, (0, -len(samples) % block))
    spectrum = np.fft.rfft(padded)
    length = len(padded) * RATE // rate
    out = np.fft.irfft(spectrum[: length // 2 + 1], length) * (length / len(padded))
    return out[: len(samples) * RATE // rate].astype(np.float32)


def trimmed(samples: Floats) -> Floats:
    """Without silence at either end."""
    loud = np.flatnonzero(np.abs(samples) > 0.01 * max(1e-3, float(np.abs(samples).max(initial=0))))
    return samples[loud[0] : loud[-1] + 1] if len(loud) else samples


def in_a_room(samples: Floats, random: np.random.Generator) -> Floats:
    """With an echo that decays exponentially, for half of the clips."""
    if random.random() < 0.5:
        return samples
    length = int(RATE * random.uniform(0.05, 0.3))
    echo = random.normal(size=length) * np.exp(-6.9 * np.arange(length) / length)
    echo *= random.uniform(0.1, 0.6) / np.sqrt((echo**2).sum())
    size = 1 << (len(samples) + length - 1).bit_length()
    wet = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(echo, size), size)[: len(samples)]
    return (samples + wet).astype(np.float32)


def noisy(samples: Floats, random: np.random.Generator) -> Floats:
    """With noise whose spectrum falls by a random power of frequency, for two clips of three."""
    if random.random() < 1 / 3:
        return samples
    size = 1 << (len(samples) - 1).bit_length()
    spectrum = np.fft.rfft(random.normal(size=size)) * (1 + np.arange(size // 2 + 1)) ** -random.uniform(0, 1)
    noise = np.fft.irfft(spectrum, size)[: len(samples)]
    level = 10 ** (-random.uniform(8, 40) / 20)
    power = np.sqrt((samples**2).mean() / (noise**2).mean())
    return (samples + noise * level * power).astype(np.float32)


@functools.lru_cache(maxsize=1024)
def spoken(utterance: Utterance, manner: Manner) -> Floats:
    """The clip at 16 kHz, with some silence around it. It is kept, since espeak-ng never says a thing twice alike."""
    engine = espeak()
    random = np.random.default_rng(manner.seed)
    said = trimmed(engine.say(utterance.text, manner.voice, manner.rate, manner.pitch, manner.spread))
    clean = resampled(said, engine.rate)
    before, after = (int(RATE * random.uniform(low, high)) for low, high in ((0.02, 0.4), (0.15, 0.7)))
    clip = noisy(in_a_room(np.pad(clean, (before, after)), random), random)
    peak = float(np.abs(clip).max(initial=1e-3))
    loud: Floats = (clip * (10 ** random.uniform(-1.2, -0.05) / peak)).astype(np.float32)
    return loud


@functools.cache
def _extractor() -> Any:
    from transformers.models.gemma3n.feature_extraction_gemma3n import Gemma3nAudioFeatureExtractor

    return Gemma3nAudioFeatureExtractor(feature_size=MEL)


def features(clip: Floats) -> Floats:
    """[frames][MEL], as transformers' extractor computes it."""
    out: Floats = _extractor()([clip], return_tensors="np")["input_features"][0]
    return out
