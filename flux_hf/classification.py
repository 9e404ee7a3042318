"""One video, several token budgets: what it shows and what finding out costs."""

import statistics
import time
from dataclasses import dataclass, field

import torch

from flux_hf.costs import auto_gmacs, clip_tokens, view_gmacs
from flux_hf.modeling.adaptive_budget_fluxvit import AUTO
from flux_hf.modeling.flux_model_fluxvit import FluxModel
from flux_hf.processing.grid_fluxvit import Grid, as_grid
from flux_hf.processing.video_processing_fluxvit import FluxVideoProcessor

MODEL_RUNS = 3


@dataclass(frozen=True)
class Classification:
    """Result for one video at one budget.

    Attributes:
        token_budget: tokens asked for, or "auto".
        answered_budget: the budget that answered: the one asked for or, of "auto", the one found for this video.
        head_budget: budget of the head that answered, the one nearest to the tokens kept; None where one head answers
            at every budget.
        labels: (name, probability), best first.
        grid: what the processor made.
        tokens_kept: tokens that entered the encoder, cls not counted.
        grid_tokens: tokens of the grid.
        patch_shape: (frames, pixels), what a token covers.
        gmacs: 1e9 multiply-accumulates of the forward, patch embedding of the whole grid and, with "auto", answers that
            were not sure enough included.
        decode_ms: reading, decoding, resizing and normalising, once.
        model_ms: median of three forwards after one that is not counted.
        pixels: what the model saw, normalised, (frames, channels, height, width).
        keep_mask: bool (tokens of the grid: times, rows, columns), True = kept; None when every token was kept.
    """

    token_budget: int | str
    answered_budget: int
    head_budget: int | None
    labels: list[tuple[str, float]]
    grid: Grid
    tokens_kept: int
    grid_tokens: int
    patch_shape: tuple[int, int]
    gmacs: float
    decode_ms: float
    model_ms: float
    pixels: torch.Tensor = field(repr=False)
    keep_mask: torch.Tensor | None = field(repr=False)


@dataclass(frozen=True)
class Clip:
    """A video on one grid, decoded, which can be classified at several budgets.

    Attributes:
        pixels: normalised, (1, frames, channels, height, width).
        decode_ms: reading, decoding, resizing and normalising, once.
    """

    pixels: torch.Tensor = field(repr=False)
    decode_ms: float


def read_clip(video, processor: FluxVideoProcessor, token_budget: int | str) -> Clip:
    """Decode one video (anything the processor takes) on the grid of a budget. Raises `VideoDecodeError`."""
    started = time.perf_counter()
    pixels = processor(video, token_budget=token_budget, return_tensors="pt")["pixel_values_videos"]
    return Clip(pixels, 1000 * (time.perf_counter() - started))


def classify(
    video, model: FluxModel, processor: FluxVideoProcessor, token_budget: int | str, top_k: int = 3
) -> Classification:
    """Classify one video (anything the processor takes) at one budget, or with "auto" at the smallest that is sure
    enough. Raises `VideoDecodeError`, and ValueError where the model is not calibrated for "auto"."""
    return classify_clip(read_clip(video, processor, token_budget), model, token_budget, top_k)


@torch.inference_mode()
def classify_clip(clip: Clip, model: FluxModel, token_budget: int | str, top_k: int = 3) -> Classification:
    """As [`classify`], of a decoded video, on whatever grid it is."""
    inputs = {"pixel_values_videos": clip.pixels, "token_budget": token_budget}
    output, _ = _timed_forward(model, inputs)
    model_ms = statistics.median(_timed_forward(model, inputs)[1] for _ in range(MODEL_RUNS))

    _, frames, _, height, width = clip.pixels.shape
    grid = as_grid((frames, (height, width)))
    tokens = clip_tokens(model, grid)
    kept = tokens if output.keep_mask is None else int(output.keep_mask.sum())
    names = model.label_names
    scores, classes = output.logits[0].float().softmax(-1).topk(min(top_k, len(names)))
    return Classification(
        token_budget=token_budget,
        answered_budget=token_budget if token_budget != AUTO else int(output.answered_budgets),
        head_budget=model.head_budget(kept),
        labels=[(names[int(c)], float(s)) for s, c in zip(scores, classes, strict=True)],
        grid=grid,
        tokens_kept=kept,
        grid_tokens=tokens,
        patch_shape=model.patch_shape,
        gmacs=view_gmacs(model, kept, grid) if token_budget != AUTO else auto_gmacs(model, kept, grid),
        decode_ms=clip.decode_ms,
        model_ms=model_ms,
        pixels=clip.pixels[0],
        keep_mask=None if output.keep_mask is None else output.keep_mask[0],
    )


def _timed_forward(model: FluxModel, inputs):
    started = time.perf_counter()
    output = model(**inputs)
    return output, 1000 * (time.perf_counter() - started)
