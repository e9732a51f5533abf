"""The Visual Decathlon's archives, as somebody may put them there by hand."""

import io
import tarfile

import pytest

from hw3utils.data.downloads import SourcesExhaustedError
from hw3utils.data.image_folders import load_decathlon


def test_an_archive_of_something_else_is_named_and_nothing_of_it_stays(tmp_path):
    folder = tmp_path / "decathlon"
    folder.mkdir()
    with tarfile.open(folder / "dtd.tar", "w") as tar:
        member = tarfile.TarInfo("notes/readme.txt")
        member.size = 5
        tar.addfile(member, io.BytesIO(b"hello"))
    with pytest.raises(SourcesExhaustedError, match="dtd.tar holds no folder named train"):
        load_decathlon("dtd", 32, tmp_path)
    assert [path.name for path in folder.iterdir()] == ["dtd.tar"]
