"""One forward at several token budgets: the same answers as one forward each, with patches embedded once."""

import pytest
import torch

from flux_hf import FluxViTConfig, FluxViTForVideoClassification
from flux_hf.modeling.token_selection_fluxvit import select_tokens
from tests.tiny_models import PATCHES_OF_14

GRIDS = [(8, 70), (6, 56), (5, 56), (1, 140), (2, 56), (1, 42)]


@pytest.fixture
def model():
    torch.manual_seed(0)
    return FluxViTForVideoClassification(FluxViTConfig(**PATCHES_OF_14, head_token_budgets=[60, 40, 20], num_labels=3))


def clips(frames: int, size: int) -> torch.Tensor:
    return torch.randn((2, frames, 3, size, size), generator=torch.Generator().manual_seed(frames * size))


@pytest.mark.parametrize("groups_of_frames", [1, 2, 5, 6, 8])
@pytest.mark.parametrize("ties", [False, True])
def test_smaller_budgets_keep_a_part_of_what_larger_ones_keep(groups_of_frames, ties):
    scores = torch.rand((3, groups_of_frames, 12), generator=torch.Generator().manual_seed(0))
    if ties:
        scores = (scores * 3).round()
    masks = [select_tokens(scores, budget) for budget in range(1, groups_of_frames * 12)]
    for budget, (smaller, larger) in enumerate(zip(masks, masks[1:], strict=False), 1):
        assert smaller.sum(1).eq(budget).all()
        assert not (smaller & ~larger).any()


@pytest.mark.long
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("budgets", [[60, 40, 20], [60, 20], [40], [1000, 37, 3], [60, 59, 2]])
@pytest.mark.parametrize("gradients", [False, True])
def test_equals_one_forward_for_each_budget(model, grid, budgets, gradients):
    pixels, tokens = clips(*grid), grid[0] * (grid[1] // 14) ** 2
    heads = {count: min((abs(60 - count), 0), (abs(40 - count), 1), (abs(20 - count), 2))[1] for count in range(1, 201)}
    with torch.set_grad_enabled(gradients):
        together = model.eval()(pixels, token_budgets=budgets)
        for index, budget in enumerate(budgets):
            alone = model(pixels, token_budget=budget)
            torch.testing.assert_close(together.logits[index], alone.logits, atol=1e-6, rtol=1e-6)
            torch.testing.assert_close(together.pooler_output[index], alone.pooler_output, atol=1e-6, rtol=1e-6)
            if alone.keep_mask is None:
                assert together.keep_mask[index] is None
            else:
                assert torch.equal(together.keep_mask[index], alone.keep_mask)
            if index > 0:
                head = heads[min(budget, tokens)]
                if head == heads[min(budgets[0], tokens)]:
                    aligned = alone.pooler_output / alone.pooler_output.norm(dim=-1, keepdim=True)
                else:
                    aligned = model.alignment_decoders[head - 1](alone.pooler_output)
                torch.testing.assert_close(together.aligned[index - 1], aligned, atol=1e-6, rtol=1e-6)
    assert len(together.aligned) == len(budgets) - 1


def test_gradients_are_the_sum_of_those_of_each_budget(model):
    pixels, budgets = clips(8, 70), [60, 40, 20]
    sum(logits.square().sum() for logits in model(pixels, token_budgets=budgets).logits).backward()
    together = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    model.zero_grad(set_to_none=True)
    for budget in budgets:
        model(pixels, token_budget=budget).logits.square().sum().backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(together[name], parameter.grad, atol=1e-5, rtol=1e-4, msg=name)


def test_patches_are_scored_once_and_only_the_largest_budget_is_embedded_with_gradients(model):
    embedded = []
    model.fluxvit.embeddings.patch_embedding.projection.register_forward_hook(
        lambda module, inputs, output: embedded.append((inputs[0].flatten(0, -2).shape[0], output.requires_grad))
    )
    model(clips(8, 70), token_budgets=[60, 40, 20])
    assert embedded == [(2 * 200, False), (2 * 60, True)]


def test_budgets_beyond_the_grid_share_the_encoder(model):
    lengths = []
    model.fluxvit.encoder.register_forward_pre_hook(lambda module, inputs: lengths.append(inputs[0].shape[1] - 1))
    output = model(clips(2, 56), token_budgets=[60, 40, 20])
    assert lengths == [32, 20]
    assert torch.equal(output.logits[0], output.logits[1])
    assert torch.equal(output.aligned[0], torch.nn.functional.normalize(output.pooler_output[0], dim=-1))


@pytest.mark.parametrize("budgets", [[], [20, 40], [40, 40], [60, 0]])
def test_budgets_that_do_not_descend(model, budgets):
    with pytest.raises(ValueError, match="token_budget"):
        model(clips(8, 70), token_budgets=budgets)


def test_excludes_what_a_single_budget_takes(model):
    with pytest.raises(ValueError, match="token_budgets excludes"):
        model(clips(8, 70), token_budgets=[40], labels=torch.zeros(2, dtype=torch.long))
