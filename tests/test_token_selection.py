import pytest
import torch

from flux_hf.modeling.token_selection_fluxvit import group_count, kept_positions, select_tokens, token_importance


def reference_selection(tokens: torch.Tensor, budget: int) -> set[int]:
    """The selector's definition for one clip (frames, places, channels), token by token."""
    frames, places = tokens.shape[:2]
    groups = group_count(frames)
    length = frames // groups
    kept = set()
    for group in range(groups):
        count = budget // groups + (group < budget % groups)
        ranked = []
        for frame in range(length):
            later = max(frame, 1)
            for place in range(places):
                now, before = tokens[group * length + later, place], tokens[group * length + later - 1, place]
                position = (group * length + frame) * places + place
                ranked.append((-torch.dist(now, before).item(), position))
        kept |= {position for _, position in sorted(ranked)[:count]}
    return kept


@pytest.mark.parametrize(
    ("frames", "groups"),
    [(1, 1), (2, 1), (3, 1), (4, 2), (5, 1), (6, 2), (8, 4), (10, 2), (12, 4), (15, 1), (24, 4), (64, 4)],
)
def test_group_count(frames, groups):
    assert group_count(frames) == groups


@pytest.mark.parametrize("frames", [2, 3, 4, 5, 6, 8, 12])
@pytest.mark.parametrize("budget", [1, 3, 7, 16, 23])
def test_keeps_the_tokens_that_change_most(frames, budget):
    tokens = torch.randn(2, frames, 3, 4, 5, generator=torch.Generator().manual_seed(frames * budget))
    keep = select_tokens(token_importance(tokens), budget)
    for clip, mask in zip(tokens, keep, strict=True):
        assert set(mask.nonzero().flatten().tolist()) == reference_selection(clip.flatten(1, 2), budget)


@pytest.mark.parametrize("frames", [1, 2, 3, 7, 8, 9, 12, 16])
def test_every_budget_is_kept_exactly(frames):
    tokens = torch.randn(1, frames, 2, 3, 4)
    importance = token_importance(tokens)
    for budget in range(1, frames * 6):
        assert select_tokens(importance, budget).sum() == budget


@pytest.mark.parametrize("frames", [2, 3, 8])
def test_earlier_positions_win_ties(frames):
    static = torch.ones(1, frames, 4, 4, 8)
    keep = select_tokens(token_importance(static), 6 * group_count(frames))
    per_group = keep.reshape(group_count(frames), -1)
    assert per_group[:, :6].all()
    assert not per_group[:, 6:].any()


def test_a_single_frame_keeps_an_even_cover():
    importance = token_importance(torch.randn(1, 1, 16, 16, 4))
    for budget in (16, 64, 128):
        blocks = select_tokens(importance, budget).reshape(4, 4, 4, 4).sum((1, 3)).float()
        assert (blocks - budget / 16).abs().max() <= 1


def test_smaller_budgets_keep_subsets_of_larger_ones():
    importance = token_importance(torch.randn(3, 8, 4, 4, 6))
    masks = [select_tokens(importance, budget) for budget in (16, 32, 64)]
    assert not (masks[0] & ~masks[1]).any() and not (masks[1] & ~masks[2]).any()


def test_kept_positions_are_in_order():
    mask = torch.tensor([[0, 1, 0, 1, 1], [1, 1, 1, 0, 0]]).bool()
    assert kept_positions(mask, 3).tolist() == [[1, 3, 4], [0, 1, 2]]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_is_kept(bad):
    """Exactly the budget, whatever the numbers are, and what is none is among it."""
    tokens = torch.randn(2, 4, 3, 3, 8)
    tokens[0, 2, 1, 1] = bad
    mask = select_tokens(token_importance(tokens), 7)
    assert mask.sum(1).tolist() == [7, 7] and mask[0, 2 * 9 + 4]
