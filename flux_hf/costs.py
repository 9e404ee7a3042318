"""Multiply-accumulates of a FluxViT forward. The paper prints them, in units of 1e9, as "GFLOPs"."""

from flux_hf.modeling.configuration_fluxvit import FluxViTConfig
from flux_hf.processing.grid_fluxvit import Grid, grid_tokens


def forward_macs(config: FluxViTConfig, num_tokens: int, grid_tokens: int | None = None) -> int:
    """Multiply-accumulates of every matrix product in one clip's classification forward.

    Args:
        config: the model's sizes.
        num_tokens: tokens that enter the encoder, cls not counted.
        grid_tokens: tokens of the sampling grid (frames * rows * columns), which all pass the patch embedding. Default
            `num_tokens`: the paper's convention (Tables 6 and 7), which does not count the tokens dropped.
    """
    grid_tokens = num_tokens if grid_tokens is None else grid_tokens
    if not 1 <= num_tokens <= grid_tokens:
        raise ValueError(f"num_tokens must be in 1..grid_tokens ({grid_tokens}), got {num_tokens}")
    width, sequence = config.hidden_size, num_tokens + 1
    patches = config.patch_size**2 * config.num_channels * width * grid_tokens
    layer = sequence * (4 * width**2 + 2 * width * int(width * config.mlp_ratio)) + 2 * width * sequence**2
    pooling = 2 * width**2 * sequence + width**2 + 2 * width * sequence + width * config.projection_dim
    return patches + config.num_hidden_layers * layer + pooling + config.projection_dim * config.num_labels


def forward_macs_at_budgets(config: FluxViTConfig, token_budgets: list[int], grid_tokens: int) -> int:
    """Multiply-accumulates of one clip's forward at several budgets in one call, see [`forward_macs`]: the patches of
    the grid are embedded once. A budget above `grid_tokens` keeps all."""
    patches = config.patch_size**2 * config.num_channels * config.hidden_size * grid_tokens
    separate = sum(forward_macs(config, min(budget, grid_tokens), grid_tokens) for budget in token_budgets)
    return separate - (len(token_budgets) - 1) * patches


def view_gmacs(config: FluxViTConfig, token_budget: int, grid: Grid) -> float:
    """1e9 multiply-accumulates of one clip on `grid` with `token_budget` tokens kept, patch embedding of the whole grid
    included."""
    tokens = grid_tokens(grid, config.patch_size)
    return forward_macs(config, min(token_budget, tokens), tokens) / 1e9
