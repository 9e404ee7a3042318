"""Which pooling heads a training trains: the model has these, and no others."""

from collections.abc import Callable
from copy import deepcopy

from torch import nn
from transformers.utils import logging

from flux_hf.modeling.modeling_fluxvit import FeatureDecoder, FluxViTForVideoClassification, FluxViTPreTrainedModel
from flux_hf.processing.grid_fluxvit import choose_grid
from flux_hf.processing.video_processing_fluxvit import FluxVideoProcessor

logger = logging.get_logger(__name__)


def set_heads(
    model: FluxViTPreTrainedModel, token_budgets: list[int], say: Callable[[str], None] = logger.warning
) -> None:
    """Give a classifier or a model for pre-training, in place, one head for each of the budgets, and its configuration
    these budgets. Each head starts as the one that answered at its budget; those that are left over go. Where the
    default budget was one of theirs, the largest of `token_budgets` takes its place.

    Args:
        token_budgets: tokens, descending.
        say: is told when the heads change.

    Raises:
        ValueError: unless the budgets are different and descending, and the model is one of ours, without an adapter.
    """
    config, before, after = model.config, model.config.head_token_budgets, list(token_budgets)
    if after == before:
        return
    if not after or sorted(set(after), reverse=True) != after:
        raise ValueError(f"token_budgets must be different and descending, got {after}")
    if not isinstance(model, FluxViTPreTrainedModel):
        raise ValueError(
            f"token_budgets {after}: an adapter is trained at the budgets of its base model's heads, {before}"
        )
    sources = [model.fluxvit.resolve_head(budget) for budget in after]
    model.fluxvit.poolers = _taken(model.fluxvit.poolers, sources)
    if isinstance(model, FluxViTForVideoClassification):
        model.classifier.heads = _taken(model.classifier.heads, sources)
        # Decoders map features to that of the first head, which has none.
        decoders = nn.ModuleList([_new_decoder(model) if 0 in sources[1:] else None, *model.alignment_decoders])
        model.alignment_decoders = _taken(decoders, sources[1:])
    config.head_token_budgets = after
    if config.token_budget in set(before) - set(after):
        config.token_budget = max(after)
    say(f"the model has heads for {_listed(after)} tokens, which are trained, no more for {_listed(before)}")


def fit_processor(processor: FluxVideoProcessor, before: list[int], after: list[int]) -> FluxVideoProcessor:
    """The processor for a model whose heads for `before` tokens are heads for `after` now: without the grids of those
    that went, with one for each that came, which the table it had chooses. As it is where it has no table."""
    gone, grids = set(before) - set(after), processor.grids
    if not grids or before == after:
        return processor
    chosen = {budget: choose_grid(budget, processor.patch_size, grids) for budget in after}
    settings = processor.to_dict()
    settings["grids"] = {budget: grid for budget, grid in grids.items() if budget not in gone} | chosen
    if processor.token_budget in gone:
        settings["token_budget"] = max(after)
    return type(processor)(**settings)


def check_reached(fluxvit, token_budgets: list[int], most_tokens: int) -> None:
    """Raise ValueError for budgets whose heads no grid trains. A step trains the head that inference would take, the
    one nearest to the tokens kept: on a grid with fewer tokens than a budget that may be the head of a smaller one.

    Args:
        token_budgets: those of the heads.
        most_tokens: tokens of the largest grid.
    """
    reached = {fluxvit.resolve_head(min(budget, most_tokens)) for budget in token_budgets}
    if untrained := [budget for budget in token_budgets if fluxvit.resolve_head(budget) not in reached]:
        raise ValueError(
            f"token_budgets {untrained} need more than the {most_tokens} tokens of the largest grid to train heads "
            f"of their own (head_token_budgets {fluxvit.config.head_token_budgets}): raise max_pool_tokens, "
            "max_frames or max_size, or leave these budgets out"
        )


def _taken(modules: nn.ModuleList, sources: list[int]) -> nn.ModuleList:
    return nn.ModuleList(deepcopy(modules[source]) for source in sources)


def _new_decoder(model: FluxViTForVideoClassification) -> FeatureDecoder:
    width, like = model.config.projection_dim, model.classifier_norm.weight
    return FeatureDecoder(width, width).apply(model._init_weights).to(like.device, like.dtype)


def _listed(budgets: list[int]) -> str:
    return ", ".join(map(str, budgets))
