"""Calling a task's functions: what comes back as plain data, an exception as its words.

What is called with which inputs stands in `probes`. Nothing here knows an expected value.
"""

import ast
import random
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from hw3utils.checking.places import fresh, graft

Cases = Iterator[tuple[str, Callable[[], Any]]]
Modules = Mapping[str, ModuleType]  # by the names of the functions of a task
LONGEST = 20_000  # numbers in what one case returns


@dataclass(frozen=True)
class Task:
    """Functions that students write, and how they are called."""

    name: str
    functions: tuple[str, ...]  # as `places.find` takes them
    probe: Callable[[Modules, random.Random], Cases]
    needs: tuple[str, ...] = ()  # tasks whose functions these call
    tolerance: float = 1e-4  # relative, of numbers
    seconds: float = 20.0  # at most


TASKS: dict[str, Task] = {}


def task(name: str, *functions: str, **options: Any) -> Callable:
    """Register a probe."""

    def register(probe: Callable[[Modules, random.Random], Cases]) -> Callable:
        TASKS[name] = Task(name, functions, probe, **options)
        return probe

    return register


def run(asked: Task, modules: Modules, seed: int) -> dict[str, Any]:
    """Return what each case gives, as lists, numbers, texts; ``{"error": …}`` where it raised."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    found: dict[str, Any] = {}
    cases = asked.probe(modules, random.Random(f"{seed} {asked.name}"))
    while True:
        label = ""
        try:
            if (case := next(cases, None)) is None:
                return found
            label, call = case
            found[label] = plain(call())
        except KeyboardInterrupt:  # a student stops an endless loop: all of the check
            raise
        except BaseException as error:  # whatever a submission raises, SystemExit too
            found[label or "preparation"] = {"error": _words(error)}
            if not label:
                return found


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a request gives: a task by name, seed, files, and grafts onto them.

    Each file comes as (name, text, [(somebody's text, names to be taken from it)]).
    """
    task = TASKS[request["task"]]
    try:
        trees = {}
        for file, edition, grafts in request["files"]:
            trees[file] = ast.parse(edition)
            for text, names in grafts:
                graft(trees[file], text, names)
        with fresh(trees) as made:
            modules = {function: made[file] for function, file in request["functions"].items()}
            return run(task, modules, request["seed"])
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a submission's file may raise anything while it is loaded
        line = f" (line {error.lineno})" if isinstance(error, SyntaxError) else ""
        said = error.msg if isinstance(error, SyntaxError) else str(error)[:300]
        return {"preparation": {"error": f"{type(error).__name__}: {said}{line}"}}


def plain(value: Any, deepest: int = 20) -> Any:
    """Return a value made of dicts, lists, texts, numbers, booleans and None alone.

    Texts can be written as UTF-8; what is nested deeper, or longer than others, is cut.
    """
    if value is None or type(value) in (bool, int, float):
        return value
    if isinstance(value, str):
        return str(value)[:2_000].encode("utf-8", "replace").decode()
    if not deepest:
        return "nested too deeply"
    if isinstance(value, dict):
        pairs = list(value.items())[:LONGEST]
        return {plain(str(key)[:100]): plain(item, deepest - 1) for key, item in pairs}
    if isinstance(value, list | tuple):
        return [plain(item, deepest - 1) for item in list(value)[:LONGEST]]
    if hasattr(value, "numel") and value.numel() > LONGEST:
        return f"a tensor of {value.numel()} numbers"
    if hasattr(value, "tolist"):
        found = value.detach().tolist() if hasattr(value, "detach") else value.tolist()
        return plain(found, deepest - 1)
    return f"a {type(value).__name__}"


def _words(error: BaseException) -> str:
    """Return what was raised, and the line of the submitted file where it was."""
    own = [f for f in traceback.extract_tb(error.__traceback__) if "/" not in f.filename
           and not f.filename.startswith("<")]  # fmt: skip
    where = f" (line {own[-1].lineno} of {own[-1].filename})" if own else ""
    return f"{type(error).__name__}: {str(error)[:500]}{where}"
