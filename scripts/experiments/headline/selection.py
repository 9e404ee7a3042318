"""Token selections to compare the model's own with (paper, Table 2), as functions for `evaluate`.

The random ones are one draw for all clips of a shape.
"""

from functools import partial

import torch

from flux_hf.evaluation.scoring import logits_at_budget
from flux_hf.modeling.token_selection_fluxvit import SelectionRule, selection_rule

SEED = 0


def _drawn(places: int, device: torch.device) -> torch.Tensor:
    """Distinct scores of so many places."""
    return torch.randperm(places, generator=torch.Generator().manual_seed(SEED)).argsort().neg().float().to(device)


def _random(tokens: torch.Tensor) -> torch.Tensor:
    batch, frames, rows, columns, _ = tokens.shape
    return _drawn(frames * rows * columns, tokens.device).reshape(1, frames, -1).expand(batch, -1, -1)


def _tube(tokens: torch.Tensor) -> torch.Tensor:
    batch, frames, rows, columns, _ = tokens.shape
    return _drawn(rows * columns, tokens.device).expand(batch, frames, -1)


RULES = {
    "random": SelectionRule(selection_rule("random").choose, _random, nested=True),
    "tube": SelectionRule(selection_rule("tube").choose, _tube, nested=True),
    "dynamic": selection_rule("dynamic"),
}
SELECTIONS = {name: partial(logits_at_budget, token_selection=rule) for name, rule in RULES.items()}
