"""Finetuning all layers: from where, on which images, how it is scored, and what a kill costs."""

import math
import signal
import subprocess
import sys
import textwrap
import time

import pytest
import torch

from hw3utils import files
from hw3utils.data.images import FlipAndCrop, ResizedScale, Splits, stratified_order, take
from hw3utils.problem3 import finetuning, resnet
from hw3utils.problem3.finetuning import Finetuning, finetune_all
from hw3utils.training.runs import Run
from hw3utils.training.schedules import Steps, learning_rates
from made_up import make_images

SCALE = ResizedScale((0.5,) * 3, (0.5,) * 3, 32)
COLOURS = make_images(80, shape=(3, 32, 32))
PARTS = Splits(*(COLOURS.subset(part) for part in torch.arange(80).split([48, 16, 16])))
HEAD = tuple(
    torch.randn(size, generator=torch.Generator().manual_seed(0)) / 50 for size in ((10, 2048), 10)
)


def run(**changes):
    standard = {"model": "resnet50", "schedule": Steps(1e-4), "epochs": 2, "batch_size": 16}
    return Run(**standard | changes)


def wished(images=32, **changes):
    return Finetuning(run(), images, resnet.RANDOM, "", augment=FlipAndCrop(2), **changes)


def accuracy(logits, labels):
    return float((logits.argmax(1) == labels).double().mean())


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def found(cache):
    """A plain run, and one that starts from a given last layer and keeps the statistics."""
    wanted = {
        "plain": wished(),
        "frozen": wished(head=HEAD, head_factor=10.0, frozen_statistics=True),
    }
    return finetune_all(wanted, PARTS, SCALE, n_jobs=1, cache_dir=cache)


class TestScores:
    @pytest.mark.parametrize("name", ["plain", "frozen"])
    def test_a_finetuned_network_is_scored_at_its_best_epoch(self, found, name):
        result = found[name]
        scores = result.history["validation_accuracy"]
        assert result.best_epoch == int(scores.idxmax()) + 1 and scores.notna().all()
        best = accuracy(result.validation_logits, PARTS.validation.labels)
        assert best == pytest.approx(scores.max())
        assert result.test_logits.shape == result.final_test_logits.shape == (16, 10)
        same = torch.equal(result.test_logits, result.final_test_logits)
        assert same is (result.best_epoch == len(result.history))

    def test_a_second_call_reads_what_was_kept_and_no_checkpoint_stays(self, found, cache):
        kept = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
        assert len(kept) == 2 and all(path.suffix == ".pt" for path in kept)
        again = finetune_all({1: wished()}, PARTS, SCALE, n_jobs=1, cache_dir=cache)
        assert torch.equal(again[1].test_logits, found["plain"].test_logits)
        assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == kept

    def test_the_start_is_the_given_last_layer_on_the_untouched_network(self, found):
        model = resnet.build(resnet.RANDOM, 10, seed=0)
        _, seen = resnet.logits_and_features(model, PARTS.validation, SCALE)
        logits = seen @ HEAD[0].T + HEAD[1]
        expected = accuracy(logits, PARTS.validation.labels)
        assert found["frozen"].start_accuracy == pytest.approx(expected)

    def test_frozen_statistics_do_not_move_and_others_do(self, found):
        assert found["frozen"].moved["running_var"] == 0 < found["frozen"].moved["weights"]
        assert found["plain"].moved["running_var"] > 0.1
        assert found["plain"].moved["weights"] > 0

    @pytest.mark.parametrize("best", [1, 2])
    def test_the_epoch_is_the_best_and_the_last_test_scores_are_those_of_the_end(
        self, tmp_path, monkeypatch, best
    ):
        """Told from the weights that each epoch left, whichever of the two was better."""
        fit, states = finetuning.loop.fit, []

        def chosen(model, wanted, *given, **options):
            result = fit(model, Run(**vars(wanted) | {"keep_states": True}), *given, **options)
            result.history["validation_accuracy"] = [0.1, 0.2] if best == 2 else [0.2, 0.1]
            result.best_state.update(result.states[best - 1])
            states.extend(result.states)
            return result

        monkeypatch.setattr(finetuning.loop, "fit", chosen)
        tensors = [tensor for part in PARTS for tensor in (part.images, part.labels)]
        place = tmp_path / "a.checkpoint"
        kept = finetuning._finetune(wished(), COLOURS.class_names, SCALE, place, *tensors)
        model = resnet.build(resnet.RANDOM, 10, seed=0)
        for name, state in (("test_logits", states[best - 1]), ("final_test_logits", states[1])):
            model.load_state_dict(state)
            expected, _ = resnet.logits_and_features(model, PARTS.test, SCALE)
            assert torch.equal(kept[name], expected), name
        assert kept["best_epoch"] == best

    def test_a_last_update_that_was_too_large_is_marked(self, tmp_path, monkeypatch):
        """Its loss is first seen on validation images: training ended before."""
        fit = finetuning.loop.fit

        def too_large(*given, **options):
            result = fit(*given, **options)
            result.history.loc[0, "validation_loss"] = math.nan
            return result

        monkeypatch.setattr(finetuning.loop, "fit", too_large)
        short = Finetuning(run(epochs=1), 16, resnet.RANDOM, "")
        tensors = (COLOURS.images[:16], COLOURS.labels[:16]) * 3
        place = tmp_path / "a.checkpoint"
        assert finetuning._finetune(short, COLOURS.class_names, SCALE, place, *tensors)["diverged"]


class TestImages:
    @pytest.mark.parametrize("seed", [0, 3])
    def test_the_seed_draws_the_training_images_and_fewer_are_a_part_of_more(
        self, tmp_path, monkeypatch, seed
    ):
        seen = []

        class Stop(Exception):
            pass

        def fit(model, run, train, *rest, **options):
            seen.append(train)
            raise Stop

        monkeypatch.setattr(finetuning.loop, "fit", fit)
        for n in (16, 32):
            tensors = [tensor for part in PARTS for tensor in (part.images, part.labels)]
            asked = Finetuning(run(seed=seed), n, resnet.RANDOM, "")
            place = tmp_path / "a.checkpoint"
            with pytest.raises(Stop):
                finetuning._finetune(asked, COLOURS.class_names, SCALE, place, *tensors)
        order = stratified_order(PARTS.train.labels, torch.Generator().manual_seed(seed))
        few, more = seen
        assert torch.equal(more.images, PARTS.train.images[order[:32]])
        assert torch.equal(few.images, more.images[:16])

    @pytest.mark.parametrize(("n", "size"), [(65, 64), (10, 64), (20, 1)])
    def test_batches_on_which_batchnorm_cannot_train_are_refused(self, n, size):
        asked = Finetuning(run(batch_size=size), n, resnet.RANDOM, "")
        with pytest.raises(ValueError, match="batch"):
            finetuning.check_finetuning(asked, available=100)

    def test_more_images_than_there_are_are_refused_before_any_is_trained(self, tmp_path):
        wanted = {1: wished(), 2: wished(images=64)}
        with pytest.raises(ValueError, match="64 training images asked for; there are 48"):
            finetune_all(wanted, PARTS, SCALE, n_jobs=1, cache_dir=tmp_path)
        assert not list(tmp_path.iterdir())

    def test_the_work_of_a_run_grows_with_images_and_epochs_also_those_looked_at(self):
        def work(images=32, epochs=2, parts=PARTS):
            asked = Finetuning(run(epochs=epochs), images, resnet.RANDOM, "")
            return finetuning.images_seen(asked, parts)

        fewer = PARTS._replace(test=take(PARTS.test, 8))
        assert work() > work(epochs=1) > 32 and work() > work(images=16)
        assert work() > work(parts=fewer)


def test_the_schedule_drops_exactly_three_times():
    for lr in (0.001, 0.01, 0.1):
        rates = learning_rates(Steps(lr, factor=0.1, at=(0.25, 0.5, 0.75)), 60)
        assert [i for i in range(1, 60) if rates[i] != rates[i - 1]] == [15, 30, 45]
        assert rates[-1] == pytest.approx(lr / 1000)


def killed_later():
    """Three epochs from a given last layer, with all that a checkpoint must bring back."""
    return Finetuning(
        run(epochs=3), 16, resnet.RANDOM, "", head=HEAD, head_factor=10.0, augment=FlipAndCrop(2)
    )


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_run_killed_after_an_epoch_goes_on_and_ends_with_the_same_bits(tmp_path):
    program = textwrap.dedent(f"""
        import torch
        torch.set_num_threads(1)
        from test_finetuning import PARTS, SCALE, finetune_all, killed_later
        finetune_all({{1: killed_later()}}, PARTS, SCALE, n_jobs=1,
                     cache_dir={str(tmp_path / "a")!r})
    """)
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("a/*.checkpoint")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list(tmp_path.glob("a/*.pt")), "the kill came too late"
    [checkpoint] = tmp_path.glob("a/*.checkpoint")
    saved = files.read_tensors(checkpoint)["records"]["rows"]
    assert 1 <= len(saved) < 3

    resumed, quiet = (
        finetune_all({1: killed_later()}, PARTS, SCALE, n_jobs=1, cache_dir=tmp_path / name)[1]
        for name in ("a", "b")
    )
    assert resumed.history["seconds"][0] == saved[0]["seconds"], "the first epoch was trained again"
    scores = resumed.history.columns.drop("seconds")
    assert resumed.history[scores].equals(quiet.history[scores])
    assert resumed.history.notna().all(axis=None)
    assert repr(resumed.moved) == repr(quiet.moved), "repr: NaN equals itself"
    assert resumed.start_accuracy == quiet.start_accuracy
    for name in ("validation_logits", "test_logits", "final_test_logits", "validation_features"):
        assert torch.equal(getattr(resumed, name), getattr(quiet, name)), name


def test_a_checkpoint_is_removed_as_soon_as_its_run_is_kept(tmp_path, monkeypatch):
    """Those of a whole night would fill gigabytes."""
    write, seen = files.write_checked, []

    def watched(place, content):
        seen.append(len(list(tmp_path.glob("*.checkpoint"))))
        return write(place, content)

    monkeypatch.setattr(files, "write_checked", watched)
    wanted = {seed: Finetuning(run(seed=seed), 16, resnet.RANDOM, "") for seed in (0, 1)}
    finetune_all(wanted, PARTS, SCALE, n_jobs=1, cache_dir=tmp_path)
    assert max(seen) == 1 and not list(tmp_path.glob("*.checkpoint"))
