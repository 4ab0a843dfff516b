"""What the Python package imports on first use: a fork waits for it (gemlet.forked.importing)."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[3] / "python" / "gemlet"
# Programs, which fork no child that uses gemlet; what runs in a process of its own; and a module in C of Python's own,
# that tells the memory of a process where there is no /proc.
# And the hub's client, which has locks of its own that a fork takes.
EXCEPT = ("cli/", "bench/", "chat/jinja_child.py", "memory.py", "hub/download.py")
FILES = [
    path.relative_to(PACKAGE).as_posix()
    for path in sorted(PACKAGE.rglob("*.py"))
    if not path.relative_to(PACKAGE).as_posix().startswith(EXCEPT)
]


def unguarded(source: str) -> list[int]:
    """The lines of functions that import something without holding ``importing``."""
    found = []

    def visit(node: ast.AST, is_guarded: bool) -> None:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            is_guarded = False
        if isinstance(node, ast.With):
            is_guarded |= any(ast.unparse(item.context_expr) == "importing" for item in node.items)
        called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
        is_import = isinstance(node, (ast.Import, ast.ImportFrom)) or called.endswith(("import_module", "__import__"))
        if is_import and not is_guarded:
            found.append(node.lineno)  # type: ignore[attr-defined]
        for child in ast.iter_child_nodes(node):
            visit(child, is_guarded)

    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            visit(node, False)
    return sorted(set(found))


@pytest.mark.parametrize("name", FILES)
def test_functions_import_under_the_lock(name: str) -> None:
    assert unguarded((PACKAGE / name).read_text(encoding="utf-8")) == []


def test_an_import_without_the_lock_is_found() -> None:
    assert unguarded("import a\ndef f():\n    import b\n    with importing:\n        import c\n") == [3]
    assert unguarded("class A:\n    async def f(self):\n        with other:\n            from b import c\n") == [4]
    assert unguarded("def f():\n    with importing:\n        def g():\n            import b\n") == [4]
    assert unguarded("def f():\n    return importlib.import_module('a')\n") == [2]
