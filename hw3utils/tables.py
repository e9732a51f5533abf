"""Tables in Markdown, made from the committed results. Never trains, never loads images."""

import json
from typing import Any

from hw3utils import paths

__all__ = ["committed_results", "markdown_table", "problem1_results"]


def committed_results(problem: str) -> dict[str, Any]:
    """Return the committed results of a problem, from ``answers/results/<problem>.json``.

    Raises
    ------
    FileNotFoundError
        There are none yet.
    """
    path = paths.project_root() / "answers" / "results" / f"{problem}.json"
    return json.loads(path.read_text(encoding="utf-8"))


def markdown_table(header: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table; the first column is aligned left, the others right."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine(found: dict[str, Any]) -> str:
    """Return the hardware and versions of a run in half a sentence."""
    where = found["environment"]
    hardware = f"{where['processor']}, {where['cores']} cores"
    if where["gpus"]:
        hardware += f", {' and '.join(where['gpus'])}"
    return f"{hardware}, Python {where['python']}, torch {where['packages']['torch']}"


def problem1_results() -> str:
    """Return Problem 1's results as Markdown: bounds, accuracies of all arms, noise scale."""
    found = committed_results("problem1")
    seeds = found["settings"]["seeds"]
    rows = [
        [
            arm,
            f"{found['validation_accuracy'][arm]:.4f}",
            f"{found['test_accuracy'][arm]:.4f}",
            f"{100 * found['gap'][arm]:.1f}",
        ]
        for arm in found["test_accuracy"]
    ]
    table = markdown_table(
        ["final model of", "validation accuracy", "test accuracy", "train − test (points)"], rows
    )
    return (
        f"lr_min = {found['lr_min']:.2g}, lr_max = {found['lr_max']:.2g} (range test: "
        f"{found['range_test']['lr_min']:.2g} and {found['range_test']['lr_max']:.2g}); gradient "
        f"noise scale {found['noise_scale']:.0f} images after the first stage. "
        f"{found['batch_size_answer']['text']}\n\n"
        f"{table}\n\n"
        f"Profile `{found['profile']}`, {seeds} seed{'s' if seeds > 1 else ''}; a test accuracy of "
        f"0.90 on 10,000 images has a standard error of 0.003. {machine(found)}."
    )
