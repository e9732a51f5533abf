"""A folder of submissions, from zip files to feedback: points, damage, repetition, marks."""

import base64
import json
import shutil
import zipfile

import pandas as pd
import pytest

from course import __main__, grading, judge, review, sandbox, submissions, tasks
from hw3utils import files
from hw3utils.checking.running import TASKS

PNG = submissions.PNG + b"not much of a picture"
SEED = 20_26
NMS = """import torchvision.ops


def non_maximum_suppression(boxes, scores, threshold=0.7):
    return torchvision.ops.nms(boxes, scores, threshold)


def another("""


def pack(path, contents):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in contents.items():
            archive.writestr(name, text)
    return path


@pytest.fixture(scope="module")
def graded(tmp_path_factory, bwrap, model_files, untouched_files):
    """A course: the model answer, the untouched edition, an empty zip, and damaged ones."""
    folder = tmp_path_factory.mktemp("submissions")
    pack(folder / "model.zip", model_files)
    pack(folder / "as_handed_out.zip", untouched_files)
    pack(folder / "empty.zip", {})
    broken = {"notebooks/problem1.ipynb": "{not JSON", "answers/records.json": "[" * 5_000}
    pack(folder / "broken.zip", model_files | broken)
    own = {name: text.replace("def non_maximum_suppression(", NMS) for name, text in
           model_files.items() if name.endswith("suppression.py")}  # fmt: skip
    pack(folder / "torchvision.zip", own)
    deep = '{"2.4 saving": ' + "[" * 900 + "]" * 900 + ', "2.4 size": "\\ud800"}'
    cell = {"cell_type": "markdown", "source": "### Answer 3.1a\n\nA lone surrogate: \ud800."}
    pack(folder / "odd.zip", {
        "answers/records.json": deep, "notebooks/problem3.ipynb": json.dumps({"cells": [cell]})
    })  # fmt: skip
    (folder / "nozip.ZIP").write_bytes(b"PK but no zip")
    inside = {f"hw3-main/{name}": text for name, text in model_files.items()}
    pack(folder / "nested.zip", inside | {"../../escaped.py": "x", "/tmp/hw3utils/a.py": "x"})
    output = tmp_path_factory.mktemp("grades")
    assert __main__.main(["grade", str(folder), "--output", str(output), "--jobs", "1",
                          "--seed", str(SEED)]) == 0  # fmt: skip
    return folder, output


def write_csv(path, rows):
    files.save_csv(pd.DataFrame(rows), path)


def total(output, student):
    return next(r for r in grading.read_csv(output / "automatic.csv") if r["student"] == student)


def test_the_points_of_each_part_are_the_handouts():
    parts = {}
    for row in tasks.RUBRIC:
        parts[row["part"]] = parts.get(row["part"], 0) + int(row["points"])
    assert sum(parts.values()) == 100
    assert sum(int(r["points"]) for r in tasks.AUTOMATIC) == 41
    problems = [sum(n for part, n in parts.items() if part[0] == p) for p in "1234"]
    assert problems == [20, 35, 25, 20]
    assert {part: parts[part] for part in ("1.3", "2.4", "3.1b", "3.2b", "4.3a")} == {
        "1.3": 10, "2.4": 12, "3.1b": 6, "3.2b": 3, "4.3a": 4,
    }  # fmt: skip


def test_the_model_answer_gets_everything_and_the_untouched_edition_nothing(graded):
    _, output = graded
    assert float(total(output, "model")["total"]) == 41
    assert float(total(output, "as_handed_out")["total"]) == 0
    found = json.loads((output / "work" / "as_handed_out.json").read_text("utf-8"))["results"]
    for name, result in found.items():
        said = " ".join(result["messages"])
        assert "write" in said and "hw3utils/" in said if name in TASKS else "fill in" in said, name


def test_an_empty_or_unreadable_zip_is_nothing_and_no_crash(graded):
    _, output = graded
    for student in ("empty", "nozip"):
        row = total(output, student)
        assert float(row["total"]) == 0
        assert "nothing of what is asked" in row["notes"] or "cannot be read" in row["notes"]


def test_damage_costs_no_points_for_code_and_is_said(graded):
    _, output = graded
    row = total(output, "broken")
    for name in TASKS:
        assert float(row[name]) == tasks.POINTS[name]
    assert "records.json is no JSON" in row["notes"]
    assert "problem1.ipynb is no notebook that can be read" in row["notes"]
    assert float(total(output, "nested")["total"]) == 41
    assert "leads out of the zip file" in total(output, "nested")["notes"]


def test_what_cannot_be_written_or_is_nested_deeply_stops_nothing(graded):
    _, output = graded
    assert float(total(output, "odd")["total"]) == 0
    assert "A lone surrogate: ?." in (output / "review" / "3.1a.html").read_text("utf-8")
    found = json.loads((output / "work" / "odd.json").read_text("utf-8"))["results"]
    assert all(result["messages"] for result in found.values())


def test_a_second_run_parallel_and_elsewhere_gives_the_same_tables(graded, tmp_path):
    folder, output = graded
    grading.grade(folder, tmp_path, jobs=2, seed=SEED)
    for name in ("automatic.csv", "manual.csv"):
        assert (tmp_path / name).read_bytes() == (output / name).read_bytes()


def test_what_is_graded_is_not_graded_again(graded, monkeypatch):
    folder, output = graded
    before = (output / "automatic.csv").read_bytes()
    (output / "work" / "empty.json").unlink()
    asked = []
    real = grading.grade_one
    monkeypatch.setattr(
        grading, "grade_one", lambda one, *rest: asked.append(one.student) or real(one, *rest)
    )
    grading.grade(folder, output, seed=SEED)
    assert asked == ["empty"]
    assert (output / "automatic.csv").read_bytes() == before


def test_a_killed_run_goes_on_where_it_stopped(tmp_path, monkeypatch):
    folder, output, asked = tmp_path / "submissions", tmp_path / "grades", []
    folder.mkdir()
    for student in ("ada", "bob", "eve"):
        pack(folder / f"{student}.zip", {})
    nothing = {"points": 0, "messages": [], "flags": []}

    def graded_until(killed):
        def one(submission, *_):
            if submission.student == killed:
                raise KeyboardInterrupt
            asked.append(submission.student)
            return {"results": dict.fromkeys(tasks.POINTS, nothing), "notes": [], "unwritten": []}

        return one

    monkeypatch.setattr(grading, "grade_one", graded_until("bob"))
    words = ["grade", str(folder), "--output", str(output), "--trusted", "--seed", str(SEED)]
    assert __main__.main(words) == 130
    assert not (output / "automatic.csv").exists()
    before, asked[:] = list(asked), []
    monkeypatch.setattr(grading, "grade_one", graded_until(None))
    assert list(grading.grade(folder, output, trusted=True, seed=SEED)) == ["ada", "bob", "eve"]
    assert "ada" in before and "bob" in asked and not set(before) & set(asked)


def test_a_fault_of_the_grader_says_where_and_is_no_score(tmp_path, monkeypatch, hidden, capsys):
    pack(tmp_path / "ada.zip", {})
    monkeypatch.setattr(judge, "known", lambda seed: hidden)
    monkeypatch.setattr(grading, "grade_one", lambda *_: {}["nothing"])
    output = tmp_path / "grades"
    assert __main__.main(["grade", str(tmp_path), "--output", str(output), "--trusted"]) == 3
    assert "a fault of the grader, nobody's score: ada: KeyError" in capsys.readouterr().err
    assert not (output / "automatic.csv").exists()


def test_blank_or_wrong_marks_stop_feedback_and_full_marks_make_100(graded):
    _, output = graded
    path = output / "manual.csv"
    blank = path.read_bytes()
    with pytest.raises(ValueError, match="a blank is no 0"):
        review.feedback(output)
    assert not (output / "grades.csv").exists()
    rows = grading.read_csv(path)
    full = [row | {"points": row["most"], "comment": "<b>well done</b>"} for row in rows]
    write_csv(path, [full[0] | {"points": "7"}, *full[1:]])
    with pytest.raises(ValueError, match="within the item's points"):
        review.feedback(output)
    write_csv(path, full[1:])
    with pytest.raises(ValueError, match=f"lacks 1 rows: {full[0]['code']} {full[0]['item']}"):
        review.feedback(output)
    write_csv(path, [full[0] | {"item": "9.9"}, *full[1:]])
    with pytest.raises(ValueError, match="9.9"):
        review.feedback(output)
    write_csv(path, full)
    grades = {row["student"]: row for row in review.feedback(output)}
    assert grades["model"]["total"] == 100
    assert grades["as_handed_out"]["total"] == 59
    assert [*grades["model"]][1:-1] == list(dict.fromkeys(r["part"] for r in tasks.RUBRIC))
    page = (output / "feedback" / "model.html").read_text("utf-8")
    assert "&lt;b&gt;well done" in page and "100 of 100" in page
    results = json.loads((output / "gradescope" / "model" / "results.json").read_text("utf-8"))
    assert results["score"] == 100
    assert sum(test["max_score"] for test in results["tests"]) == 100
    path.write_bytes(blank)


def test_what_nobody_wrote_is_said_and_still_blank(graded):
    _, output = graded
    rows = grading.read_csv(output / "manual.csv")
    said = {
        student: [row["comment"] for row in rows if row["code"] == grading.code_name(student, SEED)]
        for student in ("model", "empty")
    }
    assert set(said["model"]) == {""}
    assert said["empty"] == ["nothing written"] * len(tasks.BY_HAND)
    assert not any(row["points"] for row in rows)


def test_a_file_that_a_spreadsheet_saved_with_semicolons_is_read(tmp_path):
    text = '\ufeffcode;item;most;points;comment\nsab;2.5d;1;0,5;"one, two; three"\n'
    (tmp_path / "manual.csv").write_text(text, encoding="utf-8")
    assert review.marks(tmp_path) == {("sab", "2.5d"): (0.5, "one, two; three")}


def test_marks_that_were_given_survive_grading_again(graded):
    folder, output = graded
    path = output / "manual.csv"
    rows = grading.read_csv(path)
    write_csv(path, [rows[0] | {"points": "1", "comment": "kept"}, *rows[1:]])
    grading.grade(folder, output, seed=SEED)
    assert grading.read_csv(path)[0]["comment"] == "kept"


def test_the_seed_is_secret_drawn_once_and_another_elsewhere(tmp_path, monkeypatch, hidden, capsys):
    used = []
    monkeypatch.setattr(judge, "known", lambda seed: used.append(seed) or hidden)
    (tmp_path / "submissions").mkdir()
    pack(tmp_path / "submissions" / "ada.zip", {})
    for output in ("grades", "grades", "elsewhere"):
        words = ["grade", str(tmp_path / "submissions"), "--output", str(tmp_path / output)]
        assert __main__.main([*words, "--trusted"]) == 0
    first, again, other = used
    assert first == again == int((tmp_path / "grades" / "seed").read_text("utf-8"))
    assert len({first, other, judge.VISIBLE_SEED}) == 3
    assert (tmp_path / "grades" / "seed").stat().st_mode & 0o777 == 0o600
    said = capsys.readouterr()
    written = [path for path in (tmp_path / "grades").rglob("*.*") if path.is_file()]
    shown = [said.out, said.err, *(path.read_text("utf-8") for path in written)]
    assert not any(str(first) in text for text in shown)


def test_who_has_gone_stops_nothing_and_keeps_the_marks(graded, tmp_path):
    folder, output = graded
    here = tmp_path / "submissions"
    here.mkdir()
    shutil.copy(folder / "empty.zip", here)
    shutil.copytree(output, tmp_path / "grades")
    code = grading.code_name("model", SEED)
    rows = grading.read_csv(output / "manual.csv")
    given = [row | {"points": "1"} for row in rows]
    write_csv(tmp_path / "grades" / "manual.csv", given)
    grading.grade(here, tmp_path / "grades", seed=SEED)
    assert [row["student"] for row in review.feedback(tmp_path / "grades")] == ["empty"]
    left = grading.read_csv(tmp_path / "grades" / "manual.csv")
    assert sum(row["code"] == code for row in left) == len(tasks.BY_HAND)


def test_torchvisions_own_suppression_is_flagged_and_nothing_else(graded):
    _, output = graded
    for student in ("model", "as_handed_out"):
        assert total(output, student)["flags"] == ""
    row = total(output, "torchvision")
    assert "torchvision's own" in row["flags"]
    assert float(row["2.5 nms"]) == tasks.POINTS["2.5 nms"]


def test_review_pages_show_everybody_without_a_name(graded):
    _, output = graded
    pages = {path.stem: path.read_text("utf-8") for path in (output / "review").glob("*.html")}
    assert set(pages) == {row["item"] for row in tasks.BY_HAND}
    code = grading.code_name("model", SEED)
    assert code in pages["2.5a"] and "My answer to 2.5a." in pages["2.5a"]
    assert "What I think of 1.3b." in pages["1.3b"] and "What I think of 1.3c." not in pages["1.3b"]
    for page in pages.values():
        assert "model.zip" not in page and "as_handed_out" not in page
        assert page.count("<article>") == 8 and "Model answer" in page


def test_each_item_judged_by_hand_has_a_model_answer_beside_it():
    found, short = review.model_answers(), set()
    for row in tasks.BY_HAND:
        texts = found.get(row["item"], found[row["part"]])
        if sum(len(text) for text in texts if isinstance(text, str)) < 300:
            short.add(row["item"])
    assert short == set()
    assert all(any(isinstance(x, bytes) for x in found[part]) for part in ("1.1", "2.5b", "3.2b"))


def test_a_model_answer_is_of_its_own_item_alone(graded):
    page = (graded[1] / "review" / "2.5a.html").read_text("utf-8")
    model = page[: page.index("id=answers")]
    assert "Selective Search" in model and "href='#answers'" in model
    assert "Non-maximum suppression" not in model and "Beyond the handout" not in model


def test_formulas_are_set_and_do_nothing_else():
    tex = r"$r_{N+1}\,=\frac{a}{b}$, $x < <b>$, $\href{javascript:x}{y}$ and <math>raw</math>"
    shown = review.typeset(review.to_html(tex))
    assert shown.count("<msub>") == shown.count("<mfrac>") == 1 and "<b>" not in shown
    assert "&lt;math&gt;raw" in shown and "href=" not in shown


def notebook(*cells):
    made = [{"cell_type": kind, "source": source, **more} for kind, source, more in cells]
    return json.dumps({"cells": made}).encode()


def essay(text):
    return ("markdown", text, {})


def test_an_essay_is_text_whatever_it_holds():
    evil = ("<script>alert(1)</script>", "x <img src=x onerror=alert(1)>",
            "[a](javascript:alert(1))", "![a](http://192.0.2.1/x.png)", "a **b**")  # fmt: skip
    shown = review.to_html("\n\n".join(evil))
    assert "<script" not in shown and "<img" not in shown and "href" not in shown
    assert "&lt;script&gt;" in shown and "<strong>b</strong>" in shown


def test_prose_is_found_in_damaged_notebooks():
    answer = essay(["### Answer 1.1a\n\n", "*what (2 points)*\n\n(write 1.1a here)\n\nA valley."])
    part = essay("## 1.1 Which rates?")
    picture = ("code", "", {"outputs": [
        {"data": {"image/png": base64.b64encode(PNG).decode()}},
        {"data": {"image/png": base64.b64encode(b"<svg onload=alert(1)>").decode()}},
        {"data": {"text/html": "<script>alert(1)</script>"}},
    ]})  # fmt: skip
    whole = written(part, picture, answer)
    assert whole.texts["1.1a"] == "A valley." and whole.figures["1.1"] == [PNG]
    assert written(answer, part, picture, picture, answer, essay("no metadata")) == whole
    for content in (b"{", b"[]", b'{"cells": 3}', b'{"cells": [7]}', b"\xff\xfe"):
        handed_in = submissions.Submission("c", {"notebooks/problem1.ipynb": content})
        assert "no notebook that can be read" in submissions.prose(handed_in).notes[0]


def written(*cells):
    handed_in = submissions.Submission("a", {"notebooks/problem1.ipynb": notebook(*cells)})
    return submissions.prose(handed_in)


def test_figures_below_a_heading_of_two_parts_belong_to_both():
    picture = {"outputs": [{"data": {"image/png": base64.b64encode(PNG).decode()}}]}
    found = written(essay("## 3.1b and 3.1c Finetuning (6 + 6 points)"), ("code", "", picture))
    assert found.figures == {"3.1b": [PNG], "3.1c": [PNG]}
    assert {"3.1b", "3.1c"} <= set(review.model_answers())


def test_a_bomb_and_too_many_files_are_refused(tmp_path, monkeypatch):
    bomb = pack(tmp_path / "bomb.zip", {"notebooks/problem1.ipynb": b"0" * 50_000_000})
    assert "at most" in " ".join(submissions.read(bomb).notes)
    assert submissions.read(bomb).contents == {}
    monkeypatch.setattr(submissions, "MOST_BYTES", 1_000_000)
    swarm = pack(tmp_path / "swarm.zip", {f"hw3utils/a{n}.py": b"0" * 400_000 for n in range(9)})
    assert sum(map(len, submissions.read(swarm).contents.values())) <= 1_000_000
    many = pack(tmp_path / "many.zip", {f"{n}.md": "" for n in range(submissions.MOST_FILES + 1)})
    assert "files" in submissions.read(many).notes[0]


def test_a_zip_damaged_anywhere_is_read_as_far_as_it_goes(tmp_path):
    whole = pack(tmp_path / "a.zip", {"answers/problem2.md": "IoU, " * 40}).read_bytes()
    for place in range(len(whole)):
        path = tmp_path / "damaged.zip"
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        found = submissions.read(path)
        assert found.notes and len(found.contents) <= 1


def test_a_size_that_lies_does_not_help(tmp_path):
    path = pack(tmp_path / "lie.zip", {"answers/records.json": b"0" * 9_000_000})
    raw = path.read_bytes()
    true, small = (9_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little")
    path.write_bytes(raw.replace(true, small))
    assert len(submissions.read(path).contents.get("answers/records.json", b"")) <= 11


def test_the_command_line_says_what_is_wrong(tmp_path, capsys, monkeypatch):
    assert __main__.main(["feedback", str(tmp_path)]) == 1
    assert __main__.main(["grade", str(tmp_path), "--output", str(tmp_path / "out")]) == 1
    assert "holds no zip file" in capsys.readouterr().err
    pack(tmp_path / "a.zip", {})

    def broken(*_):
        raise sandbox.NoSandboxError("bwrap is not installed")

    monkeypatch.setattr(sandbox, "check_works", broken)
    assert __main__.main(["grade", str(tmp_path), "--output", str(tmp_path / "out")]) == 1
    assert "--trusted" in capsys.readouterr().err
    assert not (tmp_path / "out" / "automatic.csv").exists()
