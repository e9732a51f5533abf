"""What people judge, and what students get back: review pages, manual.csv, feedback.

Everything that students wrote is text or a PNG here: no HTML of theirs reaches a page.
"""

import base64
import html
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import bleach
import mistune
import nbformat
import pandas as pd
import pypandoc

from course import grading, notebooks, tasks
from course.submissions import Submission, pictures, prose
from hw3utils import files, paths

_MARKDOWN = mistune.create_markdown(escape=True, plugins=["table", "math"])
_MARKDOWN.renderer.register("inline_math", lambda _, tex: f"<math>{html.escape(tex)}</math>")
_MARKDOWN.renderer.register(
    "block_math", lambda _, tex: f'<math display="block">{html.escape(tex)}</math>\n'
)
_FORMULA = re.compile(r'<math( display="block")?>(.*?)</math>', re.DOTALL)
_MADE = re.compile(r'<math.*?</math>|<span class="math.*?</span>', re.DOTALL)
_TAGS = {"p", "em", "strong", "code", "pre", "ul", "ol", "li", "table", "thead", "tbody", "tr",
         "th", "td", "h1", "h2", "h3", "h4", "blockquote", "br", "hr", "del", "math"}  # fmt: skip
_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:;
 style-src 'unsafe-inline'"><title>{title}</title><style>
body {{ font: 16px/1.5 sans-serif; max-width: 75em; margin: 2em auto; padding: 0 1em; }}
article {{ border: 1px solid #bbb; border-radius: 6px; padding: .5em 1.2em; margin: 1em 0; }}
article.model {{ background: #eef5ee; }} img {{ max-width: 32em; margin: .3em; }}
table {{ border-collapse: collapse; }} td, th {{ border: 1px solid #ccc; padding: .2em .6em; }}
</style></head><body><h1>{title}</h1>{body}</body></html>
"""


def to_html(text: str) -> str:
    """Return Markdown as HTML without anything that could act: raw HTML stays visible text.

    Formulas come out as TeX in a ``math`` element; `typeset` makes MathML of them.
    """
    attributes = {"math": ["display"]}
    return bleach.clean(_MARKDOWN(text), tags=_TAGS, attributes=attributes, strip=True)


def typeset(page: str) -> str:
    """Return a page with its formulas as MathML; all stay TeX where pandoc gives up on them."""
    found = [(bool(match[1]), html.unescape(match[2])) for match in _FORMULA.finditer(page)]
    made = iter(_mathml(found) if found else ())
    return _FORMULA.sub(lambda match: next(made, match[0]), page)


def _mathml(formulas: list[tuple[bool, str]]) -> list[str]:
    """Return formulas (displayed or not, TeX) as HTML; nothing where pandoc fails.

    They go in as data, not as a text: none can end before its end.
    """
    try:
        document = json.loads(_pandoc("", "--to", "json"))
        document["blocks"] = [
            {"t": "Plain", "c": [{"t": "Math", "c": [{"t": kind}, tex]}]}
            for display, tex in formulas
            for kind in ["DisplayMath" if display else "InlineMath"]
        ]
        made = _pandoc(json.dumps(document), "--from", "json", "--to", "html5", "--mathml")
    except subprocess.SubprocessError:
        return []
    found = _MADE.findall(made)
    return found if len(found) == len(formulas) else []


def _pandoc(text: str, *words: str) -> str:
    command = [pypandoc.get_pandoc_path(), "--sandbox", *words]
    done = subprocess.run(command, input=text.encode(), capture_output=True, timeout=60, check=True)
    return done.stdout.decode()


def model_answers() -> dict[str, list[str | bytes]]:
    """Return the model's own texts and figures (PNG) for each part, or item of a part, in order.

    For Problems 2 and 4 they are the write-ups' sections; "2.5a" is what stands below "### (a)".
    For the others they are the notebooks' answer cells.
    """
    found: dict[str, list[str | bytes]] = {}
    for path in sorted(paths.notebooks_dir().glob("*.ipynb")):
        if path.stem in notebooks.SHEETS:
            continue
        parts: list[str] = []
        for cell in notebooks.split(nbformat.read(path, as_version=4)).cells:
            if cell.cell_type == "markdown" and re.match("##? ", cell.source):
                parts = notebooks.parts_of(cell.source)
            for part in parts:
                found.setdefault(part, []).extend(_shown(cell))
    for path in sorted((paths.project_root() / "answers").glob("problem*.md")):
        text = re.sub(r"<!--.*?-->", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        for section in re.split(r"^(?=## )", text, flags=re.MULTILINE):
            for part in notebooks.parts_of(section):
                found[part] = _pictured(section, path.parent)
                for item in re.split(r"^(?=### \()", section, flags=re.MULTILINE)[1:]:
                    found[part + item[len("### (")]] = _pictured(item, path.parent)
    return found


def _shown(cell: nbformat.NotebookNode) -> list[str | bytes]:
    """Return what of a cell is answer: its text, its printed lines, its figures."""
    outputs = cell.get("outputs", [])
    if "answer" in cell.metadata.get("tags", []) and not outputs:
        return [cell.source]
    shown: list[str | bytes] = [o.get("data", {}).get("text/markdown", "") for o in outputs]
    printed = [line for o in outputs for line in o.get("text", "").splitlines()]
    if any(line.startswith("Answer") for line in printed):
        shown.append("\n\n".join(printed))
    return [text for text in shown if text] + pictures(cell)


def _pictured(text: str, folder: Path) -> list[str | bytes]:
    """Return a write-up's text, and in their places the figures that it shows."""
    texts = re.split(r"!\[[^\]]*\]\(([^)]*\.png)\)", text)  # text, place, text, place, text …
    return [(folder / x).read_bytes() if n % 2 else x for n, x in enumerate(texts)]


def write_reviews(submissions: list[Submission], output: Path) -> list[Path]:
    """Write a page for each item judged by hand: everybody's text and figures, anonymous."""
    seed = int((output / "seed").read_text("utf-8"))
    model, written = model_answers(), []
    everybody = {grading.code_name(one.student, seed): prose(one) for one in submissions}
    for row in tasks.BY_HAND:
        item, part = row["item"], row["part"]
        own = item if item in model else part
        answer = "".join(_image(x) if isinstance(x, bytes) else to_html(x) for x in model[own])
        body = [f"<p>{html.escape(row['what'])}: {row['points']} points. Marks go into manual.csv. "
                f"<a href='#answers'>To the answers</a></p>"
                f"<article class=model><h2>Model answer, {own}</h2>{answer}</article>"
                f"<div id=answers></div>"]  # fmt: skip
        for code, found in sorted(everybody.items()):
            shown = to_html(found.texts.get(item, "(nothing written)"))
            drawn = "".join(map(_image, found.figures.get(part, [])))
            body.append(f"<article><h2>{code}</h2>{shown}{drawn}</article>")
        page = _PAGE.format(title=f"Item {item}", body=typeset("".join(body)))
        written.append(files.write_atomically(output / "review" / f"{item}.html", page.encode()))
    return written


def _image(picture: bytes) -> str:
    return f'<img alt="figure" src="data:image/png;base64,{base64.b64encode(picture).decode()}">'


def marks(output: Path) -> dict[tuple[str, str], tuple[float, str]]:
    """Return points and comment by code and item. Raises a ValueError for blank or wrong marks."""
    found, blank, wrong = {}, [], []
    for row in grading.read_csv(output / "manual.csv"):
        where, text = f"{row['code']} {row['item']}", row["points"].strip()
        if row["item"] not in tasks.POINTS:
            raise ValueError(f"manual.csv has an item that there is not: {where}")
        if not text:
            blank.append(where)
            continue
        try:
            points = float(text.replace(",", "."))
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
    students = [row["student"] for row in grading.read_csv(output / "automatic.csv")]
    if not students:
        raise ValueError(f"{output} holds no graded submission: run grade first")
    by_hand, seed = marks(output), int((output / "seed").read_text("utf-8"))
    wanted = {(grading.code_name(student, seed), row["item"])
              for student in students for row in tasks.RUBRIC if row["kind"] == "hand"}  # fmt: skip
    if missing := sorted(wanted - set(by_hand)):
        raise ValueError(
            f"manual.csv lacks {len(missing)} rows: {', '.join(map(' '.join, missing[:8]))}"
        )
    parts, rows = list(dict.fromkeys(row["part"] for row in tasks.RUBRIC)), []
    for student in students:
        found = json.loads((output / "work" / f"{student}.json").read_text(encoding="utf-8"))
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
    files.save_csv(pd.DataFrame(rows), output / "grades.csv")
    return rows
