"""Tables in Markdown, made from the committed results. Never trains, never loads images."""

import json
import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

from hw3utils import paths

_NUMBER = re.compile(r"\**[−-]?[\d,.]*( %)?\**")


def committed_results(problem: str) -> dict[str, Any]:
    """Return the committed results of a problem, from ``answers/results/<problem>.json``.

    Raises a FileNotFoundError where there are none yet.
    """
    path = paths.project_root() / "answers" / "results" / f"{problem}.json"
    return json.loads(path.read_text(encoding="utf-8"))


def without_digests(message: str, most: int = 4) -> str:
    """Return a message whose longer lists of files and SHA-256 digests are told in one line.

    They would push off the screen what is said before them.
    """

    def told(lists: re.Match[str]) -> str:
        files = re.findall(r"^  (\S+)  \(SHA-256", lists[0], re.MULTILINE)
        if len(files) <= most:
            return lists[0]
        return f"  {files[0]}, {files[1]} and {len(files) - 2} more: hw3utils/data/SHA256SUMS\n"

    return re.sub(r"(?:^  \S+  \(SHA-256 \w+\)(?:\n|\Z))+", told, message, flags=re.M).rstrip("\n")


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
    """Return columns of fractions as text in percent, with their spread, under new headings.

    ``columns`` maps the name of each column that is wanted to its heading; beside each ``<name>``
    stands its standard deviation ``<name>_sd``, as `problem4.tables.mean_and_spread` gives it.
    """
    texts = {}
    for name, heading in columns.items():
        pairs = zip(means[name], means[f"{name}_sd"], strict=True)
        texts[heading] = [_with_spread(100 * mean, 100 * sd) for mean, sd in pairs]
    return pd.DataFrame(texts)


def _with_spread(mean: float, sd: float) -> str:
    """Return a mean, and its standard deviation unless that is NaN, as it is with one seed."""
    if pd.isna(mean):
        return "unknown"
    return f"{mean:.1f}" if pd.isna(sd) else f"{mean:.1f} ± {sd:.1f}"


def machine(found: dict[str, Any]) -> str:
    """Return the hardware and versions of a run in half a sentence."""
    where = found["environment"]
    hardware = f"{where['processor']}, {where['cores']} cores"
    if where["gpus"]:
        hardware += f", {' and '.join(where['gpus'])}"
    return f"{hardware}, Python {where['python']}, torch {where['packages']['torch']}"
