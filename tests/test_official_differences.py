"""Where we differ from the official code on purpose, and that docs/differences_from_official.md names real tests."""

import ast
import re
from pathlib import Path

import pytest
import torch

from flux_hf import FluxViTConfig, FluxViTForVideoClassification
from flux_hf.conversion import convert_official_state_dict
from flux_hf.modeling.token_selection_fluxvit import group_count, select_tokens, token_importance
from tests import official_reference as official

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "differences_from_official.md"


@pytest.fixture(scope="module")
def model(tiny_config):
    torch.manual_seed(0)
    return FluxViTForVideoClassification(tiny_config).eval()


def video(batch: int, frames: int, height: int = 56, width: int = 56) -> torch.Tensor:
    return torch.randn(batch, frames, 3, height, width, generator=torch.Generator().manual_seed(frames))


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 6, 7, 8, 12])
@torch.no_grad()
def test_every_number_of_frames_can_be_selected_from(model, frames):
    output = model(video(2, frames), token_budget=7)
    assert output.keep_mask.sum(1).tolist() == [7, 7]
    assert output.logits.isfinite().all()


@pytest.mark.parametrize(
    ("frames", "side", "budget"),
    [(8, 196, 1024), (12, 224, 1024), (16, 196, 2048), (24, 224, 2048), (24, 196, 3072), (10, 224, 1023), (4, 224, 3)],
)
def test_exactly_the_budget_is_kept(frames, side, budget):
    """Among them the grids at which the official code keeps 4 tokens fewer."""
    importance = torch.rand(2, frames, (side // 14) ** 2, generator=torch.Generator().manual_seed(0))
    keep = select_tokens(importance, budget)
    assert keep.sum(1).tolist() == [budget, budget]
    per_group = keep.view(2, group_count(frames), -1).sum(-1)
    assert (per_group.max() - per_group.min()) <= 1
    assert (per_group.diff(dim=1) <= 0).all()


def test_the_earlier_position_wins_a_tie():
    still = torch.ones(1, 8, 16)
    keep = select_tokens(still, 10).view(4, 32)
    assert keep.sum(1).tolist() == [3, 3, 2, 2]
    assert all(row[: int(row.sum())].all() for row in keep)
    moved = still.clone()
    moved[0, 1, 5] = 2.0
    assert select_tokens(moved, 10).view(4, 32)[0].nonzero().flatten().tolist() == [0, 1, 21]


def test_importance_is_float32():
    tokens = torch.randn(1, 8, 4, 4, 64, generator=torch.Generator().manual_seed(0)).bfloat16()
    importance = token_importance(tokens)
    assert importance.dtype == torch.float32
    assert torch.equal(importance, token_importance(tokens.float()))
    assert len(importance[0, 1].unique()) == 16


@torch.no_grad()
def test_a_budget_beyond_the_grid_keeps_all(model):
    everything = model(video(1, 4))
    assert everything.keep_mask is None
    for budget in (64, 65, 5000):
        output = model(video(1, 4), token_budget=budget)
        assert output.keep_mask is None
        torch.testing.assert_close(output.logits, everything.logits)


@torch.no_grad()
def test_heads_belong_to_descending_budgets():
    weights = official.flux_weights(width=32, depth=1, table=(4, 4), classes=3, projection=24)
    model = convert_official_state_dict(weights, num_attention_heads=2, pooler_num_attention_heads=4)
    assert model.config.head_token_budgets == [3072, 2048, 1024]
    nearest = {512: 2, 1024: 2, 1536: 1, 2048: 1, 2560: 0, 3072: 0, 6144: 0}
    assert {tokens: model.fluxvit.resolve_head(tokens) for tokens in nearest} == nearest
    output = model(video(1, 4), token_budget=40)
    torch.testing.assert_close(output.logits, model(video(1, 4), token_budget=40, head_index=2).logits)


@torch.no_grad()
def test_converted_checkpoints_use_the_gelu_of_training():
    weights = official.flux_weights(width=32, depth=2, table=(4, 4), classes=3, projection=24)
    model = convert_official_state_dict(weights, num_attention_heads=2, pooler_num_attention_heads=4)
    clip = video(1, 4)
    found = model(clip, head_index=0).logits
    options = {"table": (4, 4), "heads": 2, "pooler_heads": 4}
    tanh, exact = (
        official.flux_forward(weights, clip.transpose(1, 2), act=a, **options)[0][0] for a in ("tanh", "none")
    )
    torch.testing.assert_close(found, tanh, atol=2e-5, rtol=1e-4)
    assert (found - exact).abs().max() > 3 * (found - tanh).abs().max()


def test_position_modules_start_as_the_identity(model):
    position = model.fluxvit.embeddings.position_embedding
    for module in (position, *(layer.attention.local_position for layer in model.fluxvit.encoder.layers)):
        assert (module.weight == 1).all() and (module.bias == 0).all()
    assert position.weight.ndim == 1


@torch.no_grad()
def test_grids_need_not_be_square(model):
    output = model(video(1, 6, height=42, width=84), token_budget=30)
    assert output.keep_mask.shape == (1, 6 * 3 * 6) and int(output.keep_mask.sum()) == 30


def test_options_without_effect_do_not_exist(model):
    assert not {"head_drop_path", "num_merging_to", "use_gpe_proj"} & set(FluxViTConfig().to_dict())
    with pytest.raises(TypeError):
        model.fluxvit.embeddings(video(1, 4), None, None, num_merging_to=[0])


def test_the_document_names_tests_that_exist():
    named = set(re.findall(r"tests/(\w+)\.py::(\w+)", DOCUMENT.read_text(encoding="utf-8")))
    assert len(named) > 25
    missing = []
    for file, name in sorted(named):
        path = ROOT / "tests" / f"{file}.py"
        if path.is_file():
            functions = {
                node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)
            }
            if name not in functions:
                missing.append(f"{file}::{name}")
        else:
            missing.append(file)
    assert missing == []


def test_every_row_of_the_document_is_complete():
    rows = [line for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    assert [row for row in rows if row.count(" | ") != 3] == []
