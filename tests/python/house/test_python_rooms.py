"""The layering of the Python package: which room may import which, and that no imports run in a circle.

Imports count wherever they stand: in a function and under TYPE_CHECKING as well as at the top of a file.
"""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[3] / "python" / "gemlet"
# From the bottom to the top. A module imports from layers below its own, and from its own room; modules of one layer
# that are in different rooms do not know each other. What has no folder is a room by itself.
LAYERS = [
    {"_core", "cache", "errors", "forked", "memory", "version"},
    {"arguments", "bundled", "files", "slicing", "text"},
    {"hub", "info", "media", "options", "result"},
    {"stream"},
    {"session"},
    {"scheduler"},
    {"chat", "conversion", "exported"},
    {"speech"},
    {"model"},
    {"bench", "exporters", "scoring"},
    {"cli"},
    {"gemlet", "__main__"},  # the public names, and `python -m gemlet`
]
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
FILES = sorted([*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.pyi")])


def module_name(path: Path) -> str:
    """The dotted name of a file, ``gemlet.cli.chat``; a package's name for its __init__.py."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """The part of the name below the package; ``gemlet`` for the package itself."""
    return module.split(".")[1] if "." in module else module


MODULES = {module_name(path): path for path in FILES}


def imports(module: str, source: str, is_package: bool = False) -> set[str]:
    """The modules of this package that a source text imports: ``from gemlet import model`` imports gemlet.model, while
    ``from gemlet import load`` imports the package's own file."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == "gemlet"}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                parents = parts[: len(parts) - node.level + is_package]
                base = ".".join([*parents, base] if base else parents)
            if base.split(".")[0] == "gemlet":
                for alias in node.names:
                    inner = f"{base}.{alias.name}"
                    found.add(inner if inner in MODULES else base)
    return found


def upward(module: str, imported: set[str]) -> set[str]:
    """The imports that do not point to a lower layer or into the module's own room."""
    room = room_of(module)
    return {name for name in imported if room_of(name) != room and LEVEL[room_of(name)] >= LEVEL[room]}


def circle(graph: dict[str, set[str]]) -> list[str]:
    """One circle of imports, if there is any."""
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return []
        for name in sorted(graph.get(module, set())):
            if found := visit(name, [*path, module]):
                return found
        done.add(module)
        return []

    return next((found for module in sorted(graph) if (found := visit(module, []))), [])


GRAPH = {
    name: imports(name, path.read_text(encoding="utf-8"), path.stem == "__init__") for name, path in MODULES.items()
}


def test_every_module_has_a_layer() -> None:
    assert {room_of(module) for module in MODULES} == set(LEVEL)


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    assert upward(module, GRAPH[module]) == set()


def test_no_imports_run_in_a_circle() -> None:
    assert circle(GRAPH) == []


def test_an_import_that_points_up_is_found() -> None:
    lazy = "def f() -> None:\n    from gemlet.cli import common\n"
    assert upward("gemlet.model", imports("gemlet.model", lazy)) == {"gemlet.cli.common"}
    typing = "if TYPE_CHECKING:\n    from gemlet.model import Model\n"
    assert upward("gemlet.chat.conversation", imports("gemlet.chat.conversation", typing)) == {"gemlet.model"}
    assert upward("gemlet.chat.templates", imports("gemlet.chat.templates", "import gemlet\n")) == {"gemlet"}
    assert upward("gemlet.chat.templates", imports("gemlet.chat.templates", "from gemlet import load\n")) == {"gemlet"}
    assert upward("gemlet.exported.engine", {"gemlet.conversion.writer"}) == {"gemlet.conversion.writer"}
    assert upward("gemlet.exporters.check", {"gemlet.model", "gemlet.exporters.errors"}) == set()


def test_relative_imports_are_followed() -> None:
    name = "gemlet.exporters.onnx.builder"
    assert imports(name, "from .file import OnnxFile") == {"gemlet.exporters.onnx.file"}
    assert imports(name, "from ..source import Source") == {"gemlet.exporters.source"}
    assert imports("gemlet.exporters.onnx", "from .builder import OnnxBuilder", True) == {
        "gemlet.exporters.onnx.builder"
    }
    assert imports("gemlet.exporters", "from . import onnx", True) == {"gemlet.exporters.onnx"}


def test_a_circle_is_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
