"""Prompts by a template in Jinja: gemlet.chat.sandbox renders it, and gemlet.chat.guard keeps what people type from
becoming control tokens.
"""

import re
import reprlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

from gemlet import _core
from gemlet.chat.guard import ControlText, Guard
from gemlet.chat.messages import Message
from gemlet.chat.replies import keep_sampled
from gemlet.chat.request import Request
from gemlet.chat.sandbox import Budget, LimitError, Renderer
from gemlet.chat.words import first_missing
from gemlet.errors import ArgumentError, TemplateError
from gemlet.text import to_bytes, to_text

_Form = Literal["text", "parts"]
"""How a template wants contents: as a string, or as a list of parts, such as [{"type": "text", "text": "Hi"}]."""
_FORMS: tuple[_Form, ...] = ("text", "parts")
_WRITTEN_PARTS = "{'type': 'text', 'text': "
"""What a template writes that takes a list of parts for a string."""


class JinjaTemplate:
    """A template in Jinja."""

    def __init__(self, engine: _core.Engine, source: str) -> None:
        """Raises TemplateError for a source that does not parse."""
        self._engine = engine
        self._source = source
        self._renderer = Renderer(source)
        self._form: _Form | None = None

    def check_variables(self, variables: Mapping[str, Any]) -> None:
        """Raises TemplateError for variables that the template does not use."""
        used = self._renderer.variables
        unused = [name for name in variables if name not in used]
        if unused:
            own = sorted(used - {"messages", "tools", "add_generation_prompt"} - self._special_tokens.keys())
            raise TemplateError(
                f"template_variables: the chat template does not use {reprlib.repr(unused[0])}; "
                + (f"it uses {', '.join(own)}" if own else "it has no variables")
            )

    def write(self, request: Request) -> tuple[_core.Prompt, str]:
        """The prompt, and the beginning of the answer as the template wrote it."""
        guard = Guard(self._engine, self._control_text)
        conversation = _Conversation(request, guard)
        contents = [_protected(message, request, guard) for message in request.messages]
        answer, mark = "", ""
        if request.ends == "answer":
            answer = guard.protect(request.messages[-1].text, begun=False)
            mark = guard.hold(())
            contents[-1] = f"{answer}{mark} "
        text, form = self._complete(conversation, contents)
        sampled = {guard.hold(m.tokens): i for i, m in enumerate(request.messages) if m.tokens is not None}
        if sampled:
            text = self._with_sampled(conversation, text, form, contents, sampled, mark)
        prefill = ""
        if mark:
            text, trimmed = _cut(text, mark, answer)
            prefill = to_text(to_bytes(request.messages[-1].text))
            as_sampled = tuple(placeholder for placeholder, i in sampled.items() if i == len(contents) - 1)
            if trimmed and not text.endswith(as_sampled):
                prefill, answer = prefill.strip(), answer.strip()
            if not text.endswith((answer, *as_sampled)):
                raise TemplateError("the chat template does not write the beginning of the answer as it is")
            conversation.check_contents(text, contents)
        prompt = guard.tokenize(text)
        bos = self._engine.bos
        return (prompt if prompt.tokens[:1] == [bos] else _core.Prompt([bos]) + prompt), prefill

    def _with_sampled(
        self,
        conversation: "_Conversation",
        text: str,
        form: _Form,
        contents: Sequence[str],
        sampled: Mapping[str, int],
        mark: str,
    ) -> str:
        """The rendered text with the sampled tokens of earlier replies, where the template writes these as they are."""
        placeholders = {i: placeholder for placeholder, i in sampled.items()}
        ends = {i: f"{mark} " if mark and i == len(contents) - 1 else "" for i in placeholders}
        given = [placeholders[i] + ends[i] if i in placeholders else content for i, content in enumerate(contents)]
        try:
            other = self._render(conversation, given, form)
        except LimitError:
            raise
        except TemplateError:
            return text
        return keep_sampled(
            text, other, {placeholder: contents[i].removesuffix(ends[i]) for placeholder, i in sampled.items()}
        )

    def _complete(self, conversation: "_Conversation", contents: Sequence[str]) -> tuple[str, _Form]:
        """The rendered prompt, which holds what was said, the tools and their calls; and the form of the contents."""
        if self._form is None:
            self._form = self._find_form(conversation)
        refused: TemplateError | None = None
        for form in (self._form, *(form for form in _FORMS if form != self._form)):
            try:
                text = self._render(conversation, contents, form)
                conversation.check_contents(text, contents)
                for what, description in (("tools", "describe tools"), ("tool_calls", "write tool calls")):
                    if conversation.has(what) and not self._depends_on(what, text, conversation, contents, form):
                        raise TemplateError(f"the chat template does not {description}: the model would not see them")
                return text, form
            except LimitError:
                raise
            except TemplateError as error:
                refused = refused or error
        assert refused is not None
        raise refused

    def _depends_on(
        self, what: str, text: str, conversation: "_Conversation", contents: Sequence[str], form: _Form
    ) -> bool:
        """Whether the template writes something else without the tools or the tool calls, or refuses to."""
        try:
            return text != self._render(conversation, contents, form, without=what)
        except LimitError:
            raise
        except TemplateError:
            return True

    def _find_form(self, conversation: "_Conversation") -> _Form:
        """The form in which words arrive that are in no template: a short content might stand in the markup."""
        contents = [f"quxly{i}zorp" for i in range(len(conversation.messages))]
        for form in _FORMS:
            try:
                conversation.check_contents(self._render(conversation, contents, form), contents)
                return form
            except LimitError:
                raise
            except TemplateError:
                continue
        return "text"  # perhaps it accepts only some contents

    def _render(
        self, conversation: "_Conversation", contents: Sequence[str], form: _Form, without: str | None = None
    ) -> str:
        variables = {
            "messages": conversation.written(contents, form, without),
            "tools": conversation.tools if without != "tools" else None,
            "documents": None,
            "add_generation_prompt": conversation.request.ends == "generation_prompt",
            **self._special_tokens,
            **conversation.variables,
        }
        text = self._renderer.render(variables, conversation.budget)
        if form == "parts" and text.count(_WRITTEN_PARTS) > sum(c.count(_WRITTEN_PARTS) for c in contents):
            raise TemplateError("the chat template writes contents that are lists of parts as they are")
        return text

    def _piece(self, token: int) -> str:
        return to_text(self._engine.piece(token))

    @cached_property
    def _special_tokens(self) -> dict[str, str]:
        ends = (self._piece(token) for token in self._engine.special_tokens() if self._engine.is_end(token))
        named = {"bos_token": self._piece(self._engine.bos), "eos_token": next(ends, "")}
        return named | {f"{name}_token": f"<{name}>" for name in ("pad", "unk") if self._is_token(f"<{name}>")}

    @cached_property
    def _control_text(self) -> ControlText:
        """Whatever may become a control token or, for files that do not mark them as control, a turn's markup."""
        pieces = {self._piece(token) for token in self._engine.guarded_tokens()}
        return ControlText(pieces | {found for found in re.findall(r"<[^<>]+>", self._source) if self._is_token(found)})

    def _is_token(self, text: str) -> bool:
        return self._engine.find_token(to_bytes(text)) is not None


class _Conversation:
    """What a template is given, but for the contents, all of it guarded; and the time for one prompt."""

    def __init__(self, request: Request, guard: Guard) -> None:
        self.request = request
        self.messages = request.messages
        self.tools = _protect(guard, request.tools, "tools")
        self.variables = _protect(guard, dict(request.variables), "template_variables")
        self._fields = [
            {
                key: _protect(guard, value, f"message {i}: {key}")
                for key in ("name", "tool_call_id", "tool_calls")
                if (value := getattr(message, key)) is not None
            }
            for i, message in enumerate(request.messages)
        ]
        self.budget = Budget()

    def has(self, what: str) -> bool:
        """Whether there are tools or tool calls."""
        return bool(self.tools) if what == "tools" else any(what in fields for fields in self._fields)

    def written(self, contents: Sequence[str], form: _Form, without: str | None) -> list[dict[str, Any]]:
        """The messages as templates get them."""
        written = []
        for message, content, fields in zip(self.messages, contents, self._fields, strict=True):
            part = [{"type": "text", "text": content}] if content or not message.tool_calls else []
            given = {key: value for key, value in fields.items() if key != without}
            written.append({"role": message.role, "content": content if form == "text" else part, **given})
        return written

    def check_contents(self, text: str, contents: Sequence[str]) -> None:
        """Raises TemplateError naming a message of the user, the system or a tool that the text lacks. Replies of the
        model may be missing: templates leave out its thoughts."""
        for role in ("system", "user", "tool"):
            said = [i for i, message in enumerate(self.messages) if message.role == role]
            missing = first_missing(text, [contents[i] for i in said])
            if missing is not None:
                raise TemplateError(
                    f"the chat template leaves out what message {said[missing]} ({role}) says, whether it gets "
                    "contents as text or as a list of parts"
                )


def _protected(message: Message, request: Request, guard: Guard) -> str:
    """The content, with placeholders for what the template must not see. Text is trimmed beside pictures and sounds, as
    the published templates do.
    """
    if isinstance(message.content, str):
        return str(guard.protect(message.content))
    written = ""
    for part in message.content:
        if isinstance(part, str):
            written += guard.protect(part.strip())
        else:
            written += "".join(map(guard.hold, request.encode(part)))
    return written


def _cut(text: str, mark: str, answer: str) -> tuple[str, bool]:
    """The text up to the end of the answer, which a mark and a space follow, and whether the template has trimmed."""
    if text.count(mark) != 1:
        raise TemplateError(
            f"the chat template writes the beginning of the answer {text.count(mark)} times, expected once, at the end"
        )
    before, _, after = text.partition(mark)
    if after.startswith(" "):
        return before, False
    return (before.rstrip() if answer.strip() else before), True  # an answer of white space alone is gone already


def _protect(guard: Guard, value: Any, what: str) -> Any:
    try:
        return guard.protect(value)
    except RecursionError:
        raise ArgumentError(f"{what}: nested too deeply for JSON") from None
