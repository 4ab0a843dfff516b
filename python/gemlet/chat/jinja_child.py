"""The program of the process that renders chat templates; gemlet.chat.sandbox starts it and says what the limits are.

It reads requests from stdin and writes replies to stdout, each a length of 8 bytes (big-endian) and JSON. A request is
{"source": ..., "variables": ..., "seconds": ...}, and null variables only compile. A reply is [kind, text]: ["text",
what was rendered, or a JSON list of the variables that a compiled template uses], or an error of the kind "parse",
"render" or "memory" with its reason. Templates see what those of
transformers see: its filters, functions and tags.

It is run as a file, without site-packages, so it imports nothing of gemlet; where jinja2 is comes in the arguments.
"""

import json
import math
import struct
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime
from types import CodeType
from typing import IO, Any

MAX_COMPILED = 1 << 21
"""Characters of the Python code that a template compiles to. jinja2 computes constant expressions while it compiles, so
a short template may have a long one."""
KEPT_TEMPLATES = 8


def limit_process(memory: int) -> None:
    """No more memory than ``memory`` bytes beyond what is mapped now, no writing to files, no core dumps; no
    processes either, unless the user is root."""
    import resource

    hard = resource.RLIM_INFINITY
    if (mapped := mapped_bytes()) is not None:
        hard = mapped + memory
    for name, limit in {"AS": hard, "CORE": 0, "FSIZE": 0, "NPROC": 0}.items():
        kind = getattr(resource, f"RLIMIT_{name}", None)
        if kind is not None:
            lower_limit(kind, limit)


def limit_processor_time(seconds: float) -> None:
    """End this process when it has computed for ``seconds`` more: it must not spin if nobody is left to end it."""
    import resource

    end = math.ceil(time.process_time() + max(0.0, seconds)) + 1
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)  # nobody but root may raise it
    resource.setrlimit(resource.RLIMIT_CPU, (end if hard == resource.RLIM_INFINITY else min(end, hard), hard))


def lower_limit(kind: int, limit: int) -> None:
    """Set a limit for good, or leave the inherited one where that is lower already."""
    import resource

    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY and (limit == resource.RLIM_INFINITY or hard < limit):
        limit = hard
    resource.setrlimit(kind, (limit, limit))


def mapped_bytes() -> int | None:
    """The size of the address space, where the system tells."""
    import resource

    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123  pathlib would take a megabyte more
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return None


def make_environment() -> Any:
    """The sandbox of transformers: jinja2's immutable one, with its additions."""
    import jinja2
    import jinja2.debug  # loaded on the first error otherwise
    import jinja2.ext
    import jinja2.meta
    import jinja2.nodes
    import jinja2.sandbox
    import jinja2.utils

    class Generation(jinja2.ext.Extension):
        """``{% generation %}...{% endgeneration %}`` marks what the model says, for training; it prints its body."""

        tags = {"generation"}  # noqa: RUF012  jinja2 declares it so

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return jinja2.nodes.CallBlock(self.call_method("print_body"), [], [], body).set_lineno(line)

        def print_body(self, caller: Callable[[], str]) -> str:
            return caller()

    class Namespace(jinja2.utils.Namespace):
        """Refuses names that begin with an underscore."""

        def __init__(*args: Any, **values: Any) -> None:
            self, *rest = args  # so that a value may be named self
            values = dict(*rest, **values)
            for name in values:
                _check_name(name)
            jinja2.utils.Namespace.__init__(self, values)

        def __setitem__(self, name: str, value: Any) -> None:
            _check_name(name)
            super().__setitem__(name, value)

    def _check_name(name: object) -> None:
        if isinstance(name, str) and name.startswith("_"):
            raise jinja2.exceptions.SecurityError(f"a namespace cannot hold {name!r}: it begins with an underscore")

    class Dict:
        """``dict(...)`` and ``dict.fromkeys``, without the class itself."""

        def __call__(self, *args: Any, **values: Any) -> dict[Any, Any]:
            return dict(*args, **values)

        def fromkeys(self, *args: Any) -> dict[Any, Any]:
            return dict.fromkeys(*args)

    def to_json(
        value: Any,
        ensure_ascii: bool = False,
        indent: int | str | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def raise_exception(message: object) -> None:
        raise jinja2.TemplateError(str(message))

    def strftime_now(pattern: str) -> str:
        return datetime.now().strftime(pattern)

    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = to_json
    environment.globals |= {
        "dict": Dict(),
        "namespace": Namespace,
        "raise_exception": raise_exception,
        "strftime_now": strftime_now,
    }
    return environment


class Renderer:
    """Compiles templates, keeps the last few compiled ones, and renders them."""

    def __init__(self) -> None:
        self._environment = make_environment()
        self._compiled: OrderedDict[str, CodeType] = OrderedDict()

    def answer(self, source: str, variables: dict[str, Any] | None) -> tuple[str, str]:
        """The reply to a request."""
        kind = "parse"
        try:
            self._compile(source)
            if variables is None:
                return "text", self._used_variables(source)
            kind = "render"
            return "text", self._render(source, variables)
        except MemoryError:
            return "memory", ""
        except Exception as error:
            return kind, reason(error)

    def _compile(self, source: str) -> None:
        if source not in self._compiled:
            python = self._environment.compile(source, raw=True)
            if len(python) > MAX_COMPILED:
                raise ValueError(f"it compiles to {len(python)} characters; the limit is {MAX_COMPILED}")
            self._compiled[source] = compile(python, "<template>", "exec")
        self._compiled.move_to_end(source)
        if len(self._compiled) > KEPT_TEMPLATES:
            self._compiled.popitem(last=False)

    def _used_variables(self, source: str) -> str:
        import jinja2.meta

        return json.dumps(sorted(jinja2.meta.find_undeclared_variables(self._environment.parse(source))))

    def _render(self, source: str, variables: dict[str, Any]) -> str:
        code, names = self._compiled[source], self._environment.make_globals(None)
        template = self._environment.template_class.from_code(self._environment, code, names, None)
        return str(template.render(variables))


def reason(error: Exception) -> str:
    """What went wrong, in printable characters: it comes from a file and may reach a terminal."""
    text = getattr(error, "message", None) or str(error) or type(error).__name__
    return "".join(c if c.isprintable() else "\ufffd" for c in str(text)[:500])


def serve(requests: IO[bytes], replies: IO[bytes], answer: Callable[[str, Any], tuple[str, str]]) -> None:
    """Answer requests until there are no more."""
    while len(head := requests.read(8)) == 8:
        [length] = struct.unpack(">Q", head)
        try:
            request = json.loads(requests.read(length))
            limit_processor_time(request["seconds"])
            reply = json.dumps(answer(request["source"], request["variables"])).encode()
            del request
        except MemoryError:
            reply = b'["memory", ""]'
        replies.write(struct.pack(">Q", len(reply)) + reply)
        replies.flush()
        del reply


def main() -> None:
    """Take the limits and the folders to import from as arguments, and serve."""
    memory, *folders = sys.argv[1:]
    sys.path += folders
    renderer = Renderer()
    limit_process(int(memory))
    serve(sys.stdin.buffer, sys.stdout.buffer, renderer.answer)


if __name__ == "__main__":
    main()
