"""Tables in Markdown, made from the committed results. Never trains, never loads images."""

import json
import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

from hw3utils import paths

__all__ = ["committed_results", "markdown", "percentages", "published_beside"]

PROBLEMS = ("problem1", "problem2", "problem3", "problem4")
_NUMBER = re.compile(r"\**[−-]?[\d,.]*( %)?\**")


def committed_results(problem: str) -> dict[str, Any]:
    """Return the committed results of a problem, from ``answers/results/<problem>.json``.

    Raises
    ------
    FileNotFoundError
        There are none yet.
    """
    path = paths.project_root() / "answers" / "results" / f"{problem}.json"
    return json.loads(path.read_text(encoding="utf-8"))


def markdown(frame: pd.DataFrame) -> str:
    """Return a frame as a Markdown table, without its index; columns of numbers to the right.

    The line under the header is as long as each column's longest cell: pandoc shares out a wide
    table's width by these lengths.
    """
    head, rules = [], []
    for name in frame:
        cells = [str(cell) for cell in frame[name]]
        longest = max(3, *(len(cell) for cell in [*cells, *str(name).split()]))
        numeric = all(_NUMBER.fullmatch(cell) for cell in cells)
        head.append(str(name))
        rules.append("-" * (longest - 1) + ":" if numeric else "-" * longest)
    rows = [[_cell(value) for value in row] for row in frame.astype(str).to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, rules, *rows])


def _cell(text: str) -> str:
    """Return a text as it can stand in a cell: on one line, its bars told from the table's."""
    return re.sub(r"(?<!\\)\|", r"\\|", " ".join(text.splitlines()))


def percentages(means: pd.DataFrame, columns: Mapping[str, str]) -> pd.DataFrame:
    """Return columns of fractions as text in percent, under new names, with their spread.

    Parameters
    ----------
    means : DataFrame
        With a column ``<name>_sd`` for each ``<name>``, as `problem4_tables.mean_and_spread` gives.
    columns : mapping of str to str
        The name of each column that is wanted, and its heading.
    """
    texts = {}
    for name, heading in columns.items():
        texts[heading] = [
            f"{100 * mean:.1f}" if pd.isna(sd) else f"{100 * mean:.1f} ± {100 * sd:.1f}"
            for mean, sd in zip(means[name], means[f"{name}_sd"], strict=True)
        ]
    return pd.DataFrame(texts)


def machine(found: dict[str, Any]) -> str:
    """Return the hardware and versions of a run in half a sentence."""
    where = found["environment"]
    hardware = f"{where['processor']}, {where['cores']} cores"
    if where["gpus"]:
        hardware += f", {' and '.join(where['gpus'])}"
    return f"{hardware}, Python {where['python']}, torch {where['packages']['torch']}"


def published_beside() -> str:
    """Return the committed results beside the nearest published numbers, as Markdown.

    The sources: FashionMNIST's own table and public coursework; Krizhevsky et al. 2012; Simonyan
    and Zisserman 2014, Table 2; Salman et al. 2020 (CIFAR-100, ResNet-50, 224 pixels, 150 epochs);
    Mahajan et al. 2018; Yalniz et al. 2019 (ImageNet, ResNet-50 student, YFCC-100M).
    """
    one, two, three, four = map(committed_results, PROBLEMS)
    finetuned = max(three["finetune"].values(), key=lambda score: score["validation"])
    last_layer = max(three["last_layer"].values(), key=lambda score: score["validation"])
    small = f"{three['dataset']}, {three['images']['train']} images, {three['image_size']} px"
    noise = pd.DataFrame(four["noise"])
    losses = [_paired(noise, "linear_accuracy", "noise", rate, 0.0) for rate in (0.1, 0.25)]
    sampled = pd.DataFrame(four["resampling"]).query("band == 'all'")
    gains = [
        _paired(sampled, "linear_accuracy", "rule", rule, "natural")
        for rule in ("square root", "uniform")
    ]
    students = pd.DataFrame(four["teacher_student"])
    student = _paired(students, "test_accuracy", "arm", "D̂, then D", "D alone")
    rows = [
        ("1.1 lr_min and lr_max", f"{one['lr_min']:.2g} and {one['lr_max']:.2g}",
         "none for this network"),
        ("1.2 test accuracy, cyclical rate", _accuracy(one["test_accuracy"]["cyclical"], None),
         "0.887 to 0.892 plain, 0.90 to 0.91 with a good schedule"),
        ("1.3 gradient noise scale", f"{one['noise_scale']:.0f} images",
         "none for this network"),
        ("2.1 AlexNet, parameters", f"{two['alexnet_parameters']['grouped']:,}",
         "about 60 million"),
        ("2.2 VGG-19, parameters with biases", f"{two['vgg19_parameters']:,}", "144 million"),
        (f"3.1 finetuned ({small})", _accuracy(finetuned["test"], finetuned["test_sd"]),
         "0.875 (all of CIFAR-100, 224 px)"),
        ("3.2 last layer alone (the same)", _accuracy(last_layer["test"], last_layer["test_sd"]),
         "0.795 (all of CIFAR-100, 224 px)"),
        ("4.2a 10 % and 25 % noise (points)", ", ".join(losses), "less than 1, about 2 lost"),
        ("4.2b square root and uniform (points)", ", ".join(gains), "5 to 6 % gained"),
        ("4.3a student against D alone (points)", student, "79.3 against 76.4: +2.9"),
    ]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["question", "here", "published"])
    label_seeds, student_seeds = (
        four["settings"][f"{name}_seeds"] for name in ("label", "student")
    )
    return (
        f"{markdown(frame)}\n\n± is the standard deviation over seeds: {one['settings']['seeds']} "
        f"in Problem 1, {finetuned['seeds']} of finetuning and {last_layer['seeds']} of the last "
        f"layer in Problem 3, {label_seeds} in 4.2, {student_seeds} in 4.3; with one seed it is "
        f"unknown. {machine(one)}."
    )


def _accuracy(mean: float, sd: float | None) -> str:
    """Return an accuracy with its spread over seeds, where there is one."""
    return f"{mean:.3f}" if sd is None else f"{mean:.3f} ± {sd:.3f}"


def _paired(frame: pd.DataFrame, column: str, by: str, one: object, other: object) -> str:
    """Return ``column`` where ``by`` is one minus where it is other, paired by seed, in points."""
    pivot = frame.pivot(index="seed", columns=by, values=column)
    found = 100 * (pivot[one] - pivot[other])
    return f"{found.mean():+.1f} ± {found.std():.1f}".replace("-", "−")
