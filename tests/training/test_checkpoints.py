"""A run that is killed and started again ends as if nothing had happened."""

import dataclasses
import signal
import subprocess
import sys
import textwrap
import time

import pytest
import torch

from hw3utils.data.images import ImageSet, Scale
from hw3utils.training import loop, networks
from hw3utils.training.batches import accumulate_within_memory
from hw3utils.training.runs import Run
from hw3utils.training.schedules import (
    Constant,
    OneCycle,
    Steps,
)
from made_up import SCHEDULES

SCALE = Scale((0.5,), (0.5,))


def noise(n, seed):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (n, 1, 28, 28), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 3, (n,), generator=generator)
    return ImageSet(images, labels, ("a", "b", "c"))


def mirror_some(images, generator):
    flipped = torch.rand(len(images), generator=generator) < 0.5
    pixels = torch.where(flipped.view(-1, 1, 1, 1), images.images.flip(3), images.images)
    return ImageSet(pixels, images.labels, images.class_names)


class Interruption(Exception):
    pass


def fit(run, checkpoint, augment=mirror_some, **options):
    model = networks.build("lenet5", 3, run.seed)
    return loop.fit(
        model, run, noise(70, 1), noise(20, 2), SCALE,
        augment=augment, checkpoint=checkpoint, **options,
    )  # fmt: skip


def assert_same(first, second):
    for name in first.state:
        assert torch.equal(first.state[name], second.state[name]), name
        assert torch.equal(first.best_state[name], second.best_state[name]), name
    assert len(first.states) == len(second.states)
    for one, other in zip(first.states, second.states, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)
    columns = [column for column in first.history if column != "seconds"]
    assert first.history[columns].equals(second.history[columns])
    assert torch.equal(first.learning_rates, second.learning_rates)


@pytest.mark.parametrize(
    "schedule",
    [*SCHEDULES, OneCycle(0.05, cycle_momentum=True)],
    ids=lambda schedule: type(schedule).__name__,
)
def test_interrupted_run_ends_like_the_uninterrupted_one(schedule, tmp_path, monkeypatch):
    run = Run("lenet5", schedule, epochs=4, batch_size=32, weight_decay=5e-4, keep_states=True)
    whole = fit(run, None)
    assert len(whole.states) == 4
    save = loop.save_checkpoint

    def save_then_stop(path, description, live, records):
        save(path, description, live, records)
        if len(records.rows) == 2:
            raise Interruption

    monkeypatch.setattr(loop, "save_checkpoint", save_then_stop)
    with pytest.raises(Interruption):
        fit(run, tmp_path / "run.pt")
    monkeypatch.setattr(loop, "save_checkpoint", save)
    assert_same(whole, fit(run, tmp_path / "run.pt"))


def test_an_interrupted_run_with_rate_factors_ends_like_the_uninterrupted_one(
    tmp_path, monkeypatch
):
    """The velocities of each group of parameters come back to it."""
    run = Run("lenet5", Steps(0.01), epochs=3, batch_size=32)
    factors = {"classifier.": 5.0}
    whole = fit(run, None, rate_factors=factors)
    save = loop.save_checkpoint

    def save_then_stop(*given):
        save(*given)
        raise Interruption

    with monkeypatch.context() as patched, pytest.raises(Interruption):
        patched.setattr(loop, "save_checkpoint", save_then_stop)
        fit(run, tmp_path / "run.pt", rate_factors=factors)
    assert_same(whole, fit(run, tmp_path / "run.pt", rate_factors=factors))


def test_finished_run_is_read_not_repeated(tmp_path):
    run = Run("lenet5", Constant(0.05), epochs=2, batch_size=32)
    first = fit(run, tmp_path / "run.pt")
    second = fit(run, tmp_path / "run.pt")
    assert_same(first, second)
    assert first.seconds == second.seconds, "the second call trained again"


def test_checkpoint_of_another_run_is_refused(tmp_path):
    fit(Run("lenet5", Constant(0.05), epochs=1, batch_size=32), tmp_path / "run.pt")
    with pytest.raises(ValueError, match="checkpoint of another run"):
        fit(Run("lenet5", Constant(0.01), epochs=1, batch_size=32), tmp_path / "run.pt")


def test_a_checkpoint_of_other_rate_factors_is_refused(tmp_path):
    run = Run("lenet5", Constant(0.05), epochs=1, batch_size=32)
    fit(run, tmp_path / "run.pt", rate_factors={"classifier.": 2.0})
    with pytest.raises(ValueError, match="checkpoint of another run"):
        fit(run, tmp_path / "run.pt", rate_factors={"classifier.": 3.0})


def test_a_checkpoint_without_the_weights_of_each_epoch_is_refused_where_they_are_wanted(tmp_path):
    run = Run("lenet5", Constant(0.05), epochs=1, batch_size=32)
    fit(run, tmp_path / "run.pt")
    with pytest.raises(ValueError, match="checkpoint of another run"):
        fit(dataclasses.replace(run, keep_states=True), tmp_path / "run.pt")


def test_damaged_checkpoint_only_costs_time(tmp_path):
    run = Run("lenet5", Constant(0.05), epochs=2, batch_size=32)
    first = fit(run, tmp_path / "run.pt")
    content = (tmp_path / "run.pt").read_bytes()
    (tmp_path / "run.pt").write_bytes(content[: len(content) // 2])
    assert_same(first, fit(run, tmp_path / "run.pt"))


def thirty_epochs():
    return Run("lenet5", Constant(0.05), epochs=30, batch_size=32, keep_states=True)


KILLED = """
    import sys, time, torch
    torch.set_num_threads(1)
    from pathlib import Path
    from test_checkpoints import fit, loop, thirty_epochs
    save = loop.save_checkpoint
    def slow(*args, **kwargs):
        save(*args, **kwargs)
        print("saved", flush=True)
        time.sleep(0.3)
    loop.save_checkpoint = slow
    fit(thirty_epochs(), Path({file!r}))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_killed_process_resumes(tmp_path):
    file = tmp_path / "run.pt"
    code = textwrap.dedent(KILLED).format(file=str(file))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "saved\n"
    process.stdout.readline()
    time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert_same(fit(thirty_epochs(), None), fit(thirty_epochs(), file))


class SmallMemory(torch.nn.Module):
    """Stands for a GPU on which at most ``limit`` images fit."""

    def __init__(self, limit):
        super().__init__()
        self.limit, self.inner = limit, networks.build("lenet5", 3, 0)

    def forward(self, images):
        if len(images) > self.limit:
            raise torch.OutOfMemoryError("out of memory")
        return self.inner(images)


def test_micro_batch_halves_until_it_fits_and_the_gradient_stays():
    images, batch = noise(40, 3), torch.arange(37)
    small, large = SmallMemory(5), SmallMemory(100)
    with pytest.warns(UserWarning, match="the batch of 37 stays"):
        totals, used = accumulate_within_memory(small, images, batch, SCALE)
    assert used == 5
    expected, unchanged = accumulate_within_memory(large, images, batch, SCALE)
    assert unchanged is None
    torch.testing.assert_close(totals, expected)
    for one, other in zip(small.parameters(), large.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_one_image_that_does_not_fit_is_an_error():
    with pytest.warns(UserWarning), pytest.raises(torch.OutOfMemoryError):
        accumulate_within_memory(SmallMemory(0), noise(8, 3), torch.arange(8), SCALE)
