"""Ten thousand prompts through everything that makes answers quicker, and through nothing of it."""

import itertools
import random
from pathlib import Path

import gemlet
import numpy as np
import pytest

PROMPTS = 10_000
NEW_TOKENS = 6


def check_tie(plain: gemlet.Model, prompt: list[int], expected: list[int], found: list[int]) -> None:
    """Greedy answers may part only where the plain logits of both tokens differ by less than float32's rounding."""
    at = next(i for i, (a, b) in enumerate(itertools.zip_longest(expected, found)) if a != b)
    logits = plain.logits([*prompt, *expected[:at]])[-1]
    both = sorted(logits[[expected[at], found[at]]])
    assert both[1] - both[0] < 1e-4 and both[1] == np.max(logits), (prompt, expected, found)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_greedy_answers_are_those_of_the_plain_path(tiny_gguf: Path) -> None:
    plain = gemlet.load(tiny_gguf, kernels="scalar", threads=1, chunk=1, cache="f32")
    fast = gemlet.load(tiny_gguf, threads=2, cache="f32")
    rng = random.Random(0)
    words = plain.info.vocabulary
    prompts = [[2, *(rng.randrange(3, words) for _ in range(rng.randrange(1, 16)))] for _ in range(PROMPTS)]
    ties = 0
    for start in range(0, PROMPTS, 20):
        group = prompts[start : start + 20]
        expected = [plain.generate(prompt, max_tokens=NEW_TOKENS, temperature=0.0).tokens for prompt in group]
        together = fast.generate_batch(group, max_tokens=NEW_TOKENS, temperature=0.0)
        for i, prompt in enumerate(group):
            drafted = fast.generate(prompt, max_tokens=NEW_TOKENS, temperature=0.0, speculate="lookup", draft_tokens=4)
            for found in (together[i].tokens, drafted.tokens):
                if found != expected[i]:
                    check_tie(plain, prompt, expected[i], found)
                    ties += 1
    assert ties < PROMPTS // 1000
