"""Which budgets a training trains: the model is one for these, and for no others."""

from collections.abc import Callable

from torch import nn
from transformers.utils import logging

from flux_hf.modeling.adaptive_budget_fluxvit import AUTO
from flux_hf.modeling.flux_model_fluxvit import FluxModel
from flux_hf.processing.grid_fluxvit import choose_grid
from flux_hf.processing.video_processing_fluxvit import FluxVideoProcessor

logger = logging.get_logger(__name__)


def check_flux_model(model: nn.Module) -> None:
    """Raise ValueError unless it is a [`FluxModel`], or an adapter around one."""
    if not hasattr(model, "set_token_budgets"):
        raise ValueError(
            f"{type(model).__name__} takes no token budget: flux_hf.enable_flux(model) makes it a model that does"
        )


def set_budgets(model: nn.Module, token_budgets: list[int], say: Callable[[str], None] = logger.warning) -> None:
    """Make a [`FluxModel`], or an adapter around one, one for these budgets, see [`FluxModel.set_token_budgets`].

    Args:
        token_budgets: tokens, descending.
        say: is told when the budgets change.

    Raises:
        ValueError: unless the budgets are different and descending; or it is an adapter of a model with a head per
            budget.
    """
    before, after = list(model.token_budgets), list(token_budgets)
    if after == before:
        return
    shared = model.head_budget(after[0]) is None
    if not shared and not isinstance(model, FluxModel):
        raise ValueError(
            f"token_budgets {after}: an adapter is trained at the budgets of its base model's heads, {before}"
        )
    model.set_token_budgets(after)
    if shared:
        say(f"the model is trained at {_listed(after)} tokens")
    else:
        say(f"the model has heads for {_listed(after)} tokens, which are trained, no more for {_listed(before)}")


def fit_processor(processor: FluxVideoProcessor, before: list[int], after: list[int]) -> FluxVideoProcessor:
    """The processor for a model that was one for `before` tokens and is one for `after` now: without the grids of those
    that went, with one for each that came, which the table it had chooses. As it is where it has no table."""
    gone, grids = set(before) - set(after), processor.grids
    if not grids or before == after:
        return processor
    chosen = {budget: choose_grid(budget, processor.patch_size, grids, processor.tubelet_size) for budget in after}
    settings = processor.to_dict()
    settings["grids"] = {budget: grid for budget, grid in grids.items() if budget not in gone} | chosen
    if processor.token_budget in {*gone, AUTO}:  # the model is calibrated no more
        settings["token_budget"] = max(after)
    return type(processor)(**settings)


def check_reached(model: nn.Module, token_budgets: list[int], most_tokens: int) -> None:
    """Raise ValueError for budgets whose heads no grid trains. A step trains the head that inference would take, the
    one nearest to the tokens kept: on a grid with fewer tokens than a budget that may be the head of a smaller one.

    Args:
        model: a [`FluxModel`], or an adapter around one; with one head for every budget, every budget is reached.
        token_budgets: those of training.
        most_tokens: tokens of the largest grid.
    """
    reached = {model.head_budget(min(budget, most_tokens)) for budget in token_budgets}
    if untrained := [budget for budget in token_budgets if model.head_budget(budget) not in reached]:
        raise ValueError(
            f"token_budgets {untrained} need more than the {most_tokens} tokens of the largest grid to train heads "
            f"of their own (the model has heads for {_listed(model.token_budgets)}): raise max_pool_tokens, "
            "max_frames or max_size, or leave these budgets out"
        )


def _listed(budgets: list[int]) -> str:
    return ", ".join(map(str, budgets))
