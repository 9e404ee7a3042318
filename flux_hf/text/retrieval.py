"""Retrieval figures from embeddings: recalls and ranks, both ways, with and without dual softmax.

The protocol. Every text asks for its video among all videos (text to video); every video asks for its texts among all
texts, and the best placed of them counts (video to text: with several texts a video as on MSVD; the same as usual
where there is one, as on MSRVTT-1kA, LSMDC and with the paragraphs of DiDeMo and ActivityNet). What is as near as the
right one stands before it: a tie never helps. Other code leaves ties to its sorting.

Dual softmax (CAMoE, arXiv 2109.04290): similarity * softmax of similarity / temperature over all queries. It needs all
queries at once and assumes that each has a target of its own; both figures are always given.
"""

import math
from collections.abc import Iterator
from statistics import median

import numpy as np
import torch

from flux_hf.evaluation.figures import wilson_interval

RECALLS = (1, 5, 10)
ELEMENTS = 2**24
"""Similarities that are held at once, 128 MiB of them."""

TIE = 1e-9
"""Difference below which two cosines are the same: products of equal vectors differ in their last bits with their place
in a matrix."""


def retrieval_figures(
    text_embeds: np.ndarray,
    video_embeds: np.ndarray,
    owners: list[int],
    *,
    logit_scale: float = 100.0,
    texts: list[str] | None = None,
) -> dict:
    """Recalls and ranks in both directions.

    Args:
        text_embeds: (texts, width), unit length.
        video_embeds: (videos, width), unit length.
        owners: for each text the number of its video; every video has one text at least.
        logit_scale: 1 / temperature of the dual softmax, the model's.
        texts: the sentences; then every video with the same sentence is right for it, and every text that says the same
            as one of a video's own is right for the video. Default: only the pair is right, as the protocols have it.

    Returns:
        `text_to_video`, `video_to_text` and, under `dual_softmax`, the same two; each with `r1`, `r5`, `r10` (shares),
        `r1_interval` (95 %, Wilson), `median_rank`, `mean_rank` (ranks begin with 1; all None without videos) and
        `chance` (`r1`, `r5`, `r10` of a random order).

    Raises:
        ValueError: the embeddings, the owners or the texts do not fit together, or an embedding is not finite.
    """
    owners = np.asarray(owners, dtype=np.int64)
    _check(text_embeds, video_embeds, owners, texts)
    numbers: dict = {}
    sentences = np.array([numbers.setdefault(text, len(numbers)) for text in texts or range(len(owners))], np.int64)
    searches = {
        "text_to_video": (text_embeds, video_embeds, _right_videos(owners, sentences)),
        "video_to_text": (video_embeds, text_embeds, _right_texts(owners, sentences, len(video_embeds))),
    }
    plain, dual = {}, {}
    for direction, (queries, targets, right) in searches.items():
        for figures, ranks in zip((plain, dual), _Logits(queries, targets, logit_scale).ranks(right), strict=True):
            figures[direction] = _figures(ranks, right, len(targets))
    return plain | {"dual_softmax": dual}


class _Logits:
    """Similarities times `logit_scale` of all queries (rows) and targets, some rows at a time, in float64."""

    def __init__(self, queries: np.ndarray, targets: np.ndarray, logit_scale: float):
        self.queries, self.targets = (torch.as_tensor(np.asarray(rows)).double() for rows in (queries, targets))
        self.logit_scale = logit_scale

    def chunks(self) -> Iterator[tuple[int, torch.Tensor]]:
        """(number of the first row, rows)"""
        rows = max(1, ELEMENTS // max(1, len(self.targets)))
        for first in range(0, len(self.queries), rows):
            yield first, self.logit_scale * self.queries[first : first + rows] @ self.targets.T

    def ranks(self, right: list[np.ndarray]) -> tuple[list[int], list[int]]:
        """The rank of the best right target of each query, without and with dual softmax."""
        plain, dual = [], []
        over_queries = torch.full((len(self.targets),), -torch.inf, dtype=torch.float64)
        for first, logits in self.chunks():
            plain += _ranks(logits, torch.full_like(logits, self.logit_scale), right[first:])
            over_queries = torch.logaddexp(over_queries, logits.logsumexp(0))
        for first, logits in self.chunks():
            weights = (logits - over_queries).exp()
            dual += _ranks(logits * weights, weights * self.logit_scale, right[first:])
        return plain, dual


def _ranks(scores: torch.Tensor, factors: torch.Tensor, right: list[np.ndarray]) -> Iterator[int]:
    """For each row the place of its best right column among the wrong ones, from 1 on; ties come before it. Scores are
    cosines times `factors`."""
    for row, factor, columns in zip(scores, factors, right, strict=False):
        columns = torch.as_tensor(columns)
        best = columns[row[columns].argmax()]
        not_below = row >= row[best] - TIE * torch.minimum(factor, factor[best])
        yield 1 + int(not_below.sum()) - int(not_below[columns].sum())


def _right_videos(owners: np.ndarray, sentences: np.ndarray) -> list[np.ndarray]:
    return [np.unique(owners[texts]) for texts in _groups(sentences, sentences.max(initial=-1) + 1, sentences)]


def _right_texts(owners: np.ndarray, sentences: np.ndarray, num_videos: int) -> list[np.ndarray]:
    count = sentences.max(initial=-1) + 1
    same = _groups(sentences, count, np.arange(count))
    own = _groups(owners, num_videos, np.arange(num_videos))
    return [np.concatenate([same[sentence] for sentence in np.unique(sentences[texts])]) for texts in own]


def _groups(keys: np.ndarray, count: int, wanted: np.ndarray) -> list[np.ndarray]:
    """For each of `wanted` the places where `keys` has it; the keys are 0 to `count` - 1."""
    order = np.argsort(keys, kind="stable")
    ends = np.cumsum(np.bincount(keys, minlength=count))
    starts = np.concatenate([[0], ends[:-1]])
    return [order[starts[key] : ends[key]] for key in wanted]


def _figures(ranks: list[int], right: list[np.ndarray], targets: int) -> dict:
    known = bool(ranks)
    hits = [sum(rank <= k for rank in ranks) for k in RECALLS]
    return {
        **{f"r{k}": count / len(ranks) if known else None for k, count in zip(RECALLS, hits, strict=True)},
        "r1_interval": wilson_interval(hits[0], len(ranks)),
        "median_rank": float(median(ranks)) if known else None,
        "mean_rank": float(np.mean(ranks)) if known else None,
        "queries": len(ranks),
        "chance": {
            f"r{k}": float(np.mean([_chance(len(own), targets, k) for own in right])) if known else None
            for k in RECALLS
        },
    }


def _chance(right: int, targets: int, k: int) -> float:
    """Probability that one of `right` targets is among the first `k` of a random order."""
    return 1 - math.comb(targets - right, k) / math.comb(targets, k) if k < targets else 1.0


def _check(text_embeds, video_embeds, owners: np.ndarray, texts: list[str] | None) -> None:
    if len(text_embeds) != len(owners) or (texts is not None and len(texts) != len(owners)):
        raise ValueError(
            f"{len(text_embeds)} text_embeds need as many owners and texts, got {len(owners)} owners"
            + ("" if texts is None else f" and {len(texts)} texts")
        )
    for name, embeds in (("text_embeds", text_embeds), ("video_embeds", video_embeds)):
        if not np.isfinite(embeds).all():
            row = int(np.flatnonzero(~np.isfinite(embeds).all(1))[0])
            raise ValueError(f"{name} must be finite numbers, row {row} holds others")
    if len(owners) and not 0 <= owners.min() <= owners.max() < len(video_embeds):
        raise ValueError(f"owners must be 0 to {len(video_embeds) - 1}, got {owners.min()} to {owners.max()}")
    if missing := sorted(set(range(len(video_embeds))) - set(owners.tolist())):
        raise ValueError(f"every video needs a text, these have none: {missing[:5]}")
