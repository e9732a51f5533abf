import os

import pytest

from hw3utils import files


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


def test_a_failed_write_keeps_the_old_file_and_leaves_no_litter(tmp_path, monkeypatch):
    path = files.write_atomically(tmp_path / "file", b"old")

    def disk_full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(OSError, match="No space left"):
        files.write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
