"""What people judge, and what students get back: review pages, manual.csv, feedback.

A student's prose is found by the headings "Answer 1.3a", in whatever notebook or sheet they stand.
Everything that students wrote is text or a PNG here: no HTML of theirs reaches a page.
"""

import base64
import html
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import bleach
import mistune
import nbformat

from course import grading, notebooks, tasks
from course.grading import Submission
from hw3utils import files, paths

_HEADING = re.compile(r"^#+ *Answer +(\d\.\d[a-d]?)\b.*$", re.MULTILINE)
_MARKDOWN = mistune.create_markdown(escape=True, plugins=["table"])
_TAGS = {"p", "em", "strong", "code", "pre", "ul", "ol", "li", "table", "thead", "tbody", "tr",
         "th", "td", "h1", "h2", "h3", "h4", "blockquote", "br", "hr", "del"}  # fmt: skip
_PNG = b"\x89PNG\r\n\x1a\n"
_LARGEST_PICTURE, _MOST_PICTURES, _LONGEST = 3_000_000, 12, 40_000
_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:;
 style-src 'unsafe-inline'"><title>{title}</title><style>
body {{ font: 16px/1.5 sans-serif; max-width: 75em; margin: 2em auto; padding: 0 1em; }}
article {{ border: 1px solid #bbb; border-radius: 6px; padding: .5em 1.2em; margin: 1em 0; }}
article.model {{ background: #eef5ee; }} img {{ max-width: 32em; margin: .3em; }}
table {{ border-collapse: collapse; }} td, th {{ border: 1px solid #ccc; padding: .2em .6em; }}
</style></head><body><h1>{title}</h1>{body}</body></html>
"""


def prose(submission: Submission, notes: list[str]) -> dict[str, tuple[str, list[bytes]]]:
    """Return for each item the text under its heading, and the figures of its part.

    Cells may be doubled, moved or without metadata; what cannot be read is noted. Text that stands
    twice counts once.
    """
    texts: dict[str, list[str]] = {}
    figures: dict[str, list[bytes]] = {}
    for name, content in sorted(submission.contents.items()):
        if name.endswith(".md"):
            _collect(content.decode("utf-8", errors="replace"), texts)
        elif name.endswith(".ipynb"):
            try:
                cells = json.loads(content)["cells"]
                part = None
                for cell in cells:
                    source = "".join(cell.get("source", ""))
                    if cell.get("cell_type") == "markdown":
                        _collect(source, texts)
                        found = notebooks.PART.search(source)
                        part = found[1] if found else part
                    elif part:
                        figures.setdefault(part, []).extend(_pictures(cell))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                notes.append(f"{name} is no notebook that can be read: {str(error)[:100]}")
    found = {}
    for row in tasks.RUBRIC:
        item = row["item"]
        seen = list(dict.fromkeys(figures.get(row["part"], [])))[:_MOST_PICTURES]
        found[item] = ("\n\n".join(dict.fromkeys(texts.get(item, []))), seen)
    return found


def _collect(text: str, texts: dict[str, list[str]]) -> None:
    """Add what stands under each heading, but for the room's own lines."""
    marks = list(_HEADING.finditer(text))
    ends = [mark.start() for mark in marks[1:]] + [len(text)] * bool(marks)
    for mark, end in zip(marks, ends, strict=True):
        written = text[mark.end() : end]
        own = [line for line in written.splitlines()
               if not re.match(r"\(write .* here\)$|\*.*points?\)\*$", line)]  # fmt: skip
        if "".join(own).strip():
            texts.setdefault(mark[1], []).append("\n".join(own).strip()[:_LONGEST])


def _pictures(cell: Mapping[str, Any]) -> list[bytes]:
    found = []
    for output in cell.get("outputs", []):
        coded = "".join(output.get("data", {}).get("image/png", ""))
        try:
            picture = base64.b64decode(coded)
        except ValueError:
            continue
        if picture.startswith(_PNG) and len(picture) <= _LARGEST_PICTURE:
            found.append(picture)
    return found


def to_html(text: str) -> str:
    """Return Markdown as HTML without anything that could act: raw HTML stays visible text."""
    return bleach.clean(_MARKDOWN(text), tags=_TAGS, attributes={}, strip=True)


def model_answers() -> dict[str, str]:
    """Return the model's own text for each part: its answer cells, and its write-ups' sections."""
    texts: dict[str, list[str]] = {}
    for path in sorted(paths.notebooks_dir().glob("*.ipynb")):
        part = None
        for cell in notebooks.split(nbformat.read(path, as_version=4)).cells:
            if cell.cell_type == "markdown" and (found := notebooks.PART.search(cell.source)):
                part = found[1]
            outputs = cell.get("outputs", []) if part else []
            shown = [o.get("data", {}).get("text/markdown", "") for o in outputs]
            if part and "answer" in cell.metadata.get("tags", []) and not outputs:
                shown.append(cell.source)
            texts.setdefault(part, []).extend("".join(text) for text in shown if text)
    for path in sorted((paths.project_root() / "answers").glob("problem*.md")):
        text = re.sub(r"<!--.*?-->", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        for section in re.split(r"^(?=## )", text, flags=re.MULTILINE):
            if found := notebooks.PART.match(section):
                texts.setdefault(found[1], []).insert(0, section)
    return {part: "\n\n".join(found) for part, found in texts.items() if part}


def write_reviews(submissions: list[Submission], output: Path) -> list[Path]:
    """Write a page for each item judged by hand: everybody's text and figures, anonymous."""
    seed = int((output / "seed").read_text("utf-8"))
    model, written = model_answers(), []
    everybody = sorted(
        (grading.code_name(one.student, seed), prose(one, [])) for one in submissions
    )
    for row in (row for row in tasks.RUBRIC if row["kind"] == "hand"):
        item, part = row["item"], row["part"]
        body = [f"<p>{html.escape(row['what'])}: {row['points']} points. Marks go into manual.csv."
                f"</p><article class=model><h2>Model answer, {part}</h2>"
                f"{to_html(model.get(part, 'none'))}</article>"]  # fmt: skip
        for code, found in everybody:
            text, pictures = found[item]
            shown = to_html(text) if text else "<p>(nothing written)</p>"
            body.append(
                f"<article><h2>{code}</h2>{shown}{''.join(map(_image, pictures))}</article>"
            )
        page = _PAGE.format(title=f"Item {item}", body="".join(body))
        written.append(files.write_atomically(output / "review" / f"{item}.html", page.encode()))
    return written


def _image(picture: bytes) -> str:
    return f'<img alt="figure" src="data:image/png;base64,{base64.b64encode(picture).decode()}">'


def marks(output: Path) -> dict[tuple[str, str], tuple[float, str]]:
    """Return points and comment by code and item. Raises a ValueError for blank or wrong marks."""
    found, blank, wrong = {}, [], []
    for row in grading.read_csv(output / "manual.csv"):
        where, text = f"{row['code']} {row['item']}", row["points"].strip()
        if not text:
            blank.append(where)
            continue
        try:
            points = float(text)
        except ValueError:
            points = -1.0
        if not 0 <= points <= tasks.POINTS[row["item"]]:
            wrong.append(f"{where}: {text!r}")
        found[row["code"], row["item"]] = (points, row["comment"])
    if wrong:
        raise ValueError(f"marks that are no number within the item's points: {'; '.join(wrong)}")
    if blank or not found:
        raise ValueError(f"{len(blank)} marks in manual.csv are blank, a blank is no 0: "
                         f"{', '.join(blank[:8])}{' …' if len(blank) > 8 else ''}")  # fmt: skip
    return found


def feedback(output: Path) -> list[dict[str, Any]]:
    """Write each student's page, ``grades.csv`` and Gradescope's results; return the grades.

    Raises a ValueError while a mark is blank or wrong, or before anything was graded.
    """
    works = sorted((output / "work").glob("*.json"))
    if not works:
        raise ValueError(f"{output} holds no graded submission: run grade first")
    by_hand, seed = marks(output), int((output / "seed").read_text("utf-8"))
    parts, rows = list(dict.fromkeys(row["part"] for row in tasks.RUBRIC)), []
    for path in works:
        student, found = path.stem, json.loads(path.read_text(encoding="utf-8"))
        lines, total = [], dict.fromkeys(parts, 0.0)
        for row in tasks.RUBRIC:
            if row["kind"] == "hand":
                points, words = by_hand[grading.code_name(student, seed), row["item"]]
            else:
                result = found["results"][row["item"]]
                points, words = result["points"], "; ".join(result["messages"]) or "pass"
            lines.append((row, points, words))
            total[row["part"]] += points
        grades = {part: round(points, 2) for part, points in total.items()}
        rows.append({"student": student, **grades, "total": round(sum(total.values()), 2)})
        table = "".join(
            f"<tr><td>{html.escape(row['item'])}</td><td>{html.escape(row['what'])}</td>"
            f"<td>{points:g} of {row['points']}</td><td>{html.escape(words)}</td></tr>"
            for row, points, words in lines
        )
        body = (f"<p>{rows[-1]['total']:g} of 100 points</p><table>{table}</table>"
                f"<p>{html.escape('; '.join(found['notes']))}</p>")  # fmt: skip
        page = _PAGE.format(title=f"Homework 3: {html.escape(student)}", body=body)
        files.write_atomically(output / "feedback" / f"{student}.html", page.encode())
        tests = [{"name": row["item"], "score": points, "max_score": int(row["points"]),
                  "output": words} for row, points, words in lines]  # fmt: skip
        content = {"score": rows[-1]["total"], "tests": tests, "visibility": "visible"}
        files.save_json(content, output / "gradescope" / student / "results.json")
    grading.write_csv(output / "grades.csv", rows)
    return rows
