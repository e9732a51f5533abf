"""A model notebook in cells of one role each, and the notebook that students get.

Roles: question, expectation, text, answer. A cell's tag decides; without one a rule reads its
paragraphs, and in a section with points what is neither question nor expectation is answer.
"""

import ast
import re
from collections.abc import Container
from copy import deepcopy
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from course.tasks import AUTOMATIC, BY_HAND, HIDDEN_NAMES, INTRODUCTIONS, RUBRIC
from hw3utils.checking.records import TEMPLATES
from hw3utils.checking.running import TASKS

ROLES = ("question", "expectation", "text", "answer")
_PARTS = re.compile(r"^#+ (\d\.\d[a-d]?(?: and \d\.\d[a-d]?)*)\b", re.MULTILINE)
_ITEM = re.compile(r"\*\*\([a-d]\)[^*]*point[^*]*\*\*")
SHEETS = ("problem2", "problem4")  # answered in sheets of their own, not in the notebook
START = """%load_ext autoreload
%autoreload 2
from hw3utils.checking import check, progress, record, submit"""


def parts_of(text: str) -> list[str]:
    """Return the parts that a text's heading names: two under "## 3.1b and 3.1c Finetuning"."""
    heading = _PARTS.search(text)
    return heading[1].split(" and ") if heading else []


def split(notebook: NotebookNode) -> NotebookNode:
    """Return a copy whose cells of prose have one role each, which stands in their tags."""
    made, cells, asked = deepcopy(notebook), [], False
    for cell in made.cells:
        tags = cell.metadata.get("tags", [])
        title = cell is made.cells[0]  # the set-up cell must come second
        if cell.cell_type != "markdown" or set(tags) & set(ROLES) or title:
            cells.append(cell)
        else:
            for number, (role, text) in enumerate(_by_role(cell.source, asked)):
                part = deepcopy(cell)
                part.source, part.metadata["tags"] = text, [*tags, role]
                part.id = cell.id if number == 0 else f"{cell.id}-{role}{number}"[:64]
                cells.append(part)
        if cell.cell_type == "markdown":
            asked = _asked(cell.source, asked)
    made.cells = cells
    return made


def _asked(source: str, before: bool) -> bool:
    """Tell whether what follows a text is in a section with points, or in an extra one."""
    headings = re.findall(r"^##? .*", source, re.MULTILINE)
    return bool(parts_of(headings[-1])) or "(extra" in headings[-1] if headings else before


def _by_role(source: str, asked: bool) -> list[tuple[str, str]]:
    """Return runs of paragraphs that have the same role; ``asked``: in a section with points."""
    runs: list[tuple[str, str]] = []
    for block in re.split(r"\n\s*\n", source.strip()):
        asked = _asked(block, asked)
        head = re.match(r"#+ .*", block) or asked and _ITEM.match(block)
        if block.startswith("**Question"):
            found = [("question", block)]
        elif block.startswith("**What we expect"):
            found = [("expectation", block)]
        else:
            asks, rest = head[0] if head else "", "answer" if asked else "text"
            found = [("question", asks), (rest, block[len(asks) :].strip())]
        for role, text in found:
            if text and runs and runs[-1][0] == role:
                runs[-1] = (role, f"{runs[-1][1]}\n\n{text}")
            elif text:
                runs.append((role, text))
    return runs


def for_students(notebook: NotebookNode, problem: str) -> NotebookNode:
    """Return the students' notebook: no outputs, no answers; checks and room for answers.

    Where a result is expected there is room to say what. Statements that use what students do not
    have are gone, and so is what depends on them, or is used by them alone.
    """
    left = list(dict.fromkeys(row["part"] for row in RUBRIC if row["part"][0] == problem[-1]))
    cells, tainted, here = [_cell("markdown", title(notebook, problem), "title")], set(), []
    for cell in split(notebook).cells[1:]:
        tags = set(cell.metadata.get("tags", []))
        begins = cell.cell_type == "markdown" and cell.source.startswith("## ")
        if begins:
            cells += [made for part in here for made in _ends(part, problem)]
            here = [part for part in parts_of(cell.source) if part in left]
            left = [part for part in left if part not in here]
        if "answer" in tags:
            if cell.cell_type == "code":
                tainted |= _names(ast.parse(cell.source), ast.Store)
            continue
        if "expectation" in tags:
            text = "**What do you expect,** and why? Write it down before you run the next cells."
            cells.append(_cell("markdown", text, "expectation"))
            continue
        kept = deepcopy(cell)
        if cell.cell_type == "code":
            kept.outputs, kept.execution_count = [], None
            if not tags & {"colab", "parameters"}:
                kept.source = _without_hidden(cell.source, tainted)
            kept.metadata["tags"] = sorted(tags - {"nbval-check-output"})
        if kept.source.strip():
            cells.append(kept)
        if "parameters" in tags:
            cells.append(_cell("code", START, "start"))
        if begins and (names := [name for part in here for name in _checked(part, TASKS)]):
            cells.append(_check(names))
    cells += [made for part in [*here, *left] for made in _ends(part, problem)]
    made = nbformat.v4.new_notebook(metadata=deepcopy(notebook.metadata), cells=_useful(cells))
    made.nbformat_minor = notebook.nbformat_minor
    for number, cell in enumerate(made.cells):
        cell.id = f"{problem}-{number:03}"
    return made


def title(notebook: NotebookNode, problem: str) -> str:
    """Return the first cell: heading, introduction, and what earns points."""
    heading = notebook.cells[0].source.partition("\n")[0]
    rows = [
        f"| {row['part']} | {row['what']} | {row['points']} | "
        f"{'check' if row['kind'] == 'automatic' else 'answer'} {row['item']} |"
        for row in RUBRIC
        if row["part"][0] == problem[-1]
    ]
    where = "in this notebook, under the headings “Answer …”"
    if problem in SHEETS:
        where = f"in [answers/{problem}.md](../answers/{problem}.md)"
    table = "\n".join(["| part | what | points | where |", "|---|---|---|---|", *rows])
    below = f"*check*: the computer looks at it, at once. *answer*: you write {where}."
    return "\n\n".join([heading, INTRODUCTIONS[problem], table, below])


def _checked(part: str, names: Container[str]) -> list[str]:
    """Return the automatic items of a part that are among ``names``."""
    return [row["item"] for row in AUTOMATIC if row["part"] == part and row["item"] in names]


def _check(names: list[str]) -> NotebookNode:
    """Return a cell that checks, and that can be run alone after a restart."""
    wanted = ", ".join(f'"{name}"' for name in names)
    return _cell("code", f"from hw3utils.checking import check\n\ncheck({wanted})", "check")


def _ends(part: str, problem: str) -> list[NotebookNode]:
    """Return the cells with which a part ends: records, a check of them, and room for answers."""
    names = _checked(part, TEMPLATES)
    cells = [_cell("code", f'record("{name}", {TEMPLATES[name]})', "record") for name in names]
    if names:
        cells.append(_check(names))
    if problem not in SHEETS:
        cells += [_cell("markdown", room(row), "room") for row in BY_HAND if row["part"] == part]
    return cells


def _useful(cells: list[NotebookNode]) -> list[NotebookNode]:
    """Return cells without those that only prepare what is used no more, and bare headings."""
    while True:
        used = {
            name
            for cell in cells
            if cell.cell_type == "code" and not cell.source.startswith("%")
            for name in _names(ast.parse(cell.source), ast.Load)
        }
        kept = [
            cell
            for cell, after in zip(cells, [*cells[1:], None], strict=True)
            if not _prepares(cell, used) and not _bare(cell, after)
        ]
        if len(kept) == len(cells):
            return kept
        cells = kept


def _prepares(cell: NotebookNode, used: set[str]) -> bool:
    """Tell whether all that a cell does is to set names that nobody uses."""
    if cell.cell_type != "code" or cell.metadata.get("tags"):
        return False
    statements = ast.parse(cell.source).body
    return all(isinstance(s, ast.Assign) and not _names(s, ast.Store) & used for s in statements)


def _bare(cell: NotebookNode, after: NotebookNode | None) -> bool:
    """Tell whether a cell is a heading alone, of no part, with nothing of its own below it."""
    heading = re.fullmatch(r"(#+) .*", cell.source.strip())
    if cell.cell_type != "markdown" or not heading or parts_of(cell.source):
        return False
    nothing = after is None or re.match(r"#+ ", after.source) and after.cell_type == "markdown"
    return bool(nothing)


def room(row: dict[str, str]) -> str:
    """Return the heading and the empty room of an item that is judged by hand."""
    points = f"{row['points']} point{'s' * (row['points'] != '1')}"
    return f"### Answer {row['item']}\n\n*{row['what']} ({points})*\n\n(write {row['item']} here)"


def _cell(kind: str, source: str, role: str) -> NotebookNode:
    make = nbformat.v4.new_code_cell if kind == "code" else nbformat.v4.new_markdown_cell
    return make(source, metadata={"tags": [role]})


def _without_hidden(source: str, tainted: set[str]) -> str:
    """Return a cell's code without statements that use hidden or tainted names; adds to these."""
    tree, lines, out = ast.parse(source), source.splitlines(), []
    done = 0
    for node in tree.body:
        comments = lines[done : node.lineno - 1]
        done = node.end_lineno
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias for alias in node.names if alias.name not in HIDDEN_NAMES]
            gone = len(names) < len(node.names)
            node.names = names
            text = ast.unparse(node) if names and gone else "\n".join(lines[node.lineno - 1 : done])
            out += [*comments, text] if names else []
            continue
        if _hidden(node, tainted):
            tainted |= _names(node, ast.Store)
            continue
        tainted -= _names(node, ast.Store)
        out += [*comments, *lines[node.lineno - 1 : done]]
    return "\n".join(out).strip("\n")


def _hidden(node: ast.AST, tainted: set[str]) -> bool:
    attributes = {leaf.attr for leaf in ast.walk(node) if isinstance(leaf, ast.Attribute)}
    values = [str(leaf.value) for leaf in ast.walk(node) if isinstance(leaf, ast.Constant)]
    return bool(
        _names(node, ast.Load) & (tainted | HIDDEN_NAMES)
        or attributes & HIDDEN_NAMES
        or any(value.startswith("Answer") for value in values)
    )


def _names(node: ast.AST, context: type[ast.expr_context]) -> set[str]:
    """Return the names that code reads (`ast.Load`), or sets (`ast.Store`)."""
    return {leaf.id for leaf in ast.walk(node)
            if isinstance(leaf, ast.Name) and isinstance(leaf.ctx, context)}  # fmt: skip


def tag(place: Path) -> int:
    """Split a notebook's prose in its file, keep code and outputs, and return how many cells."""
    made = split(nbformat.read(place, as_version=4))
    place.write_text(nbformat.writes(made) + "\n", encoding="utf-8")
    return sum(bool(set(cell.metadata.get("tags", [])) & set(ROLES)) for cell in made.cells)
