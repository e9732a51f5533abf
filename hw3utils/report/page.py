"""The report: all four problems in one HTML file that opens offline, and as PDF.

pandoc reads the executed notebooks and the write-ups; their documents are joined, their headings
get anchors of their own, and pandoc writes one page with its images inside and formulas as MathML.
A Chromium, where there is one, prints it.
"""

import base64
import html
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
from nbformat import NotebookNode

from hw3utils import files, paths
from hw3utils.report import notebooks, summary
from hw3utils.text import markdown

BROWSERS = (
    "chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge",
    "microsoft-edge", "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
    r"C:\Program Files (x86)\Microsoft\Edge\Application\msedge.exe",
)  # fmt: skip
_PRINTING_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-pdf-header-footer",
)  # fmt: skip
_WRITE_UPS = ("problem2", "problem4")
_RESULTS = Path("answers") / "results"
_TITLE = "DS-UA 301, Homework 3"
_STYLE = Path(__file__).with_name("report.css")
_RICHEST_FIRST = ("image/png", "text/html", "text/markdown", "text/latex", "text/plain")
_MARKDOWN = "gfm+tex_math_dollars+raw_html-autolink_bare_uris"
_NOTEBOOK = "ipynb+gfm_auto_identifiers"
_WHOLE_PAGE = (
    "--standalone", "--embed-resources", "--mathml", "--toc", "--toc-depth=2",
    "--variable=toc-title:Contents", "--variable=lang:en", f"--metadata=pagetitle:{_TITLE}",
    f"--css={_STYLE}",
)  # fmt: skip
Block = dict[str, Any]


class Part(NamedTuple):
    """A problem of the report."""

    notebook: NotebookNode  # executed
    results: dict[str, Any]
    run: str  # which run these two are of, in words


def write_html(output: Path, *, code: bool = True) -> Path:
    """Write ``report.html`` into a run's folder, with the notebooks' code or without; return it.

    Problems that the run does not hold, or has not finished, are those of the committed run; the
    first page says which run each comes from. The write-ups are the committed ones. Raises a
    ValueError where ``output`` does not exist, or a committed notebook or its results are missing.
    """
    if not output.is_dir():
        raise ValueError(f"{output} does not exist: run the notebooks first, or name their folder")
    parts = {problem: _part(problem, output) for problem in notebooks.PROBLEMS}
    with tempfile.TemporaryDirectory() as temporary:
        folder, blocks, anchors = Path(temporary), [], {}
        for problem, part in parts.items():
            own = _problem_blocks(problem, part.notebook, folder)
            own = own if code else _without_code(own)
            anchors[problem] = _give_anchors(own, problem)
            blocks += own
        front = folder / "front.html"
        text = _pandoc(_MARKDOWN, "html5", _front_page(parts, anchors, folder), folder)
        front.write_text(text, encoding="utf-8")
        document = json.loads(_pandoc("gfm", "json", "", folder)) | {"blocks": blocks}
        options = (*_WHOLE_PAGE, f"--include-before-body={front}")
        page = _pandoc("json", "html5", json.dumps(document), folder, *options)
    return files.write_atomically(output / "report.html", page.encode())


def find_browser() -> str | None:
    """Return a browser that can print a page as PDF, or None where none is installed."""
    return next((found for name in BROWSERS if (found := shutil.which(name))), None)


def print_pdf(page: Path, browser: str, seconds: float = 300) -> Path:
    """Print an HTML file as PDF beside it, with a headless Chromium, and return the PDF's path.

    Raises an OSError where the browser fails, makes no file, or takes longer than ``seconds``.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        printed = Path(folder) / "report.pdf"
        command = [browser, *_PRINTING_FLAGS, f"--user-data-dir={folder}/profile",
                   f"--print-to-pdf={printed}", page.resolve().as_uri()]  # fmt: skip
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
        except subprocess.TimeoutExpired as error:
            raise OSError(f"{browser} did not print {page.name} in {seconds:.0f} s") from error
        if done.returncode or not printed.is_file():
            raise OSError(f"{browser} could not print {page.name}: {done.stderr.strip()[-500:]}")
        return files.write_atomically(page.with_suffix(".pdf"), printed.read_bytes())


def _part(problem: str, output: Path) -> Part:
    """Return a problem of this run where it is finished, otherwise that of the committed run.

    Another process may be at work on it: it is finished when all cells of its notebook were
    executed and its results are there.
    """
    root = paths.project_root()
    for run, place, home in (
        ("this run", output, output),
        ("the committed run", paths.notebooks_dir(), root),
    ):
        notebook, results = place / f"{problem}.ipynb", home / _RESULTS / f"{problem}.json"
        if notebook.is_file() and results.is_file():
            executed = nbformat.read(notebook, as_version=4)
            if notebooks.is_finished(executed):
                return Part(executed, json.loads(results.read_text(encoding="utf-8")), run)
    raise ValueError(f"missing for the report, or not finished: {notebook} and {results}")


def _problem_blocks(problem: str, notebook: NotebookNode, folder: Path) -> list[Block]:
    """Return a problem's part of the report: its notebook, or its write-up and then that."""
    if problem not in _WRITE_UPS:
        return _notebook_blocks(notebook, folder / problem)
    place = paths.project_root() / "answers" / f"{problem}.md"
    write_up = _read(place.read_text(encoding="utf-8"), _MARKDOWN, place.parent)
    companion = _notebook_blocks(notebook, folder / problem, "--shift-heading-level-by=1")
    title = next(_contents(companion, "Header"))
    title[2] = [{"t": "Str", "c": f"The notebook of Problem {problem[-1]}"}]
    return write_up + companion


def _notebook_blocks(notebook: NotebookNode, folder: Path, *options: str) -> list[Block]:
    """Return a notebook's blocks: each output in its richest form, texts outside of any cell.

    Its figures go into ``folder``.
    """
    folder.mkdir()
    cleaned = notebooks.for_readers(notebook)
    for cell in cleaned.cells:
        for output in cell.get("outputs", []):
            if data := output.get("data"):
                kind = next(kind for kind in (*_RICHEST_FIRST, *data) if kind in data)
                output["data"] = {kind: data[kind]}
    options = ("--extract-media=.", "--ipynb-output=all", *options)
    blocks = _read(nbformat.writes(cleaned), _NOTEBOOK, folder, *options)
    for content in _contents(blocks, "Div"):
        content[1] = [read for block in content[1] for read in _markdown_read(block, folder)]
    return [inner for block in blocks for inner in _unwrapped(block)]


def _markdown_read(block: Block, folder: Path) -> list[Block]:
    """Return a block as it is, unless it is an output in Markdown: pandoc leaves those unread."""
    if block["t"] == "RawBlock" and block["c"][0] == "markdown":
        return _read(block["c"][1], _MARKDOWN, folder)
    return [block]


def _unwrapped(block: Block) -> list[Block]:
    """Return what a Markdown cell holds; a heading inside a cell would not open a section."""
    is_text = block["t"] == "Div" and "markdown" in block["c"][0][1]
    return block["c"][1] if is_text else [block]


def _without_code(blocks: list[Block]) -> list[Block]:
    """Return the blocks without the code of notebook cells; what the cells show stays."""
    kept = []
    for block in blocks:
        if block["t"] == "Div" and {"cell", "code"} <= set(block["c"][0][1]):
            shown = [inner for inner in block["c"][1] if inner["t"] != "CodeBlock"]
            block = {"t": "Div", "c": [block["c"][0], shown]}
        if block["t"] != "Div" or block["c"][1]:
            kept.append(block)
    return kept


def _read(text: str, kind: str, folder: Path, *options: str) -> list[Block]:
    """Return the blocks that pandoc reads from a text, its links leading into the report."""
    blocks = json.loads(_pandoc(kind, "json", text, folder, *options))["blocks"]
    for content in _contents(blocks, "Image"):
        content[2][0] = str((folder / content[2][0]).resolve())
    for content in _contents(blocks, "Link"):
        content[2][0] = re.sub(r"^.*(problem\d)\.(ipynb|md)$", r"#\1", content[2][0])
    return blocks


def _pandoc(source: str, target: str, text: str, folder: Path, *options: str) -> str:
    """Return a text converted by pandoc, its relative paths counted from ``folder``."""
    import pypandoc

    command = [pypandoc.get_pandoc_path(), "--from", source, "--to", target, *options]
    done = subprocess.run(command, input=text.encode(), cwd=folder, capture_output=True)
    if done.returncode:
        raise OSError(f"pandoc failed on the report: {done.stderr.decode().strip()[-500:]}")
    return done.stdout.decode()


def _contents(part: Any, kind: str) -> Iterator[list[Any]]:
    """Yield the contents of all elements of a kind in a part of pandoc's document."""
    if isinstance(part, dict):
        if part.get("t") == kind:
            yield part["c"]
        part = list(part.values())
    if isinstance(part, list):
        for item in part:
            yield from _contents(item, kind)


def _give_anchors(blocks: list[Block], problem: str) -> dict[str, str]:
    """Make each heading's anchor unique in the report; return the new ones by pandoc's own.

    Links inside the problem's own text lead to the new ones.
    """
    anchors = {}
    for number, content in enumerate(_contents(blocks, "Header")):
        own = content[1][0]
        content[1][0] = f"{problem}-{number}-{own}" if number else problem
        anchors.setdefault(own, content[1][0])
    for content in _contents(blocks, "Link"):
        target = content[2][0].removeprefix("#")
        content[2][0] = f"#{anchors[target]}" if target in anchors else content[2][0]
    return anchors


def _front_page(parts: dict[str, Part], anchors: dict[str, dict[str, str]], folder: Path) -> str:
    """Return the first page as Markdown: pictures and answers in brief, then what is behind them.

    Its pictures go into ``folder``.
    """
    found = {problem: part.results for problem, part in parts.items()}
    answers = summary.summary(found)
    links = {
        question: f"#{_anchor(start, anchors[problem])}"
        for question, (problem, start) in zip(answers["question"], answers["where"], strict=True)
    }
    shown = [
        _figure(
            _picture(parts[name[:8]].notebook, name, folder), links[question], question, finding
        )
        for question, name, finding in summary.pictures(found)
    ]
    answers["question"] = [f"[{question}]({link})" for question, link in links.items()]
    full = answers[["question", "points", "answer"]]
    brief = full.assign(answer=full["answer"].map(summary.in_brief))
    longer = full[full["answer"] != brief["answer"]].drop(columns="points")
    runs = summary.runs(found)
    runs["from"] = [part.run for part in parts.values()]
    return (
        f"# {_TITLE}\n\nThe answers at a glance, for {int(answers['points'].sum())} points, each "
        f"computed from {_whose(parts)}. {summary.profiles(found)}\n\n"
        f'<div class="pictures">\n{"".join(shown)}</div>\n\n'
        f'<div class="answers">\n\n{markdown(brief)}\n\n</div>\n\n'
        f"## The longer answers in full\n\n{markdown(longer)}\n\n"
        f"## The runs\n\n{markdown(runs)}\n\n{summary.WRITE_UPS}\n"
    )


def _whose(parts: dict[str, Part]) -> str:
    """Return in half a sentence which runs the first page is of."""
    if len(whose := {part.run for part in parts.values()}) == 1:
        return whose.pop()
    each = (f"Problem {problem[-1]} of {part.run}" for problem, part in parts.items())
    return f"the results of a run: {', '.join(each)}"


def _picture(notebook: NotebookNode, name: str, folder: Path) -> str | None:
    """Write the picture that a notebook saves under a name into ``folder``; return its file's name.

    None where the notebook shows no such picture.
    """
    for cell in notebook.cells:
        for output in cell.get("outputs", []) if f'"{name}"' in cell.source else []:
            if picture := output.get("data", {}).get("image/png"):
                (folder / f"{name}.png").write_bytes(base64.b64decode(picture))
                return f"{name}.png"
    return None


def _figure(picture: str | None, link: str, question: str, finding: str) -> str:
    """Return a picture with its finding under it, as HTML; both lead to where it is shown."""
    finding = html.escape(finding)
    shown = f'<img src="{picture}" alt="{finding}">' if picture else ""
    return (
        f'<figure><a href="{link}">{shown}</a><figcaption><a href="{link}">{question}</a> '
        f"{finding}</figcaption></figure>\n"
    )


def _anchor(start: str, anchors: dict[str, str]) -> str:
    """Return the anchor of a problem's first heading that begins with the given words.

    pandoc's own anchors are GitHub's: small letters, no punctuation, hyphens between words. Raises
    a ValueError where there is no such heading.
    """
    wanted = re.sub(r"[^\w -]", "", start.lower()).replace(" ", "-")
    for own, anchor in anchors.items():
        if f"{own}-".startswith(f"{wanted}-"):
            return anchor
    raise ValueError(f"the report has no heading that begins with {start!r}")
