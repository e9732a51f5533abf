"""What the report's first page says: each question's answer in a sentence, and the runs behind it.

Numbers and verdicts are computed from the results; only what a question asks in words is written
here.
"""

import math
import re
from typing import Any

import nbformat
import pandas as pd

from hw3utils import paths
from hw3utils.problem1 import answers as problem1
from hw3utils.problem2 import answers as problem2
from hw3utils.problem3 import answers as problem3
from hw3utils.problem4 import answers as problem4
from hw3utils.problem4 import comparisons
from hw3utils.problem4.teaching import HARD, SELECTED, TUNED
from hw3utils.problem4.wording import in_points
from hw3utils.text import committed_results, machine, markdown, points

WRITE_UPS = (
    "The write-ups of Problems 2 and 4 are the committed ones: their numbers are those of the "
    "committed run, the notebooks below them show the runs of this table."
)

# Finetuned, and the last layer alone, on all images at 224 pixels: Grill et al. 2020, Table 3.
_GRILL = {
    "cifar10": ("0.975 (all of CIFAR-10, 224 px)", "0.936 (all of CIFAR-10, 224 px)"),
    "cifar100": ("0.864 (all of CIFAR-100, 224 px)", "0.783 (all of CIFAR-100, 224 px)"),
}
_PROBLEMS = {  # title, points, and the question whose answer stands for it
    "problem1": ("Learning rate and batch size", 20, "1.3"),
    "problem2": ("CNN architectures", 35, "2.4d"),
    "problem3": ("Transfer learning", 25, "3.2b"),
    "problem4": ("Weakly and semi-supervised learning", 20, "4.3a"),
}
_LINE = 170  # characters of an answer in brief, where it must be shortened
_ANSWERS = {"problem1": problem1, "problem2": problem2, "problem3": problem3, "problem4": problem4}


def summary(found: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Return ``question``, ``points`` and ``answer`` of each sub-question, and ``where`` it stands.

    ``found`` holds the results of some problems, ``problem1`` to ``problem4``, as their notebooks
    write them; ``where`` is a pair of the problem and the words with which its heading begins.
    """
    rows = [
        (question, points, answer, (problem, heading))
        for problem, answers in _ANSWERS.items()
        if problem in found
        for question, points, answer, heading in answers.report_rows(found[problem])
    ]
    return pd.DataFrame(rows, columns=["question", "points", "answer", "where"])


def lines(found: dict[str, dict[str, Any]]) -> list[str]:
    """Return the verdicts for a terminal: a line for each sub-question, without Markdown."""
    table = summary(found)
    return [
        f"{question:>5}  {' '.join(re.sub(r'[*`$]', '', in_brief(answer)).split())}"
        for question, answer in zip(table["question"], table["answer"], strict=True)
    ]


def in_brief(answer: str) -> str:
    """Return an answer's verdict without the numbers behind it, as the first page has it.

    It ends with what is set in bold. Where nothing is, it is as many whole sentences as fit into
    a line or two; of a first sentence that is longer, what stands before its colon.
    """
    verdict, bold, _ = answer.rpartition("**")
    if bold:
        return f"{verdict.replace('**', '').rstrip('.')}."
    if len(answer) <= _LINE:
        return answer
    first, *others = re.split(r"(?<=[.!?]) +(?=[A-Z(])", answer)
    if len(first) > _LINE:
        return f"{first.partition(': ')[0].rstrip('.')}."
    for sentence in others:
        if len(first) + len(sentence) >= _LINE:
            break
        first += f" {sentence}"
    return first


def pictures(found: dict[str, dict[str, Any]]) -> list[tuple[str, str, str]]:
    """Return the three pictures that carry the homework: question, name, finding in a sentence.

    A finding is computed; what the seeds cannot decide, it does not decide.
    """
    one, three, four = (found[problem] for problem in ("problem1", "problem3", "problem4"))
    return [
        ("1.1", "problem1_learning_rates", _rates_finding(one)),
        ("3.2b", "problem3_curve", _curve_finding(pd.DataFrame(three["curve"]))),
        ("4.3d", "problem4_k", _k_finding(pd.DataFrame(four["k"]), problem4.answers(four)["4.3d"])),
    ]


def at_a_glance() -> str:
    """Return the four problems as a table in Markdown: where to read what, and one answer of each.

    The minutes are those of a reader of 200 words a minute.
    """
    found = {problem: committed_results(problem) for problem in _ANSWERS}
    answers = summary(found).set_index("question")["answer"].map(in_brief)
    rows = []
    for problem, (title, worth, question) in _PROBLEMS.items():
        notebook, write_up = f"notebooks/{problem}.ipynb", f"answers/{problem}.md"
        written = (paths.project_root() / write_up).is_file()
        first = f"[write-up]({write_up}), [notebook]({notebook})" if written else ""
        read = f"{first or f'[notebook]({notebook})'}, {_minutes(notebook, write_up)} minutes"
        rows.append(
            (f"{problem[-1]}. {title}", worth, read, answers[question].rpartition("Here: ")[2])
        )
    return markdown(pd.DataFrame(rows, columns=["problem", "points", "read", "in a sentence"]))


def _minutes(notebook: str, write_up: str) -> int:
    """Return how long the write-up, or else the notebook's prose, takes to read."""
    root = paths.project_root()
    if (root / write_up).is_file():
        prose = (root / write_up).read_text(encoding="utf-8")
    else:
        cells = nbformat.read(root / notebook, as_version=4).cells
        prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    visible = re.sub(r"<!--.*?-->", "", prose, flags=re.DOTALL)
    return max(5, 5 * round(len(re.findall(r"\w+", visible)) / 200 / 5))


def gallery() -> str:
    """Return the first page's pictures and one of Problem 2 as a table in Markdown, with findings.

    Of the committed run.
    """
    found = {problem: committed_results(problem) for problem in _ANSWERS}
    one, *others = pictures(found)
    saved = (
        f"The 1×1 reductions save {found['problem2']['inception_saving']:.1%} of the operations."
    )
    shown = [one, ("2.4d", "problem2_inception_operations", saved), *others]
    lines = ["| | |", "|---|---|"]
    for pair in (shown[:2], shown[2:]):
        pictured = " | ".join(f"![{text}](figures/{name}.png)" for _, name, text in pair)
        told = " | ".join(f"**{question}** {text}" for question, _, text in pair)
        lines += [f"| {pictured} |", f"| {told} |"]
    return "\n".join(lines)


def _rates_finding(found: dict[str, Any]) -> str:
    low, high = found["lr_min"], found["lr_max"]
    return (
        f"Learning rates from {low:.2g} to {high:.2g} are useful: the highest is "
        f"{high / low:,.0f} times the lowest."
    )


def _curve_finding(curve: pd.DataFrame) -> str:
    approaches = curve.groupby("images")["approach"].nunique()
    compared = approaches[approaches == curve["approach"].nunique()].index
    most = curve[curve["images"] == compared.max()]
    means = most.groupby("approach")["test"].mean().sort_values(ascending=False)
    seeds = most["seed"].nunique()
    (best, most_right), *others = means.items()
    each = "".join(f", “{approach}” {100 * mean:.1f} %" for approach, mean in others)
    return (
        f"With {most['images'].iloc[0]:,} training images “{best}” names {100 * most_right:.1f} % "
        f"of the test images correctly{each} "
        f"({'one seed' if seeds == 1 else f'means of {seeds} seeds'})."
    )


def _k_finding(rows: pd.DataFrame, answer: str) -> str:
    """Return the verdict on the student's accuracy, from 4.3d's answer, and what the labels do."""
    right = rows.groupby("k")["precision"].mean()
    verdict = re.search(r"\*\*(.*?)\*\*", answer, re.DOTALL)[1]
    return (
        f"{verdict}, while the share of right pseudo-labels goes from {100 * right.iloc[0]:.0f} % "
        f"to {100 * right.iloc[-1]:.0f} %."
    )


def runs(found: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Return what each problem was run with: profile, seeds, data, weights, hardware, versions."""
    return pd.DataFrame([_run(problem, results) for problem, results in found.items()])


def _run(problem: str, found: dict[str, Any]) -> dict[str, str]:
    settings = found["settings"]
    seeds = [f"{value} ({name})" for name, value in settings.items() if name.endswith("seeds")]
    changed = f", changed: {', '.join(settings['changed'])}" if settings["changed"] else ""
    weights = found.get("weights")
    return {
        "problem": problem[-1],
        "profile": found["profile"] + changed,
        "seeds": ", ".join(seeds),
        "data and weights": found.get("dataset", "FashionMNIST")
        + (f"; ResNet-50 {weights['name']} ({weights['origin']})" if weights else ""),
        "machine": f"{machine(found)}; {found['seconds'] / 60:.0f} min of training, added up",
    }


def published_beside() -> str:
    """Return the committed results beside the nearest published numbers, as Markdown.

    The sources: FashionMNIST's own table and public coursework; Krizhevsky et al. 2012; Simonyan
    and Zisserman 2014, Table 2; Grill et al. 2020, Table 3 (ResNet-50, ImageNet weights);
    Mahajan et al. 2018; Yalniz et al. 2019 (ImageNet, ResNet-50 student, YFCC-100M).
    """
    one, two, three, four = map(committed_results, _ANSWERS)
    finetuned = max(three["finetune"].values(), key=lambda score: score["validation"])
    last_layer = max(three["last_layer"].values(), key=lambda score: score["validation"])
    size = three["protocol"]
    small = f"{three['dataset']}, {size['images']:,} images, {three['image_size']} px"
    published = _GRILL.get(three["dataset"], ("no such table known here",) * 2)
    differences = pd.DataFrame(four["differences"])

    def told(measure: str, first: str, second: str) -> str:
        return in_points(comparisons.difference(differences, measure, first, second))

    noise = comparisons.noisy
    losses = [told(comparisons.LINEAR, noise(rate), noise(0)) for rate in (0.1, 0.25)]
    after = comparisons.transfer(comparisons.AFTER, "all")
    gains = [told(after, rule, "natural") for rule in ("square root", "uniform")]
    student = [told(problem4.SMALL, arm, TUNED) for arm in (SELECTED, HARD)]
    cyclical = _accuracy(one["test_accuracy"]["cyclical"], one["test_sd"]["cyclical"])
    compared = one["batch_size_answer"]
    growing = _paired(compared["accuracy_difference"], *_bounds(compared, "accuracy"))
    from_64 = _paired(compared["stable_difference"], *_bounds(compared, "stable"))
    scales = [f"{stage['value']:,.0f}" for stage in one["noise_scales"].values() if stage["value"]]
    rows = [
        ("1.1 lr_min and lr_max", f"{one['lr_min']:.2g} and {one['lr_max']:.2g}",
         "none for this network"),
        ("1.2 test accuracy, cyclical rate", cyclical,
         "0.887 to 0.892 plain, 0.90 to 0.91 with a good schedule"),
        ("1.3 test accuracy, growing batch against cyclical, equal epochs (points)", growing,
         "none for this network"),
        ("1.3 the same, for the batch that grows from 64 on (points)", from_64,
         "none for this network"),
        ("1.3 gradient noise scale after stage 1, at the end", f"{scales[0]}, {scales[-1]} images",
         "none for this network"),
        ("2.1 AlexNet, parameters", f"{two['alexnet_parameters']['grouped']:,}",
         "about 60 million"),
        ("2.2 VGG-19, parameters with biases", f"{two['vgg19_parameters']:,}", "144 million"),
        (f"3.1 finetuned ({small})", _accuracy(finetuned["test"], finetuned["test_sd"]),
         published[0]),
        ("3.2 last layer alone (the same)", _accuracy(last_layer["test"], last_layer["test_sd"]),
         published[1]),
        ("4.2a 10 % and 25 % noise (points)", ", ".join(losses), "less than 1, about 2 lost"),
        ("4.2b square root and uniform (points)", ", ".join(gains), "5 to 6 % gained"),
        ("4.3a student against D alone, tuned: top K, all of U (points)", ", ".join(student),
         "79.3 against 76.4: +2.9"),
    ]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["question", "here", "published"])
    repeated = four["settings"]
    return (
        f"{markdown(frame)}\n\n± is the standard deviation over seeds: {one['settings']['seeds']} "
        f"in Problem 1, {finetuned['seeds']} of finetuning and {last_layer['seeds']} of the last "
        f"layer in Problem 3, {repeated['label_seeds']} in 4.2, {repeated['student_seeds']} in "
        f"4.3; with one seed it is unknown. In brackets: 95 % interval, paired by seed; in Problem "
        f"4 all intervals of a question hold together. Problem 1: {machine(one)}. Problem 3: "
        f"{machine(three)}. Problem 4: {machine(four)}."
    )


def _bounds(found: dict[str, Any], name: str) -> tuple[float | None, float | None]:
    return found[f"{name}_low"], found[f"{name}_high"]


def _paired(mean: float, low: float | None, high: float | None) -> str:
    """Return a difference of fractions in points, with its interval where there is one."""
    text = points(100 * mean, math.nan)
    return (
        text if low is None else f"{text} ({100 * low:+.1f} to {100 * high:+.1f})".replace("-", "−")
    )


def _accuracy(mean: float, sd: float | None) -> str:
    """Return an accuracy with its spread over seeds, where there is one."""
    return f"{mean:.3f}" if sd is None else f"{mean:.3f} ± {sd:.3f}"
