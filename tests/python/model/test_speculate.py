"""Speculative decoding through the package: the same completions, counted draft tokens, and checked options."""

import json
from pathlib import Path

import gemlet
import pytest
from gemlet.conversion import convert

from conftest import Cli
from tiny import Tiny, write_checkpoint

HALVES = Tiny(hidden=64, heads=2, head_dim=32, ffn=(128,), ple=32, laurel=32, logit_gain=12.0)
"""A model of random weights whose half can be quantised; the half often predicts other tokens than the whole."""


@pytest.fixture(scope="module", params=["f32", "q8_0", "q4_0"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> gemlet.Model:
    folder = tmp_path_factory.mktemp("speculate")
    checkpoint = write_checkpoint(folder / "checkpoint", HALVES)
    return gemlet.load(convert(checkpoint, folder / "model.gguf", request.param).path, threads=1, chunk=20)


@pytest.mark.parametrize("draft_tokens", [0, 3, 15])
@pytest.mark.parametrize("speculate", ["slice", "lookup"])
def test_the_same_answers(model: gemlet.Model, speculate: str, draft_tokens: int) -> None:
    drafted = accepted = 0
    for seed in range(12):
        prompt = [2, *((seed * 41 + i * 13) % 290 for i in range(3 + 5 * seed))]
        for temperature in (0.0, 0.7):
            plain = model.generate(prompt, max_tokens=50, temperature=temperature, seed=seed)
            ours = model.generate(
                prompt,
                max_tokens=50,
                temperature=temperature,
                seed=seed,
                speculate=speculate,  # type: ignore[arg-type]
                draft_tokens=draft_tokens,
            )
            assert (ours.tokens, ours.text, ours.finish_reason) == (plain.tokens, plain.text, plain.finish_reason)
            assert 0 <= ours.stats.accepted_tokens <= ours.stats.drafted_tokens
            assert plain.stats.drafted_tokens == plain.stats.accepted_tokens == 0
            drafted += ours.stats.drafted_tokens
            accepted += ours.stats.accepted_tokens
    assert drafted > accepted > 0


def test_a_slice_as_draft(model: gemlet.Model) -> None:
    plain = model.generate("the cat", max_tokens=40, temperature=0.0).tokens
    for draft in (0.5, "ffn=64:drop=3", gemlet.Slice(ffn_widths=(32,)), "drop=0,3"):
        out = model.generate("the cat", max_tokens=40, temperature=0.0, speculate="slice", draft=draft, draft_tokens=4)
        assert out.tokens == plain and out.stats.drafted_tokens > 0
    whole = model.generate("the cat", max_tokens=40, temperature=0.0, speculate="slice", draft=1.0, draft_tokens=4)
    assert whole.tokens == plain and whole.stats.accepted_tokens == whole.stats.drafted_tokens


def test_a_chat_and_a_stream(model: gemlet.Model) -> None:
    chats = [model.chat(temperature=0.0, max_tokens=12, speculate=who) for who in (None, "lookup", "slice")]
    for text in ("the cat in the hat", "the cat in the hat", "a hat"):
        assert len({chat.send(text).text for chat in chats}) == 1
    pieces = list(model.stream("the cat", max_tokens=30, seed=1, speculate="slice", draft_tokens=5))
    assert "".join(pieces) == model.generate("the cat", max_tokens=30, seed=1).text


def test_a_batch_does_not_speculate(model: gemlet.Model) -> None:
    batch = model.generate_batch(["the cat", "a hat"], max_tokens=9, seed=1, speculate="slice", draft_tokens=4)
    assert [out.stats.drafted_tokens for out in batch] == [0, 0]
    assert batch[1].tokens == model.generate("a hat", max_tokens=9, seed=1).tokens


def test_wrong_options(model: gemlet.Model) -> None:
    with pytest.raises(gemlet.ArgumentError, match='speculate: expected "lookup", "slice" or "none", found "magic"'):
        model.generate("a", speculate="magic")  # type: ignore[arg-type]
    with pytest.raises(gemlet.ArgumentError, match="draft_tokens is 16, expected 1 to 15"):
        model.generate("a", speculate="lookup", draft_tokens=16)
    with pytest.raises(gemlet.ArgumentError, match="slice: layer 9 is to be dropped"):
        model.generate("a", speculate="slice", draft="drop=9")
    with pytest.raises(TypeError, match=r"speculate: expected .*, found 3"):
        model.generate("a", speculate=3)  # type: ignore[arg-type]
    assert model.generate("a", max_tokens=3, speculate="none").stats.drafted_tokens == 0


def test_on_the_command_line(cli: Cli, tiny_gguf: Path) -> None:
    command = ("run", tiny_gguf, "the cat the cat the cat", "--raw", "-n", 30, "--temperature", 0, "--json")
    plain = json.loads(cli(*command).stdout)
    drafted = json.loads(cli(*command, "--speculate", "lookup").stdout)
    assert drafted["tokens"] == plain["tokens"] and plain["stats"]["drafted_tokens"] == 0
    assert "draft tokens accepted" in cli(*command[:-1], "--speculate", "slice", "--stats").stderr
    assert cli(*command, "--speculate", "magic").returncode == 2
