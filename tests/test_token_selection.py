import copy
import json
import pickle

import pytest
import torch
from torch import nn
from transformers import AutoModelForVideoClassification, VideoMAEConfig, VideoMAEForVideoClassification

from flux_hf import (
    FluxViTConfig,
    FluxViTForPreTraining,
    FluxViTForVideoClassification,
    FluxViTModel,
    SelectionRule,
    disable_flux,
    enable_flux,
    register_selection_rule,
)
from flux_hf.modeling import token_selection_fluxvit
from flux_hf.modeling.token_selection_fluxvit import (
    group_count,
    keep_masks_at,
    kept_positions,
    select_tokens,
    selection_name,
    selection_rule,
    selection_rules,
    token_importance,
)
from tests.tiny_models import PATCHES_OF_14


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


SHIPPED = ["group_dynamic", "dynamic", "random", "tube", "uniform"]


@pytest.fixture
def registry(monkeypatch):
    """Rules that are registered in a test are forgotten after it."""
    monkeypatch.setattr(token_selection_fluxvit, "_RULES", dict(token_selection_fluxvit._RULES))


def embedded(batch: int = 2, frames: int = 8, rows: int = 4, columns: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, frames, rows, columns, 5, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("frames", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("kind", ["moving", "still", "no numbers", "half"])
def test_every_rule_keeps_every_budget_exactly(name, frames, kind):
    tokens = embedded(frames=frames)
    if kind == "still":
        tokens = torch.zeros_like(tokens)
    if kind == "no numbers":
        tokens[0] = float("nan")
    if kind == "half":
        tokens = tokens.bfloat16()
    total = frames * 12
    masks = keep_masks_at(tokens, list(range(total, 0, -1)), name)
    assert masks[0] is None
    for count, mask in zip(range(total - 1, 0, -1), masks[1:], strict=True):
        assert mask.sum(1).tolist() == [count, count]


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("ties", [False, True])
def test_rules_that_say_so_keep_parts_of_what_larger_budgets_keep(name, ties):
    tokens = embedded().round() if ties else embedded()
    masks = keep_masks_at(tokens, list(range(95, 0, -1)), name)
    assert selection_rule(name).nested
    for larger, smaller in zip(masks, masks[1:], strict=False):
        assert not (smaller & ~larger).any()


def test_group_dynamic_is_the_rule_of_the_paper():
    (mask,) = keep_masks_at(embedded(), [41])
    assert mask.equal(select_tokens(token_importance(embedded()), 41))
    for clip, kept in zip(embedded(), mask, strict=True):
        assert set(kept.nonzero().flatten().tolist()) == reference_selection(clip.flatten(1, 2), 41)


@pytest.mark.parametrize("count", [1, 13, 41, 95])
def test_dynamic_keeps_the_largest_changes_of_the_whole_clip(count):
    tokens = embedded()
    change = (tokens[:, 1:] - tokens[:, :-1]).norm(dim=-1).flatten(2)
    # The first frame has the values of the second: of two equal ones the earlier is kept, as in a stable order.
    change = torch.cat([change[:, :1], change], 1).flatten(1)
    ranked = change.sort(dim=1, descending=True, stable=True).indices[:, :count]
    (mask,) = keep_masks_at(tokens, [count], "dynamic")
    assert mask.equal(torch.zeros(2, 96, dtype=torch.bool).scatter(1, ranked, True))


@pytest.mark.parametrize("name", ["random", "tube"])
def test_random_rules_draw_by_the_generator_and_for_each_clip(name):
    def drawn(seed):
        torch.manual_seed(seed)
        return keep_masks_at(embedded(), [40], name)[0]

    assert drawn(0).equal(drawn(0)) and not drawn(0).equal(drawn(1))
    assert not drawn(0)[0].equal(drawn(0)[1])
    assert [rule for rule in SHIPPED if selection_rule(rule).random] == ["random", "tube"]


def test_random_tokens_are_as_likely_everywhere():
    torch.manual_seed(0)
    (mask,) = keep_masks_at(embedded(batch=2000), [24], "random")
    assert (mask.float().mean(0) - 0.25).abs().max() < 0.05


@pytest.mark.parametrize("name", ["tube", "uniform"])
@pytest.mark.parametrize("frames", [1, 3, 8])
def test_tubes_and_covers_are_at_the_same_places_in_all_frames(name, frames):
    masks = keep_masks_at(embedded(frames=frames), [frames * 5 + frames // 2, frames * 5], name)
    more, even = (mask.reshape(2, frames, 12) for mask in masks)
    assert (even == even[:, :1]).all() and even.sum(2).eq(5).all()
    assert more.sum(2).tolist() == 2 * [[6] * (frames // 2) + [5] * (frames - frames // 2)]


@pytest.mark.parametrize("count", [8 * 16, 8 * 64, 8 * 128])
def test_uniform_covers_every_frame_evenly(count):
    (mask,) = keep_masks_at(embedded(1, 8, 16, 16), [count], "uniform")
    blocks = mask.reshape(8, 4, 4, 4, 4).sum((2, 4)).float()
    assert (blocks - count / 8 / 16).abs().max() <= 1


def test_names_of_rules(registry):
    assert selection_rules() == SHIPPED
    register_selection_rule("first", first_tokens)
    assert selection_rules() == [*SHIPPED, "first"]
    assert selection_name(first_tokens) == selection_name("first") == "first"
    assert selection_name(selection_rule("tube")) == "tube"
    assert selection_name(last_tokens) == f"{__name__}.last_tokens"
    scored = SelectionRule(select_tokens, brightness)
    assert selection_name(scored) == f"{select_tokens.__module__}.select_tokens({__name__}.brightness)"
    register_selection_rule("first", last_tokens)  # as where a cell of a notebook runs again
    assert selection_rule("first").choose is last_tokens
    register_selection_rule("tube", selection_rule("tube"))


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_rules_stay(registry, name):
    with pytest.raises(ValueError, match=name):
        register_selection_rule(name, first_tokens)
    assert selection_rule(name) == token_selection_fluxvit._SHIPPED[name]


@pytest.mark.parametrize(
    ("name", "rule", "message"),
    [("", "tube", "name"), ("a" * 501, "tube", "name"), (3, "tube", "name"), ("mine", 7, "7"), ("mine", "no", "'no'")],
)
def test_what_cannot_be_registered(registry, name, rule, message):
    with pytest.raises(ValueError, match=message):
        register_selection_rule(name, rule)
    assert selection_rules() == SHIPPED


def first_tokens(scores, token_budget):
    """The first tokens of the first frames."""
    kept = torch.arange(scores[0].numel(), device=scores.device) < token_budget
    return kept.expand(len(scores), -1)


def last_tokens(scores, token_budget):
    return first_tokens(scores, token_budget).flip(1)


def disjoint(scores, token_budget):
    """No budget keeps a part of what another keeps."""
    return (first_tokens if token_budget < 30 else last_tokens)(scores, token_budget)


def brightness(tokens):
    return tokens.sum(-1).flatten(2)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (lambda scores, budget: scores > 0, "bool mask of shape"),
        (lambda scores, budget: first_tokens(scores, budget).float(), "float32"),
        (lambda scores, budget: first_tokens(scores, budget - 1), "must keep 20 tokens"),
        (SelectionRule(select_tokens, lambda tokens: tokens.sum(-1)), "scores of shape"),
    ],
)
def test_rules_that_do_not_keep_the_contract(rule, message):
    with pytest.raises(ValueError, match=message):
        keep_masks_at(embedded(), [20], rule)


def test_scores_of_your_own_may_be_no_numbers_and_have_gradients():
    tokens = embedded().requires_grad_()
    bright = brightness(tokens) > 4
    rule = SelectionRule(select_tokens, lambda tokens: brightness(tokens).masked_fill(bright, torch.nan))
    (mask,) = keep_masks_at(tokens, [20], rule)
    assert mask.sum(1).tolist() == [20, 20] and not mask.requires_grad
    assert bright.any() and mask[bright.flatten(1)].all()


def tiny(kind=FluxViTForVideoClassification, **settings):
    torch.manual_seed(0)
    return kind(FluxViTConfig(**PATCHES_OF_14, head_token_budgets=[60, 40, 20], num_labels=3, **settings)).eval()


def clips() -> torch.Tensor:
    return torch.randn(2, 8, 3, 56, 56, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", [FluxViTForVideoClassification, FluxViTModel])
@pytest.mark.parametrize("way", ["call", "attribute", "configuration"])
@torch.no_grad()
def test_a_rule_of_your_own_equals_its_mask(registry, kind, way):
    register_selection_rule("last", last_tokens)
    model = tiny(kind, token_selection="last" if way == "configuration" else "group_dynamic")
    if way == "attribute":
        model.token_selection = last_tokens
    given = {"token_selection": last_tokens} if way == "call" else {}
    found = model(clips(), token_budget=40, **given)
    expected = model(clips(), keep_mask=last_tokens(torch.zeros(2, 8, 16), 40))
    assert found.keep_mask.equal(expected.keep_mask) and found[0].equal(expected[0])
    assert model.config.token_selection == ("group_dynamic" if way == "call" else "last")
    assert not model(clips(), token_budget=40, token_selection="group_dynamic").keep_mask.equal(expected.keep_mask)


BRIGHTEST = SelectionRule(select_tokens, brightness, nested=True)


@pytest.mark.parametrize("rule", [disjoint, "dynamic", "uniform", BRIGHTEST])
@pytest.mark.parametrize("budgets", [[60, 40, 20], [1000, 40, 20], [40]])
@pytest.mark.parametrize("gradients", [False, True])
def test_several_budgets_equal_one_call_each(rule, budgets, gradients):
    model = tiny()
    with torch.set_grad_enabled(gradients):
        together = model(clips(), token_budgets=budgets, token_selection=rule)
        alone = [model(clips(), token_budget=budget, token_selection=rule) for budget in budgets]
    for index, single in enumerate(alone):
        torch.testing.assert_close(together.logits[index], single.logits, atol=1e-6, rtol=1e-6)
        assert (single.keep_mask is None) or single.keep_mask.equal(together.keep_mask[index])
    if gradients:
        both = []
        for logits in (together.logits, [single.logits for single in alone]):
            model.zero_grad()
            sum(each.square().sum() for each in logits).backward()
            both.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
        for one, other in zip(*both, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_pretraining_selects_by_the_rule():
    model = tiny(FluxViTForPreTraining, token_budget=40, token_selection="uniform")
    expected = keep_masks_at(embedded(2, 8, 4, 4), [40], "uniform")[0]
    assert model(clips()).keep_masks[0].equal(expected)
    assert model(clips(), token_selection=last_tokens).keep_masks[0].equal(last_tokens(torch.zeros(2, 8, 16), 40))


def test_what_is_saved_tells_the_truth(registry, tmp_path):
    model = tiny()
    own = f"{__name__}.last_tokens"
    for rule, name in (("tube", "tube"), (selection_rule("uniform"), "uniform"), (last_tokens, own)):
        model.token_selection = rule
        model.save_pretrained(tmp_path / name)
        assert json.loads((tmp_path / name / "config.json").read_text())["token_selection"] == name
    for name in ("tube", "uniform"):
        loaded = FluxViTForVideoClassification.from_pretrained(tmp_path / name)
        assert loaded.token_selection == name
    for kind in (FluxViTForVideoClassification, FluxViTModel, FluxViTForPreTraining):
        with pytest.raises(ValueError, match=rf"register_selection_rule\('{own}'"):
            kind.from_pretrained(tmp_path / own)
    assert FluxViTConfig.from_pretrained(tmp_path / own).token_selection == own
    loaded = FluxViTModel.from_pretrained(tmp_path / own, token_selection="tube")
    assert loaded.token_selection == loaded.config.token_selection == "tube"

    register_selection_rule(own, last_tokens)
    loaded = FluxViTForVideoClassification.from_pretrained(tmp_path / own)
    assert loaded(clips(), token_budget=40).keep_mask.equal(last_tokens(torch.zeros(2, 8, 16), 40))


class Learned(nn.Module):
    """A rule with parameters of its own."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, scores, token_budget):
        return last_tokens(scores * self.weight, token_budget)


@pytest.mark.parametrize("rule", [Learned(), SelectionRule(last_tokens), last_tokens])
def test_a_rule_is_no_part_of_the_weights_and_stays_with_copies(rule):
    model = tiny()
    keys = list(model.state_dict())
    model.token_selection = rule
    assert list(model.state_dict()) == keys
    for same in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert same(clips(), token_budget=40).keep_mask.equal(last_tokens(torch.zeros(2, 8, 16), 40))
    model.config.token_selection = "uniform"  # the configuration has the last word
    assert model(clips(), token_budget=40).keep_mask.equal(keep_masks_at(embedded(2, 8, 4, 4), [40], "uniform")[0])


@torch.no_grad()
def test_another_model_selects_by_the_rule(tmp_path):
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    stock = VideoMAEForVideoClassification(VideoMAEConfig(image_size=56, patch_size=14, num_frames=16, **sizes)).eval()
    with pytest.raises(ValueError, match="token_selection"):
        enable_flux(stock, token_selection="groop_dynamic")
    assert type(stock) is VideoMAEForVideoClassification
    model = enable_flux(stock, 40, token_selection=last_tokens)
    pixels, expected = torch.randn(2, 16, 3, 56, 56), last_tokens(torch.zeros(2, 8, 16), 40)
    assert model(pixels).keep_mask.equal(expected) and model.videomae(pixels).keep_mask.equal(expected)
    masks = model(pixels, token_budgets=[40, 20], token_selection=disjoint).keep_mask
    assert masks[0].equal(expected) and masks[1].equal(first_tokens(torch.zeros(2, 8, 16), 20))
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=f"register_selection_rule.'{__name__}.last_tokens'"):
        AutoModelForVideoClassification.from_pretrained(tmp_path)
    disable_flux(model)
    assert "_own_selection" not in vars(model.videomae) and not hasattr(model.config, "token_selection")


@pytest.mark.parametrize("rule", ["groop_dynamic", 3, None])
def test_rules_that_are_none(rule):
    model = tiny()
    with pytest.raises(ValueError, match="token_selection"):
        model.token_selection = rule
    assert model.config.token_selection == "group_dynamic"
    if rule is not None:
        with pytest.raises(ValueError, match="token_selection"):
            model(clips(), token_budget=40, token_selection=rule)


@pytest.mark.parametrize("value", ["", 3, None, ["tube"], "a" * 501])
def test_configurations_that_cannot_name_a_rule(value):
    with pytest.raises(ValueError, match="token_selection"):
        FluxViTConfig(token_selection=value)


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["group_dynamic", "dynamic", "uniform", last_tokens])
@torch.no_grad()
def test_rules_that_draw_nothing_are_exported(rule):
    model = tiny(token_budget=40)
    model.token_selection = rule
    program = torch.export.export(model, (), {"pixel_values_videos": clips()}, strict=False).module()
    other = clips().flip(0, 1)
    torch.testing.assert_close(program(pixel_values_videos=other).logits, model(other).logits)


@pytest.mark.slow
@pytest.mark.parametrize("rule", [*SHIPPED, last_tokens])
@torch.no_grad()
def test_rules_compile_as_one_graph(rule):
    model = tiny()
    model.token_selection = rule
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for given in ({"token_budget": 40}, {"token_budgets": [60, 20]}):
        torch.manual_seed(0)
        expected = model(clips(), **given)
        torch.manual_seed(0)
        found = compiled(clips(), **given)
        torch.testing.assert_close(found.logits, expected.logits)
