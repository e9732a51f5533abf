"""What the benchmarks say of their turns, and that none of them is lost. Nothing is timed here."""

import ast
from pathlib import Path

import pytest

from benchmarks import __main__, report
from benchmarks.rows import ROWS, needed
from hw3utils import paths

ROOT = paths.project_root()
MACHINE = {"processor": "P", "cores": 2, "gpus": [], "python": "3", "packages": {"torch": "2"}}


def turns(*seconds, **found):
    """Return a turn for each number of seconds; ``found`` holds a list of as many values each."""
    return [
        {
            "seconds": each,
            "whole": each + 1,
            "peak_mib": 100.0,
            "found": {name: values[i] for name, values in found.items()},
        }
        for i, each in enumerate(seconds)
    ]


@pytest.mark.parametrize("name", ROWS)
def test_every_way_names_a_function_that_exists(name):
    for way in ROWS[name].ways.values():
        module, _, function = way.partition(":")
        source = (ROOT / Path(*module.split("."))).with_suffix(".py").read_text(encoding="utf-8")
        functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
        [found] = [each for each in functions if each.name == function]
        takes = {argument.arg for argument in found.args.args}
        assert {"turn", *ROWS[name].options} <= takes


def test_the_faster_one_is_named_whoever_it_is():
    taken = {"ours": turns(1, 2), "slow": turns(3, 4), "fast": turns(0.5, 0.5), "same": turns(2, 1)}
    assert report.verdict("slow", taken) == (
        "Ours took less time than slow: 2.50 times (2.00–3.00, n = 2)."
    )
    assert report.verdict("fast", taken).startswith("**fast took less time than ours**: 3.00 times")
    assert "cannot be told" in report.verdict("same", taken)


def test_ratios_are_those_of_the_same_turn():
    assert report.ratios("other", {"ours": turns(1, 10), "other": turns(2, 30)}) == [2, 3]


def test_a_row_of_peers_shows_what_each_of_them_found():
    found = {
        "rate": [0.01, 0.02, 0.03],
        "accuracy": [0.5, None, 0.6],
        "weights as before": [True, False, True],
        "updates": [1_600, 1_600, 1_600],
    }
    text = report.peers(
        {"finders": {"environment": MACHINE, "turns": {"ours": turns(1, 2, 3, **found)}}}
    )
    for cell in ("2 (1–3)", "0.02 (0.01–0.03)", "diverged in 1 of 3", "in 2 of 3", "1,600"):
        assert f"| {cell}" in text
    assert text.count(report.NEVER) == sum(row.group == "peers" for row in ROWS.values()) - 1


def test_limits_of_another_machine_are_no_limits():
    def row(processor, **found):
        taken = {way: turns(1, 1, **found) for way in ("ours", "plain")}
        return {"environment": MACHINE | {"processor": processor}, "turns": taken}

    limits = row("P", arithmetic=[100.0] * 2, bandwidth=[10.0] * 2)
    here, elsewhere = (row(processor, flops=[5e10] * 2) for processor in "PQ")
    assert "50% of the arithmetic" in report.own({"limits": limits, "epoch": here})
    assert "of the arithmetic" not in report.own({"limits": limits, "epoch": elsewhere})


def test_an_interrupted_benchmark_goes_on_turn_by_turn(tmp_path, monkeypatch):
    taken = []

    def turn(name, way, number, tiny):
        if len(taken) == 3:
            monkeypatch.setattr(__main__, "_turn", go_on)
            raise KeyboardInterrupt
        return go_on(name, way, number, tiny)

    def go_on(name, way, number, tiny):
        taken.append((way, number))
        return {"seconds": number}

    monkeypatch.setattr(__main__, "_turn", turn)
    monkeypatch.setattr(__main__, "JOURNAL", tmp_path / "turns.json")
    with pytest.raises(KeyboardInterrupt):
        __main__.measured("epoch", 2, tiny=True)
    found = __main__.measured("epoch", 2, tiny=True)
    assert taken == [("ours", 0), ("plain", 0), ("plain", 1), ("ours", 1)]
    assert [turn["seconds"] for turn in found["turns"]["ours"]] == [0, 1]
    __main__.measured("epoch", 2, tiny=True)
    assert len(taken) == 4
    monkeypatch.setattr(__main__, "_code", lambda: "edited")
    __main__.measured("epoch", 2, tiny=True)
    assert len(taken) == 8, "turns of other code were counted"


def test_every_peer_is_in_the_extra():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for package in set().union(*map(needed, ROWS.values())):
        assert f'"{package}>=' in text
