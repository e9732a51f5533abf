"""Pictures of two garments, labelled by one: what images of single objects cannot show of 4.3b."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Generator, Tensor

from hw3utils.data.images import ImageSet, Splits
from hw3utils.problem4.experiments import seeded
from hw3utils.problem4.teaching import Collection, long_tailed
from hw3utils.settings import Problem4


def pictures_of_two(
    splits: Splits, drawn: Sequence[Collection], settings: Problem4
) -> tuple[Splits, list[Collection]]:
    """Return pictures of two garments side by side, labelled by one, and each seed's D and U.

    In U a rare garment always hangs beside a common one, and every class is in equally many
    pictures, if the pool's classes are equally large. In D a picture of a rare label is as rare as
    in `long_tailed`. Validation and test pictures show two garments of one class: no doubt what is
    right. The training images of the result are the pictures of all seeds.
    """
    train = splits.train
    parts, found, offset = [], [], 0
    for each in long_tailed(drawn, settings):
        pairs = torch.cat([_labelled_pairs(train, each, settings), _pool_pairs(each)])
        parts.append(_side_by_side(train, pairs, seeded(each.seed)))
        places = torch.arange(offset, offset + len(pairs))
        known, pool = places[: len(each.labelled)], places[len(each.labelled) :]
        truth, second = train.labels[pairs[len(known) :]].T
        found.append(replace(each, labelled=known, pool=pool, truth=truth, second=second))
        offset += len(pairs)
    pictures = ImageSet(
        torch.cat([part.images for part in parts]),
        torch.cat([part.labels for part in parts]),
        train.class_names,
    )
    judges = (two_of_a_kind(part) for part in (splits.validation, splits.test))
    return Splits(pictures, *judges), found


def _labelled_pairs(train: ImageSet, each: Collection, settings: Problem4) -> Tensor:
    """Return a partner for each image of D, which names the pair: indices, shape (D, 2).

    Partners are in neither D nor U. A common garment's is any, a rare one's a common one.
    """
    outside = torch.ones(len(train), dtype=torch.bool)
    # The whole D as it was drawn is outside of `pool`; what the long tail left out may be used.
    outside[each.labelled] = outside[each.pool] = False
    others = torch.nonzero(outside).flatten()
    others = others[torch.randperm(len(others), generator=seeded(each.seed))]
    is_rare = _is_any(each.labels, each.rare)
    partners = others[: len(each.labelled)].clone()
    common = others[len(each.labelled) :]
    common = common[~_is_any(train.labels[common], each.rare)]
    partners[is_rare] = common[: int(is_rare.sum())]
    return torch.stack([each.labelled, partners], dim=1)


def _pool_pairs(each: Collection) -> Tensor:
    """Return U's images in pairs, in random order: indices, shape (n, 2)."""
    is_rare = _is_any(each.truth, each.rare)
    rare, common = each.pool[is_rare], each.pool[~is_rare]
    rest = common[len(rare) :]
    half = len(rest) // 2
    mixed = torch.stack([rare, common[: len(rare)]], dim=1)
    pairs = torch.cat([mixed, torch.stack([rest[:half], rest[half : 2 * half]], dim=1)])
    return pairs[torch.randperm(len(pairs), generator=seeded(each.seed))]


def two_of_a_kind(images: ImageSet) -> ImageSet:
    """Return pictures of two garments of one class, each image used once."""
    pairs = []
    for label in range(images.num_classes):
        members = torch.nonzero(images.labels == label).flatten()
        pairs.append(members[: len(members) // 2 * 2].view(-1, 2))
    return _side_by_side(images, torch.cat(pairs), seeded(0))


def _side_by_side(images: ImageSet, pairs: Tensor, generator: Generator) -> ImageSet:
    """Return pictures of pairs (n, 2), each garment half as wide, labelled by the first.

    Which of the two is on the left is drawn.
    """
    swapped = torch.rand(len(pairs), generator=generator) < 0.5
    places = torch.where(swapped.unsqueeze(1), pairs.flip(1), pairs)
    halves = []
    for side in places.T:
        pixels = images.images[side].float()
        halves.append(((pixels[..., ::2] + pixels[..., 1::2]) / 2).round().to(torch.uint8))
    return ImageSet(torch.cat(halves, dim=3), images.labels[pairs[:, 0]], images.class_names)


def _is_any(labels: Tensor, classes: Sequence[int]) -> Tensor:
    return torch.isin(labels, torch.tensor(classes, dtype=torch.int64))
