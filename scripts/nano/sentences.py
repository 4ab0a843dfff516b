"""What is said to nano: numbers, names, commands, questions, short sentences, and phrases in six languages."""

from __future__ import annotations

from dataclasses import dataclass

import facts
import phrases
import tasks
import words
from dialogue import Source

ROOMS = words.listed("kitchen bedroom bathroom garage hall office garden cellar")
DEVICES = words.listed("light lamp heating radio television fan music")
ADJECTIVES = words.listed("old young small big happy sad quiet busy tall kind new green white black brown little")
BEINGS = words.listed("man woman boy girl teacher doctor farmer king queen cat dog bird horse child baker sailor")
VERBS = words.listed("sees likes finds wants knows hears helps follows paints remembers")
THINGS = words.listed("house garden river bridge tower table book piano violin lamp road letter jacket apple cake ship")
ENDINGS = (
    *("today", "tomorrow", "in the morning", "at night", "in the garden", "near the river", "at home", "in the city"),
    *("", "", ""),
)

NAME_FORMS = (
    "My name is {x}.",
    "I am {x}.",
    "Please call {x}.",
    "This is {x}.",
    "My sister is called {x}.",
    "Is {x} at home?",
    "{x} is here.",
    "Say hello to {x}.",
)
COMMAND_FORMS = (
    "Set a timer for {minutes} minutes.",
    "Wake me up at {hour}:{minute}.",
    "Set an alarm for {hour}:{minute}.",
    "Turn on the {device} in the {room}.",
    "Turn off the {device} in the {room}.",
    "Turn the {device} down.",
    "Open the door of the {room}.",
    "Call {name}.",
    "Write a message to {name}.",
    "Play music by {name}.",
    "What is the weather in {city}?",
    "What time is it in {city}?",
    "Take me to {city}.",
    "Add {food} to the list.",
    "Stop.",
    "Louder, please.",
    "Next song.",
)
SENTENCE_FORMS = (
    "The {adjective} {being} {verb} the {thing} {ending}.",
    "The {being} {verb} the {adjective} {thing} {ending}.",
    "I would like {food}, please.",
    "The train to {city} leaves at {hour}.",
    "There are {number} {adjective} birds in the tree.",
    "I live in {city} with my {being}.",
    "It is very {adjective} {ending}.",
    "We are going to {city} {ending}.",
    "{name} {verb} the {adjective} {thing}.",
    "I have {number} books {ending}.",
)
QUESTION_FORMS = ("What is {a} plus {b}?", "What is {a} minus {b}?", "What is {a} times {b}?")


@dataclass(frozen=True)
class Utterance:
    """One thing that is said. `answer` is what a model that hears it may reply, where it is a question."""

    text: str
    language: str = "English"
    answer: str = ""

    @property
    def key(self) -> str:
        return f"said:{self.language}:{self.text}"


def number(source: Source) -> Utterance:
    rng = source.rng
    kind = rng.random()
    if kind < 0.6:
        return Utterance(str(rng.randint(0, 10 ** rng.choice((1, 2, 2, 3)) - 1)))
    if kind < 0.8:  # digit by digit
        return Utterance(" ".join(str(rng.randint(0, 9)) for _ in range(rng.randint(2, 5))))
    return Utterance(f"The number is {rng.randint(0, 999)}.")


def name(source: Source) -> Utterance:
    return Utterance(source.rng.choice(NAME_FORMS).format(x=source.rng.choice(words.NAMES)))


def _filled(source: Source, form: str) -> str:
    rng = source.rng
    text = form.format(
        minutes=rng.randint(1, 60),
        hour=rng.randint(1, 12),
        minute=rng.randint(10, 59),
        device=rng.choice(DEVICES),
        room=rng.choice(ROOMS),
        name=rng.choice(words.NAMES),
        city=rng.choice(words.CITIES),
        food=rng.choice(words.FOODS),
        adjective=rng.choice(ADJECTIVES),
        being=rng.choice(BEINGS),
        verb=rng.choice(VERBS),
        thing=rng.choice(THINGS),
        ending=rng.choice(ENDINGS),
        number=rng.randint(2, 99),
    )
    return text.replace(" .", ".")


def command(source: Source) -> Utterance:
    return Utterance(_filled(source, source.rng.choice(COMMAND_FORMS)))


def sentence(source: Source) -> Utterance:
    return Utterance(_filled(source, source.rng.choice(SENTENCE_FORMS)))


def question(source: Source) -> Utterance:
    """With the answer that nano gives when it is written."""
    rng = source.rng
    if rng.random() < 0.5:
        a, b = rng.randint(0, 10), rng.randint(0, 10)
        index = rng.randrange(3)
        if index == 1:
            a, b = max(a, b), min(a, b)
        sign, result = (("+", a + b), ("-", a - b), ("*", a * b))[index]
        working = tasks.working(a, sign, b)
        return Utterance(QUESTION_FORMS[index].format(a=a, b=b), answer=f"{working}{a} {sign} {b} = {result}")
    country, capital, _ = rng.choice(facts.COUNTRIES)
    return Utterance(f"What is the capital of {country}?", answer=f"The capital of {country} is {capital}.")


def phrase(source: Source) -> Utterance:
    column = source.rng.randrange(len(phrases.LANGUAGES))
    return Utterance(source.rng.choice(phrases.PHRASES)[column], phrases.LANGUAGES[column])


KINDS = {
    "number": number,
    "name": name,
    "command": command,
    "sentence": sentence,
    "question": question,
    "phrase": phrase,
}
SHARES = (0.16, 0.1, 0.22, 0.22, 0.12, 0.18)


def any_utterance(source: Source) -> Utterance:
    """On this side of the split, but for phrases, names and small numbers, which are so few that only voices differ."""
    kind = source.rng.choices(tuple(KINDS), SHARES)[0]
    while True:
        utterance = KINDS[kind](source)
        if kind in ("phrase", "name") or (kind == "number" and len(utterance.text) < 3) or source.allows(utterance.key):
            return utterance
