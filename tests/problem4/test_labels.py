"""Pseudo-labels against a plain full sort, label noise, long tails and resampling."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hw3utils.problem4.labels import (
    RESAMPLING_RULES,
    add_label_noise,
    add_pair_noise,
    draw_long_tail,
    resample,
    zipf_counts,
)
from hw3utils.problem4.pseudo_labels import select_top_k, select_top_k_from_chunks


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def rows(selected):
    return list(
        zip(
            selected.indices.tolist(),
            selected.labels.tolist(),
            selected.scores.tolist(),
            strict=True,
        )
    )


def by_full_sort(probabilities, k, p):
    """The definition, with plain Python sorts: ties go to the lower class, then the lower index."""
    table = probabilities.tolist()
    kept = [set(sorted(range(len(row)), key=lambda c, row=row: (-row[c], c))[:p]) for row in table]
    found = []
    for label in range(len(table[0])):
        images = [i for i in range(len(table)) if label in kept[i]]
        images.sort(key=lambda i, label=label: (-table[i][label], i))
        found += [(i, label, table[i][label]) for i in images[:k]]
    return found


@st.composite
def distributions(draw):
    """Rows that sum to one, made of few different values, so that ties abound."""
    n, classes = draw(st.integers(1, 40)), draw(st.integers(1, 6))
    weights = draw(
        st.lists(
            st.lists(st.integers(0, 3), min_size=classes, max_size=classes), min_size=n, max_size=n
        )
    )
    table = torch.tensor(weights, dtype=torch.float32)
    table[table.sum(dim=1) == 0] = 1.0
    return table / table.sum(dim=1, keepdim=True)


class TestSelection:
    @given(distributions(), st.integers(1, 50), st.data())
    @settings(max_examples=150)
    def test_equals_a_full_sort_ties_included_whatever_the_chunks(self, table, k, data):
        p = data.draw(st.integers(1, table.shape[1]))
        expected = by_full_sort(table, k, p)
        for chunk_size in (1, 7, 1_000):
            assert rows(select_top_k(table, k, p, chunk_size)) == expected

    def test_equals_a_full_sort_on_softmax_scores_of_a_thousand_images(self):
        table = (2 * torch.randn(1_000, 30, generator=generator())).softmax(dim=1)
        for k, p in ((5, 1), (20, 4), (400, 30)):
            assert rows(select_top_k(table, k, p, 64)) == by_full_sort(table, k, p)

    @given(distributions(), st.integers(1, 20), st.randoms(use_true_random=False))
    @settings(max_examples=50)
    def test_the_order_of_the_pool_matters_for_ties_alone(self, table, k, random):
        table = table + 1e-6 * torch.rand(table.shape, generator=generator())
        table = table / table.sum(dim=1, keepdim=True)
        order = list(range(len(table)))
        random.shuffle(order)
        before = select_top_k(table, k, 1)
        after = select_top_k(table[order], k, 1)
        assert sorted(before.scores.tolist()) == sorted(after.scores.tolist())
        if len(table.unique()) == table.numel():  # no ties, not even across the cut
            assert {order[i] for i in after.indices.tolist()} == set(before.indices.tolist())

    def test_every_class_gets_at_most_k_and_an_image_at_most_p_labels(self):
        table = torch.randn(500, 8, generator=generator()).softmax(dim=1)
        chosen = select_top_k(table, 60, 3)
        assert chosen.class_counts.tolist() == [60] * 8
        assert 1 < int(chosen.labels_per_image.max()) <= 3
        assert int(chosen.labels_per_image.sum()) == len(chosen) == 480

    def test_a_memory_map_gives_what_a_tensor_gives(self, tmp_path):
        table = torch.randn(300, 5, generator=generator()).softmax(dim=1)
        np.save(tmp_path / "scores.npy", table.numpy())
        mapped = np.load(tmp_path / "scores.npy", mmap_mode="r")
        assert rows(select_top_k(mapped, 20, 2, 64)) == rows(select_top_k(table, 20, 2))

    def test_a_class_that_no_image_ranks_for_stays_empty_and_is_named(self):
        table = torch.tensor([[0.6, 0.3, 0.1], [0.7, 0.2, 0.1]])
        chosen = select_top_k(table, 2, 1)
        assert chosen.class_counts.tolist() == [2, 0, 0]
        assert chosen.shortage == "class 1: 0 of 2; class 2: 0 of 2"

    def test_k_above_the_pool_takes_what_there_is_and_says_how_many(self):
        table = torch.tensor([[0.6, 0.4], [0.7, 0.3], [0.2, 0.8]])
        chosen = select_top_k(table, 5, 2)
        assert chosen.class_counts.tolist() == [3, 3]
        assert chosen.shortage == "class 0: 3 of 5; class 1: 3 of 5"
        assert select_top_k(table, 3, 2).shortage == ""

    def test_half_precision_and_float64_scores_are_accepted(self):
        table = torch.tensor([[0.25, 0.75], [0.5, 0.5]])
        for dtype in (torch.float16, torch.bfloat16, torch.float64):
            assert rows(select_top_k(table.to(dtype), 1, 1)) == [(1, 0, 0.5), (0, 1, 0.75)]

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
    def test_a_sum_may_be_off_by_the_rounding_of_its_dtype_and_by_no_more(self, dtype):
        for classes in (2, 10, 1_000):
            logits = 3 * torch.randn(2_000, classes, generator=generator())
            table = logits.to(dtype).softmax(dim=1)
            assert rows(select_top_k(table, 5, 2, 300)) == by_full_sort(table.float(), 5, 2)
            for wrong in (0.97, 1.03):
                with pytest.raises(ValueError, match=r"sum to (0\.9|1\.0)\d+, not 1"):
                    select_top_k(wrong * table, 5, 2)

    def test_rows_that_were_rounded_to_bfloat16_one_number_at_a_time_are_accepted(self):
        table = torch.randn(2_000, 50, generator=generator()).softmax(dim=1).bfloat16()
        assert (table.float().sum(dim=1) - 1).abs().max() > 1e-3  # what float32 is held to
        assert select_top_k(table, 30, 1).class_counts.max() == 30

    @pytest.mark.parametrize("bad", [0, -1, 1.5, True, "3"])
    def test_k_p_and_chunk_size_must_be_whole_numbers_of_at_least_one(self, bad):
        table = torch.full((4, 2), 0.5)
        for arguments in ((bad, 1, 8), (1, bad, 8), (1, 1, bad)):
            with pytest.raises(ValueError, match="whole number of at least 1"):
                select_top_k(table, *arguments)

    def test_p_above_the_number_of_classes_is_refused(self):
        with pytest.raises(ValueError, match="p=3.* 2 classes"):
            select_top_k(torch.full((4, 2), 0.5), 1, 3)

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.1, 0.3, 7.0])
    def test_a_row_that_is_no_distribution_is_named(self, value):
        table = torch.full((10, 2), 0.5)
        table[6, 1] = value
        with pytest.raises(ValueError, match="row 6 is no distribution"):
            select_top_k(table, 1, 1, chunk_size=4)

    def test_logits_are_refused_with_a_hint(self):
        with pytest.raises(ValueError, match="softmax"):
            select_top_k(torch.randn(5, 3, generator=generator()), 1, 1)

    def test_whole_numbers_wrong_shapes_and_empty_pools_are_refused(self):
        with pytest.raises(TypeError, match="floating-point"):
            select_top_k(torch.ones(3, 1, dtype=torch.int64), 1, 1)
        for shape in ((3,), (0, 3), (3, 0), (2, 2, 2)):
            with pytest.raises(ValueError, match="images × classes"):
                select_top_k(torch.ones(shape), 1, 1)
        with pytest.raises(ValueError, match="the pool is empty"):
            select_top_k_from_chunks([], 3, 1, 1)
        with pytest.raises(ValueError, match="images × 3"):
            select_top_k_from_chunks([torch.full((2, 2), 0.5)], 3, 1, 1)

    @pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
    def test_memory_does_not_grow_with_the_pool(self):
        script = """
import torch
from pathlib import Path
from hw3utils.problem4.pseudo_labels import select_top_k_from_chunks
torch.set_num_threads(1)
chunk = torch.randn(2_000, 50, generator=torch.Generator().manual_seed(0)).softmax(dim=1)
for pool in (20, 320):
    select_top_k_from_chunks((chunk.roll(i, dims=1) for i in range(pool)), 50, 200, 5)
    status = Path("/proc/self/status").read_text().splitlines()
    print(next(row.split()[1] for row in status if row.startswith("VmHWM")))
"""
        printed = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
        small, large = map(int, printed.stdout.split())
        growth_of_the_pool = 300 * 2_000 * 50 * 4 / 1024
        assert large - small < 0.25 * growth_of_the_pool  # the allocator keeps some


class TestNoise:
    @given(
        st.lists(st.integers(0, 4), min_size=2, max_size=200), st.floats(0, 1), st.integers(0, 9)
    )
    @settings(max_examples=80)
    def test_exactly_the_asked_fraction_is_wrong(self, labels, rate, seed):
        labels = torch.tensor([0, 1, *labels])
        before = labels.clone()
        noisy = add_label_noise(labels, rate, 5, generator(seed))
        assert int((noisy != labels).sum()) == round(rate * len(labels))
        assert torch.equal(labels, before)
        assert set(noisy.tolist()) <= set(labels.tolist())

    def test_replacements_follow_the_marginal_without_the_label_they_replace(self):
        counts = torch.tensor([8_000, 4_000, 2_000, 1_000])
        labels = torch.repeat_interleave(torch.arange(4), counts)
        noisy = add_label_noise(labels, 0.5, 4, generator())
        for label in range(4):
            got = torch.bincount(noisy[(labels == label) & (noisy != labels)], minlength=4)
            others = [c for c in range(4) if c != label]
            expected = counts[others].double() / counts[others].sum() * got.sum()
            assert got[label] == 0
            assert stats.chisquare(got[others], expected).pvalue > 0.001

    def test_the_same_seed_gives_the_same_noise(self):
        labels = torch.arange(10).repeat(50)
        first, second = (add_label_noise(labels, 0.3, 10, generator(4)) for _ in range(2))
        assert torch.equal(first, second)
        assert not torch.equal(first, add_label_noise(labels, 0.3, 10, generator(5)))

    def test_bad_rates_and_labels_are_refused(self):
        labels = torch.tensor([0, 1, 2])
        for rate in (-0.1, 1.1, float("nan")):
            with pytest.raises(ValueError, match="must lie in 0..1"):
                add_label_noise(labels, rate, 3, generator())
        with pytest.raises(ValueError, match="labels lie in 0..2"):
            add_label_noise(labels, 0.1, 2, generator())
        with pytest.raises(ValueError, match="one class"):
            add_label_noise(torch.zeros(9, dtype=torch.int64), 0.5, 3, generator())


class TestPairNoise:
    @given(n=st.integers(1, 200), rate=st.floats(0, 1), seed=st.integers(0, 9))
    def test_exactly_the_asked_number_name_the_next_class(self, n, rate, seed):
        labels = torch.randint(0, 5, (n,), generator=generator(seed))
        noisy = add_pair_noise(labels, rate, 5, generator(seed))
        wrong = noisy != labels
        assert int(wrong.sum()) == round(rate * n)
        assert torch.equal(noisy[wrong], (labels[wrong] + 1) % 5)

    def test_bad_rates_and_labels_are_refused(self):
        labels = torch.tensor([0, 1, 2])
        for rate in (-0.1, 1.1, float("nan")):
            with pytest.raises(ValueError, match="must lie in 0..1"):
                add_pair_noise(labels, rate, 3, generator())
        with pytest.raises(ValueError, match="labels lie in 0..2"):
            add_pair_noise(labels, 0.1, 2, generator())


class TestLongTail:
    def test_zipf_counts_by_hand(self):
        assert zipf_counts(4, 1_200, 1.0) == [1_200, 600, 400, 300]
        assert zipf_counts(4, 3_600, 2.0) == [3_600, 900, 400, 225]
        assert zipf_counts(3, 2, 5.0) == [2, 1, 1]
        assert zipf_counts(3, 7, 0.0) == [7, 7, 7]

    def test_a_long_tail_has_the_asked_counts_and_repeats_no_image(self):
        labels = torch.arange(4).repeat(100)
        drawn = draw_long_tail(labels, [90, 30, 10, 0], generator())
        assert torch.bincount(labels[drawn], minlength=4).tolist() == [90, 30, 10, 0]
        assert len(drawn.unique()) == 130

    def test_more_images_than_there_are_and_none_at_all_are_refused(self):
        labels = torch.arange(2).repeat(5)
        with pytest.raises(ValueError, match="class 1: 6 images asked for; there are 5"):
            draw_long_tail(labels, [1, 6], generator())
        with pytest.raises(ValueError, match="no image asked for"):
            draw_long_tail(labels, [0, 0], generator())


class TestResampling:
    LABELS = torch.repeat_interleave(torch.arange(3), torch.tensor([900, 90, 9]))

    def shares(self, rule, n=9_990):
        drawn = resample(self.LABELS, 3, rule, n, generator())
        return torch.bincount(self.LABELS[drawn], minlength=3).tolist()

    def test_shares_are_in_proportion_to_n_to_its_root_or_to_one(self):
        assert self.shares("natural") == [9_000, 900, 90]
        assert self.shares("uniform") == [3_330, 3_330, 3_330]
        roots = np.sqrt([900, 90, 9])
        assert np.abs(np.array(self.shares("square root")) - 9_990 * roots / roots.sum()).max() < 1

    def test_natural_sampling_of_the_whole_set_is_every_image_once(self):
        drawn = resample(self.LABELS, 3, "natural", len(self.LABELS), generator())
        assert drawn.sort().values.tolist() == list(range(len(self.LABELS)))

    @given(
        st.lists(st.integers(0, 4), min_size=1, max_size=60),
        st.sampled_from(sorted(RESAMPLING_RULES)),
        st.integers(1, 300),
    )
    @settings(max_examples=100)
    def test_within_a_class_images_are_drawn_equally_often(self, labels, rule, n):
        labels = torch.tensor(labels)
        drawn = resample(labels, 5, rule, n, generator())
        times = torch.bincount(drawn, minlength=len(labels))
        assert len(drawn) == n
        for label in labels.unique():
            mine = times[labels == label]
            assert int(mine.max() - mine.min()) <= 1

    def test_unknown_rules_and_no_draws_are_refused(self):
        with pytest.raises(ValueError, match="natural, square root, uniform"):
            resample(self.LABELS, 3, "sqrt", 10, generator())
        with pytest.raises(ValueError, match="n=0"):
            resample(self.LABELS, 3, "uniform", 0, generator())
