"""Embeddings of videos and of texts: unit-length vectors whose products say what belongs together."""

import base64
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import torch
from datasets import Dataset
from torch.nn.functional import normalize

from flux_hf.evaluation.scoring import Arm, decoded_batches, mean_over_views
from flux_hf.modeling.modeling_fluxvit_clip import FluxViTClipModel
from flux_hf.processing.video_processing_fluxvit import FluxVideoProcessor
from flux_hf.processing.views_fluxvit import Views

NOT_CUT = {"truncation": False, "verbose": False}


def video_features(model: FluxViTClipModel, pixels: torch.Tensor, token_budget: int) -> torch.Tensor:
    """Unit vectors (clips, width) of pixels (clips, frames, channels, height, width)."""
    return model.get_video_features(pixels, token_budget=token_budget).pooler_output


@torch.inference_mode()
def embed_texts(
    model: FluxViTClipModel, processor, texts: Sequence[str], *, max_tokens: int | None = None, batch_size: int = 256
) -> np.ndarray:
    """Embeddings of sentences, each different one computed once, those of like length together.

    Args:
        processor: the model's.
        max_tokens: tokens after which a sentence is cut, default the processor's own.

    Returns:
        float32 (texts, width), unit length.
    """
    different = sorted(set(texts), key=len)
    cut = {} if max_tokens is None else {"max_length": max_tokens}
    found = []
    for first in range(0, len(different), batch_size):
        tokens = processor(text=different[first : first + batch_size], return_tensors="pt", **cut).to(model.device)
        found.append(model.get_text_features(**tokens).pooler_output.float().cpu())
    places = {text: place for place, text in enumerate(different)}
    embeddings = torch.cat(found).numpy() if found else np.zeros((0, model.config.projection_dim), np.float32)
    return embeddings[[places[text] for text in texts]]


def truncated_texts(processor, texts: Sequence[str], max_tokens: int | None = None) -> int:
    """How many of the sentences lose words in [`embed_texts`]."""
    if not texts:
        return 0
    cut = {} if max_tokens is None else {"max_length": max_tokens}
    kept, all_of_it = (
        processor(text=list(texts), padding=False, **cut, **options)["input_ids"] for options in ({}, NOT_CUT)
    )
    return sum(len(some) < len(whole) for some, whole in zip(kept, all_of_it, strict=True))


@torch.inference_mode()
def embed_videos(
    dataset: Dataset,
    rows: list[int],
    model: FluxViTClipModel,
    processor: FluxVideoProcessor,
    token_budgets: list[int],
    views: Views,
    *,
    batch_size: int,
    num_workers: int,
) -> Iterator[dict]:
    """Yields one record for each of `rows`, decoding every video once for all budgets and views. The embedding of a
    video is the mean of its views' unit-length features, at unit length again.

    Args:
        dataset: with the column `video` and optionally `start` and `end`; only that part counts.
        batch_size: views per forward, at most.

    Yields:
        `{"row", "arms"}` with `grid` and `embedding` (see [`embedding_of`]) for each budget; or `{"row", "reason"}` for
        a video that cannot be read. A video with damaged frames also has `replaced_frames`.
    """
    arms = [Arm(budget, forward=video_features) for budget in token_budgets]
    unit = partial(normalize, dim=-1)
    for items in decoded_batches(dataset, rows, processor, arms, views, batch_size, num_workers):
        readable = [item for item in items if "reason" not in item]
        means = mean_over_views(readable, arms, model, batch_size, unit)
        for item in items:
            if "reason" in item:
                yield {"row": item["row"], "reason": item["reason"]}
                continue
            damage = {"replaced_frames": item["replaced"]} if item["replaced"] else {}
            yield damage | {
                "row": item["row"],
                "arms": [
                    {
                        "grid": list(framing.grid),
                        "embedding": _as_text(unit(means[item["row"], arm.token_budget, arm.forward, framing])),
                    }
                    for arm, framing in zip(arms, item["framings"], strict=True)
                ],
            }


def embedding_of(answer: dict) -> np.ndarray:
    """The embedding, float32 (width,), in an entry of `arms` of a record."""
    return np.frombuffer(base64.b64decode(answer["embedding"]), "<f4")


def _as_text(embedding: torch.Tensor) -> str:
    return base64.b64encode(embedding.numpy().astype("<f4").tobytes()).decode()
