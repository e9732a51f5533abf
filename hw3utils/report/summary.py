"""What the report's first page says: each question's answer in a sentence, and the runs behind it.

Numbers and verdicts are computed from the results; only what a question asks in words is written
here.
"""

import re
from typing import Any

import nbformat
import pandas as pd

from hw3utils import paths
from hw3utils.problem1 import answers as problem1
from hw3utils.problem2 import answers as problem2
from hw3utils.problem3 import answers as problem3
from hw3utils.problem3.experiments import LAST_LAYER
from hw3utils.problem4 import answers as problem4
from hw3utils.problem4 import comparisons
from hw3utils.problem4.teaching import HARD, SELECTED, TUNED
from hw3utils.problem4.wording import in_points
from hw3utils.settings import PROFILES
from hw3utils.text import committed_results, machine, markdown

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
    "problem4": (
        "Weakly and semi-supervised learning (D: few labelled images, U: many unlabelled)",
        20,
        "4.3a",
    ),
}
_NONE = "none for this network"
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
        ("4.3d", "problem4_k", _k_finding(four)),
    ]


def at_a_glance() -> str:
    """Return the four problems as a table in Markdown: where to read what, and one answer of each.

    The minutes are those of a reader of 200 words a minute: for the write-up, or else for the
    notebook's prose.
    """
    root = paths.project_root()
    found = {problem: committed_results(problem) for problem in _ANSWERS}
    answers = summary(found).set_index("question")["answer"].map(in_brief)
    rows = []
    for problem, (title, worth, question) in _PROBLEMS.items():
        notebook, write_up = f"notebooks/{problem}.ipynb", f"answers/{problem}.md"
        read = f"[notebook]({notebook})"
        if (root / write_up).is_file():
            read = f"[write-up]({write_up}), {read}"
            prose = (root / write_up).read_text(encoding="utf-8")
        else:
            cells = nbformat.read(root / notebook, as_version=4).cells
            prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        visible = re.sub(r"<!--.*?-->", "", prose, flags=re.DOTALL)
        minutes = max(5, 5 * round(len(re.findall(r"\w+", visible)) / 200 / 5))
        said = answers[question].rpartition("Here: ")[2]
        rows.append((f"{problem[-1]}. {title}", worth, f"{read}, {minutes} minutes", said))
    return markdown(pd.DataFrame(rows, columns=["problem", "points", "read", "in a sentence"]))


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
    on_line = most["epochs"] == most.groupby("approach")["epochs"].transform("min")
    means = most[on_line].groupby("approach")["test"].mean().sort_values(ascending=False)
    seeds = most[on_line]["seed"].nunique()
    last = most["approach"] == LAST_LAYER
    epochs, cheap = most[on_line & ~last]["epochs"].min(), most[on_line & last]["epochs"].min()
    (best, most_right), *others = means.items()
    each = "".join(f", “{approach}” {100 * mean:.1f} %" for approach, mean in others)
    longer = [
        f"“{row['approach']}” {100 * row['test']:.1f} % after {row['epochs']} epochs"
        for row in most[~on_line].to_dict("records")
    ]
    return (
        f"With {most['images'].iloc[0]:,} training images and {epochs} epochs of finetuning, or "
        f"{cheap} of the last layer alone, “{best}” names {100 * most_right:.1f} % of the test "
        f"images correctly{each} ({'one seed' if seeds == 1 else f'means of {seeds} seeds'}; "
        "fewer images have more epochs, for as many updates)."
        + (f" Trained for longer (one seed): {', '.join(longer)}." if longer else "")
    )


def _k_finding(found: dict[str, Any]) -> str:
    """Return the verdict on the student's accuracy, from 4.3d's answer, and what the labels do."""
    low, _, high = found["settings"]["judged_ks"]
    right = pd.DataFrame(found["k"]).groupby("k")["precision"].mean()
    answer = problem4.answers(found)["4.3d"]
    verdict = re.search(r"\*\*(.*?)\*\*", answer, re.DOTALL)[1]
    return (
        f"P = {found['settings']['p']}. {verdict}, while the share of right pseudo-labels goes "
        f"from {100 * right[low]:.0f} % to {100 * right[high]:.0f} %."
    )


def profiles(found: dict[str, dict[str, Any]]) -> str:
    """Say which profiles the results are of, and what each is for."""
    names = dict.fromkeys(results["profile"] for results in found.values())
    return " ".join(f"Profile {name}: {PROFILES[name]}." for name in names)


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
    found = {problem: committed_results(problem) for problem in _ANSWERS}
    one, two, three, four = found.values()
    rows = [*_beside_1(one), *_beside_2(two), *_beside_3(three), *_beside_4(four)]
    frame = pd.DataFrame(rows, columns=["question", "here", "published"])
    finetuned, last_layer = (_selected(three[kind])["seeds"] for kind in ("finetune", "last_layer"))
    return (
        f"{markdown(frame)}\n\n± is the standard deviation over seeds: {one['settings']['seeds']} "
        f"in Problem 1, {finetuned} of finetuning and {last_layer} of the last layer in Problem 3, "
        f"{four['settings']['label_seeds']} in 4.2, {four['settings']['student_seeds']} in 4.3; "
        f"with one seed it is unknown. In brackets: 95 % interval, paired by seed; in Problem 4 "
        f"all intervals of a question hold together. {_machines(found)}"
    )


def _beside_1(found: dict[str, Any]) -> list[tuple[str, str, str]]:
    compared = found["batch_size_answer"]
    scales = [f"{each['value']:,.0f}" for each in found["noise_scales"].values() if each["value"]]
    return [
        ("1.1 lr_min and lr_max", f"{found['lr_min']:.2g} and {found['lr_max']:.2g}", _NONE),
        ("1.2 test accuracy, cyclical rate",
         _accuracy(found["test_accuracy"]["cyclical"], found["test_sd"]["cyclical"]),
         "0.887 to 0.892 plain, 0.90 to 0.91 with a good schedule"),
        ("1.3 test accuracy, growing batch against cyclical, equal epochs (points)",
         _paired(compared, "accuracy"), _NONE),
        ("1.3 the same, for the batch that grows from 64 on (points)",
         _paired(compared, "stable"), _NONE),
        ("1.3 gradient noise scale after stage 1, at the end", f"{scales[0]}, {scales[-1]} images",
         _NONE),
    ]  # fmt: skip


def _beside_2(found: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [
        ("2.1 AlexNet, parameters", f"{found['alexnet_parameters']['grouped']:,}",
         "about 60 million"),
        ("2.2 VGG-19, parameters with biases", f"{found['vgg19_parameters']:,}", "144 million"),
    ]  # fmt: skip


def _beside_3(found: dict[str, Any]) -> list[tuple[str, str, str]]:
    images, epochs = (found["protocol"][name] for name in ("images", "epochs"))
    here = f"{found['dataset']}, {images:,} images, {found['image_size']} px"
    published = _GRILL.get(found["dataset"], ("no such table known here",) * 2)
    finetuned, last_layer = (_selected(found[kind]) for kind in ("finetune", "last_layer"))
    return [
        (f"3.1 finetuned ({here}, {epochs} epochs)",
         _accuracy(finetuned["test"], finetuned["test_sd"]), published[0]),
        ("3.2 last layer alone (the same images)",
         _accuracy(last_layer["test"], last_layer["test_sd"]), published[1]),
    ]  # fmt: skip


def _selected(scores: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the scores of the learning rate that is best on validation images."""
    return max(scores.values(), key=lambda score: score["validation"])


def _beside_4(found: dict[str, Any]) -> list[tuple[str, str, str]]:
    differences = pd.DataFrame(found["differences"])

    def told(measure: str, pairs: list[tuple[str, str]]) -> str:
        return ", ".join(
            in_points(comparisons.difference(differences, measure, *pair)) for pair in pairs
        )

    noise, after = comparisons.noisy, comparisons.transfer(comparisons.AFTER, "all")
    return [
        ("4.2a 10 % and 25 % noise (points)",
         told(comparisons.LINEAR, [(noise(rate), noise(0)) for rate in (0.1, 0.25)]),
         "less than 1, about 2 lost"),
        ("4.2b square root and uniform (points)",
         told(after, [(rule, "natural") for rule in ("square root", "uniform")]),
         "5 to 6 % gained"),
        ("4.3a student against D alone, tuned: top K, all of U (points)",
         told(problem4.SMALL, [(arm, TUNED) for arm in (SELECTED, HARD)]),
         "79.3 against 76.4: +2.9"),
    ]  # fmt: skip


def _machines(found: dict[str, dict[str, Any]]) -> str:
    """Return in a sentence or several which problems were run where."""
    where: dict[str, list[str]] = {}
    for problem, results in found.items():
        where.setdefault(machine(results), []).append(problem[-1])
    return " ".join(
        f"Problem{'s' if len(names) > 1 else ''} {', '.join(names)}: {place}."
        for place, names in where.items()
    )


def _paired(found: dict[str, Any], name: str) -> str:
    """Return a difference of fractions in points, with its interval where there is one."""
    mean, low, high = (found[f"{name}_{part}"] for part in ("difference", "low", "high"))
    reach = "" if low is None else f" ({100 * low:+.1f} to {100 * high:+.1f})"
    return f"{100 * mean:+.1f}{reach}".replace("-", "−")


def _accuracy(mean: float, sd: float | None) -> str:
    """Return an accuracy with its spread over seeds, where there is one."""
    return f"{mean:.3f}" if sd is None else f"{mean:.3f} ± {sd:.3f}"
