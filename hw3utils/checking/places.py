"""Where a task's functions stand, and fresh modules made of somebody's functions.

A function is named by wing and name, ``"problem2:unchecked_iou"``: which file it is in, and at
which line, is looked up. Nothing is imported to find it.
"""

import ast
import contextlib
import importlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType

PACKAGE = Path(__file__).parents[1]
Definition = ast.FunctionDef | ast.ClassDef


def find(package: Path, function: str) -> Path:
    """Return the file, relative to ``package``, that defines ``wing:name`` or ``wing:outer.name``.

    Raises a LookupError where none does, or several; it says which file cannot be read, and where.
    """
    wing, name = function.split(":")
    every = sorted((package / wing).rglob("*.py"))
    files = [path for path in every if _defines(path, name)]
    if len(files) != 1:
        broken = [mistake for path in every if (mistake := _syntax_mistake(package, path))]
        said = f"{function} is defined in {len(files)} files of {package / wing}"
        raise LookupError("; ".join(broken) or said)
    return files[0].relative_to(package)


def _defines(path: Path, name: str) -> bool:
    text = path.read_text(encoding="utf-8")
    if name.rpartition(".")[2] not in text:
        return False
    with contextlib.suppress(SyntaxError, LookupError):
        return bool(definition(ast.parse(text), name))
    return False


def _syntax_mistake(package: Path, path: Path) -> str:
    try:
        ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError as error:
        place = path.relative_to(package.parent).as_posix()
        return f"a mistake in the syntax of {place}, line {error.lineno}: {error.msg}"
    return ""


def definition(tree: ast.AST, name: str) -> Definition:
    """Return a definition by its dotted name; of several the last, as Python has it.

    Raises a LookupError where there is none.
    """
    found = tree
    for part in name.split("."):
        inside = [node for node in found.body if getattr(node, "name", None) == part]
        if not inside:
            raise LookupError(f"{name} is not there any more")
        found = inside[-1]
    return found


def graft(base: ast.Module, submitted: str, names: Sequence[str]) -> ast.Module:
    """Return a module with somebody's functions, and with what else their file defines.

    The functions ``names`` are taken from ``submitted``, and so is whatever the base does not have:
    imports, helper functions, constants. All other definitions are those of the base, so that
    damage to them disturbs nothing. Raises a SyntaxError or a LookupError that says what is wrong.
    """
    theirs = ast.parse(submitted)
    ours = {name for node in base.body for name in _names(node)}
    places = []
    for name in names:
        outer, _, inner = name.rpartition(".")
        parent = definition(base, outer) if outer else base
        old = definition(parent, inner)
        places.append(base.body.index(definition(base, name.split(".")[0])))
        parent.body[parent.body.index(old)] = definition(theirs, name)
    extra = [
        node
        for node in theirs.body
        if _names(node) - ours and getattr(node, "module", "") != "__future__"
    ]
    base.body[min(places) : min(places)] = extra
    return base


def _names(node: ast.stmt) -> set[str]:
    """Return the names that a statement at a module's top level defines or imports."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name.partition(".")[0] for alias in node.names}
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    targets = getattr(node, "targets", [getattr(node, "target", None)])
    return {leaf.id for t in targets if t for leaf in ast.walk(t) if isinstance(leaf, ast.Name)}


def module_name(file: Path | str) -> str:
    """Return the dotted name of a file of the package."""
    return ".".join(("hw3utils", *Path(file).with_suffix("").parts))


@contextlib.contextmanager
def fresh(trees: Mapping[str, ast.Module]) -> Iterator[dict[str, ModuleType]]:
    """Yield modules made anew of ``trees`` (file within the package to tree), in this order.

    Within the block whoever imports one of them gets the new one; afterwards all is as before.
    """
    before = {module_name(file): sys.modules.get(module_name(file)) for file in trees}
    made = {}
    try:
        for file, tree in trees.items():
            name = module_name(file)
            importlib.import_module(name.rpartition(".")[0])
            made[file] = sys.modules[name] = ModuleType(name)
            made[file].__file__ = str(PACKAGE / file)
            exec(compile(ast.fix_missing_locations(tree), Path(file).name, "exec"),
                 made[file].__dict__)  # fmt: skip
        yield made
    finally:
        for name, module in before.items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module
