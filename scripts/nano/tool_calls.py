"""The task of calling tools: what is offered, what is asked, the call as JSON, and what is said of its result."""

from __future__ import annotations

import json
from dataclasses import dataclass
from random import Random

import words
from dialogue import Dialogue, Source, Turn


@dataclass(frozen=True)
class Tool:
    """A tool with ways of asking for it and of telling its result."""

    name: str
    parameters: tuple[str, ...]
    requests: tuple[str, ...]


TOOLS: tuple[Tool, ...] = (
    Tool(
        "get_weather",
        ("city",),
        (
            "What is the weather in {city}?",
            "How is the weather in {city}?",
            "Tell me the weather in {city}.",
            "Is it raining in {city}?",
        ),
    ),
    Tool(
        "get_time",
        ("city",),
        ("What time is it in {city}?", "Tell me the time in {city}.", "How late is it in {city}?"),
    ),
    Tool(
        "set_alarm",
        ("time",),
        (
            "Set an alarm for {time}.",
            "Wake me up at {time}.",
            "I need an alarm at {time}.",
            "Please set the alarm to {time}.",
        ),
    ),
    Tool(
        "set_timer",
        ("minutes",),
        ("Set a timer for {minutes} minutes.", "Start a timer of {minutes} minutes.", "Count down {minutes} minutes."),
    ),
    Tool("call", ("name",), ("Call {name}.", "Please call {name}.", "I want to talk to {name}.", "Phone {name}.")),
    Tool(
        "send_message",
        ("name", "text"),
        ('Send "{text}" to {name}.', 'Write {name} a message: "{text}"', 'Tell {name} "{text}".'),
    ),
    Tool(
        "play_music",
        ("artist",),
        ("Play music by {artist}.", "Play something by {artist}.", "I want to hear {artist}."),
    ),
    Tool(
        "book_table",
        ("place", "people", "time"),
        (
            "Book a table at {place} for {people} people at {time}.",
            "Reserve a table for {people} at {place} at {time}.",
        ),
    ),
)
TEXTS = (
    "I am late",
    "see you soon",
    "dinner is ready",
    "I am at home",
    "call me back",
    "the train is late",
    "happy birthday",
    "good luck",
    "thank you",
    "I miss you",
    "see you at the station",
    "the meeting is over",
)
WEATHERS = ("sunny", "rainy", "cloudy", "windy", "snowy", "foggy")
NUMBERS = ("time", "minutes")  # parameters whose values are split by hash; names and places are split by list


def _clock(rng: Random) -> str:
    hour = rng.randint(0, 23)
    return f"{hour:02d}:{rng.choice((0, 5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55, rng.randint(0, 59))):02d}"


def _arguments(tool: Tool, source: Source) -> dict[str, str | int]:
    rng = source.rng
    values: dict[str, str | int] = {}
    for parameter in tool.parameters:
        if parameter == "city":
            values[parameter] = source.copied(words.CITIES)
        elif parameter == "time":
            values[parameter] = _clock(rng)
        elif parameter == "minutes":
            values[parameter] = rng.randint(1, 90)
        elif parameter == "people":
            values[parameter] = rng.randint(2, 9)
        elif parameter == "text":
            values[parameter] = rng.choice(TEXTS)
        else:
            values[parameter] = source.copied(words.NAMES)
    return values


def _result(tool: Tool, values: dict[str, str | int], source: Source) -> Turn:
    """The turn that hands a tool's result to the model, and its summary."""
    rng = source.rng
    if tool.name == "get_weather":
        weather, degrees = rng.choice(WEATHERS), rng.randint(-9, 39)
        result: dict[str, str | int] = {"weather": weather, "degrees": degrees}
        text = f"It is {weather} in {values['city']}, {degrees} degrees."
    elif tool.name == "get_time":
        result = {"time": _clock(rng)}
        text = f"It is {result['time']} in {values['city']}."
    else:
        result = {"ok": True}
        text = {
            "set_alarm": "Your alarm is set for {time}.",
            "set_timer": "Your timer is set for {minutes} minutes.",
            "call": "I am calling {name}.",
            "send_message": "Your message to {name} is sent.",
            "play_music": "Now playing {artist}.",
            "book_table": "Your table at {place} is booked for {time}.",
        }[tool.name].format(**values)
        if rng.random() < 0.25:
            result, text = {"ok": False}, f"Sorry, {tool.name} did not work."
    return Turn("Tool result: " + json.dumps(result), text)


def tools(source: Source) -> Dialogue:
    rng = source.rng
    while True:
        tool = rng.choice(TOOLS)
        values = _arguments(tool, source)
        if tool.parameters[0] not in NUMBERS or source.allows("call:" + json.dumps(values)):
            break
    offered = [other for other in rng.sample(TOOLS, rng.randint(1, 4)) if other is not tool]
    offered.insert(rng.randint(0, len(offered)), tool)
    system = "Tools: " + ", ".join(f"{other.name}({', '.join(other.parameters)})" for other in offered)
    user = rng.choice(tool.requests).format(**values)
    call = Turn(user, json.dumps({"name": tool.name, "arguments": values}))
    if rng.random() < 0.35:
        return Dialogue("tools", (call, _result(tool, values, source)), system)
    return Dialogue("tools", (call,), system)


# --- memory ---
