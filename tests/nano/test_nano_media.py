"""Pictures and sentences that nano learns from follow their seed, are split cleanly, and say what is right."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "nano"))

pytest.importorskip("PIL")

import picture_tasks
import scenes
import sentences
from dialogue import Source
from media_tasks import held_out_media
from scenes import CELL, COLOURS, PLACES, Scene, Thing


def some(held_out: bool, seed: str = "some") -> Iterator[Scene]:
    source = Source(Random(seed), held_out)
    while True:
        yield scenes.any_scene(source)


def answers(scene: Scene) -> dict[str, str]:
    """All questions that come up about a scene."""
    rng = Random(1)
    return {turn.user: turn.answer for _ in range(600) for turn in picture_tasks.questions(scene, rng)}


def has_fonts() -> bool:
    try:
        return bool(scenes.font_files())
    except FileNotFoundError:
        return False


def test_the_test_set_follows_its_seed() -> None:
    assert held_out_media(4) == held_out_media(4)


def test_training_never_shows_what_is_held_out() -> None:
    shown = [part for one in held_out_media(60) for part in one.shared + one.branches[0].parts]
    keys = {part.key for part in shown if isinstance(part, Scene)}
    held_out = {key for key in keys if not re.fullmatch(r"number:\d", key)}
    assert len(held_out) > 100
    # The second picture of a comparison is the first with a change, on whichever side of the split that falls.
    compared = {one.shared[-1].key for one in held_out_media(60) if one.task == "comparison"}
    trained = {scene.key for scene in islice(some(held_out=False), 20_000)}
    assert not trained & (held_out - compared)


def test_training_never_says_what_is_held_out() -> None:
    sides = [Source(Random(1), held_out) for held_out in (False, True)]
    trained, held_out = ({sentences.any_utterance(source) for _ in range(4000)} for source in sides)
    common = (sentences.name, sentences.phrase)  # of which there are so few that only voices are held out
    few = {make(sides[0]) for make in common for _ in range(20_000)}
    few |= {sentences.Utterance(str(number)) for number in range(100)}
    assert len(held_out - few) > 200
    assert not trained & (held_out - few)


def test_answers_about_shapes() -> None:
    things = (Thing("star", "red", 0), Thing("circle", "red", 4), Thing("circle", "orange", 5))
    said = answers(Scene("shapes", things, "", 1))
    assert said["Describe this."] == "A red star, a red circle and an orange circle."
    assert said["How many shapes are there?"] == "There are 3 shapes."
    assert said["Count the circles."] == "There are 2 circles."
    assert said["Count the stars."] == "There is 1 star."
    assert said["Count the crosses."] == "There are no crosses."
    assert said["What colour is the star?"] == "The star is red."
    assert said["Where is the star?"] == "The star is in the top left."
    assert said["Which shape is orange?"] == "The orange shape is a circle."
    assert said["What is in the middle?"] == "A red circle."
    assert said["What is in the bottom right?"] == "Nothing."
    assert "What colour is the circle?" not in said and "Which shape is red?" not in said


def test_answers_about_charts_and_texts() -> None:
    bars = (Thing("bar", "red", 0, 7), Thing("bar", "blue", 1, 2), Thing("bar", "black", 2, 9))
    said = answers(Scene("chart", bars, "", 1))
    assert said["Which bar is the tallest?"] == "The black bar."
    assert said["Which bar is the lowest?"] == "The blue bar."
    assert said["How tall is the red bar?"] == "The red bar is 7 high."
    assert said["How many bars are there?"] == "There are 3 bars."
    word = answers(Scene("word", (Thing("word", "green", 4),), "Bob", 1))
    assert word["What does it say?"] == "Bob" and word["What colour is the text?"] == "The text is green."


def test_what_has_changed_is_the_only_difference() -> None:
    source = Source(Random(4), held_out=False)
    kinds = set()
    for _ in range(200):
        first, second, turns = picture_tasks.changed(source)
        before, after = set(first.things), set(second.things)
        answer = next(turn.answer for turn in turns if turn.user in picture_tasks.CHANGED)
        assert len(before - after) <= 1 and len(after - before) <= 1
        assert (answer == "Nothing changed.") == (before == after)
        for thing in after - before:
            parts = (thing.colour, thing.kind, PLACES[thing.place])
            assert any(part in answer for part in parts), (before, after, answer)
        for thing in before - after:
            assert thing.name in answer
        kinds.add(re.sub(r"\b(?:a|an|the)\b.*?(?= is | now)", "", answer.lower()))
    assert len(kinds) >= 5


@pytest.mark.skipif(not has_fonts(), reason="needs fonts-dejavu or fonts-liberation")
def test_cells_show_what_is_drawn() -> None:
    for scene in islice(some(held_out=False, seed="drawn"), 150):
        drawn, again = scenes.draw(scene), scenes.draw(scene)
        np.testing.assert_array_equal(drawn.pixels, again.pixels)
        assert drawn.pixels.shape == (scenes.SIZE, scenes.SIZE, 3)
        middles = np.argwhere(drawn.middles > 0)
        assert len(middles) == (len(scene.text) or len(scene.things)), scene
        if scene.kind == "shapes":
            solid = {(thing.kind, thing.colour) for thing in scene.things if thing.kind not in ("ring", "star")}
            for row, column in middles:
                kind = scenes.CLASSES[drawn.classes[row, column]]
                colour = list(COLOURS)[drawn.colours[row, column] - 1]
                if (kind, colour) in solid:
                    patch = drawn.pixels[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL]
                    nearest = np.abs(patch.reshape(-1, 3).astype(int) - COLOURS[colour]).sum(1).min()
                    assert nearest < 120, (scene, kind, colour)
        elif scene.kind == "chart":
            heights = sorted(int(drawn.middles[row, column]) - 1 for row, column in middles)
            assert heights == sorted(bar.height for bar in scene.things)
        else:
            letters = [
                scenes.CLASSES[drawn.classes[row, column]]
                for row, column in sorted(middles.tolist(), key=lambda m: m[1])
            ]
            assert "".join(map(str, letters)) == scene.text
