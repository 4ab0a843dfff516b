"""Questions about pictures, with their answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from dialogue import Source, Turn
from scenes import COLOURS, KINDS, PLACES, SHAPES, Scene, Thing

DESCRIBE = (
    "What is in this picture?",
    "What do you see?",
    "Describe this picture.",
    "What is in the picture?",
    "What is this?",
    "Describe this.",
    "What does the picture show?",
)
READ = {
    "word": ("What does it say?", "Read the text.", "What is written here?", "Which word is this?", "Read this."),
    "number": (
        "What number is this?",
        "Read the number.",
        "Which number do you see?",
        "What is written here?",
        "Read this.",
    ),
}
CHANGED = ("What changed?", "What is different?", "What is the difference?", "Compare the two pictures.")
SAME = ("Are the pictures the same?", "Do they show the same?")


def article(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def listed(names: Sequence[str]) -> str:
    text = ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else names[0]
    return text[0].upper() + text[1:] + "."


def plural(noun: str) -> str:
    return noun + ("es" if noun.endswith("s") else "s")


def counted(count: int, noun: str) -> str:
    return "There is 1 " + noun + "." if count == 1 else f"There are {count or 'no'} {plural(noun)}."


def description(scene: Scene) -> str:
    if scene.kind == "word":
        return f'The word "{scene.text}" in {scene.things[0].colour}.'
    if scene.kind == "number":
        return f"The number {scene.text} in {scene.things[0].colour}."
    if scene.kind == "chart":
        return "A bar chart: " + ", ".join(f"{bar.colour} {bar.height}" for bar in scene.things) + "."
    return listed([article(thing.name) for thing in scene.things])


def alone(things: Sequence[Thing], attribute: str) -> list[Thing]:
    """Things that no other shares this attribute with."""
    values = [getattr(thing, attribute) for thing in things]
    return [thing for thing, value in zip(things, values, strict=True) if values.count(value) == 1]


def questions(scene: Scene, rng: Random) -> list[Turn]:
    """One question of each kind that the scene allows, in random order."""
    out = [Turn(rng.choice(DESCRIBE), description(scene))]
    if scene.kind in READ:
        out.append(Turn(rng.choice(READ[scene.kind]), scene.text))
        noun = "text" if scene.kind == "word" else "number"
        out.append(Turn(f"What colour is the {noun}?", f"The {noun} is {scene.things[0].colour}."))
    elif scene.kind == "chart":
        out += _about_chart(scene, rng)
    else:
        out += _about_shapes(scene, rng)
    rng.shuffle(out)
    return out


def _about_chart(scene: Scene, rng: Random) -> list[Turn]:
    bars = sorted(scene.things, key=lambda bar: bar.height)
    one = rng.choice(bars)
    return [
        Turn(rng.choice(("How many bars are there?", "How many bars do you see?")), counted(len(bars), "bar")),
        Turn(rng.choice(("Which bar is the tallest?", "Which bar is the highest?")), f"The {bars[-1].colour} bar."),
        Turn(rng.choice(("Which bar is the shortest?", "Which bar is the lowest?")), f"The {bars[0].colour} bar."),
        Turn(
            rng.choice((f"How tall is the {one.colour} bar?", f"What is the height of the {one.colour} bar?")),
            f"The {one.colour} bar is {one.height} high.",
        ),
    ]


def _about_shapes(scene: Scene, rng: Random) -> list[Turn]:
    things = scene.things
    kind = rng.choice(things).kind if rng.random() < 0.75 else rng.choice(SHAPES)
    colour = rng.choice(things).colour if rng.random() < 0.75 else rng.choice(sorted(COLOURS))
    place = rng.choice(things).place if rng.random() < 0.75 else rng.randrange(9)
    found = [thing for thing in things if thing.place == place]
    forms = ("How many {x} are there?", "How many {x} do you see?", "Count the {x}.")
    out = [
        Turn(rng.choice(forms).format(x="shapes"), counted(len(things), "shape")),
        Turn(rng.choice(forms).format(x=plural(kind)), counted(sum(t.kind == kind for t in things), kind)),
        Turn(
            rng.choice(forms).format(x=f"{colour} shapes"),
            counted(sum(t.colour == colour for t in things), f"{colour} shape"),
        ),
        Turn(
            rng.choice((f"What is in the {PLACES[place]}?", f"What do you see in the {PLACES[place]}?")),
            listed([article(found[0].name)]) if found else "Nothing.",
        ),
    ]
    if single_kind := alone(things, "kind"):
        thing = rng.choice(single_kind)
        out.append(Turn(f"What colour is the {thing.kind}?", f"The {thing.kind} is {thing.colour}."))
        out.append(Turn(f"Where is the {thing.kind}?", f"The {thing.kind} is in the {PLACES[thing.place]}."))
    if single_colour := alone(things, "colour"):
        thing = rng.choice(single_colour)
        out.append(Turn(f"Which shape is {thing.colour}?", f"The {thing.colour} shape is {article(thing.kind)}."))
    return out


def changed(source: Source) -> tuple[Scene, Scene, list[Turn]]:
    """Two pictures that differ in one thing or in none, and questions about both."""
    rng = source.rng
    first = KINDS["shapes"](source)
    things = list(first.things)
    index = rng.randrange(len(things))
    thing = things[index]
    free = [place for place in range(9) if all(other.place != place for other in things)]
    kind = rng.choice(("nothing", "colour", "gone", "added", "moved", "kind"))
    if kind == "gone" and len(things) == 1:
        kind = "added"
    answer = "Nothing changed."
    if kind == "colour":
        things[index] = replace(thing, colour=rng.choice([c for c in sorted(COLOURS) if c != thing.colour]))
        answer = f"The {thing.name} is {things[index].colour} now."
    elif kind == "kind":
        things[index] = replace(thing, kind=rng.choice([k for k in SHAPES if k != thing.kind]))
        answer = f"The {thing.name} is {article(things[index].kind)} now."
    elif kind == "gone":
        del things[index]
        answer = f"The {thing.name} is gone."
    elif kind == "moved":
        things[index] = replace(thing, place=rng.choice(free))
        answer = f"The {thing.name} is in the {PLACES[things[index].place]} now."
    elif kind == "added":
        new = Thing(rng.choice(SHAPES), rng.choice(sorted(COLOURS)), rng.choice(free))
        things.append(new)
        answer = f"There is {article(new.name)} now."
    second = Scene("shapes", tuple(sorted(things, key=lambda t: t.place)), "", rng.getrandbits(48))
    turns = [
        Turn(rng.choice(CHANGED), answer),
        Turn(rng.choice(SAME), "Yes." if kind == "nothing" else "No."),
        _more(first, second),
    ]
    rng.shuffle(turns)
    return first, second, turns


def _more(first: Scene, second: Scene) -> Turn:
    a, b = len(first.things), len(second.things)
    answer = "Both have the same number." if a == b else f"The {'first' if a > b else 'second'} picture."
    return Turn("Which picture has more shapes?", answer)
