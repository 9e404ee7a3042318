"""The loss of Flux-Single and Flux-Multi training."""

import torch
from torch import nn

from flux_hf.modeling.flux_model_fluxvit import FluxViTMultiBudgetOutput


def flux_loss_parts(
    output: FluxViTMultiBudgetOutput,
    labels: torch.Tensor,
    token_budgets: list[int],
    *,
    alignment_weight: float = 1.0,
    label_smoothing: float = 0.0,
) -> dict[str, torch.Tensor]:
    """Terms whose sum is the loss: the cross-entropy of every budget, and for every budget but the largest the SmoothL1
    distance of its aligned feature to the pooled feature of the largest one, normalised and without gradient.

    As `engine_for_flexible_tuning.py` of the official code, all terms with weight 1. Between unit vectors SmoothL1 is
    (1 - cosine) / width, so its terms are small beside the cross-entropies; `alignment_weight` changes that.

    Args:
        output: of a [`FluxModel`] at `token_budgets`, descending: `logits`, `pooler_output`, `aligned`.
        labels: class indices (batch,), or soft targets (batch, num_labels).

    Returns:
        `loss_{budget}` and `alignment_{budget}`, float32 scalars, means over the batch.
    """
    parts = {
        f"loss_{budget}": nn.functional.cross_entropy(logits.float(), labels, label_smoothing=label_smoothing)
        for budget, logits in zip(token_budgets, output.logits, strict=True)
    }
    if output.aligned and alignment_weight:
        target = nn.functional.normalize(output.pooler_output[0].detach().float(), dim=-1)
        for budget, aligned in zip(token_budgets[1:], output.aligned, strict=True):
            parts[f"alignment_{budget}"] = alignment_weight * nn.functional.smooth_l1_loss(aligned.float(), target)
    return parts
