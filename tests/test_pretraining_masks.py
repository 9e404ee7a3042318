"""The double mask: exact counts, sets inside sets, salient tokens first, the same draw in every layout of processes."""

import pytest
import torch

from flux_hf.modeling.token_selection_fluxvit import select_tokens, token_importance
from flux_hf.pretraining.masking import gumbel_noise, student_masks, teacher_mask

TOKENS = 8 * 3 * 4


def patches(batch: int = 3) -> torch.Tensor:
    return torch.randn(batch, 8, 3, 4, 12, generator=torch.Generator().manual_seed(0))


def draw(budgets: list[int], saliency: torch.Tensor | None = None, tokens: int = 50, step: int = 0):
    seen = teacher_mask(patches(), tokens)
    kept = min(tokens, TOKENS)
    saliency = torch.zeros(3, kept) if saliency is None else saliency
    noise = gumbel_noise(0, step, ["a", "b", "c"], kept)
    return seen, *student_masks(seen, saliency, noise, budgets)


def test_the_teacher_sees_what_moves():
    mask = teacher_mask(patches(), 50)
    assert mask.sum(1).tolist() == [50] * 3
    assert mask.equal(select_tokens(token_importance(patches()), 50))
    assert teacher_mask(patches(), 50, "dynamic").equal(select_tokens(token_importance(patches(), 1), 50, 1))
    assert teacher_mask(patches(), TOKENS).all()
    assert teacher_mask(patches(), 10_000).all()


@pytest.mark.parametrize(
    ("budgets", "counts"), [([50, 30, 7], [50, 30, 7]), ([40], [40]), ([99, 60, 20], [50, 50, 20])]
)
def test_sets_inside_sets_inside_what_the_teacher_sees(budgets, counts):
    seen, masks, _ = draw(budgets)
    assert [mask.sum(1).tolist() for mask in masks] == [[count] * 3 for count in counts]
    for larger, smaller in zip([seen, *masks], masks, strict=False):
        assert not (smaller & ~larger).any()


def test_places_point_at_the_targets_of_the_largest_set():
    seen, masks, places = draw([30, 7])
    targets = torch.arange(TOKENS).expand(3, -1)[seen].view(3, 50)
    expected = torch.arange(TOKENS).expand(3, -1)[masks[0]].view(3, 30)
    assert targets.gather(1, places).equal(expected)


def test_salient_tokens_are_drawn_more_often_but_not_always():
    weights = torch.arange(1, 51).float().expand(3, -1)
    counts = torch.zeros(50)
    for step in range(300):
        seen, (mask,), _ = draw([10], weights.log(), step=step)
        counts += mask[seen].view(3, 50).float().sum(0)
    assert counts.sum() == 300 * 3 * 10
    assert counts[40:].sum() > 1.5 * counts[20:30].sum() > 0
    assert counts[20:30].sum() > 1.5 * counts[:10].sum() > 0


def test_a_single_token_is_drawn_in_proportion():
    weights = torch.tensor([6.0, 3.0, 1.0]).expand(3, -1)
    first = torch.zeros(3)
    for step in range(400):
        noise = gumbel_noise(0, step, ["a", "b", "c"], 3)
        _, places = student_masks(torch.ones(3, 3, dtype=torch.bool), weights.log(), noise, [1])
        first += torch.bincount(places.flatten(), minlength=3)
    torch.testing.assert_close(first / 1200, torch.tensor([0.6, 0.3, 0.1]), atol=0.05, rtol=0)


def test_one_step_and_clip_one_draw():
    together = gumbel_noise(3, 5, ["a", "b", "c"], 20)
    assert together[1].equal(gumbel_noise(3, 5, ["b"], 20)[0])
    assert not together[0].equal(together[1])
    assert not together[1].equal(gumbel_noise(3, 6, ["b"], 20)[0])
    assert not together[1].equal(gumbel_noise(4, 5, ["b"], 20)[0])
