"""Files and words made to do harm: nothing of them is executed, or written elsewhere."""

import gzip
import io
import os
import pickle
import tarfile

import nbformat
import pytest
import torch
from torchvision.models import ResNet50_Weights

from hw3utils import __main__, files
from hw3utils.data import downloads
from hw3utils.data.downloads import unpack_tar
from hw3utils.data.image_folders import load_decathlon
from hw3utils.problem3 import resnet
from hw3utils.training import loop


class Trap:
    """Unpickled, it would make a folder."""

    def __init__(self, place):
        self.place = str(place)

    def __reduce__(self):
        return os.mkdir, (self.place,)


def archive(folder, *members):
    """Write a tar archive of (name, type, link target, claimed size), none with any content."""
    place = folder / "archive.tar"
    with tarfile.open(place, "w") as tar:
        for name, kind, target, size in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.size = kind, target, size
            tar.addfile(member, io.BytesIO(b"x" * min(size, 10)))
    return place


@pytest.mark.parametrize(
    "member",
    [
        ("../escaped", tarfile.REGTYPE, "", 3),
        ("a/../../escaped", tarfile.REGTYPE, "", 3),
        ("link", tarfile.SYMTYPE, "/etc/passwd", 0),
        ("link", tarfile.SYMTYPE, "../../escaped", 0),
        ("hard", tarfile.LNKTYPE, "../escaped", 0),
        ("device", tarfile.CHRTYPE, "", 0),
        ("pipe", tarfile.FIFOTYPE, "", 0),
    ],
)
def test_a_member_that_is_no_file_of_the_folder_is_refused(tmp_path, member):
    into = tmp_path / "into"
    into.mkdir()
    with pytest.raises(tarfile.TarError):
        unpack_tar(archive(tmp_path, ("good", tarfile.REGTYPE, "", 3), member), into)
    assert list(into.iterdir()) == [], "something was unpacked all the same"
    assert {path.name for path in tmp_path.iterdir()} == {"archive.tar", "into"}


def test_an_absolute_name_lands_inside(tmp_path):
    (tmp_path / "into").mkdir()
    unpack_tar(archive(tmp_path, ("/escaped", tarfile.REGTYPE, "", 3)), tmp_path / "into")
    assert [path.name for path in (tmp_path / "into").iterdir()] == ["escaped"]


def test_an_absurd_size_is_refused_before_anything_is_unpacked(tmp_path):
    place = tmp_path / "bomb.tar.gz"
    with tarfile.open(place, "w:gz") as tar:
        for number in range(4):
            member = tarfile.TarInfo(f"zeros{number}")
            member.size = 1_000_000
            tar.addfile(member, io.BytesIO(bytes(member.size)))
    assert place.stat().st_size < 10_000
    (tmp_path / "into").mkdir()
    with pytest.raises(tarfile.TarError, match="would take more than"):
        unpack_tar(place, tmp_path / "into", most_bytes=3_000_000)
    assert list((tmp_path / "into").iterdir()) == []
    unpack_tar(place, tmp_path / "into", most_bytes=4_000_000)


def test_a_gzip_bomb_is_stopped(tmp_path):
    (tmp_path / "zeros.gz").write_bytes(gzip.compress(bytes(50_000_000)))
    with pytest.raises(ValueError, match="unpacks to more than"):
        downloads.unpack_gzip(tmp_path, tmp_path, most_bytes=2_000_000)
    assert (tmp_path / "zeros").stat().st_size < 4_000_000


def test_a_source_that_supplies_a_link_is_not_believed(tmp_path):
    real = tmp_path / "elsewhere"
    real.write_bytes(b"content")
    artefact = downloads.Artefact(
        "Toy", "toy", {"file": files.file_sha256(real)},
        (downloads.Source("links", lambda folder: (folder / "file").symlink_to(real)),),
    )  # fmt: skip
    with pytest.raises(downloads.SourcesExhaustedError, match="links instead of files"):
        downloads.fetch(artefact, tmp_path)
    assert not (tmp_path / "toy" / "file").exists()


def test_the_decathlons_archive_by_hand_may_be_hostile_too(tmp_path):
    folder = tmp_path / "decathlon"
    folder.mkdir()
    archive(folder, ("../../escaped", tarfile.REGTYPE, "", 3)).rename(folder / "dtd.tar")
    with pytest.raises(tarfile.TarError):
        load_decathlon("dtd", 32, tmp_path)
    assert {path.name for path in tmp_path.rglob("*")} == {"decathlon", "dtd.tar"}


@pytest.mark.parametrize("how", ["pickle", "torch.save"])
def test_pickled_code_in_a_cache_entry_checkpoint_or_weights_is_not_run(tmp_path, monkeypatch, how):
    trap = tmp_path / "sprung"
    content = io.BytesIO()
    if how == "pickle":
        pickle.dump({"description": Trap(trap)}, content)
    else:
        torch.save({"description": Trap(trap)}, content)
    place = files.write_checked(tmp_path / "kept.pt", content.getvalue())  # with a right digest
    readers = [lambda: files.read_tensors(place), lambda: loop.load_checkpoint(place, "x")]

    file_name = ResNet50_Weights.IMAGENET1K_V2.url.rpartition("/")[2]
    weights = tmp_path / "weights" / file_name
    weights.parent.mkdir()
    weights.write_bytes(content.getvalue())
    monkeypatch.setattr(files, "file_sha256", lambda path: file_name[-12:-4])  # as if it matched
    readers.append(lambda: resnet.load_base("IMAGENET1K_V2", tmp_path))
    for read in readers:
        with pytest.raises(Exception, match="(?i)weights.only|unpickl|unsupported"):
            read()
    assert not trap.exists()


WORDS = (
    "__import__('os').mkdir('sprung')", "../../escaped", "$(touch sprung)", "`touch sprung`",
    "x; import os", "{{7*7}}", "' + open('sprung', 'w').name + '",
    "\\N{BULLET}", "C:\\sprung", "a\nb", "%run sprung",
)  # fmt: skip


def test_words_from_the_command_line_reach_the_notebook_as_words(tmp_path, monkeypatch):
    """A real notebook, run with all of them: each is shown as it was typed."""
    project = tmp_path / "project"
    names = [f"word{index}" for index in range(len(WORDS))]
    lines = [f"{name} = None  # any" for name in ("profile", *names)]
    parameters = nbformat.v4.new_code_cell("\n".join(lines))
    parameters.metadata["tags"] = ["parameters"]
    shown = nbformat.v4.new_code_cell(f"print(({', '.join(names)}))")
    notebook = nbformat.v4.new_notebook(cells=[parameters, shown])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    notebook.metadata.language_info = {"name": "python"}
    (project / "notebooks").mkdir(parents=True)
    nbformat.write(notebook, project / "notebooks" / "problem1.ipynb")
    monkeypatch.setenv("HW3_HOME", str(project))
    monkeypatch.setattr(__main__, "_fetch_fashion_mnist", lambda: None)
    monkeypatch.setattr(__main__, "_write_report", lambda output, code: [])
    monkeypatch.setattr(__main__.summary, "lines", lambda found: [])
    results = project / "output" / "smoke-changed" / "answers" / "results" / "problem1.json"
    results.parent.mkdir(parents=True)
    results.write_text('{"profile": "smoke"}', encoding="utf-8")
    monkeypatch.setenv("HW3_DATA", str(tmp_path / "data"))
    asked = [f"-p{name}={word}" for name, word in zip(names, WORDS, strict=True)]
    assert __main__.main(["run", "problem1", "--profile", "smoke", *asked]) == 0
    ran = nbformat.read(project / "output" / "smoke-changed" / "problem1.ipynb", as_version=4)
    assert ran.cells[-1].outputs[0]["text"] == f"{WORDS!r}\n"
    assert not {"sprung", "escaped"} & {path.name for path in tmp_path.rglob("*")}


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "../problem1"],
        ["run", "problem1; reboot"],
        ["run", "--profile", "../smoke"],
        ["run", "problem3", "-p", "../x=1"],
    ],
)
def test_names_that_look_like_paths_are_unknown_names(arguments, capsys):
    assert __main__.main(arguments) == 2
    assert capsys.readouterr().err.startswith("hw3utils: ")
