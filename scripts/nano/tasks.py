"""Seeded generators of short dialogues, one per task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import facts
import phrases
import words
from dialogue import Dialogue, Source, Turn, single
from tool_calls import tools

Make = Callable[[Source], Dialogue]

SUM_FORMS = (
    "What is {a} + {b}?",
    "What is {a} plus {b}?",
    "{a} + {b} = ?",
    "Add {a} and {b}.",
    "How much is {a} + {b}?",
    "Calculate {a} + {b}.",
)
DIFFERENCE_FORMS = (
    "What is {a} - {b}?",
    "What is {a} minus {b}?",
    "{a} - {b} = ?",
    "Subtract {b} from {a}.",
    "How much is {a} - {b}?",
    "Calculate {a} - {b}.",
)
PRODUCT_FORMS = (
    "What is {a} * {b}?",
    "What is {a} times {b}?",
    "{a} * {b} = ?",
    "Multiply {a} by {b}.",
    "How much is {a} * {b}?",
    "Calculate {a} * {b}.",
)


def arithmetic(source: Source) -> Dialogue:
    rng = source.rng
    kind = rng.choices(("+", "-", "*"), (3, 3, 3))[0]
    while True:
        if kind == "*":  # a table to be learnt: held out are pairs of fact and phrasing
            a, b = rng.randint(0, 10), rng.randint(0, 10)
            form = rng.choice(PRODUCT_FORMS)
            key, result = f"{a}*{b}:{form}", a * b
        elif kind == "+":
            a = rng.randint(0, 99)
            b = rng.randint(0, 99 - a)
            form = rng.choice(SUM_FORMS)
            key, result = f"{min(a, b)}+{max(a, b)}", a + b
        else:
            a = rng.randint(0, 99)
            b = rng.randint(0, a)
            form = rng.choice(DIFFERENCE_FORMS)
            key, result = f"{a}-{b}", a - b
        if source.allows(key):
            return single("arithmetic", form.format(a=a, b=b), working(a, kind, b) + f"{a} {kind} {b} = {result}")


def working(a: int, kind: str, b: int) -> str:
    """Digit by digit, from the right, for a sum or difference of more than one digit."""
    if kind == "*" or (a < 10 and b < 10):
        return ""
    (tens, ones), (more_tens, more_ones) = divmod(a, 10), divmod(b, 10)
    if kind == "+":
        carry = (ones + more_ones) // 10
        return (
            f"{ones} + {more_ones} = {ones + more_ones}, {tens} + {more_tens} + {carry} = "
            f"{tens + more_tens + carry}, so "
        )
    borrow = int(ones < more_ones)
    ones += 10 * borrow
    tens -= borrow
    return f"{ones} - {more_ones} = {ones - more_ones}, {tens} - {more_tens} = {tens - more_tens}, so "


# --- facts ---


def _fact_table() -> list[tuple[str, str, str]]:
    """(question, answer, key of fact) for every fact in every phrasing."""
    table: list[tuple[str, str, str]] = []

    def add(key: str, answer: str, *questions: str) -> None:
        table.extend((question, answer, key) for question in questions)

    for country, capital, continent in facts.COUNTRIES:
        add(
            f"capital {country}",
            f"The capital of {country} is {capital}.",
            f"What is the capital of {country}?",
            f"Which city is the capital of {country}?",
            f"Name the capital of {country}.",
            f"Tell me the capital of {country}.",
            f"{country}: what is its capital?",
            f"Do you know the capital of {country}?",
        )
        add(
            f"country {capital}",
            f"{capital} is the capital of {country}.",
            f"{capital} is the capital of which country?",
            f"Which country has the capital {capital}?",
            f"What country is {capital} the capital of?",
            f"Which country is {capital} the capital of?",
        )
        add(
            f"continent {country}",
            f"{country} is in {continent}.",
            f"Which continent is {country} in?",
            f"On which continent is {country}?",
            f"Where is {country}?",
            f"What continent is {country} in?",
        )
    for one, other in facts.OPPOSITES:
        for a, b in ((one, other), (other, one)):
            add(
                f"opposite {a}",
                f"The opposite of {a} is {b}.",
                f"What is the opposite of {a}?",
                f"Tell me the opposite of {a}.",
                f"Give the opposite of {a}.",
                f"Which word is the opposite of {a}?",
            )
    for a, b in facts.PLURALS:
        add(
            f"plural {a}",
            f"The plural of {a} is {b}.",
            f"What is the plural of {a}?",
            f"Tell me the plural of {a}.",
            f"Give the plural of {a}.",
            f"One {a}, two what?",
        )
    for a, b in facts.PAST:
        add(
            f"past {a}",
            f"The past tense of {a} is {b}.",
            f"What is the past tense of {a}?",
            f"Tell me the past tense of {a}.",
            f"Give the past tense of {a}.",
            f"Put {a} in the past tense.",
        )
    for thing, colour in facts.COLOURS:
        add(
            f"colour {thing}",
            f"{thing[0].upper()}{thing[1:]} is {colour}.",
            f"What colour is {thing}?",
            f"Which colour is {thing}?",
            f"What is the colour of {thing}?",
            f"Tell me the colour of {thing}.",
        )
    for animal, sound in facts.SOUNDS:
        add(
            f"sound {animal}",
            f"A {animal} says {sound}.",
            f"What does a {animal} say?",
            f"What sound does a {animal} make?",
            f"Which sound does a {animal} make?",
            f"Tell me what a {animal} says.",
        )
    return table


FACTS = _fact_table()
UNKNOWN = "I do not know."
FAKE_FORMS = (
    "What is the capital of {x}?",
    "Which city is the capital of {x}?",
    "Name the capital of {x}.",
    "Which continent is {x} in?",
    "What is the opposite of {x}?",
    "What is the plural of {x}?",
)


def fact(source: Source) -> Dialogue:
    rng = source.rng
    if rng.random() < 0.08:  # an invented thing, of which nothing is known
        name = source.invented()
        form = rng.choice(FAKE_FORMS)
        return single("facts", form.format(x=name if form in FAKE_FORMS[:4] else name.lower()), UNKNOWN)
    while True:
        question, answer, _ = rng.choice(FACTS)
        if source.allows("fact:" + question):
            return single("facts", question, answer)


# --- phrase book ---

PHRASE_FORMS = (
    'How do you say "{x}" in {target}?',
    'Translate "{x}" into {target}.',
    'What is "{x}" in {target}?',
    'Say "{x}" in {target}.',
    '"{x}" in {target}, please.',
)


def phrase(source: Source) -> Dialogue:
    rng = source.rng
    while True:
        row = rng.choice(phrases.PHRASES)
        a, b = rng.sample(range(len(phrases.LANGUAGES)), 2)
        if row[a] == row[b]:
            continue
        form = rng.choice(PHRASE_FORMS)
        target = phrases.LANGUAGES[b]
        if source.allows(f"phrase:{row[a]}>{target}"):  # unseen in every phrasing
            return single("phrases", form.format(x=row[a], target=target), row[b])


# --- tools ---


@dataclass(frozen=True)
class Memo:
    """Something a user says about themselves, and how it is asked for later."""

    kind: str
    statements: tuple[str, ...]
    reply: str
    questions: tuple[str, ...]
    recall: str


MEMOS: tuple[Memo, ...] = (
    Memo(
        "name",
        ("My name is {x}.", "I am {x}.", "Hello, my name is {x}.", "Please call me {x}."),
        "Nice to meet you, {x}!",
        ("What is my name?", "Do you remember my name?", "Who am I?"),
        "Your name is {x}.",
    ),
    Memo(
        "dog",
        ("My dog is called {x}.", "I have a dog called {x}.", "My dog's name is {x}."),
        "A dog called {x}, how nice!",
        ("What is my dog called?", "What is my dog's name?"),
        "Your dog is called {x}.",
    ),
    Memo(
        "cat",
        ("My cat is called {x}.", "I have a cat called {x}.", "My cat's name is {x}."),
        "A cat called {x}, how nice!",
        ("What is my cat called?", "What is my cat's name?"),
        "Your cat is called {x}.",
    ),
    Memo(
        "city",
        ("I live in {x}.", "My home is in {x}.", "I am from {x}."),
        "So you live in {x}.",
        ("Where do I live?", "Where am I from?", "Where is my home?"),
        "You live in {x}.",
    ),
    Memo(
        "code",
        ("My code is {x}.", "The code is {x}.", "Remember the code {x}."),
        "OK, I will remember {x}.",
        ("What is my code?", "What was the code?", "Tell me the code."),
        "The code is {x}.",
    ),
    Memo(
        "food",
        ("My favourite food is {x}.", "I like {x} the most."),
        "I see, you like {x}.",
        ("What is my favourite food?", "What do I like to eat?"),
        "Your favourite food is {x}.",
    ),
    Memo(
        "colour",
        ("My favourite colour is {x}.", "I like the colour {x} best."),
        "A fine colour, {x}.",
        ("What is my favourite colour?", "Which colour do I like best?"),
        "Your favourite colour is {x}.",
    ),
    Memo(
        "sister",
        ("My sister is called {x}.", "I have a sister, {x}."),
        "Say hello to {x} from me.",
        ("What is my sister called?", "Who is my sister?"),
        "Your sister is called {x}.",
    ),
)
NOT_TOLD = "I do not know. You have not told me."


def _memo_value(memo: Memo, source: Source) -> str:
    rng = source.rng
    if memo.kind in ("name", "sister"):
        return source.copied(words.NAMES)
    if memo.kind in ("dog", "cat"):
        return source.copied(words.PETS)
    if memo.kind == "city":
        return source.copied(words.CITIES)
    if memo.kind == "food":
        return rng.choice(words.FOODS)
    if memo.kind == "colour":
        return rng.choice(words.COLOUR_NAMES)
    while True:
        code = f"{rng.randint(0, 9999):04d}"
        if source.allows("code:" + code):
            return code


def memory(source: Source) -> Dialogue:
    """Statements, filler turns of other tasks, and questions about what was said."""
    rng = source.rng
    memos = rng.sample(MEMOS, rng.choices((1, 2, 3), (4, 3, 2))[0])
    if source.held_out and all(memo.kind in ("food", "colour") for memo in memos):
        return memory(source)  # a held-out dialogue holds a word or code that training never shows
    told = [(memo, _memo_value(memo, source)) for memo in memos]
    filler = rng.choices((0, 1, 2, 4, 6, 8), (4, 3, 2, 2, 2, 1))[0]
    turns: list[Turn] = []
    for memo, value in told:
        turns.append(Turn(rng.choice(memo.statements).format(x=value), memo.reply.format(x=value)))
        if filler and rng.random() < 0.3:
            turns += _fillers(source, 1)
    turns += _fillers(source, filler)
    if rng.random() < 0.15:  # ask for something that was never said
        asked = rng.choice([memo for memo in MEMOS if memo not in memos])
        turns.append(Turn(rng.choice(asked.questions), NOT_TOLD))
        return Dialogue("memory", tuple(turns))
    order = rng.sample(told, len(told))
    for memo, value in order if rng.random() < 0.5 else order[:1]:
        turns.append(Turn(rng.choice(memo.questions), memo.recall.format(x=value)))
    return Dialogue("memory", tuple(turns))


def _fillers(source: Source, count: int) -> list[Turn]:
    """Short turns of other tasks. Their content is always from the training side: they are not what is tested."""
    plain = source.training_side()
    makers = (arithmetic, fact, phrase, lists, chat)
    return [turn for _ in range(count) for turn in source.rng.choice(makers)(plain).turns]


# --- names that training never sees ---

SPELL_FORMS = ("How do you spell {x}?", "Spell {x}.", "Spell the name {x}.")
REPEAT_FORMS = ("Repeat: {x}", "Say this again: {x}", "Repeat after me: {x}")


def unseen_names(source: Source) -> Dialogue:
    """Copying of names: an answer to who somebody is, what was said before, a repetition, or letter by letter."""
    rng = source.rng
    kind = rng.choices(("reply", "recall", "repeat", "spell"), (4, 3, 1, 1))[0]
    name = source.unseen()
    if kind == "repeat":
        return single("names", rng.choice(REPEAT_FORMS).format(x=name), name)
    if kind == "spell":
        return single("names", rng.choice(SPELL_FORMS).format(x=name), "-".join(name))
    memo = rng.choice([memo for memo in MEMOS if memo.kind in ("name", "dog", "cat", "sister")])
    told = Turn(rng.choice(memo.statements).format(x=name), memo.reply.format(x=name))
    if kind == "reply":
        return Dialogue("names", (told,))
    return Dialogue("names", (told, Turn(rng.choice(memo.questions), memo.recall.format(x=name))))


# --- lists of words and numbers ---

LIST_FORMS: dict[str, tuple[str, ...]] = {
    "sort numbers": ("Sort these numbers: {x}", "Sort {x}.", "Put {x} in order."),
    "sort words": ("Sort these words: {x}", "Put these words in alphabetical order: {x}", "Sort alphabetically: {x}"),
    "repeat": ("Repeat: {x}", "Say this again: {x}", "Repeat after me: {x}"),
    "reverse": ("Reverse these words: {x}", "Say these words backwards: {x}", "Reverse the order: {x}"),
    "count": ("How many words are here: {x}", "Count these words: {x}", "Count the words: {x}"),
    "first": ("What is the first word: {x}", "Give me the first word of: {x}"),
    "last": ("What is the last word: {x}", "Give me the last word of: {x}"),
    "largest": ("Which number is the largest: {x}", "What is the largest of {x}?"),
    "smallest": ("Which number is the smallest: {x}", "What is the smallest of {x}?"),
}


def lists(source: Source) -> Dialogue:
    rng = source.rng
    kind = rng.choices(tuple(LIST_FORMS), (3, 3, 2, 2, 1, 1, 1, 1, 1))[0]
    while True:
        if kind in ("sort numbers", "largest", "smallest"):
            numbers = rng.sample(range(10, 100), rng.choice((3, 3, 4) if kind == "sort numbers" else (2, 3, 4)))
            items = [str(number) for number in numbers]
            given = ", ".join(items)
            ordered = [str(number) for number in sorted(numbers)]
            answer = {"sort numbers": ", ".join(ordered), "largest": ordered[-1], "smallest": ordered[0]}[kind]
        elif kind == "sort words":
            items = rng.sample(words.SORT_WORDS, rng.choice((2, 3, 3, 4)))
            given, answer = ", ".join(items), ", ".join(sorted(items))
        else:
            items = rng.sample(words.WORDS, rng.randint(2, 6) if kind == "count" else rng.randint(2, 5))
            given = " ".join(items)
            answer = {
                "repeat": given,
                "reverse": " ".join(reversed(items)),
                "count": str(len(items)),
                "first": items[0],
                "last": items[-1],
            }[kind]
        if source.allows(f"{kind}:{' '.join(sorted(items))}"):
            return single("lists", rng.choice(LIST_FORMS[kind]).format(x=given), answer)


# --- chat ---

CHAT: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("Who are you?", "What are you?", "Tell me who you are.", "Introduce yourself."),
        "I am nano, a small test and demo model of gemlet.",
    ),
    (("What is your name?", "What are you called?", "Tell me your name."), "My name is nano."),
    (
        ("What can you do?", "How can you help me?", "What are you good at?"),
        "I can do small sums, facts, phrases, lists and tool calls.",
    ),
    (("How are you?", "How are you doing?", "How is it going?"), "I am fine, thank you!"),
    (("Thank you!", "Thanks!", "Thanks a lot!", "Thank you very much!"), "You are welcome!"),
    (("Goodbye!", "Bye!", "See you later!", "Bye for now!"), "Goodbye!"),
    (("Good morning!", "A good morning to you!"), "Good morning! How can I help?"),
    (("Good evening!", "A good evening to you!"), "Good evening! How can I help?"),
    (("Hello!", "Hi!", "Hi there!", "Hey!"), "Hello! How can I help?"),
    (("Are you a human?", "Are you a person?", "Are you real?"), "No, I am a small language model."),
    (("How old are you?", "What is your age?", "When were you born?"), "I have no age. I am a small language model."),
    (
        (
            "Who will win the race?",
            "What will happen next year?",
            "Will it rain next week?",
            "What is in my pocket?",
            "What am I thinking?",
            "Which number will win the lottery?",
            "How many birds are in the sky now?",
            "What did I eat today?",
        ),
        UNKNOWN,
    ),
)
OPENINGS = (
    "",
    "Hello! ",
    "Hi! ",
    "Hey nano! ",
    "Please tell me: ",
    "One question: ",
    "Well... ",
    "OK. ",
    "Now then. ",
    "Good. ",
    "Hello nano. ",
    "Fine. ",
)
PEOPLE_FORMS = ("Who is {x}?", "Do you know {x}?", "How old is {x}?", "Where does {x} live?")
_GREETINGS = range(4, 9)


def chat(source: Source) -> Dialogue:
    rng = source.rng
    while True:
        index = rng.randrange(len(CHAT) + 1)
        if index == len(CHAT):
            return single("chat", rng.choice(PEOPLE_FORMS).format(x=source.copied(words.NAMES)), UNKNOWN)
        forms, answer = CHAT[index]
        opening = "" if index in _GREETINGS and rng.random() < 0.5 else rng.choice(OPENINGS)
        if index in _GREETINGS and opening not in ("", "OK. ", "Well... ", "Good. ", "Fine. "):
            continue
        question = opening + rng.choice(forms)
        if source.allows("chat:" + question):
            return single("chat", question, answer)


TASKS: dict[str, Make] = {
    "arithmetic": arithmetic,
    "facts": fact,
    "phrases": phrase,
    "tools": tools,
    "memory": memory,
    "lists": lists,
    "chat": chat,
    "names": unseen_names,
}
PLAIN_TASKS = ("arithmetic", "facts", "phrases", "lists", "chat")


def sloppy(rng: Random, dialogue: Dialogue) -> Dialogue:
    """The dialogue with its questions written carelessly: no final mark, or no capital."""
    turns = []
    for turn in dialogue.turns:
        user = turn.user
        if rng.random() < 0.7:
            user = user.rstrip(".?! ")
        if rng.random() < 0.5:
            user = user[:1].lower() + user[1:]
        turns.append(Turn(user or turn.user, turn.answer))
    return Dialogue(dialogue.task, tuple(turns), dialogue.system)


def mixed(source: Source, task: str) -> Dialogue:
    """A dialogue of `task` after some turns of other plain tasks."""
    tested = TASKS[task](source)
    if task not in PLAIN_TASKS:
        return tested
    plain = source.training_side()
    before: list[Turn] = []
    for _ in range(source.rng.randint(1, 3)):
        before += TASKS[source.rng.choice(PLAIN_TASKS)](plain).turns
    return Dialogue(task, (*before, *tested.turns))
