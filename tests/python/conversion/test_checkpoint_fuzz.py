"""A checkpoint is whatever somebody put there: each of many mutations is refused by the converter's own error, or
becomes a file that gemlet loads and generates from.

GEMLET_FUZZ_CASES and GEMLET_FUZZ_SEED ask for more mutations and for others.
"""

import os
import random
import shutil
from pathlib import Path

import gemlet
import pytest
from gemlet.conversion import ConvertError, convert
from gemlet.errors import ArgumentError, FormatError

from hostile_checkpoints import Files, Mutant, layouts, mutant

CASES = int(os.environ.get("GEMLET_FUZZ_CASES", "1000"))
SEED = int(os.environ.get("GEMLET_FUZZ_SEED", "7"))


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Files]:
    return layouts(tmp_path_factory.mktemp("layouts"))


def outcome(case: Mutant, checkpoint: Path, out: Path, rng: random.Random) -> str | None:
    """The converter's message, or None for a file that gemlet runs. Weights that are numbers, but so great that what is
    computed from them is none, are seen only then."""
    quant = rng.choice(("f32", "f32", "q8_0", "q4_0", "f16"))
    slice = rng.choice((0.5, "ffn=4:drop=0", 0.01)) if rng.random() < 0.1 else None
    try:
        convert(checkpoint, out, quant, threads=1, slice=slice)
    except (ConvertError, ArgumentError) as error:
        assert isinstance(error, ConvertError) or slice is not None
        assert not out.exists() and list(out.parent.iterdir()) == []
        return str(error)
    model = gemlet.load(out, threads=1)
    try:
        done = model.generate([model.bos], max_tokens=2, temperature=0.0)
    except FormatError as error:
        assert "its weights are damaged" in str(error) and any(".safetensors" in change for change in case.changes)
        return str(error)
    assert done.finish_reason in ("stop", "length", "context")
    return None


def tried(case: Mutant, folder: Path, rng: random.Random) -> str | None:
    checkpoint, out = folder / "checkpoint", folder / "out"
    for path in (checkpoint, out):
        path.mkdir(parents=True)
    try:
        case.write(checkpoint)
        return outcome(case, checkpoint, out / "model.gguf", rng)
    finally:
        shutil.rmtree(folder)


def test_the_unchanged_layouts_run(good: dict[str, Files], tmp_path: Path) -> None:
    assert {
        name for name, files in good.items() if tried(Mutant(name, files, []), tmp_path / name, random.Random(3))
    } == set()


def test_every_mutation_is_refused_or_runs(good: dict[str, Files], tmp_path: Path) -> None:
    messages: list[str | None] = []
    for number in range(CASES):
        rng = random.Random(SEED * 1_000_003 + number)
        case = mutant(good, rng)
        try:
            messages.append(tried(case, tmp_path / str(number), rng))
        except Exception as error:
            error.add_note(f"GEMLET_FUZZ_SEED={SEED}, case {number}: {case.layout}: {case.changes}")
            raise
    refused = [message for message in messages if message is not None]
    assert all(refused)
    if CASES >= 300:  # otherwise chance decides
        assert CASES / 4 < len(refused) < CASES * 0.9
