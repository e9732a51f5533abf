"""Which code makes a result: a digest of the definitions that a worker executes, and no others.

A task is a function that workers run. It names other definitions, those name more, wherever they
stand in the wings; the digest is over all of them as they were when the task's module was imported.
Comments, docstrings, type hints and layout do not count, nor where a definition stands. The hall
(``hw3utils/*.py``) does not count either: it reads, checks and writes, and decides no result.
"""

import ast
import dataclasses
import functools
import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

PACKAGE = "hw3utils"


class _Room(NamedTuple):
    """A module as it was when it was read: its definitions, and what its imports mean."""

    definitions: dict[str, ast.stmt]
    imports: dict[str, tuple[str, str | None]]  # (module, name there, or None for the module)


_rooms: dict[str, _Room] = {}
_tasks: set[str] = set()


def task(function: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a function of a module's top level as one that workers run, and read its code now."""
    _read(function.__module__)
    _tasks.add(_place(function))
    return function


def code_digest(functions: Sequence[Callable[..., Any]], arguments: Any = ()) -> str:
    """Return a SHA-256 digest (hexadecimal) of what ``functions`` execute, given ``arguments``.

    The classes of the arguments count too: a `Run` names its schedule only by its value. Raises a
    ValueError where a function is not marked by `task`: its code could have been edited since.
    """
    for function in functions:
        if _place(function) not in _tasks:
            raise ValueError(f"{_place(function)}: mark it with @task, so that its code is known")
    roots = [(function.__module__, function.__qualname__) for function in functions]
    classes = {(kind.__module__, kind.__qualname__) for kind in _classes(arguments)}
    return _digest(tuple(roots), frozenset(classes))


@functools.cache
def _digest(roots: tuple[tuple[str, str], ...], classes: frozenset[tuple[str, str]]) -> str:
    found: dict[tuple[str, str], str] = {}
    waiting = [*roots, *classes]
    while waiting:
        module, name = waiting.pop()
        if (module, name) in found or not (_in_a_wing(module) or (module, name) in roots):
            continue
        if (node := _read(module).definitions.get(name)) is None:
            continue
        reader = _Reader(module)
        found[module, name] = ast.unparse(reader.visit(_copy(node)))
        waiting += reader.named
    names = [name for _, name in roots]
    return hashlib.sha256("\n".join([*names, *sorted(set(found.values()))]).encode()).hexdigest()


class _Reader(ast.NodeTransformer):
    """Notes which definitions a definition names, and strips what does not decide results."""

    def __init__(self, module: str) -> None:
        self.module = module
        self.named: list[tuple[str, str]] = []

    def visit_Name(self, node: ast.Name) -> ast.AST:  # noqa: D102
        module, name = _resolve(self.module, node.id)
        if name is None:
            return node
        self.named.append((module, name))
        return ast.Name(name, node.ctx)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:  # noqa: D102
        if isinstance(node.value, ast.Name):
            module, name = _resolve(self.module, node.value.id)
            if name is None and module is not None:  # loop.fit counts as fit: rooms can be renamed
                self.named.append(_resolve(module, node.attr))
                return ast.Name(node.attr, node.ctx)
        return self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:  # noqa: D102
        node.returns = None
        for argument in ast.walk(node.args):
            if isinstance(argument, ast.arg):
                argument.annotation = None
        return self.generic_visit(_without_docstring(node))

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:  # noqa: D102
        return self.generic_visit(_without_docstring(node))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:  # noqa: D102
        ours = (node.module or "").split(".")[0] == PACKAGE
        return ast.Pass() if ours else node


def _resolve(module: str, name: str) -> tuple[str | None, str | None]:
    """Return where a name that stands in ``module`` is defined; (module, None) for a module."""
    room = _read(module)
    if name in room.definitions:
        return module, name
    if name not in room.imports:
        return None, None
    source, there = room.imports[name]
    if there is None or not _in_a_wing(source):
        return source, there
    found = _resolve(source, there)
    return found if found != (None, None) else (source, there)


def _read(module: str) -> _Room:
    """Return a module's room, read from its file the first time that it is asked for."""
    if module in _rooms:
        return _rooms[module]
    definitions: dict[str, ast.stmt] = {}
    imports: dict[str, tuple[str, str | None]] = {}
    tree = ast.parse(_file(module).read_text(encoding="utf-8"))
    for node in tree.body:
        for name in _defined(node):
            definitions[name] = node
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                is_module = _is_package(node.module) and find_spec(inner) is not None
                known = (inner, None) if is_module else (node.module, alias.name)
                imports[alias.asname or alias.name] = known
    _rooms[module] = _Room(definitions, imports)
    for source, _ in imports.values():
        if _in_a_wing(source):
            _read(source)
    return _rooms[module]


def _defined(node: ast.stmt) -> list[str]:
    """Return the names that a statement of a module's top level defines."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        inside = (part for target in targets for part in ast.walk(target))
        return [part.id for part in inside if isinstance(part, ast.Name)]
    return []


def _without_docstring(node: ast.FunctionDef | ast.ClassDef) -> ast.AST:
    if ast.get_docstring(node) is not None:
        node.body = node.body[1:] or [ast.Pass()]
    return node


def _classes(value: Any) -> Iterator[type]:
    """Yield the classes of all dataclasses in a value of dataclasses, lists and tuples."""
    if dataclasses.is_dataclass(value):
        yield type(value)
        value = [getattr(value, field.name) for field in dataclasses.fields(value)]
    if isinstance(value, list | tuple):
        for item in value:
            yield from _classes(item)


def _place(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{function.__qualname__}"


def _in_a_wing(module: str) -> bool:
    """Tell whether a module stands in a wing; the hall's stand directly in the package."""
    return module.startswith(f"{PACKAGE}.") and (module.count(".") > 1 or _is_package(module))


@functools.cache
def _is_package(module: str) -> bool:
    return find_spec(module).submodule_search_locations is not None


def _file(module: str) -> Path:
    loaded = getattr(sys.modules.get(module), "__file__", None)
    return Path(loaded or find_spec(module).origin)


def _copy(node: ast.stmt) -> ast.stmt:
    """Return a fresh copy of a statement, to be changed: parsing is faster than copying deeply."""
    return ast.parse(ast.unparse(node)).body[0]
