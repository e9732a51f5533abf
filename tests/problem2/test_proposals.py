"""Boxes, anchors and suppression: against torchvision's operators, and on the real photograph."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision import ops
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator

from hw3utils.problem2.proposals import scenes
from hw3utils.problem2.proposals.boxes import (
    anchor_grid,
    anchor_shapes,
    clip_boxes,
    decode,
    encode,
    inside_image,
    iou,
    label_anchors,
)
from hw3utils.problem2.proposals.suppression import non_maximum_suppression, propose


@st.composite
def box_sets(draw, smallest=0, largest=40):
    """Draw float32 boxes on a coarse grid: many equal ones, many touching, some of area 0."""
    coordinates = st.integers(0, 12)
    count = draw(st.integers(smallest, largest))
    corners = draw(
        st.lists(
            st.tuples(coordinates, coordinates, coordinates, coordinates),
            min_size=count,
            max_size=count,
        )
    )
    rows = [(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in corners]
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


def random_boxes(count, seed, side=100.0):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * side
    return torch.cat([corner, corner + 4 + torch.rand(count, 2, generator=generator) * side], dim=1)


@settings(max_examples=200)
@given(box_sets(), st.data())
def test_suppression_equals_torchvision_ties_included(boxes, data):
    scores = torch.tensor(
        data.draw(st.lists(st.integers(0, 3), min_size=len(boxes), max_size=len(boxes))),
        dtype=torch.float32,
    )
    threshold = data.draw(st.sampled_from([0.0, 0.1, 0.25, 1 / 3, 0.5, 0.7, 1.0]))
    result = non_maximum_suppression(boxes, scores, threshold)
    assert result.kept.tolist() == ops.nms(boxes, scores, threshold).tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_suppression_equals_torchvision_on_many_boxes(dtype):
    boxes = random_boxes(1500, seed=1).to(dtype)
    scores = torch.rand(1500, generator=torch.Generator().manual_seed(2)).to(dtype)
    for threshold in (0.3, 0.5, 0.7):
        expected = ops.nms(boxes, scores, threshold)
        assert torch.equal(non_maximum_suppression(boxes, scores, threshold).kept, expected)


def test_suppression_of_nothing_is_nothing():
    result = non_maximum_suppression(torch.zeros(0, 4), torch.zeros(0))
    assert result.kept.shape == (0,) and result.steps == ()


@given(box_sets(smallest=1), st.floats(0, 1))
def test_the_steps_tell_the_whole_story(boxes, threshold):
    """Each box is kept or suppressed exactly once, and each suppression has its reason."""
    scores = torch.arange(len(boxes), dtype=torch.float32) % 5
    result = non_maximum_suppression(boxes, scores, threshold)
    seen = [i for step in result.steps for i in (step.kept, *step.suppressed)]
    assert sorted(seen) == list(range(len(boxes)))
    overlap = iou(boxes, boxes).double()
    undecided = len(boxes)
    for step in result.steps:
        undecided -= 1 + len(step.suppressed)
        assert step.left == undecided
        assert all(value > threshold for value in step.overlaps)
        assert list(step.overlaps) == [overlap[step.kept, i] for i in step.suppressed]
        assert all(scores[i] <= step.score for i in step.suppressed)
    kept = overlap[result.kept][:, result.kept].fill_diagonal_(0)
    assert (kept <= threshold).all()


@given(box_sets(), box_sets())
def test_iou_equals_torchvision(first, second):
    expected = ops.box_iou(first, second).nan_to_num(0.0)  # two boxes of area 0: 0/0
    assert torch.equal(iou(first, second), expected)


def test_iou_by_hand():
    first = torch.tensor([[0.0, 0, 2, 2]])
    second = torch.tensor([[1.0, 1, 3, 3], [0, 0, 2, 2], [2, 0, 4, 2], [0.5, 0.5, 1, 1]])
    assert iou(first, second)[0].tolist() == pytest.approx([1 / 7, 1, 0, 1 / 16])


@pytest.mark.parametrize(
    ("dtype", "side"),
    [
        (torch.float16, 300),  # an area of 90,000 is beyond float16
        (torch.bfloat16, 300),
        (torch.float32, 1e20),
        (torch.float32, 1e-30),
        (torch.float64, 1e140),
    ],
)
def test_iou_of_boxes_whose_areas_their_own_type_cannot_hold(dtype, side):
    corners = [[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 0.5], [0, 0, 0, 0]]
    boxes = (torch.tensor(corners, dtype=torch.float64) * side).to(dtype)
    found = iou(boxes[[0, 3]], boxes)
    assert found.dtype == dtype
    assert found[0].tolist() == pytest.approx([1, 1, 0.5, 0], rel=1e-2)
    assert found[1].tolist() == [0, 0, 0, 0]
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6])
    assert non_maximum_suppression(boxes, scores, 0.7).kept.tolist() == [0, 2, 3]


def test_an_overlap_of_just_the_threshold_is_kept_in_half_precision_too():
    """The float16 number nearest to 0.7 is greater than 0.7."""
    boxes, scores = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 7]]), torch.tensor([2.0, 1.0])
    assert ops.nms(boxes, scores, 0.7).tolist() == [0, 1]
    assert non_maximum_suppression(boxes.half(), scores, 0.7).kept.tolist() == [0, 1]


def test_borders_and_labels_are_made_on_the_device_where_the_boxes_are():
    boxes = torch.tensor([[-5.0, -5.0, 20.0, 8.0]])
    with torch.device("meta"):  # where new tensors go that are not told otherwise
        assert clip_boxes(boxes, height=10, width=10).tolist() == [[0, 0, 10, 8]]
        assert inside_image(boxes, height=10, width=10).tolist() == [False]
        assert label_anchors(boxes, boxes).tolist() == [1]


def test_box_coding_equals_torchvision():
    boxes, anchors = random_boxes(300, seed=3).double(), random_boxes(300, seed=4).double()
    coder = BoxCoder(weights=(1.0, 1.0, 1.0, 1.0))
    offsets = encode(boxes, anchors)
    torch.testing.assert_close(offsets, coder.encode_single(boxes, anchors))
    wild = torch.randn(300, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(5)) * 4
    torch.testing.assert_close(decode(wild, anchors), coder.decode_single(wild, anchors))


@given(st.integers(0, 10_000))
def test_decoding_undoes_encoding(seed):
    boxes, anchors = random_boxes(20, seed).double(), random_boxes(20, seed + 1).double()
    torch.testing.assert_close(decode(encode(boxes, anchors), anchors), boxes)


def test_zero_offsets_leave_the_anchor():
    anchors = random_boxes(10, seed=6)
    torch.testing.assert_close(decode(torch.zeros(10, 4), anchors), anchors)


def test_a_wild_offset_does_not_overflow():
    box = decode(torch.tensor([[0.0, 0, 1e6, 1e6]]), torch.tensor([[0.0, 0, 16, 16]]))
    assert torch.isfinite(box).all()
    assert float(box[0, 2] - box[0, 0]) == pytest.approx(1000)


@given(st.integers(0, 10_000))
def test_clipping_equals_torchvision(seed):
    boxes = random_boxes(30, seed) * 2 - 100
    clipped = clip_boxes(boxes, height=80, width=50)
    assert torch.equal(clipped, ops.clip_boxes_to_image(boxes, (80, 50)))
    assert inside_image(clipped, 80, 50).all()
    assert torch.equal(inside_image(boxes, 80, 50), (clipped == boxes).all(dim=1))


def test_anchors_equal_torchvision_up_to_its_rounding_and_its_corner():
    """Torchvision rounds anchors to whole pixels and centres them on the corners of the cells."""
    generator = AnchorGenerator(((128, 256, 512),), ((0.5, 1.0, 2.0),))
    stride = [torch.tensor(16), torch.tensor(16)]
    (theirs,) = generator.grid_anchors([[5, 7]], [stride])
    ours = anchor_grid(5, 7, 16, anchor_shapes()) - 8
    assert ours.shape == theirs.shape == (5 * 7 * 9, 4)
    assert float((ours - theirs).abs().max()) <= 0.5


def test_anchors_have_the_paper_s_areas_and_ratios():
    shapes = anchor_shapes()
    assert shapes.prod(dim=1).tolist() == pytest.approx([128**2, 256**2, 512**2] * 3)
    assert (shapes[:, 1] / shapes[:, 0]).tolist() == pytest.approx([0.5] * 3 + [1] * 3 + [2] * 3)


def test_labels_equal_torchvision_on_the_photograph():
    objects = scenes.marked_boxes()
    anchors = anchor_grid(37, 37, 16, anchor_shapes())
    matches = Matcher(0.7, 0.3, allow_low_quality_matches=True)(iou(objects, anchors))
    expected = torch.where(matches >= 0, 1, torch.where(matches == -1, 0, -1))
    assert torch.equal(label_anchors(anchors, objects), expected)


def test_an_overlap_of_exactly_the_threshold_is_not_above_it():
    """Ren et al. 2015, Sec. 3.1.2: "IoU overlap higher than 0.7", "lower than 0.3"."""
    objects = torch.tensor([[0.0, 0.0, 10.0, 10.0]], dtype=torch.float64)
    anchors = torch.tensor([[0.0, 0.0, 10.0, side] for side in (10, 7, 5, 3, 2)]).double()
    assert iou(anchors, objects)[:, 0].tolist() == [1, 0.7, 0.5, 0.3, 0.2]
    assert label_anchors(anchors, objects).tolist() == [1, -1, -1, -1, 0]
    halves = label_anchors(anchors, objects, positive=0.5, negative=0.5)
    assert halves.tolist() == [1, 1, -1, 0, 0]
    assert len(non_maximum_suppression(anchors[[0, 2]], torch.ones(2), threshold=0.5).kept) == 2


def test_an_object_that_no_anchor_fits_still_gets_a_positive_one():
    anchors = anchor_grid(10, 10, 16, anchor_shapes(scales=(64,), ratios=(1.0,)))
    thin = torch.tensor([[20.0, 20, 150, 30]], dtype=torch.float64)
    assert float(iou(anchors, thin).max()) < 0.3
    labels = label_anchors(anchors, thin)
    assert (labels == 1).any()
    assert torch.equal(labels == 1, iou(anchors, thin)[:, 0] == iou(anchors, thin).max())


def test_without_objects_everything_is_background():
    anchors = anchor_grid(2, 2, 16, anchor_shapes())
    assert label_anchors(anchors, torch.zeros(0, 4, dtype=torch.float64)).tolist() == [0] * 36


def test_the_photograph_is_there_and_its_objects_lie_on_it():
    assert scenes.photograph().shape == (600, 600, 3) and scenes.photograph().std() > 50
    assert inside_image(scenes.marked_boxes(), 600, 600).all()


def test_proposals_go_through_all_stages_and_only_the_best_are_suppressed():
    boxes = random_boxes(400, seed=7).double()
    scores = torch.rand(400, generator=torch.Generator().manual_seed(8)).double()
    result = propose(boxes, scores, torch.zeros(400, 4), (120, 120), before=100, top=20)
    assert not inside_image(result.decoded, 120, 120).all()
    assert inside_image(result.clipped, 120, 120).all()
    large = (result.clipped[:, 2:] - result.clipped[:, :2] >= 1).all(dim=1)
    lowest = scores[large].sort(descending=True).values[99]
    assert len(result.best) == 100 and scores[result.best].min() == lowest
    expected = ops.nms(result.clipped[result.best], scores[result.best], 0.7)
    assert torch.equal(result.kept, result.best[expected])
    assert torch.equal(result.passed, result.kept[:20])


def test_small_boxes_are_dropped_before_suppression():
    anchors = torch.tensor([[0.0, 0, 10, 10], [200, 200, 210, 210], [50, 50, 60, 60]])
    scores = torch.tensor([0.1, 0.9, 0.8])
    result = propose(anchors, scores, torch.zeros(3, 4), image_size=(100, 100))
    assert result.best.tolist() == [2, 0]  # the second lies outside the image
    assert result.kept.tolist() == [2, 0]


ONE = torch.tensor([[0.0, 0.0, 4.0, 4.0]])
FLIPPED = torch.tensor([[4.0, 0.0, 0.0, 4.0]])
FLAT = torch.tensor([[0.0, 0.0, 4.0, 0.0]])
NAN = torch.tensor([[0.0, 0.0, math.nan, 4.0]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: iou(FLIPPED, ONE), "first: box 0 .* width or height that is not 0 or more"),
        (lambda: iou(ONE, NAN), "second: row 0 is NaN"),
        (lambda: iou(ONE.long(), ONE), "floating-point"),
        (lambda: iou(torch.zeros(3), ONE), "n×4"),
        (lambda: iou(ONE, 1e200 * ONE.double()), "second: the area of box 0 is too large"),
        (lambda: encode(FLAT, ONE), "not greater than 0"),
        (lambda: encode(ONE.repeat(2, 1), ONE), "2 boxes, 1 anchors"),
        (lambda: decode(torch.zeros(1, 4), FLAT), "not greater than 0"),
        (lambda: decode(NAN, ONE), "offsets: row 0 is NaN"),
        (lambda: decode(torch.zeros(1, 5), ONE), "offsets: expected n×4"),
        (lambda: decode(torch.zeros(2, 4), ONE), "2 offsets, 1 anchors"),
        (lambda: clip_boxes(FLIPPED, 10, 10), "x1 must come before x2"),
        (lambda: non_maximum_suppression(ONE, torch.tensor([math.nan])), "scores: row 0 is NaN"),
        (lambda: non_maximum_suppression(ONE, torch.zeros(2)), "1 boxes, 2 scores"),
        (lambda: non_maximum_suppression(ONE, torch.zeros(1, 1)), "one number for each box"),
        (lambda: non_maximum_suppression(FLIPPED, torch.zeros(1)), "x1 must come before x2"),
        (lambda: non_maximum_suppression(ONE, torch.zeros(1), 1.5), "threshold=1.5"),
        (lambda: label_anchors(ONE, ONE, positive=0.2, negative=0.3), "negative=0.3"),
        (lambda: anchor_shapes(scales=(0,)), "scales"),
        (lambda: anchor_shapes(ratios=()), "ratios"),
        (lambda: anchor_grid(0, 3, 16, anchor_shapes()), "rows=0"),
        (lambda: anchor_grid(3, 3, 0, anchor_shapes()), "stride=0"),
        (lambda: propose(ONE, torch.zeros(1), torch.zeros(1, 4), (9, 9), top=0), "top=0"),
        (lambda: propose(ONE, torch.zeros(1), torch.zeros(1, 4), (9, 9), before=0), "before=0"),
    ],
)
def test_bad_input_is_refused_with_a_reason(call, message):
    with pytest.raises(ValueError, match=message):
        call()
