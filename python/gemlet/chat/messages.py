"""The messages of a conversation, and how they are taken from what a caller gives."""

import json
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from gemlet.errors import ArgumentError
from gemlet.media import Audio, Image, Part, part_of

Role = Literal["system", "user", "assistant", "tool"]
_ROLES = get_args(Role)


@dataclass(frozen=True)
class Message:
    """One message of a conversation: what a user or the system says, a reply, or the result of a tool."""

    role: Role
    content: str | tuple[Part, ...]
    """The words; or, where a user shows a picture or plays a sound, all of it in order."""
    tokens: tuple[int, ...] | None = None
    """Sampled tokens of a reply, if they stand for exactly ``content``."""
    name: str | None = None
    """Of the tool whose result this is, or of whoever speaks. Templates may use it."""
    tool_call_id: str | None = None
    """The ``id`` of the call that this is the result of."""
    tool_calls: tuple[dict[str, Any], ...] | None = None
    """Functions that a reply calls: ``{"type": "function", "function": {"name": ..., "arguments": {...}}}``, with an
    ``id`` perhaps."""

    @property
    def text(self) -> str:
        """The words, without pictures and sounds, with line breaks between the parts."""
        parts = (self.content,) if isinstance(self.content, str) else self.content
        return "\n".join(part for part in parts if isinstance(part, str))

    @property
    def media(self) -> tuple[Image | Audio, ...]:
        """The pictures and sounds."""
        parts = () if isinstance(self.content, str) else self.content
        return tuple(part for part in parts if not isinstance(part, str))

    @classmethod
    def of(cls, value: object, where: str = "message", *, files: bool = True) -> "Message":
        """A checked message. ``value`` is one already, or a mapping in the form of OpenAI's API and of transformers.

        A ``content`` that is a list of text parts becomes one text, with line breaks between them; one with pictures or
        sounds, which only a user's message may have, keeps its parts. Arguments of tool calls that are JSON in a
        string, as OpenAI's API has them, become what they hold, which templates expect.

        ``files``: whether pictures and sounds may be named by the path of a file.

        Raises:
            ArgumentError: it names ``where``, what was expected and what was found.
            GemletError: what making a picture or a sound raises.
        """
        given = {key: getattr(value, key) for key in _FIELDS} if isinstance(value, Message) else value
        if not isinstance(given, Mapping):
            raise ArgumentError(f"{where} is of the type {type(value).__name__}, expected a Message or a mapping")
        fields = dict(given)
        role, content, tokens, name, call_id, calls = (fields.pop(key, None) for key in _FIELDS)
        unknown = [key for key, item in fields.items() if item not in (None, [], {})]
        if unknown:
            raise ArgumentError(f"{where} has {reprlib.repr(unknown[0])}, expected no more than {', '.join(_FIELDS)}")
        if role not in _ROLES:
            raise ArgumentError(f"{where} has the role {reprlib.repr(role)}, expected one of {', '.join(_ROLES)}")
        for key, item in (("name", name), ("tool_call_id", call_id)):
            if not (item is None or isinstance(item, str)):
                raise ArgumentError(f"{where}: {key} is {reprlib.repr(item)}, expected a text")
        if call_id is not None and role != "tool":
            raise ArgumentError(f"{where} ({role}) has a tool_call_id, which only the result of a tool has")
        if calls and role != "assistant":
            raise ArgumentError(f"{where} ({role}) has tool_calls, which only a reply of the assistant has")
        if tokens is not None and role != "assistant":
            raise ArgumentError(f"{where} ({role}) has tokens, which only a reply of the assistant has")
        checked_calls = _tool_calls(calls, where)
        return cls(
            cast(Role, role),
            _content(content, where, role, files=files, may_be_missing=checked_calls is not None),
            _tokens(tokens, where),
            name,
            call_id,
            checked_calls,
        )

    def to_dict(self) -> dict[str, Any]:
        """As a mapping of what JSON holds, without what is not set."""
        fields = {key: item for key in _FIELDS if (item := getattr(self, key)) is not None}
        if not isinstance(self.content, str):
            fields["content"] = [
                {"type": "text", "text": part} if isinstance(part, str) else part.to_dict() for part in self.content
            ]
        return fields


_FIELDS = ("role", "content", "tokens", "name", "tool_call_id", "tool_calls")

MessageLike = Message | Mapping[str, Any]
"""A message, or a mapping that ``Message.of`` takes."""


def to_messages(values: object, what: str, *, files: bool = True) -> list[Message]:
    """Checked messages. ``what`` names the list in errors. Raises what ``Message.of`` does."""
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
        raise ArgumentError(f"{what} is of the type {type(values).__name__}, expected a list of messages")
    return [Message.of(value, f"{what}[{i}]", files=files) for i, value in enumerate(values)]


def turn_starts(messages: Sequence[Message]) -> list[int]:
    """The index of each turn's first message. A turn is what the user says with all that follows from it: replies, tool
    calls and their results.
    """
    return [
        i for i, message in enumerate(messages) if message.role == "user" and (i == 0 or messages[i - 1].role != "user")
    ]


def _content(content: object, where: str, role: object, *, files: bool, may_be_missing: bool) -> str | tuple[Part, ...]:
    if isinstance(content, str):
        return content
    if content is None and may_be_missing:
        return ""
    if not isinstance(content, (list, tuple)):
        raise ArgumentError(f"{where}: the content is {reprlib.repr(content)}, expected a text or a list of parts")
    parts = tuple(part_of(part, f"{where}: part {i} of the content", files=files) for i, part in enumerate(content))
    texts = [part for part in parts if isinstance(part, str)]
    if len(texts) == len(parts):
        return "\n".join(texts)
    if role != "user":
        raise ArgumentError(f"{where} ({role}) has a picture or a sound, which only a user's message may have")
    return parts


def _tokens(tokens: object, where: str) -> tuple[int, ...] | None:
    if tokens is None:
        return None
    if not isinstance(tokens, (list, tuple)) or not all(type(token) is int for token in tokens):
        raise ArgumentError(f"{where}: tokens is {reprlib.repr(tokens)}, expected a list of token ids")
    return tuple(tokens)


def _tool_calls(calls: object, where: str) -> tuple[dict[str, Any], ...] | None:
    if calls is None:
        return None
    if not isinstance(calls, (list, tuple)):
        raise ArgumentError(f"{where}: tool_calls is {reprlib.repr(calls)}, expected a list")
    return tuple(_tool_call(call, f"{where}: tool_calls[{i}]") for i, call in enumerate(calls)) or None


def _tool_call(call: object, where: str) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(call, Mapping) or not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        expected = '{"type": "function", "function": {"name": ..., "arguments": {...}}}'
        raise ArgumentError(f"{where} is {reprlib.repr(call)}, expected {expected}")
    arguments = function.get("arguments", {})
    try:
        if isinstance(arguments, str):
            arguments = json.loads(arguments) if arguments.strip() else {}
        copy = json.loads(json.dumps({**call, "function": {**function, "arguments": arguments}}))
    except (TypeError, ValueError, RecursionError) as error:
        raise ArgumentError(f"{where}: not what JSON holds: {error}") from error
    if not isinstance(copy["function"]["arguments"], dict):
        raise ArgumentError(f"{where}: the arguments are {reprlib.repr(arguments)}, expected an object")
    return cast(dict[str, Any], {"type": "function"} | copy)
