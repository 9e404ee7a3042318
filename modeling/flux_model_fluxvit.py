"""`FluxModel`: what training, evaluation, Token Optimization, export, pipelines and commands ask a model.

FluxViT's classifier and its model for pre-training answer it themselves, other video transformers through
`enable_flux`. Nothing outside the models reaches past it.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from transformers.utils import ModelOutput

from .adaptive_budget_fluxvit import AUTO
from .token_selection_fluxvit import SelectionRule, selection_name, selection_rule


@dataclass
class FluxViTClassifierOutput(ModelOutput):
    """
    Args:
        loss: scalar, when labels were given.
        logits: (batch, num_labels).
        pooler_output: the feature that the classifier sees, (batch, width).
        keep_mask: bool (batch, frames * rows * columns), True = kept; None when every token was kept.
        hidden_states: input of the first layer and output of every layer, (batch, kept tokens and cls, hidden_size).
        attentions: attention weights of every layer, (batch, heads, tokens, tokens); eager attention only.
        answered_budgets: with `token_budget="auto"` the budget that answered each row, int64 (batch,).
        changes: with `token_budget="auto"`, for each budget but the last, how much the tokens that the next one adds
            change, as a share of what those change that it keeps, float32 (batch, budgets - 1); None where the smallest
            budget keeps every token.
    """

    loss: torch.FloatTensor | None = None
    logits: torch.FloatTensor | None = None
    pooler_output: torch.FloatTensor | None = None
    keep_mask: torch.BoolTensor | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None
    answered_budgets: torch.LongTensor | None = None
    changes: torch.FloatTensor | None = None


@dataclass
class FluxViTMultiBudgetOutput(ModelOutput):
    """
    Args:
        logits: one tensor (batch, num_labels) per budget.
        pooler_output: one tensor (batch, projection_dim) per budget.
        aligned: for every budget but the largest a tensor of unit vectors (batch, projection_dim): its pooled feature,
            which the decoder of its head maps onto that of the largest. A feature of the largest one's head stays as it
            is.
        keep_mask: per budget as of one budget.
    """

    logits: tuple[torch.FloatTensor, ...] | None = None
    pooler_output: tuple[torch.FloatTensor, ...] | None = None
    aligned: tuple[torch.FloatTensor, ...] | None = None
    keep_mask: tuple[torch.BoolTensor | None, ...] | None = None


class SelectsTokens:
    """A model or an encoder that selects tokens; both of one model know the same rule."""

    def __init__(self, *args, **kwargs):
        config = args[0] if args else kwargs.get("config")
        if hasattr(config, "token_selection"):  # a rule that is not known here is refused before weights are read
            selection_rule(config.token_selection)
        super().__init__(*args, **kwargs)

    @property
    def flux_settings(self):
        """What holds the model's budgets and the name of its rule: the configuration."""
        return self.config

    @property
    def token_selection(self) -> str | SelectionRule:
        """What selects tokens: the rule that `config.token_selection` names, or one of your own that was set here.
        Takes the name of a rule, a [`SelectionRule`] or a function (scores, token_budget) -> mask. The configuration
        holds the rule's `selection_name`, so that what is saved loads only where a rule of that name is registered.

        Raises:
            ValueError: no rule has the name, or it is nothing of this kind.
        """
        name, rule = getattr(getattr(self, "base_model", self), "_own_selection", (None, None))
        return rule if name == self.flux_settings.token_selection else self.flux_settings.token_selection

    @token_selection.setter
    def token_selection(self, rule) -> None:
        made, home = selection_rule(rule), getattr(self, "base_model", self)
        self.flux_settings.token_selection = selection_name(rule)
        vars(home).pop("_own_selection", None)
        if not isinstance(rule, str):
            home._own_selection = (self.flux_settings.token_selection, made)

    def __setattr__(self, name, value):
        if name == "token_selection" and isinstance(value, nn.Module):  # which torch would make a part of the model
            value = selection_rule(value)
        super().__setattr__(name, value)


class FluxModel(SelectsTokens):
    """A model that takes clips on any sampling grid and a token budget.

    The forward of a classifier takes

        pixel_values_videos: normalised frames (batch, frames, channels, height, width) that divide by `patch_shape`.
        token_budget: tokens to keep, default `config.token_budget`; None there keeps all. "auto", in eval mode: every
            row is answered at the smallest budget that is sure enough of its answer or after which more tokens would be
            noise, as `config.adaptive_budget` says (see [`AdaptiveBudget`]); a row has the answer of a call at that
            budget, which `answered_budgets` names, and `keep_mask` keeps as many tokens of it.
        num_views: with "auto": as many rows after one another are views of one video and get one budget, by the mean of
            their probabilities. Default 1.
        token_budgets: descending budgets to answer at in one call; patches are embedded and scored once.
        keep_mask: bool (batch, tokens of the grid in the order frames, rows, columns), True = kept, the same count in
            every row; overrides budget and selection.
        token_selection: rule that selects in this call, as the attribute takes it.
        labels: gives `loss`.

    and returns a [`FluxViTClassifierOutput`], with `token_budgets` a [`FluxViTMultiBudgetOutput`]: training pulls every
    feature in its `aligned` to that of the largest budget.
    """

    @property
    def patch_shape(self) -> tuple[int, int]:
        """(frames, pixels): what a token covers in time, and the side of the square that it covers."""
        raise NotImplementedError

    @property
    def native_grid(self) -> tuple[int, int, int]:
        """(frames, height, width) in frames and pixels of the clips that the stored positions belong to."""
        raise NotImplementedError

    @property
    def num_channels(self) -> int:
        """Colour channels of the frames."""
        return self.config.num_channels

    @property
    def token_budgets(self) -> list[int]:
        """Budgets that the model is, or is to be, trained at, descending."""
        raise NotImplementedError

    def set_token_budgets(self, token_budgets: list[int]) -> None:
        """Make the model, in place, one for these budgets: with heads for each, where it has a head per budget, which
        start as the one that answered there. A default budget that goes is replaced by the largest.

        Raises:
            ValueError: unless the budgets are at least one, different and descending.
        """
        raise NotImplementedError

    def head_budget(self, num_tokens: int) -> int | None:
        """Budget of the head that answers for `num_tokens` kept tokens; None: one head for every budget."""
        raise NotImplementedError

    @property
    def label_names(self) -> list[str]:
        """Names of the classes, in the order of the logits."""
        names = self.flux_settings.id2label
        return [names[index] for index in range(len(names))]

    def rename_labels(self, label_names: list[str]) -> None:
        """Give the classes, which stay as they are, other names; as many."""
        self.flux_settings.id2label = dict(enumerate(label_names))
        self.flux_settings.label2id = {name: index for index, name in enumerate(label_names)}

    def set_labels(self, label_names: list[str], rows: list[int] | None = None) -> None:
        """Name the classes, in place. The classifiers' rows become those numbered `rows`, one for each name; None: new
        ones, drawn as at the start."""
        raise NotImplementedError

    @property
    def num_layers(self) -> int:
        """Layers of the encoder."""
        return self.config.num_hidden_layers

    def parameter_layer(self, name: str) -> int:
        """Where a parameter of that name lies: 0 in what comes before the encoder (patches, positions, cls), i in the
        encoder's layer i (from 1), `num_layers` + 1 behind it."""
        raise NotImplementedError

    def freeze_encoder(self) -> None:
        """Leave only what lies behind the encoder to train, and drop no layers any more."""
        raise NotImplementedError


def check_token_budgets(token_budgets: list[int] | tuple[int, ...]) -> list[int]:
    """The budgets as a list of ints; raises ValueError unless they are at least one, different and descending."""
    budgets = list(token_budgets) if isinstance(token_budgets, (list, tuple)) else []
    budgets = [as_token_budget(budget, 0) for budget in budgets]
    if not budgets or 0 in budgets or sorted(set(budgets), reverse=True) != budgets:
        raise ValueError(f"token_budgets must be at least one, different and descending, got {token_budgets!r}")
    return budgets


def as_token_budget(token_budget: int | torch.Tensor | None, default: int | None) -> int | None:
    """A budget of a call, an int or an integer tensor of equal entries, as an int; `default` for None."""
    if token_budget is None:
        return default
    if isinstance(token_budget, torch.Tensor):
        if token_budget.numel() == 0 or token_budget.is_floating_point() or token_budget.dtype == torch.bool:
            raise ValueError(f"token_budget must be an integer or an integer tensor, got {token_budget}")
        entries = token_budget.flatten()
        if (entries != entries[0]).any():
            raise ValueError(f"token_budget must have equal entries, got {token_budget.tolist()}")
        token_budget = int(entries[0])
    if isinstance(token_budget, str) and token_budget == AUTO:
        raise ValueError('token_budget="auto" is for classifiers, one budget a call: give a number of tokens')
    if isinstance(token_budget, bool) or not isinstance(token_budget, (int, np.integer, torch.SymInt)):
        raise ValueError(f"token_budget must be an integer or an integer tensor, got {token_budget!r}")
    if token_budget < 1:
        raise ValueError(f"token_budget must be at least 1, got {token_budget}")
    return token_budget


def tokens_per_row(keep_mask: torch.Tensor, batch: int, total: int) -> int:
    """How many tokens a keep_mask keeps; raises ValueError unless it is bool (batch, total) and the count is at least 1
    and the same in every row."""
    if keep_mask.dtype != torch.bool or keep_mask.shape != (batch, total):
        raise ValueError(
            f"keep_mask must be a bool tensor of shape {(batch, total)} (batch, frames * rows * columns), "
            f"got {keep_mask.dtype} {tuple(keep_mask.shape)}"
        )
    counts = keep_mask.sum(1)
    if (counts != counts[0]).any() or counts[0] == 0:
        raise ValueError(
            f"keep_mask must keep the same number of tokens, at least one, in every row: {counts.tolist()}"
        )
    return int(counts[0])


__all__ = [
    "FluxModel",
    "FluxViTClassifierOutput",
    "FluxViTMultiBudgetOutput",
    "SelectsTokens",
    "as_token_budget",
    "check_token_budgets",
    "tokens_per_row",
]
