"""Last layers on features: against plain loops, where they diverge, and what is kept on disk."""

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hw3utils.data.images import stratified_order
from hw3utils.problem3 import last_layer
from hw3utils.problem3.last_layer import HeadRun, fit_all_heads, fit_heads
from hw3utils.training import workers
from hw3utils.training.linear import optimal_head
from hw3utils.training.schedules import Steps, learning_rates


@pytest.fixture(scope="module")
def given():
    """Two views of 100 points round four centres, 50 points to validate on, and their labels."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 4, (150,), generator=generator)
    centres = torch.randn(4, 12, generator=generator)
    x = centres[labels] + 1.5 * torch.randn(2, 150, 12, generator=generator)
    return x[:, :100], labels[:100], x[0, 100:], labels[100:], 4


def plain_loop(run, lr, x, labels, validation, validation_labels, num_classes):
    """Train one last layer with torch's own SGD and schedule: each epoch's scores and weights."""
    n = run.images or len(labels)
    drawn = torch.arange(len(labels))
    if run.images:
        drawn = stratified_order(labels, torch.Generator().manual_seed(run.seed))[:n]
    head = last_layer.initial_head(x.shape[2], num_classes, run.seed)
    optimizer = torch.optim.SGD(
        head.parameters(), lr=lr, momentum=run.momentum, weight_decay=run.weight_decay
    )
    rates = iter(learning_rates(Steps(lr), run.epochs * math.ceil(n / run.batch_size)))
    order = torch.Generator().manual_seed(run.seed)
    scores, states = [], []
    for _ in range(run.epochs):
        shuffled = drawn[torch.randperm(n, generator=order)]
        view = torch.randint(len(x), (len(labels),), generator=order)
        total = 0.0
        for batch in shuffled.split(run.batch_size):
            optimizer.param_groups[0]["lr"] = next(rates)
            optimizer.zero_grad()
            loss = F.cross_entropy(head(x[view[batch], batch]), labels[batch])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        with torch.no_grad():
            logits = head(validation)
        hits = (logits.argmax(1) == validation_labels).double().mean().item()
        scores.append((total / n, F.cross_entropy(logits, validation_labels).item(), hits))
        states.append(copy.deepcopy(head.state_dict()))
    return np.array(scores), states


class TestAgainstAPlainLoop:
    @pytest.mark.parametrize(
        "run",
        [
            HeadRun((0.5, 0.01), epochs=4),
            HeadRun((0.5, 0.01), seed=3, epochs=5, batch_size=30, weight_decay=0.01),
            HeadRun((0.5, 0.01), seed=3, epochs=5, batch_size=16, images=50),
            HeadRun((2.0,), seed=1, epochs=7, batch_size=7, momentum=0.5, images=99),
            HeadRun((0.5,), epochs=3, batch_size=100),
        ],
        ids=["all images", "ragged batches", "half the images", "all but one", "two drops at once"],
    )
    def test_the_stack_equals_the_plain_loop(self, given, run):
        """In each epoch's scores, the last weights, and those of the first best epoch."""
        for result in fit_heads(run, *given):
            scores, states = plain_loop(run, result.lr, *given)
            columns = ["train_loss", "validation_loss", "validation_accuracy"]
            np.testing.assert_allclose(result.history[columns], scores, rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(result.final._asdict(), states[-1], rtol=1e-4, atol=1e-5)
            best = states[int(np.argmax(scores[:, 2]))]
            torch.testing.assert_close(result.best._asdict(), best, rtol=1e-4, atol=1e-5)
            assert result.seed == run.seed and not result.diverged

    def test_the_best_epoch_need_not_be_the_last(self, given):
        """Otherwise the test above could not tell the two apart."""
        [result] = fit_heads(HeadRun((2.0,), seed=0, epochs=4, batch_size=10), *given)
        accuracy = result.history["validation_accuracy"]
        assert accuracy.max() > accuracy.iloc[-1]
        hits = (result.best.logits(given[2]).argmax(1) == given[3]).double().mean()
        assert float(hits) == pytest.approx(accuracy.max())

    def test_no_other_images_than_those_drawn_are_seen(self, given):
        x, labels, *rest = given
        run = HeadRun((0.1,), seed=2, epochs=3, batch_size=16, images=40)
        drawn = stratified_order(labels, torch.Generator().manual_seed(2))[:40]
        spoiled = torch.full_like(x, 1e6)
        spoiled[:, drawn] = x[:, drawn]
        [expected], [found] = fit_heads(run, *given), fit_heads(run, spoiled, labels, *rest)
        assert torch.equal(found.final.weight, expected.final.weight)

    def test_logits_are_those_of_a_linear_layer(self, given):
        [result] = fit_heads(HeadRun((0.1,), epochs=1), *given)
        plain = nn.Linear(12, 4)
        plain.load_state_dict(result.final._asdict())
        assert torch.equal(result.final.logits(given[2]), plain(given[2]))


class TestDivergence:
    @pytest.mark.parametrize(("epochs", "batch_size", "lr"), [(4, 64, 1e30), (1, 100, 3e38)])
    def test_a_head_that_diverged_is_marked_and_its_best_weights_are_finite(
        self, given, epochs, batch_size, lr
    ):
        """Within its first epoch, or by the very last update, which no training loss sees."""
        run = HeadRun((lr, 0.01), epochs=epochs, batch_size=batch_size)
        dead, alive = fit_heads(run, *given)
        assert dead.diverged and not alive.diverged
        assert dead.history.drop(columns="epoch").isna().all(axis=None)
        assert torch.equal(dead.best.weight, last_layer.initial_head(12, 4, 0).weight)
        assert alive.history.notna().all(axis=None)

    def test_no_sgd_head_has_a_lower_loss_than_the_optimum(self, given):
        x, labels, *_ = given
        optimum = optimal_head(*given, strengths=(1e-3,))

        def objective(weight, bias):
            logits = x.flatten(0, 1) @ weight.T + bias
            loss = F.cross_entropy(logits, labels.repeat(2))
            return float(loss + 1e-3 / 2 * weight.square().sum())

        for result in fit_heads(HeadRun((0.3, 0.03), epochs=50, weight_decay=1e-3), *given):
            assert objective(optimum.weight, optimum.bias) <= objective(*result.final)


class TestRefusals:
    @pytest.mark.parametrize("rates", [(), (0.1, 0.1), (0.0,), (-1.0,), (math.nan,)])
    def test_a_list_of_rates_that_makes_no_sense_is_refused(self, rates):
        with pytest.raises(ValueError):
            HeadRun(rates)

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"images": 101}, "101 training images asked for; there are 100"),
            ({"images": 63}, "batch size 64 is larger than the 63 training images"),
            ({"batch_size": 101}, "batch size 101 is larger than the 100 training images"),
        ],
    )
    def test_what_does_not_fit_the_features_is_refused(self, given, changes, words):
        with pytest.raises(ValueError, match=words):
            fit_heads(HeadRun((0.1,), **changes), *given)

    @pytest.mark.parametrize(
        "changes", [{"images": 0}, {"images": 1.5}, {"epochs": 0}, {"seed": -1}]
    )
    def test_what_makes_no_sense_is_refused_when_it_is_described(self, changes):
        with pytest.raises(ValueError):
            HeadRun((0.1,), **changes)


class TestCache:
    RUN = HeadRun((0.5, 0.01), seed=1, epochs=3, batch_size=16)

    @pytest.fixture(autouse=True)
    def one_process(self, monkeypatch):
        monkeypatch.setenv("HW3_JOBS", "1")

    def test_all_heads_are_those_of_one_call_each_under_their_names(self, given, tmp_path):
        half = dataclasses.replace(self.RUN, images=50)
        wanted = {("half", 1): half, "all": self.RUN, "all again": self.RUN}
        found = fit_all_heads(wanted, *given, cache_dir=tmp_path)
        assert list(found) == list(wanted) and len(list(tmp_path.glob("*.pt"))) == 2
        for name, run in wanted.items():
            for one, other in zip(found[name], fit_heads(run, *given), strict=True):
                assert (one.lr, one.seed, one.diverged) == (other.lr, other.seed, other.diverged)
                assert one.history.equals(other.history)
                for field in ("best", "final"):
                    for tensor, expected in zip(
                        getattr(one, field), getattr(other, field), strict=True
                    ):
                        assert torch.equal(tensor, expected)

    def test_a_second_call_trains_nothing(self, given, tmp_path, monkeypatch):
        wanted = {seed: dataclasses.replace(self.RUN, seed=seed) for seed in range(2)}
        first = fit_all_heads(wanted, *given, cache_dir=tmp_path)

        def refuse(*arguments):
            raise AssertionError("trained again")

        monkeypatch.setattr(workers, "results", refuse)
        again = fit_all_heads(wanted, *given, cache_dir=tmp_path)
        for seed in range(2):
            for one, other in zip(first[seed], again[seed], strict=True):
                assert torch.equal(one.final.weight, other.final.weight)
                assert one.history.equals(other.history)
        with pytest.raises(AssertionError, match="trained again"):
            fit_all_heads(wanted | {2: self.RUN, 3: HeadRun((0.1,))}, *given, cache_dir=tmp_path)

    @pytest.mark.parametrize("changed", range(4))
    def test_other_features_or_labels_are_another_result(self, given, tmp_path, changed):
        fit_all_heads({0: self.RUN}, *given, cache_dir=tmp_path)
        other = list(given)
        other[changed] = other[changed].flip(-1 if changed in (0, 2) else 0)
        fit_all_heads({0: self.RUN}, *other, cache_dir=tmp_path)
        assert len(list(tmp_path.glob("*.pt"))) == 2
