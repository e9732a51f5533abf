"""Right and wrong results of every task for one seed, and the judgement on a submission's results.

Expected values are computed here, from the model's own functions, and stay here: a sandbox gets the
students' edition of the package, a submission's functions, and functions already judged.
"""

import ast
import functools
from collections.abc import Iterable, Mapping
from typing import Any

from course import tasks
from course.cutting import cut, raising
from course.mistakes import MISTAKES, WRONG_RECORDS, Mistake
from course.sandbox import GraderError
from hw3utils.checking import probes, records  # noqa: F401 - the probes register their tasks
from hw3utils.checking.judging import Expected, Verdict, judge, same
from hw3utils.checking.places import PACKAGE, definition, find
from hw3utils.checking.running import TASKS, Task, answer

VISIBLE_SEED = 301
MEMORY = 2 * 2**30  # bytes that a check may use beyond what torch has mapped


def cut_package() -> dict[str, tuple[str, list[str]]]:
    """Return the edition's text of each file that loses something, and the lines it loses."""
    to_write = {function: name for name, task in TASKS.items() for function in task.functions}
    docs = tasks.DOCS | tasks.WITHHELD_DOCS
    touched = {*to_write, *tasks.WITHHELD, *tasks.INSTEAD, *docs, *tasks.GONE}
    files = {function: str(find(PACKAGE, function)) for function in touched}
    bodies = {
        function: raising(
            f"task {task}: write {function.split(':')[1]} in hw3utils/{files[function]}"
        )
        for function, task in to_write.items()
    }
    bodies |= dict.fromkeys(tasks.WITHHELD, raising("withheld in the students' edition"))
    bodies |= tasks.INSTEAD

    def here(file: str, wanted: Iterable[str]) -> dict[str, str]:
        """Return those of the functions that are in a file, with their names there."""
        return {function: function.split(":")[1] for function in wanted if files[function] == file}

    return {
        file: cut(
            (PACKAGE / file).read_text(encoding="utf-8"),
            {name: bodies[function] for function, name in here(file, bodies).items()},
            {name: docs[function] for function, name in here(file, docs).items()},
            list(here(file, tasks.GONE).values()),
        )
        for file in sorted(set(files.values()))
    }


class Judge:
    """Knows for one seed what every task should give.

    Raises a GraderError where a function of the model fails.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.editions = {file: text for file, (text, _) in cut_package().items()}
        self.files = {
            function: str(find(PACKAGE, function))
            for task in TASKS.values()
            for function in task.functions
        }
        self.models = {
            file: (PACKAGE / file).read_text(encoding="utf-8") for file in set(self.files.values())
        }
        self.expected = {name: self._expected_task(task) for name, task in TASKS.items()}
        self.expected |= {name: _expected_record(name, right) for name, right in right_records()}

    def request(self, name: str, submitted: Mapping[str, str]) -> dict[str, Any]:
        """Return what is needed to run a task on somebody's files: plain data for a sandbox.

        Each file comes with the edition's text, and texts with the names to be taken from them.
        """
        task, files = TASKS[name], {}
        for needed in task.needs:
            for function in TASKS[needed].functions:
                file = self.files[function]
                files.setdefault(file, []).append((self.models[file], [function.split(":")[1]]))
        for file in dict.fromkeys(self.files[function] for function in task.functions):
            own = [f.split(":")[1] for f in task.functions if self.files[f] == file]
            files.setdefault(file, []).append((submitted.get(file, ""), own))
        return {
            "task": name, "seed": self.seed, "seconds": task.seconds, "memory": MEMORY,
            "functions": {function: self.files[function] for function in task.functions},
            "files": [[file, self.editions[file], grafts] for file, grafts in files.items()],
        }  # fmt: skip

    def verdict(self, name: str, got: Any) -> Verdict:
        """Judge what a task's cases gave, or a record."""
        tolerance = TASKS[name].tolerance if name in TASKS else records.TOLERANCE
        return judge(name, got, self.expected[name], tolerance)

    def _expected_task(self, task: Task) -> Expected:
        right = answer(self.request(task.name, self.models))
        for label, value in right.items():
            if isinstance(value, dict) and "error" in value:
                said = f"{task.name}, {label}: {value['error']}"
                raise GraderError(f"the model's own answer fails: {said}")
        wrong = [
            (mistake.message, answer(self.request(task.name, self.mutated(mistake))))
            for mistake in MISTAKES
            if mistake.task == task.name
        ]
        return _expected(right, wrong, task.tolerance)

    def mutated(self, mistake: Mistake) -> dict[str, str]:
        """Return the model's files with a mistake. Raises a ValueError where there is no such line.

        Lines are looked for from the task's first function on.
        """
        texts = dict(self.models)
        for old, new in mistake.changes:
            for function in TASKS[mistake.task].functions:
                file, name = self.files[function], function.split(":")[1]
                text = texts[file]
                line = definition(ast.parse(text), name).lineno - 1
                start = sum(map(len, text.splitlines(keepends=True)[:line]))
                if (place := text.find(old, start)) >= 0:
                    texts[file] = text[:place] + new + text[place + len(old) :]
                    break
            else:
                raise ValueError(f"{mistake.task}: the model has no {old!r} to be replaced")
        return texts


@functools.cache
def known(seed: int) -> Judge:
    """Return the judge of a seed, made once in a process: it takes some 20 seconds."""
    return Judge(seed)


def right_records() -> list[tuple[str, Any]]:
    """Return the records of 2.1 to 2.4 as the model's layer tables have them, and made-up runs."""
    from hw3utils.problem2 import experiments
    from hw3utils.problem2.layers import totals

    tables = experiments.layer_tables()
    alexnet, vgg = tables["AlexNet"], tables["VGG-19"]
    counted = alexnet[alexnet["parameters"] > 0]
    layers = dict(zip(counted["layer"], map(int, counted["parameters"]), strict=True))
    columns = (vgg[name].tolist() for name in ("layer", "activations", "weights"))
    rows = list(zip(*columns, strict=True))
    rows.append(("total", totals(vgg)["activations"], totals(vgg)["weights"]))
    names = {
        "naive": ("1x1", "3x3", "5x5"),
        "reduced": ("1x1", "before 3x3", "3x3", "before 5x5", "5x5", "after pool"),
    }
    sizes, operations = {}, {}
    for kind, wanted in names.items():
        table = tables[f"Inception {kind}"]
        sizes[kind] = (32, 32, sum(experiments.branch_channels(table)))
        counts = [int(n) for n in table["multiply_accumulates"] if n]
        operations[kind] = dict(zip(wanted, counts, strict=True)) | {"total": sum(counts)}
    saved = 1 - operations["reduced"]["total"] / operations["naive"]["total"]
    return [
        ("2.1 layers", layers | {"total": sum(layers.values())}), ("2.2 rows", rows),
        ("2.4 size", sizes), ("2.4 operations", operations), ("2.4 saving", saved),
        *records.EXAMPLE_RUNS.items(),
    ]  # fmt: skip


def _expected_record(name: str, right: Any) -> Expected:
    wrong = [
        (message, records.cases(name, change(right)))
        for record, message, change in WRONG_RECORDS
        if record == name
    ]
    return _expected(records.cases(name, right), wrong, records.TOLERANCE)


def _expected(
    right: dict[str, Any], wrong: list[tuple[str, dict[str, Any]]], tolerance: float
) -> Expected:
    """Return what is right, and of what each mistake gives that which differs from it."""
    return Expected(right, [
        (message, {label: value for label, value in found.items()
                   if not same(value, right.get(label), tolerance)})
        for message, found in wrong
    ])  # fmt: skip
