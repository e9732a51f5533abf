"""Cutting the bodies of functions out of a module's text; all the rest stays, byte by byte.

What stays of a function: decorators, signature, docstring, and the checks of its input with which
its body begins. Positions come from the syntax tree; the text is never printed anew.
"""

import ast
import textwrap
from collections.abc import Mapping, Sequence

from hw3utils.checking.places import Definition, definition


def cut(
    source: str,
    bodies: Mapping[str, str],
    docs: Mapping[str, str] | None = None,
    gone: Sequence[str] = (),
) -> tuple[str, list[str]]:
    """Return the edition of a module, and the lines that were cut.

    ``bodies`` maps dotted names of functions to the code that stands instead of their bodies,
    ``docs`` names of functions or classes to other docstrings; ``gone`` are definitions that
    vanish. Raises a LookupError where a name is not defined.
    """
    tree = ast.parse(source)
    lines = source.splitlines(keepends=True)
    edits: list[tuple[int, int, list[str]]] = []  # first line, line after the last, in their place
    for name, text in (docs or {}).items():
        edits.append(_new_docstring(definition(tree, name), text))
    for name, code in bodies.items():
        edits.append(_new_body(definition(tree, name), code))
    for name in gone:
        node = definition(tree, name)
        first = min([node.lineno, *(d.lineno for d in node.decorator_list)]) - 1
        after = node.end_lineno
        while after < len(lines) and not lines[after].strip():
            after += 1
        edits.append((first, after, []))
    made, removed, done = [], [], 0
    for first, after, instead in sorted(edits):
        made += lines[done:first] + instead
        removed += lines[first:after]
        done = after
    return "".join(made + lines[done:]), removed


def raising(message: str) -> str:
    """Return the code of a body that says this when it is called."""
    return f"raise NotImplementedError(\n    {message!r}\n)"


def _new_body(node: ast.FunctionDef, code: str) -> tuple[int, int, list[str]]:
    kept = 1 if ast.get_docstring(node) is not None else 0
    while kept < len(node.body) and _is_check(node.body[kept]):
        kept += 1
    if kept == len(node.body):
        raise LookupError(f"{node.name}: nothing but checks, there is no body to cut")
    first = node.body[kept - 1].end_lineno if kept else node.body[0].lineno - 1
    code = textwrap.indent(textwrap.dedent(code).strip(), " " * node.body[0].col_offset)
    return first, node.end_lineno, [f"{line}\n" for line in code.splitlines()]


def _is_check(node: ast.stmt) -> bool:
    """Tell whether a statement only refuses bad input, or sets up a parent class."""
    if isinstance(node, ast.Raise):
        return True
    if isinstance(node, ast.If | ast.For):
        return all(map(_is_check, node.body)) and not node.orelse
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        called = ast.unparse(node.value.func)
        return called.rpartition(".")[2].startswith(("check_", "_check")) or "super()" in called
    return False


def _new_docstring(node: Definition, text: str) -> tuple[int, int, list[str]]:
    """Replace a docstring, or put one in front of a body that has none."""
    indent = " " * node.body[0].col_offset
    first = node.body[0].lineno - 1
    after = node.body[0].end_lineno if ast.get_docstring(node) is not None else first
    quoted = '"""' + textwrap.dedent(text).strip() + ('\n"""' if "\n" in text.strip() else '"""')
    return first, after, [f"{indent}{line}".rstrip() + "\n" for line in quoted.splitlines()]
