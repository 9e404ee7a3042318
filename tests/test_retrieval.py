"""The figures of retrieval against a plain, slow computation."""

import itertools
import math

import numpy as np
import pytest

from flux_hf.text import retrieval
from flux_hf.text.retrieval import retrieval_figures

SCALE = 20.0


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def slow_rank(scores: list[float], right: set[int]) -> int:
    """Where the best right one stands when every wrong one that is no worse comes first."""
    best = max(scores[place] for place in right)
    return 1 + sum(score >= best for place, score in enumerate(scores) if place not in right)


def slow_figures(ranks: list[int]) -> dict:
    ordered = sorted(ranks)
    middle = len(ordered) // 2
    median = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
    shares = {f"r{k}": sum(rank <= k for rank in ranks) / len(ranks) for k in (1, 5, 10)}
    return shares | {"median_rank": median, "mean_rank": sum(ranks) / len(ranks)}


def slow(texts: np.ndarray, videos: np.ndarray, owners: list[int], same=lambda one, other: one == other) -> dict:
    """In loops over Python numbers, with whole tables."""
    logits = [[SCALE * sum(float(a) * float(b) for a, b in zip(t, v, strict=True)) for v in videos] for t in texts]
    right_videos = [{owners[o] for o in range(len(texts)) if same(o, t)} for t in range(len(texts))]
    own = [{t for t, owner in enumerate(owners) if owner == v} for v in range(len(videos))]
    right_texts = [{o for o in range(len(texts)) for t in texts_of if same(o, t)} for texts_of in own]

    def both(to_video, to_text):
        return {
            "text_to_video": slow_figures([slow_rank(to_video[t], right_videos[t]) for t in range(len(texts))]),
            "video_to_text": slow_figures(
                [slow_rank([row[v] for row in to_text], right_texts[v]) for v in range(len(videos))]
            ),
        }

    over_texts = [sum(math.exp(row[v]) for row in logits) for v in range(len(videos))]
    over_videos = [sum(map(math.exp, row)) for row in logits]
    dual_to_video = [[x * math.exp(x) / over_texts[v] for v, x in enumerate(row)] for row in logits]
    dual_to_text = [[x * math.exp(x) / over_videos[t] for x in row] for t, row in enumerate(logits)]
    return both(logits, logits) | {"dual_softmax": both(dual_to_video, dual_to_text)}


def check(found: dict, expected: dict):
    for way in ("text_to_video", "video_to_text"):
        for kind, wanted in ((found, expected), (found["dual_softmax"], expected["dual_softmax"])):
            assert {name: kind[way][name] for name in wanted[way]} == pytest.approx(wanted[way])


@pytest.mark.parametrize("counts", [[1] * 23, [3, 1, 2, 5, 1, 1, 4, 2, 1, 3]])
@pytest.mark.parametrize("elements", [1, 40, 2**24])
def test_figures_equal_a_slow_computation_whatever_the_chunks(counts, elements, monkeypatch):
    monkeypatch.setattr(retrieval, "ELEMENTS", elements)
    draw = np.random.default_rng(len(counts))
    owners = [video for video, count in enumerate(counts) for _ in range(count)]
    videos = unit(draw.normal(size=(len(counts), 6)))
    texts = unit(videos[owners] + draw.normal(size=(len(owners), 6)))
    order = draw.permutation(len(owners))
    owners, texts = [owners[place] for place in order], texts[order]
    found = retrieval_figures(texts, videos, owners, logit_scale=SCALE)
    check(found, slow(texts, videos, owners))
    assert 0 < found["text_to_video"]["r1"] < 1 and found["text_to_video"] != found["dual_softmax"]["text_to_video"]


def test_dual_softmax_of_large_logits():
    draw = np.random.default_rng(1)
    videos = unit(draw.normal(size=(30, 8)))
    texts = unit(videos + draw.normal(size=(30, 8)))
    sharp = retrieval_figures(texts, videos, list(range(30)), logit_scale=2000.0)
    assert sharp["dual_softmax"]["text_to_video"]["r10"] > 0.5


def test_a_tie_never_helps():
    """Videos that look the same to the model: none of them is found, whatever the order and the chunks."""
    videos = unit(np.tile(np.random.default_rng(0).normal(size=(1, 96)), (40, 1)))
    figures = retrieval_figures(videos, videos, list(range(40)))
    for way in ("text_to_video", "video_to_text"):
        for found in (figures[way], figures["dual_softmax"][way]):
            assert found["r1"] == found["r10"] == 0 and found["median_rank"] == 40


def test_ties_at_a_right_angle():
    """Sums that are zero but for the last bits: how their terms are ordered says nothing."""
    whole, asked = (np.array(list(itertools.permutations(row))) for row in ([1, 2, -3, 0], [7, 1, -2, 3]))
    products = asked @ whole.T
    assert (products == 0).sum(1).max() == 2
    zero = [int(np.flatnonzero(row == 0)[0]) if (row == 0).any() else place for place, row in enumerate(products)]
    owners = [*zero, *range(24)]
    videos, texts = (
        rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (whole, np.concatenate([asked, whole]))
    )
    ranks = [slow_rank(row, {owner}) for row, owner in zip([*products, *(whole @ whole.T)], owners, strict=True)]
    found = retrieval_figures(texts, videos, owners)["text_to_video"]
    assert found["mean_rank"] == pytest.approx(np.mean(ranks))


def test_chance_is_what_random_orders_give():
    owners = [0, 0, 0, 1, 2, 3, 3, 4, 5, 6, 7]
    figures = retrieval_figures(np.eye(11, 4, dtype=np.float32), np.eye(8, 4, dtype=np.float32), owners)
    to_text = figures["video_to_text"]["chance"]
    by_count = {1: 6, 2: 1, 3: 1}
    hits = {
        count: np.mean([min(places) < 5 for places in itertools.combinations(range(11), count)]) for count in by_count
    }
    assert to_text["r5"] == pytest.approx(sum(n * hits[count] for count, n in by_count.items()) / 8)
    assert figures["text_to_video"]["chance"] == pytest.approx({"r1": 1 / 8, "r5": 5 / 8, "r10": 1})


def test_every_video_with_the_same_sentence_is_right():
    draw = np.random.default_rng(2)
    sentences = ["left", "right", "left", "up", "right", "left", "down", "up"]
    owners = [0, 1, 2, 3, 4, 5, 5, 6]
    known = {text: draw.normal(size=5) for text in sorted(set(sentences))}
    texts = unit(np.stack([known[text] for text in sentences]))
    videos = unit(draw.normal(size=(7, 5)))
    found = retrieval_figures(texts, videos, owners, logit_scale=SCALE, texts=sentences)
    check(found, slow(texts, videos, owners, lambda one, other: sentences[one] == sentences[other]))
    assert found["text_to_video"] != retrieval_figures(texts, videos, owners, logit_scale=SCALE)["text_to_video"]


@pytest.mark.parametrize("side", ["text_embeds", "video_embeds"])
def test_numbers_that_are_none_find_nothing(side):
    embeds = {"text_embeds": np.eye(2), "video_embeds": np.eye(2)}
    embeds[side][1, 0] = np.nan
    with pytest.raises(ValueError, match=f"{side} must be finite numbers, row 1 holds others"):
        retrieval_figures(**embeds, owners=[0, 1])


def test_nothing_to_search():
    figures = retrieval_figures(np.zeros((0, 4)), np.zeros((0, 4)), [])
    assert figures["text_to_video"]["r1"] is None and figures["video_to_text"]["median_rank"] is None


@pytest.mark.parametrize(
    ("owners", "texts", "message"),
    [
        ([0, 1], None, "3 text_embeds need as many owners and texts, got 2 owners"),
        ([0, 1, 1], ["a"], "got 3 owners and 1 texts"),
        ([0, 0, 0], None, r"every video needs a text, these have none: \[1\]"),
        ([0, 1, 2], None, "owners must be 0 to 1, got 0 to 2"),
    ],
)
def test_what_does_not_fit(owners, texts, message):
    with pytest.raises(ValueError, match=message):
        retrieval_figures(np.eye(3), np.eye(2, 3), owners, texts=texts)
