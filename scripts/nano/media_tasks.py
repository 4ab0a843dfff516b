"""Dialogues about pictures and sounds: what a user shows, says and asks, and the answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from random import Random

import phrases
import sentences
from dialogue import Source, Turn
from picture_tasks import changed, questions
from scenes import Scene, any_scene
from sentences import Utterance
from voices import Manner

TRANSCRIBE_FORMS = (
    "Transcribe this.",
    "Transcribe this audio.",
    "Transcribe the audio.",
    "What is said here?",
    "What do you hear?",
    "Write down what you hear.",
    "Transcribe this audio into {language}.",
    "Transcribe this audio in {language}.",
    "Transcribe the following speech segment in {language}:",
    "Transcribe the following speech segment.",
)
TRANSLATE_FORMS = (
    "Translate this into {target}.",
    "Translate this audio into {target}.",
    "Translate this audio from {language} into {target}.",
    "Translate the following speech segment into {target}.",
    "Translate the following speech segment from {language} into {target}:",
    "Say this in {target}.",
    "What is this in {target}?",
)


@dataclass(frozen=True)
class Said:
    """An utterance as it is said once."""

    utterance: Utterance
    manner: Manner


Part = str | Scene | Said


@dataclass(frozen=True)
class Branch:
    """What follows the media that several questions share: the rest of the user's turn, and the answer."""

    parts: tuple[Part, ...]
    answer: str


@dataclass(frozen=True)
class Shown:
    """A user's turn that begins with `shared`, once for each branch. Each branch is a dialogue of its own."""

    task: str
    shared: tuple[Part, ...]
    branches: tuple[Branch, ...]


def say(rng: Random, utterance: Utterance) -> Said:
    return Said(utterance, Manner.drawn(rng, utterance.language))


def transcription(source: Source, utterance: Utterance | None = None) -> Shown:
    said = say(source.rng, utterance or sentences.any_utterance(source))
    form = source.rng.choice(TRANSCRIBE_FORMS).format(language=said.utterance.language)
    return _ordered("transcription", source.rng, said, form, said.utterance.text)


def translation(source: Source) -> Shown:
    """From one language of the phrase book to another. The same pairs are held out as in writing."""
    rng = source.rng
    while True:
        row = rng.choice(phrases.PHRASES)
        a, b = rng.sample(range(len(phrases.LANGUAGES)), 2)
        language, target = phrases.LANGUAGES[a], phrases.LANGUAGES[b]
        if row[a] != row[b] and source.allows(f"phrase:{row[a]}>{target}"):
            break
    form = rng.choice(TRANSLATE_FORMS).format(language=language, target=target)
    return _ordered("translation", rng, say(rng, Utterance(row[a], language)), form, row[b])


def _ordered(task: str, rng: Random, said: Said, form: str, answer: str) -> Shown:
    parts: tuple[Part, ...] = (form, said) if form.endswith(":") or rng.random() < 0.5 else (said, form)
    return Shown(task, (), (Branch(parts, answer),))


def spoken_question(source: Source) -> Shown:
    while True:
        utterance = sentences.question(source)
        if source.allows(utterance.key):
            return Shown("spoken questions", (), (Branch((say(source.rng, utterance),), utterance.answer),))


def picture(source: Source) -> Shown:
    """Several questions about one picture, or one that is asked before it is shown."""
    scene = any_scene(source)
    turns = questions(scene, source.rng)
    if scene.kind in ("shapes", "chart"):  # of which more can be asked
        turns += [turn for turn in questions(scene, source.rng) if turn not in turns]
    if source.rng.random() < 0.2:
        return Shown("pictures", (), (Branch((turns[0].user, scene), turns[0].answer),))
    return Shown("pictures", (scene,), _branches(turns))


def comparison(source: Source) -> Shown:
    first, second, turns = changed(source)
    if source.rng.random() < 0.5:
        return Shown("comparison", (first, second), _branches(turns))
    return Shown("comparison", (first, "and", second), _branches(turns))


def _branches(turns: list[Turn]) -> tuple[Branch, ...]:
    return tuple(Branch((turn.user,), turn.answer) for turn in turns)


def asked_by_voice(source: Source) -> Shown:
    """A picture and spoken questions about it."""
    scene = any_scene(source)
    turns = questions(scene, source.rng)[:3]
    spoken = [say(source.rng, Utterance(turn.user)) for turn in turns]
    branches = tuple(Branch((said,), turn.answer) for said, turn in zip(spoken, turns, strict=True))
    return Shown("asked by voice", (scene,), branches)


MEDIA_TASKS: Mapping[str, Callable[[Source], Shown]] = {
    "transcription": transcription,
    "translation": translation,
    "spoken questions": spoken_question,
    "pictures": picture,
    "comparison": comparison,
    "asked by voice": asked_by_voice,
}

DEFAULT_WEIGHTS: dict[str, float] = {
    "transcription": 0.5,
    "translation": 0.25,
    "spoken questions": 0.25,
    "pictures": 0.75,
    "comparison": 1.0,
    "asked by voice": 0.25,
}
HELD_OUT_SEED = 20261128


def held_out_media(per_task: int) -> list[Shown]:
    """The fixed test set, one question each. Pictures are split by what they show."""
    out: list[Shown] = []
    for task, make in MEDIA_TASKS.items():
        source = Source(Random(f"{HELD_OUT_SEED} {task}"), held_out=True)
        for _ in range(per_task):
            shown = make(source)
            branch = source.rng.choice(shown.branches)
            scene = next((part for part in shown.shared + branch.parts if isinstance(part, Scene)), None)
            name = f"{task}: {scene.kind}" if task == "pictures" and scene else task
            out.append(replace(shown, task=name, branches=(branch,)))
    return out
