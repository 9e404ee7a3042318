from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from flux_hf import FluxViTConfig, FluxViTForVideoClassification
from flux_hf.costs import forward_macs, forward_macs_at_budgets
from tests.test_modeling import SIZES

MODELS = Path(__file__).parent.parent / "scripts" / "configs" / "models"
PAPER_ROWS = {
    "small": {512: 13.6, 1024: 32.0, 2048: 83.3, 3072: 153.9},
    "base": {512: 49.3, 1024: 108.1, 2048: 254.8, 3072: 440.1},
}


def paper_model(size: str) -> FluxViTConfig:
    config = FluxViTConfig.from_json_file(MODELS / f"fluxvit_{size}.json")
    config.num_labels = 400
    return config


@pytest.mark.parametrize("size", PAPER_ROWS)
def test_gmacs_equal_the_papers_rows(size):
    rows = {tokens: round(forward_macs(paper_model(size), tokens) / 1e9, 1) for tokens in PAPER_ROWS[size]}
    assert rows == PAPER_ROWS[size]


@pytest.mark.long
@pytest.mark.parametrize("size", PAPER_ROWS)
@pytest.mark.parametrize(("frames", "side", "budget"), [(4, 224, 512), (8, 224, 1024), (12, 224, 3072), (1, 252, 100)])
def test_macs_equal_torchs_count_on_the_real_model(size, frames, side, budget):
    config = paper_model(size)
    with torch.device("meta"):
        model = FluxViTForVideoClassification(config).eval()
        video = torch.empty(1, frames, 3, side, side)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        model(video, token_budget=budget)  # keeps the positions of the grid
        with FlopCounterMode(display=False) as counter:
            model(video, token_budget=budget)
    assert counter.get_total_flops() == 2 * forward_macs(config, budget, frames * (side // config.patch_size) ** 2)


@pytest.mark.parametrize("budget", [0, 101])
def test_impossible_token_counts_are_refused(budget):
    with pytest.raises(ValueError, match=rf"num_tokens must be in 1\.\.grid_tokens \(100\), got {budget}"):
        forward_macs(FluxViTConfig(), budget, 100)


@torch.no_grad()
def test_several_budgets_embed_their_patches_once():
    config = FluxViTConfig(**SIZES)
    model = FluxViTForVideoClassification(config).eval()
    model(torch.randn(1, 4, 3, 56, 56))  # keeps the positions of the grid
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(torch.randn(1, 4, 3, 56, 56), token_budgets=[100, 32, 16])
    aligned = 2 * config.projection_dim**2  # two smaller budgets
    assert counter.get_total_flops() == 2 * (forward_macs_at_budgets(config, [100, 32, 16], 64) + aligned)
