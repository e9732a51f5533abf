"""From a teacher's probabilities to pseudo-labels: stage 2 of Yalniz et al. 2019 (1905.00546).

Written for pools of millions of images: partial sorting, one chunk at a time. The teacher that
gives the probabilities is trained elsewhere, by `recipes`.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hw3utils.checks import check_whole_number

SUM_TOLERANCE = 1e-3
Candidates = tuple[Tensor, Tensor, Tensor]  # scores, labels and pool indices, each of shape (n,)


@dataclass(frozen=True)
class PseudoLabels:
    """The set D̂ that a teacher selected: the union of the per-class sets D̂_l.

    An image that is among the top K of several classes stands here once for each of them. Rows are
    ordered by class, then by falling score, then by rising index.
    """

    indices: Tensor  # shape (M,), int64: the position of each row's image in the pool
    labels: Tensor  # shape (M,), int64: the class it was selected for
    scores: Tensor  # shape (M,), float32: the teacher's probability of that class
    num_classes: int
    pool_size: int
    k: int  # images that each class should get
    p: int  # classes that each image could stand for

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def class_counts(self) -> Tensor:
        """Number of images selected for each class: shape (num_classes,), int64, at most K."""
        return torch.bincount(self.labels, minlength=self.num_classes)

    @property
    def labels_per_image(self) -> Tensor:
        """Number of classes that each image of the pool was selected for: (pool_size,), int64."""
        return torch.bincount(self.indices, minlength=self.pool_size)

    @property
    def shortage(self) -> str:
        """Which classes got fewer images than K, and how many; empty where none did."""
        counts = self.class_counts.tolist()
        short = [f"class {c}: {n} of {self.k}" for c, n in enumerate(counts) if n < self.k]
        return "; ".join(short)


def select_top_k(
    probabilities: Tensor | np.ndarray, k: int, p: int, chunk_size: int = 16_384
) -> PseudoLabels:
    """Keep each image's top P classes, rank the images of each class, and take its top K.

    Stage 2 of Yalniz et al. 2019 (1905.00546, Sec. 3). A class for which fewer than K images
    qualify gets those that there are, possibly none (see `PseudoLabels.shortage`). Of equal scores
    the lower class, and then the lower index, comes first.

    Parameters
    ----------
    probabilities : Tensor or ndarray
        Shape (N, C), floats: each row a distribution over classes. A memory map is read in chunks.
    k : int
        Images for each class, at least 1; it may exceed the pool.
    p : int
        Classes for each image, in 1..C.
    chunk_size : int
        Images at a time. Decides memory and time, never the result.

    Raises
    ------
    TypeError
        The probabilities are not floating-point numbers.
    ValueError
        ``k``, ``p`` or ``chunk_size`` is out of range, the shape is not (N, C) with N and C at
        least 1, or a row holds NaN or negative numbers or does not sum to 1 (within 0.001, or
        within twice the dtype's ``eps`` where that is more: 0.016 in bfloat16).
    """
    if len(probabilities.shape) != 2 or 0 in probabilities.shape:
        raise ValueError(
            f"probabilities must be images × classes, not {tuple(probabilities.shape)}"
        )
    check_whole_number("chunk_size", chunk_size)
    starts = range(0, len(probabilities), chunk_size)
    if isinstance(probabilities, np.ndarray):
        # A copy of each chunk: torch wants to own what it reads, and a memory map may be read-only.
        chunks = (torch.from_numpy(np.array(probabilities[s : s + chunk_size])) for s in starts)
    else:
        chunks = (probabilities[start : start + chunk_size] for start in starts)
    return select_top_k_from_chunks(chunks, probabilities.shape[1], k, p)


def select_top_k_from_chunks(
    chunks: Iterable[Tensor], num_classes: int, k: int, p: int
) -> PseudoLabels:
    """Do what `select_top_k` does for a pool that arrives in pieces and never exists as a whole.

    Each chunk has the shape (n, num_classes); together, in order, they are the pool. Memory is in
    proportion to ``num_classes · k`` plus one chunk, whatever the size of the pool: a candidate
    below its class's K-th best score so far is dropped at once, and the rest is cut down to K for
    each class whenever it has grown to twice that. Raises what `select_top_k` raises, and a
    ValueError where there is no image at all.
    """
    check_whole_number("k", k)
    check_whole_number("p", p)
    if p > num_classes:
        raise ValueError(f"p={p}: an image has {num_classes} classes to choose from, not more")
    none = torch.empty(0, dtype=torch.int64)
    waiting: list[Candidates] = [(torch.empty(0), none, none)]
    threshold = torch.full((num_classes,), -1.0)
    seen = num_waiting = 0
    for chunk in chunks:
        scores, labels, indices = _top_classes(_checked(chunk, seen, num_classes), seen, p)
        enters = scores > threshold[labels]
        waiting.append((scores[enters], labels[enters], indices[enters]))
        num_waiting += len(waiting[-1][0])
        seen += len(chunk)
        if num_waiting > num_classes * k:
            best, threshold = _best_of_each_class(waiting, num_classes, k)
            waiting, num_waiting = [best], 0
    if seen == 0:
        raise ValueError("the pool is empty: at least one image is needed")
    (scores, labels, indices), _ = _best_of_each_class(waiting, num_classes, k)
    return PseudoLabels(indices, labels, scores, num_classes, seen, k, p)


def _top_classes(chunk: Tensor, offset: int, p: int) -> Candidates:
    """Return each image's top P classes, image by image."""
    num_classes = chunk.shape[1]
    scores, labels = chunk.topk(min(p + 1, num_classes), dim=1)
    # topk breaks ties as it likes: where the class at rank P ties with the next one, a stable sort
    # decides for the lower class.
    if p < num_classes and (tied := scores[:, p - 1] == scores[:, p]).any():
        ordered, by_score = chunk[tied].sort(dim=1, descending=True, stable=True)
        scores[tied], labels[tied] = ordered[:, : p + 1], by_score[:, : p + 1]
    indices = torch.arange(offset, offset + len(chunk)).repeat_interleave(p)
    return scores[:, :p].flatten(), labels[:, :p].flatten(), indices


def _best_of_each_class(
    parts: list[Candidates], num_classes: int, k: int
) -> tuple[Candidates, Tensor]:
    """Return the top K candidates of each class, in order, and each class's score to beat."""
    scores, labels, indices = (torch.cat(columns) for columns in zip(*parts, strict=True))
    # Candidates of a class come in with rising index (of equal scores), and stable sorts keep that.
    order = scores.argsort(descending=True, stable=True)
    order = order[labels[order].argsort(stable=True)]
    scores, labels, indices = scores[order], labels[order], indices[order]
    counts = torch.bincount(labels, minlength=num_classes)
    starts = counts.cumsum(0) - counts
    keep = torch.arange(len(labels)) - starts[labels] < k
    threshold = torch.full((num_classes,), -1.0)
    full = counts >= k
    threshold[full] = scores[starts[full] + k - 1]
    return (scores[keep], labels[keep], indices[keep]), threshold


def _checked(chunk: Tensor, offset: int, num_classes: int) -> Tensor:
    """Return a chunk in float32 after making sure that its rows are distributions.

    Each probability was rounded to its dtype, by up to eps/2 of its size, when it was stored, and
    in the steps of a softmax that computes in that dtype: the sum may be off by as much.
    """
    if not chunk.is_floating_point():
        raise TypeError(f"probabilities must be floating-point numbers, not {chunk.dtype}")
    if chunk.ndim != 2 or chunk.shape[1] != num_classes:
        raise ValueError(f"chunks must be images × {num_classes}, not {tuple(chunk.shape)}")
    tolerance = max(SUM_TOLERANCE, 2 * torch.finfo(chunk.dtype).eps)
    chunk = chunk.detach().to("cpu", torch.float32)
    sums = chunk.sum(dim=1)
    good = ((sums - 1).abs() <= tolerance) & (chunk.amin(dim=1) >= 0)
    if not good.all():
        row = int(torch.nonzero(~good)[0])
        raise ValueError(
            f"row {offset + row} is no distribution over classes: its values lie in "
            f"{chunk[row].min():.3g}..{chunk[row].max():.3g} and sum to {sums[row]:.6g}, not 1 "
            "(logits need a softmax first)"
        )
    return chunk
