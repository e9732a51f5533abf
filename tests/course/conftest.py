"""What the course's tests share: a judge with a hidden seed, and submissions made of the model."""

import json
import shutil

import pytest

from course import edition, judge, notebooks, sandbox, tasks
from hw3utils.checking.places import PACKAGE
from hw3utils.checking.running import TASKS, plain


@pytest.fixture(scope="session")
def hidden():
    return judge.known(20_26)


@pytest.fixture(scope="session")
def model_files(hidden):
    """The model answer as a submission, by place: functions, records, prose."""
    found = {f"hw3utils/{file}": text for file, text in hidden.models.items()}
    found["answers/records.json"] = json.dumps(plain(dict(judge.right_records())))
    for problem in notebooks.SHEETS:
        rows = [row for row in tasks.BY_HAND if row["item"][0] == problem[-1]]
        found[f"answers/{problem}.md"] = "\n\n".join(
            f"## Answer {row['item']}\n\nMy answer to {row['item']}." for row in rows
        )
    for number in (1, 2, 3, 4):
        cells = [
            {"cell_type": "markdown", "metadata": {}, "source": f"## {row['part']} A part\n\n"
             f"### Answer {row['item']}\n\nWhat I think of {row['item']}."}
            for row in tasks.BY_HAND
            if row["item"][0] == str(number) and number in (1, 3)
        ]  # fmt: skip
        book = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
        found[f"notebooks/problem{number}.ipynb"] = json.dumps(book)
    return found


@pytest.fixture(scope="session")
def untouched_files(hidden, model_files):
    """The students' edition as it was given out."""
    own = {f"hw3utils/{file}": hidden.editions[file] for file in hidden.models}
    rest = {name: text for name, text in model_files.items() if name.endswith(".ipynb")}
    return own | rest


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """The students' edition, as the command writes it."""
    out = tmp_path_factory.mktemp("edition")
    edition.write(out)
    return out


@pytest.fixture(scope="session")
def solved(tmp_path_factory, written):
    """The edition with the model's bodies in it; what is withheld from students stays so."""
    out = tmp_path_factory.mktemp("solved")
    shutil.copytree(written, out, dirs_exist_ok=True)
    wanted = {judge.find(PACKAGE, f) for task in TASKS.values() for f in task.functions}
    for file in wanted:
        shutil.copy(PACKAGE / file, out / "hw3utils" / file)
    return out


@pytest.fixture(scope="session")
def code(hidden):
    with sandbox.package_copy(PACKAGE, hidden.editions) as folder:
        yield folder


@pytest.fixture(scope="session")
def bwrap(code):
    try:
        sandbox.check_works(code)
    except sandbox.NoSandboxError as error:
        pytest.skip(f"no sandbox works here: {error}")


@pytest.fixture(scope="module")
def box(code, bwrap):
    with sandbox.Sandbox(code) as started:
        yield started
