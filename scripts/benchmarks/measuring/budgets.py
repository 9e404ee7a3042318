"""What a token budget costs: memory against tokens kept, time against the grid that they are kept of."""

from collections.abc import Callable
from pathlib import Path

import torch

from flux_hf.modeling.modeling_fluxvit import FluxViTForVideoClassification
from flux_hf.processing.grid_fluxvit import Grid, choose_grid
from flux_hf.scripts.benchmarks.measuring.memory import added_kilobytes

BEFORE = """
import sys, torch
from flux_hf import FluxViTConfig, FluxViTForVideoClassification
batch, frames, side, budget = map(int, sys.argv[2:])
model = FluxViTForVideoClassification(FluxViTConfig.from_json_file(sys.argv[1])).eval()
pixels = torch.randn(batch, frames, model.config.num_channels, side, side)
patch = model.config.patch_size
model(torch.randn(1, 2, model.config.num_channels, patch, patch))
"""
FORWARD = """
with torch.inference_mode():
    model(pixels, token_budget=budget)
"""
PATCHES = """
with torch.inference_mode():
    embedding = model.fluxvit.embeddings.patch_embedding
    embedding(embedding.patchify(pixels))
"""


def forward_kilobytes(config_file: Path, batch: int, token_budget: int, grid: Grid) -> int:
    """How far a forward of `batch` clips on `grid`, of squares, raises the memory of a fresh process over
    that of model and clips; a forward of two patches comes before it."""
    return added_kilobytes(BEFORE, FORWARD, str(config_file), *map(str, (batch, *grid, token_budget)))


def patches_kilobytes(config_file: Path, batch: int, grid: Grid) -> int:
    """The same of the patch embedding alone, which all tokens of the grid pass."""
    return added_kilobytes(BEFORE, PATCHES, str(config_file), *map(str, (batch, *grid, 1)))


def grids_of_budget(token_budget: int, patch_size: int) -> list[Grid]:
    """The default (frames, side) of the budget, and with twice and three times as many frames."""
    frames, side = choose_grid(token_budget, patch_size)
    return [Grid(frames * times, side) for times in (1, 2, 3)]


def runs_on_grids(
    model: FluxViTForVideoClassification, token_budget: int, batch: int, grids: list[Grid]
) -> dict[str, Callable[[], object]]:
    """For every grid two runs: "FRAMESxSIDE", a forward, and "FRAMESxSIDE patches", its patch embedding alone."""
    runs, embedding = {}, model.fluxvit.embeddings.patch_embedding
    for frames, side in grids:
        pixels = torch.randn(batch, frames, model.config.num_channels, side, side)
        runs[f"{frames}x{side}"] = lambda pixels=pixels: model(pixels, token_budget=token_budget)
        runs[f"{frames}x{side} patches"] = lambda pixels=pixels: embedding(embedding.patchify(pixels))
    return runs
