"""Fetching, with made-up artefacts: order, checksums, damage, kills. One test on the real files."""

import dataclasses
import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest
import torch
from torchvision.datasets import FashionMNIST

from hw3utils import paths
from hw3utils.data import artefacts, datasets, downloads
from hw3utils.text import without_digests

CONTENT = b"real bytes" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def artefact(*suppliers):
    numbered = [downloads.Source(f"source {n}", supply) for n, supply in enumerate(suppliers, 1)]
    return downloads.Artefact("Toy data", "toy", {"file": DIGEST}, tuple(numbered))


def good(folder):
    (folder / "file").write_bytes(CONTENT)


def web_page(folder):
    (folder / "file").write_bytes(b"<html>please log in</html>")


def half(folder):
    (folder / "file").write_bytes(CONTENT[: len(CONTENT) // 2])


def refused(folder):
    raise ConnectionRefusedError("connection refused")


def test_the_first_source_with_the_right_checksum_wins(tmp_path):
    asked = []

    def never(folder):
        asked.append(folder)

    folder = downloads.fetch(artefact(refused, web_page, half, good, never), tmp_path)
    assert (folder / "file").read_bytes() == CONTENT
    assert asked == []
    assert [path.name for path in folder.iterdir()] == ["file"], "scratch folders stay behind"


def test_what_is_there_is_verified_and_nothing_is_asked(tmp_path):
    folder = downloads.fetch(artefact(good), tmp_path)
    assert downloads.fetch(artefact(refused), tmp_path) == folder


@pytest.mark.parametrize("damage", [CONTENT[:-1], b"x" + CONTENT[1:], b""])
def test_a_truncated_or_altered_file_is_fetched_again(tmp_path, damage):
    folder = downloads.fetch(artefact(good), tmp_path)
    (folder / "file").write_bytes(damage)
    downloads.fetch(artefact(good), tmp_path)
    assert (folder / "file").read_bytes() == CONTENT


def test_when_all_fail_the_error_lists_every_source_and_the_folder(tmp_path):
    with pytest.raises(downloads.SourcesExhaustedError) as error:
        downloads.fetch(artefact(refused, web_page), tmp_path)
    message = str(error.value)
    assert "source 1: ConnectionRefusedError: connection refused" in message
    assert "source 2: ValueError: file wrong content" in message
    assert str(tmp_path / "toy") in message
    assert DIGEST in message


def test_of_torchvisions_reason_not_only_the_first_line_is_told(tmp_path, monkeypatch):
    def fails(root, download):
        raise RuntimeError(
            "Error downloading x.gz:\nTried https://a.example/, got:\nno route to host"
        )

    monkeypatch.setattr("torchvision.datasets.FashionMNIST", fails)
    asked = dataclasses.replace(
        artefacts.FASHION_MNIST, sources=artefacts.FASHION_MNIST.sources[:1]
    )
    with pytest.raises(downloads.SourcesExhaustedError) as error:
        downloads.fetch(asked, tmp_path)
    wanted = "RuntimeError: Error downloading x.gz: Tried https://a.example/, got: no route"
    assert wanted in str(error.value)


def test_a_long_list_of_digests_is_told_in_one_line_and_a_short_one_stays(tmp_path):
    for artefact, lines in ((artefacts.KERAS_RESNET50, 5), (artefacts.FASHION_MNIST, 7)):
        with pytest.raises(downloads.SourcesExhaustedError) as error:
            downloads.fetch(dataclasses.replace(artefact, sources=()), tmp_path)
        told = without_digests(f"No weights.\n{error.value}")
        assert len(told.splitlines()) <= lines + 1
        assert str(tmp_path / artefact.folder) in told
        assert ("SHA256SUMS" in told) == (len(artefact.files) > 4)
        assert all((name in told) for name in list(artefact.files)[:2])


def test_a_file_in_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "toy").write_bytes(b"")
    with pytest.raises(NotADirectoryError, match="toy is a file"):
        downloads.fetch(artefact(good), tmp_path)


def test_what_is_filled_comes_whole_or_not_at_all(tmp_path):
    with pytest.raises(ConnectionRefusedError), downloads.filling(tmp_path / "new") as scratch:
        good(scratch)
        refused(scratch)
    assert list((tmp_path / "new").iterdir()) == []


def test_what_is_filled_replaces_its_like_and_leaves_the_rest(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "kept").write_bytes(b"kept")
    half(tmp_path / "inner")
    with downloads.filling(tmp_path, ["inner"]) as scratch:
        (scratch / "inner").mkdir()
        good(scratch / "inner")
        web_page(scratch)  # beside what is named: it stays out
    assert {path.name for path in tmp_path.rglob("*")} == {"inner", "kept", "file"}
    assert (tmp_path / "inner" / "file").read_bytes() == CONTENT
    assert (tmp_path / "inner" / "kept").read_bytes() == b"kept"


def test_a_command_that_is_not_installed_says_so(tmp_path):
    with pytest.raises(RuntimeError, match="no-such-program is not installed"):
        downloads.run_command("no-such-program", cwd=tmp_path)


def test_a_command_that_fails_passes_its_last_words_on(tmp_path):
    with pytest.raises(RuntimeError, match="out of luck"):
        downloads.run_command(
            sys.executable, "-c", "import sys; sys.exit('out of luck')", cwd=tmp_path
        )


@pytest.mark.skipif(os.name == "nt", reason="kill -9 is a POSIX signal")
def test_a_kill_in_the_middle_of_a_download_leaves_nothing_wrong(tmp_path):
    program = textwrap.dedent(f"""
        import sys, time
        from pathlib import Path
        from hw3utils.data import downloads

        def slow(folder):
            (folder / "file").write_bytes({CONTENT!r}[:5000])
            Path({str(tmp_path / "started")!r}).touch()
            time.sleep(60)

        source = downloads.Source("slow", slow)
        toy = downloads.Artefact("Toy", "toy", {{"file": {DIGEST!r}}}, (source,))
        downloads.fetch(toy, Path({str(tmp_path)!r}))
    """)
    process = subprocess.Popen([sys.executable, "-c", program])
    deadline = time.monotonic() + 30
    while not (tmp_path / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert (tmp_path / "started").exists(), "nothing was killed in the middle of anything"
    assert not (tmp_path / "toy" / "file").exists()
    folder = downloads.fetch(artefact(good), tmp_path)
    assert (folder / "file").read_bytes() == CONTENT


def test_fashion_mnist_is_what_torchvision_reads():
    """The real files, read by torchvision's own class: it must accept them as they lie."""
    folder = downloads.fetch(artefacts.FASHION_MNIST, paths.data_dir())
    sizes = {name: (folder / name).stat().st_size for name in artefacts.FASHION_MNIST.files}
    assert sizes == {
        "train-images-idx3-ubyte": 16 + 60_000 * 784,
        "train-labels-idx1-ubyte": 8 + 60_000,
        "t10k-images-idx3-ubyte": 16 + 10_000 * 784,
        "t10k-labels-idx1-ubyte": 8 + 10_000,
    }
    official = FashionMNIST(str(paths.data_dir()), train=False, download=False)
    images, labels = official.data, official.targets
    ours = datasets.load_fashion_mnist(torch.Generator().manual_seed(0)).test
    assert torch.equal(ours.images.squeeze(1), images)
    assert torch.equal(ours.labels, labels)
    assert list(ours.class_names) == official.classes
