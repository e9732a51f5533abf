"""A model notebook in cells of one role each, and the notebook that students get.

Roles: question, expectation, text, answer. A cell's tag decides; without one a rule reads its
paragraphs, and in a section with points what is neither question nor expectation is answer.
"""

import ast
import re
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from course.tasks import HIDDEN_NAMES, RUBRIC
from hw3utils.checking.records import TEMPLATES

ROLES = ("question", "expectation", "text", "answer")
PART = re.compile(r"^#+ (\d\.\d[a-d]?)\b", re.MULTILINE)
SHEETS = ("problem2", "problem4")  # answered in sheets of their own, not in the notebook
START = """%load_ext autoreload
%autoreload 2
from hw3utils.checking import check, progress, record"""


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
        for heading in re.findall(r"^##? .*", cell.source, re.MULTILINE):
            if cell.cell_type == "markdown":
                asked = bool(PART.match(heading)) or "(extra" in heading
    made.cells = cells
    return made


def _by_role(source: str, asked: bool) -> Iterator[tuple[str, str]]:
    """Yield runs of paragraphs that have the same role; ``asked``: in a section with points."""
    runs: list[list[str]] = []
    for block in re.split(r"\n\s*\n", source.strip()):
        heading = re.match(r"#+ .*", block)
        if heading and re.match(r"##? ", block):
            asked = bool(PART.match(block)) or "(extra" in block
        label = re.match(r"\*\*\([a-d]\)[^*]*point[^*]*\*\*", block)
        if heading:
            below = block[heading.end() :].strip()
            found = [("question", heading[0])] + [("answer" if asked else "text", below)] * bool(
                below
            )
        elif block.startswith("**Question"):
            found = [("question", block)]
        elif label and asked:
            found = [("question", label[0]), ("answer", block[label.end() :].strip())]
        elif block.startswith("**What we expect"):
            found = [("expectation", block)]
        else:
            found = [("answer" if asked else "text", block)]
        for role, text in found:
            if runs and runs[-1][0] == role:
                runs[-1][1] += f"\n\n{text}"
            else:
                runs.append([role, text])
    yield from map(tuple, runs)


def for_students(notebook: NotebookNode, problem: str) -> NotebookNode:
    """Return the students' notebook: no outputs, no answers; checks and room for answers.

    Where a result is expected there is room to say what. Statements that use what students do not
    have are gone, and so is what depends on them.
    """
    source = split(notebook)
    parts = list(dict.fromkeys(row["part"] for row in RUBRIC if row["part"][0] == problem[-1]))
    cells, tainted, part = [], set(), None
    for cell in source.cells:
        tags = set(cell.metadata.get("tags", []))
        if cell.cell_type == "markdown" and re.match(r"## ", cell.source):
            cells += _work(part, problem, parts)
            heading = PART.match(cell.source)
            part = heading[1] if heading else None
        if "answer" in tags:
            if cell.cell_type == "code":
                tainted |= _assigned(ast.parse(cell.source))
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
    cells += _work(part, problem, parts)
    for left in list(parts):
        cells += _work(left, problem, parts)
    made = nbformat.v4.new_notebook(metadata=deepcopy(notebook.metadata), cells=cells)
    made.nbformat_minor = notebook.nbformat_minor
    for number, cell in enumerate(made.cells):
        cell.id = f"{problem}-{number:03}"
    return made


def _work(part: str | None, problem: str, parts: list[str]) -> list[NotebookNode]:
    """Return the cells of a part that is left: records, checks, and room for answers, once."""
    if part not in parts:
        return []
    parts.remove(part)
    rows = [row for row in RUBRIC if row["part"] == part]
    cells = []
    for row in rows:
        if row["item"] in TEMPLATES:
            text = f'record("{row["item"]}", {TEMPLATES[row["item"]]})'
            if "  #" in text.splitlines()[-1]:
                text = f"# {text.partition('  # ')[2][:-1]}\n{text.partition('  #')[0]})"
            cells.append(_cell("code", text, "record"))
    if any(row["kind"] == "automatic" for row in rows):
        names = ", ".join(f'"{row["item"]}"' for row in rows if row["kind"] == "automatic")
        text = f"from hw3utils.checking import check\n\ncheck({names})"
        cells.append(_cell("code", text, "check"))
    if problem not in SHEETS:
        cells += [_cell("markdown", room(row), "room") for row in rows
                  if row["kind"] == "hand"]  # fmt: skip
    return cells


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
            tainted |= _assigned(node)
            continue
        tainted -= _assigned(node)
        out += [*comments, *lines[node.lineno - 1 : done]]
    return "\n".join(out).strip("\n")


def _hidden(node: ast.AST, tainted: set[str]) -> bool:
    for leaf in ast.walk(node):
        if isinstance(leaf, ast.Name) and isinstance(leaf.ctx, ast.Load):
            if leaf.id in tainted | HIDDEN_NAMES:
                return True
        elif isinstance(leaf, ast.Attribute) and leaf.attr in HIDDEN_NAMES:
            return True
        elif isinstance(leaf, ast.Constant) and str(leaf.value).startswith("Answer"):
            return True
    return False


def _assigned(node: ast.AST) -> set[str]:
    return {leaf.id for leaf in ast.walk(node)
            if isinstance(leaf, ast.Name) and isinstance(leaf.ctx, ast.Store)}  # fmt: skip


def tag(place: Path) -> int:
    """Split a notebook's prose in its file, keep code and outputs, and return how many cells."""
    made = split(nbformat.read(place, as_version=4))
    place.write_text(nbformat.writes(made) + "\n", encoding="utf-8")
    return sum(bool(set(cell.metadata.get("tags", [])) & set(ROLES)) for cell in made.cells)
