"""Renders Jinja templates of untrusted files: no way to Python's internals, and bounded work.

jinja2's sandbox keeps a template away from attributes and from changing what it is given. The limits here come on top.
Every call, filter and loop step is counted against a budget and a deadline; every value that an operation makes is
measured, nested lists by what they would print as; and what builds a huge text in one step (powers, padding,
formatting) is left out. A template can still waste its budget, but not hang the program or fill the memory.
"""

import functools
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, cast

import jinja2
from jinja2 import nodes
from jinja2.runtime import Context, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from gemlet.errors import TemplateError

MAX_SOURCE = 1 << 18
"""Characters of a template; the published ones have a few thousand."""
MAX_TEXT = 1 << 22
"""Characters of a text, and elements of a list, beyond what the messages themselves hold."""
MAX_STEPS = 300_000
MAX_SECONDS = 2.0
"""Processor time of a rendering; the published templates take milliseconds."""

_STR_METHODS = {
    *("capitalize", "count", "endswith", "find", "index", "isalnum", "isalpha", "isdigit", "islower", "isspace"),
    *("isupper", "lower", "lstrip", "removeprefix", "removesuffix", "replace", "rfind", "rsplit", "rstrip", "split"),
    *("splitlines", "startswith", "strip", "title", "upper"),
}
_FILTERS = {
    *("abs", "capitalize", "count", "d", "default", "dictsort", "first", "float", "int", "items", "join", "last"),
    *("length", "list", "lower", "map", "max", "min", "reject", "rejectattr", "replace", "reverse", "round", "select"),
    *("selectattr", "sort", "string", "sum", "title", "trim", "truncate", "unique", "upper"),
}


_PASSED = (Context, nodes.EvalContext, jinja2.Environment)  # what jinja hands to filters of its own accord


class Renderer:
    """One compiled template. Safe to use from several threads."""

    def __init__(self, source: str) -> None:
        """Compile. Raises TemplateError for a template that is too long or does not parse."""
        if len(source) > MAX_SOURCE:
            raise TemplateError(f"the chat template has {len(source)} characters; the limit is {MAX_SOURCE}")
        self._source = source
        self._compile()

    def render(self, variables: Mapping[str, Any]) -> str:
        """Render. Raises TemplateError for whatever goes wrong."""
        environment, template = self._compile()
        environment.start(MAX_TEXT + len(json.dumps(variables, default=str)), variables)
        pieces: list[str] = []
        length = 0
        with _as_template_error("does not accept this conversation"):
            for piece in template.generate(variables):
                pieces.append(piece)
                length += len(piece)
                environment.check_length(length)
        return "".join(pieces)

    def _compile(self) -> "tuple[_Environment, jinja2.Template]":
        environment = _Environment()
        with _as_template_error("does not parse"):
            tree = _Instrument().visit(environment.parse(self._source))
            return environment, environment.from_string(tree)


class _as_template_error:
    """Whatever a foreign template manages to raise becomes one kind of error."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, TemplateError):
            reason = getattr(error, "message", None) or str(error) or type(error).__name__
            raise TemplateError(f"the chat template {self._what}: {reason}") from error


class _Instrument(NodeTransformer):
    """Puts a counter into every loop and a measure on everything that can grow."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.iter = _filtered(cast(nodes.Expr, node.iter), "_counted")
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        node.nodes = [_filtered(operand, "_printable") for operand in node.nodes]
        return _filtered(node, "_measured")

    def visit_List(self, node: nodes.List) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(node, "_measured")

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(node, "_measured") if node.ctx == "load" else node

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(node, "_measured")


def _filtered(node: nodes.Expr, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(["*", "**", "%", "+"])

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            finalize=self._printable,
            extensions=["jinja2.ext.loopcontrols"],
            cache_size=0,
        )
        allowed = {name: self._limited(function) for name, function in self.filters.items() if name in _FILTERS}
        self.filters = allowed | {
            "tojson": self._limited(_to_json),
            "_counted": self._counted,
            "_measured": self._measured,
            "_printable": self._printable,
        }
        self.globals = {name: self.globals[name] for name in ("range", "dict", "namespace")} | {
            "raise_exception": _raise_exception,
            "strftime_now": _strftime_now,
        }
        self.start(MAX_TEXT)

    def start(self, max_text: int, given: Mapping[str, Any] | None = None) -> None:
        """Begin with a full budget. What the caller gives is measured once, and then costs the template nothing."""
        self._max_text = max_text
        self._given: dict[int, int] = {}
        for value in (given or {}).values():
            self._measure_given(value)
        self._steps = 0
        self._deadline = time.thread_time() + MAX_SECONDS

    def check_length(self, length: int) -> None:
        """Refuse what is too long."""
        if length > self._max_text:
            raise TemplateError(
                f"the chat template builds something of {length} elements; the limit is {self._max_text}"
            )

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Allows a string only the methods that cannot make it much longer."""
        return attr in _STR_METHODS if isinstance(obj, str) else super().is_safe_attribute(obj, attr, value)

    def call(self, context: Context, obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Every call that a template makes comes through here."""
        self._spend(1)
        if getattr(obj, "__name__", "") == "replace":
            self._check_replace(getattr(obj, "__self__", ""), *args)
        return self._measured(super().call(context, obj, *args, **kwargs))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Arithmetic that can blow up."""
        self._spend(1)
        if operator == "**" or (operator == "%" and isinstance(left, str)):
            raise TemplateError(f"the chat template uses {operator!r} in a way that gemlet does not allow")
        if operator == "*":
            for items, count in ((left, right), (right, left)):
                if isinstance(items, (str, list, tuple)) and isinstance(count, int):
                    self.check_length(len(items) * count)
        return self._measured(super().call_binop(context, operator, left, right))

    def _limited(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)  # keeps jinja's marks for filters that want the context
        def limited(*args: Any, **kwargs: Any) -> Any:
            self._spend(1)
            args = tuple(list(self._counted(arg)) if isinstance(arg, Iterator) else arg for arg in args)
            values = [self._printable(arg) for arg in args if not isinstance(arg, _PASSED)]
            if function.__name__ == "do_replace":
                self._check_replace(*values)
            if function.__name__ in ("do_join", "sync_do_join") and len(values) == 2:
                self.check_length(len(values[0]) * len(str(values[1])))
            return self._measured(function(*args, **kwargs))

        return limited

    def _check_replace(self, text: object, old: object = "", new: object = "", *_: object) -> None:
        self.check_length(len(str(text)) + str(text).count(str(old)) * len(str(new)))

    def _counted(self, items: Iterable[Any]) -> Iterator[Any]:
        for item in items:
            self._spend(1)
            yield item

    def _measured(self, value: Any) -> Any:
        if isinstance(value, str):
            self.check_length(len(value))
        elif isinstance(value, int) and abs(value) >= 1 << 64:
            raise TemplateError("the chat template computes with a number beyond 64 bits")
        elif isinstance(value, (list, tuple, dict)):
            self.check_length(self._printed_size(value))
        return value

    def _printable(self, value: Any) -> Any:
        """Namespaces can hold each other without being measured, so they may not be written out."""
        if isinstance(value, Namespace):
            raise TemplateError("the chat template writes out a namespace")
        return self._measured(value)

    def _measure_given(self, value: object) -> int:
        if not isinstance(value, (list, tuple, dict)):
            return len(value) if isinstance(value, str) else 8
        items = [*value.keys(), *value.values()] if isinstance(value, dict) else value
        self._given[id(value)] = size = 8 + sum(self._measure_given(item) for item in items)
        return size

    def _printed_size(self, value: object) -> int:
        """About the characters that the value prints as; stops counting at the limit."""
        size = 0
        pending = [value]
        while pending and size <= self._max_text:
            item = pending.pop()
            self._spend(1)
            if id(item) in self._given:
                size += self._given[id(item)]
                continue
            if isinstance(item, Namespace):
                self._printable(item)
            elif isinstance(item, dict):
                pending.extend((*item.keys(), *item.values()))
            elif isinstance(item, (list, tuple)):
                pending.extend(item)
            size += len(item) if isinstance(item, str) else 8
        return size

    def _spend(self, steps: int) -> None:
        self._steps += steps
        if self._steps > MAX_STEPS or (self._steps % 64 == 0 and time.thread_time() > self._deadline):
            raise TemplateError(f"the chat template takes more than {MAX_STEPS} steps or {MAX_SECONDS:.0f} seconds")


def _to_json(value: Any, indent: int | None = None, **_: Any) -> str:
    """Writes JSON like transformers: characters as they are, no HTML escapes."""
    if isinstance(value, Undefined):
        raise TemplateError("the chat template writes an undefined value as JSON")
    return json.dumps(value, ensure_ascii=False, indent=None if indent is None else min(int(indent), 8))


def _raise_exception(message: object) -> None:
    raise jinja2.TemplateError(message if isinstance(message, str) else "no reason given")


def _strftime_now(pattern: str) -> str:
    if len(pattern) > 64:
        raise TemplateError("the chat template asks for a date of more than 64 characters")
    return datetime.now().strftime(pattern)
