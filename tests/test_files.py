"""Files that are whole or absent, and results as JSON and tables whatever they hold."""

import json
import os
import re
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hw3utils import files
from hw3utils.text import markdown


def test_what_was_written_is_read_back(tmp_path):
    path = files.write_checked(tmp_path / "deep" / "file", b"weights")
    assert files.read_checked(path) == b"weights"


@pytest.mark.parametrize("damage", ["truncated", "altered", "empty"])
def test_damage_is_noticed(tmp_path, damage):
    path = files.write_checked(tmp_path / "file", b"weights" * 100)
    content = bytearray(path.read_bytes())
    if damage == "altered":
        content[-1] ^= 1
    path.write_bytes({"truncated": content[:-1], "altered": content, "empty": b""}[damage])
    with pytest.raises(files.CorruptFileError, match="truncated or altered"):
        files.read_checked(path)


def test_tensors_are_read_back_and_take_no_memory_to_be_written(tmp_path):
    """A checkpoint of 40 MB; `tracemalloc` sees what Python holds of it."""
    tensors = {"weights": torch.arange(10_000_000, dtype=torch.float32), "epoch": 3}
    tracemalloc.start()
    path = files.write_tensors(tmp_path / "checkpoint", tensors)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 5e6
    found = files.read_tensors(path)
    assert torch.equal(found["weights"], tensors["weights"]) and found["epoch"] == 3
    assert files.unpack_tensors(files.read_checked(path))["epoch"] == 3
    path.write_bytes(path.read_bytes()[:-1])
    assert files.read_tensors(path) is None


def test_a_failed_write_keeps_the_old_file_and_leaves_no_litter(tmp_path, monkeypatch):
    path = files.write_atomically(tmp_path / "file", b"old")

    def disk_full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(OSError, match="No space left"):
        files.write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text(), json_values, max_size=3))
def test_whatever_results_hold_the_json_is_valid(tmp_path, found):
    def strict(constant):
        raise AssertionError(f"{constant} is not JSON")

    path = files.save_json(found, tmp_path / "r.json")
    read = json.loads(path.read_text(encoding="utf-8"), parse_constant=strict)
    assert set(read) == set(found)


@given(st.lists(st.text("ab|<*_`\\\n[]", max_size=5), min_size=1, max_size=3))
def test_a_table_has_as_many_cells_as_the_frame_whatever_they_hold(cells):
    frame = pd.DataFrame([cells], columns=[f"c{index}" for index in range(len(cells))])
    head, rule, row = markdown(frame).split("\n")
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in (head, rule, row)} == {len(cells) + 1}


def test_numpy_numbers_are_plain_numbers_in_results(tmp_path):
    path = files.save_json({"a": np.float64("nan"), "b": np.arange(2)}, tmp_path / "r.json")
    assert path.read_text(encoding="utf-8").split() == ["{", '"a":', "null,", '"b":', "[", "0,",
                                                        "1", "]", "}"]  # fmt: skip
