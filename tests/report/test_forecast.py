"""What is foreseen of a run and how far it is, from made-up records and journals."""

import json
import os
from pathlib import Path

import pytest

from hw3utils import paths
from hw3utils.report import forecast
from hw3utils.report.forecast import Forecast, Sweep
from hw3utils.text import committed_results
from hw3utils.training import sweeps

NOWHERE = Path("nowhere")  # a run's folder that was removed since
NUMBERS = ("problem2", "smoke", {}, NOWHERE)


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HW3_DATA", str(tmp_path))
    monkeypatch.setenv("HW3_JOBS", "2")
    (tmp_path / "cache").mkdir()


def trained(*keys):
    for key in keys:
        (paths.cache_dir() / f"{key}.pt").touch()


def record(seconds=70.0):
    """Leave the record of a run of two sweeps: 40 s and 20 s of training, and the rest.

    Of a run whose output is gone: a notebook that is still there would be left as it is.
    """
    seen = [
        Sweep("one", ["a", "b"], computed=2, before=0.0, done=1.0, seconds=40.0),
        Sweep("two", ["c", "d"], computed=1, before=0.25, done=1.0, seconds=15.0),
    ]
    place = forecast.write_record(*NUMBERS, seen, seconds)
    place.write_text(place.read_text().replace('"machine"', '"another machine"'))
    return place


def test_without_a_record_the_committed_run_tells_and_whose_speed_it_was():
    committed = committed_results("problem2")
    here = forecast.forecast("problem2", committed["profile"], {}, NOWHERE)
    assert here.seconds == pytest.approx(committed["seconds"] / 2) and not here.cached
    assert committed["environment"]["processor"] in here.basis


@pytest.mark.parametrize(
    ("profile", "parameters"), [("full", {}), ("smoke", {}), ("laptop", {"rpn_seeds": 3})]
)
def test_what_was_never_timed_cannot_be_told(profile, parameters):
    found = forecast.forecast("problem2", profile, parameters, NOWHERE)
    assert found.seconds is None and "no forecast" in found.basis
    assert "no forecast" in forecast.told([found], profile)


def test_a_record_tells_what_is_cached_and_how_long_the_rest_takes():
    record()
    trained("a", "b", "c", "d")
    every = forecast.forecast(*NUMBERS)
    assert every.cached and every.seconds == pytest.approx(15)
    assert "nothing will be trained" in forecast.told([every], "smoke")
    (paths.cache_dir() / "b.pt").unlink()
    half = forecast.forecast(*NUMBERS)
    assert not half.cached and half.seconds == pytest.approx(15 + 20)
    assert half.sweeps == pytest.approx((20, 0))
    assert "nothing will be trained" not in forecast.told([half, every], "smoke")


def test_other_code_makes_the_record_an_upper_bound(monkeypatch):
    record()
    trained("a", "b", "c", "d")
    monkeypatch.setattr(forecast, "_code", lambda problem: "0" * 64)
    found = forecast.forecast(*NUMBERS)
    assert not found.cached and found.seconds == pytest.approx(15 + 40 + 20)
    assert "other code" in found.basis


def test_of_several_records_by_other_code_the_longest_with_seconds_counts(monkeypatch):
    for code, seconds in (("f", 30.0), ("0", 40.0), ("9", None)):
        monkeypatch.setattr(forecast, "_code", lambda problem, code=code: code * 64)
        place = record()
        kept = json.loads(place.read_text(encoding="utf-8"))
        kept["sweeps"][0]["seconds"] = seconds
        place.write_text(json.dumps(kept), encoding="utf-8")
    monkeypatch.setattr(forecast, "_code", lambda problem: "1" * 64)
    assert forecast.forecast(*NUMBERS).seconds == pytest.approx(15 + 40 + 20)


def test_a_run_from_the_cache_does_not_forget_how_long_training_took():
    record()
    seen = [Sweep("one", ["a", "b"], 0, 1.0, 1.0), Sweep("two", ["c", "d"], 0, 1.0, 1.0)]
    kept = json.loads(forecast.write_record(*NUMBERS, seen, 12.0).read_text(encoding="utf-8"))
    assert kept["rest"] == 12 and [sweep["seconds"] for sweep in kept["sweeps"]] == [40, 20]


def test_the_journal_is_read_while_it_is_written(tmp_path):
    journal = tmp_path / "journal"
    assert forecast.read_journal(journal) == []
    lines = [
        {"title": "one", "keys": ["a", "b"], "computed": 2, "before": 0.0},
        {"done": 0.5, "seconds": 3.0},
        {"title": "two", "keys": ["c"], "computed": 0, "before": 1.0},
    ]
    text = "\n".join(map(json.dumps, lines)) + '\n{"title": "thr'
    journal.write_text(text)
    one, two = forecast.read_journal(journal)
    assert (one.done, one.seconds, one.computed) == (0.5, 3.0, 2)
    assert two.done == 1.0


def test_progress_goes_by_the_seconds_of_each_sweep_and_never_backwards():
    ahead = Forecast("problem2", 75.0, "", sweeps=(40.0, 20.0))
    one = Sweep("one", ["a", "b"], 2, 0.0)
    two = Sweep("two", ["c", "d"], 1, 0.5, 0.5)
    moments = [
        ([], 5.0), ([one], 5.0), ([one._replace(done=0.5, seconds=30.0)], 35.0),
        ([one._replace(done=1.0, seconds=60.0), two], 66.0),
        ([one._replace(done=1.0, seconds=60.0), two._replace(done=1.0, seconds=9.0)], 90.0),
    ]  # fmt: skip
    found = [forecast.done(ahead, seen, seconds) for seen, seconds in moments]
    assert found == pytest.approx([5, 5, 25, 46, 75])


def test_where_only_a_total_is_foreseen_the_bar_waits_before_its_end():
    ahead = Forecast("problem2", 100.0, "a guess")
    assert forecast.done(ahead, [], 30.0) == 30
    assert forecast.done(ahead, [], 500.0) == 95


def test_a_run_is_followed_from_notebook_to_notebook(monkeypatch, capsys):
    """Without a terminal: a line for each notebook instead of a bar."""
    kept = []
    monkeypatch.setattr(forecast, "write_record", lambda *given: kept.append(given[4]))
    plan = [Forecast("problem1", 60.0, "a guess"), Forecast("problem2", 120.0, "a guess")]
    line = json.dumps({"title": "one", "keys": ["a", "b", "c"], "computed": 1, "before": 0.5})
    with forecast.Progress(plan, *NUMBERS[1:]) as progress:
        progress.bar.disable = True
        with progress.following("problem1"):
            Path(os.environ[sweeps.JOURNAL]).write_text(f"{line}\n")
        assert progress.sentence == "1 results were computed; 2 came from the cache."
        assert [sweep.title for sweep in kept[0]] == ["one"]
        with pytest.raises(KeyboardInterrupt), progress.following("problem2"):
            raise KeyboardInterrupt
    assert len(kept) == 1, "what was interrupted leaves no record"
    assert capsys.readouterr().out == "problem1 is done, about 2 minutes left\n"
    assert sweeps.JOURNAL not in os.environ
