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
        With a column ``<name>_sd`` for each ``<name>``, as `problem4.tables.mean_and_spread` gives.
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
