"""The region proposal network that is trained: canvases, targets, loss, training, measuring."""

import numpy as np
import pytest
import torch

from hw3utils.data.images import Splits
from hw3utils.problem2 import answers, experiments, tables
from hw3utils.problem2.proposals import figures, measures, network, scenes
from hw3utils.problem2.proposals.boxes import anchor_grid, decode, encode, inside_image, iou
from hw3utils.problem2.proposals.suppression import non_maximum_suppression, propose
from hw3utils.settings import Problem2
from hw3utils.training import workers
from made_up import make_images

WHITE = torch.full((5, 1, 28, 28), 255, dtype=torch.uint8)
NOISE = torch.randint(60, 256, (50, 1, 28, 28), generator=torch.Generator().manual_seed(3)).byte()
ANCHORS = network.grid()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_boxes_hold_exactly_what_was_pasted(monkeypatch):
    monkeypatch.setattr(scenes, "SCRAPS", 0)
    for canvas in scenes.compose_all(WHITE, 5, generator()):
        pasted = torch.zeros(scenes.SIDE, scenes.SIDE, dtype=torch.bool)
        for x1, y1, x2, y2 in canvas.objects.int().tolist():
            pasted[y1:y2, x1:x2] = True
        assert torch.equal(canvas.image[0] == 255, pasted)


def test_objects_lie_inside_have_the_sizes_asked_for_and_overlap_little():
    sizes = []
    for canvas in scenes.compose_all(NOISE, 30, generator(1)):
        objects = canvas.objects
        assert inside_image(objects, scenes.SIDE, scenes.SIDE).all()
        assert iou(objects, objects).fill_diagonal_(0).max() <= scenes.MOST_OVERLAP
        sizes += (objects[:, 2:] - objects[:, :2]).max(dim=1).values.tolist()
    assert min(sizes) >= scenes.SIZES[0] - 2 and max(sizes) <= scenes.SIZES[1] + 1
    assert max(sizes) > 3 * min(sizes)


def test_a_seed_gives_the_same_canvases_and_another_seed_others():
    one, same, other = (scenes.compose(NOISE, generator(seed)) for seed in (4, 4, 5))
    assert torch.equal(one.image, same.image) and torch.equal(one.objects, same.objects)
    assert not torch.equal(one.image, other.image)


def test_the_networks_maps_are_unrolled_in_the_order_of_the_anchors():
    rows, columns, shapes = 3, 4, torch.tensor([[10.0, 20.0], [30.0, 5.0]])
    anchors = anchor_grid(rows, columns, 8, shapes)
    maps = torch.empty(1, 2 * 4, rows, columns, dtype=torch.float64)
    for y in range(rows):
        for x in range(columns):
            for shape in range(2):
                index = (y * columns + x) * 2 + shape
                maps[0, 4 * shape : 4 * shape + 4, y, x] = anchors[index]
    assert torch.equal(network._by_anchor(maps, 4)[0], anchors)
    logits, offsets = network.fresh_network(0)(scenes.compose(NOISE, generator()).image[None])
    assert logits.shape == (1, len(ANCHORS), 2) and offsets.shape == (1, len(ANCHORS), 4)


def test_targets_leave_out_what_crosses_the_border_and_lead_to_the_object():
    objects = scenes.compose(NOISE, generator(2)).objects
    wanted = network.targets(ANCHORS, objects)
    inside = inside_image(ANCHORS, scenes.SIDE, scenes.SIDE)
    assert set(wanted.labels[~inside].tolist()) == {-1}
    assert (wanted.labels[inside] == 0).any()
    positive = wanted.labels == 1
    led = decode(wanted.offsets[positive].double(), ANCHORS[positive])
    assert iou(led, objects).max(dim=1).values.min() > 0.999
    assert wanted.offsets[~positive].abs().max() == 0
    nothing = network.targets(ANCHORS, torch.zeros(0, 4, dtype=torch.float64))
    assert set(nothing.labels[inside].tolist()) == {0}


def test_a_sample_has_at_most_half_positives_and_never_an_ignored_anchor():
    labels = torch.tensor([1] * 300 + [0] * 300 + [-1] * 300)
    for positives, expected in ((300, 128), (10, 10)):
        few = labels.clone()
        few[positives:300] = -1
        drawn = few[network.sample(few, generator())]
        assert (drawn == 1).sum() == expected and (drawn == 0).sum() == 256 - expected


def test_both_terms_of_the_loss_by_hand():
    labels = torch.full((18,), -1)
    labels[:2] = torch.tensor([1, 0])
    wanted = network.Targets(labels, torch.zeros(18, 4))
    logits, offsets = torch.zeros(18, 2), torch.zeros(18, 4)
    offsets[0, 0], offsets[1, 0], offsets[2, 0] = 3.0, 100.0, 100.0  # only the first is positive
    log_loss, smooth_l1 = network.losses(logits, offsets, wanted, torch.tensor([0, 1]))
    assert float(log_loss) == pytest.approx(np.log(2))
    assert float(smooth_l1) == pytest.approx(10 * (3.0 - 0.5) / 2)  # 18 anchors: 2 positions


def test_training_lowers_both_terms_on_unseen_garments_too():
    run = network.ProposalRun(seed=1, canvases=40, epochs=4)
    result = network.train_network(run, NOISE, make_images(20, seed=5).images)
    history = result["history"]
    assert history["update"] == [20, 40]
    assert history["scores"][-1] < history["scores"][0] < np.log(2)
    assert history["offsets"][-1] < history["offsets"][0]
    assert history["unseen_scores"][-1] < np.log(2)
    again = network.train_network(run, NOISE, make_images(20, seed=5).images)
    assert again["history"] == history


class Oracle(torch.nn.Module):
    """Says of each anchor, certainly, whether its own best object is near, and where it is."""

    def __init__(self, objects):
        super().__init__()
        self.objects = objects

    def forward(self, images):
        overlap, nearest = iou(ANCHORS, self.objects).max(dim=1)
        logits = torch.stack([torch.zeros_like(overlap), 20 * (overlap - 0.35)], dim=1)
        return logits[None], encode(self.objects[nearest], ANCHORS)[None]


def test_a_network_that_knows_everything_finds_everything_with_one_box_each():
    canvas = scenes.compose(NOISE, generator(8))
    oracle = Oracle(canvas.objects)
    example = measures.proposal_example(oracle, canvas)
    scores, offsets = measures.answers(oracle, canvas)
    kept = example.proposals.clipped[example.proposals.kept]
    best = example.proposals.clipped[example.proposals.best]
    objects = len(canvas.objects)
    assert measures.found(kept, canvas.objects, 0.7)[0] == min(10, objects)
    assert measures.found(best, canvas.objects, 0.7)[0] < objects, "copies fill the first places"
    assert len(kept) < 3 * objects
    assert len(example.hundred) == 100 and len(example.handful) % 3 == 0
    assert torch.equal(
        measures.ranked(example.proposals.clipped, scores, 0.7),
        propose(ANCHORS, scores, offsets, (256, 256)).kept,
    )


def test_a_step_that_changes_nothing_has_no_panel():
    canvas = scenes.compose(NOISE, generator(8))
    example = measures.proposal_example(Oracle(canvas.objects), canvas)
    box = ANCHORS[answers.followed(example)]
    steps = {"anchor": box, "decoded": box + 2, "clipped": box + 2}
    assert len(figures.proposal(example, steps).axes) == 2
    assert len(figures.proposal(example, steps | {"clipped": box + 1}).axes) == 3


def test_the_boxes_to_follow_by_hand_hold_one_that_is_dropped_and_one_that_stays():
    objects = torch.tensor([[0.0, 0, 10, 10], [50, 50, 70, 70]], dtype=torch.float64)
    shifts = torch.tensor([0.0, 0.5, 0.2, 5.0]).double()
    boxes = torch.cat([objects[:1] + shift for shift in shifts] + [objects[1:] for _ in range(2)])
    assert measures.handful(boxes, objects).tolist() == [0, 1, 3]
    kept = non_maximum_suppression(boxes[[0, 1, 3]], torch.tensor([0.9, 0.8, 0.7])).kept
    assert kept.tolist() == [0, 2]


def test_suppression_by_hand_says_which_boxes_stay_on_one_object_and_why():
    objects = torch.tensor([[0.0, 0, 10, 10], [50, 50, 70, 70]], dtype=torch.float64)
    boxes = torch.cat([objects[:1], objects[:1] + 0.5, objects[:1] + 5, objects[1:]])
    text = tables.by_hand(boxes, torch.tensor([0.9, 0.8, 0.7, 0.6]), objects)
    assert text.splitlines()[:2] == [
        "- *Round 1:* keep A; drop B (IoU 0.822); 2 left.",
        "- *Round 2:* keep C; drop nothing; 1 left.",
    ]
    assert "where their IoU is not greater than 0.7: A and C (0.143)." in text
    assert "stay on" not in tables.by_hand(boxes[[0, 3]], torch.tensor([0.9, 0.8]), objects)


def test_measuring_tells_training_from_none_and_a_second_run_trains_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("HW3_DATA", str(tmp_path))
    monkeypatch.setenv("HW3_JOBS", "1")
    garments = Splits(*(make_images(40, seed=seed) for seed in (1, 2, 3)))
    settings = Problem2.for_profile("smoke", unseen_canvases=2, rpn_canvases=40)
    first = experiments.train_proposal_networks(garments, settings)
    example = measures.proposal_example(
        network.fresh_network(0), scenes.compose(garments.test.images, generator())
    )
    record = answers.record(experiments.layer_tables(), first, example, settings)
    assert set(record["rpn"]["recall"]) == set(measures.ARMS)
    for overlaps in record["rpn"]["recall"].values():
        assert all(seed == sorted(seed) for rows in overlaps.values() for seed in rows)
    assert record["rpn"]["objects"] > 5
    five = experiments.TrainedNetworks(
        2 * first.trained + first.trained[:1], 5 * first.measured[:1]
    )
    of_five = answers.record(experiments.layer_tables(), five, example, settings)
    for rpn in (record["rpn"], of_five["rpn"]):
        assert sum(row["objects"] for row in rpn["fired"]) == rpn["objects"], "each counted once"
    said = answers.methods(of_five)
    assert said.startswith("**Methods.** 5 networks") and said.endswith("n = 5.")
    assert f"{settings.rpn_canvases} canvases of 256×256" in said
    assert len(figures.objectness(five.measured).axes[1].lines[0].get_xdata()) == rpn["objects"]
    for say in (answers.left_answer, answers.recall_answer, answers.fired_answer):
        text = say(of_five["rpn"])
        assert "nan" not in text and "%" in text

    def refuse(*_):
        raise AssertionError("something was computed anew")

    monkeypatch.setattr(workers, "results", refuse)
    again = experiments.train_proposal_networks(garments, settings)
    assert again.measured == first.measured


def recalls(rows, other):
    return {
        "counts": [10, answers.AT],
        "recall": {"a": {"0.5": [[0, x] for x in rows]}, "b": {"0.5": [[0, x] for x in other]}},
    }


def test_a_difference_that_noise_explains_yields_no_verdict():
    random = np.random.default_rng(0)
    verdicts = [
        answers.difference(recalls(*random.normal(0.5, 0.1, (2, 3))), "a", "b").sign
        for _ in range(400)
    ]
    assert np.mean(np.array(verdicts) != 0) < 0.08
    text = answers.compared(recalls([0.5, 0.6, 0.7], [0.6, 0.5, 0.7]), "a", "b")
    assert "cannot be told" in text


def test_a_difference_that_every_seed_shows_is_told_with_its_interval():
    text = answers.compared(recalls([0.80, 0.81, 0.82], [0.60, 0.62, 0.61]), "a", "b")
    assert text.startswith("more (+20.0 points, +17.") and "−" not in text
    assert answers.compared(recalls([0.6, 0.6], [0.8, 0.8]), "a", "b").startswith("fewer (−20.0")
    strict = {"counts": [10, 2_000], "recall": {
        name: {"0.7": [[0.1, found], [0.1, found]]} for name, found in (("a", 0.8), ("b", 0.9))
    }}  # fmt: skip
    assert answers.compared(strict, "a", "b", "0.7", 2_000).startswith("fewer (−10.0 points")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: scenes.compose(WHITE[:0], generator()), "N at least 1"),
        (lambda: scenes.compose(torch.zeros(3, 28, 28), generator()), "28×28"),
        (lambda: network.ProposalRun(0, canvases=0, epochs=1), "canvases=0"),
        (lambda: network.ProposalRun(0, canvases=4, epochs=1.5), "epochs=1.5"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
