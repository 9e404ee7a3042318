"""Multiply-accumulates of a forward. The paper prints them, in units of 1e9, as "GFLOPs"."""

import copy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedConfig, PreTrainedModel

from flux_hf.modeling.adaptive_budget_fluxvit import adaptive_budget
from flux_hf.modeling.configuration_fluxvit import FluxViTConfig
from flux_hf.modeling.flux_model_fluxvit import FluxModel
from flux_hf.processing.grid_fluxvit import Grid, grid_tokens

_COUNTED = {}


def forward_macs(config: FluxViTConfig, num_tokens: int, grid_tokens: int | None = None) -> int:
    """Multiply-accumulates of every matrix product in one clip's classification forward of a FluxViT.

    Args:
        config: the model's sizes.
        num_tokens: tokens that enter the encoder, cls not counted.
        grid_tokens: tokens of the sampling grid (frames / tubelet_size * rows * columns), which all pass the patch
            embedding. Default `num_tokens`: the paper's convention (Tables 6 and 7), which does not count the tokens
            dropped.
    """
    grid_tokens = num_tokens if grid_tokens is None else grid_tokens
    if not 1 <= num_tokens <= grid_tokens:
        raise ValueError(f"num_tokens must be in 1..grid_tokens ({grid_tokens}), got {num_tokens}")
    width, sequence = config.hidden_size, num_tokens + 1
    patches = config.values_of_patch * width * grid_tokens
    layer = sequence * (4 * width**2 + 2 * width * int(width * config.mlp_ratio)) + 2 * width * sequence**2
    pooling = 2 * width**2 * sequence + width**2 + 2 * width * sequence + width * config.projection_dim
    return patches + config.num_hidden_layers * layer + pooling + config.projection_dim * config.num_labels


def forward_macs_at_budgets(config: FluxViTConfig, token_budgets: list[int], grid_tokens: int) -> int:
    """Multiply-accumulates of one clip's forward at several budgets in one call, see [`forward_macs`]: the patches of
    the grid are embedded once. A budget above `grid_tokens` keeps all."""
    patches = config.values_of_patch * config.hidden_size * grid_tokens
    separate = sum(forward_macs(config, min(budget, grid_tokens), grid_tokens) for budget in token_budgets)
    return separate - (len(token_budgets) - 1) * patches


def clip_tokens(model: FluxModel, grid: Grid) -> int:
    """Tokens of one clip on `grid`."""
    frames, pixels = model.patch_shape
    return grid_tokens(grid, pixels, frames)


def view_gmacs(model: FluxModel, token_budget: int, grid: Grid) -> float:
    """1e9 multiply-accumulates of one clip on `grid` with `token_budget` tokens kept, patch embedding of the whole grid
    included: of a FluxViT by [`forward_macs`], of any other model what torch counts of its forward, which runs without
    memory and arithmetic, on the meta device.

    Raises:
        ValueError: the model's forward does not run on the meta device.
    """
    return budgets_gmacs(model, [token_budget], grid)


def auto_gmacs(model: FluxModel, token_budget: int, grid: Grid) -> float:
    """As [`view_gmacs`] of a clip that `token_budget="auto"` answers at that budget: patches are embedded once, and the
    encoder runs at every budget up to it."""
    tried = adaptive_budget(model.flux_settings.adaptive_budget).token_budgets
    return budgets_gmacs(model, [budget for budget in tried if budget < token_budget] + [token_budget], grid)


def budgets_gmacs(model: FluxModel, token_budgets: list[int], grid: Grid) -> float:
    """As [`view_gmacs`] of a forward at several ascending budgets, whose patches are embedded once."""
    tokens = clip_tokens(model, grid)
    kept = tuple(dict.fromkeys(min(budget, tokens) for budget in token_budgets))
    config = getattr(model, "config", None)
    if isinstance(config, FluxViTConfig):
        return forward_macs_at_budgets(config, kept, tokens) / 1e9
    made_by = config.to_json_string() if isinstance(config, PreTrainedConfig) else repr(model)
    numbers = sum(tensor.numel() for tensor in (*model.parameters(), *model.buffers()))
    key = (made_by, numbers, grid, kept)
    if key not in _COUNTED:
        _COUNTED[key] = _counted_macs(model, kept, grid)
    return _COUNTED[key] / 1e9


def _counted_macs(model: FluxModel, token_budgets: tuple[int, ...], grid: Grid) -> int:
    # Only what is no weight is copied.
    weightless = {id(p): nn.Parameter(p.detach().to("meta"), requires_grad=False) for p in model.parameters()}
    weightless |= {id(buffer): buffer.detach().to("meta") for buffer in model.buffers()}
    clip = torch.empty(1, grid.frames, model.num_channels, *grid.pixels(), device="meta")
    try:
        skeleton = copy.deepcopy(model, weightless).eval()
        if isinstance(skeleton, PreTrainedModel):
            skeleton.set_attn_implementation("eager")
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            if len(token_budgets) == 1:
                skeleton(clip, token_budget=token_budgets[0])
            else:
                skeleton(clip, token_budgets=token_budgets[::-1])
    except (RuntimeError, NotImplementedError, TypeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"the multiply-accumulates of {type(model).__name__} cannot be counted: its forward does not run on "
            f"torch's meta device: {reason}"
        ) from error
    return counter.get_total_flops() // 2
