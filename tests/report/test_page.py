"""The report of the committed run: complete, in order, readable offline."""

import json
import re
import shutil
from html import unescape

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from hw3utils import __main__, paths
from hw3utils.report import notebooks, page, summary

QUESTIONS = (
    "1.1 1.2 1.3 2.1 2.2 2.3 2.4a 2.4b 2.4c 2.4d 2.5a 2.5b 2.5c 2.5d 3.1a 3.1b 3.1c 3.2a 3.2b "
    "4.1 4.2a 4.2b 4.3a 4.3b 4.3c 4.3d"
).split()
POINTS = {1: 20, 2: 35, 3: 25, 4: 20}


def results():
    folder = paths.project_root() / "answers" / "results"
    return {
        problem: json.loads((folder / f"{problem}.json").read_text(encoding="utf-8"))
        for problem in notebooks.PROBLEMS
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return page.write_html(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def html(written):
    return written.read_text(encoding="utf-8")


def test_every_question_of_the_handout_has_its_answer_and_its_points():
    table = summary.summary(results())
    assert list(table["question"]) == QUESTIONS
    points = table.groupby(table["question"].str[0].astype(int))["points"].sum()
    assert points.to_dict() == POINTS
    assert table["answer"].str.len().min() > 10


def test_links_to_a_write_up_lead_into_the_report_beside_the_page(tmp_path):
    text = "See [it](../answers/problem2.md)."
    notebook = new_notebook(cells=[new_markdown_cell(text)])
    nbformat.write(notebook, tmp_path / "problem2.ipynb")
    made = notebooks.write_html(tmp_path / "problem2.ipynb").read_text(encoding="utf-8")
    assert 'href="report.html#problem2"' in made and "../answers" not in made


def test_the_first_page_says_what_each_profile_is_for():
    found = results()
    assert summary.profiles(found).count("Profile") == 1
    found["problem1"]["profile"] = "smoke"
    assert "Profile smoke: a quick try on a few images, whose numbers" in summary.profiles(found)


def test_the_answers_follow_the_results():
    found = results()
    before = summary.summary(found).set_index("question")["answer"]
    found["problem1"]["lr_max"] = 0.123
    found["problem3"]["finetune"]["0.1"].update(validation=0.99, diverged=False)
    found["problem4"]["several_labels"].append({"labels": 3, "images": 1000})
    after = summary.summary(found).set_index("question")["answer"]
    assert set(after.index[before != after]) == {"1.1", "3.1c", "4.3c"}
    assert "lr_max = 0.12" in after["1.1"] and "images: 0.1, ahead of" in after["3.1c"]


def test_a_terminal_gets_a_line_for_each_question_of_the_problems_that_were_run():
    found = results()
    lines = summary.lines({problem: found[problem] for problem in ("problem1", "problem4")})
    assert [line.split()[0] for line in lines] == [q for q in QUESTIONS if q[0] in "14"]
    assert not any(mark in line for line in lines for mark in "*`\n")
    assert f"lr_max = {found['problem1']['lr_max']:.2g}" in lines[0]


def test_without_code_what_a_cell_shows_stays_and_cells_that_show_nothing_go(tmp_path):
    notebook = new_notebook(
        cells=[
            new_markdown_cell("## Why\n\n```\na formula\n```"),
            new_code_cell("import secret", execution_count=1),
            new_code_cell("hidden()", execution_count=2,
                          outputs=[new_output("stream", text="shown\n")]),
        ]
    )  # fmt: skip
    blocks = page._notebook_blocks(notebook, tmp_path / "n")
    kept = page._without_code(blocks)
    assert len(kept) == len(blocks) - 1
    texts = [content[1] for content in page._contents(kept, "CodeBlock")]
    assert [text.strip() for text in texts] == ["a formula", "shown"]


def test_an_answer_in_brief_keeps_its_verdict_and_drops_the_numbers_behind_it():
    assert summary.in_brief("Short, and whole. Really: 1.") == "Short, and whole. Really: 1."
    numbers = " Paired, with intervals: " + "+0.1 (−0.2 to +0.4), " * 20
    assert summary.in_brief(f"Mostly. Here: **it cannot be told**:{numbers}") == (
        "Mostly. Here: it cannot be told."
    )
    assert summary.in_brief(f"It ends at 91 %.{numbers}") == "It ends at 91 %."
    assert summary.in_brief(f"Halving acts most like doubling:{numbers}") == (
        "Halving acts most like doubling."
    )
    table = summary.summary(results())
    assert table["answer"].map(summary.in_brief).str.len().max() < 260


def test_the_findings_under_the_pictures_follow_the_results():
    found = results()
    before = [finding for _, _, finding in summary.pictures(found)]
    found["problem1"]["lr_max"] = 120 * found["problem1"]["lr_min"]
    curve = found["problem3"]["curve"]
    for row in curve:
        row["test"] = 0.123
    curve.append(curve[0] | {"approach": "last layer", "images": 99_999, "test": 0.9})
    for row in found["problem4"]["k"]:
        row["precision"] = 0.5
    after = [finding for _, _, finding in summary.pictures(found)]
    assert "99,999" not in after[1], "where there is one approach alone, nothing is compared"
    assert "120 times" in after[0] and "12.3 %" in after[1] and "from 50 % to 50 %" in after[2]
    assert all(old != new for old, new in zip(before, after, strict=True))


def test_the_first_page_shows_three_pictures_and_says_what_they_show(html):
    front = html[: html.index("<h2")]
    assert len(re.findall(r'<img [^>]*src="data:image/png[^>]* alt="[^"]{40,}"', front)) == 3
    for finding in (finding for _, _, finding in summary.pictures(results())):
        assert finding in " ".join(unescape(front).split())


@pytest.mark.skipif(page.find_browser() is None, reason="no Chromium, Chrome or Edge is installed")
def test_on_paper_and_on_a_phone_pictures_keep_their_shape_and_nothing_else_is_too_wide(written):
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=page.find_browser(), args=["--no-sandbox"]
        )
        phone = browser.new_page(viewport={"width": 390, "height": 844}, is_mobile=True)
        phone.goto(written.as_uri())
        assert phone.evaluate("document.documentElement.scrollWidth") == 390
        widths = phone.evaluate("[...document.images].map(image => image.clientWidth)")
        stretched = (
            "[...document.images].map(image => image.clientHeight / image.clientWidth"
            " * image.naturalWidth / image.naturalHeight)"
        )
        paper = browser.new_page(viewport={"width": 680, "height": 960})
        paper.emulate_media(media="print")
        paper.goto(written.as_uri())
        ratios = phone.evaluate(stretched) + paper.evaluate(stretched)
        browser.close()
    assert len(widths) > 30 and max(widths) <= 390
    assert ratios == pytest.approx([1.0] * len(ratios), abs=0.02)


def test_the_problems_come_in_order_after_the_summary(html):
    titles = re.findall(r"<h1[^>]*>(.*?)</h1>", html, re.DOTALL)
    assert len(titles) == 5
    for number, title in enumerate(titles[1:], start=1):
        assert f"Problem {number}." in " ".join(title.split())


def test_every_link_inside_the_page_leads_to_one_place(html):
    anchors = re.findall(r'\bid="([^"]+)"', html)
    headings = re.findall(r'<h[1-6][^>]* id="([^"]+)"', html)
    assert len(headings) == len(set(headings)) > 50
    targets = re.findall(r'href="#([^"]+)"', html)
    assert len(targets) > 60
    assert {anchors.count(target) for target in targets if not target.startswith("cb")} == {1}


def test_the_page_needs_no_network(html):
    assert not re.search(r'<(?:script|img|link|iframe)[^>]*(?:src|href)="(?!data:)', html)
    assert not re.search(r"url\(\s*[\"']?https?:", html)
    assert html.count('src="data:image/png') + html.count("<svg") >= 30
    assert "<math" in html


def test_outputs_are_shown_in_their_richest_form(html):
    assert "IPython.core.display" not in html
    assert html.count("<table") > 40


def test_outputs_in_markdown_are_read_and_shown(html):
    """The computed answers among them."""

    def letters(text):
        return re.sub(r"[^A-Za-z]", "", text)

    shown = letters(unescape(re.sub(r"<[^>]+>", "", html)))
    outputs = [
        "".join(output.data["text/markdown"])
        for problem in notebooks.PROBLEMS
        for cell in nbformat.read(paths.notebooks_dir() / f"{problem}.ipynb", as_version=4).cells
        for output in cell.get("outputs", [])
        if "text/markdown" in output.get("data", {})
    ]
    assert len(outputs) > 20
    for text in outputs:
        assert letters(text)[:60] in shown, text


def test_no_run_folder_and_no_browser_are_said_plainly(tmp_path, written, monkeypatch, capsys):
    assert __main__.main(["report", "--output", str(tmp_path / "none")]) == 2
    assert "run the notebooks first" in capsys.readouterr().err
    monkeypatch.setattr(page, "find_browser", lambda: None)
    monkeypatch.setattr(page, "write_html", lambda output, code: written)
    assert __main__.main(["report", "--output", str(tmp_path)]) == 0
    assert "report.pdf was not made" in capsys.readouterr().out


def test_only_finished_problems_are_taken_from_a_run(tmp_path):
    """Another process may be at work on a problem in the same folder: a Slurm array, say."""
    root = paths.project_root()
    (tmp_path / "answers" / "results").mkdir(parents=True)
    for problem in ("problem1", "problem2", "problem4"):
        shutil.copy(root / "notebooks" / f"{problem}.ipynb", tmp_path)
    for problem in ("problem2", "problem4"):
        name = f"answers/results/{problem}.json"
        shutil.copy(root / name, tmp_path / name)
    begun = json.loads((tmp_path / "problem4.ipynb").read_text(encoding="utf-8"))
    begun["cells"][-1].update(cell_type="code", execution_count=None, outputs=[])
    (tmp_path / "problem4.ipynb").write_text(json.dumps(begun), encoding="utf-8")
    text = page.write_html(tmp_path).read_text(encoding="utf-8")
    front = text[: text.index("Contents</h2>")]
    assert len(re.findall(r"this\s+run<", front)) == 1
    assert len(re.findall(r"the\s+committed\s+run<", front)) == 3


@pytest.mark.skipif(page.find_browser() is None, reason="no Chromium, Chrome or Edge is installed")
def test_a_browser_prints_it(written):
    printed = page.print_pdf(written, page.find_browser()).read_bytes()
    assert printed.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) > 30 or len(printed) > 1_000_000


def test_a_browser_that_fails_is_named_and_leaves_nothing(tmp_path):
    html = tmp_path / "report.html"
    html.write_text("<p>x</p>")
    with pytest.raises(OSError, match="could not print report.html"):
        page.print_pdf(html, shutil.which("false") or "false")
    assert list(tmp_path.iterdir()) == [html]
