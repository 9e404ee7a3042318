"""Which grids are tried for a token budget, and what a grid costs."""

import copy
import statistics
import time

import torch
from datasets import Dataset

from flux_hf.classification import MODEL_RUNS
from flux_hf.costs import view_gmacs
from flux_hf.evaluation.scoring import Arm
from flux_hf.latency import median_ms
from flux_hf.modeling.configuration_fluxvit import FluxViTConfig
from flux_hf.modeling.modeling_fluxvit import FluxViTForVideoClassification
from flux_hf.processing.grid_fluxvit import Grid, grid_tokens, normalize_grids
from flux_hf.processing.video_processing_fluxvit import FluxVideoProcessor
from flux_hf.processing.video_source_fluxvit import VideoDecodeError
from flux_hf.processing.views_fluxvit import Views, read_views

OBJECTIVES = ("tokens", "gmacs", "latency_ms")
TIMED_VIDEOS = 3

FRAME_SHARES = (1 / 4, 1 / 2, 3 / 4, 1, 3 / 2, 2)
SIZE_SHARES = (1 / 2, 2 / 3, 5 / 6, 1, 7 / 6)


def default_axes(config: FluxViTConfig) -> tuple[list[int], list[int]]:
    """Numbers of frames and sizes in pixels to try: from a quarter to twice the frames of the model's position table
    (even numbers), from half to 7/6 of its size (multiples of the patch)."""
    frames = sorted({max(2, 2 * round(config.position_frames * share / 2)) for share in FRAME_SHARES})
    patches = config.position_size / config.patch_size
    sizes = sorted({max(1, round(patches * share)) * config.patch_size for share in SIZE_SHARES})
    return frames, sizes


def candidate_grids(token_budget: int, frames: list[int], sizes: list[int], patch_size: int) -> list[Grid]:
    """All grids frames x size with at least `token_budget` tokens, those with the fewest tokens first.

    Raises:
        ValueError: a number is not accepted, or no grid has enough tokens.
    """
    if not frames or not sizes or min(frames) < 1 or token_budget < 1:
        raise ValueError(f"frames, sizes and budgets must be >= 1, got {frames}, {sizes} and {token_budget}")
    if wrong := [size for size in sizes if size < 1 or size % patch_size]:
        raise ValueError(f"sizes must be multiples of patch_size={patch_size}, got {wrong}")
    grids = [Grid(f, size) for f in sorted(set(frames)) for size in sorted(set(sizes))]
    grids = [grid for grid in grids if grid_tokens(grid, patch_size) >= token_budget]
    if not grids:
        raise ValueError(f"no grid of {frames} frames x {sizes} pixels has {token_budget} tokens")
    return sorted(grids, key=lambda grid: grid_tokens(grid, patch_size))


def with_grids(processor: FluxVideoProcessor, grids: dict[int, Grid]) -> FluxVideoProcessor:
    """A copy of the processor whose table also holds `grids`; its entries for other budgets stay."""
    changed = copy.deepcopy(processor)
    changed.grids = normalize_grids({**(processor.grids or {}), **grids})
    return changed


def grid_cost(
    objective: str,
    model: FluxViTForVideoClassification,
    processor: FluxVideoProcessor,
    token_budget: int,
    grid: Grid,
    calibration: Dataset,
) -> float:
    """What classifying one clip costs.

    "tokens": tokens kept. "gmacs": 1e9 multiply-accumulates, patch embedding of the whole grid included. "latency_ms":
    milliseconds from the file to the answer on this machine, batch of one; the median over the first three readable
    videos of decoding plus the model's time.
    """
    if objective == "tokens":
        return min(token_budget, grid_tokens(grid, model.config.patch_size))
    if objective == "gmacs":
        return view_gmacs(model.config, token_budget, grid)
    if objective != "latency_ms":
        raise ValueError(f"objective must be one of {', '.join(OBJECTIVES)}, got {objective!r}")
    times = []
    for row in calibration:
        try:
            times.append(clip_milliseconds(row, model, processor, Arm(token_budget, grid)))
        except VideoDecodeError:
            continue
        if len(times) == TIMED_VIDEOS:
            break
    if not times:
        raise ValueError("no video of the calibration split can be read")
    return statistics.median(times)


@torch.inference_mode()
def clip_milliseconds(
    row: dict, model: FluxViTForVideoClassification, processor: FluxVideoProcessor, arm: Arm
) -> float:
    """Milliseconds from the file to the logits of the central clip of a row, between its times where it has any: one
    decoding, and the median of three forwards after one that is not counted. Raises `VideoDecodeError`."""
    started = time.perf_counter()
    (framing,), pixels, _ = read_views(
        row["video"],
        processor,
        [(arm.token_budget, arm.grid)],
        Views(),
        start=row.get("start"),
        end=row.get("end"),
    )
    decoding = time.perf_counter() - started

    def forward():
        return arm.forward(model, pixels[framing].to(model.device, model.dtype), arm.token_budget).cpu()

    return 1000 * decoding + median_ms(forward, MODEL_RUNS)
