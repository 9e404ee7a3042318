"""Which grids are tried for a token budget, and what a grid costs."""

import copy
import statistics
import time

import torch
from datasets import Dataset
from transformers.utils import PROCESSOR_NAME, VIDEO_PROCESSOR_NAME

from flux_hf.classification import MODEL_RUNS
from flux_hf.costs import clip_tokens, view_gmacs
from flux_hf.evaluation.scoring import Arm
from flux_hf.latency import median_ms
from flux_hf.modeling.flux_model_fluxvit import FluxModel
from flux_hf.processing.grid_fluxvit import UNLIMITED_GRID, Grid, grid_tokens, normalize_grids
from flux_hf.processing.video_processing_fluxvit import FluxVideoProcessor
from flux_hf.processing.video_source_fluxvit import VideoDecodeError
from flux_hf.processing.views_fluxvit import Views, read_views

OBJECTIVES = ("tokens", "gmacs", "latency_ms")
TIMED_VIDEOS = 3

FRAME_SHARES = (1 / 4, 1 / 2, 3 / 4, 1, 3 / 2, 2)
SIZE_SHARES = (1 / 2, 2 / 3, 5 / 6, 1, 7 / 6, 4 / 3)


def default_axes(model: FluxModel) -> tuple[list[int], list[int]]:
    """Numbers of frames and sizes in pixels to try: from a quarter to twice the frames of the model's native grid (even
    numbers of tokens; of 8 where that is a picture), from half to 4/3 of its size (multiples of the patch)."""
    (length, patch), (frames, *sides) = model.patch_shape, model.native_grid
    frames = UNLIMITED_GRID.frames if frames == 1 else frames
    counts = {max(2, 2 * round(frames / length * share / 2)) * length for share in FRAME_SHARES}
    sizes = {max(1, round(min(sides) / patch * share)) * patch for share in SIZE_SHARES}
    return sorted(counts), sorted(sizes)


def candidate_grids(
    token_budget: int, frames: list[int], sizes: list[int], patch_size: int, tubelet_size: int = 1
) -> list[Grid]:
    """All grids frames x size with at least `token_budget` tokens, those with the fewest tokens first.

    Raises:
        ValueError: a number is not accepted, or no grid has enough tokens.
    """
    if not frames or not sizes or min(frames) < 1 or token_budget < 1:
        raise ValueError(f"frames, sizes and budgets must be >= 1, got {frames}, {sizes} and {token_budget}")
    if wrong := [size for size in sizes if size < 1 or size % patch_size]:
        raise ValueError(f"sizes must be multiples of patch_size={patch_size}, got {wrong}")
    if wrong := [number for number in frames if number % tubelet_size]:
        raise ValueError(f"frames must be multiples of tubelet_size={tubelet_size}, got {wrong}")
    grids = [Grid(f, size) for f in sorted(set(frames)) for size in sorted(set(sizes))]
    grids = [grid for grid in grids if grid_tokens(grid, patch_size, tubelet_size) >= token_budget]
    if not grids:
        raise ValueError(f"no grid of {frames} frames x {sizes} pixels has {token_budget} tokens")
    return sorted(grids, key=lambda grid: grid_tokens(grid, patch_size, tubelet_size))


def with_grids(processor: FluxVideoProcessor, grids: dict[int, Grid]) -> FluxVideoProcessor:
    """A copy of the processor whose table also holds `grids`; its entries for other budgets stay."""
    changed = copy.deepcopy(processor)
    changed.grids = normalize_grids({**(processor.grids or {}), **grids})
    return changed


def video_part(processor) -> FluxVideoProcessor:
    """The video processor of one for videos and sentences; of any other the processor itself."""
    return getattr(processor, "video_processor", processor)


def with_video_part(processor, video_processor: FluxVideoProcessor):
    """The processor with another video part, see [`video_part`]."""
    if processor is video_part(processor):
        return video_processor
    changed = copy.copy(processor)
    changed.video_processor = video_processor
    return changed


def settings_file(processor) -> str:
    """Name of the file that a processor saves its grids in."""
    return VIDEO_PROCESSOR_NAME if processor is video_part(processor) else PROCESSOR_NAME


def with_grid_in_table(processor: FluxVideoProcessor, token_budgets: list[int]) -> FluxVideoProcessor:
    """A processor whose own `num_frames` and `size` give every budget one grid of squares, as
    `FluxVideoProcessor.for_model` makes it, as one that has this grid in its table, so that others can take its place.
    Frames are then resized to the grid's size, whatever they were before. Any other processor as it is."""
    if processor.num_frames is None or processor.size is None:
        return processor
    grid = processor.choose_grid()
    if not isinstance(grid.size, int):
        return processor
    settings = {"num_frames": None, "size": None, "crop_size": None, "grids": dict.fromkeys(token_budgets, grid)}
    return type(processor)(**processor.to_dict() | settings)


def grid_cost(
    objective: str,
    model: FluxModel,
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
        return min(token_budget, clip_tokens(model, grid))
    if objective == "gmacs":
        return view_gmacs(model, token_budget, grid)
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
def clip_milliseconds(row: dict, model: FluxModel, processor: FluxVideoProcessor, arm: Arm) -> float:
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
        return arm.forward(model, pixels[framing].to(next(model.parameters())), arm.token_budget).cpu()

    return 1000 * decoding + median_ms(forward, MODEL_RUNS)
