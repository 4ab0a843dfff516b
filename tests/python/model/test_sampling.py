"""The core's sampler against one written plainly in numpy, draw by draw."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from gemlet import _core
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

Logits = NDArray[np.float32]
DRAWS = 6  # of each example

examples = settings(
    max_examples=600, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)


class Random:
    """The 64-bit Mersenne Twister of C++'s <random> (Nishimura 2000)."""

    def __init__(self, seed: int) -> None:
        self._state = [seed]
        for i in range(1, 312):
            last = self._state[-1]
            self._state.append((6364136223846793005 * (last ^ last >> 62) + i) % 2**64)
        self._used = 312

    def bits(self) -> int:
        state = self._state
        if self._used == 312:
            for i in range(312):
                x = (state[i] & 0xFFFFFFFF80000000) | (state[(i + 1) % 312] & 0x7FFFFFFF)
                state[i] = state[(i + 156) % 312] ^ x >> 1 ^ (x & 1) * 0xB5026F5AA96619E9
            self._used = 0
        x = state[self._used]
        self._used += 1
        x ^= x >> 29 & 0x5555555555555555
        x ^= x << 17 & 0x71D67FFFEDA60000
        x ^= x << 37 & 0xFFF7EEE000000000
        return x ^ x >> 43

    def uniform(self) -> float:
        """In [0, 1)."""
        return (self.bits() >> 11) / 2**53


@dataclasses.dataclass(frozen=True)
class Setting:
    """The fields of Sampling."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    seed: int = 0
    top_logprobs: int = 0

    def core(self, vocabulary: int, prompt: Sequence[int] = ()) -> _core.Sampler:
        sampling = _core.Sampling()
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            setattr(sampling, field.name, dict(value) if field.name == "logit_bias" else value)
        return _core.Sampler(sampling, vocabulary, prompt)


class TooClose(Exception):
    """The last bit of an exponential decides."""


class Plain:
    """Logit bias, penalties, temperature, top-k, top-p, min-p, and a draw, in this order."""

    def __init__(self, setting: Setting, prompt: Sequence[int] = ()) -> None:
        self._s = setting
        self._prompt = prompt
        self._answer: list[int] = []
        self._random = Random(setting.seed)

    def adjusted(self, logits: Logits) -> Logits:
        """In float32, as the logits are."""
        s = self._s
        values = logits.copy()
        for token, bias in s.logit_bias:
            values[token] += np.float32(bias)
        penalty = np.float32(s.repetition_penalty)
        for token in {*self._prompt, *self._answer}:
            values[token] = values[token] / penalty if values[token] > 0 else values[token] * penalty
        for token, count in Counter(self._answer).items():
            values[token] -= np.float32(s.presence_penalty) + np.float32(count) * np.float32(s.frequency_penalty)
        return values

    def candidates(self, values: Logits) -> tuple[list[int], NDArray[np.float64]]:
        """Tokens that may be drawn, with weights: 1 for the likeliest. In the order in which a draw goes through them:
        the likelier first, the lower id first among equals; by id where nothing is to be cut off by likelihood."""
        s = self._s
        exponents = (values.astype(np.float64) - float(values.max())) / float(np.float32(s.temperature))
        weights = np.exp(exponents)
        order = list(range(len(values)))
        if 0 < s.top_k < len(values) or s.top_p < 1:
            order = [int(token) for token in np.lexsort((np.array(order), -values))]
        if s.top_k > 0:
            order = order[: s.top_k]
        if s.top_p < 1:
            held = np.cumsum(weights[order])
            wanted = float(np.float32(s.top_p)) * held[-1]
            self._decide(held, wanted)
            order = order[: int(np.searchsorted(held, wanted)) + 1]  # the fewest that hold at least so much
        self._decide(weights[order], float(np.float32(s.min_p)))
        order = [token for token in order if weights[token] >= np.float32(s.min_p)]
        return order, weights[order]

    def sample(self, logits: Logits) -> int:
        values = self.adjusted(logits)
        if self._s.temperature == 0:
            token = int(np.argmax(values))
        else:
            order, weights = self.candidates(values)
            held = np.cumsum(weights)
            place = self._random.uniform() * held[-1]
            self._decide(held, place)
            token = order[int(np.searchsorted(held, place, side="right"))]
        self._answer.append(token)
        return token

    @staticmethod
    def _decide(values: NDArray[np.float64], limit: float) -> None:
        close = np.abs(values - limit) < 1e-11 * values.sum()
        if limit > 0 and (close & (values != limit)).any():
            raise TooClose


def finite(low: int, high: int, step: float) -> st.SearchStrategy[float]:
    """Multiples of a power of two, so that many are equal and sums are exact."""
    return st.integers(low, high).map(lambda i: i * step)


@st.composite
def vocabulary_logits(draw: st.DrawFn, vocabulary: int) -> list[Logits]:
    """Some for each draw: on a grid with ties and minus infinities, or bell-shaped, sharp or flat."""
    if draw(st.booleans()):
        value = st.one_of(finite(-160, 160, 1 / 8), st.sampled_from([-np.inf, 0.0, 3.0]))
        rows = draw(st.lists(st.lists(value, min_size=vocabulary, max_size=vocabulary), min_size=1, max_size=DRAWS))
        array = np.array(rows, np.float32)
        array[:, draw(st.integers(0, vocabulary - 1))] = 1.0  # one that can be drawn
        return list(array)
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    scale = draw(st.sampled_from([0.1, 1.0, 3.0, 12.0]))
    return list((scale * random.standard_normal((DRAWS, vocabulary))).astype(np.float32))


@st.composite
def sampler_settings(draw: st.DrawFn, vocabulary: int) -> Setting:
    def sometimes(off: float, on: st.SearchStrategy[float]) -> float:
        return off if draw(st.booleans()) else float(np.float32(draw(on)))

    token = st.integers(0, vocabulary - 1)
    bias = st.one_of(finite(-20, 20, 1 / 4), st.just(-np.inf))
    biased = draw(st.dictionaries(token, bias, max_size=min(3, vocabulary - 1))) if draw(st.booleans()) else {}
    return Setting(
        temperature=sometimes(1.0, st.sampled_from([0.0, 0.01, 0.3, 0.7, 1.5, 4.0])),
        top_k=int(sometimes(0, st.integers(1, vocabulary + 2))),
        top_p=sometimes(1.0, st.floats(0.01, 0.999)),
        min_p=sometimes(0.0, st.floats(0.0, 1.0)),
        repetition_penalty=sometimes(1.0, st.sampled_from([0.5, 1.1, 1.3, 2.0])),
        presence_penalty=sometimes(0.0, finite(-8, 8, 1 / 4)),
        frequency_penalty=sometimes(0.0, finite(-8, 8, 1 / 4)),
        logit_bias=tuple(biased.items()),
        seed=draw(st.integers(0, 2**64 - 1)),
        top_logprobs=draw(st.integers(0, 20)),
    )


def log_softmax(logits: Logits) -> NDArray[np.float64]:
    exact = logits.astype(np.float64) - float(logits.max())
    result: NDArray[np.float64] = exact - np.log(np.exp(exact).sum())
    return result


def check(setting: Setting, prompt: Sequence[int], rows: Sequence[Logits]) -> int:
    """The number of draws compared. They end where rounding decides, or where nothing is left to draw."""
    core, plain = setting.core(len(rows[0]), prompt), Plain(setting, prompt)
    for done, logits in enumerate(rows):
        if np.isneginf(plain.adjusted(logits)).all():
            with pytest.raises(ValueError, match="every logit is minus infinity"):
                core.sample(logits)
            return done
        try:
            expected = plain.sample(logits)
        except TooClose:
            return done
        token, logprob, top = core.sample(logits)
        assert token == expected
        if setting.top_logprobs == 0:
            assert (logprob, top) == (0, [])
            continue
        exact = log_softmax(logits)
        order = [int(i) for i in np.argsort(-logits, kind="stable") if np.isfinite(logits[i])][: setting.top_logprobs]
        assert logprob == pytest.approx(exact[token], abs=1e-5)
        assert [i for i, _ in top] == order
        assert [value for _, value in top] == pytest.approx(exact[order], abs=1e-5)
    return len(rows)


def test_the_random_numbers_are_those_of_the_standard() -> None:
    """[rand.predef]: the 10000th of a default-constructed mt19937_64, whose seed is 5489."""
    random = Random(5489)
    assert [random.bits() for _ in range(10000)][-1] == 9981545732273789042


def test_draws_equal_the_plain_sampler() -> None:
    compared = 0

    @examples
    @given(st.data(), st.integers(1, 40))
    def equal(data: st.DataObject, vocabulary: int) -> None:
        nonlocal compared
        prompt = data.draw(st.lists(st.integers(0, vocabulary - 1), max_size=8))
        compared += check(data.draw(sampler_settings(vocabulary)), prompt, data.draw(vocabulary_logits(vocabulary)))

    equal()
    assert compared > 1500  # rounding and empty vocabularies may not end them all early


@pytest.mark.parametrize(
    "setting",
    [
        Setting(),
        Setting(temperature=0.0),
        Setting(temperature=2.5, top_p=0.5),
        Setting(temperature=3.0, top_p=0.999),
        Setting(top_k=64, top_p=0.95),
        Setting(top_k=1000, min_p=0.05),
        Setting(temperature=1.3, top_k=20, top_p=0.9, min_p=0.05, repetition_penalty=1.2, logit_bias=((3, 1.0),)),
        Setting(temperature=0.5, presence_penalty=1.5, frequency_penalty=0.5, top_p=0.8),
    ],
    ids=str,
)
@pytest.mark.parametrize("scale", [0.01, 1.0, 4.0])
def test_draws_from_a_large_vocabulary(setting: Setting, scale: float) -> None:
    """So large that top-p sorts in several rounds."""
    compared = 0
    for seed in range(20):
        random = np.random.default_rng(seed)
        rows = list((scale * random.standard_normal((DRAWS, 5000))).astype(np.float32))
        prompt = random.integers(0, 5000, 50).tolist()
        compared += check(dataclasses.replace(setting, seed=seed), prompt, rows)
    assert compared > 100


def test_draws_are_as_frequent_as_they_should_be() -> None:
    """Without looking at the random numbers: chi-squared over 20,000 draws."""
    logits = np.random.default_rng(3).standard_normal(30).astype(np.float32)
    setting = Setting(temperature=0.8, top_k=12, seed=5)
    order, weights = Plain(setting).candidates(logits)
    core = setting.core(len(logits))
    counts = np.bincount([core.sample(logits)[0] for _ in range(20_000)], minlength=len(logits))
    assert counts[order].sum() == 20_000
    expected = 20_000 * weights / weights.sum()
    # 11 degrees of freedom: exceeded once in 10,000 seeds
    assert float((np.square(counts[order] - expected) / expected).sum()) < 37.4


def test_seeds_differ_and_repeat() -> None:
    logits = np.zeros(1000, np.float32)

    def draws(seed: int) -> list[int]:
        core = Setting(seed=seed).core(1000)
        return [core.sample(logits)[0] for _ in range(5)]

    seeds = [0, 1, 2, 2**32, 2**63, 2**64 - 1]
    assert len({tuple(draws(seed)) for seed in seeds}) == len(seeds)
    assert [draws(seed) for seed in seeds] == [draws(seed) for seed in seeds]


def test_bad_values_are_named() -> None:
    with pytest.raises(ValueError, match="temperature is -1, expected 0 or more"):
        Setting(temperature=-1).core(5)
    with pytest.raises(ValueError, match="a token of logit_bias is 5, expected 0 to 4"):
        Setting(logit_bias=((5, 1.0),)).core(5)
    with pytest.raises(ValueError, match="number of logits is 4, expected 5"):
        Setting().core(5).sample(np.zeros(4, np.float32))
    with pytest.raises(ValueError, match="logit of token 2 is nan"):
        Setting().core(3).sample(np.array([0, 0, np.nan], np.float32))
