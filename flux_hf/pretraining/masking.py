"""The double mask: what the teacher sees, and what of that each student sees."""

import hashlib
from collections.abc import Callable

import numpy as np
import torch

from flux_hf.modeling.token_selection_fluxvit import (
    GROUP_DYNAMIC,
    SelectionRule,
    keep_masks_at,
    kept_positions,
)


def teacher_mask(
    patches: torch.Tensor, tokens: int, token_selection: str | SelectionRule | Callable = GROUP_DYNAMIC
) -> torch.Tensor:
    """What the selector leaves for the teacher.

    It scores the pixels of patches, so that teacher and targets of a clip do not depend on the student's weights.

    Args:
        patches: pixels (batch, frames, rows, columns, channels of a patch).
        tokens: how many to keep; all when there are no more.
        token_selection: the rule.

    Returns:
        bool (batch, frames * rows * columns), True = seen.
    """
    batch, frames, rows, columns, _ = patches.shape
    total = frames * rows * columns
    if tokens >= total:
        return torch.ones(batch, total, dtype=torch.bool, device=patches.device)
    return keep_masks_at(patches, [tokens], token_selection)[0]


def student_masks(
    seen: torch.Tensor, saliency: torch.Tensor, noise: torch.Tensor, token_budgets: list[int]
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Token sets of the students, one for each budget, drawn without replacement from what the teacher sees with
    probabilities proportional to exp(saliency). One draw ranks all tokens (Gumbel top-k), so a smaller set is part of
    every larger one.

    Args:
        seen: mask of what the teacher sees (batch, grid tokens), `kept` True in every row.
        saliency: (batch, kept).
        noise: standard Gumbel numbers (batch, kept).
        token_budgets: descending; a budget above `kept` takes all.

    Returns:
        The masks, bool (batch, grid tokens) each, and the places (batch, tokens of the largest set) of the tokens of
        the largest set among those that the teacher sees, ascending.
    """
    kept = saliency.shape[1]
    order = (saliency.float() + noise).argsort(dim=1, descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(1, order, torch.arange(kept, device=order.device).expand_as(order))
    positions = kept_positions(seen, kept)
    among_seen = [rank < min(budget, kept) for budget in token_budgets]
    masks = [torch.zeros_like(seen).scatter_(1, positions, chosen) for chosen in among_seen]
    return masks, kept_positions(among_seen[0], min(token_budgets[0], kept))


def gumbel_noise(seed: int, step: int, keys: list[str], tokens: int) -> torch.Tensor:
    """Standard Gumbel numbers (len(keys), tokens), float32, a function of (seed, step, key) in every row: the same
    whatever process or batch a clip is in."""
    rows = []
    for key in keys:
        digest = hashlib.sha256(f"mask {seed} {step} {key}".encode()).digest()
        rows.append(np.random.default_rng(int.from_bytes(digest[:8], "big")).gumbel(size=tokens).astype(np.float32))
    return torch.from_numpy(np.stack(rows))
