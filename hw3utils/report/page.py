"""The report: all four problems in one HTML file that opens offline, and as PDF.

pandoc reads the executed notebooks and the write-ups; their documents are joined, their headings
get anchors of their own, and pandoc writes one page with its images inside and formulas as MathML.
A Chromium, where there is one, prints it.
"""

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import nbformat

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
Block = dict[str, Any]


class Heading(NamedTuple):
    """A heading of the report: which problem it belongs to, its level, its text, its anchor."""

    problem: str
    level: int
    text: str
    anchor: str


def write_html(output: Path) -> Path:
    """Write ``report.html`` into a run's folder and return its path.

    Problems that the run does not hold, or has not finished, are those of the committed run; the
    first page says which run each comes from. The write-ups are the committed ones.

    Raises
    ------
    ValueError
        ``output`` does not exist, or a committed notebook or its results are missing.
    """
    if not output.is_dir():
        raise ValueError(f"{output} does not exist: run the notebooks first, or name their folder")
    found = {problem: _results(problem, output) for problem in notebooks.PROBLEMS}
    executed = {problem: _notebook(problem, output) for problem in notebooks.PROBLEMS}
    with tempfile.TemporaryDirectory() as folder:
        blocks, headings = [], []
        for problem in notebooks.PROBLEMS:
            part = _problem(problem, executed[problem], Path(folder))
            headings += _give_anchors(part, problem)
            blocks += part
        front = _read(_front_page(found, headings, output), _MARKDOWN, Path(folder))
        _give_anchors(front, "summary")
        page = _pandoc(
            "json", "html5", json.dumps(_document(front + blocks)), Path(folder), "--standalone",
            "--mathml", "--embed-resources", f"--css={_STYLE}", "--metadata",
            f"pagetitle={_TITLE}", "--variable", "lang=en",
        )  # fmt: skip
    return files.write_atomically(output / "report.html", page.encode())


def find_browser() -> str | None:
    """Return a browser that can print a page as PDF, or None where none is installed."""
    return next((found for name in BROWSERS if (found := shutil.which(name))), None)


def print_pdf(page: Path, browser: str, seconds: float = 300) -> Path:
    """Print an HTML file as PDF beside it, with a headless Chromium, and return the PDF's path.

    Raises
    ------
    OSError
        The browser ended with an error, made no file, or took longer than ``seconds``.
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


def _problem(problem: str, notebook: Path, folder: Path) -> list[Block]:
    """Return a problem's part of the report: its notebook, or its write-up and then that."""
    blocks = _notebook_blocks(notebook, folder / problem)
    if problem not in _WRITE_UPS:
        return blocks
    place = paths.project_root() / "answers" / f"{problem}.md"
    write_up = _read(place.read_text(encoding="utf-8"), _MARKDOWN, place.parent)
    companion = [block for block in blocks if not _is_title(block)]
    _shift_headings(companion, 1)
    number = problem[-1]
    return [
        *write_up,
        *_read(f"## The notebook of Problem {number}", _MARKDOWN, folder),
        *companion,
    ]


def _notebook_blocks(notebook: Path, folder: Path) -> list[Block]:
    """Return a notebook's blocks: each output in its richest form, texts outside of any cell."""
    cleaned = notebooks.for_readers(nbformat.read(notebook, as_version=4))
    for cell in cleaned.cells:
        for output in cell.get("outputs", []):
            if data := output.get("data"):
                kind = next(kind for kind in (*_RICHEST_FIRST, *data) if kind in data)
                output["data"] = {kind: data[kind]}
    blocks = _read(nbformat.writes(cleaned), "ipynb", folder)
    return [inner for block in blocks for inner in _unwrapped(block)]


def _unwrapped(block: Block) -> list[Block]:
    """Return what a Markdown cell holds; a heading inside a cell would not open a section."""
    is_text = block["t"] == "Div" and "markdown" in block["c"][0][1]
    return block["c"][1] if is_text else [block]


def _read(text: str, kind: str, folder: Path) -> list[Block]:
    """Return the blocks that pandoc reads from a text; a notebook's figures go into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    media = ["--extract-media", str(folder), "--ipynb-output=all"] if kind == "ipynb" else []
    blocks = json.loads(_pandoc(kind, "json", text, folder, *media))["blocks"]
    for content in _contents(blocks, "Image"):
        content[2][0] = str((folder / content[2][0]).resolve())
    for content in _contents(blocks, "Link"):
        content[2][0] = _inside(content[2][0])
    return blocks


def _pandoc(source: str, target: str, text: str, folder: Path, *options: str) -> str:
    """Return a text converted by pandoc, its relative paths counted from ``folder``."""
    import pypandoc

    command = [pypandoc.get_pandoc_path(), "--from", source, "--to", target, *options]
    done = subprocess.run(command, input=text.encode(), cwd=folder, capture_output=True)
    if done.returncode:
        raise OSError(f"pandoc failed on the report: {done.stderr.decode().strip()[-500:]}")
    return done.stdout.decode()


def _document(blocks: list[Block]) -> dict[str, Any]:
    version = json.loads(_pandoc("gfm", "json", "", Path.cwd()))["pandoc-api-version"]
    return {"pandoc-api-version": version, "meta": {}, "blocks": blocks}


def _contents(part: Any, kind: str) -> Iterator[list[Any]]:
    """Yield the contents of all elements of a kind in a part of pandoc's document."""
    if isinstance(part, dict):
        if part.get("t") == kind:
            yield part["c"]
        part = list(part.values())
    if isinstance(part, list):
        for item in part:
            yield from _contents(item, kind)


def _inside(target: str) -> str:
    """Return where a link leads within the report; links to elsewhere stay as they are."""
    if match := re.search(r"(problem\d)\.(ipynb|md)$", target):
        return f"#{match[1]}"
    return target


def _is_title(block: Block) -> bool:
    return block["t"] == "Header" and block["c"][0] == 1


def _shift_headings(blocks: list[Block], by: int) -> None:
    for content in _contents(blocks, "Header"):
        content[0] += by


def _give_anchors(blocks: list[Block], problem: str) -> list[Heading]:
    """Give each heading an anchor that is unique in the report, and return the headings."""
    headings = []
    for number, content in enumerate(_contents(blocks, "Header")):
        text = "".join(_words(content[2]))
        slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
        content[1][0] = problem if number == 0 else f"{problem}-{number}-{slug}"
        headings.append(Heading(problem, content[0], text, content[1][0]))
    return headings


def _words(inlines: list[Any]) -> Iterator[str]:
    for inline in inlines:
        if inline["t"] in ("Str", "Space", "SoftBreak"):
            yield inline.get("c", " ")
        elif inline["t"] in ("Code", "Math"):
            yield inline["c"][-1]
        elif isinstance(inline.get("c"), list):
            yield from _words([item for item in inline["c"][-1] if isinstance(item, dict)])


def _front_page(found: dict[str, Any], headings: list[Heading], output: Path) -> str:
    """Return the first page as Markdown: the answers, and the runs that they come from."""
    answers = summary.summary(found)
    answers["shown in"] = [
        f"[{question}](#{_anchor(*where, headings)})"
        for question, where in zip(answers["question"], answers.pop("where"), strict=True)
    ]
    runs = summary.runs(found)
    runs["from"] = [
        "this run" if _home(problem, output) else "the committed run"
        for problem in notebooks.PROBLEMS
    ]
    return (
        f"# {_TITLE}\n\n{int(answers['points'].sum())} points. Each answer is computed from the "
        f"results of the runs listed below.\n\n{markdown(answers)}\n\n"
        f"## The runs\n\n{markdown(runs)}\n\n{summary.WRITE_UPS}\n\n"
        f"## Contents\n\n{_contents_list(headings)}\n"
    )


def _contents_list(headings: list[Heading]) -> str:
    return "\n".join(
        f"{'  ' * (heading.level - 1)}- [{heading.text}](#{heading.anchor})"
        for heading in headings
        if heading.level <= 2
    )


def _anchor(problem: str, start: str, headings: list[Heading]) -> str:
    """Return the anchor of the first heading of a problem that begins with the given words.

    Raises
    ------
    ValueError
        There is no such heading.
    """
    for heading in headings:
        if heading.problem == problem and heading.text.startswith(start):
            return heading.anchor
    raise ValueError(f"the report has no heading of {problem} that begins with {start!r}")


def _home(problem: str, output: Path) -> Path | None:
    """Return the run's folder where it holds a finished problem, None where the committed serves.

    A problem is finished when all cells of its notebook were executed and its results are there:
    another process may be at work on it.
    """
    notebook = output / f"{problem}.ipynb"
    if not (notebook.is_file() and (output / _RESULTS / f"{problem}.json").is_file()):
        return None
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    executed = all(cell["execution_count"] for cell in cells if cell["cell_type"] == "code")
    return output if executed else None


def _notebook(problem: str, output: Path) -> Path:
    folder = _home(problem, output) or paths.notebooks_dir()
    return _present(folder / f"{problem}.ipynb")


def _results(problem: str, output: Path) -> dict[str, Any]:
    folder = _home(problem, output) or paths.project_root()
    return json.loads(_present(folder / _RESULTS / f"{problem}.json").read_text(encoding="utf-8"))


def _present(place: Path) -> Path:
    if not place.is_file():
        raise ValueError(f"missing for the report: {place}")
    return place
