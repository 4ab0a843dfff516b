"""Checks the arguments of public functions by their annotations, so that a wrong one raises an ArgumentError that names
it, what was expected and what was found, instead of whatever it would run into.

Only what the annotations say is checked, and that whole numbers fit into the 32 bits of the core's. Where an annotation
names something that this cannot check, such as a protocol, everything passes.
"""

import collections.abc
import contextlib
import functools
import inspect
import operator
import os
import sys
import types
import typing
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Annotated, Any, ParamSpec, TypeVar, cast

from gemlet.errors import ArgumentError, ArgumentTypeError

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

Large = Annotated[int, "64 bits"]
"""A whole number that need not fit into 32 bits."""

_NAMES: dict[object, str] = {
    int: "a whole number",
    Large: "a whole number",
    float: "a number",
    bool: "True or False",
    str: "text (str)",
    bytes: "bytes",
    None: "None",
    type(None): "None",
    os.PathLike: "a path",
    collections.abc.Callable: "a function",
    collections.abc.Mapping: "a mapping",
}


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Check the arguments of each call."""
    parameters = inspect.signature(function).parameters.values()
    positional = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    named = {p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    defaults = {p.name: p.default for p in parameters}

    @functools.cache
    def annotations() -> dict[str, object]:
        return {name: _resolve(value, function) for name, value in function.__annotations__.items() if name in named}

    def check_all(args: tuple[object, ...], kwargs: dict[str, Any]) -> None:
        known = annotations()
        given: Iterable[tuple[str, object]] = (*zip(positional, args, strict=False), *kwargs.items())
        for name, value in given:
            if name in known and value is not defaults[name]:
                check(name, value, known[name])

    # What is made of a coroutine function is one, and of an async generator function likewise, as inspect sees it.
    if inspect.iscoroutinefunction(function):

        async def await_it(*args: P.args, **kwargs: P.kwargs) -> Any:
            check_all(args, kwargs)
            return await function(*args, **kwargs)

        return functools.wraps(function)(cast(Callable[P, R], await_it))
    if inspect.isasyncgenfunction(function):

        async def iterate(*args: P.args, **kwargs: P.kwargs) -> AsyncIterator[Any]:
            check_all(args, kwargs)
            async with contextlib.aclosing(function(*args, **kwargs)) as items:
                async for item in items:
                    yield item

        return functools.wraps(function)(cast(Callable[P, R], iterate))

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        check_all(args, kwargs)
        return function(*args, **kwargs)

    return call


def checked_methods(cls: type[T]) -> type[T]:
    """Check the arguments of the public methods of a class, and those that make it."""
    for name, function in list(vars(cls).items()):
        if isinstance(function, types.FunctionType) and (not name.startswith("_") or name == "__init__"):
            setattr(cls, name, checked(function))
    return cls


def check(name: str, value: object, annotation: object) -> None:
    """Compare a value with an annotation.

    Raises:
        ArgumentTypeError: the annotation does not allow it.
        ArgumentError: a whole number that is too large.
    """
    if _matches(value, annotation):
        return
    items: Any = value if _is_sequence(value) else ()
    item_annotation = _item_of(annotation)
    for i, item in enumerate(items):
        if not _matches(item, item_annotation):
            name, value, annotation = f"{name}[{i}]", item, item_annotation
            break
    number = _whole(value)
    if number is not None and int in _members(annotation):
        bound = "of at least -2**31" if number < 0 else "below 2**31"
        raise ArgumentError(f"{name} is {show_whole(number)}, expected a number {bound}")
    raise ArgumentTypeError(f"{name}: expected {_describe(annotation)}, found {_show(value)}")


def _resolve(annotation: object, function: Callable[..., object]) -> object:
    if not isinstance(annotation, str):
        return annotation
    names = vars(sys.modules["gemlet"]) | vars(sys.modules[function.__module__])
    try:
        return eval(annotation, names)
    except NameError:  # of a module that nobody has imported yet: the value is not from there
        return Any


def _members(annotation: object) -> tuple[object, ...]:
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return typing.get_args(annotation) if is_union else (annotation,)


def _whole(value: object) -> int | None:
    """None for what is no whole number: types and arrays have an ``__index__`` too, which fails."""
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except Exception:
        return None


def show_whole(number: int) -> str:
    """Its digits, unless there are too many: Python refuses to write thousands of them."""
    if abs(number) < 10**40:
        return str(number)
    return f"{'-' if number < 0 else ''}a number of {number.bit_length()} bits"


def _matches(value: object, annotation: object) -> bool:
    return any(_matches_one(value, member) for member in _members(annotation))


def _matches_one(value: object, annotation: object) -> bool:
    origin = typing.get_origin(annotation) or annotation
    if annotation is Any:
        return True
    if origin is Annotated:
        return _whole(value) is not None
    if annotation is int:
        return (number := _whole(value)) is not None and -(2**31) <= number < 2**31
    if annotation in (float, bool):
        return _whole(value) is not None or (annotation is float and _is_float(value)) or _is_numpy_bool(value)
    if annotation is None:
        return value is None
    if origin is typing.Literal:
        return any(isinstance(value, type(choice)) for choice in typing.get_args(annotation))
    if origin is collections.abc.Sequence:
        return _is_sequence(value) and _items_match(value, typing.get_args(annotation)[0])
    if origin is collections.abc.Callable:
        return callable(value)
    return not isinstance(origin, type) or getattr(origin, "_is_protocol", False) or isinstance(value, origin)


def _is_float(value: object) -> bool:
    try:
        return hasattr(value, "__float__") and float(value) is not None
    except Exception:
        return False


def _is_numpy_bool(value: object) -> bool:
    return type(value).__name__ in ("bool", "bool_")


def _is_sequence(value: object) -> bool:
    is_text = isinstance(value, (str, bytes, bytearray, memoryview, Mapping))
    return not isinstance(value, type) and hasattr(value, "__len__") and hasattr(value, "__getitem__") and not is_text


def _items_match(values: Any, annotation: object) -> bool:
    if annotation is int and all(type(value) is int for value in values):
        return not len(values) or (min(values) >= -(2**31) and max(values) < 2**31)
    return all(_matches(value, annotation) for value in values)


def _item_of(annotation: object) -> object:
    sequences = [of for of in _members(annotation) if typing.get_origin(of) is collections.abc.Sequence]
    return typing.get_args(sequences[0])[0] if sequences else Any


def _describe(annotation: object) -> str:
    names = [_describe_one(member) for member in _members(annotation)]
    return " or ".join((", ".join(names[:-1]), names[-1])) if len(names) > 1 else names[0]


def _describe_one(annotation: object) -> str:
    origin = typing.get_origin(annotation)
    if origin is collections.abc.Sequence:
        items = _describe(typing.get_args(annotation)[0])
        return "a sequence of whole numbers" if items == "a whole number" else f"a sequence, each item {items}"
    if origin is typing.Literal:
        return " or ".join(map(repr, typing.get_args(annotation)))
    kind = annotation if origin is None or annotation in _NAMES else origin
    return _NAMES.get(kind) or str(getattr(kind, "__name__", kind))


def _show(value: object) -> str:
    try:
        text = repr(value)
    except Exception:
        text = "something"
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"
